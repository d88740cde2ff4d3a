// The keys by which changed rows of a table bring or take what is present.
#pragma once
#include "maintain/changes.hpp"

namespace maintain {

// Keeps writers of one table apart where they may change whether a row of another has a match: each key by which rows
// are asked for, and whose matches have become more or fewer, is locked. With the named delta of the source, in an SPI
// connection; what is read from then on is read under a new snapshot.
void lock_presence_keys(Taken &taken, int source);

} // namespace maintain
