// The tables that a handler writes, and their next generation.
#pragma once
#include "events/confinement.hpp"
#include "rebuild/merge.hpp"

namespace rebuild {

// What a projection from events consists of: a handler's tables, or the one table. As a superuser.
pg::vector<Oid> tables_of(Oid projection);

// A handler's shadow has a table for each of the handler's, in a hidden schema, and a view to be known by.
struct HandlerShadow {
    Oid view;
    const char *tables, *settings; // for its row of the catalog, as SQL
};
// As a superuser, in an SPI connection. Raises 0A000 where the function or a table does not allow it.
HandlerShadow make_handler_shadow(catalog::Projection &projection, Oid definition, const char *suffix);

// A reducer's or state machine's shadow, with the constraints and defaults that users have added. As above.
Oid make_reducer_twin(catalog::Projection &projection, const char *name);

// How a handler, reducer or state machine is put in place, as choice_for(): all of its tables in one way.
Choice choice_for_events(catalog::Projection &projection);

struct TablePair {
    Oid table, shadow;
};
// The tables with their shadows.
pg::vector<TablePair> table_pairs(Rebuild &rebuild);

// Makes indexes and constraints that have come since the shadow was made, and gathers statistics.
void complete_tables(Rebuild &rebuild);
bool tables_are_complete(Rebuild &rebuild);

// Exchanges the files of all tables with their shadows, which are locked in ACCESS EXCLUSIVE mode.
void swap_tables(Rebuild &rebuild);

// Makes the tables equal to their shadows by one statement. Returns the rows written.
int64 merge_tables(Rebuild &rebuild);

// One statement, at whose end foreign keys are checked: deletes of all tables, then updates, then inserts. Each refers
// to all that go before it, which therefore are done first: unique keys change hands.
struct MergeStatement {
    StringInfoData text, before;
    int number = 0;

    MergeStatement() {
        initStringInfo(&text);
        initStringInfo(&before);
    }
    // "DELETE FROM … AS t" and the like, with its condition.
    void add(const char *statement, const char *condition);
    // Its result is the number of rows.
    const char *end();
};
// "t.a OPERATOR(…) s.a AND …" over the primary key.
const char *key_condition(Oid table);
// Rows that are to change may exchange values that are unique, which an UPDATE would stumble over: they are deleted and
// inserted again. Not where foreign keys would act upon the deletion.
bool changes_by_insert(Oid table);
// Returns the rows.
int64 run_merge(Rebuild &rebuild, const pg::vector<TablePair> &tables, const char *text);

// Runs `body`, in which events are applied to the shadow, with the handler confined to its tables.
void confined(Rebuild &rebuild, void (*body)(void *), void *argument);
template <class Body>
void confined(Rebuild &rebuild, Body &&body) {
    confined(
        rebuild, [](void *argument) { (*static_cast<std::remove_reference_t<Body> *>(argument))(); }, &body);
}

} // namespace rebuild
