// Look-ups: scalar subqueries that find a row by a unique key, (SELECT c.name FROM customers c WHERE c.id =
// o.customer). They are LEFT JOINs with their tables, which find one row at most while the unique index is there. So
// the projection relies on it. What is stored says so by the table's alias, the one thing of a table in FROM that means
// nothing and is kept by the deparser and in a dump: from it schema/52_relied.sql asks which index serves.
#include "compile/lookups.hpp"

#include "compile/analysis.hpp"
#include "compile/expressions.hpp"
#include "compile/rewrite.hpp"
#include "pg/index.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

constexpr std::string_view found_by_key = "_one_";

Node *copy(const void *node) { return static_cast<Node *>(copyObjectImpl(node)); }

bool reads_entry(Node *node, int entry) { return bms_is_member(entry, pull_varnos(nullptr, node)); }

// column = value, of a column of the entry, where the value needs no row of it.
struct Equality {
    AttrNumber column;
    Oid operation, collation;
    Node *value;
};

bool is_equality(Node *condition, int entry, Equality *found) {
    if (!IsA(condition, OpExpr) || list_length(reinterpret_cast<OpExpr *>(condition)->args) != 2) return false;
    auto *comparison = reinterpret_cast<OpExpr *>(condition);
    for (int i = 0; i < 2; i++) {
        auto *side = static_cast<Node *>(list_nth(comparison->args, i));
        while (IsA(side, RelabelType)) side = reinterpret_cast<Node *>(reinterpret_cast<RelabelType *>(side)->arg);
        auto *var = reinterpret_cast<Var *>(side);
        auto *value = static_cast<Node *>(list_nth(comparison->args, 1 - i));
        if (!IsA(side, Var) || var->varlevelsup > 0 || static_cast<int>(var->varno) != entry || var->varattno <= 0 ||
            reads_entry(value, entry))
            continue;
        *found = {var->varattno, comparison->opno, comparison->inputcollid, value};
        return true;
    }
    return false;
}

// Whether the index says so of what this operator takes for equal.
bool is_equal_by(Relation index, int key, const Equality &equality) {
    return index->rd_indoption && equality.column == index->rd_index->indkey.values[key] &&
           op_in_opfamily(equality.operation, index->rd_opfamily[key]) &&
           get_op_opfamily_strategy(equality.operation, index->rd_opfamily[key]) == BTEqualStrategyNumber &&
           same_equality(equality.collation, index->rd_indcollation[key]);
}

bool is_unique(Relation index) {
    const Form_pg_index form = index->rd_index;
    return form->indisunique && form->indimmediate && form->indisvalid && index->rd_rel->relam == BTREE_AM_OID &&
           pg::is_of_columns(index->rd_indextuple);
}

// A unique index all of whose columns are compared; 0 where there is none. `columns`: those.
Oid index_over(Oid table, const pg::vector<Equality> &equalities, pg::vector<AttrNumber> *columns) {
    Oid found = InvalidOid;
    if (pg::has_children(table)) return found;
    Relation relation = table_open(table, AccessShareLock);
    for (int i = 0; !OidIsValid(found) && i < list_length(RelationGetIndexList(relation)); i++) {
        Relation index = index_open(list_nth_oid(RelationGetIndexList(relation), i), AccessShareLock);
        bool all = is_unique(index);
        for (int key = 0; all && key < index->rd_index->indnkeyatts; key++)
            all = std::any_of(equalities.begin(), equalities.end(),
                              [&](const Equality &each) { return is_equal_by(index, key, each); });
        for (int key = 0; all && key < index->rd_index->indnkeyatts; key++)
            columns->push_back(index->rd_index->indkey.values[key]);
        if (all) found = RelationGetRelid(index);
        index_close(index, AccessShareLock);
    }
    table_close(relation, AccessShareLock);
    return found;
}

pg::vector<Equality> equalities_of(List *conditions, int entry) {
    pg::vector<Equality> equalities;
    Equality equality;
    for (Node *each : pg::each<Node>(conditions))
        if (is_equality(each, entry, &equality)) equalities.push_back(equality);
    return equalities;
}

// ------------------------------------------------------------------------------------------------------- its tables

struct Table { // of the subquery
    int entry;
    AttrNumber key = 0; // a column that is not NULL where there is a row; 0: there always is one
    List *conditions = NIL;
};

struct Lookup {
    Query *subquery;
    List *conditions = NIL;
    pg::vector<Table> tables = {}; // each found by what those before it have, and what is outside
    Bitmapset *found = nullptr;

    // Whether nothing is needed of tables that are not found yet.
    bool is_known(Node *node) const { return bms_is_subset(pull_varnos(nullptr, node), found); }
};

// Whether one row at most of the table meets the conditions, given a row of each table that has been found.
bool finds(const Lookup &lookup, Table *table) {
    RangeTblEntry *entry = rt_fetch(table->entry, lookup.subquery->rtable);
    if (how_kept(entry->relid) == Kept::as_one_row) return true;
    pg::vector<Equality> known;
    for (const Equality &each : equalities_of(lookup.conditions, table->entry))
        if (lookup.is_known(each.value)) known.push_back(each);
    pg::vector<AttrNumber> columns;
    if (!OidIsValid(index_over(entry->relid, known, &columns))) return false;
    table->key = columns.front();
    return true;
}

// Brings the tables into an order in which each is found. False where one may have several rows.
bool find_tables(Lookup *lookup, Bitmapset *entries) {
    for (bool more = true; more;) {
        more = false;
        for (int entry = -1; (entry = bms_next_member(entries, entry)) >= 0;) {
            Table table{entry};
            if (bms_is_member(entry, lookup->found) || !finds(*lookup, &table)) continue;
            lookup->found = bms_add_member(lookup->found, entry);
            lookup->tables.push_back(table);
            more = true;
        }
    }
    return bms_equal(lookup->found, entries);
}

// Tables, and parts of what reads nothing outside. False where FROM has something else.
bool read_tables(const Cutting &cutting, Query *subquery, Bitmapset *entries) {
    for (int number = -1; (number = bms_next_member(entries, number)) >= 0;) {
        ListCell *cell = list_nth_cell(subquery->rtable, number - 1);
        auto *entry = static_cast<RangeTblEntry *>(lfirst(cell));
        if (entry->rtekind == RTE_SUBQUERY && !reads_outside(entry->subquery) &&
            !contain_vars_of_level(reinterpret_cast<Node *>(entry->subquery), 2))
            lfirst(cell) = part_entry(cutting, entry->subquery, entry->eref->aliasname);
        else if (entry->rtekind != RTE_RELATION || entry->relkind != RELKIND_RELATION || entry->tablesample)
            return false;
    }
    return true;
}

// Gives each condition to the last of the tables that it needs, or to the first of all. False where that has no row
// that could be missing.
bool give_conditions(Lookup *lookup) {
    for (Node *each : pg::each<Node>(lookup->conditions)) {
        Bitmapset *read = pull_varnos(nullptr, each);
        Table *last = &lookup->tables.front();
        for (Table &table : lookup->tables)
            if (bms_is_member(table.entry, read)) last = &table;
        if (last->key == 0) return false;
        last->conditions = lappend(last->conditions, each);
    }
    return true;
}

// --------------------------------------------------------------------------------------------------------- the joins

// Its tables become some of the query's.
void move_out(Query *query, Lookup *lookup) {
    int before = list_length(query->rtable);
    auto out = [&](void *node) {
        OffsetVarNodes(static_cast<Node *>(node), before, 0);
        IncrementVarSublevelsUp(static_cast<Node *>(node), -1, 1);
    };
    out(lookup->subquery->targetList);
    for (RangeTblEntry *each : pg::each<RangeTblEntry>(lookup->subquery->rtable)) pg::forget_privileges(each);
    query->rtable = list_concat(query->rtable, lookup->subquery->rtable);
    for (Table &table : lookup->tables) {
        out(table.conditions);
        table.entry += before;
        RangeTblEntry *entry = rt_fetch(table.entry, query->rtable);
        if (table.key == 0) continue;
        const char *name = psprintf("%s%s", found_by_key.data(), entry->eref->aliasname);
        entry->alias = makeAlias(name, NIL);
        entry->eref = makeAlias(name, entry->eref->colnames);
    }
}

// The same look-up before; 0 where there is none.
int joined_before(const Query *query, Node *item, const Table &table, Node *condition) {
    if (!IsA(item, JoinExpr)) return 0;
    auto *join = castNode(JoinExpr, item);
    if (join->jointype != JOIN_LEFT || !IsA(join->rarg, RangeTblRef)) return 0;
    int entry = reinterpret_cast<RangeTblRef *>(join->rarg)->rtindex;
    Oid relation = rt_fetch(table.entry, query->rtable)->relid;
    const RangeTblEntry *joined = rt_fetch(entry, query->rtable);
    if (joined->relid == relation && is_found_by_key(joined) && join->quals) {
        Node *compared = copy(condition);
        ChangeVarNodes(compared, table.entry, entry, 0);
        if (equal(compared, join->quals)) return entry;
    }
    return joined_before(query, join->larg, table, condition);
}

// LEFT JOIN the table, unless it is joined so already.
void join_table(Query *query, Lookup *lookup, Table &table) {
    auto *condition = table.conditions ? reinterpret_cast<Node *>(make_ands_explicit(table.conditions)) : nullptr;
    List *from = query->jointree->fromlist;
    if (condition == nullptr) {
        query->jointree->fromlist = lappend(from, pg::reference_to(table.entry));
        return;
    }
    int before =
        list_length(from) == 1 ? joined_before(query, static_cast<Node *>(linitial(from)), table, condition) : 0;
    if (before == 0) {
        left_join(query, table.entry, condition);
        return;
    }
    ChangeVarNodes(reinterpret_cast<Node *>(lookup->subquery->targetList), table.entry, before, 0);
    for (Table &each : lookup->tables)
        ChangeVarNodes(reinterpret_cast<Node *>(each.conditions), table.entry, before, 0);
    table.entry = before;
}

// Whether a row of a table is missing wherever one of this is.
bool is_needed(const Lookup &lookup, const Table &table) {
    for (const Table &each : lookup.tables)
        if (each.entry != table.entry && each.conditions &&
            bms_is_member(table.entry, find_nonnullable_rels(reinterpret_cast<Node *>(each.conditions))))
            return true;
    return false;
}

// The value where all tables have a row, and NULL where one has none.
Node *value_of(const Query *query, const Lookup &lookup) {
    auto *value = reinterpret_cast<Node *>(static_cast<TargetEntry *>(linitial(lookup.subquery->targetList))->expr);
    bool strict = !contain_nonstrict_functions(value) && !checkExprHasSubLink(value);
    Node *tests = nullptr;
    for (const Table &table : lookup.tables) {
        if (table.key == 0 || is_needed(lookup, table) || (strict && reads_entry(value, table.entry))) continue;
        NullTest *test = makeNode(NullTest);
        test->arg = reinterpret_cast<Expr *>(column_of(rt_fetch(table.entry, query->rtable), table.entry, table.key));
        test->nulltesttype = IS_NOT_NULL;
        test->location = -1;
        tests = make_and_qual(tests, reinterpret_cast<Node *>(test));
    }
    return tests ? when(tests, value) : value;
}

bool is_lookup(Query *subquery) {
    forget_limit(subquery);
    return is_plain(subquery) && !has_outer_join(subquery);
}

// (SELECT value WHERE conditions)
Node *of_no_table(const Lookup &lookup) {
    auto *value = reinterpret_cast<Node *>(static_cast<TargetEntry *>(linitial(lookup.subquery->targetList))->expr);
    if (lookup.conditions) value = when(reinterpret_cast<Node *>(make_ands_explicit(lookup.conditions)), value);
    IncrementVarSublevelsUp(value, -1, 1);
    return value;
}

} // namespace

namespace {

bool free_aliases(Node *node, void *context) {
    if (node == nullptr) return false;
    if (IsA(node, Query)) return pg::walk_query(castNode(Query, node), free_aliases, context, QTW_EXAMINE_RTES_BEFORE);
    if (!IsA(node, RangeTblEntry)) return pg::walk_children(node, free_aliases, context);
    auto *entry = reinterpret_cast<RangeTblEntry *>(node);
    if (is_found_by_key(entry)) entry->alias->aliasname = entry->eref->aliasname = pstrdup(entry->alias->aliasname + 1);
    return false;
}

} // namespace

bool is_found_by_key(const RangeTblEntry *entry) {
    return entry->alias && std::string_view(entry->alias->aliasname).starts_with(found_by_key);
}

bool finds_one_row(const RangeTblEntry *entry, Relation index) { return is_found_by_key(entry) && is_unique(index); }

void free_aliases(Query *query) { free_aliases(reinterpret_cast<Node *>(query), nullptr); }

bool same_equality(Oid a, Oid b) {
    return a == b || !OidIsValid(a) || !OidIsValid(b) ||
           (get_collation_isdeterministic(a) && get_collation_isdeterministic(b));
}

Node *join_lookup(const Cutting &cutting, Query *query, const Query *scalar) {
    Lookup lookup{reinterpret_cast<Query *>(copy(scalar))};
    if (!is_lookup(lookup.subquery)) return nullptr;
    Bitmapset *entries = nullptr;
    add_entries(reinterpret_cast<Node *>(lookup.subquery->jointree), &entries);
    take_conditions(reinterpret_cast<Node *>(lookup.subquery->jointree), &lookup.conditions);
    if (checkExprHasSubLink(reinterpret_cast<Node *>(lookup.conditions))) return nullptr;
    if (entries == nullptr) return of_no_table(lookup);
    if (!read_tables(cutting, lookup.subquery, entries)) return nullptr;
    if (!find_tables(&lookup, entries) || !give_conditions(&lookup)) return nullptr;
    move_out(query, &lookup);
    for (Table &table : lookup.tables) join_table(query, &lookup, table);
    return value_of(query, lookup);
}

void each_lookup(const Block &block, void (*use)(const FoundByKey &, void *), void *context) {
    for (const Arm &arm : block.arms) {
        int number = 0;
        for (RangeTblEntry *entry : pg::each<RangeTblEntry>(arm.query->rtable)) {
            number++;
            if (!is_found_by_key(entry)) continue;
            FoundByKey found{entry->relid, InvalidOid, {}};
            pg::vector<Equality> equalities = equalities_of(arm.conditions, number);
            found.index = index_over(entry->relid, equalities, &found.columns);
            if (!OidIsValid(found.index))
                for (const Equality &each : equalities) found.columns.push_back(each.column);
            use(found, context);
        }
    }
}

} // namespace compile
