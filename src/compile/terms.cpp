// Queries over the sources, with changed rows, old states or other rows in the place of tables.
#include "compile/terms.hpp"

#include "compile/analysis.hpp"
#include "compile/deparse.hpp"
#include "compile/expressions.hpp"
#include "compile/term_parts.hpp"
#include "pg/list.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"

namespace compile {

const char *used_columns(const Source &source) {
    return pg::joined(static_cast<int>(source.used.size()), ", ",
                      [&](int i) { return quote_identifier(get_attname(source.relation, source.used[i], false)); });
}

namespace {

const char *old_state_text(const Source &source, int index) {
    const char *columns = used_columns(source);
    const char *table = pg::qualified_name(source.relation), *weight = weight_column(source.relation);
    // OFFSET 0: the planner cannot make a bare tuplestore scan depend on a join's other side, and without that it gives
    // up the index on the table beside it, too, and reads the whole table for every delta.
    return psprintf("old_%d AS NOT MATERIALIZED (SELECT %s%s1::bigint AS %s FROM %s UNION ALL (SELECT %s%s- %s "
                    "FROM delta_%d OFFSET 0))",
                    index, columns, *columns ? ", " : "", weight, table, columns, *columns ? ", " : "", weight, index);
}

// The rows that there are, and those that went.
const char *either_state_text(const Source &source, int index) {
    const char *columns = used_columns(source);
    return psprintf("either_%d AS NOT MATERIALIZED (SELECT %s FROM %s UNION ALL (SELECT %s FROM delta_%d WHERE %s "
                    "OPERATOR(pg_catalog.<) 0 OFFSET 0))",
                    index, columns, pg::qualified_name(source.relation), columns, index,
                    weight_column(source.relation));
}

void ask_once(const Arm &arm, Query *query) {
    int number = 0;
    for (const Presence &each : arm.presences) ask_once(each, presence_within(arm, query, number++));
}

// The arm before it is grouped: what block.feed() has, still without weights.
Query *ungrouped(const Block &block, const Arm &arm) {
    Query *query = pg::copy<Query>(arm.query);
    ask_once(arm, query);
    forget_repeats(query, arm);
    query->groupClause = NIL;
    query->hasAggs = false;
    if (block.grouped() || block.unites()) {
        query->targetList = NIL;
        for (Node *expression : pg::each<Node>(block.feed(arm))) pg::add_target(query, expression, "value");
    }
    return query;
}

} // namespace

namespace {

// The keys that changed rows of an occurrence tell. Other tables on the way may have changed with it: their rows that
// went count as well, as what was linked by them is not so any more.
const char *keys_of_changed(const Block &block, int occurrence, uint32 changed) {
    const Trace &trace = block.traces[occurrence - 1];
    auto *query = pg::copy<Query>(trace.query);
    pg::TextList with;
    uint32 written = 0;
    for (int i = 1; i <= list_length(query->rtable); i++) {
        Oid relation = rt_fetch(i, query->rtable)->relid;
        int source = 0;
        while (block.sources[source].relation != relation) source++;
        uint32 bit = UINT32_C(1) << source;
        if (i == trace.entry) {
            replace_entry(query, i, psprintf("delta_%d", source));
            add_weight(query, i, relation);
        } else if (changed & bit) {
            replace_entry(query, i, psprintf("either_%d", source));
            if (!(written & bit)) with.add("%s", either_state_text(block.sources[source], source));
            written |= bit;
        }
    }
    return psprintf("%s%s %s", with.empty() ? "" : "WITH ", with.text(), deparse(query));
}

} // namespace

namespace {

// The occurrences before one of the same arm's FROM whose sources have changed, too.
pg::vector<int> old_occurrences(const Block &block, const Arm &arm, int occurrence, uint32 changed) {
    pg::vector<int> old;
    for (int i = arm.first; i < std::min(occurrence, arm.first + arm.entries()); i++)
        if (changed & (UINT32_C(1) << block.occurrence_source[i - 1])) old.push_back(i);
    return old;
}

// A term as one query, made by `old(query, i)` of what it says in the place of old occurrence i.
struct Term {
    Query *query;
    const char *net = nullptr; // of a presence
};

template <class Old>
Term term_of(const Block &block, int occurrence, uint32 changed, Old &&old) {
    const Arm &arm = block.arm_of(occurrence);
    Term term{ungrouped(block, arm)};
    for (int i : old_occurrences(block, arm, occurrence, changed)) old(term.query, i);
    const Presence *presence = arm.presence(occurrence);
    if (presence) {
        term.net = add_presence_term(term.query, block, arm, *presence, changed);
    } else {
        int source = block.occurrence_source[occurrence - 1], entry = arm.entry(occurrence);
        replace_entry(term.query, entry, psprintf("delta_%d", source));
        add_weight(term.query, entry, block.sources[source].relation);
    }
    leave_out_none(term.query, arm);
    for (Node *times : pg::each<Node>(arm.repeats)) pg::add_target(term.query, pg::copy(times), "times");
    return term;
}

// Old states are read as one: the table and, taken away from it, what changed.
const char *united_term(const Block &block, int occurrence, uint32 changed) {
    pg::TextList with;
    uint32 written = 0;
    Term term = term_of(block, occurrence, changed, [&](Query *query, int i) {
        int source = block.occurrence_source[i - 1], entry = block.arm_of(occurrence).entry(i);
        replace_entry(query, entry, psprintf("old_%d", source));
        add_weight(query, entry, block.sources[source].relation);
        if (!(written & (UINT32_C(1) << source))) with.add("%s", old_state_text(block.sources[source], source));
        written |= UINT32_C(1) << source;
    });
    if (term.net) with.add("%s", term.net);
    return psprintf("%s%s %s", with.empty() ? "" : "WITH ", with.text(), deparse(term.query));
}

// Old states are multiplied out: a query for each choice of the table or of what changed. Of the union of both the
// planner has no statistics: it takes a key to have 200 values, would find a two-hundredth of a large table for each
// changed row, and reads the other tables whole. And what changed is the inner side of a join then, passed over once
// for each row of the other side.
const char *multiplied_term(const Block &block, int occurrence, uint32 changed, int old) {
    StringInfoData text;
    initStringInfo(&text);
    for (uint32 choice = 0; choice < (UINT32_C(1) << old); choice++) {
        uint32 left = choice;
        Term term = term_of(block, occurrence, changed, [&](Query *query, int i) {
            int source = block.occurrence_source[i - 1], entry = block.arm_of(occurrence).entry(i);
            if (left & 1) {
                replace_entry(query, entry, psprintf("delta_%d", source));
                add_removed_weight(query, entry, block.sources[source].relation);
            } else {
                pg::add_target(query, bigint_constant(1), psprintf("weight_%d", entry));
            }
            left >>= 1;
        });
        if (choice == 0 && term.net) appendStringInfo(&text, "WITH %s ", term.net);
        appendStringInfo(&text, "%s%s", choice ? " UNION ALL " : "", deparse(term.query));
    }
    return text.data;
}

// What is multiplied out doubles with each old state.
constexpr int most_multiplied = 3;

} // namespace

const char *term_text(const Block &block, int occurrence, uint32 changed) {
    if (block.is_whole()) return keys_of_changed(block, occurrence, changed);
    auto count = static_cast<int>(old_occurrences(block, block.arm_of(occurrence), occurrence, changed).size());
    if (count == 0 || count > most_multiplied) return united_term(block, occurrence, changed);
    return multiplied_term(block, occurrence, changed, count);
}

const char *trace_text(const Block &block, int occurrence) {
    const Arm &arm = block.arm_of(occurrence);
    const Presence *presence = block.is_whole() ? nullptr : arm.presence(occurrence);
    if (presence == nullptr) return term_text(block, occurrence, 0);
    Query *query = ungrouped(block, arm);
    add_matched(query, block, arm, *presence);
    return deparse(query);
}

const char *additions_text(const Block &block, const char *rows) {
    int before = list_length(block.feed());
    return psprintf("WITH delta_0 AS NOT MATERIALIZED (%s)%s ORDER BY %d", rows, term_text(block, 1, 1), before + 1);
}

const char *definition_text(const Block &block, const char *rows) {
    Query *query = pg::copy<Query>(block.core);
    replace_entry(query, 1, "delta_0");
    return psprintf("WITH delta_0 AS NOT MATERIALIZED (%s) %s", rows, deparse(query));
}

namespace {

// In a copy of core, or what has its FROM: the query that an occurrence is in, and its entry there.
std::pair<Query *, int> arm_within(const Block &block, Query *query, int occurrence) {
    const Arm &arm = block.arm_of(occurrence);
    if (block.unites()) {
        Query *united = rt_fetch(1, query->rtable)->subquery;
        query = rt_fetch(static_cast<int>(&arm - &block.arms.front()) + 1, united->rtable)->subquery;
    }
    const Presence *presence = arm.presence(occurrence);
    if (presence == nullptr) return {query, arm.entry(occurrence)};
    return {presence_within(arm, query, static_cast<int>(presence - &arm.presences.front())), 1};
}

struct Replaced {
    Oid relation;
    const char *name;
};

// A table, wherever it stands.
bool replace_everywhere(Node *node, Replaced *what) {
    if (node == nullptr) return false;
    if (!IsA(node, Query)) return pg::walk_children(node, replace_everywhere, what);
    auto *query = castNode(Query, node);
    for (int i = 1; i <= list_length(query->rtable); i++) {
        const RangeTblEntry *entry = rt_fetch(i, query->rtable);
        if (entry->rtekind == RTE_RELATION && entry->relid == what->relation) replace_entry(query, i, what->name);
    }
    return pg::walk_query(query, replace_everywhere, what, 0);
}

const char *text_over(const Block &block, Query *query, std::span<const char *const> rows) {
    pg::TextList with;
    for (std::size_t i = 0; block.is_whole() && i < rows.size(); i++) {
        if (rows[i] == nullptr) continue;
        with.add("source_%zu AS NOT MATERIALIZED (%s)", i, rows[i]);
        Replaced what{block.sources[i].relation, psprintf("source_%zu", i)};
        replace_everywhere(reinterpret_cast<Node *>(query), &what);
    }
    if (block.is_whole()) return psprintf("%s%s %s", with.empty() ? "" : "WITH ", with.text(), deparse(query));
    for (std::size_t i = 0; i < rows.size(); i++) {
        if (rows[i] == nullptr) continue;
        with.add("source_%zu AS NOT MATERIALIZED (%s)", i, rows[i]);
        for (std::size_t k = 0; k < block.occurrence_source.size(); k++)
            if (block.occurrence_source[k] == static_cast<int>(i)) {
                auto [arm, entry] = arm_within(block, query, static_cast<int>(k + 1));
                replace_entry(arm, entry, psprintf("source_%zu", i));
            }
    }
    return psprintf("%s%s %s", with.empty() ? "" : "WITH ", with.text(), deparse(query));
}

} // namespace

const char *definition_over(const Block &block, std::span<const char *const> rows) {
    return text_over(block, pg::copy<Query>(block.core), rows);
}

const char *keys_over(const Block &block, std::span<const char *const> rows) {
    Query *query = pg::copy<Query>(block.core);
    query->groupClause = query->distinctClause = query->sortClause = NIL;
    query->hasAggs = query->hasDistinctOn = false;
    query->targetList = NIL;
    int number = 0;
    for (const Key &key : block.row_key) pg::add_target(query, key.expression, psprintf("k%d", number++));
    return text_over(block, query, rows);
}

namespace {

// The relation of the affected keys, joined to the rest; returns its place in the range table.
int add_affected(Query *query, const Block &block) {
    List *names = NIL;
    for (std::size_t i = 0; i < block.told_keys().size(); i++) names = lappend(names, makeString(psprintf("k%zu", i)));
    names = lappend(names, makeString(pstrdup("ordinal")));
    RangeTblEntry *affected = makeNode(RangeTblEntry);
    affected->rtekind = RTE_CTE;
    affected->ctename = pstrdup("affected");
    affected->eref = makeAlias("affected", names);
    affected->inFromCl = true;
    query->rtable = lappend(query->rtable, affected);
    int index = list_length(query->rtable);
    query->jointree->fromlist = lappend(query->jointree->fromlist, pg::reference_to(index));
    return index;
}

// Key number i, as `expression` has it, is that of the affected row; `null`: NULL.
Node *key_is_affected(const Block &block, int i, Node *expression, int affected, bool null) {
    auto *key = pg::copy<Expr>(expression);
    if (null) return is_null(reinterpret_cast<Node *>(key));
    const Key &type = block.told_keys()[i];
    Var *value = makeVar(affected, static_cast<AttrNumber>(i + 1), type.type, -1, type.collation, 0);
    return reinterpret_cast<Node *>(
        make_opclause(type.equality, BOOLOID, false, key, reinterpret_cast<Expr *>(value), InvalidOid, type.collation));
}

// Groups by the last column, too.
void group_by_ordinal(Query *query) {
    auto *target = static_cast<TargetEntry *>(llast(query->targetList));
    Index number = 1;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList))
        number = std::max(number, each->ressortgroupref + 1);
    target->ressortgroupref = number;
    SortGroupClause *clause = makeNode(SortGroupClause);
    clause->tleSortGroupRef = number;
    TypeCacheEntry *type = lookup_type_cache(INT8OID, TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR);
    clause->eqop = type->eq_opr;
    clause->sortop = type->lt_opr;
    clause->hashable = true;
    query->groupClause = lappend(query->groupClause, clause);
}

} // namespace

namespace {

// Joins a query, whose keys are as `key` has them, with the affected keys, and returns the ordinal of each.
template <class KeyOf>
void read_affected(const Block &block, Query *query, uint64 nulls, KeyOf &&key) {
    int affected = add_affected(query, block), keys = static_cast<int>(block.told_keys().size());
    List *conditions = make_ands_implicit(reinterpret_cast<Expr *>(query->jointree->quals));
    for (int i = 0; i < keys; i++)
        conditions = lappend(conditions, key_is_affected(block, i, key(block.told_keys()[i].expression), affected,
                                                         nulls & (UINT64CONST(1) << i)));
    query->jointree->quals = reinterpret_cast<Node *>(make_ands_explicit(conditions));
    Var *ordinal = makeVar(affected, static_cast<AttrNumber>(keys + 1), INT8OID, -1, InvalidOid, 0);
    pg::add_target(query, reinterpret_cast<Node *>(ordinal), "ordinal");
}

void add_ordinal_column(Node *operation) {
    if (operation == nullptr || !IsA(operation, SetOperationStmt)) return;
    auto *both = castNode(SetOperationStmt, operation);
    both->colTypes = lappend_oid(both->colTypes, INT8OID);
    both->colTypmods = lappend_int(both->colTypmods, -1);
    both->colCollations = lappend_oid(both->colCollations, InvalidOid);
    add_ordinal_column(both->larg);
    add_ordinal_column(both->rarg);
}

void name_ordinal(RangeTblEntry *entry) {
    entry->eref =
        makeAlias(entry->eref->aliasname, lappend(list_copy(entry->eref->colnames), makeString(pstrdup("ordinal"))));
    if (entry->alias) entry->alias = entry->eref;
}

// The same of a union, in each of its arms: the planner takes a condition on a union into what is one table, and reads
// all of what is a join. (test/work: slice_joined)
void read_affected_arms(const Block &block, Query *query, uint64 nulls) {
    RangeTblEntry *entry = rt_fetch(1, query->rtable);
    Query *united = entry->subquery;
    int number = 0;
    for (const Arm &arm : block.arms) {
        RangeTblEntry *of = rt_fetch(++number, united->rtable);
        read_affected(block, of->subquery, nulls, [&](Node *key) { return block.over(arm, key); });
        name_ordinal(of);
    }
    add_ordinal_column(united->setOperations);
    auto column = static_cast<AttrNumber>(list_length(united->targetList) + 1);
    for (Query *reading : {united, query}) {
        Var *ordinal = makeVar(1, column, INT8OID, -1, InvalidOid, 0);
        pg::add_target(reading, reinterpret_cast<Node *>(ordinal), "ordinal");
    }
    name_ordinal(entry);
}

} // namespace

const char *recompute_text(const Block &block, uint64 nulls, const char *rows) {
    Query *query = pg::copy<Query>(block.core);
    if (!block.unites() && !block.is_whole()) ask_once(block.arms.front(), query);
    if (rows) replace_entry(query, 1, "delta_0");
    const char *with = rows ? psprintf("WITH delta_0 AS NOT MATERIALIZED (%s) ", rows) : "";
    if (block.told_keys().empty()) return psprintf("%sSELECT d.*, 0::bigint FROM (%s) AS d", with, deparse(query));

    // One key has one ordinal: grouping by it too changes no group.
    if (block.unites())
        read_affected_arms(block, query, nulls);
    else
        read_affected(block, query, nulls, [](Node *key) { return key; });
    if (query->groupClause != NIL) group_by_ordinal(query);
    return psprintf("%s%s", with, deparse(query));
}

} // namespace compile
