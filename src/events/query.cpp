// A range is read and folded, and applied in a subtransaction. An event that cannot be read is left out and recorded;
// where applying fails, the range is halved until it is one event.
#include "events/query.hpp"

#include "events/failure.hpp"
#include "events/left_out.hpp"
#include "maintain/apply.hpp"
#include "maintain/flush.hpp"
#include "maintain/locks.hpp"
#include "maintain/maintaining.hpp"

namespace events {

using catalog::Projection;

namespace {

// Ranges that are tried to find an event that gets through, where the first ones fail and all may.
constexpr int most_in_doubt = 100;

// Reads at most one row of events, and hands it to `receive`. As the projection's owner: the table's index predicates
// and statistics are planned, and its columns cast, by functions of users. (Test: sql/rights_workers.)
template <class Receive>
void read_event(Projection &projection, const char *text, int64 a, int64 b, Snapshot snapshot, Receive &&receive) {
    pg::as_owner(projection.owner(), [&] {
        pg::with_spi([&] {
            Oid types[] = {INT8OID, INT8OID};
            Datum values[] = {Int64GetDatum(a), Int64GetDatum(b)};
            pg::spi_execute_under(snapshot, text, 1, 2, types, values);
            if (SPI_processed > 0) receive(pg::Row());
        });
    });
}

// A value of 8 bytes; false where there is no row or NULL.
bool read_value(Projection &projection, const char *text, int64 a, int64 b, Snapshot snapshot, Datum *value) {
    bool null = true;
    read_event(projection, text, a, b, snapshot, [&](pg::Row row) { *value = row.datum(1, &null); });
    return !null;
}

// The event time and position of the last event in (from, to]; zeros where there is none.
void read_last(Projection &projection, const EventSource &source, int64 from, int64 to, Snapshot snapshot,
               Progress &progress) {
    if (source.time_column == nullptr) return;
    const char *position = position_expression(source);
    Datum value;
    if (read_value(
            projection,
            psprintf("SELECT e.%s::pg_catalog.timestamptz %s WHERE %s > $1 AND %s <= $2 ORDER BY %s DESC LIMIT 1",
                     source.time_column, events_from(source), position, position, position),
            from, to, snapshot, &value))
        progress.event_time = DatumGetTimestampTz(value);
}

} // namespace

const char *stripe_text(const char *position, const char *slots) {
    return psprintf("((%s OPERATOR(pg_catalog./) 8192) OPERATOR(pg_catalog.%%) %s)", position, slots);
}

namespace {

// The events in ($1, $2] that are the slot's.
const char *rows_text(const Slot &slot, const EventSource &source) {
    slot.projection.block();
    const char *position = position_expression(source);
    const char *stripes =
        slot.count > 1
            ? psprintf(" AND %s = %d", stripe_text(position, psprintf("%d", slot.count)), slot.number)
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
bool next_event(Projection &projection, const EventSource &source, int64 from, int64 to, Snapshot snapshot,
                int64 *position) {
    const char *expression = position_expression(source);
    Datum value;
    bool found = read_value(projection,
                            psprintf("SELECT %s::bigint %s WHERE %s > $1 AND %s <= $2 ORDER BY %s LIMIT 1", expression,
                                     events_from(source), expression, expression, expression),
                            from, to, snapshot, &value);
    if (found) *position = DatumGetInt64(value);
    return found;
}

// What can be told of an event; where a cast of a user's raises, no more than its position: the failure is recorded all
// the same.
FailedEvent describe_event(Projection &projection, const EventSource &source, int64 position, Snapshot snapshot) {
    FailedEvent event{position, nullptr, nullptr, 0, {}};
    auto text_of = [](const char *column) {
        return column ? psprintf("e.%s::pg_catalog.text", column) : "NULL::pg_catalog.text";
    };
    const char *time = source.time_column ? psprintf("e.%s::pg_catalog.timestamptz", source.time_column)
                                          : "NULL::pg_catalog.timestamptz";
    const char *text = psprintf("SELECT %s, %s, %s %s WHERE %s = $1 AND $2 = 0", text_of(source.id_column),
                                text_of(source.type_column), time, events_from(source), position_expression(source));
    MemoryContext outside = CurrentMemoryContext;
    attempt([&] {
        read_event(projection, text, position, 0, snapshot, [&](pg::Row row) {
            event.id = row.text(1, outside);
            event.type = row.text(2, outside);
            event.time = row.timestamp(3);
        });
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
            if (tries == few || !next_event(slot.projection, source, from, to, snapshot, &next)) return;
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

// A batch of ranges, all under one snapshot.
struct Batch {
    const Slot &slot;
    const EventSource &source;
    Snapshot snapshot;
    bool any_applied = false;
    ErrorData *doubtful = nullptr; // of an event, if another one gets through

    bool in_doubt() const { return doubtful && !any_applied; }
};

int64 record(Batch &batch, int64 position, const ErrorData *error) {
    record_failure(batch.slot, describe_event(batch.slot.projection, batch.source, position, batch.snapshot), error);
    if (batch.doubtful == nullptr && blame(error) == Blame::either)
        batch.doubtful = pg::copy_error(error, CurrentMemoryContext);
    return 1;
}

// Applies (from, to] and leaves out the events that cannot be applied, which are recorded: where applying raises, or
// the event is not found while reading, the range is halved. Returns how many counted.
int64 apply_all(Batch &batch, int64 from, int64 to) {
    Outcome outcome = apply_range(batch.slot, batch.source, from, to, batch.snapshot);
    if (outcome.error == nullptr) {
        batch.any_applied |= outcome.rows > 0;
        for (const Failed &each : outcome.failed) outcome.rows += record(batch, each.position, each.error);
        return outcome.rows;
    }
    if (blames_definition(outcome.error)) pg::rethrow(outcome.error);
    int64 first, second;
    if (!next_event(batch.slot.projection, batch.source, from, to, batch.snapshot, &first)) return 0;
    if (!next_event(batch.slot.projection, batch.source, first, to, batch.snapshot, &second))
        return record(batch, first, outcome.error);
    int64 middle = first + (to - first) / 2;
    return apply_all(batch, from, middle) + apply_all(batch, middle, to);
}

int64 apply_without(Batch &batch, const pg::vector<int64> &decided, int64 from, int64 to) {
    int64 events = 0;
    for (int64 position : decided) {
        if (from < position - 1) events += apply_all(batch, from, position - 1);
        from = position;
    }
    if (from < to) events += apply_all(batch, from, to);
    return events;
}

} // namespace

const char *rows_select(const Projection &projection, const EventSource &source) {
    const compile::Source &used = projection.compiled->sources.front();
    StringInfoData text;
    initStringInfo(&text);
    appendStringInfoString(&text, "SELECT ");
    for (AttrNumber column : used.used)
        appendStringInfo(&text, "e.%s, ", quote_identifier(get_attname(used.relation, column, false)));
    appendStringInfo(&text, "%s::bigint AS %s %s", position_expression(source), compile::weight_column(used.relation),
                     events_from(source));
    return text.data;
}

Progress apply_query(const Slot &slot, const EventSource &source, int64 to, Limits limits) {
    Progress progress;
    progress.position = slot.position;
    if (to <= slot.position) return progress;
    // Newer than the safe position: everything up to it is seen.
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    Batch batch{slot, source, snapshot};
    int64 until = slot.position;
    // Who is to blame is told by the events that follow: as many are tried as that takes, within reason.
    for (int ranges = 0; until < to && (ranges == 0 || (batch.in_doubt() && ranges < most_in_doubt)); ranges++) {
        int64 from = until;
        until = std::min(to, until + limits.events * slot.count);
        progress.events += apply_without(batch, decided_positions(slot.projection.relation, from, until), from, until);
    }
    if (batch.in_doubt()) pg::rethrow(batch.doubtful);
    // Positions may have wide gaps.
    int64 next;
    if (progress.events == 0 && until < to)
        until = next_event(slot.projection, source, until, to, snapshot, &next) ? std::max(until, next - 1) : to;
    read_last(slot.projection, source, slot.position, until, snapshot, progress);
    UnregisterSnapshot(snapshot);
    progress.position = until;
    progress.more = until < to;
    return progress;
}

int64 retry_query(const Slot &slot, const EventSource &source) {
    pg::vector<int64> due = due_failures(slot, false);
    if (due.empty()) return 0;
    // Every slot may retry: a position need not be in the slot's own stripe, as slots may have been renumbered.
    Slot any{slot.projection, slot.number, 1, slot.position};
    for (int64 position : due) {
        Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
        Outcome outcome = apply_range(any, source, position - 1, position, snapshot);
        ErrorData *error = outcome.failed.empty() ? outcome.error : outcome.failed.front().error;
        if (error && blames_definition(error)) pg::rethrow(error);
        if (error)
            record_failure(slot, describe_event(slot.projection, source, position, snapshot), error);
        else
            resolve_failure(slot, position, "retried");
        UnregisterSnapshot(snapshot);
    }
    return static_cast<int64>(due.size());
}

} // namespace events
