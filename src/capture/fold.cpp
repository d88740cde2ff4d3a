// A hash table of groups with linear probing, which one or two groups do without.
#include "capture/fold.hpp"

namespace capture {

using compile::Block;
using compile::Key;
using compile::State;
using compile::StateKind;

// Starts small: each of thousands of open savepoints may have one.
Fold::Fold(const Block &block, MemoryContext parent, MemoryContext scratch)
    : block_(block), memory_(AllocSetContextCreate(parent, "projection delta", ALLOCSET_START_SMALL_SIZES)),
      scratch_(scratch ? scratch : AllocSetContextCreate(memory_, "projection delta row", ALLOCSET_SMALL_SIZES)),
      groups_(pg::Allocator<Group *>(memory_)), buckets_(pg::Allocator<Group *>(memory_)) {}

uint32 hash_of_key(const Block &block, const Datum *keys, const bool *nulls) {
    uint32 hash = 0;
    for (std::size_t i = 0; i < block.keys.size(); i++) {
        const Key &key = block.keys[i];
        uint32 value = nulls[i] ? 0 : DatumGetUInt32(FunctionCall1Coll(&key.hash, key.collation, keys[i]));
        hash = hash_combine(hash, value);
    }
    return murmurhash32(hash);
}

bool Fold::same_key(const Group &group, const Datum *keys, const bool *nulls) const {
    for (std::size_t i = 0; i < block_.keys.size(); i++) {
        const Key &key = block_.keys[i];
        if (nulls[i] != group.key_nulls[i]) return false;
        if (!nulls[i] && !DatumGetBool(FunctionCall2Coll(&key.equal, key.collation, group.key[i], keys[i])))
            return false;
    }
    return true;
}

void Fold::copy_key(Datum *to, const Datum *keys, const bool *nulls) {
    pg::within(memory_, [&] {
        for (std::size_t i = 0; i < block_.keys.size(); i++) {
            const Key &key = block_.keys[i];
            if (nulls[i]) continue;
            Datum value = key.length == -1 ? PointerGetDatum(PG_DETOAST_DATUM(keys[i])) : keys[i];
            to[i] = datumCopy(value, key.by_value, key.length);
        }
    });
}

bool Fold::same_image(const Datum *a, const Datum *b, const bool *nulls) const {
    for (std::size_t i = 0; i < block_.keys.size(); i++) {
        const Key &key = block_.keys[i];
        if (key.told_apart && !nulls[i] && !datum_image_eq(a[i], b[i], key.by_value, key.length)) return false;
    }
    return true;
}

void Fold::add_image(Group &group, const Datum *keys, int64 net) {
    KeyImage *image = group.images;
    while (image && !same_image(image->key, keys, group.key_nulls)) image = image->next;
    if (image == nullptr) {
        image = static_cast<KeyImage *>(
            MemoryContextAllocZero(memory_, MAXALIGN(sizeof(KeyImage)) + sizeof(Datum) * block_.keys.size()));
        image->key = reinterpret_cast<Datum *>(reinterpret_cast<char *>(image) + MAXALIGN(sizeof(KeyImage)));
        copy_key(image->key, keys, group.key_nulls);
        image->next = group.images;
        group.images = image;
    }
    lost_images_ -= image->net < 0;
    image->net += net;
    lost_images_ += image->net < 0;
}

// What is made of a new group shows a key that came. (Test: sql/keys.)
void Fold::show_present_key(Group &group) const {
    for (const KeyImage *image = group.images; image; image = image->next) {
        if (image->net <= 0) continue;
        memcpy(group.key, image->key, sizeof(Datum) * block_.keys.size());
        return;
    }
}

Group *Fold::new_group(uint32 hash, const Datum *keys, const bool *nulls) {
    std::size_t count = block_.keys.size();
    std::size_t cells = MAXALIGN(offsetof(Group, cells) + sizeof(Cell) * block_.states.size());
    char *at = static_cast<char *>(
        MemoryContextAllocZero(memory_, cells + count * (sizeof(Datum) + sizeof(bool)) + alignof(Cell)));
    auto *group = reinterpret_cast<Group *>(TYPEALIGN(alignof(Cell), at));
    group->hash = hash;
    group->key = reinterpret_cast<Datum *>(reinterpret_cast<char *>(group) + cells);
    group->key_nulls = reinterpret_cast<bool *>(group->key + count);
    memcpy(group->key_nulls, nulls, sizeof(bool) * count);
    copy_key(group->key, keys, nulls);
    groups_.push_back(group);
    return group;
}

void Fold::grow() {
    std::size_t size = std::max<std::size_t>(64, buckets_.size() * 2);
    buckets_.assign(size, nullptr);
    for (Group *group : groups_) {
        std::size_t at = group->hash & (size - 1);
        while (buckets_[at]) at = (at + 1) & (size - 1);
        buckets_[at] = group;
    }
}

Group *Fold::group(const Datum *keys, const bool *nulls) {
    if (buckets_.empty()) { // one or two groups, which is what most transactions touch
        for (Group *group : groups_)
            if (same_key(*group, keys, nulls)) return group;
        if (groups_.size() < 2) return new_group(hash_of_key(block_, keys, nulls), keys, nulls);
        grow();
    }
    uint32 hash = hash_of_key(block_, keys, nulls);
    std::size_t at = hash & (buckets_.size() - 1);
    for (; buckets_[at]; at = (at + 1) & (buckets_.size() - 1))
        if (buckets_[at]->hash == hash && same_key(*buckets_[at], keys, nulls)) return buckets_[at];
    Group *group = new_group(hash, keys, nulls);
    if (groups_.size() * 2 > buckets_.size())
        grow();
    else
        buckets_[at] = group;
    return group;
}

void Fold::keep_extremum(const State &state, Datum &kept, bool &has, Datum value) {
    if (has) {
        int order = DatumGetInt32(FunctionCall2Coll(&state.compare, state.collation, value, kept));
        if (state.is_max ? order <= 0 : order >= 0) return;
    }
    // The replaced value stays until the fold is freed: extremes change ever more rarely.
    pg::within(memory_, [&] {
        kept = datumCopy(state.length == -1 ? PointerGetDatum(PG_DETOAST_DATUM(value)) : value, state.by_value,
                         state.length);
    });
    has = true;
}

void Fold::add(const Datum *values, const bool *nulls, int64 weight) {
    MemoryContext before = MemoryContextSwitchTo(scratch_);
    Group *group = this->group(values, nulls);
    const Datum *arguments = values + block_.keys.size();
    const bool *argument_nulls = nulls + block_.keys.size();
    if (weight < 0) group->removed = true;
    if (block_.keys_told_apart) add_image(*group, values, weight);
    additions_++;

    Cell *cell = group->cells;
    for (const State &state : block_.states) {
        Cell &to = *cell++;
        if (state.argument >= 0 && argument_nulls[state.argument]) continue;
        switch (state.kind) {
        case StateKind::count: to.count += weight; break;
        case StateKind::total: {
            Datum value = arguments[state.argument];
            switch (state.argument_type) {
            case INT2OID: to.whole += weight * static_cast<__int128>(DatumGetInt16(value)); break;
            case INT4OID: to.whole += weight * static_cast<__int128>(DatumGetInt32(value)); break;
            case INT8OID:
            case CASHOID: to.whole += weight * static_cast<__int128>(DatumGetInt64(value)); break;
            default: {
                Numeric number = DatumGetNumeric(value);
                if (weight < 0 && (numeric_is_nan(number) || numeric_is_inf(number))) group->special = special_ = true;
                to.sum.add(number, weight, memory_);
            }
            }
            break;
        }
        case StateKind::extremum:
            if (weight > 0)
                keep_extremum(state, to.added, to.has_added, arguments[state.argument]);
            else
                keep_extremum(state, to.removed, to.has_removed, arguments[state.argument]);
            break;
        }
    }
    MemoryContextSwitchTo(before);
    MemoryContextReset(scratch_);
}

void Fold::merge(const Fold &other) {
    MemoryContext before = MemoryContextSwitchTo(scratch_);
    for (const Group *from : other.groups_) {
        Group *into = group(from->key, from->key_nulls);
        into->removed |= from->removed;
        into->special |= from->special;
        for (const KeyImage *image = from->images; image; image = image->next) add_image(*into, image->key, image->net);
        for (std::size_t i = 0; i < block_.states.size(); i++) {
            Cell &a = into->cells[i];
            const Cell &b = from->cells[i];
            a.count += b.count;
            a.whole += b.whole;
            a.sum.add(b.sum, memory_);
            if (b.has_added) keep_extremum(block_.states[i], a.added, a.has_added, b.added);
            if (b.has_removed) keep_extremum(block_.states[i], a.removed, a.has_removed, b.removed);
        }
    }
    additions_ += other.additions_;
    special_ |= other.special_;
    MemoryContextSwitchTo(before);
    MemoryContextReset(scratch_);
}

bool Fold::nothing(const Group &group) const {
    if (group.special || block_.slices() || (group.removed && (block_.recompute_on_removal || block_.recompute_zeros)))
        return false; // digits, or documents, may change where values do not
    for (const KeyImage *image = group.images; image; image = image->next)
        if (image->net != 0) return false;
    for (std::size_t i = 0; i < block_.states.size(); i++) {
        const Cell &cell = group.cells[i];
        if (cell.count != 0 || cell.whole != 0 || cell.has_added || cell.has_removed || !cell.sum.is_zero())
            return false;
    }
    return true;
}

pg::vector<Group *> Fold::sorted() const {
    pg::vector<Group *> groups{pg::Allocator<Group *>(memory_)};
    for (Group *group : groups_) {
        if (nothing(*group)) continue;
        show_present_key(*group);
        groups.push_back(group);
    }
    std::sort(groups.begin(), groups.end(), [&](const Group *a, const Group *b) {
        for (std::size_t i = 0; i < block_.keys.size(); i++) {
            if (a->key_nulls[i] || b->key_nulls[i]) {
                if (a->key_nulls[i] != b->key_nulls[i]) return b->key_nulls[i];
                continue;
            }
            int order = DatumGetInt32(
                FunctionCall2Coll(&block_.keys[i].compare, block_.keys[i].collation, a->key[i], b->key[i]));
            if (order != 0) return order < 0;
        }
        return false;
    });
    return groups;
}

} // namespace capture
