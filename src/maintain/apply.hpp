// Writes a block's changes into its table. The only writer of projections.
#pragma once
#include "maintain/changes.hpp"

namespace maintain {

// Inside SPI, as the owner, under the pinned settings. Return the rows written.
void apply_fold(Taken &taken);
void apply_images(Taken &taken);
// Replaces all rows by what the definition gives now.
void refill(Taken &taken);
int64 apply_recomputed(catalog::Projection &projection, MemoryContext memory, Tuplestorestate *keys, TupleDesc desc);

} // namespace maintain
