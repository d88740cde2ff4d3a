// Up to which position all events are decided.
//
// A position is drawn from the source's sequence before its event is inserted, and events become visible in the order
// of commits, not of positions: a reader that only remembers the highest position it saw would skip those that commit
// late. nextval() takes ROW EXCLUSIVE on the sequence before it draws, and the top transaction keeps that lock to its
// end, over ROLLBACK TO and PREPARE. So: read the sequence's last value first, then see who holds the lock. When all of
// those have ended, every position up to that value is committed or will never be. (test/t/007_safe_position.pl)
//
// Locks on the table would not do: nextval() may be called, and the value kept, long before the INSERT. Nor would
// transaction numbers and snapshots: a long transaction elsewhere would stall every reader.
#include "events/source.hpp"

#include "catalog/projection.hpp"
#include "pg/compat.hpp"
#include "pg/scope.hpp"

namespace events {
namespace {

// What this session knows of one sequence.
struct Watch {
    Oid sequence;
    Oid file;        // changes with RESTART, which draws old positions again
    int64 safe;      // decided
    int64 candidate; // decided when all of `drawing` have ended
    pg::vector<VirtualTransactionId> drawing;
};

constinit pg::vector<Watch *> *watches = nullptr;

Watch &watch_of(Oid sequence, Oid file) {
    return *pg::within(TopMemoryContext, [&] {
        if (watches == nullptr) watches = pg::make<pg::vector<Watch *>>(TopMemoryContext);
        for (Watch *each : *watches) {
            if (each->sequence != sequence) continue;
            if (each->file != file) *each = Watch{sequence, file, 0, 0, {}};
            return each;
        }
        Watch *made = pg::make<Watch>(TopMemoryContext, Watch{sequence, file, 0, 0, {}});
        watches->push_back(made);
        return made;
    });
}

void check_sequence(Oid sequence) {
    if (const char *problem = sequence_problem(sequence))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("events cannot be read in order: sequence %s %s", pg::qualified_name(sequence), problem),
                        errdetail("Positions would be drawn long before their events, or again."),
                        errhint("ALTER SEQUENCE %s INCREMENT 1 CACHE 1 NO CYCLE;", pg::qualified_name(sequence))));
}

// The last value drawn. Reads the page: the functions for it would take the lock that we look for.
int64 last_value(Relation sequence) {
    Buffer buffer = ReadBuffer(sequence, 0);
    // nextval() has a later value on the page while it writes WAL: without the lock that one might be read.
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    ItemId item = PageGetItemId(page, FirstOffsetNumber);
    if (!ItemIdIsNormal(item)) elog(ERROR, "sequence %s is empty", RelationGetRelationName(sequence));
    auto *header = reinterpret_cast<HeapTupleHeader>(PageGetItem(page, item));
    auto *form = reinterpret_cast<Form_pg_sequence_data>(reinterpret_cast<char *>(header) + header->t_hoff);
    int64 value = form->is_called ? form->last_value : form->last_value - 1;
    UnlockReleaseBuffer(buffer);
    return value;
}

// Forgets those that have ended.
void drop_ended(Watch &watch) {
    auto ended = [](const VirtualTransactionId &transaction) { return VirtualXactLock(transaction, false); };
    watch.drawing.erase(std::remove_if(watch.drawing.begin(), watch.drawing.end(), ended), watch.drawing.end());
}

void look(Watch &watch, Relation sequence) {
    int64 last = last_value(sequence);
    // GetLockConflicts leaves out ourselves. What this transaction has drawn it may still insert, or prepare and leave
    // to others.
    if (CheckRelationLockedByMe(sequence, RowExclusiveLock, false)) return;
    watch.candidate = last;
    LOCKTAG tag;
    SET_LOCKTAG_RELATION(tag, MyDatabaseId, watch.sequence);
    for (VirtualTransactionId *each = GetLockConflicts(&tag, ShareLock, nullptr); VirtualTransactionIdIsValid(*each);
         each++)
        watch.drawing.push_back(*each);
}

} // namespace

const char *sequence_problem(Oid sequence) {
    HeapTuple tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
    if (!HeapTupleIsValid(tuple)) return "is gone";
    auto *form = reinterpret_cast<Form_pg_sequence>(GETSTRUCT(tuple));
    const char *problem = form->seqcache > 1       ? "hands out several values at once (CACHE)"
                          : form->seqcycle         ? "starts again at its end (CYCLE)"
                          : form->seqincrement < 1 ? "does not ascend (INCREMENT)"
                                                   : nullptr;
    ReleaseSysCache(tuple);
    return problem;
}

const EventSource *event_source(Oid relation) {
    if (!catalog::is_event_source(relation)) return nullptr;
    static constexpr const char *text =
        "SELECT sequence::pg_catalog.oid, arrivals::pg_catalog.oid, archived_to, "
        "pg_catalog.quote_ident(position_column), "
        "pg_catalog.quote_ident(type_column), pg_catalog.quote_ident(time_column), pg_catalog.quote_ident(id_column) "
        "FROM projections_internal.source WHERE relation = $1";
    auto *source = static_cast<EventSource *>(palloc0(sizeof(EventSource)));
    MemoryContext outside = CurrentMemoryContext;
    pg::with_spi([&] {
        Oid type = REGCLASSOID;
        Datum argument = ObjectIdGetDatum(relation);
        pg::as_superuser([&] {
            if (pg::spi_execute_with_args(text, 1, &type, &argument, nullptr, true, 1) != SPI_OK_SELECT ||
                SPI_processed != 1)
                elog(ERROR, "relation %u is not registered as an event source", relation);
        });
        pg::Row row;
        source->relation = relation;
        source->sequence = row.oid(1);
        source->arrivals = row.oid(2);
        source->archived_to = row.bigint(3);
        auto column = [&](int number) { return row.text(number, outside); };
        source->position_column = column(4);
        source->type_column = column(5);
        source->time_column = column(6);
        source->id_column = column(7);
    });
    return source;
}

const EventSource &source_of(const catalog::Projection &projection) {
    Oid relation = projection.sources.front();
    const EventSource *source = event_source(relation);
    if (source) return *source;
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("%s is not an event source", pg::qualified_name(relation)),
             errdetail("Projection %s would read its events.", projection.name()),
             errhint("SELECT projections.register_source(%s, …);", quote_literal_cstr(pg::qualified_name(relation)))));
    pg_unreachable();
}

int64 kept_history(const catalog::Projection &projection) {
    const EventSource *source = projection.sources.empty() ? nullptr : event_source(projection.sources.front());
    bool is_kept = source && !projection.takes_away_detached && !pg::is_own_schema(get_rel_namespace(source->relation));
    return is_kept ? source->archived_to : 0;
}

const char *events_from(const EventSource &source) {
    if (!OidIsValid(source.arrivals)) return psprintf("FROM %s AS e", pg::qualified_name(source.relation));
    return psprintf("FROM %s AS a JOIN %s AS e ON e.%s = a.position", pg::qualified_name(source.arrivals),
                    pg::qualified_name(source.relation), source.position_column);
}

const char *position_expression(const EventSource &source) {
    return OidIsValid(source.arrivals) ? "a.arrival" : psprintf("e.%s", source.position_column);
}

Safe safe_position(const EventSource &source) {
    check_sequence(source.sequence);
    Relation sequence = relation_open(source.sequence, AccessShareLock);
    int64 drawn = last_value(sequence);
    Watch &watch = watch_of(source.sequence, sequence->rd_rel->relfilenode);
    if (drawn < watch.safe) watch.safe = watch.candidate = 0, watch.drawing.clear(); // setval() went back
    drop_ended(watch);
    if (watch.drawing.empty()) {
        watch.safe = std::max(watch.safe, watch.candidate);
        if (watch.safe < drawn) {
            look(watch, sequence);
            drop_ended(watch);
            if (watch.drawing.empty()) watch.safe = std::max(watch.safe, watch.candidate);
        }
    }
    relation_close(sequence, AccessShareLock);
    Safe safe{drawn, watch.safe, watch.safe < drawn, {}};
    SetInvalidVirtualTransactionId(safe.blocker);
    if (!watch.drawing.empty()) safe.blocker = watch.drawing.front();
    return safe;
}

} // namespace events

extern "C" {

PG_FUNCTION_INFO_V1(projections_safe_position);
// The highest position up to which everything is decided.
Datum projections_safe_position(PG_FUNCTION_ARGS) {
    const events::EventSource *source = events::event_source(PG_GETARG_OID(0));
    if (source == nullptr)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("%s is not an event source", pg::qualified_name(PG_GETARG_OID(0))),
                        errdetail("No position is known for its rows."),
                        errhint("SELECT projections.register_source(%s, …);",
                                quote_literal_cstr(pg::qualified_name(PG_GETARG_OID(0))))));
    PG_RETURN_INT64(events::safe_position(*source).position);
}

PG_FUNCTION_INFO_V1(projections_drawing);
// Who holds the safe position back: (pid, transaction) of each, one of which is null; a prepared one has no pid.
Datum projections_drawing(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    const events::EventSource *source = events::event_source(PG_GETARG_OID(0));
    if (source == nullptr) PG_RETURN_NULL();
    LOCKTAG tag;
    SET_LOCKTAG_RELATION(tag, MyDatabaseId, source->sequence);
    for (VirtualTransactionId *each = GetLockConflicts(&tag, ShareLock, nullptr); VirtualTransactionIdIsValid(*each);
         each++) {
        int pid = pg::process_of(*each);
        bool more;
        // One prepared before the last restart has no other number than its own.
        TransactionId prepared = pid ? InvalidTransactionId
                                 : VirtualTransactionIdIsRecoveredPreparedXact(*each)
                                     ? each->localTransactionId
                                     : TwoPhaseGetXidByVirtualXID(*each, &more);
        if (pid == 0 && !TransactionIdIsValid(prepared)) continue; // has just ended
        Datum values[] = {Int32GetDatum(pid), TransactionIdGetDatum(prepared)};
        bool nulls[] = {pid == 0, pid != 0};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    PG_RETURN_NULL();
}

PG_FUNCTION_INFO_V1(projections_kept_history);
Datum projections_kept_history(PG_FUNCTION_ARGS) {
    int64 kept = 0;
    catalog::look(PG_GETARG_OID(0), [&](catalog::Projection &projection) { kept = events::kept_history(projection); });
    PG_RETURN_INT64(kept);
}

} // extern "C"
