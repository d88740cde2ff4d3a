// Flush.
//
// Every flush takes what is pending for one projection at a time, upstream first: applying it fires the capture
// triggers of the projections below, whose turn comes later. The transaction's positions move before anything is
// applied, so a trigger of a user on a projection that changes a source adds to what is pending and is reached in a
// later round.
//
// A block that joins (or has to read its source again) must not be flushed while a statement that writes one of its
// sources is unfinished: AFTER ROW triggers run when all rows of the statement are visible, so a join with the sources'
// tables would count rows that are captured only later (test: sql/flush).
#include "maintain/flush.hpp"

#include "capture/missed.hpp"
#include "capture/trigger.hpp"
#include "catalog/settings.hpp"
#include "maintain/apply.hpp"
#include "maintain/chains.hpp"
#include "maintain/locks.hpp"
#include "maintain/log.hpp"
#include "maintain/maintaining.hpp"
#include "maintain/missed.hpp"
#include "maintain/reliance.hpp"

namespace maintain {

using capture::Pending;
using catalog::Projection;

constinit Writing *innermost = nullptr;
constinit ApplyQueued apply_queued = nullptr;
constinit FlushEnded flush_ended = nullptr;
constinit Refreshed refreshed = nullptr;

namespace {

void explain_null(const Statements &named) {
    errdetail("The key of projection %s is (%s), and there can be no NULL in it.", named.known_name, named.key);
    if (named.key_not_null)
        errhint("Give the rows of its sources a value there. Or let its key have NULLs: CALL projections.alter(%s, "
                "options => '{\"key_not_null\": null}');",
                quote_literal_cstr(named.known_name));
    else
        errhint("Give the rows of its sources a value there. SELECT * FROM projections.validate(); says whether one of "
                "them has lost its NOT NULL.");
}

} // namespace

// Every error of maintenance names the projection. Of the server's limits, an index row's is the one that data can hit.
void name_projection(void *argument) {
    auto *named = static_cast<Statements *>(argument);
    if (geterrcode() == ERRCODE_NOT_NULL_VIOLATION &&
        pg::is_about_column(named->schema, named->table, named->key_names))
        explain_null(*named);
    if (geterrcode() == ERRCODE_PROGRAM_LIMIT_EXCEEDED) {
        errcode(pg::error::key_too_wide);
        errhint("The key of the projection is (%s). Group by something shorter, such as md5() of the wide column.",
                named->key);
    }
    errcontext("maintenance of projection %s", named->name);
}

namespace {

constexpr int max_rounds = 1000;

bool is_logged(const Pending *pending) { return pending->projection->flow == catalog::Flow::log; }

bool must_wait(const Pending &pending) {
    if (pending.block == nullptr) return false;
    bool reads = pending.block->reads_sources() || pending.cleared;
    for (std::size_t i = pending.flushed_folds; i < pending.folds.size(); i++) reads |= pending.folds[i]->special();
    if (!reads) return false;
    for (const compile::Source &source : pending.block->sources)
        if (capture::half_written(source.relation)) return true;
    return false;
}

// Moves the pending entries into `taken`. As the owner.
void take(Pending &pending, Taken &taken) {
    capture::remember_position(pending);
    taken.command = GetCurrentCommandId(false);
    taken.cleared = pending.cleared;
    pending.cleared = false;
    if (pending.folded) {
        if (!taken.cleared) {
            // The only fold is used as it is; several are merged into a new one, for a rollback may need them again.
            std::size_t count = pending.folds.size() - pending.flushed_folds;
            if (count == 1)
                taken.fold = pending.folds.back();
            else {
                taken.fold = pg::make<capture::Fold>(taken.memory, *pending.block, taken.memory);
                for (std::size_t i = pending.flushed_folds; i < pending.folds.size(); i++)
                    taken.fold->merge(*pending.folds[i]);
            }
        }
        pending.flushed_folds = pending.folds.size();
        return;
    }
    for (capture::Log &log : pending.logs) {
        int64 rows = taken.cleared ? 0 : pending_row_count(log, log.flushed, log.end);
        taken.rows.push_back(rows ? pending_rows(log, log.flushed, log.end) : nullptr);
        taken.row_counts.push_back(rows);
        taken.descs.push_back(log.desc);
        log.flushed = log.end;
    }
}

void end_taken(Pending &pending, Taken &taken, MemoryContext before) {
    for (std::size_t i = 0; i < taken.rows.size(); i++)
        if (taken.rows[i] && taken.rows[i] != pending.logs[i].store) tuplestore_end(taken.rows[i]);
    pending.flushing = false;
    MemoryContextSwitchTo(before);
    MemoryContextDelete(taken.memory);
}

} // namespace

void refuse_swapped(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return;
    TransactionId changed = HeapTupleHeaderGetXmin(tuple->t_data);
    ReleaseSysCache(tuple);
    if (!TransactionIdIsNormal(changed) || TransactionIdIsCurrentTransactionId(changed) ||
        !XidInMVCCSnapshot(changed, GetTransactionSnapshot()))
        return;
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("could not serialize access: projection %s was created or put in place since",
                           pg::qualified_name(relation)),
                    errdetail("The transaction's snapshot is older."), errhint("Retry the transaction.")));
}

namespace {

// Events for a reducer or a state machine. What the transaction may write no more does not hold for what follows from
// what it has written.
void flush_events(Pending &pending) {
    Projection &projection = *pending.projection;
    if (IsolationUsesXactSnapshot()) refuse_swapped(projection.relation);
    capture::remember_position(pending);
    capture::Log &log = pending.logs.front();
    Tuplestorestate *rows = pending_rows(log, log.flushed, log.end);
    log.flushed = log.end;
    pending.flushing = true;
    if (projection.may_read()) {
        check_reliance(projection);
        writing_as(InvalidOid, [&] { apply_queued(projection, rows, log.desc); });
    } else
        capture::miss(projection.relation);
    if (rows != log.store) tuplestore_end(rows);
    pending.flushing = false;
}

void flush_one(Pending &pending, bool at_commit) {
    if (pending.block == nullptr) return flush_events(pending);
    Projection &projection = *pending.projection;
    if (IsolationUsesXactSnapshot() && projection.flow == catalog::Flow::inline_) refuse_swapped(projection.relation);
    renew_statements(projection);
    MemoryContext memory = AllocSetContextCreate(capture::memory(), "projection flush", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    // In that memory as a whole: nothing of it is destroyed before.
    Taken &taken = *new (palloc(sizeof(Taken))) Taken{projection, *pending.block, memory};
    pg::as_owner(projection.owner(), [&] { take(pending, taken); });
    pending.flushing = true;
    if (!projection.may_read()) { // since it was captured
        capture::miss(projection.relation);
        end_taken(pending, taken, before);
        return;
    }
    check_reliance(projection);
    const compile::Block &block = taken.block;

    if (projection.flow == catalog::Flow::log) {
        maintaining(projection, [&] { with_statements(projection, [&] { append_changes(taken); }); });
        end_taken(pending, taken, before);
        return;
    }
    if (block.joins()) {
        int changed = 0, source = 0;
        for (std::size_t i = 0; i < taken.rows.size(); i++)
            if (taken.rows[i]) changed++, source = static_cast<int>(i);
        if (!at_commit) lock_early(block);
        bool alone = taken.cleared || changed != 1 || block.meets_itself(source);
        lock_sources(block, source, alone);
        // Writers of a bag go one at a time anyway.
        if (!alone && !block.counts_equal_rows()) taken.asked_source = source;
    }
    if (block.is_bag()) lock_block(block);

    TimestampTz began = block.refreshes() ? GetCurrentTimestamp() : 0;
    maintaining(projection, [&] {
        if (taken.fold)
            apply_fold(taken);
        else if (find_chains(taken))
            apply_chained(taken);
        else
            with_statements(projection, [&] { apply_logged(taken); });
    });
    if (block.refreshes()) refreshed(projection.relation, began);
    end_taken(pending, taken, before);
}

// What the error takes back with the transaction is told by health() all the same. (Test: sql/flush_failures)
void flush_told(Pending &pending, bool at_commit) {
    Oid relation = pending.relation;
    PG_TRY();
    { flush_one(pending, at_commit); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(capture::memory());
        flush_ended(relation, CopyErrorData());
        PG_RE_THROW();
    }
    PG_END_TRY();
    flush_ended(relation, nullptr);
}

// What is to be flushed, upstream first. It is looked for once for all projections of a depth, as applying one adds to
// those below it; anew where a user's trigger has added to what comes before the rest.
class Order {
public:
    // Null where nothing is `ready`.
    template <class Ready>
    Pending *next(Ready &&ready) {
        do
            while (at_ < found_.size() && is_all_up_to(found_[at_]->projection->depth)) {
                Pending *pending = found_[at_++];
                if (ready(pending)) return pending;
            }
        while (find(ready));
        return nullptr;
    }
    int rounds() const { return rounds_; }

private:
    bool is_all_up_to(int depth) const {
        const auto &now = capture::additions_by_depth();
        std::size_t count = std::min<std::size_t>(now.size(), static_cast<std::size_t>(depth) + 1);
        return count <= additions_.size() && std::equal(now.begin(), now.begin() + count, additions_.begin());
    }
    template <class Ready>
    bool find(Ready &&ready) {
        const auto &now = capture::additions_by_depth();
        additions_.assign(now.begin(), now.end());
        at_ = 0;
        rounds_++;
        found_.clear();
        for (Pending *pending : capture::all_pending())
            if (ready(pending)) found_.push_back(pending);
        std::sort(found_.begin(), found_.end(), [](const Pending *a, const Pending *b) {
            int left = a->projection->depth, right = b->projection->depth;
            return left != right ? left < right : a->relation < b->relation;
        });
        return !found_.empty();
    }

    pg::vector<Pending *> found_;
    pg::vector<int64> additions_; // as they were when it was found
    std::size_t at_ = 0;
    int rounds_ = 0;
};

template <class Wanted>
bool flush(bool at_commit, Wanted &&wanted) {
    pg::vector<Projection *> roots;
    auto ready = [&](Pending *pending) {
        return !pending->flushing && !pending->empty() && capture::in_force(*pending) && wanted(pending->projection) &&
               (at_commit || is_logged(pending) || !must_wait(*pending));
    };
    for (Pending *pending : capture::all_pending())
        if (ready(pending)) roots.push_back(pending->projection);
    if (roots.empty()) return false;
    AcceptInvalidationMessages(); // a REVOKE's: the locks may be held already
    lock_relations({roots.data(), roots.size()}, false);
    CommandCounterIncrement();
    check_reliance_of_many({roots.data(), roots.size()});

    Order order;
    while (Pending *next = order.next(ready)) {
        CHECK_FOR_INTERRUPTS();
        if (order.rounds() > max_rounds)
            ereport(ERROR, (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
                            errmsg("maintenance of projections did not come to an end after %d rounds", max_rounds),
                            errdetail("A trigger on projection %s, or on one below it, keeps changing a source.",
                                      next->projection->name()),
                            errhint("Make the trigger change nothing when there is nothing to do.")));
        flush_told(*next, at_commit);
        CommandCounterIncrement();
        capture::release_applied(*next);
    }
    capture::release_applied();
    return true;
}

bool is_or_feeds(Projection *projection, Oid relation) {
    if (projection->relation == relation) return true;
    for (Projection *below : catalog::over(projection->relation))
        if (is_or_feeds(below, relation)) return true;
    return false;
}

// Whether rows may be in a table that the projection follows from, near or far, and not captured yet.
bool half_written(const Projection &projection) {
    if (projection.flow == catalog::Flow::events) return false; // it goes by positions
    for (Oid source : projection.sources) {
        const Projection *upstream = catalog::projection(source);
        if (capture::half_written(source) || (upstream && half_written(*upstream))) return true;
    }
    return false;
}

// Whether what one of the transaction's deltas holds is neither applied nor logged yet.
bool unsettled(Oid relation) {
    for (Pending *pending : capture::all_pending())
        if ((pending->flushing || !pending->empty()) && capture::in_force(*pending) &&
            is_or_feeds(pending->projection, relation))
            return true;
    return false;
}

} // namespace

void settle(Projection &projection, const char *action) {
    flush(false, [&](Projection *each) { return is_or_feeds(each, projection.relation); });
    if (unsettled(projection.relation) || half_written(projection))
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_IN_USE),
                 errmsg("cannot %s projection %s while a statement is writing its sources", action, projection.name()),
                 errdetail("A part of the statement's changes is not known yet."),
                 errhint("Do it in a statement of its own.")));
    CommandCounterIncrement();
}

static void flush_pending_at_commit() {
    if (!capture::anything_pending()) return;
    // Events that are deferred from here on would be dropped without a word, a violated constraint's among them: what a
    // user's trigger on a projection writes is checked at once.
    ConstraintsSetStmt *immediate = makeNode(ConstraintsSetStmt);
    AfterTriggerSetState(immediate);
    // The statement's timeout ended with the statement.
    bool timed = StatementTimeout > 0 && !get_timeout_active(STATEMENT_TIMEOUT);
    if (timed) enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
    // At commit no snapshot is left active, without which functions may not run SQL. Statements take their own, newer
    // ones.
    pg::with_snapshot(GetTransactionSnapshot(), [] { flush(true, [](Projection *) { return true; }); });
    if (timed) disable_timeout(STATEMENT_TIMEOUT, false);
}

void flush_at_commit() {
    flush_pending_at_commit();
    mark_missed();
}

bool flush_for_read(std::span<const Oid> relations) {
    return flush(false, [&](Projection *projection) {
        if (projection->flow == catalog::Flow::log) return false; // it helps no reader before the commit
        for (Oid relation : relations)
            if (is_or_feeds(projection, relation)) return true;
        return false;
    });
}

bool flush_for_any_read() {
    return flush(false, [](Projection *projection) { return projection->flow == catalog::Flow::inline_; });
}

void flush_after_statement(bool all) {
    if (!capture::anything_pending()) return;
    flush(false, [&](Projection *projection) {
        return projection->kind == catalog::Kind::state_machine || (all && projection->flow == catalog::Flow::inline_);
    });
}

void flush_logs() {
    flush(false, [](Projection *) { return true; });
}

void flush_early(Oid projection) {
    flush(false, [&](Projection *each) { return each->relation == projection; });
}

int64 recompute_keys(Projection &projection, Tuplestorestate *keys, TupleDesc desc, Recompute how) {
    projection.require_rights();
    if (how.snapshot == nullptr) settle(projection, "recompute");
    const compile::Block &block = projection.block();
    Projection *root = &projection;
    lock_relations({&root, 1});
    renew_statements(projection);
    if (block.joins()) lock_sources(block, 0, true);
    int64 written = 0;
    if (block.slices_of_rows()) {
        maintaining(projection, [&] { written = recompute_slices(projection, keys, desc, how); });
        return written;
    }
    maintaining(projection, [&] {
        lock_slices(projection, keys, desc);
        with_statements(projection, [&] {
            lock_rows(projection, keys, desc); // in the order of keys, as every writer; then read: see apply.cpp
            written = apply_recomputed(projection, CurrentMemoryContext, keys, desc, how);
        });
    });
    return written;
}

bool writing(Oid projection, int depth) {
    return innermost != nullptr && innermost->relation == projection && depth == innermost->trigger_depth + 1;
}

} // namespace maintain
