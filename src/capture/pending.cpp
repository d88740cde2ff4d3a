#include "capture/pending.hpp"

namespace capture {

constinit int delta_memory = 65536;

namespace {

struct Transaction {
    MemoryContext memory;
    pg::vector<Pending *> pendings;
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
    TupleDescInitEntry(desc, static_cast<AttrNumber>(columns + 1), weight_column, INT8OID, -1, 0);
    return desc;
}

Position position(const Pending &pending) {
    Position now{pending.folds.size(), pending.flushed_folds, pending.cleared, pending.flushing, {}};
    for (const Log &log : pending.logs) now.logs.push_back({log.end, log.flushed});
    return now;
}

void restore(Pending &pending, const Position &then) {
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

Pending *find_pending(Oid projection) {
    if (transaction == nullptr) return nullptr;
    for (Pending *each : transaction->pendings)
        if (each->projection->relation == projection) return each;
    return nullptr;
}

Pending &pending(catalog::Projection *projection) {
    bool applied = projection->flow == catalog::Flow::inline_;
    if (Pending *known = find_pending(projection->relation)) {
        if (known->projection == projection && known->folded == (known->block->folds() && applied)) return *known;
        // Paused, resumed or altered meanwhile: a rollback to a savepoint has released the lock on the source that
        // holds that off, and undone all that was pending. (test/isolation/specs/async_pause.spec, alter.spec)
        forget(projection->relation);
    }
    const compile::Block &block = projection->block();
    return *pg::within(memory(), [&] {
        Pending *made = pg::make<Pending>(memory());
        made->projection = projection;
        made->block = &block;
        // A change log takes rows: it is consumed by a plan that may differ, and under another snapshot.
        made->folded = block.folds() && applied;
        if (!made->folded) {
            made->logs.resize(block.sources.size());
            for (std::size_t i = 0; i < block.sources.size(); i++) made->logs[i].desc = log_desc(block.sources[i]);
        }
        transaction->pendings.push_back(made);
        return made;
    });
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

void forget(Oid projection) {
    if (transaction == nullptr) return;
    auto &list = transaction->pendings;
    list.erase(std::remove_if(list.begin(), list.end(),
                              [&](Pending *each) { return each->projection->relation == projection; }),
               list.end());
}

void remember_position(Pending &pending) {
    int level = GetCurrentTransactionNestLevel();
    SubTransactionId now = GetCurrentSubTransactionId();
    if (level <= 1 || (!pending.marks.empty() && pending.marks.back().subtransaction == now)) return;
    pg::within(memory(), [&] { pending.marks.push_back(Mark{now, level, position(pending)}); });
}

Fold &open_fold(Pending &pending) {
    remember_position(pending);
    std::size_t floor = pending.flushed_folds;
    if (!pending.marks.empty()) floor = std::max(floor, pending.marks.back().position.folds);
    if (pending.folds.size() <= floor)
        pg::within(memory(), [&] { pending.folds.push_back(pg::make<Fold>(memory(), *pending.block, memory())); });
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
        // Merge the released folds into one, and into the parent's open one, so that many savepoints do not pile up.
        std::size_t floor = each->flushed_folds;
        if (!each->marks.empty()) floor = std::max(floor, each->marks.back().position.folds);
        for (std::size_t i = floor + 1; i < each->folds.size(); i++) {
            each->folds[floor]->merge(*each->folds[i]);
            each->folds[i]->free();
        }
        if (each->folds.size() > floor + 1) each->folds.resize(floor + 1);
    }
}

void subtransaction_aborted(SubTransactionId sub) {
    for (Pending *each : all_pending()) {
        if (each->marks.empty() || each->marks.back().subtransaction != sub) continue;
        Mark rolled_back = each->marks.back();
        each->marks.pop_back();
        pg::within(memory(), [&] { restore(*each, rolled_back.position); });
    }
}

void release_applied() {
    for (Pending *each : all_pending()) {
        if (!each->marks.empty() || each->flushing) continue;
        for (std::size_t i = 0; i < each->flushed_folds; i++) each->folds[i]->free();
        each->folds.erase(each->folds.begin(), each->folds.begin() + static_cast<std::ptrdiff_t>(each->flushed_folds));
        each->flushed_folds = 0;
        for (Log &log : each->logs) {
            if (log.store == nullptr || !log.empty()) continue;
            tuplestore_end(log.store);
            log.store = nullptr;
            log.end = log.flushed = 0;
            log.dead.clear();
        }
    }
}

void transaction_ended() { transaction = nullptr; }

} // namespace capture
