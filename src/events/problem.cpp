// A fixed number of places in shared memory, dealt among owners by place_in(), or in the session where there is none.
#include "events/problem.hpp"

#include "catalog/projection.hpp"
#include "events/blame.hpp"

namespace events {
namespace {

constexpr int64 longest_pause = 60 * 1000;

// Of a session without shared memory.
constinit shared::Problem own[16] = {};

std::span<shared::Problem> problems() {
    return shared::memory ? std::span<shared::Problem>(shared::memory->problems) : std::span<shared::Problem>(own);
}

template <class Body>
auto with_problems(LWLockMode mode, Body &&body) {
    if (shared::memory) return shared::with_shared(mode, body);
    return body();
}

bool is(const shared::Problem &problem, Work work) {
    return problem.database == MyDatabaseId && problem.projection == work.projection && problem.slot == work.slot;
}

shared::Problem *place_for(Work work) {
    shared::Problem *place =
        shared::memory ? shared::place_in(shared::memory->problems, &shared::Problem::owner, &shared::Problem::last)
                       : shared::place_in(own, &shared::Problem::owner, &shared::Problem::last);
    *place = {};
    place->database = MyDatabaseId;
    place->projection = work.projection;
    place->owner = work.owner;
    place->slot = work.slot;
    place->since = GetCurrentTimestamp();
    return place;
}

void describe(shared::Problem &problem, const ErrorData *error) {
    problem.sqlstate = error->sqlerrcode;
    strlcpy(problem.message, error->message ? error->message : "", sizeof problem.message);
    problem.message[pg_mbcliplen(problem.message, strlen(problem.message), sizeof problem.message - 1)] = '\0';
}

bool on_own_account(const ErrorData *error) {
    return blame(error) == Blame::either || error->sqlerrcode == pg::error::projection_stale;
}

// Whether a flush has failed since all was well. Read without the lock: who has just failed sees it, and others soon
// do.
constinit bool own_flush_failed = false;
bool &flush_failed() { return shared::memory ? shared::memory->flush_failed : own_flush_failed; }

// A worker's pause does not hold for what somebody has tried by hand.
void note(Work work, const ErrorData *error) {
    with_problems(LW_EXCLUSIVE, [&] {
        shared::Problem *known = find_problem(work);
        shared::Problem *problem = known ? known : place_for(work);
        describe(*problem, error);
        problem->last = GetCurrentTimestamp();
        problem->failures++;
    });
}

Oid owner_of(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return InvalidOid;
    Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

} // namespace

shared::Problem *find_problem(Work work) {
    for (shared::Problem &each : problems())
        if (is(each, work)) return &each;
    return nullptr;
}

TimestampTz record_problem(Work work, const ErrorData *error) {
    return with_problems(LW_EXCLUSIVE, [&] {
        shared::Problem *known = find_problem(work);
        shared::Problem *problem = known ? known : place_for(work);
        describe(*problem, error);
        problem->last = GetCurrentTimestamp();
        int64 pause = int64{1000} << std::min(problem->failures++, 6);
        return problem->retry = TimestampTzPlusMilliseconds(problem->last, std::min(pause, longest_pause));
    });
}

void forget_problem(Work work) {
    with_problems(LW_EXCLUSIVE, [&] {
        for (shared::Problem &each : problems())
            if (is(each, work)) each = {};
    });
}

TimestampTz put_off_until(Work work) {
    return with_problems(LW_SHARED, [&] {
        shared::Problem *known = find_problem(work);
        return known ? known->retry : TimestampTz{0};
    });
}

std::span<const shared::Problem> all_problems() {
    std::span<shared::Problem> all = problems();
    auto *copy = static_cast<shared::Problem *>(palloc(all.size_bytes()));
    with_problems(LW_SHARED, [&] { memcpy(static_cast<void *>(copy), all.data(), all.size_bytes()); });
    return {copy, all.size()};
}

void flush_ended(Oid projection, const ErrorData *error) {
    if (error == nullptr && !flush_failed()) return;
    if (error && !on_own_account(error)) return;
    if (shared::memory && LWLockHeldByMe(shared::memory->lock)) return;
    Work work{projection, flush_slot, InvalidOid};
    if (error == nullptr) {
        forget_problem(work);
        with_problems(LW_EXCLUSIVE, [&] {
            flush_failed() = std::any_of(problems().begin(), problems().end(), [](const shared::Problem &each) {
                return OidIsValid(each.database) && each.slot == flush_slot;
            });
        });
        return;
    }
    work.owner = catalog::projection(projection) ? owner_of(projection) : InvalidOid;
    note(work, error);
    flush_failed() = true;
}

void batch_ended(Oid projection, int slot, const ErrorData *error) {
    if (error && (blame(error) == Blame::environment || (shared::memory && LWLockHeldByMe(shared::memory->lock))))
        return;
    Work work{projection, slot, InvalidOid};
    if (error == nullptr) return forget_problem(work);
    work.owner = owner_of(projection);
    note(work, error);
}

} // namespace events
