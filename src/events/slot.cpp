// Slots.
//
// A slot's row is its fence: whoever holds the row's lock applies events and moves the checkpoint, in one transaction,
// so each event is applied once, whatever crashes. The order matters: lock the row, then see what is decided, then take
// the snapshot that reads. A snapshot from before the lock could read events that another holder has applied.
//
// Relations are locked before the row: DROP locks the relations first and deletes the row at its end.
#include "events/slot.hpp"

#include "events/events.hpp"
#include "events/left_out.hpp"
#include "events/query.hpp"
#include "maintain/flush.hpp"
#include "maintain/locks.hpp"
#include "maintain/log.hpp"
#include "maintain/reliance.hpp"
#include "pg/scope.hpp"
#include "shared/session.hpp"
#include "shared/throughput.hpp"

namespace events {

int slot_of(text *key, int slots) {
    uint64 hash = DatumGetUInt64(
        DirectFunctionCall2Coll(hashtextextended, DEFAULT_COLLATION_OID, PointerGetDatum(key), Int64GetDatum(0)));
    return static_cast<int>((hash & UINT64CONST(0x7fffffffffffffff)) % static_cast<uint64>(slots));
}

const char *slot_text(const char *key, const char *slots) {
    return psprintf("((pg_catalog.hashtextextended(%s, 0) OPERATOR(pg_catalog.&) 9223372036854775807) "
                    "OPERATOR(pg_catalog.%%) %s)",
                    key, slots);
}

const char *slot_count_text(const char *projection) {
    return psprintf("(SELECT pg_catalog.count(*)::int FROM projections_internal.slot AS n WHERE n.projection = %s)",
                    projection);
}

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

namespace {

// Over a row p of the catalog.
constexpr const char *declared_slots = "coalesce((p.options ->> 'slots')::int, 1)";

// Hands the slots that there are to `receive`, each as (slot, position, how many are declared), in order; one without a
// slot where the projection has none.
template <class Receive>
void read_slots(Oid projection, Snapshot snapshot, Receive &&receive) {
    const char *text = psprintf(
        "SELECT s.slot, s.position, %s FROM projections_internal.projection AS p LEFT JOIN projections_internal.slot "
        "AS s ON s.projection = p.relation WHERE p.relation = %u::pg_catalog.regclass ORDER BY s.slot",
        declared_slots, projection);
    pg::as_superuser([&] {
        pg::with_spi([&] {
            if (snapshot)
                pg::spi_execute_under(snapshot, text);
            else
                pg::spi_execute(text);
            for (uint64 i = 0; i < SPI_processed; i++) receive(pg::Row(i));
        });
    });
}

// How long catch_up() waits for transactions that have drawn positions and not ended.
constexpr int undecided_wait = 1000; // ms

struct Row {
    bool locked = false;
    bool rested = true; // options.max_rate allows the next batch
    bool paused = false;
    int count = 0;
    int64 position = 0;
    int64 batch_size = 0; // 0: no option
    double max_rate = 0;  // events a second; 0: no option
};

Row lock_row(Oid projection, int slot, bool wait) {
    Row row;
    const char *lock =
        psprintf("SELECT position FROM projections_internal.slot WHERE projection = $1 AND slot = $2 FOR UPDATE%s",
                 wait ? "" : " SKIP LOCKED");
    // In a statement of its own: what the lock waited for may have changed the options, or the number of slots.
    const char *read = psprintf(
        "SELECT coalesce(s.not_before <= pg_catalog.clock_timestamp(), true), %s, "
        "coalesce((p.options ->> 'batch_size')::bigint, 0), coalesce((p.options ->> 'max_rate')::float8, 0), "
        "p.paused_at IS NOT NULL "
        "FROM projections_internal.slot AS s JOIN projections_internal.projection AS p ON p.relation = s.projection "
        "WHERE s.projection = $1 AND s.slot = $2",
        slot_count_text("$1"));
    pg::with_spi([&] {
        Oid types[] = {REGCLASSOID, INT4OID};
        Datum values[] = {ObjectIdGetDatum(projection), Int32GetDatum(slot)};
        auto found = [&](const char *text) {
            if (pg::spi_execute_with_args(text, 2, types, values, nullptr, false, 1) != SPI_OK_SELECT)
                elog(ERROR, "locking a slot failed");
            return SPI_processed > 0;
        };
        if (!found(lock)) return;
        row.position = pg::Row().bigint(1);
        if (!found(read)) return;
        row.locked = true;
        pg::Row state;
        row.rested = state.boolean(1);
        row.count = state.integer(2);
        row.batch_size = state.bigint(3);
        row.max_rate = state.number(4);
        row.paused = state.boolean(5);
    });
    return row;
}

// Waits until what other transactions have drawn is decided, but not for long transactions.
Safe wait_until_decided(const EventSource &source) {
    // A call waits so long once, whatever the number of its projections.
    static constinit TimestampTz statement = 0;
    static constinit long waited = 0;
    if (statement != GetCurrentStatementStartTimestamp()) {
        statement = GetCurrentStatementStartTimestamp();
        waited = 0;
    }
    Safe safe = safe_position(source);
    int64 first_seen = safe.position;
    long pause = 1;
    auto somebody_else = [](const Safe &each) { return each.undecided && VirtualTransactionIdIsValid(each.blocker); };
    for (; somebody_else(safe) && safe.position == first_seen && waited < undecided_wait; waited += pause) {
        static_cast<void>(
            WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause, PG_WAIT_EXTENSION));
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        safe = safe_position(source);
        pause = std::min(pause * 2, 20L);
    }
    return safe;
}

// The change logs as one source of changes: all of them draw from the first one's sequence.
const EventSource *log_source(const Projection &projection) {
    List *sequences = getOwnedSequences(projection.changes.front());
    if (sequences == NIL) return nullptr;
    auto *source = static_cast<EventSource *>(palloc0(sizeof(EventSource)));
    source->relation = projection.changes.front();
    source->sequence = linitial_oid(sequences);
    source->position_column = "change";
    return source;
}

Progress apply_log(const Slot &slot, int64 events) {
    Progress progress;
    const EventSource *log = log_source(slot.projection);
    if (log == nullptr) elog(ERROR, "the change log of projection %s has no sequence", slot.projection.name());
    Safe safe = safe_position(*log);
    maintain::Consumed consumed = maintain::consume_changes(slot.projection, events);
    progress.events = consumed.rows;
    progress.more = consumed.more;
    // Not past what is undecided, which find_work() would not look for. Numbers of transactions that rolled back never
    // come.
    int64 reached = consumed.more ? std::min(consumed.last, safe.position) : safe.position;
    progress.position = std::max(slot.position, reached);
    return progress;
}

Progress apply_next(const Slot &slot, Limits limits, bool wait) {
    Projection &projection = slot.projection;
    if (projection.flow == Flow::log) return apply_log(slot, limits.events);
    const EventSource &source = source_of(projection);
    bool query = projection.kind == Kind::query;
    int64 retried = query ? retry_query(slot, source) : retry_due(slot);
    Safe safe = wait ? wait_until_decided(source) : safe_position(source);
    // What is drawn from now on would be taken for applied.
    if (safe.drawn < slot.position)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("positions of %s start again below what projection %s has applied",
                        pg::qualified_name(source.relation), projection.name()),
                 errdetail("Its sequence stands at " INT64_FORMAT ", the checkpoint at " INT64_FORMAT ".", safe.drawn,
                           slot.position),
                 errhint("Event sources are append-only. SELECT projections.reset(%s); starts from the first event.",
                         quote_literal_cstr(projection.name()))));
    Progress progress =
        query ? apply_query(slot, source, safe.position, limits) : apply_events(slot, safe.position, limits);
    progress.events += retried;
    return progress;
}

} // namespace

void move_checkpoint(const Slot &slot, const Progress &progress, double max_rate) {
    if (progress.position == slot.position && progress.events == 0) return;
    pg::with_spi([&] {
        Oid types[] = {REGCLASSOID, INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID, FLOAT8OID};
        Datum values[] = {ObjectIdGetDatum(slot.projection.relation), Int32GetDatum(slot.number),
                          Int64GetDatum(progress.position),           Int64GetDatum(progress.events),
                          TimestampTzGetDatum(progress.event_time),   Float8GetDatum(max_rate)};
        char nulls[] = {' ', ' ', ' ', ' ', progress.event_time ? ' ' : 'n', ' '};
        if (pg::spi_execute_with_args(
                "UPDATE projections_internal.slot SET position = $3, events_processed = events_processed + $4, "
                "event_time = coalesce($5, event_time), checkpoint_at = pg_catalog.clock_timestamp(), "
                "not_before = CASE WHEN $6 > 0 THEN pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4 "
                "/ $6) END "
                "WHERE projection = $1 AND slot = $2",
                6, types, values, nulls, false, 0) != SPI_OK_UPDATE ||
            SPI_processed != 1)
            elog(ERROR, "moving a checkpoint failed");
    });
}

constinit bool calling_users = false;

void refuse_while_applying() {
    if (calling_users)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("a projection is being brought up to date by this call"),
                        errdetail("What a handler or reducer calls cannot apply events, or change projections."),
                        errhint("Do it in another session.")));
}

Progress advance(Projection &declared, int number, Limits limits, bool wait) {
    refuse_while_applying();
    TimestampTz began = GetCurrentTimestamp();
    shared::begin_batch();
    Oid relation = declared.relation;
    Projection *root = &declared;
    maintain::lock_relations({&root, 1});
    Projection *projection = catalog::projection(relation);
    Progress progress;
    progress.busy = true;
    // Not filled yet: all that there is reaches it with its rows.
    if (projection == nullptr || !projection->async || projection->paused || projection->flow == Flow::none)
        return progress;
    maintain::check_reliance(*projection); // (test: sql/validate)
    // Else events that its owner does not see would be passed. What is in a change log he could read when it came.
    // (Test: sql/rights_roles)
    if (projection->flow != Flow::log || projection->block().reads_sources()) projection->require_rights();
    pg::as_superuser([&] {
        Row row = lock_row(relation, number, wait);
        progress.busy = !row.locked || row.paused;
        progress.position = row.position;
        // Who calls catch_up() wants it now. The rate is the projection's, whatever its number of slots.
        row.max_rate = wait || row.count == 0 ? 0 : row.max_rate / row.count;
        if (progress.busy || (row.max_rate > 0 && !row.rested)) return;
        if (row.batch_size > 0) limits.events = std::min(limits.events, row.batch_size);
        // A tenth of a second's worth at a time.
        if (row.max_rate > 0)
            limits.events = std::max<int64>(1, std::min(limits.events, static_cast<int64>(row.max_rate / 10)));
        Slot slot{*projection, number, row.count, row.position};
        // What a handler SETs would stay in the worker, for projections of others.
        int level = NewGUCNestLevel();
        progress = apply_next(slot, limits, wait);
        AtEOXact_GUC(false, level);
        move_checkpoint(slot, progress, row.max_rate);
        if (row.max_rate > 0 && progress.events > 0) progress.more = false;
        shared::note_batch(relation, progress.events, began,
                           wait ? shared::Lasts::as_noted : shared::Lasts::to_the_commit);
    });
    return progress;
}

int lock_slots(Oid projection) {
    shared::session_applies(projection);
    int slots = 0;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            Oid type = REGCLASSOID;
            Datum value = ObjectIdGetDatum(projection);
            if (pg::spi_execute_with_args(
                    "SELECT slot FROM projections_internal.slot WHERE projection = $1 ORDER BY slot FOR UPDATE", 1,
                    &type, &value, nullptr, false, 0) != SPI_OK_SELECT)
                elog(ERROR, "locking slots failed");
            slots = static_cast<int>(SPI_processed);
        });
    });
    return slots;
}

void make_slots(Oid projection) {
    pg::spi_execute(psprintf("INSERT INTO projections_internal.slot (projection, slot) SELECT p.relation, n FROM "
                             "projections_internal.projection AS p, pg_catalog.generate_series(0, %s - 1) AS n WHERE "
                             "p.relation = %u",
                             declared_slots, projection));
}

Slot locked_slot(Projection &projection, int number) {
    Row row;
    pg::as_superuser([&] { row = lock_row(projection.relation, number, true); });
    if (!row.locked) elog(ERROR, "projection %s has no slot %d", projection.name(), number);
    return {projection, number, row.count, row.position};
}

pg::vector<Slot> slots_of(Projection &projection, Snapshot snapshot) {
    pg::vector<Slot> slots;
    read_slots(projection.relation, snapshot, [&](pg::Row row) {
        if (!row.is_null(1)) slots.push_back({projection, row.integer(1), 0, row.bigint(2)});
    });
    for (Slot &slot : slots) slot.count = static_cast<int>(slots.size());
    return slots;
}

pg::vector<int64> checkpoints_of(Oid projection, Snapshot snapshot) {
    pg::vector<int64> checkpoints;
    int64 slots = 0;
    bool gap = false;
    read_slots(projection, snapshot, [&](pg::Row row) {
        gap |= row.is_null(1) || row.integer(1) != static_cast<int>(checkpoints.size());
        slots = row.integer(3);
        checkpoints.push_back(row.bigint(2));
    });
    if (gap || static_cast<int64>(checkpoints.size()) < slots) checkpoints.clear();
    return checkpoints;
}

pg::vector<int64> known_checkpoints(const Projection &projection, Snapshot snapshot) {
    pg::vector<int64> checkpoints = checkpoints_of(projection.relation, snapshot);
    if (checkpoints.empty())
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("projection %s has lost a checkpoint", projection.name()),
                        errdetail("Nothing says which events it has applied."),
                        errhint("SELECT * FROM projections.validate(); says what mends it.")));
    return checkpoints;
}

Progress advance_to(Projection &projection, int number, int64 to) {
    Progress progress;
    pg::as_superuser([&] {
        Slot slot = locked_slot(projection, number);
        progress = apply_query(slot, source_of(projection), to, {100000, 1000});
        move_checkpoint(slot, progress, 0);
    });
    CommandCounterIncrement();
    return progress;
}

namespace {

// A slot as find_work reads it.
struct Candidate {
    Oid projection;
    int slot;
    int64 position;
    bool due;        // a retry
    int64 retention; // milliseconds after which a state machine forgets keys at their end; 0: never
};

// When this session last looked for keys that are to be forgotten, by slot.
constinit pg::flat_map<uint64, TimestampTz> *last_forgotten = nullptr;

// Where no event comes, nothing else would look. In a tenth of the time that they are kept for, but not all the time.
bool time_to_forget(const Candidate &each, long *again) {
    if (each.retention == 0) return false;
    if (last_forgotten == nullptr) last_forgotten = pg::make<pg::flat_map<uint64, TimestampTz>>(TopMemoryContext);
    int64 pause = std::min<int64>(std::max<int64>(each.retention / 10, 1000), 60000);
    TimestampTz &last = (*last_forgotten)[static_cast<uint64>(each.projection) << 32 | static_cast<uint32>(each.slot)];
    TimestampTz now = GetCurrentTimestamp();
    int64 left = pause - (now - last) / 1000;
    if (left <= 0) last = now;
    long next = static_cast<long>(left <= 0 ? pause : left);
    *again = *again < 0 ? next : std::min(*again, next);
    return left <= 0;
}

pg::vector<Candidate> candidates(long *again) {
    pg::vector<Candidate> found;
    pg::with_spi([&] {
        // A slot that stops at failures has nothing to do but to retry.
        const char *text = psprintf(
            "SELECT s.projection::oid, s.slot, s.position, coalesce(f.due, false), "
            "coalesce(s.not_before <= pg_catalog.clock_timestamp(), true) "
            " AND (f.projection IS NULL OR f.due OR p.options ->> 'on_failure' IS DISTINCT FROM 'stop'), "
            "(EXTRACT(epoch FROM least(s.not_before, f.next) - pg_catalog.clock_timestamp()) * 1000)::bigint, "
            "coalesce((EXTRACT(epoch FROM (p.options ->> 'retention')::interval) * 1000)::bigint, 0) "
            "FROM projections_internal.slot AS s JOIN projections_internal.projection AS p ON p.relation = "
            "s.projection "
            "LEFT JOIN (SELECT projection, slot, pg_catalog.bool_or(%s) AS due, pg_catalog.min(next_retry_at) AS next "
            "           FROM projections_internal.failure WHERE %s GROUP BY 1, 2) AS f "
            "  ON f.projection = s.projection AND f.slot = s.slot "
            "WHERE p.mode = 'async' AND p.paused_at IS NULL ORDER BY s.checkpoint_at",
            due_failure, open_failure);
        if (pg::spi_execute(text, false, 0) != SPI_OK_SELECT) elog(ERROR, "reading slots failed");
        for (uint64 i = 0; i < SPI_processed; i++) {
            pg::Row row(i);
            if (!row.is_null(6)) {
                int64 wait = std::max<int64>(1, std::min<int64>(row.bigint(6), 60000));
                if (*again < 0 || wait < *again) *again = static_cast<long>(wait);
            }
            if (!row.boolean(5)) continue;
            found.push_back({row.oid(1), row.integer(2), row.bigint(3), row.boolean(4), row.bigint(7)});
        }
    });
    return found;
}

bool log_has_rows(const Projection &projection) {
    bool rows = false;
    pg::with_spi([&] {
        for (std::size_t i = 0; !rows && i < projection.changes.size(); i++) {
            const char *log = pg::qualified_name(projection.changes[i]);
            if (pg::spi_execute(psprintf("SELECT FROM ONLY %s LIMIT 1", log), false, 1) != SPI_OK_SELECT)
                elog(ERROR, "reading a change log failed");
            rows = SPI_processed > 0;
        }
    });
    return rows;
}

} // namespace

pg::vector<Work> find_work(long *again) {
    pg::vector<Work> work;
    *again = -1;
    pg::with_snapshot(GetTransactionSnapshot(), [&] {
        pg::flat_map<Oid, Safe> known; // by source
        for (const Candidate &each : candidates(again)) {
            Projection *projection = catalog::projection(each.projection);
            if (projection == nullptr || OidIsValid(projection->shadow_of) || projection->flow == Flow::none) continue;
            bool log = projection->flow == Flow::log;
            const EventSource *source = log ? log_source(*projection) : event_source(projection->sources.front());
            // Whoever advances the slot says what is wrong; the others go on.
            if (source == nullptr || sequence_problem(source->sequence)) {
                work.push_back({each.projection, each.slot, projection->owner()});
                continue;
            }
            auto found = known.find(source->relation);
            if (found == known.end()) found = known.emplace(source->relation, safe_position(*source)).first;
            const Safe &safe = found->second;
            if (safe.undecided) *again = 1;
            bool forget = time_to_forget(each, again);
            if (each.due || forget || each.position < safe.position || safe.drawn < each.position ||
                (log && safe.undecided && log_has_rows(*projection)))
                work.push_back({each.projection, each.slot, projection->owner()});
        }
    });
    return work;
}

} // namespace events
