// Histograms of powers: added to at the commit, moved out by whoever writes complete minutes, and read together with
// what is not written yet.
#include "shared/throughput.hpp"

#include "catalog/projection.hpp"
#include "pg/scope.hpp"
#include "shared/memory.hpp"

namespace shared {

constinit int throughput_retention = 24 * 60;

namespace {

constexpr int64 microseconds_per_minute = 60 * USECS_PER_SEC;
constexpr int place_count = 2048; // a power of two
constexpr int window = 32;        // places that an entry may be in
constexpr int64 abandoned = 15;   // minutes after which nobody writes an entry any more: its database is gone

struct Entry {
    Oid database; // InvalidOid: unused
    Applied applied;
};

struct Table {
    LWLock *lock;
    int used;
    Entry entries[place_count];
};

constinit Table *table = nullptr;

// What the transaction has applied; in TopTransactionContext.
struct Note {
    Applied applied;
    TimestampTz began; // 0: the time is known
};
constinit pg::vector<Note> *notes = nullptr;
constinit int64 failed_events = 0;

bool worker_writes() { return table != nullptr && max_workers > 0; }

int64 this_minute() { return GetCurrentTimestamp() / microseconds_per_minute; }

int bucket_of(int64 microseconds) {
    if (microseconds < 64) return 0;
    auto value = static_cast<uint64>(microseconds);
    int power = pg_leftmost_one_pos64(value);
    bool upper_half = value >> (power - 1) & 1;
    return std::min(1 + 2 * (power - 6) + upper_half, bucket_count - 1);
}

// Where a bucket begins, in microseconds.
double lower_bound_of(int bucket) {
    if (bucket <= 0) return 0;
    double power = std::ldexp(64.0, (bucket - 1) / 2);
    return (bucket - 1) % 2 ? power * 1.5 : power;
}

void add(Applied &to, const Applied &what) {
    to.events += what.events;
    to.errors += what.errors;
    to.batches += what.batches;
    to.microseconds += what.microseconds;
    for (int i = 0; i < bucket_count; i++) to.buckets[i] += what.buckets[i];
}

Applied one_batch(Oid projection, int64 events, int64 errors, int64 microseconds) {
    Applied applied{projection, 0, events, errors, 1, std::max<int64>(microseconds, 0), {}};
    applied.buckets[bucket_of(applied.microseconds)] = 1;
    return applied;
}

// Under the lock. A place is free for the taking if nobody has written what is there for long.
Entry *place_for(const Applied &applied) {
    uint32 start = hash_combine(hash_combine(murmurhash32(applied.projection), murmurhash32(MyDatabaseId)),
                                murmurhash32(static_cast<uint32>(applied.minute)));
    Entry *unused = nullptr;
    for (int i = 0; i < window; i++) {
        Entry &each = table->entries[(start + i) % place_count];
        if (each.database == MyDatabaseId && each.applied.projection == applied.projection &&
            each.applied.minute == applied.minute)
            return &each;
        if (unused == nullptr && (!OidIsValid(each.database) || each.applied.minute + abandoned < applied.minute))
            unused = &each;
    }
    if (unused == nullptr) return nullptr;
    table->used += !OidIsValid(unused->database);
    *unused = {MyDatabaseId, {applied.projection, applied.minute, 0, 0, 0, 0, {}}};
    return unused;
}

// Without a place it is not counted: a statistic must not hold up what it is about.
void count(const Applied &applied) {
    if (Entry *entry = place_for(applied)) add(entry->applied, applied);
}

template <class Body>
void with_table(LWLockMode mode, Body &&body) {
    LWLockAcquire(table->lock, mode);
    body();
    LWLockRelease(table->lock);
}

// The buckets from the first to the last that is not empty, an array whose subscripts are their numbers.
ArrayType *bucket_array(const int32 *buckets, int first, int last) {
    Datum values[bucket_count];
    int dimension = last - first + 1, lower = first;
    for (int i = first; i <= last; i++) values[i - first] = Int32GetDatum(buckets[i]);
    return construct_md_array(values, nullptr, 1, &dimension, &lower, INT4OID, sizeof(int32), true, TYPALIGN_INT);
}

ArrayType *bucket_array(const int32 *buckets) {
    int first = 0, last = bucket_count - 1;
    while (first < last && buckets[first] == 0) first++;
    while (last > first && buckets[last] == 0) last--;
    return bucket_array(buckets, first, last);
}

// Adds what bucket_array() made, or an array of full histograms.
void add_array(ArrayType *array, int32 *buckets) {
    if (ARR_NDIM(array) == 2 && !ARR_HASNULL(array) && ARR_DIMS(array)[1] == bucket_count) {
        auto *all = reinterpret_cast<int32 *>(ARR_DATA_PTR(array));
        for (int i = 0; i < ARR_DIMS(array)[0] * bucket_count; i++) buckets[i % bucket_count] += all[i];
        return;
    }
    if (ARR_NDIM(array) != 1 || ARR_HASNULL(array)) return;
    auto *values = reinterpret_cast<int32 *>(ARR_DATA_PTR(array));
    int64 lower = ARR_LBOUND(array)[0];
    for (int i = 0; i < ARR_DIMS(array)[0]; i++)
        if (lower + i >= 0 && lower + i < bucket_count) buckets[lower + i] += values[i];
}

// The time that a share of the batches took at most, in milliseconds: evenly spread within a bucket.
double quantile(const int32 *buckets, double fraction) {
    double total = 0, before = 0;
    for (int i = 0; i < bucket_count; i++) total += buckets[i];
    double wanted = total * fraction;
    for (int i = 0; i < bucket_count; i++) {
        if (buckets[i] == 0) continue;
        if (before + buckets[i] >= wanted) {
            double from = lower_bound_of(i), to = lower_bound_of(i + 1);
            return (from + (to - from) * std::clamp((wanted - before) / buckets[i], 0.0, 1.0)) / 1000;
        }
        before += buckets[i];
    }
    return 0;
}

TimestampTz minute_start(const Applied &applied) { return applied.minute * microseconds_per_minute; }

// In the order of what they are of, so that two writers do not deadlock.
void upsert(std::span<Applied> all) {
    std::sort(all.begin(), all.end(), [](const Applied &a, const Applied &b) {
        return a.projection != b.projection ? a.projection < b.projection : a.minute < b.minute;
    });
    Oid types[] = {REGCLASSOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, FLOAT8OID, INT4ARRAYOID};
    for (const Applied &each : all) {
        Datum values[] = {ObjectIdGetDatum(each.projection),
                          TimestampTzGetDatum(minute_start(each)),
                          Int64GetDatum(each.events),
                          Int64GetDatum(each.errors),
                          Int64GetDatum(each.batches),
                          Float8GetDatum(static_cast<double>(each.microseconds) / USECS_PER_SEC),
                          PointerGetDatum(bucket_array(each.buckets))};
        if (pg::spi_execute_with_args("SELECT projections_internal._add_throughput($1, $2, $3, $4, $5, $6, $7)",
                                      lengthof(types), types, values, nullptr, false, 0) != SPI_OK_SELECT)
            elog(ERROR, "writing throughput failed");
    }
}

// Moves this database's entries out of shared memory.
pg::vector<Applied> &take(bool current_too) {
    auto &taken = *pg::make<pg::vector<Applied>>(CurrentMemoryContext);
    taken.reserve(place_count);
    int64 now = this_minute();
    with_table(LW_EXCLUSIVE, [&] {
        // Nearly full: what has gathered in this minute goes, too, and the table adds it up.
        current_too |= table->used > place_count * 3 / 4;
        for (Entry &each : table->entries) {
            if (each.database != MyDatabaseId || (!current_too && each.applied.minute >= now)) continue;
            taken.push_back(each.applied);
            each.database = InvalidOid;
            table->used--;
        }
    });
    return taken;
}

} // namespace

Size throughput_size() { return sizeof(Table); }

void start_throughput(LWLock *lock) {
    bool found;
    table = static_cast<Table *>(ShmemInitStruct("pg_projections throughput", throughput_size(), &found));
    if (found) return;
    memset(static_cast<void *>(table), 0, throughput_size());
    table->lock = lock;
}

void begin_batch() { failed_events = 0; }

void note_failed_event() { failed_events++; }

static void note(const Note &made) {
    if (notes == nullptr) notes = pg::make<pg::vector<Note>>(TopTransactionContext);
    // catch_up() applies batch after batch.
    if (made.began == 0 && !notes->empty() && notes->back().applied.projection == made.applied.projection)
        add(notes->back().applied, made.applied);
    else
        notes->push_back(made);
}

void note_batch(Oid projection, int64 events, TimestampTz began, Lasts lasts) {
    int64 errors = std::exchange(failed_events, 0);
    if (events == 0 && errors == 0) return;
    note({one_batch(projection, events, errors, GetCurrentTimestamp() - began),
          lasts == Lasts::to_the_commit ? began : 0});
}

void note_refresh(Oid projection, TimestampTz began) {
    note({one_batch(projection, 0, 0, GetCurrentTimestamp() - began), 0});
}

void count_noted(bool committed) {
    failed_events = 0;
    auto *ended = std::exchange(notes, nullptr);
    if (ended == nullptr || !committed || table == nullptr) return;
    TimestampTz now = GetCurrentTimestamp();
    with_table(LW_EXCLUSIVE, [&] {
        for (const Note &each : *ended) {
            Applied applied = each.began ? one_batch(each.applied.projection, each.applied.events, each.applied.errors,
                                                     now - each.began)
                                         : each.applied;
            applied.minute = now / microseconds_per_minute;
            count(applied);
        }
    });
}

void count_failed_batch(Oid projection, TimestampTz began) {
    if (table == nullptr) return;
    Applied applied = one_batch(projection, 0, 1, GetCurrentTimestamp() - began);
    applied.minute = this_minute();
    with_table(LW_EXCLUSIVE, [&] { count(applied); });
}

void write_noted() {
    if (notes == nullptr || worker_writes()) return;
    auto &all = *std::exchange(notes, nullptr);
    if (!catalog::sql_is_current()) return; // an older version has no table for it
    pg::vector<Applied> applied;
    for (Note &each : all) {
        each.applied.minute = this_minute();
        applied.push_back(each.applied);
    }
    pg::as_superuser([&] {
        pg::with_spi([&] {
            upsert({applied.data(), applied.size()});
            pg::spi_execute("SELECT projections_internal._expire_throughput()");
        });
    });
}

bool throughput_due() {
    static constinit int64 looked = 0; // the minute
    int64 now = this_minute();
    bool full = false;
    with_table(LW_SHARED, [&] { full = table->used > place_count * 3 / 4; });
    if (now == looked && !full) return false;
    looked = now;
    return true;
}

void write_throughput(Minutes which) {
    pg::vector<Applied> &taken = take(which == Minutes::all);
    if (taken.empty()) return;
    PG_TRY();
    {
        StartTransactionCommand();
        pg::with_snapshot(GetTransactionSnapshot(), [&] {
            pg::with_spi([&] {
                upsert({taken.data(), taken.size()});
                pg::spi_execute("SELECT projections_internal._expire_throughput()");
            });
        });
        CommitTransactionCommand();
    }
    PG_CATCH();
    {
        with_table(LW_EXCLUSIVE, [&] {
            for (const Applied &each : taken) count(each);
        });
        PG_RE_THROW();
    }
    PG_END_TRY();
}

void forget_throughput() {
    with_table(LW_EXCLUSIVE, [] {
        for (Entry &each : table->entries)
            if (each.database == MyDatabaseId) {
                each.database = InvalidOid;
                table->used--;
            }
    });
}

} // namespace shared

extern "C" {

using namespace shared;

PG_FUNCTION_INFO_V1(projections_throughput);
PG_FUNCTION_INFO_V1(projections_add_buckets);
PG_FUNCTION_INFO_V1(projections_all_buckets);
PG_FUNCTION_INFO_V1(projections_quantile);

// As projections.throughput has it, which calls this as its reader.
static bool may_see(Oid projection) {
    if (has_privs_of_role(GetUserId(), ROLE_PG_MONITOR)) return true;
    return get_rel_name(projection) != nullptr && pg::owns_relation(projection, GetUserId());
}

// projection, minute, events, errors, batches, seconds, buckets: what is not in the table yet, of this database
Datum projections_throughput(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    if (table == nullptr) PG_RETURN_NULL();
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    // Copied, as rows cannot be made under the lock.
    auto *copy = static_cast<Entry *>(palloc(sizeof table->entries));
    with_table(LW_SHARED, [&] { memcpy(static_cast<void *>(copy), table->entries, sizeof table->entries); });
    for (const Entry &each : std::span(copy, place_count)) {
        if (each.database != MyDatabaseId || !may_see(each.applied.projection)) continue;
        const Applied &applied = each.applied;
        Datum values[] = {ObjectIdGetDatum(applied.projection),
                          TimestampTzGetDatum(minute_start(applied)),
                          Int64GetDatum(applied.events),
                          Int64GetDatum(applied.errors),
                          Int64GetDatum(applied.batches),
                          Float8GetDatum(static_cast<double>(applied.microseconds) / USECS_PER_SEC),
                          PointerGetDatum(bucket_array(applied.buckets))};
        bool nulls[lengthof(values)] = {};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    PG_RETURN_NULL();
}

// The sum of two histograms.
Datum projections_add_buckets(PG_FUNCTION_ARGS) {
    int32 buckets[bucket_count] = {};
    add_array(PG_GETARG_ARRAYTYPE_P(0), buckets);
    add_array(PG_GETARG_ARRAYTYPE_P(1), buckets);
    PG_RETURN_ARRAYTYPE_P(bucket_array(buckets));
}

// A histogram with its empty buckets.
Datum projections_all_buckets(PG_FUNCTION_ARGS) {
    int32 buckets[bucket_count] = {};
    add_array(PG_GETARG_ARRAYTYPE_P(0), buckets);
    PG_RETURN_ARRAYTYPE_P(bucket_array(buckets, 0, bucket_count - 1));
}

// Of a histogram, in milliseconds; null where it is empty.
Datum projections_quantile(PG_FUNCTION_ARGS) {
    int32 buckets[bucket_count] = {};
    add_array(PG_GETARG_ARRAYTYPE_P(0), buckets);
    if (std::all_of(std::begin(buckets), std::end(buckets), [](int32 each) { return each == 0; })) PG_RETURN_NULL();
    PG_RETURN_FLOAT8(quantile(buckets, PG_GETARG_FLOAT8(1)));
}

} // extern "C"
