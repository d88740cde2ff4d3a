// Rows are hashed as their types say, with floats rounded; what differs by its bucket is kept, sorted and walked side
// by side.
#include "verify/compare.hpp"

namespace verify {
namespace {

// A power of two; two words each.
constexpr uint64 bucket_count = 65536;

enum class Float { none, real, full };

uint64 mix(uint64 hash) { // so that neighbouring values are not neighbours
    hash = (hash ^ (hash >> 33)) * UINT64CONST(0xff51afd7ed558ccd);
    hash = (hash ^ (hash >> 33)) * UINT64CONST(0xc4ceb9fe1a85ec53);
    return hash ^ (hash >> 33);
}

struct Column {
    bool equatable, hashable; // else by the type's output
    Oid collation;
    Float rounded;
    FmgrInfo equal, hash, output;
};

Float float_of(Oid type) {
    switch (getBaseType(type)) {
    case FLOAT4OID: return Float::real;
    case FLOAT8OID: return Float::full;
    default: return Float::none;
    }
}

double float_value(Float kind, Datum value) {
    return kind == Float::real ? DatumGetFloat4(value) : DatumGetFloat8(value);
}

// Neighbours of the rounded values are less apart than what counts as close: what differs by more is told apart.
uint64 hash_rounded(Float kind, Datum value) {
    double number = float_value(kind, value);
    int exponent = 0;
    if (std::isfinite(number)) {
        double scale = kind == Float::real ? 0x1p18 : 0x1p31;
        number = std::round(std::frexp(number, &exponent) * scale);
        if (number == scale || number == -scale) number /= 2, exponent++; // 0.99… is rounded to the next power
    }
    uint64 hash = DatumGetUInt64(DirectFunctionCall2(hashfloat8extended, Float8GetDatum(number), Int64GetDatum(0)));
    return hash_combine64(hash, static_cast<uint64>(exponent));
}

bool close(Float kind, Datum a, Datum b) {
    double x = float_value(kind, a), y = float_value(kind, b);
    if (x == y || (std::isnan(x) && std::isnan(y))) return true;
    if (!std::isfinite(x) || !std::isfinite(y)) return false;
    // Halves, for the difference of two large values may overflow.
    double tolerance = kind == Float::real ? 1e-5 : 1e-9;
    return std::fabs(x / 2 - y / 2) <= tolerance * std::max(std::fabs(x / 2), std::fabs(y / 2));
}

struct Row {
    Datum *values;
    bool *nulls;
    MinimalTuple tuple;
    bool expected;
};

class Comparison {
public:
    Comparison(const Layout &layout, Scope scope, void (*report)(const Difference &, void *), void *context);
    Compared run(Side expected, Side found);

private:
    const Layout &layout_;
    Scope scope_;
    void (*report_)(const Difference &, void *);
    void *context_;
    MemoryContext memory_, scratch_, group_memory_;
    pg::vector<Column> columns_;
    pg::vector<bool> is_key_, has_look_;
    struct Bucket {
        uint64 sum;
        int64 rows; // expected less found
    };
    pg::vector<Bucket> buckets_;
    uint64 chosen_, seed_; // buckets whose number hashes to less than `chosen_`
    Compared compared_;
    bool of_definition_ = false; // whose rows come now
    bool approximate_ = false;   // rows that are the same may have different hashes
    Tuplesortstate *sort_ = nullptr;
    TupleTableSlot *sorted_ = nullptr, *expected_ = nullptr, *found_ = nullptr;
    pg::vector<Row> group_;

    uint64 hash_text(const Column &column, Datum value);
    uint64 hash_value(const Column &column, Datum value, bool rounded);
    uint64 hash_key(TupleTableSlot *row);
    uint64 hash_row(TupleTableSlot *row);
    bool same_text(const Column &column, Datum a, Datum b);
    bool same_value(const Column &column, Datum a, Datum b, bool rounded);
    bool same_key(const Row &a, const Row &b);
    bool same_row(const Row &a, const Row &b);
    bool samples(uint64 bucket) const;
    void add_hash(TupleTableSlot *row);
    void keep_row(TupleTableSlot *row);
    int64 differing_buckets() const;
    void sort_rows(Side expected, Side found);
    void settle_all();
    void settle_group();
    void settle_key(std::span<Row *> rows);
    void settle_counted(std::span<Row *> rows);
    TupleTableSlot *store(TupleTableSlot *slot, const Row *row);
    bool may_differ(const Row &expected, const Row &found);
    void tell(Problem problem, const Row *expected, const Row *found);
    bool enough() const { return compared_.more; }

    static void add_hash(TupleTableSlot *row, void *self) { static_cast<Comparison *>(self)->add_hash(row); }
    static void keep_row(TupleTableSlot *row, void *self) { static_cast<Comparison *>(self)->keep_row(row); }
};

Column column_of(Form_pg_attribute attribute, bool close_floats) {
    Column column{};
    TypeCacheEntry *type = lookup_type_cache(attribute->atttypid, TYPECACHE_EQ_OPR | TYPECACHE_HASH_EXTENDED_PROC);
    column.equatable = OidIsValid(type->eq_opr);
    column.hashable = column.equatable && OidIsValid(type->hash_extended_proc);
    column.collation = attribute->attcollation;
    column.rounded = close_floats ? float_of(attribute->atttypid) : Float::none;
    if (column.equatable) fmgr_info(get_opcode(type->eq_opr), &column.equal);
    if (column.hashable) fmgr_info(type->hash_extended_proc, &column.hash);
    Oid output;
    bool varlena;
    getTypeOutputInfo(attribute->atttypid, &output, &varlena);
    fmgr_info(output, &column.output);
    return column;
}

Comparison::Comparison(const Layout &layout, Scope scope, void (*report)(const Difference &, void *), void *context)
    : layout_(layout), scope_(scope), report_(report), context_(context), memory_(CurrentMemoryContext),
      scratch_(AllocSetContextCreate(memory_, "compared row", ALLOCSET_DEFAULT_SIZES)),
      group_memory_(AllocSetContextCreate(memory_, "compared rows of a hash", ALLOCSET_DEFAULT_SIZES)),
      buckets_(bucket_count, Bucket{0, 0}),
      chosen_(scope.sample >= 1 ? PG_UINT64_MAX : static_cast<uint64>(std::ldexp(scope.sample, 64))),
      seed_(pg_prng_uint64(&pg_global_prng_state)) {
    for (int i = 0; i < layout.desc->natts; i++) {
        bool key = std::find(layout.keys.begin(), layout.keys.end(), i) != layout.keys.end();
        is_key_.push_back(key);
        has_look_.push_back(std::find(layout.looks.begin(), layout.looks.end(), i) != layout.looks.end());
        columns_.push_back(column_of(TupleDescAttr(layout.desc, i), layout.close_floats && !key));
        const Column &column = columns_.back();
        approximate_ |= column.rounded != Float::none || (column.equatable && !column.hashable);
    }
    approximate_ |= layout.may_differ != nullptr;
}

uint64 Comparison::hash_text(const Column &column, Datum value) {
    char *text = OutputFunctionCall(const_cast<FmgrInfo *>(&column.output), value);
    return DatumGetUInt64(
        hash_any_extended(reinterpret_cast<unsigned char *>(text), static_cast<int>(strlen(text)), 0));
}

uint64 Comparison::hash_value(const Column &column, Datum value, bool rounded) {
    if (rounded && column.rounded != Float::none) return hash_rounded(column.rounded, value);
    if (column.hashable)
        return DatumGetUInt64(
            FunctionCall2Coll(const_cast<FmgrInfo *>(&column.hash), column.collation, value, Int64GetDatum(0)));
    return hash_text(column, value);
}

uint64 Comparison::hash_key(TupleTableSlot *row) {
    uint64 hash = 0;
    for (int i : layout_.keys)
        hash = hash_combine64(hash, row->tts_isnull[i] ? 1 : hash_value(columns_[i], row->tts_values[i], false));
    return mix(hash);
}

uint64 Comparison::hash_row(TupleTableSlot *row) {
    uint64 hash = 0;
    for (int i = 0; i < layout_.desc->natts; i++)
        hash = hash_combine64(hash, row->tts_isnull[i] ? 1
                                    : has_look_[i]     ? hash_text(columns_[i], row->tts_values[i])
                                                       : hash_value(columns_[i], row->tts_values[i], true));
    return mix(hash);
}

bool Comparison::same_text(const Column &column, Datum a, Datum b) {
    return strcmp(OutputFunctionCall(const_cast<FmgrInfo *>(&column.output), a),
                  OutputFunctionCall(const_cast<FmgrInfo *>(&column.output), b)) == 0;
}

bool Comparison::same_value(const Column &column, Datum a, Datum b, bool rounded) {
    if (rounded && column.rounded != Float::none) return close(column.rounded, a, b);
    if (column.equatable)
        return DatumGetBool(FunctionCall2Coll(const_cast<FmgrInfo *>(&column.equal), column.collation, a, b));
    return same_text(column, a, b);
}

bool Comparison::same_key(const Row &a, const Row &b) {
    for (int i : layout_.keys) {
        if (a.nulls[i] != b.nulls[i]) return false;
        if (!a.nulls[i] && !same_value(columns_[i], a.values[i], b.values[i], false)) return false;
    }
    return true;
}

bool Comparison::same_row(const Row &a, const Row &b) {
    for (int i = 0; i < layout_.desc->natts; i++) {
        if (is_key_[i]) {
            if (has_look_[i] && !a.nulls[i] && !same_text(columns_[i], a.values[i], b.values[i])) return false;
            continue;
        }
        if (a.nulls[i] != b.nulls[i]) return false;
        if (!a.nulls[i] && !same_value(columns_[i], a.values[i], b.values[i], true)) return false;
    }
    return true;
}

bool Comparison::samples(uint64 bucket) const { return chosen_ == PG_UINT64_MAX || mix(bucket + seed_) < chosen_; }

// ---------------------------------------------------------------------------------------------------------- first pass

void Comparison::add_hash(TupleTableSlot *row) {
    slot_getallattrs(row);
    MemoryContext before = MemoryContextSwitchTo(scratch_);
    uint64 bucket = hash_key(row) % bucket_count;
    if (samples(bucket)) {
        uint64 hash = hash_row(row);
        (of_definition_ ? compared_.expected : compared_.found)++;
        buckets_[bucket].sum += of_definition_ ? hash : -hash;
        buckets_[bucket].rows += of_definition_ ? 1 : -1;
    }
    MemoryContextSwitchTo(before);
    MemoryContextReset(scratch_);
}

int64 Comparison::differing_buckets() const {
    return std::count_if(buckets_.begin(), buckets_.end(),
                         [](const Bucket &bucket) { return bucket.sum != 0 || bucket.rows != 0; });
}

// --------------------------------------------------------------------------------------------------------- second pass

// Before a row's own columns: the hash of its key, and whose it is.
constexpr int sort_columns = 2;

void Comparison::keep_row(TupleTableSlot *row) {
    slot_getallattrs(row);
    MemoryContext before = MemoryContextSwitchTo(scratch_);
    uint64 hash = hash_key(row);
    const Bucket &bucket = buckets_[hash % bucket_count];
    if (bucket.sum != 0 || bucket.rows != 0) {
        ExecClearTuple(sorted_);
        sorted_->tts_values[0] = Int64GetDatum(static_cast<int64>(hash));
        sorted_->tts_values[1] = BoolGetDatum(of_definition_);
        sorted_->tts_isnull[0] = sorted_->tts_isnull[1] = false;
        auto columns = static_cast<std::size_t>(layout_.desc->natts);
        memcpy(sorted_->tts_values + sort_columns, row->tts_values, sizeof(Datum) * columns);
        memcpy(sorted_->tts_isnull + sort_columns, row->tts_isnull, sizeof(bool) * columns);
        tuplesort_puttupleslot(sort_, ExecStoreVirtualTuple(sorted_));
    }
    MemoryContextSwitchTo(before);
    MemoryContextReset(scratch_);
}

void Comparison::sort_rows(Side expected, Side found) {
    TupleDesc desc = CreateTemplateTupleDesc(layout_.desc->natts + sort_columns);
    TupleDescInitEntry(desc, 1, "hash", INT8OID, -1, 0);
    TupleDescInitEntry(desc, 2, "side", BOOLOID, -1, 0);
    for (int i = 0; i < layout_.desc->natts; i++)
        TupleDescCopyEntry(desc, static_cast<AttrNumber>(i + 1 + sort_columns), layout_.desc,
                           static_cast<AttrNumber>(i + 1));
    sorted_ = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
    AttrNumber columns[] = {1};
    Oid operators[] = {Int8LessOperator}, collations[] = {InvalidOid};
    bool nulls_first[] = {false};
    sort_ = tuplesort_begin_heap(desc, 1, columns, operators, collations, nulls_first, work_mem, nullptr, 0);
    of_definition_ = true;
    expected.read(expected.self, keep_row, this);
    of_definition_ = false;
    found.read(found.self, keep_row, this);
    ExecDropSingleTupleTableSlot(sorted_);
    sorted_ = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
    tuplesort_performsort(sort_);
}

// One hash after the other.
void Comparison::settle_all() {
    expected_ = MakeSingleTupleTableSlot(layout_.desc, &TTSOpsVirtual);
    found_ = MakeSingleTupleTableSlot(layout_.desc, &TTSOpsVirtual);
    int64 hash = 0;
    while (!enough() && tuplesort_gettupleslot(sort_, true, false, sorted_, nullptr)) {
        CHECK_FOR_INTERRUPTS();
        slot_getallattrs(sorted_);
        int64 next = DatumGetInt64(sorted_->tts_values[0]);
        if (next != hash) {
            settle_group();
            MemoryContextReset(group_memory_);
        }
        hash = next;
        pg::within(group_memory_, [&] {
            Row row{};
            row.expected = DatumGetBool(sorted_->tts_values[1]);
            row.tuple = ExecCopySlotMinimalTuple(sorted_);
            group_.push_back(row);
        });
    }
    if (!enough()) settle_group();
    ExecDropSingleTupleTableSlot(expected_);
    ExecDropSingleTupleTableSlot(found_);
    ExecDropSingleTupleTableSlot(sorted_);
    tuplesort_end(sort_);
}

// The rows of one hash, which are nearly always those of one key.
void Comparison::settle_group() {
    if (group_.empty()) return;
    MemoryContext before = MemoryContextSwitchTo(group_memory_);
    TupleDesc desc = sorted_->tts_tupleDescriptor;
    auto columns = static_cast<std::size_t>(desc->natts);
    for (Row &row : group_) {
        auto *values = static_cast<Datum *>(palloc(sizeof(Datum) * columns));
        auto *nulls = static_cast<bool *>(palloc(sizeof(bool) * columns));
        HeapTupleData tuple{};
        tuple.t_len = row.tuple->t_len + MINIMAL_TUPLE_OFFSET;
        tuple.t_data = reinterpret_cast<HeapTupleHeader>(reinterpret_cast<char *>(row.tuple) - MINIMAL_TUPLE_OFFSET);
        heap_deform_tuple(&tuple, desc, values, nulls);
        row.values = values + sort_columns;
        row.nulls = nulls + sort_columns;
    }
    pg::vector<Row *> left;
    for (Row &row : group_) left.push_back(&row);
    while (!left.empty() && !enough()) {
        CHECK_FOR_INTERRUPTS();
        auto others = std::partition(left.begin(), left.end(),
                                     [&, first = left.front()](Row *row) { return same_key(*first, *row); });
        std::span<Row *> key(left.data(), static_cast<std::size_t>(others - left.begin()));
        if (layout_.counted)
            settle_counted(key);
        else
            settle_key(key);
        left.erase(left.begin(), others);
    }
    group_.clear();
    MemoryContextSwitchTo(before);
}

void Comparison::settle_key(std::span<Row *> rows) {
    Row *expected = nullptr, *found = nullptr;
    for (Row *row : rows)
        if (row->expected) expected = row;
    // Of several rows of one key, the right one is not the one too many.
    for (Row *row : rows)
        if (!row->expected && (found == nullptr || (expected && same_row(*expected, *row)))) found = row;
    int64 problems = compared_.differences;
    if (expected && found == nullptr)
        tell(Problem::missing, expected, nullptr);
    else if (expected == nullptr)
        tell(Problem::extra, nullptr, found);
    else if (!same_row(*expected, *found) && !may_differ(*expected, *found))
        tell(Problem::different, expected, found);
    for (Row *row : rows)
        if (!row->expected && row != found) tell(Problem::duplicate, nullptr, row);
    // One key, whatever is wrong with it.
    if (!enough()) compared_.differences = std::min(compared_.differences, problems + 1);
}

void Comparison::settle_counted(std::span<Row *> rows) {
    int64 expected = std::count_if(rows.begin(), rows.end(), [](const Row *row) { return row->expected; });
    int64 found = static_cast<int64>(rows.size()) - expected;
    for (int64 i = found; i < expected; i++) tell(Problem::missing, rows.front(), nullptr);
    for (int64 i = expected; i < found; i++)
        tell(expected > 0 ? Problem::duplicate : Problem::extra, nullptr, rows.front());
}

TupleTableSlot *Comparison::store(TupleTableSlot *slot, const Row *row) {
    if (row == nullptr) return nullptr;
    ExecClearTuple(slot);
    auto columns = static_cast<std::size_t>(layout_.desc->natts);
    memcpy(slot->tts_values, row->values, sizeof(Datum) * columns);
    memcpy(slot->tts_isnull, row->nulls, sizeof(bool) * columns);
    return ExecStoreVirtualTuple(slot);
}

bool Comparison::may_differ(const Row &expected, const Row &found) {
    return layout_.may_differ &&
           layout_.may_differ({Problem::different, store(expected_, &expected), store(found_, &found)},
                              layout_.context);
}

void Comparison::tell(Problem problem, const Row *expected, const Row *found) {
    if (enough()) return;
    if (compared_.differences >= scope_.limit) {
        compared_.more = true;
        return;
    }
    compared_.differences++;
    report_({problem, store(expected_, expected), store(found_, found)}, context_);
}

Compared Comparison::run(Side expected, Side found) {
    of_definition_ = true;
    expected.read(expected.self, add_hash, this);
    of_definition_ = false;
    found.read(found.self, add_hash, this);
    int64 buckets = differing_buckets();
    if (buckets == 0) return compared_;
    if (buckets > scope_.limit && !approximate_) { // each has at least one key that differs
        compared_.differences = buckets;
        compared_.more = true;
        return compared_;
    }
    sort_rows(expected, found);
    settle_all();
    return compared_;
}

} // namespace

Compared compare(const Layout &layout, Scope scope, Side expected, Side found,
                 void (*report)(const Difference &difference, void *context), void *context) {
    MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "comparison", ALLOCSET_DEFAULT_SIZES);
    Comparison &comparison = *pg::within(
        memory, [&] { return new (palloc(sizeof(Comparison))) Comparison(layout, scope, report, context); });
    Compared compared = pg::within(memory, [&] { return comparison.run(expected, found); });
    MemoryContextDelete(memory);
    return compared;
}

} // namespace verify
