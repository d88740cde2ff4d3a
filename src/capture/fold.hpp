// Deltas of groups, folded in memory: for each key, what to add to each state.
//
// A million changed rows over a thousand groups are a thousand entries. A fold is a value of its own: folds of released
// subtransactions are merged, those of rolled-back ones are dropped.
#pragma once
#include "capture/exact_sum.hpp"
#include "compile/block.hpp"

namespace capture {

struct Cell { // the delta of one state
    int64 count;
    __int128 whole; // totals of integers and money
    ExactSum sum;   // totals of numeric
    // extremum: the greatest (for max) of the values that came and of those that went
    Datum added, removed;
    bool has_added, has_removed;
};

struct Group {
    uint32 hash;
    bool removed; // rows left the group
    bool special; // a NaN or infinity left a numeric total, which subtraction cannot undo
    Datum *key;   // one value for each key column
    bool *key_nulls;
    Cell cells[FLEXIBLE_ARRAY_MEMBER];
};

class Fold {
public:
    // Lives in a memory context of its own, under `parent`.
    Fold(const compile::Block &block, MemoryContext parent);
    void free() { MemoryContextDelete(memory_); }

    // Adds `weight` times a row whose keys are values[0..keys) and whose arguments follow.
    void add(const Datum *values, const bool *nulls, int64 weight);
    // Adds all that another fold of the same block holds.
    void merge(const Fold &other);

    // All groups whose delta is not nothing, in key order: the order in which every writer locks them.
    pg::vector<Group *> sorted() const;

    std::size_t bytes() const { return MemoryContextMemAllocated(memory_, true); }
    int64 additions() const { return additions_; }
    // A NaN or infinity has left some group, so applying the fold may read the source.
    bool special() const { return special_; }

private:
    Group *group(const Datum *keys, const bool *nulls);
    Group *new_group(uint32 hash, const Datum *keys, const bool *nulls);
    uint32 hash(const Datum *keys, const bool *nulls) const;
    bool same_key(const Group &group, const Datum *keys, const bool *nulls) const;
    void grow();
    void keep_extremum(const compile::State &state, Datum &kept, bool &has, Datum value);
    bool nothing(const Group &group) const;

    const compile::Block &block_;
    MemoryContext memory_;  // groups and their values
    MemoryContext scratch_; // reset at each row
    pg::vector<Group *> groups_;
    pg::vector<Group *> buckets_; // by hash, linear probing, a power of 2, at most half full; made for the third group
    int64 additions_ = 0;
    bool special_ = false;
};

} // namespace capture
