// The event's time limit is a timer whose handler cancels the query; the rest is rows of projections_internal.failure.
#include "events/failure.hpp"

#include "events/declared.hpp"
#include "shared/overrun.hpp"
#include "shared/throughput.hpp"

namespace events {

constinit int max_retries = 5;
constinit int event_timeout = 30000;

namespace {

// ----------------------------------------------------------------------------------------------------------- timeout

constinit TimeoutId timeout_id = MAX_TIMEOUTS; // not registered yet
constinit bool timing = false;
constinit bool repeated = false; // has ended a process before
constinit int limit = 0;
constinit volatile sig_atomic_t expired = 0, forced = 0;
constexpr int grace = 1000; // milliseconds to end in, once cancelled

// The event that is being applied.
struct Running {
    Oid projection, owner;
    int64 position;
};
constinit Running running = {};

// In a signal handler. A user's cancel takes the same way: `expired` is what tells the two apart. Code may catch the
// cancellation and go on, as an exception block for query_canceled or one in a loop does; nothing catches the end of
// the process. (Test: test/t/031_fair_workers.)
void on_timeout() {
    if (expired) {
        forced = 1;
        ProcDiePending = true;
    }
    expired = 1;
    InterruptPending = true;
    QueryCancelPending = true;
    SetLatch(MyLatch);
}

// The transaction ends with the process, so the event is known in shared memory only.
void at_exit(int, Datum) {
    if (!forced || !timing) return;
    ereport(
        LOG,
        (errmsg("pg_projections: an event ended the process that applied it, as it did not end when it was cancelled"),
         errdetail("It is at position " INT64_FORMAT " of projection with OID %u, and had %d ms.", running.position,
                   running.projection, limit)));
    shared::note_overrun(running.projection, running.owner, running.position, limit);
}

// ---------------------------------------------------------------------------------------------------------- recording

constinit SPIPlanPtr record_plan = nullptr, note_plan = nullptr, resolve_plan = nullptr;

const char *category_of(int code) {
    if (code == pg::error::invalid_transition) return "transition";
    if (code == ERRCODE_QUERY_CANCELED) return "timeout";
    int error_class = ERRCODE_TO_CATEGORY(code);
    if (error_class == ERRCODE_INSUFFICIENT_RESOURCES) return "memory";
    if (error_class == ERRCODE_DATA_EXCEPTION) return "data";
    if (error_class == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION) return "constraint";
    for (int code_class :
         {ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION, ERRCODE_FEATURE_NOT_SUPPORTED, ERRCODE_PLPGSQL_ERROR,
          ERRCODE_PROGRAM_LIMIT_EXCEEDED, ERRCODE_SQL_ROUTINE_EXCEPTION, ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
          ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION, ERRCODE_CARDINALITY_VIOLATION})
        if (error_class == ERRCODE_TO_CATEGORY(code_class)) return "code";
    return "other";
}

// What else the error says, as psql would show it.
const char *context_of(const ErrorData *error) {
    StringInfoData text;
    initStringInfo(&text);
    auto add = [&](const char *what, const char *value) {
        if (value && *value) appendStringInfo(&text, "%s%s:  %s", text.len ? "\n" : "", what, value);
    };
    add("DETAIL", error->detail);
    add("HINT", error->hint);
    add("CONTEXT", error->context);
    return text.len ? bounded(text.data) : nullptr;
}

Datum text_array(const pg::vector<const char *> &values) {
    auto *datums = static_cast<Datum *>(palloc(sizeof(Datum) * std::max<std::size_t>(values.size(), 1)));
    for (std::size_t i = 0; i < values.size(); i++) datums[i] = CStringGetTextDatum(values[i]);
    return PointerGetDatum(construct_array(datums, static_cast<int>(values.size()), TEXTOID, -1, false, TYPALIGN_INT));
}

constexpr const char *record_sql =
    "INSERT INTO projections_internal.failure AS f (projection, slot, position, event_id, event_type, event_time, "
    "keys, error, "
    "sqlstate, category, context, next_retry_at) "
    "SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, CASE WHEN m.retries > 0 THEN clock_timestamp() + interval "
    "'1 second' END "
    "FROM projections_internal.projection p, LATERAL (SELECT coalesce((p.options->>'max_retries')::integer, $12) AS "
    "retries) m "
    "WHERE p.relation = $1 "
    "ON CONFLICT (projection, position) WHERE resolved_at IS NULL DO UPDATE SET "
    "error = excluded.error, sqlstate = excluded.sqlstate, category = excluded.category, context = excluded.context, "
    "retry_count = f.retry_count + 1, failed_at = clock_timestamp(), "
    "next_retry_at = (SELECT CASE WHEN f.retry_count + 1 < coalesce((p.options->>'max_retries')::integer, $12) "
    "THEN clock_timestamp() + interval '1 second' * (2 ^ least(f.retry_count + 1, 12)) END "
    "FROM projections_internal.projection p WHERE p.relation = $1) "
    "RETURNING f.id, (SELECT p.options->>'on_dead_letter' FROM projections_internal.projection p WHERE p.relation = $1 "
    "AND "
    "f.next_retry_at IS NULL AND f.retry_count = coalesce((p.options->>'max_retries')::integer, $12))";

constexpr const char *note_sql =
    "UPDATE projections_internal.failure SET note = concat_ws(E'\\n', note, $2) WHERE id = $1";

constexpr const char *resolve_sql =
    "UPDATE projections_internal.failure SET resolved_at = clock_timestamp(), resolution = $3, resolved_by = "
    "session_user, "
    "next_retry_at = NULL, note = nullif(concat_ws(E'\\n', note, $4), '') WHERE projection = $1 AND position = $2 AND "
    "resolved_at IS NULL";

// The failure's id, and the function to call if it became a dead letter.
int64 record(const Slot &slot, const FailedEvent &event, const ErrorData *error, const char **dead_letter) {
    static constexpr Oid types[] = {REGCLASSOID,  INT4OID, INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
                                    TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID};
    const char *context = context_of(error);
    auto text = [](const char *value) { return value ? CStringGetTextDatum(value) : 0; };
    Datum values[] = {ObjectIdGetDatum(slot.projection.relation),
                      Int32GetDatum(slot.number),
                      Int64GetDatum(event.position),
                      text(event.id),
                      text(event.type),
                      TimestampTzGetDatum(event.time),
                      text_array(event.keys),
                      text(bounded(error->message ? error->message : "unknown error")),
                      text(unpack_sql_state(error->sqlerrcode)),
                      text(category_of(error->sqlerrcode)),
                      text(context),
                      Int32GetDatum(max_retries)};
    const char nulls[] = {' ',
                          ' ',
                          ' ',
                          event.id ? ' ' : 'n',
                          event.type ? ' ' : 'n',
                          event.time ? ' ' : 'n',
                          ' ',
                          ' ',
                          ' ',
                          ' ',
                          context ? ' ' : 'n',
                          ' '};
    run(prepared(record_plan, record_sql, types), values, nulls, Effect::write);
    if (SPI_processed != 1) elog(ERROR, "recording a failure of %s did not succeed", slot.projection.name());
    *dead_letter = pg::Row().text(2);
    return pg::Row().bigint(1);
}

void note(int64 id, const char *what) {
    static constexpr Oid types[] = {INT8OID, TEXTOID};
    Datum values[] = {Int64GetDatum(id), CStringGetTextDatum(what)};
    pg::as_superuser([&] { run(prepared(note_plan, note_sql, types), values, nullptr, Effect::write); });
}

// The failure stays a dead letter whatever the function does.
void call_dead_letter(const Slot &slot, int64 position, int64 id, const char *function) {
    const char *name = slot.projection.name();
    ErrorData *error = attempt([&] {
        begin_event_timeout(slot, position, event_timeout);
        pg::as_owner(slot.projection.owner(), [&] {
            pg::with_snapshot(GetTransactionSnapshot(), [&] {
                Oid oid = DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(function)));
                pg::spi_execute(psprintf(
                    "SELECT %s(" INT64_FORMAT "::bigint)",
                    quote_qualified_identifier(get_namespace_name(get_func_namespace(oid)), get_func_name(oid)), id));
            });
        });
        end_event_timeout();
    });
    if (error == nullptr) return;
    ereport(WARNING, (errmsg("on_dead_letter of projection %s failed: %s", name, error->message),
                      errdetail("Failure " INT64_FORMAT " is a dead letter all the same.", id)));
    note(id, bounded(psprintf("on_dead_letter failed: %s", error->message)));
}

} // namespace

const char *bounded(const char *text) {
    constexpr int most = 8000;
    int length = static_cast<int>(strlen(text));
    return length <= most ? text : psprintf("%.*s …", pg_mbcliplen(text, length, most), text);
}

bool must_rethrow(ErrorData *error) {
    bool ours = expired, again = repeated;
    end_event_timeout();
    if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && ours) {
        error->message = psprintf("the event took longer than %d ms", limit);
        if (again) error->detail = pstrdup("It went on when it was cancelled, and ended the process that applied it.");
        error->hint = pstrdup("Raise the projection's option event_timeout, or pg_projections.event_timeout.");
        return false;
    }
    return blame(error) == Blame::environment;
}

void begin_event_timeout(const Slot &slot, int64 position, int milliseconds) {
    if (timeout_id == MAX_TIMEOUTS) {
        timeout_id = RegisterTimeout(USER_TIMEOUT, on_timeout);
        before_shmem_exit(at_exit, 0);
    }
    running = {slot.projection.relation, slot.projection.owner(), position};
    limit = milliseconds;
    expired = 0;
    timing = true;
    if (int had = shared::settle_overrun(running.projection, position)) {
        limit = had;
        expired = 1;
        repeated = true;
        ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg_internal("canceling statement due to event timeout")));
    }
    enable_timeout_every(timeout_id, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds), grace);
}

void stop_event_timer() {
    if (timing) disable_timeout(timeout_id, false);
}

bool ended_by_event() { return forced; }

void end_event_timeout() {
    if (!timing) return;
    timing = false;
    disable_timeout(timeout_id, false);
    // It ran out when the event was already done: the cancellation must not hit what comes next.
    if (expired) QueryCancelPending = false;
    expired = 0;
    repeated = false;
}

void record_failure(const Slot &slot, const FailedEvent &event, const ErrorData *error) {
    shared::note_failed_event();
    pg::with_spi([&] {
        const char *dead_letter = nullptr;
        int64 id = 0;
        pg::as_superuser([&] { id = record(slot, event, error, &dead_letter); });
        if (dead_letter) call_dead_letter(slot, event.position, id, dead_letter);
    });
}

void resolve_failure(const Slot &slot, int64 position, const char *resolution, const char *why) {
    static constexpr Oid types[] = {REGCLASSOID, INT8OID, TEXTOID, TEXTOID};
    Datum values[] = {ObjectIdGetDatum(slot.projection.relation), Int64GetDatum(position),
                      CStringGetTextDatum(resolution), why ? CStringGetTextDatum(why) : 0};
    const char nulls[] = {' ', ' ', ' ', why ? ' ' : 'n'};
    pg::with_spi([&] {
        pg::as_superuser([&] { run(prepared(resolve_plan, resolve_sql, types), values, nulls, Effect::write); });
    });
}

} // namespace events
