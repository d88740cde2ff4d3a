// Claims and slow batches in shared memory, and the rules by which a worker leaves room for others.
#include "workers/claims.hpp"

#include "events/problem.hpp"

namespace workers {
namespace {

// For how long a slow batch is remembered: so many times as long as it took, and twice as long each time that another
// follows. One that a lock or a busy machine has held up is forgiven soon; what is slow every time leaves its room to
// others. (Test: t/012_worker_limits)
constexpr int64 remember_times = 20;

// Batches of the projection were slow lately or, where there are several owners, of any that its owner has: he could
// have more of them than are remembered.
bool marked_slow(Oid projection, Oid owner, TimestampTz now) {
    return std::any_of(std::begin(shared::memory->slow), std::end(shared::memory->slow), [&](const Slow &each) {
        return each.database == MyDatabaseId && each.until > now &&
               (each.projection == projection || (owner_count > 1 && each.owner == owner));
    });
}

bool in_batch(Worker &worker) { return serves(worker, MyDatabaseId) && OidIsValid(worker.projection); }

} // namespace

int held_by(Oid owner) {
    auto all = shared::memory->all();
    return std::count_if(all.begin(), all.end(),
                         [&](Worker &worker) { return in_batch(worker) && worker.owner == owner; });
}

namespace {

// Slow projections together leave one worker to the others, and so to owners who hold none: with what is slow itself,
// they may take the last one.
bool must_leave_room(const events::Work &work, TimestampTz now) {
    if (max_workers < 2 || !marked_slow(work.projection, work.owner, now)) return false;
    int occupied = 0;
    for (Worker &worker : shared::memory->all())
        if (&worker != me && in_batch(worker) &&
            (marked_slow(worker.projection, worker.owner, now) || batch_milliseconds(worker, now) > slow_after))
            occupied++;
    return occupied >= max_workers - 1 && (owner_count < 2 || held_by(work.owner) > 0);
}

} // namespace

// Slow projections may not have been known as such, and have taken all workers: then one gives up its batch, of those
// of the owner who holds most the one that began last. Code that catches the cancellation ends with its process, at the
// next call. A signal handler, so without the lock: it may err, at the cost of a batch.
void yield_if_all_are_slow() {
    TimestampTz now = GetCurrentTimestamp();
    int occupied = 0, held = held_by(me->owner);
    if (owner_count > 1 && held < 2) return;
    for (Worker &worker : shared::memory->all()) {
        if (!serves(worker, MyDatabaseId) || batch_milliseconds(worker, now) <= slow_after) continue;
        int others = held_by(worker.owner);
        if (others > held || (others == held && worker.since > me->since)) return;
        occupied++;
    }
    if (occupied < max_workers) return;
    if (yielding) {
        ousted = true;
        ProcDiePending = true;
    }
    yielding = true;
    QueryCancelPending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

bool claim(events::Work work, TimestampTz not_before, int64 limit, long *again) {
    TimestampTz now = GetCurrentTimestamp();
    auto wait_until = [&](TimestampTz time) {
        long wait = TimestampDifferenceMilliseconds(now, time) + 1;
        *again = *again < 0 ? wait : std::min(*again, wait);
    };
    if (not_before > now) {
        wait_until(not_before);
        return false;
    }
    return with_shared(LW_EXCLUSIVE, [&] {
        for (Worker &worker : shared::memory->all())
            if (&worker != me && serves(worker, MyDatabaseId) && worker.projection == work.projection &&
                worker.slot == work.slot)
                return false;
        if (const Problem *problem = events::find_problem(work); problem && problem->retry > now) {
            wait_until(problem->retry);
            return false;
        }
        if (projection_count > 1 && must_leave_room(work, now)) return false;
        me->projection = work.projection;
        me->owner = work.owner;
        me->slot = work.slot;
        me->limit = limit;
        me->since = now;
        return true;
    });
}

namespace {

Slow *find_slow(const events::Work &work) {
    auto &all = shared::memory->slow;
    Slow *found = std::find_if(std::begin(all), std::end(all), [&](const Slow &each) {
        return each.database == MyDatabaseId && each.projection == work.projection;
    });
    return found == std::end(all) ? nullptr : found;
}

} // namespace

void mark_slow(const events::Work &work, TimestampTz now, int64 milliseconds) {
    Slow *slow = find_slow(work);
    int64 before = slow ? slow->milliseconds : 0;
    if (slow == nullptr) slow = place_in(shared::memory->slow, &Slow::owner, &Slow::until);
    int64 remember = std::min(remember_at_most, std::max(remember_times * milliseconds, 2 * before));
    *slow = {MyDatabaseId, work.projection, work.owner, after(now, remember), remember, work.slot};
}

void end_claim(const events::Work &work, int64 events, int64 milliseconds) {
    TimestampTz now = GetCurrentTimestamp();
    with_shared(LW_EXCLUSIVE, [&] {
        me->projection = InvalidOid;
        me->since = now;
        me->events += events;
        if (milliseconds > slow_after)
            mark_slow(work, now, milliseconds);
        else if (Slow *slow = find_slow(work); slow && slow->slot == work.slot && events > 0)
            *slow = {};
    });
}

bool anything_unclaimed(std::span<events::Work> rest) {
    return with_shared(LW_SHARED, [&] {
        return std::any_of(rest.begin(), rest.end(), [](const events::Work &work) {
            for (Worker &worker : shared::memory->all())
                if (serves(worker, MyDatabaseId) && worker.projection == work.projection && worker.slot == work.slot)
                    return false;
            return true;
        });
    });
}

void call_for_company() {
    bool called = with_shared(LW_EXCLUSIVE, [] {
        for (Worker &worker : shared::memory->all()) {
            if (!serves(worker, MyDatabaseId)) continue;
            Phase phase = phase_of(worker);
            // One between batches takes what it finds, too.
            bool looking = &worker != me && phase == Phase::busy && !OidIsValid(worker.projection);
            if (phase == Phase::woken || phase == Phase::starting || looking) return true;
            auto idle = static_cast<uint32>(Phase::idle), resting = static_cast<uint32>(Phase::resting);
            auto woken = static_cast<uint32>(Phase::woken);
            if (pg_atomic_compare_exchange_u32(&worker.phase, &idle, woken) ||
                pg_atomic_compare_exchange_u32(&worker.phase, &resting, woken)) {
                SetLatch(&worker.process->procLatch);
                return true;
            }
        }
        return count_workers(MyDatabaseId) >= max_workers;
    });
    if (!called) with_shared(LW_EXCLUSIVE, [] { announce(MyDatabaseId, false); });
}

} // namespace workers
