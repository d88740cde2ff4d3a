// What a plan of nested loops over index scans does, without the plan: the same rows are read under the same snapshot,
// predicate locks included, and conditions are asked where such a plan asks them.
#include "maintain/chains.hpp"

#include "compile/chain.hpp"
#include "maintain/statements.hpp"
#include "pg/query.hpp"

namespace maintain {

using compile::Asked;
using compile::Chain;
using compile::LookUp;
using compile::MatchKey;

namespace {

struct PreparedLookUp {
    const LookUp *of;
    pg::vector<ScanKeyData> scan_keys;
    pg::vector<ExprState *> values;
    int at = 0; // where its columns are in the row
    ExprState *condition = nullptr;
};

} // namespace

struct PreparedChain {
    int occurrence = 0;
    MemoryContext memory = nullptr;
    const Chain *chain = nullptr; // none: a plan is needed
    ExprContext *context = nullptr;
    TupleTableSlot *row = nullptr, *result = nullptr;
    ExprState *condition = nullptr;
    pg::vector<PreparedLookUp> look_ups, asked;
    pg::vector<ExprState *> targets;
    pg::vector<FmgrInfo> equal; // of the presence's keys
};

namespace {

// More keys than these are not compared each with each.
constexpr int64 most_keys = 32;

ExprState *prepare(Node *expression) { return ExecInitExpr(expression_planner(pg::copy<Expr>(expression)), nullptr); }

ExprState *prepare_all(List *conditions) {
    if (conditions == NIL) return nullptr;
    auto *planned = expression_planner(pg::copy<Expr>(conditions));
    return ExecInitQual(reinterpret_cast<List *>(planned), nullptr);
}

PreparedLookUp prepare(const LookUp &look_up) {
    PreparedLookUp prepared{&look_up, {}, {}};
    AttrNumber column = 0;
    for (const compile::Sought &sought : look_up.sought) {
        ScanKeyData key;
        ScanKeyEntryInitialize(&key, 0, ++column, BTEqualStrategyNumber, sought.right_type, sought.collation,
                               get_opcode(sought.equality), 0);
        prepared.scan_keys.push_back(key);
        prepared.values.push_back(prepare(sought.value));
    }
    prepared.condition = prepare_all(look_up.conditions);
    return prepared;
}

void prepare(PreparedChain &to, const compile::Block &block) {
    const Chain *chain = compile::chain_of(block, to.occurrence);
    if (chain == nullptr) return;
    to.context = CreateStandaloneExprContext();
    TupleDesc desc = ExecTypeFromExprList(chain->row);
    to.row = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
    to.condition = prepare_all(chain->conditions);
    auto at = static_cast<int>(chain->given.size());
    for (const LookUp &each : chain->look_ups) {
        to.look_ups.push_back(prepare(each));
        to.look_ups.back().at = at;
        at += static_cast<int>(each.columns.size());
    }
    for (const Asked &each : chain->asked) to.asked.push_back(prepare(each.rows));
    for (Node *each : pg::each<Node>(chain->targets)) to.targets.push_back(prepare(each));
    Node *weight = reinterpret_cast<Node *>(makeVar(1, 1, INT8OID, -1, InvalidOid, 0));
    to.result =
        MakeSingleTupleTableSlot(ExecTypeFromExprList(lappend(list_copy(chain->targets), weight)), &TTSOpsVirtual);
    if (chain->presence)
        for (const MatchKey &key : chain->presence->keys) {
            FmgrInfo equal;
            Oid equality = lookup_type_cache(exprType(key.value), TYPECACHE_EQ_OPR)->eq_opr;
            fmgr_info_cxt(get_opcode(equality), &equal, to.memory);
            to.equal.push_back(equal);
        }
    to.chain = chain;
}

// The term's chain, made when first asked for.
PreparedChain &prepared(catalog::Projection &projection, int occurrence) {
    Statements &kept = statements(projection);
    for (PreparedChain *each : kept.chains)
        if (each->occurrence == occurrence) return *each;
    MemoryContext memory = AllocSetContextCreate(kept.memory, "projection term", ALLOCSET_SMALL_SIZES);
    auto *made = pg::make<PreparedChain>(memory);
    made->occurrence = occurrence;
    made->memory = memory;
    pg::within(memory, [&] { catalog::with_pinned(projection.settings, [&] { prepare(*made, projection.block()); }); });
    kept.chains.push_back(made);
    projection.grew();
    return *made;
}

// Rows of a table that are equal to what the chain's row says. A scan keeps what it allocates until it ends: nothing of
// it is done in a memory that is reset in between.
class Rows {
public:
    Rows(const PreparedLookUp &by, Snapshot snapshot) : by_(by) {
        table_ = table_open(by.of->relation, AccessShareLock);
        index_ = index_open(by.of->index, AccessShareLock);
        scan_ = pg::begin_index_scan(table_, index_, snapshot, static_cast<int>(by.scan_keys.size()));
        found_ = table_slot_create(table_, nullptr);
    }
    // Not in a destructor: an ERROR runs none, and the resource owner has it all.
    void end() {
        ExecDropSingleTupleTableSlot(found_);
        index_endscan(scan_);
        index_close(index_, NoLock);
        table_close(table_, NoLock);
    }

    // Before next(). False where a value is NULL, to which nothing is equal.
    bool seek(ExprContext *context) {
        for (std::size_t i = 0; i < by_.values.size(); i++) {
            keys_[i] = by_.scan_keys[i];
            bool null;
            keys_[i].sk_argument = ExecEvalExprSwitchContext(by_.values[i], context, &null);
            if (null) return false;
        }
        index_rescan(scan_, keys_, static_cast<int>(by_.values.size()), nullptr, 0);
        return true;
    }
    TupleTableSlot *next() { return index_getnext_slot(scan_, ForwardScanDirection, found_) ? found_ : nullptr; }

private:
    const PreparedLookUp &by_;
    Relation table_, index_;
    IndexScanDesc scan_;
    TupleTableSlot *found_;
    ScanKeyData keys_[INDEX_MAX_KEYS];
};

struct Run {
    PreparedChain &chain;
    Receive receive;
    void *to;
    pg::vector<Rows *> look_ups = {}, asked = {};

    void begin(const pg::vector<PreparedLookUp> &all, pg::vector<Rows *> &rows, Snapshot snapshot) {
        for (const PreparedLookUp &each : all) rows.push_back(new (palloc(sizeof(Rows))) Rows(each, snapshot));
    }

    bool holds(ExprState *condition) const { return condition == nullptr || ExecQual(condition, chain.context); }

    // Whether there are more matches than those.
    bool exceeds(std::size_t number, int64 passed) {
        Rows &rows = *asked[number];
        if (!rows.seek(chain.context)) return false;
        for (int64 count = 0; rows.next();) {
            CHECK_FOR_INTERRUPTS();
            if (++count > passed) return true;
        }
        return false;
    }

    // `change`: what the presence's rows that changed net to, else the row's weight.
    void emit(int64 change) {
        int64 weight = change;
        for (std::size_t i = 0; i < asked.size(); i++) {
            const Asked &each = chain.chain->asked[i];
            if (!each.changed) {
                if (exceeds(i, 0) == each.negated) return;
            } else { // see compile/presence_terms.cpp
                if (exceeds(i, std::max<int64>(change, 0))) return;
                weight = (change > 0) != each.negated ? 1 : -1;
            }
        }
        TupleTableSlot *result = ExecClearTuple(chain.result);
        std::size_t columns = chain.targets.size();
        for (std::size_t i = 0; i < columns; i++)
            result->tts_values[i] = ExecEvalExprSwitchContext(chain.targets[i], chain.context, &result->tts_isnull[i]);
        result->tts_values[columns] = Int64GetDatum(weight);
        result->tts_isnull[columns] = false;
        ExecStoreVirtualTuple(result);
        pg::within(chain.context->ecxt_per_tuple_memory, [&] { receive(result, to); });
    }

    void follow(std::size_t step, int64 change) {
        if (step == look_ups.size()) return emit(change);
        const PreparedLookUp &by = chain.look_ups[step];
        Rows &rows = *look_ups[step];
        if (!rows.seek(chain.context)) return;
        while (TupleTableSlot *found = rows.next()) {
            CHECK_FOR_INTERRUPTS();
            for (std::size_t i = 0; i < by.of->columns.size(); i++) {
                std::size_t at = by.at + i;
                chain.row->tts_values[at] = slot_getattr(found, by.of->columns[i], &chain.row->tts_isnull[at]);
            }
            if (holds(by.condition)) follow(step + 1, change);
        }
    }

    // Values stay where they are until the next.
    void row(const Datum *values, const bool *nulls, int64 change) {
        ResetExprContext(chain.context);
        TupleTableSlot *row = ExecClearTuple(chain.row);
        std::size_t given = chain.chain->given.size();
        memcpy(row->tts_values, values, sizeof(Datum) * given);
        memcpy(row->tts_isnull, nulls, sizeof(bool) * given);
        for (std::size_t i = given; i < static_cast<std::size_t>(row->tts_tupleDescriptor->natts); i++)
            row->tts_isnull[i] = true;
        chain.context->ecxt_scantuple = ExecStoreVirtualTuple(row);
        if (holds(chain.condition)) follow(0, change);
    }
};

// How many more rows with the same values there are.
struct Net {
    Datum *values;
    int64 net;
};

bool is_same(const PreparedChain &chain, const Datum *a, const Datum *b) {
    for (std::size_t i = 0; i < chain.equal.size(); i++) {
        Oid collation = exprCollation(chain.chain->presence->keys[i].value);
        if (!DatumGetBool(FunctionCall2Coll(const_cast<FmgrInfo *>(&chain.equal[i]), collation, a[i], b[i])))
            return false;
    }
    return true;
}

// Adds a changed row to what its keys net to; NULLs match nothing.
void count_keys(const PreparedChain &chain, TupleTableSlot *changed, int64 weight, pg::vector<Net> &nets) {
    const auto &given = chain.chain->given;
    auto *values = static_cast<Datum *>(palloc(sizeof(Datum) * given.size()));
    for (std::size_t i = 0; i < given.size(); i++) {
        if (changed->tts_isnull[given[i]]) return;
        Form_pg_attribute column = TupleDescAttr(changed->tts_tupleDescriptor, given[i]);
        values[i] = datumCopy(changed->tts_values[given[i]], column->attbyval, column->attlen);
    }
    for (Net &each : nets)
        if (is_same(chain, each.values, values)) {
            each.net += weight;
            return;
        }
    nets.push_back({values, weight});
}

} // namespace

bool find_chains(Taken &taken) {
    if (taken.cleared) return false;
    int source = -1;
    for (std::size_t i = 0; i < taken.rows.size(); i++) {
        if (!taken.rows[i]) continue;
        if (source >= 0) return false; // terms read old states
        source = static_cast<int>(i);
    }
    if (source < 0 || taken.row_counts[source] > large_delta || taken.block.is_whole() ||
        taken.block.meets_itself(source))
        return false;
    for (int occurrence = 1; occurrence <= static_cast<int>(taken.block.occurrence_source.size()); occurrence++) {
        if (taken.block.occurrence_source[occurrence - 1] != source) continue;
        PreparedChain &chain = prepared(taken.projection, occurrence);
        bool fits = chain.chain && (!chain.chain->presence || taken.row_counts[source] <= most_keys);
        if (!fits) {
            taken.chains.clear();
            return false;
        }
        taken.chains.push_back(&chain);
    }
    return true;
}

void run_chain(PreparedChain &chain, const Taken &taken, Snapshot snapshot, Receive receive, void *context) {
    pg::with_snapshot(snapshot, [&] {
        Run run{chain, receive, context};
        run.begin(chain.look_ups, run.look_ups, snapshot);
        run.begin(chain.asked, run.asked, snapshot);
        Tuplestorestate *rows = taken.rows[chain.chain->source];
        TupleTableSlot *changed = MakeSingleTupleTableSlot(taken.descs[chain.chain->source], &TTSOpsMinimalTuple);
        int weight = changed->tts_tupleDescriptor->natts - 1;
        pg::vector<Net> nets;
        tuplestore_select_read_pointer(rows, 0);
        tuplestore_rescan(rows);
        while (tuplestore_gettupleslot(rows, true, false, changed)) {
            slot_getallattrs(changed);
            int64 change = DatumGetInt64(changed->tts_values[weight]);
            if (chain.chain->presence)
                count_keys(chain, changed, change, nets);
            else
                run.row(changed->tts_values, changed->tts_isnull, change);
        }
        bool nulls[INDEX_MAX_KEYS] = {};
        for (const Net &each : nets)
            if (each.net != 0) run.row(each.values, nulls, each.net);
        ExecDropSingleTupleTableSlot(changed);
        for (Rows *each : run.look_ups) each->end();
        for (Rows *each : run.asked) each->end();
    });
}

} // namespace maintain
