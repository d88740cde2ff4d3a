// Plans and utility commands are looked at before they run; the first breach is kept, as the handler may catch its
// error.
#include "events/confinement.hpp"

#include "pg/scope.hpp"
#include "pg/utility.hpp"

namespace events {

constinit Confinement *confinement = nullptr;

namespace {

bool holds(const pg::vector<Oid> &relations, Oid relation) {
    return std::find(relations.begin(), relations.end(), relation) != relations.end();
}

[[noreturn]] void breach(const char *deed, const char *object, const char *hint) {
    MemoryContext before = MemoryContextSwitchTo(TopTransactionContext);
    PG_TRY();
    {
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("handler %s %s %s while it is replayed", pg::qualified_name(confinement->handler), deed,
                               object),
                        errdetail("Event " INT64_FORMAT " was applied. A replay points the handler at other tables of "
                                  "the same names, and changes nothing else.",
                                  confinement->position),
                        errhint("%s", hint)));
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(TopTransactionContext);
        if (confinement->breach == nullptr) confinement->breach = CopyErrorData();
        MemoryContextSwitchTo(before);
        PG_RE_THROW();
    }
    PG_END_TRY();
    pg_unreachable();
}

void check_written(Oid relation) {
    if (holds(confinement->writable, relation)) return;
    breach("writes", pg::qualified_name(relation),
           "List every table that the function writes: drop the projection and create it again with all of them.");
}

void check_live(Oid relation) {
    if (!holds(confinement->live, relation)) return;
    breach("touches", pg::qualified_name(relation),
           "Write the tables' names without their schema, in the function, in views, and in what it calls.");
}

void check_named(const RangeVar *name) {
    Oid relation = RangeVarGetRelid(name, NoLock, true);
    if (!OidIsValid(relation)) return; // the command says so
    check_live(relation);
    check_written(relation);
}

} // namespace

void confine_plan(const PlannedStmt *plan) {
    if (confinement == nullptr || !confinement->calling) return;
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(plan->rtable))
        if (OidIsValid(entry->relid)) check_live(entry->relid);
    ListCell *cell;
    foreach (cell, plan->resultRelations) check_written(rt_fetch(lfirst_int(cell), plan->rtable)->relid);
}

void confine_utility(Node *command) {
    if (confinement == nullptr || !confinement->calling) return;
    if (pg::touches_no_rows(command)) return;
    switch (nodeTag(command)) {
    case T_CopyStmt: {
        auto *copy = castNode(CopyStmt, command);
        if (copy->relation && copy->is_from) check_named(copy->relation);
        if (copy->relation && !copy->is_from) {
            Oid relation = RangeVarGetRelid(copy->relation, NoLock, true);
            if (OidIsValid(relation)) check_live(relation);
        }
        return;
    }
    case T_TruncateStmt:
        for (RangeVar *name : pg::each<RangeVar>(castNode(TruncateStmt, command)->relations)) check_named(name);
        return;
    default:
        breach("runs", psprintf("%s", GetCommandTagName(CreateCommandTag(command))),
               "A handler writes rows. Do the rest outside of it.");
    }
}

void raise_breach() {
    if (confinement && confinement->breach) pg::rethrow(confinement->breach);
}

} // namespace events
