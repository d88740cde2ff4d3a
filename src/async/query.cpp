#include "async/query.hpp"

#include "async/failure.hpp"
#include "maintain/apply.hpp"
#include "maintain/flush.hpp"
#include "maintain/locks.hpp"
#include "maintain/maintaining.hpp"

namespace async {

using catalog::Projection;

namespace {

// One value of a query without parameters but two bigints; false where it has no row or NULL.
bool read_value(const char *text, int64 a, int64 b, Snapshot snapshot, Datum *value) {
    bool found = false;
    pg::with_spi([&] {
        Oid types[] = {INT8OID, INT8OID};
        Datum values[] = {Int64GetDatum(a), Int64GetDatum(b)};
        SPIPlanPtr plan = SPI_prepare(text, 2, types);
        if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
        int code = SPI_execute_snapshot(plan, values, nullptr, snapshot, InvalidSnapshot, true, false, 1);
        if (code < 0) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
        if (SPI_processed == 0) return;
        bool null;
        *value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null); // by value
        found = !null;
    });
    return found;
}

// The event time and position of the last event in (from, to]; zeros where there is none.
void read_last(const EventSource &source, int64 from, int64 to, Snapshot snapshot, Progress &progress) {
    if (source.time_column == nullptr) return;
    const char *position = position_expression(source);
    Datum value;
    if (read_value(psprintf("SELECT e.%s::timestamptz %s WHERE %s > $1 AND %s <= $2 ORDER BY %s DESC LIMIT 1",
                            source.time_column, events_from(source), position, position, position),
                   from, to, snapshot, &value))
        progress.event_time = DatumGetTimestampTz(value);
}

// The events in ($1, $2] that are the slot's.
const char *rows_text(const Slot &slot, const EventSource &source) {
    slot.projection.block();
    const char *position = position_expression(source);
    const char *stripes =
        slot.count > 1 ? psprintf(" AND (%s / " INT64_FORMAT ") %% %d = %d", position, stripe, slot.count, slot.number)
                       : "";
    return psprintf("%s WHERE %s > $1 AND %s <= $2%s", rows_select(slot.projection, source), position, position,
                    stripes);
}

struct Failed {
    int64 position;
    ErrorData *error;
};

// What came of an attempt at a range.
struct Outcome {
    int64 rows = 0;             // that counted
    ErrorData *error = nullptr; // nothing of the range is applied; which event it is about does not follow
    pg::vector<Failed> failed;  // else: the events that cannot be read; all others are applied
};

void apply_taken(maintain::Taken &taken) {
    maintain::maintaining(taken.projection, [&] {
        maintain::with_statements(taken.projection, [&] {
            if (taken.fold)
                maintain::apply_fold(taken);
            else
                maintain::apply_images(taken);
        });
    });
    // Projections over this one fail or succeed with the events that they follow from.
    maintain::flush_for_any_read();
}

// The lowest event after `from` up to `to`; false where there is none.
bool next_event(const EventSource &source, int64 from, int64 to, Snapshot snapshot, int64 *position) {
    const char *expression = position_expression(source);
    Datum value;
    bool found = read_value(psprintf("SELECT %s::bigint %s WHERE %s > $1 AND %s <= $2 ORDER BY %s LIMIT 1", expression,
                                     events_from(source), expression, expression, expression),
                            from, to, snapshot, &value);
    if (found) *position = DatumGetInt64(value);
    return found;
}

// What is wrong with the definition is not the event's fault: undefined names, lost privileges.
bool blames_definition(const ErrorData *error) {
    int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
    return category == ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION) ||
           category == ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR) || error->sqlerrcode == pg::error::projection_stale;
}

FailedEvent describe_event(const EventSource &source, int64 position, Snapshot snapshot) {
    FailedEvent event{position, nullptr, nullptr, 0, {}};
    const char *expression = position_expression(source);
    auto text_of = [](const char *column) { return column ? psprintf("e.%s::text", column) : "NULL::text"; };
    const char *text =
        psprintf("SELECT %s, %s, %s %s WHERE %s = $1", text_of(source.id_column), text_of(source.type_column),
                 source.time_column ? psprintf("e.%s::timestamptz", source.time_column) : "NULL::timestamptz",
                 events_from(source), expression);
    MemoryContext outside = CurrentMemoryContext;
    pg::with_spi([&] {
        Oid type = INT8OID;
        Datum value = Int64GetDatum(position);
        SPIPlanPtr plan = SPI_prepare(text, 1, &type);
        if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
        int code = SPI_execute_snapshot(plan, &value, nullptr, snapshot, InvalidSnapshot, true, false, 1);
        if (code < 0) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
        if (SPI_processed == 0) return;
        auto copy = [&](int column) -> const char * {
            const char *found = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
            return found ? MemoryContextStrdup(outside, found) : nullptr;
        };
        event.id = copy(1);
        event.type = copy(2);
        bool null;
        Datum time = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &null);
        if (!null) event.time = DatumGetTimestampTz(time);
    });
    return event;
}

// Folds the events in (from, to] and leaves out those that cannot be read. Rows come in the order of positions: when
// reading raises, what has been folded by then is right, and the event is the next, or, as the definition may leave
// some out unread, one of the next few. Sets the outcome's error where it is not found among those.
void read_range(const Slot &slot, const EventSource &source, int64 from, int64 to, Snapshot snapshot,
                maintain::Taken &taken, Outcome &outcome) {
    constexpr int few = 16;
    maintain::Additions additions;
    additions.reached = from;
    auto read = [&](int64 after, int64 until) {
        return attempt([&] {
            pg::within(taken.memory, [&] {
                uint64 variant = static_cast<uint64>(slot.count) << 32 | static_cast<uint32>(slot.number);
                maintain::maintaining(taken.projection, [&] {
                    maintain::with_statements(taken.projection, [&] {
                        maintain::compute_additions(taken, rows_text(slot, source), variant, after, until, snapshot,
                                                    additions);
                    });
                });
            });
        });
    };
    while (from < to) {
        CHECK_FOR_INTERRUPTS();
        outcome.error = read(from, to);
        if (outcome.error == nullptr) break;
        if (additions.torn || blames_definition(outcome.error)) return;
        from = std::max(from, additions.reached);
        ErrorData *single = nullptr;
        for (int tries = 0; single == nullptr; tries++) {
            int64 next;
            if (tries == few || !next_event(source, from, to, snapshot, &next)) return;
            single = read(next - 1, next);
            if (additions.torn) return;
            from = next;
        }
        outcome.failed.push_back({from, single});
        outcome.error = nullptr;
    }
    outcome.rows = additions.rows;
}

// Applies the events in (from, to] that can be read.
Outcome apply_range(const Slot &slot, const EventSource &source, int64 from, int64 to, Snapshot snapshot) {
    Projection &projection = slot.projection;
    maintain::renew_statements(projection);
    MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "projection events", ALLOCSET_DEFAULT_SIZES);
    maintain::Taken &taken = *pg::within(memory, [&] {
        return new (palloc(sizeof(maintain::Taken))) maintain::Taken{projection, projection.block(), memory};
    });
    taken.snapshot = snapshot;
    Outcome outcome;
    read_range(slot, source, from, to, snapshot, taken, outcome);
    if (outcome.error == nullptr) outcome.error = attempt([&] { pg::within(memory, [&] { apply_taken(taken); }); });
    MemoryContextDelete(memory);
    return outcome;
}

int64 record(const Slot &slot, const EventSource &source, int64 position, Snapshot snapshot, const ErrorData *error) {
    record_failure(slot, describe_event(source, position, snapshot), error);
    return 1;
}

// Applies (from, to] and leaves out the events that cannot be applied, which are recorded: where applying raises, or
// the event is not found while reading, the range is halved. Returns how many counted.
int64 apply_all(const Slot &slot, const EventSource &source, int64 from, int64 to, Snapshot snapshot) {
    Outcome outcome = apply_range(slot, source, from, to, snapshot);
    if (outcome.error == nullptr) {
        for (const Failed &each : outcome.failed)
            outcome.rows += record(slot, source, each.position, snapshot, each.error);
        return outcome.rows;
    }
    if (blames_definition(outcome.error)) ReThrowError(outcome.error);
    int64 first, second;
    if (!next_event(source, from, to, snapshot, &first)) return 0;
    if (!next_event(source, first, to, snapshot, &second)) return record(slot, source, first, snapshot, outcome.error);
    int64 middle = first + (to - first) / 2;
    return apply_all(slot, source, from, middle, snapshot) + apply_all(slot, source, middle, to, snapshot);
}

// Positions in (from, to] that somebody has skipped or resolved: whoever applies the range again passes them, too.
pg::vector<int64> left_out(const Slot &slot, int64 from, int64 to) {
    pg::vector<int64> positions;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            Oid types[] = {REGCLASSOID, INT8OID, INT8OID};
            Datum values[] = {ObjectIdGetDatum(slot.projection.relation), Int64GetDatum(from), Int64GetDatum(to)};
            if (SPI_execute_with_args(
                    "SELECT DISTINCT position FROM projections.failure WHERE projection = $1 AND position > $2 AND "
                    "position <= $3 AND resolution IN ('skipped', 'resolved') ORDER BY position",
                    3, types, values, nullptr, false, 0) != SPI_OK_SELECT)
                elog(ERROR, "reading failures failed");
            bool null;
            for (uint64 i = 0; i < SPI_processed; i++)
                positions.push_back(
                    DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &null)));
        });
    });
    return positions;
}

} // namespace

const char *rows_select(const Projection &projection, const EventSource &source) {
    const compile::Source &used = projection.compiled->sources.front();
    StringInfoData text;
    initStringInfo(&text);
    appendStringInfoString(&text, "SELECT ");
    for (AttrNumber column : used.used)
        appendStringInfo(&text, "e.%s, ", quote_identifier(get_attname(used.relation, column, false)));
    appendStringInfo(&text, "%s::bigint AS %s %s", position_expression(source), capture::weight_column,
                     events_from(source));
    return text.data;
}

Progress apply_query(const Slot &slot, const EventSource &source, int64 to, Limits limits) {
    Progress progress;
    progress.position = slot.position;
    if (to <= slot.position) return progress;
    // Newer than the safe position: everything up to it is seen.
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    int64 until = std::min(to, slot.position + limits.events * slot.count);
    int64 from = slot.position;
    for (int64 decided : left_out(slot, from, until)) {
        if (from < decided - 1) progress.events += apply_all(slot, source, from, decided - 1, snapshot);
        from = decided;
    }
    if (from < until) progress.events += apply_all(slot, source, from, until, snapshot);
    // Positions may have wide gaps.
    int64 next;
    if (progress.events == 0 && until < to)
        until = next_event(source, until, to, snapshot, &next) ? std::max(until, next - 1) : to;
    read_last(source, slot.position, until, snapshot, progress);
    UnregisterSnapshot(snapshot);
    progress.position = until;
    progress.more = until < to;
    return progress;
}

int64 retry_query(const Slot &slot, const EventSource &source) {
    pg::vector<int64> due;
    pg::with_spi([&] {
        Oid types[] = {REGCLASSOID, INT4OID};
        Datum values[] = {ObjectIdGetDatum(slot.projection.relation), Int32GetDatum(slot.number)};
        if (SPI_execute_with_args("SELECT position FROM projections.failure WHERE projection = $1 AND slot = $2 AND "
                                  "resolved_at IS NULL AND next_retry_at <= pg_catalog.clock_timestamp() "
                                  "ORDER BY position LIMIT 1000",
                                  2, types, values, nullptr, false, 0) != SPI_OK_SELECT)
            elog(ERROR, "reading failures failed");
        bool null;
        for (uint64 i = 0; i < SPI_processed; i++)
            due.push_back(DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &null)));
    });
    if (due.empty()) return 0;
    // Every slot may retry: a position need not be in the slot's own stripe, as slots may have been renumbered.
    Slot any{slot.projection, slot.number, 1, slot.position};
    for (int64 position : due) {
        Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
        Outcome outcome = apply_range(any, source, position - 1, position, snapshot);
        ErrorData *error = outcome.failed.empty() ? outcome.error : outcome.failed.front().error;
        if (error)
            record_failure(slot, describe_event(source, position, snapshot), error);
        else
            resolve_failure(slot, position, "retried");
        UnregisterSnapshot(snapshot);
    }
    return static_cast<int64>(due.size());
}

} // namespace async
