// Outer joins, as the unions that they are: L LEFT JOIN R ON c is L JOIN R ON c, and those of L without a match, with
// NULLs for R. With several outer joins there is a branch for each choice of which of them match; FULL JOIN has one
// more, of those of R without a match. A branch's change is followed by itself, and what has no match any more, or has
// one now, by presence. A row of the side that is kept costs a statement for each branch.
#include "compile/expressions.hpp"
#include "compile/rewrite.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

constexpr std::size_t most_outer_joins = 3;
constexpr std::size_t most_branches = 64;

struct OuterJoin {
    int entry;       // of the side that may be missing: one table
    Node *condition; // ON
};

// VALUES: in a branch, its columns are those of one row.
struct Values {
    int entry;
    List *rows; // of target lists
};

struct From {
    const Place *place;
    const Query *query;
    List *kept = NIL;       // references to what is always there
    List *conditions = NIL; // WHERE, and ON of inner joins
    pg::vector<OuterJoin> outer = {};
    pg::vector<Values> values = {}; // kept ones, and sides of outer joins

    void note_values(int entry) {
        if (List *rows = rows_of(rt_fetch(entry, query->rtable))) values.push_back({entry, rows});
    }
    bool is_missing(int entry, uint32 missing) const {
        for (std::size_t i = 0; i < outer.size(); i++)
            if (outer[i].entry == entry) return missing & (UINT32_C(1) << i);
        return false;
    }
    uint32 all() const { return (UINT32_C(1) << outer.size()) - 1; }
    Bitmapset *nulls(uint32 missing) const {
        Bitmapset *entries = nullptr;
        for (const OuterJoin &each : outer)
            if (is_missing(each.entry, missing)) entries = bms_add_member(entries, each.entry);
        return entries;
    }
    List *rows(int entry) const {
        for (const Values &each : values)
            if (each.entry == entry) return each.rows;
        return NIL;
    }
};

[[noreturn]] void refuse(const From &from, const char *what) { from.place->refuse(Construct::outer_join, -1, what); }

// Each branch would have the subquery at another level.
Node *condition_of(const Place &place, const JoinExpr *join) {
    if (checkExprHasSubLink(join->quals)) place.refuse(Construct::sublink, -1);
    return join->quals;
}

void walk(From &from, Node *item) {
    if (IsA(item, RangeTblRef)) {
        from.note_values(reinterpret_cast<RangeTblRef *>(item)->rtindex);
        from.kept = lappend(from.kept, item);
        return;
    }
    if (IsA(item, FromExpr)) {
        for (Node *each : pg::each<Node>(castNode(FromExpr, item)->fromlist)) walk(from, each);
        if (Node *quals = castNode(FromExpr, item)->quals) from.conditions = lappend(from.conditions, quals);
        return;
    }
    auto *join = castNode(JoinExpr, item);
    if (join->jointype == JOIN_INNER) {
        walk(from, join->larg);
        walk(from, join->rarg);
        if (join->quals) from.conditions = lappend(from.conditions, join->quals);
        return;
    }
    if (join->jointype == JOIN_FULL) refuse(from, "FULL JOIN of or with other than two tables is not");
    bool left = join->jointype == JOIN_LEFT;
    Node *kept = left ? join->larg : join->rarg, *missing = left ? join->rarg : join->larg;
    if (!IsA(missing, RangeTblRef)) refuse(from, "outer joins whose optional side is a join are not");
    walk(from, kept);
    from.outer.push_back({reinterpret_cast<RangeTblRef *>(missing)->rtindex, condition_of(*from.place, join)});
    from.note_values(from.outer.back().entry);
}

bool has_outer_join(Node *item) {
    if (IsA(item, FromExpr)) {
        for (Node *each : pg::each<Node>(castNode(FromExpr, item)->fromlist))
            if (has_outer_join(each)) return true;
        return false;
    }
    if (!IsA(item, JoinExpr)) return false;
    auto *join = castNode(JoinExpr, item);
    return join->jointype != JOIN_INNER || has_outer_join(join->larg) || has_outer_join(join->rarg);
}

// ---------------------------------------------------------------------------------------------------------- columns

// The columns that the query reads of its FROM, each once.
struct Columns {
    List *vars = NIL;
    Index level = 0;
};

bool collect(Node *node, Columns *columns) {
    if (node == nullptr) return false;
    if (IsA(node, Query)) {
        columns->level++;
        pg::walk_query(castNode(Query, node), collect, columns, 0);
        columns->level--;
        return false;
    }
    if (!IsA(node, Var)) return pg::walk_children(node, collect, columns);
    auto *var = reinterpret_cast<Var *>(node);
    if (var->varlevelsup != columns->level || pg::number_of(columns->vars, var)) return false;
    auto *copy = pg::copy<Var>(var);
    copy->varlevelsup = 0;
    columns->vars = lappend(columns->vars, copy);
    return false;
}

Node *over_union(Node *node, Columns *columns) {
    if (node == nullptr) return nullptr;
    if (IsA(node, Query)) {
        columns->level++;
        auto *changed = reinterpret_cast<Node *>(pg::mutate_query(castNode(Query, node), over_union, columns));
        columns->level--;
        return changed;
    }
    if (!IsA(node, Var)) return pg::mutate_children(node, over_union, columns);
    auto *var = pg::copy<Var>(node);
    if (var->varlevelsup != columns->level) return reinterpret_cast<Node *>(var);
    var->varattno = static_cast<AttrNumber>(pg::number_of(columns->vars, var));
    var->varno = 1;
    var->varnosyn = 0;
    var->varattnosyn = 0;
    return reinterpret_cast<Node *>(var);
}

// A union has at least one column.
void add_some_column(const Query *query, const From &from, Columns *columns) {
    int entry = static_cast<RangeTblRef *>(linitial(from.kept))->rtindex;
    const RangeTblEntry *read = rt_fetch(entry, query->rtable);
    if (read->rtekind == RTE_VALUES)
        columns->vars = list_make1(makeVar(entry, 1, linitial_oid(read->coltypes), linitial_int(read->coltypmods),
                                           linitial_oid(read->colcollations), 0));
    Oid relation = read->relid;
    for (AttrNumber number = 1; OidIsValid(relation) && columns->vars == NIL; number++) {
        Oid type, collation;
        int32 typmod;
        get_atttypetypmodcoll(relation, number, &type, &typmod, &collation);
        if (OidIsValid(type)) columns->vars = list_make1(makeVar(entry, number, type, typmod, collation, 0));
    }
    if (columns->vars == NIL) from.place->refuse(Construct::no_table, -1);
}

const char *column_name(const Query *query, const Var *var, List *names) {
    const char *name = get_rte_attribute_name(rt_fetch(var->varno, query->rtable), var->varattno);
    const char *unique = name;
    for (int i = 2;; i++) {
        bool taken = false;
        ListCell *cell;
        foreach (cell, names) taken |= strcmp(strVal(lfirst(cell)), unique) == 0;
        if (!taken) return unique;
        unique = psprintf("%s_%d", name, i);
    }
}

// ---------------------------------------------------------------------------------------------------------- branches

} // namespace

// As a cast in the text would have it.
Node *with_nulls(Node *node, Bitmapset *missing) {
    if (node == nullptr) return nullptr;
    auto *var = reinterpret_cast<Var *>(node);
    if (!IsA(node, Var) || var->varlevelsup > 0) return pg::mutate_children(node, with_nulls, missing);
    if (!bms_is_member(static_cast<int>(var->varno), missing)) return pg::copy(node);
    return typed_null(var->vartype, var->vartypmod, var->varcollid);
}

namespace {

// A condition of the query as one of a subquery that reads entry `inner` alone.
Node *from_within(Node *node, int *inner) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, Var)) return pg::mutate_children(node, from_within, inner);
    auto *var = pg::copy<Var>(node);
    if (static_cast<int>(var->varno) == *inner)
        var->varno = 1;
    else
        var->varlevelsup = 1;
    return reinterpret_cast<Node *>(var);
}

// NOT EXISTS (SELECT FROM the table WHERE condition)
Node *no_match(const Query *query, int entry, Node *condition) {
    auto *read = pg::copy<RangeTblEntry>(rt_fetch(entry, query->rtable));
    if (read->subquery) IncrementVarSublevelsUp(reinterpret_cast<Node *>(read->subquery), 1, 1); // LATERAL
    Query *rows = pg::select_from(read);
    rows->jointree->quals = from_within(condition, &entry);
    return exists(rows, true);
}

// A row of VALUES, which may read what stands beside it, as a branch has it.
List *present(const From &from, uint32 missing, List *row) {
    return reinterpret_cast<List *>(with_nulls(reinterpret_cast<Node *>(row), from.nulls(missing)));
}

// No row of VALUES for which the condition is true.
Node *no_row(const Query *query, int entry, List *rows, Node *condition) {
    Node *none = nullptr;
    for (List *row : pg::each<List>(rows)) {
        BooleanTest *test = makeNode(BooleanTest);
        test->arg = static_cast<Expr *>(copyObjectImpl(condition ? condition : makeBoolConst(true, false)));
        test->booltesttype = IS_NOT_TRUE;
        test->location = -1;
        Query *asked = makeNode(Query); // for its conditions
        asked->commandType = CMD_SELECT;
        asked->rtable = static_cast<List *>(copyObjectImpl(query->rtable));
        asked->jointree = makeFromExpr(NIL, reinterpret_cast<Node *>(test));
        none = make_and_qual(none, pg::replace_columns(asked, entry, row)->jointree->quals);
    }
    return none;
}

// The same over one row of VALUES.
Query *of_row(const Query *query, const Values &values, List *row) {
    auto *made = static_cast<Query *>(copyObjectImpl(query));
    List *from = NIL;
    for (RangeTblRef *each : pg::each<RangeTblRef>(made->jointree->fromlist))
        if (each->rtindex != values.entry) from = lappend(from, each);
    made->jointree->fromlist = from;
    return pg::replace_columns(made, values.entry, row);
}

// What reads VALUES of one row, and has no outer joins, is no union.
Query *of_one_row(Query *query, const From &from, Node *conditions) {
    query->jointree = makeFromExpr(from.kept, conditions);
    for (const Values &each : from.values) query = of_row(query, each, static_cast<List *>(linitial(each.rows)));
    return query;
}

// Whether no row of outer join i matches where these are missing: R2 ON R2.x = R1.y, where R1 is.
bool has_no_match(const From &from, std::size_t i, uint32 missing) {
    uint32 others = missing & ~(UINT32_C(1) << i);
    return others && is_never_true_without(from.outer[i].condition, from.nulls(others));
}

// Whether the branch has no rows.
bool is_empty(const From &from, uint32 missing) {
    for (std::size_t i = 0; i < from.outer.size(); i++)
        if (!(missing & (UINT32_C(1) << i)) && has_no_match(from, i, missing)) return true;
    return false;
}

enum class Match { asked, not_asked };

// The branch in which outer join i has matches if bit i of `missing` is not set; whether it has none is asked, or not.
Query *branch_of(const Query *query, const From &from, const Columns &columns, List *names, uint32 missing,
                 Match match) {
    Bitmapset *nulls = from.nulls(missing);
    Query *made = makeNode(Query);
    made->commandType = CMD_SELECT;
    made->canSetTag = true;
    made->rtable = pg::copy<List>(query->rtable);
    made->jointree = makeFromExpr(pg::copy<List>(from.kept), nullptr);
    for (std::size_t i = 0; i < from.outer.size(); i++) {
        const OuterJoin &outer = from.outer[i];
        Node *condition = with_nulls(outer.condition, nulls);
        if (missing & (UINT32_C(1) << i)) {
            if (match == Match::not_asked || has_no_match(from, i, missing)) continue;
            // Of itself nothing is missing here: it is what is looked for.
            condition = with_nulls(outer.condition, bms_del_member(bms_copy(nulls), outer.entry));
            List *rows = NIL;
            for (List *row : pg::each<List>(from.rows(outer.entry))) rows = lappend(rows, present(from, missing, row));
            condition = rows ? no_row(query, outer.entry, rows, condition) : no_match(query, outer.entry, condition);
            made->hasSubLinks |= rows == NIL;
        } else
            made->jointree->fromlist = lappend(made->jointree->fromlist, pg::reference_to(outer.entry));
        if (condition) made->jointree->quals = make_and_qual(made->jointree->quals, condition);
    }
    int number = 0;
    for (Var *var : pg::each<Var>(columns.vars)) {
        Node *value = with_nulls(reinterpret_cast<Node *>(var), nulls);
        char *name = pstrdup(strVal(list_nth(names, number)));
        number++;
        made->targetList = lappend(made->targetList, makeTargetEntry(reinterpret_cast<Expr *>(value),
                                                                     static_cast<AttrNumber>(number), name, false));
    }
    return made;
}

// The types of a union of such branches.
SetOperationStmt *types_of(const Columns &columns) {
    SetOperationStmt *types = makeNode(SetOperationStmt);
    for (Var *var : pg::each<Var>(columns.vars)) pg::add_column_type(types, var);
    return types;
}

// The FULL JOIN of two tables that is all of the query's FROM; null where that is something else.
JoinExpr *full_join(const Query *query) {
    if (list_length(query->jointree->fromlist) != 1) return nullptr;
    auto *join = static_cast<JoinExpr *>(linitial(query->jointree->fromlist));
    bool full = IsA(join, JoinExpr) && join->jointype == JOIN_FULL;
    return full && IsA(join->larg, RangeTblRef) && IsA(join->rarg, RangeTblRef) ? join : nullptr;
}

From from_of(const Query *query, const Place &place, const JoinExpr *full, bool right) {
    From from{&place, query};
    if (full) {
        if (reads_values(query)) place.refuse(Construct::values, -1);
        from.kept = list_make1(right ? full->rarg : full->larg);
        Node *missing = right ? full->larg : full->rarg;
        from.outer.push_back({reinterpret_cast<RangeTblRef *>(missing)->rtindex, condition_of(place, full)});
        from.conditions = query->jointree->quals ? list_make1(query->jointree->quals) : NIL;
    } else
        walk(from, reinterpret_cast<Node *>(query->jointree));
    return from;
}

// The outer join, as a bit, whose missing rows add nothing to any group; 0 where there is none.
uint32 needless_match(const Query *query, const From &from, Node *conditions) {
    if (full_join(query) || !from.values.empty()) return 0;
    for (std::size_t i = 0; i < from.outer.size(); i++)
        if (adds_nothing_without(query, conditions, from.nulls(from.all()), from.outer[i].entry))
            return UINT32_C(1) << i;
    return 0;
}

Query *unite(const Query *query, const From &from, Node *conditions, const Columns &columns, List *names) {
    Query *united = pg::make_union();
    SetOperationStmt *types = types_of(columns);
    std::size_t branches = 0;
    // Those of each row of what VALUES it reads from number `next` on.
    auto add_rows = [&](auto &self, const From &of, uint32 missing, Query *branch, std::size_t next) -> void {
        if (next < of.values.size()) {
            const Values &values = of.values[next];
            if (of.is_missing(values.entry, missing)) return self(self, of, missing, branch, next + 1);
            for (List *row : pg::each<List>(values.rows))
                self(self, of, missing, of_row(branch, values, present(of, missing, row)), next + 1);
            return;
        }
        if (++branches > most_branches) of.place->refuse(Construct::values, -1);
        // Subqueries that were below an outer join are not in a branch.
        pg::add_to_union(united, rewrite_level(branch, *of.place, GetUserId(), false), "branch", names, types);
    };
    auto add = [&](const From &of, uint32 missing, Match match) {
        add_rows(add_rows, of, missing, branch_of(query, of, columns, names, missing, match), 0);
    };
    uint32 needless = needless_match(query, from, conditions);
    for (uint32 missing = 0; missing <= from.all(); missing++)
        if (!(missing & needless) && !is_empty(from, missing)) add(from, missing, Match::asked);
    if (needless) add(from, from.all(), Match::not_asked);
    if (const JoinExpr *full = full_join(query)) add(from_of(query, *from.place, full, true), 1, Match::asked);
    return united;
}

// ------------------------------------------------------------------------------------------------------------- groups

struct Ungrouped {
    Query *query;
    const Place *place;
};

bool is_grouped(const Query *query, const Node *expression) {
    for (SortGroupClause *clause : pg::each<SortGroupClause>(query->groupClause))
        if (equal(get_sortgroupclause_expr(clause, query->targetList), expression)) return true;
    return false;
}

// What a primary key determines may stand beside aggregates; a union has none, so it is grouped by, too.
bool group_by_determined(Node *node, Ungrouped *of) {
    if (node == nullptr || IsA(node, Aggref) || is_grouped(of->query, node)) return false;
    if (!IsA(node, Var)) return pg::walk_children(node, group_by_determined, of);
    Query *query = of->query;
    TargetEntry *found = nullptr;
    for (TargetEntry *each : pg::each<TargetEntry>(query->targetList))
        if (found == nullptr && equal(each->expr, node)) found = each;
    if (found == nullptr) {
        found = makeTargetEntry(pg::copy<Expr>(node), static_cast<AttrNumber>(list_length(query->targetList) + 1),
                                nullptr, true);
        query->targetList = lappend(query->targetList, found);
    }
    group_by(query, found, *of->place);
    return false;
}

} // namespace

bool has_outer_join(const Query *query) { return has_outer_join(reinterpret_cast<Node *>(query->jointree)); }

Query *split_outer_joins(Query *query, const Place &place) {
    if (query->setOperations || query->jointree == nullptr) return query;
    if (!has_outer_join(query) && !reads_values(query)) return query;
    From from = from_of(query, place, full_join(query), false);
    if (from.outer.size() > most_outer_joins)
        refuse(from, psprintf("more than %zu outer joins are not", most_outer_joins));
    Node *conditions = nullptr;
    for (Node *each : pg::each<Node>(from.conditions)) conditions = make_and_qual(conditions, each);
    if (from.outer.empty() && std::all_of(from.values.begin(), from.values.end(),
                                          [](const Values &each) { return list_length(each.rows) == 1; }))
        return of_one_row(query, from, conditions);

    Columns columns;
    collect(reinterpret_cast<Node *>(query->targetList), &columns);
    collect(conditions, &columns);
    collect(query->havingQual, &columns);
    if (columns.vars == NIL) add_some_column(query, from, &columns); // count(*)
    List *names = NIL;
    for (Var *var : pg::each<Var>(columns.vars)) {
        if (var->varattno <= 0)
            place.refuse(var->varattno ? Construct::system_column : Construct::whole_row, var->location);
        names = lappend(names, makeString(pstrdup(column_name(query, var, names))));
    }
    Query *united = unite(query, from, conditions, columns, names);
    query->targetList = reinterpret_cast<List *>(over_union(reinterpret_cast<Node *>(query->targetList), &columns));
    query->havingQual = over_union(query->havingQual, &columns);
    query->rtable = list_make1(pg::subquery_entry(united, "joined", names));
    query->jointree = makeFromExpr(list_make1(pg::reference_to(1)), over_union(conditions, &columns));
    if (query->groupClause && !query->groupingSets) {
        Ungrouped of{query, &place};
        List *targets = list_copy(query->targetList);
        for (TargetEntry *each : pg::each<TargetEntry>(targets))
            group_by_determined(reinterpret_cast<Node *>(each->expr), &of);
    }
    return query;
}

} // namespace compile
