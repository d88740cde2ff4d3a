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

// One look of a group's key, where equal values can look different, and how many rows with it came on balance.
struct KeyImage {
    KeyImage *next;
    int64 net;
    Datum *key; // as Group's
};

struct Group {
    uint32 hash;
    bool removed;     // rows left the group
    bool special;     // a NaN or infinity left a numeric total, which subtraction cannot undo
    Datum *key;       // one value for each key column
    KeyImage *images; // of blocks whose keys can be told apart

    // Rows with one look of the key went: the row's key may be none that is left.
    bool lost_image() const {
        for (const KeyImage *image = images; image; image = image->next)
            if (image->net < 0) return true;
        return false;
    }
    bool *key_nulls;
    Cell cells[FLEXIBLE_ARRAY_MEMBER];
};

// Of a key's values: equal keys have one, whatever they look like.
uint32 hash_of_key(const compile::Block &block, const Datum *keys, const bool *nulls);

class Fold {
public:
    // Lives in a memory context of its own, under `parent`. `scratch` is reset at each row; null: one of its own.
    Fold(const compile::Block &block, MemoryContext parent, MemoryContext scratch = nullptr);
    void free() { MemoryContextDelete(memory_); }

    // Adds `weight` times a row whose keys are values[0..keys) and whose arguments follow.
    void add(const Datum *values, const bool *nulls, int64 weight);
    // Adds all that another fold of the same block holds.
    void merge(const Fold &other);

    // All groups whose delta is not nothing, in key order: the order in which every writer locks them.
    pg::vector<Group *> sorted() const;

    std::size_t bytes() const { return MemoryContextMemAllocated(memory_, true); }
    int64 additions() const { return additions_; }
    // A NaN or infinity, or a look of its key, has left some group, so applying the fold may read the source.
    bool special() const { return special_ || lost_images_ > 0; }

private:
    Group *group(const Datum *keys, const bool *nulls);
    Group *new_group(uint32 hash, const Datum *keys, const bool *nulls);
    bool same_key(const Group &group, const Datum *keys, const bool *nulls) const;
    void grow();
    void keep_extremum(const compile::State &state, Datum &kept, bool &has, Datum value);
    bool nothing(const Group &group) const;
    void copy_key(Datum *to, const Datum *keys, const bool *nulls);
    void add_image(Group &group, const Datum *keys, int64 net);
    bool same_image(const Datum *a, const Datum *b, const bool *nulls) const;
    void show_present_key(Group &group) const;

    const compile::Block &block_;
    MemoryContext memory_;  // groups and their values
    MemoryContext scratch_; // reset at each row
    pg::vector<Group *> groups_;
    pg::vector<Group *> buckets_; // by hash, linear probing, a power of 2, at most half full; made for the third group
    int64 additions_ = 0;
    int64 lost_images_ = 0;
    bool special_ = false;
};

} // namespace capture
