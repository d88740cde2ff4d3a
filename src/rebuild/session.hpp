// A rebuild that runs in this session: its state, its steps and their commits, and what others see of it.
#pragma once
#include "catalog/projection.hpp"
#include "pg/scope.hpp"

namespace rebuild {

struct Alteration;
struct Course;

// What was applied to the shadow of an inline projection although positions before it were undecided: of (from, to] the
// positions `applied`. An attempt to finish may fail after that, and the others come then.
struct Ahead {
    int64 from = 0, to = 0;
    pg::vector<int64> applied = {};
};

struct Rebuild {
    MemoryContext memory; // survives transactions
    int64 id = 0;
    Oid target;
    Oid shadow = InvalidOid;
    const char *name, *by;
    const char *action = "rebuild";
    Alteration *alteration = nullptr; // where it is one
    const Course *course = nullptr;   // once the shadow is made
    const char *phase = "";
    TimestampTz began = 0;
    int64 rows = 0;
    const char *lacking = nullptr;                    // the event that keeps the shadow from being put in place
    Ahead ahead = {}, ahead_now = {};                 // committed, and in this transaction
    bool merges = false;                              // a shadow's rows into the live tables, rather than a swap
    pg::vector<std::pair<Oid, LOCKMODE>> locked = {}; // for the session: what must not change between two transactions
};

// The projection that is rebuilt, which nobody can drop before the step ends. Raises 42P01 where somebody did.
catalog::Projection &live(Rebuild &rebuild);
catalog::Projection &shadow(Rebuild &rebuild);

// A statement on the extension's tables, as a superuser.
void execute(const char *text);
// Its first value; 0 or null where it gives none.
int64 ask(const char *text);
const char *ask_text(const char *text);
// The first value of a query over relations of the projection's owner, as he.
int64 ask_owner(const Rebuild &rebuild, const char *text);

// Runs `body` as the owner of the projection, whose code may run at any moment: a definition's when it is compiled, an
// index's when it is planned. A scheduled rebuild's session is a superuser's, and so may a caller's be.
template <class Body>
void as_projection_owner(const Rebuild &rebuild, Body &&body) {
    if (get_rel_name(rebuild.target))
        pg::as_owner(pg::owner_of(rebuild.target), body);
    else // dropped meanwhile
        body();
}

// How many rows a table had when it was last analyzed; 0 where nobody knows.
int64 expected_rows(Oid table);

// The projection's scheduled rebuild, if there is one, is not to begin (again).
void forget_request(Oid projection);

// Runs one step in a subtransaction of its own, so that a failed one can be cleaned up after. Returns its error, in the
// rebuild's memory.
template <class Body>
ErrorData *attempt(Rebuild &rebuild, bool with_snapshot, Body &&body) {
    MemoryContext before = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    ErrorData *volatile error = nullptr;
    BeginInternalSubTransaction(nullptr);
    PG_TRY();
    {
        pg::with_setting("search_path", "pg_catalog, pg_temp", [&] {
            as_projection_owner(rebuild, [&] {
                if (with_snapshot)
                    pg::with_snapshot(GetLatestSnapshot(), body);
                else
                    body();
            });
        });
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(rebuild.memory);
        error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(before);
    CurrentResourceOwner = owner;
    return error;
}

// Whether a lock was not to be had in time: a reason to try again.
bool timed_out(const ErrorData *error);

// Leaves nothing behind but the row that tells of it, and raises the error.
[[noreturn]] void give_up(Rebuild &rebuild, ErrorData *error);

// One step, and its commit.
template <class Body>
void step(Rebuild &rebuild, Body &&body) {
    if (ErrorData *error = attempt(rebuild, true, body)) give_up(rebuild, error);
    SPI_commit();
}

// What others see from now on. `total`: -1 for not known.
void enter(Rebuild &rebuild, const char *phase, int64 total = -1);
// Within a step.
void note_progress(Rebuild &rebuild, int64 done, int64 total);
// Tells the caller, every ten seconds, how far a long phase has come. `told`: when he was told last.
void notice_progress(Rebuild &rebuild, TimestampTz &told, int64 done, int64 total);

// Locks that outlive transactions, until they are released here or the rebuild ends. As LockRelationOid.
void lock_for_session(Rebuild &rebuild, Oid relation, LOCKMODE mode);
void release_session_locks(Rebuild &rebuild);

// Pauses between attempts; gives up on cancel.
void wait_a_moment(Rebuild &rebuild, long milliseconds);

} // namespace rebuild
