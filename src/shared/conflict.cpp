// A place for each stream in shared memory, until a worker has written what it counts.
#include "shared/conflict.hpp"

#include "pg/scope.hpp"
#include "shared/memory.hpp"
#include "shared/wake.hpp"

namespace shared {
namespace {

bool ours(const Conflict &conflict) { return conflict.database == MyDatabaseId; }

Conflict *find(const char *stream) {
    return std::find_if(std::begin(memory->conflicts), std::end(memory->conflicts),
                        [&](const Conflict &each) { return ours(each) && strcmp(each.stream, stream) == 0; });
}

void add(const char *stream, Oid caller, int64 count, TimestampTz last) {
    Conflict *conflict = find(stream);
    if (conflict == std::end(memory->conflicts)) {
        conflict = place_in(memory->conflicts, &Conflict::caller, &Conflict::last);
        *conflict = {MyDatabaseId, caller, 0, 0, {}};
        strlcpy(conflict->stream, stream, sizeof conflict->stream);
    }
    conflict->count += count;
    conflict->last = std::max(conflict->last, last);
}

void upsert(std::span<const Conflict> conflicts) {
    Oid types[] = {TEXTOID, INT8OID, TIMESTAMPTZOID};
    pg::with_spi([&] {
        for (const Conflict &each : conflicts) {
            Datum values[] = {CStringGetTextDatum(each.stream), Int64GetDatum(each.count),
                              TimestampTzGetDatum(each.last)};
            int code = pg::spi_execute_with_args("SELECT projections_internal._add_conflicts($1, $2, $3)",
                                                 lengthof(types), types, values, nullptr, false, 0);
            if (code != SPI_OK_SELECT) elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(code));
        }
    });
}

} // namespace

void count_conflict(const char *stream, int length) {
    if (memory == nullptr) return;
    char name[stream_bytes + 1];
    int kept = pg_mbcliplen(stream, length, stream_bytes);
    memcpy(name, stream, kept);
    name[kept] = '\0';
    bool first = with_shared(LW_EXCLUSIVE, [&] {
        bool none = std::none_of(std::begin(memory->conflicts), std::end(memory->conflicts), ours);
        add(name, GetSessionUserId(), 1, GetCurrentTimestamp());
        call_for_worker(MyDatabaseId);
        return none;
    });
    // The worker writes all that has gathered when it comes to it.
    if (first) wake();
}

bool conflicts_counted() {
    return with_shared(LW_SHARED,
                       [] { return std::any_of(std::begin(memory->conflicts), std::end(memory->conflicts), ours); });
}

void forget_conflicts() {
    with_shared(LW_EXCLUSIVE, [] {
        for (Conflict &each : memory->conflicts)
            if (ours(each)) each = {};
    });
}

void write_conflicts() {
    auto *taken = static_cast<Conflict *>(palloc(sizeof memory->conflicts));
    int count = with_shared(LW_EXCLUSIVE, [&] {
        int n = 0;
        for (Conflict &each : memory->conflicts)
            if (ours(each)) {
                taken[n++] = each;
                each = {};
            }
        return n;
    });
    if (count == 0) return;
    // Side by side with another worker's, in one order: no deadlock.
    std::sort(taken, taken + count,
              [](const Conflict &a, const Conflict &b) { return strcmp(a.stream, b.stream) < 0; });
    PG_TRY();
    {
        StartTransactionCommand();
        pg::with_snapshot(GetTransactionSnapshot(), [&] { upsert({taken, static_cast<size_t>(count)}); });
        CommitTransactionCommand();
    }
    PG_CATCH();
    {
        with_shared(LW_EXCLUSIVE, [&] {
            for (int i = 0; i < count; i++) add(taken[i].stream, taken[i].caller, taken[i].count, taken[i].last);
        });
        PG_RE_THROW();
    }
    PG_END_TRY();
}

} // namespace shared
