#include "capture/fold.hpp"

namespace capture {

using compile::Block;
using compile::Key;
using compile::State;
using compile::StateKind;

Fold::Fold(const Block &block, MemoryContext parent)
    : block_(block), memory_(AllocSetContextCreate(parent, "projection delta", ALLOCSET_DEFAULT_SIZES)),
      comparisons_(pg::Allocator<FmgrInfo>(memory_)), key_comparisons_(pg::Allocator<FmgrInfo>(memory_)) {
    MemoryContext before = MemoryContextSwitchTo(memory_);
    scratch_ = AllocSetContextCreate(memory_, "projection delta row", ALLOCSET_SMALL_SIZES);
    payload_ = offsetof(Group, cells) + sizeof(Cell) * block.states.size();

    int keys = static_cast<int>(block.keys.size());
    key_desc_ = CreateTemplateTupleDesc(keys);
    auto *index = static_cast<AttrNumber *>(palloc(sizeof(AttrNumber) * (keys + 1)));
    auto *operators = static_cast<Oid *>(palloc(sizeof(Oid) * (keys + 1)));
    auto *collations = static_cast<Oid *>(palloc(sizeof(Oid) * (keys + 1)));
    for (int i = 0; i < keys; i++) {
        const Key &key = block.keys[i];
        TupleDescInitEntry(key_desc_, static_cast<AttrNumber>(i + 1), psprintf("k%d", i), key.type, -1, 0);
        TupleDescInitEntryCollation(key_desc_, static_cast<AttrNumber>(i + 1), key.collation);
        index[i] = static_cast<AttrNumber>(i + 1);
        operators[i] = key.equality;
        collations[i] = key.collation;
        FmgrInfo comparison;
        fmgr_info_cxt(key.comparison, &comparison, memory_);
        key_comparisons_.push_back(comparison);
    }
    for (const State &state : block.states) {
        FmgrInfo comparison{};
        if (state.kind == StateKind::extremum) fmgr_info_cxt(state.comparison, &comparison, memory_);
        comparisons_.push_back(comparison);
    }
    Oid *equal;
    FmgrInfo *hash;
    execTuplesHashPrepare(keys, operators, &equal, &hash);
    slot_ = MakeSingleTupleTableSlot(key_desc_, &TTSOpsVirtual);
    reader_ = MakeSingleTupleTableSlot(key_desc_, &TTSOpsMinimalTuple);
    table_ = pg::build_hash_table(key_desc_, keys, index, equal, hash, collations, payload_, memory_, memory_, scratch_);
    MemoryContextSwitchTo(before);
}

Group *Fold::group(const Datum *keys, const bool *nulls) {
    ExecClearTuple(slot_);
    for (std::size_t i = 0; i < block_.keys.size(); i++) {
        slot_->tts_values[i] = keys[i];
        slot_->tts_isnull[i] = nulls[i];
    }
    ExecStoreVirtualTuple(slot_);
    bool is_new;
    TupleHashEntry entry = LookupTupleHashEntry(table_, slot_, &is_new, nullptr);
    void *payload = pg::entry_payload(table_, entry, payload_);
    if (is_new) memset(payload, 0, payload_);
    return static_cast<Group *>(payload);
}

void Fold::add_numeric(Cell &cell, Numeric value, bool subtract) {
    Datum sum;
    if (cell.numeric == nullptr && !subtract) {
        sum = NumericGetDatum(value);
    } else {
        Datum before = cell.numeric ? NumericGetDatum(cell.numeric) : NumericGetDatum(int64_to_numeric(0));
        sum = DirectFunctionCall2(subtract ? numeric_sub : numeric_add, before, NumericGetDatum(value));
    }
    auto *source = reinterpret_cast<varlena *>(DatumGetPointer(sum));
    std::size_t size = VARSIZE_ANY(source);
    // The old place is used again where the new sum fits: sums of one group rarely change their length.
    if (cell.numeric == nullptr || GetMemoryChunkSpace(cell.numeric) < size + 2 * sizeof(void *)) {
        if (cell.numeric) pfree(cell.numeric);
        cell.numeric = static_cast<Numeric>(MemoryContextAlloc(memory_, size + 8));
    }
    memcpy(cell.numeric, source, size);
}

void Fold::keep_extremum(const State &state, Datum &kept, bool &has, Datum value) {
    if (has) {
        FmgrInfo &comparison = comparisons_[&state - block_.states.data()];
        int order = DatumGetInt32(FunctionCall2Coll(&comparison, state.collation, value, kept));
        if (state.is_max ? order <= 0 : order >= 0) return;
    }
    int16 length;
    bool by_value;
    get_typlenbyval(state.type, &length, &by_value);
    // The replaced value stays until the fold is freed: extremes change ever more rarely.
    pg::within(memory_, [&] { kept = datumCopy(length == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(value)) : value, by_value, length); });
    has = true;
}

void Fold::add(const Datum *values, const bool *nulls, int64 weight) {
    MemoryContext before = MemoryContextSwitchTo(scratch_);
    Group *group = this->group(values, nulls);
    const Datum *arguments = values + block_.keys.size();
    const bool *argument_nulls = nulls + block_.keys.size();
    if (weight < 0) group->removed = true;
    additions_++;

    for (std::size_t i = 0; i < block_.states.size(); i++) {
        const State &state = block_.states[i];
        Cell &cell = group->cells[i];
        if (state.argument >= 0 && argument_nulls[state.argument]) continue;
        switch (state.kind) {
        case StateKind::count: cell.count += weight; break;
        case StateKind::total: {
            Datum value = arguments[state.argument];
            switch (state.argument_type) {
            case INT2OID: cell.whole += weight * static_cast<__int128>(DatumGetInt16(value)); break;
            case INT4OID: cell.whole += weight * static_cast<__int128>(DatumGetInt32(value)); break;
            case INT8OID:
            case CASHOID: cell.whole += weight * static_cast<__int128>(DatumGetInt64(value)); break;
            default: {
                Numeric number = DatumGetNumeric(value);
                if (weight < 0 && (numeric_is_nan(number) || numeric_is_inf(number))) group->special = special_ = true;
                if (weight != 1 && weight != -1)
                    number = DatumGetNumeric(DirectFunctionCall2(numeric_mul, NumericGetDatum(number), NumericGetDatum(int64_to_numeric(std::abs(weight)))));
                add_numeric(cell, number, weight < 0);
            }
            }
            break;
        }
        case StateKind::extremum:
            if (weight > 0) keep_extremum(state, cell.added, cell.has_added, arguments[state.argument]);
            else keep_extremum(state, cell.removed, cell.has_removed, arguments[state.argument]);
            break;
        }
    }
    MemoryContextSwitchTo(before);
    MemoryContextReset(scratch_);
}

void Fold::key_values(MinimalTuple key, Datum *values, bool *nulls) {
    ExecStoreMinimalTuple(key, reader_, false);
    slot_getallattrs(reader_);
    for (std::size_t i = 0; i < block_.keys.size(); i++) {
        values[i] = reader_->tts_values[i];
        nulls[i] = reader_->tts_isnull[i];
    }
}

void Fold::merge(Fold &other) {
    MemoryContext before = MemoryContextSwitchTo(scratch_);
    TupleHashIterator iterator;
    InitTupleHashIterator(other.table_, &iterator);
    pg::vector<Datum> keys(block_.keys.size() + 1);
    pg::vector<bool> nulls(block_.keys.size() + 1);
    while (TupleHashEntry entry = ScanTupleHashTable(other.table_, &iterator)) {
        other.key_values(pg::entry_tuple(entry), keys.data(), nulls.data());
        Group *from = static_cast<Group *>(pg::entry_payload(other.table_, entry, payload_));
        Group *into = group(keys.data(), nulls.data());
        into->removed |= from->removed;
        into->special |= from->special;
        for (std::size_t i = 0; i < block_.states.size(); i++) {
            Cell &a = into->cells[i];
            const Cell &b = from->cells[i];
            a.count += b.count;
            a.whole += b.whole;
            if (b.numeric) add_numeric(a, b.numeric, false);
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
    if (group.special) return false;
    for (std::size_t i = 0; i < block_.states.size(); i++) {
        const Cell &cell = group.cells[i];
        if (cell.count != 0 || cell.whole != 0 || cell.has_added || cell.has_removed) return false;
        // A numeric's digits may matter to a result even where its value is 0.
        if (cell.numeric && (block_.recompute_on_removal || !DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(cell.numeric), NumericGetDatum(int64_to_numeric(0))))))
            return false;
    }
    return true;
}

pg::vector<Entry> Fold::sorted() {
    pg::vector<Entry> entries{pg::Allocator<Entry>(memory_)};
    TupleHashIterator iterator;
    InitTupleHashIterator(table_, &iterator);
    while (TupleHashEntry entry = ScanTupleHashTable(table_, &iterator)) {
        Group *group = static_cast<Group *>(pg::entry_payload(table_, entry, payload_));
        if (!nothing(*group)) entries.push_back(Entry{pg::entry_tuple(entry), group});
    }
    if (entries.size() < 2) return entries;

    TupleTableSlot *left = MakeSingleTupleTableSlot(key_desc_, &TTSOpsMinimalTuple);
    TupleTableSlot *right = MakeSingleTupleTableSlot(key_desc_, &TTSOpsMinimalTuple);
    std::sort(entries.begin(), entries.end(), [&](const Entry &a, const Entry &b) {
        ExecStoreMinimalTuple(a.key, left, false);
        ExecStoreMinimalTuple(b.key, right, false);
        for (std::size_t i = 0; i < block_.keys.size(); i++) {
            bool a_null, b_null;
            Datum x = slot_getattr(left, static_cast<int>(i + 1), &a_null);
            Datum y = slot_getattr(right, static_cast<int>(i + 1), &b_null);
            if (a_null || b_null) {
                if (a_null != b_null) return b_null;
                continue;
            }
            int order = DatumGetInt32(FunctionCall2Coll(&key_comparisons_[i], block_.keys[i].collation, x, y));
            if (order != 0) return order < 0;
        }
        return false;
    });
    ExecDropSingleTupleTableSlot(left);
    ExecDropSingleTupleTableSlot(right);
    return entries;
}

} // namespace capture
