// Wait: readers who want to see what was committed before.
//
// Both wait_for and read look at checkpoints under a snapshot that is taken anew each time, so they also work in a
// transaction whose own queries see an old one.
#include "catalog/settings.hpp"
#include "declare/describe.hpp"
#include "events/slot.hpp"
#include "events/source.hpp"
#include "operate/named_rows.hpp"
#include "pg/scope.hpp"
#include "rights/caller.hpp"
#include "rights/reader.hpp"
#include "verify/refold.hpp"

namespace operate {
namespace {

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

// The first value of the first row of a query over tables of the extension, as their owner, under a snapshot taken now:
// what a transaction in REPEATABLE READ would not see is included.
bool ask(Oid owner, const char *query, int64 *value) {
    bool null = true;
    pg::as_owner(owner, [&] {
        pg::with_setting("search_path", "pg_catalog, pg_temp", [&] {
            pg::with_snapshot(GetLatestSnapshot(), [&] {
                if (pg::spi_execute(query, true, 1) != SPI_OK_SELECT) elog(ERROR, "reading what is applied failed");
            });
        });
        if (SPI_processed > 0 && !(null = pg::Row().is_null(1))) *value = pg::Row().bigint(1);
        SPI_freetuptable(SPI_tuptable);
    });
    return !null;
}

[[noreturn]] void fail_gone() {
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the projection has no checkpoint"),
                    errdetail("It was lost; or the projection was dropped, or its mode changed, while waiting."),
                    errhint("SELECT * FROM projections.validate(); projections.definitions lists the projections.")));
}

// Whether this transaction holds what an append takes, so that nobody can apply beyond before it ends. The relation is
// locked from here on: it cannot be dropped.
bool holds_writers_lock(Oid relation) {
    Relation opened = try_relation_open(relation, AccessShareLock);
    if (opened == nullptr) fail_gone();
    bool held = CheckRelationLockedByMe(opened, RowExclusiveLock, false);
    relation_close(opened, NoLock);
    return held;
}

void refuse_own_events(Projection &projection, bool own) {
    if (!own) return;
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("cannot wait for projection %s in a transaction that has written its source", projection.name()),
             errdetail("What is not committed cannot be applied, nor what comes after it."),
             errhint("COMMIT first, and then wait.")));
}

template <class Reached>
bool wait_until(TimestampTz deadline, Reached &&reached) {
    for (long pause = 1;; pause = std::min(pause * 2, 20L)) {
        if (reached()) return true;
        TimestampTz now = GetCurrentTimestamp();
        if (now >= deadline) return false;
        long left = TimestampDifferenceMilliseconds(now, deadline);
        if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, std::clamp(left, 1L, pause),
                      PG_WAIT_EXTENSION) &
            WL_LATCH_SET)
            ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

// How far all slots are. Where one has lost its checkpoint, nothing is applied there, whatever the others say.
int64 reached_by(Projection &projection) {
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    pg::vector<int64> checkpoints = events::checkpoints_of(projection.relation, snapshot);
    UnregisterSnapshot(snapshot);
    if (checkpoints.empty()) fail_gone();
    return *std::min_element(checkpoints.begin(), checkpoints.end());
}

// Within an SPI connection. `target` < 0: the head.
bool wait_for_events(Projection &projection, int64 target, TimestampTz deadline) {
    Oid source = projection.sources[0];
    reached_by(projection);
    if (target < 0 && !rights::last_position(source, &target)) return true; // an empty source
    bool first = true;
    return wait_until(deadline, [&] {
        if (reached_by(projection) >= target) return true;
        if (first && events::event_source(source))
            refuse_own_events(projection, holds_writers_lock(events::event_source(source)->sequence));
        first = false;
        return false;
    });
}

// Within an SPI connection. What waits in a log is not applied; what is not there is.
bool wait_for_changes(Projection &projection, int64 target, TimestampTz deadline) {
    if (projection.async) reached_by(projection);
    for (Oid log : projection.changes) {
        refuse_own_events(projection, holds_writers_lock(log));
        const char *name = pg::qualified_name(log);
        int64 last = target;
        Oid owner = pg::owner_of(log);
        if (last < 0 && !ask(owner, psprintf("SELECT pg_catalog.max(change) FROM %s", name), &last)) continue;
        const char *waiting = psprintf("SELECT change FROM %s WHERE change <= " INT64_FORMAT " LIMIT 1", name, last);
        bool done = wait_until(deadline, [&] {
            int64 change = 0;
            return !ask(owner, waiting, &change);
        });
        if (!done) return false;
    }
    return true;
}

// Within an SPI connection. Whether every event up to a position is decided, of the sources of what logs them.
bool wait_until_decided(const Projection &projection, int64 position, TimestampTz deadline, bool *events) {
    for (Oid source : projection.sources) {
        if (!catalog::is_event_source(source)) continue;
        *events = true;
        if (!wait_until(deadline, [&] {
                const events::EventSource *known = events::event_source(source);
                return known == nullptr || events::safe_position(*known).position >= position;
            }))
            return false;
    }
    return true;
}

// What its parts have not applied it cannot have. A log's changes have numbers of their own: once an event's position
// is decided, it is there with all that was committed before.
bool wait_for(Projection &projection, int64 target, TimestampTz deadline) {
    if (projection.flow == Flow::inline_) return true;
    if (projection.flow == Flow::log && target >= 0) {
        bool decided = true, events = false;
        pg::undoing([&] {
            pg::with_spi([&] {
                for (Projection *part : catalog::parts_of(projection.relation))
                    decided = decided && wait_until_decided(*part, target, deadline, &events);
                decided = decided && wait_until_decided(projection, target, deadline, &events);
            });
        });
        if (!decided) return false;
        if (events) target = -1;
    }
    for (Projection *part : catalog::parts_of(projection.relation))
        if (!wait_for(*part, -1, deadline)) return false;
    bool reached = false;
    // Whoever waits and goes on in his transaction must not keep a log from being dropped.
    pg::undoing([&] {
        pg::with_spi([&] {
            reached = projection.flow == Flow::events ? wait_for_events(projection, target, deadline)
                                                      : wait_for_changes(projection, target, deadline);
        });
    });
    return reached;
}

TimestampTz deadline_after(FunctionCallInfo fcinfo, int argument) {
    if (PG_ARGISNULL(argument)) return DT_NOEND;
    return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()),
                                                   PG_GETARG_DATUM(argument)));
}

// ------------------------------------------------------------------------------------------------------------- one row

void refuse_without_key(Projection &projection) {
    if (projection.kind == Kind::handler)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("handler %s has no rows of its own", projection.name()),
                 errdetail("What it writes is up to its function."),
                 errhint("Call projections.wait_for(), and then read its tables.")));
    if (projection.kind == Kind::query && projection.block().counts_equal_rows())
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("projection %s has no key", projection.name()),
                        errdetail("A source has no primary key, so its rows cannot be addressed."),
                        errhint("Call projections.wait_for(), and then read its table.")));
}

// A key's values, as parameters of a condition.
struct KeyValues {
    const char *condition; // over the columns of t
    pg::vector<Oid> types;
    pg::vector<Datum> values;
    pg::vector<char> nulls;
};

// What one row of a query gives, as parameters. Within an SPI connection.
KeyValues values_of(const char *query, Datum key) {
    KeyValues result{"true", {}, {}, {}};
    Oid type = JSONBOID;
    if (pg::spi_execute_with_args(query, 1, &type, &key, nullptr, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "reading the key failed");
    for (int i = 1; i <= SPI_tuptable->tupdesc->natts; i++) {
        bool null;
        result.types.push_back(SPI_gettypeid(SPI_tuptable->tupdesc, i));
        result.values.push_back(pg::Row().datum(i, &null));
        result.nulls.push_back(null ? 'n' : ' ');
    }
    return result;
}

// Of a reducer or state machine: {"key": …}.
KeyValues state_key(Projection &projection, Datum key) {
    Jsonb *json = DatumGetJsonbP(key);
    if (!JB_ROOT_IS_OBJECT(json) || JB_ROOT_COUNT(json) != 1 ||
        getKeyJsonValueFromContainer(&json->root, "key", 3, nullptr) == nullptr)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("%s is not a key of projection %s", DatumGetCString(DirectFunctionCall1(jsonb_out, key)),
                        projection.name()),
                 errdetail("Its key column is key."), errhint("Give it as an object with exactly this column.")));
    KeyValues values = values_of("SELECT $1 OPERATOR(pg_catalog.->>) 'key'", key);
    values.condition = "t.key OPERATOR(pg_catalog.=) $1";
    return values;
}

// Within an SPI connection.
KeyValues key_values(Projection &projection, Datum key) {
    if (projection.kind != Kind::query) return state_key(projection, key);
    Naming naming = named_row(projection, key).namings.front();
    pg::TextList columns;
    int given = 0;
    for (const Naming::Column &column : naming.columns)
        if (!column.null) columns.add("r.%s", column_name(projection, column.number));
    if (columns.empty()) return {condition_of(projection, naming, [](std::size_t) { return ""; }), {}, {}, {}};
    KeyValues values = values_of(psprintf("SELECT %s FROM pg_catalog.jsonb_populate_record(NULL::%s, $1) AS r",
                                          columns.text(), projection.name()),
                                 key);
    values.condition = condition_of(projection, naming, [&](std::size_t) { return psprintf("$%d", ++given); });
    return values;
}

// The only value of a query under a snapshot taken now, in `memory`. Returns how many there are, at most 2.
uint64 read_json(const char *query, KeyValues &key, MemoryContext memory, Datum *json) {
    pg::spi_execute_under(GetLatestSnapshot(), query, 2, static_cast<int>(key.values.size()), key.types.data(),
                          key.values.data(), key.nulls.data());
    bool null;
    if (SPI_processed == 1)
        pg::within(memory, [&] { *json = PointerGetDatum(PG_DETOAST_DATUM_COPY(pg::Row().datum(1, &null))); });
    return SPI_processed;
}

int column_count(Oid table) {
    Relation relation = table_open(table, AccessShareLock);
    int count = RelationGetNumberOfAttributes(relation);
    table_close(relation, AccessShareLock);
    return count;
}

// "SELECT to_jsonb" of the columns that a user knows.
const char *row_query(Projection &projection, const char *from, const char *condition) {
    pg::TextList columns;
    int count = projection.kind == Kind::query ? projection.user_columns : column_count(projection.relation);
    for (AttrNumber i = 1; i <= count; i++)
        if (const char *name = get_attname(projection.relation, i, true)) columns.add("t.%s", quote_identifier(name));
    return psprintf("SELECT pg_catalog.to_jsonb(r) FROM (SELECT %s FROM %s AS t WHERE %s) AS r", columns.text(), from,
                    condition);
}

// From the table where that is fresh, else from what the table follows from. As the owner: his domains check the key,
// his casts make JSON of the row, and his functions are in the definition.
bool read_row(Projection &projection, Datum key, bool fresh, Datum *row) {
    MemoryContext outside = CurrentMemoryContext;
    uint64 found = 0;
    Datum folded = 0; // a reducer's key that has to be folded ahead
    pg::with_spi([&] {
        rights::reading_as_owner(projection.relation, [&] {
            KeyValues values = key_values(projection, key);
            auto read = [&](const char *from) {
                found = read_json(row_query(projection, from, values.condition), values, outside, row);
            };
            if (fresh)
                read(projection.name());
            else if (projection.kind == Kind::query)
                catalog::with_pinned(projection.settings,
                                     [&] { read(psprintf("(%s)", declare::whole_definition(projection.block()))); });
            else if (values.nulls[0] != 'n')
                folded = pg::within(outside, [&] { return datumCopy(values.values[0], false, -1); });
        });
    });
    if (found > 1) fail_several(projection, key);
    return folded ? verify::fold_ahead(projection, folded, row) : found == 1;
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_wait_for);
Datum projections_wait_for(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = rights::named_projection(fcinfo, catalog::Hold::nothing);
    int64 target = PG_ARGISNULL(1) ? -1 : std::max<int64>(PG_GETARG_INT64(1), 0);
    PG_RETURN_BOOL(operate::wait_for(projection, target, operate::deadline_after(fcinfo, 2)));
}

PG_FUNCTION_INFO_V1(projections_read);
Datum projections_read(PG_FUNCTION_ARGS) {
    catalog::Projection &projection = rights::named_projection(fcinfo, catalog::Hold::rows);
    if (PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"key\" must not be null"),
                        errhint("Pass an object {column: value}.")));
    rights::require_readable(projection.relation);
    operate::refuse_without_key(projection);
    bool fresh = operate::wait_for(projection, -1, operate::deadline_after(fcinfo, 2));
    Datum row;
    if (!operate::read_row(projection, PG_GETARG_DATUM(1), fresh, &row)) PG_RETURN_NULL();
    PG_RETURN_DATUM(row);
}

} // extern "C"
