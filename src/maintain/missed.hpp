// What a projection has missed, because its owner may not read a source any more.
#pragma once
#include "catalog/projection.hpp"

namespace maintain {

// Marks the projections stale that the transaction's changes did not reach, each once, with a WARNING. As the last
// thing before a commit.
void mark_missed();

} // namespace maintain
