// The lists of the transaction's folds and logs, and the marks by which a rollback to a savepoint sets them back.
#include "capture/pending.hpp"

#include "capture/missed.hpp"
#include "compile/terms.hpp"

namespace capture {

constinit int delta_memory = 65536;

namespace {

struct Transaction {
    MemoryContext memory;
    pg::vector<Pending *> pendings;
    pg::flat_map<Oid, Pending *> by_relation; // the first one of each
    pg::vector<int64> additions;              // by depth
};

constinit Transaction *transaction = nullptr;

Transaction &current() {
    if (transaction == nullptr) {
        MemoryContext memory = AllocSetContextCreate(TopTransactionContext, "projection deltas", ALLOCSET_SMALL_SIZES);
        transaction = pg::make<Transaction>(memory);
        transaction->memory = memory;
    }
    return *transaction;
}

// The columns of a log: the source's used columns, under their names of today, and the weight.
TupleDesc log_desc(const compile::Source &source) {
    int columns = static_cast<int>(source.used.size());
    TupleDesc desc = CreateTemplateTupleDesc(columns + 1);
    for (int i = 0; i < columns; i++) {
        Oid type, collation;
        int32 typmod;
        get_atttypetypmodcoll(source.relation, source.used[i], &type, &typmod, &collation);
        auto number = static_cast<AttrNumber>(i + 1);
        TupleDescInitEntry(desc, number, get_attname(source.relation, source.used[i], false), type, typmod, 0);
        TupleDescInitEntryCollation(desc, number, collation);
    }
    TupleDescInitEntry(desc, static_cast<AttrNumber>(columns + 1), compile::weight_column(source.relation), INT8OID, -1,
                       0);
    return desc;
}

// Events are kept as rows of their source.
TupleDesc row_desc(Oid source) {
    Relation table = table_open(source, AccessShareLock);
    TupleDesc desc = CreateTupleDescCopy(RelationGetDescr(table));
    table_close(table, AccessShareLock);
    return desc;
}

Position position(const Pending &pending) {
    Position now{pending.folds.size(), pending.flushed_folds, pending.cleared, pending.flushing, {}};
    for (const Log &log : pending.logs) now.logs.push_back({log.end, log.flushed});
    return now;
}

void count_addition(const Pending &pending) {
    auto depth = static_cast<std::size_t>(pending.projection->depth);
    if (transaction->additions.size() <= depth) transaction->additions.resize(depth + 1, 0);
    transaction->additions[depth]++;
}

void restore(Pending &pending, const Position &then) {
    count_addition(pending); // what had been applied is pending again
    for (std::size_t i = then.folds; i < pending.folds.size(); i++) pending.folds[i]->free();
    pending.folds.resize(then.folds);
    pending.flushed_folds = then.flushed_folds;
    pending.cleared = then.cleared;
    pending.flushing = then.flushing;
    for (std::size_t i = 0; i < pending.logs.size(); i++) {
        Log &log = pending.logs[i];
        // Ranges that an inner rollback left dead lie within the one that dies now.
        while (!log.dead.empty() && log.dead.back().from >= then.logs[i].first) log.dead.pop_back();
        if (log.end > then.logs[i].first) log.dead.push_back({then.logs[i].first, log.end});
        log.flushed = then.logs[i].second;
    }
}

template <class Visit>
void live_ranges(const Log &log, int64 from, int64 to, Visit &&visit) {
    for (const Log::Range &dead : log.dead) {
        if (dead.to <= from) continue;
        if (dead.from >= to) break;
        if (dead.from > from) visit(from, dead.from);
        from = dead.to;
    }
    if (from < to) visit(from, to);
}

} // namespace

bool Log::empty() const { return pending_row_count(*this, flushed, end) == 0; }

bool Pending::empty() const {
    if (cleared || flushed_folds < folds.size()) return false;
    for (const Log &log : logs)
        if (!log.empty()) return false;
    return true;
}

MemoryContext memory() { return current().memory; }

// A change log takes rows: it is consumed by a plan that may differ, and under another snapshot.
static bool folds_now(const Pending &pending, const catalog::Projection &projection) {
    return pending.may_fold && projection.flow == catalog::Flow::inline_;
}

static bool is_of(const Pending &pending, const catalog::Projection &projection) {
    return pending.relation == projection.relation && pending.definition == projection.definition &&
           pending.folded == folds_now(pending, projection);
}

bool in_force(Pending &pending) {
    catalog::Projection *declared = catalog::projection(pending.relation);
    if (declared == nullptr || !is_of(pending, *declared)) return false;
    pending.projection = declared; // another one where a DROP was rolled back
    return true;
}

// Where a projection was paused, resumed or altered meanwhile, by this transaction or, after a rollback to a savepoint
// that released the lock on the source, by another one, what it was has an entry of its own, with nothing pending.
// (test/isolation/specs/async_pause.spec, alter.spec)
static Pending *find_pending(catalog::Projection &projection) {
    auto first = current().by_relation.find(projection.relation);
    Pending *found = first == transaction->by_relation.end() ? nullptr : first->second;
    while (found && !is_of(*found, projection)) found = found->other;
    return found;
}

static Pending *make_pending(catalog::Projection *projection) {
    const compile::Block *block = projection->kind == catalog::Kind::query ? &projection->block() : nullptr;
    return pg::within(memory(), [&] {
        Pending *made = pg::make<Pending>(memory());
        made->relation = projection->relation;
        made->definition = projection->definition;
        made->may_fold = block && block->folds();
        made->folded = folds_now(*made, *projection);
        made->projection = projection;
        made->block = block;
        if (block == nullptr) {
            made->logs.resize(1);
            made->logs.front().desc = row_desc(projection->sources.front());
        } else if (!made->folded) {
            made->logs.resize(block->sources.size());
            for (std::size_t i = 0; i < block->sources.size(); i++) made->logs[i].desc = log_desc(block->sources[i]);
        }
        transaction->pendings.push_back(made);
        Pending *&first = transaction->by_relation[made->relation];
        made->other = first;
        first = made;
        return made;
    });
}

Pending &pending(catalog::Projection *projection) {
    // Each changed row asks for each projection over its table.
    if (projection->delta_in != catalog::transaction_number() || !is_of(*projection->delta, *projection)) {
        Pending *known = find_pending(*projection);
        projection->delta = known ? known : make_pending(projection);
        projection->delta_in = catalog::transaction_number();
    }
    projection->delta->projection = projection;
    return *projection->delta;
}

std::span<Pending *const> all_pending() {
    if (transaction == nullptr) return {};
    return {transaction->pendings.data(), transaction->pendings.size()};
}

bool anything_pending() {
    for (Pending *each : all_pending())
        if (!each->empty()) return true;
    return false;
}

void remember_position(Pending &pending) {
    int level = GetCurrentTransactionNestLevel();
    SubTransactionId now = GetCurrentSubTransactionId();
    if (level <= 1 || (!pending.marks.empty() && pending.marks.back().subtransaction == now)) return;
    pg::within(memory(), [&] { pending.marks.push_back(Mark{now, level, position(pending)}); });
}

void before_more(Pending &pending) {
    remember_position(pending);
    count_addition(pending);
}

const pg::vector<int64> &additions_by_depth() { return current().additions; }

// The first fold that is not flushed and that no rollback to an open savepoint leaves.
static std::size_t first_open(const Pending &pending) {
    return pending.marks.empty() ? pending.flushed_folds
                                 : std::max(pending.flushed_folds, pending.marks.back().position.folds);
}

// Those of released subtransactions become one, so that many savepoints do not pile up. Not when they are released:
// keys are compared, by functions of users too, which the end of a subtransaction can run neither as the owner nor at
// all.
static void merge_released(Pending &pending) {
    std::size_t floor = first_open(pending);
    if (pending.folds.size() <= floor + 1) return;
    for (std::size_t i = floor + 1; i < pending.folds.size(); i++) {
        pending.folds[floor]->merge(*pending.folds[i]);
        pending.folds[i]->free();
    }
    pending.folds.resize(floor + 1);
}

Fold &open_fold(Pending &pending) {
    merge_released(pending);
    before_more(pending);
    std::size_t floor = first_open(pending);
    if (pending.folds.size() <= floor)
        pg::within(memory(), [&] {
            if (pending.scratch == nullptr)
                pending.scratch = AllocSetContextCreate(memory(), "projection delta row", ALLOCSET_SMALL_SIZES);
            pending.folds.push_back(pg::make<Fold>(memory(), *pending.block, memory(), pending.scratch));
        });
    return *pending.folds.back();
}

void append(Log &log, const Datum *values, const bool *nulls) {
    if (log.store == nullptr) {
        // The file that a spill makes must outlive the subtransaction that happens to be current.
        ResourceOwner owner = CurrentResourceOwner;
        CurrentResourceOwner = TopTransactionResourceOwner;
        pg::within(memory(), [&] { log.store = tuplestore_begin_heap(true, false, delta_memory); });
        CurrentResourceOwner = owner;
    }
    tuplestore_putvalues(log.store, log.desc, const_cast<Datum *>(values), const_cast<bool *>(nulls));
    log.end++;
}

int64 pending_row_count(const Log &log, int64 from, int64 to) {
    int64 count = 0;
    live_ranges(log, from, to, [&](int64 begin, int64 end) { count += end - begin; });
    return count;
}

Tuplestorestate *pending_rows(const Log &log, int64 from, int64 to) {
    if (log.store != nullptr && from == 0 && to == log.end && pending_row_count(log, from, to) == to) return log.store;
    Tuplestorestate *rows = tuplestore_begin_heap(true, false, delta_memory);
    if (log.store == nullptr) return rows;
    TupleTableSlot *slot = MakeSingleTupleTableSlot(log.desc, &TTSOpsMinimalTuple);
    tuplestore_rescan(log.store);
    int64 at = 0;
    live_ranges(log, from, to, [&](int64 begin, int64 end) {
        tuplestore_skiptuples(log.store, begin - at, true);
        for (at = begin; at < end; at++) {
            tuplestore_gettupleslot(log.store, true, false, slot);
            tuplestore_puttupleslot(rows, slot);
        }
    });
    ExecDropSingleTupleTableSlot(slot);
    return rows;
}

void subtransaction_committed(SubTransactionId sub, SubTransactionId parent) {
    missed_in_committed(sub, parent);
    for (Pending *each : all_pending()) {
        if (each->marks.empty() || each->marks.back().subtransaction != sub) continue;
        Mark released = each->marks.back();
        int parent_level = released.level - 1;
        bool parent_has_mark = each->marks.size() > 1 && each->marks[each->marks.size() - 2].subtransaction == parent;
        if (parent_level > 1 && !parent_has_mark) {
            // The parent's rollback has to restore what this one's would have.
            each->marks.back().subtransaction = parent;
            each->marks.back().level = parent_level;
            continue;
        }
        each->marks.pop_back();
    }
}

void subtransaction_aborted(SubTransactionId sub) {
    missed_in_aborted(sub);
    for (Pending *each : all_pending()) {
        if (each->marks.empty() || each->marks.back().subtransaction != sub) continue;
        Mark rolled_back = each->marks.back();
        each->marks.pop_back();
        pg::within(memory(), [&] { restore(*each, rolled_back.position); });
    }
}

void release_applied(Pending &pending) {
    if (!pending.marks.empty() || pending.flushing) return;
    for (std::size_t i = 0; i < pending.flushed_folds; i++) pending.folds[i]->free();
    pending.folds.erase(pending.folds.begin(),
                        pending.folds.begin() + static_cast<std::ptrdiff_t>(pending.flushed_folds));
    pending.flushed_folds = 0;
    for (Log &log : pending.logs) {
        if (log.store == nullptr || !log.empty()) continue;
        tuplestore_end(log.store);
        log.store = nullptr;
        log.end = log.flushed = 0;
        log.dead.clear();
    }
}

void release_applied() {
    for (Pending *each : all_pending()) release_applied(*each);
}

void transaction_ended() {
    transaction = nullptr;
    forget_missed();
}

} // namespace capture
