// WITH, views and subqueries in FROM, put where they are read.
//
// A view is read as it is defined now, and its tables as the projection's owner, who needs SELECT on them: what a
// view's owner lets others see of his tables cannot be followed with their rights. Whether the view itself may be read
// is asked as the server does: of the reader, and behind a view of its owner (security_invoker: of the reader).
#include "compile/rewrite.hpp"
#include "pg/own_schema.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

struct Scope { // the WITH of a query level
    const Scope *outer;
    List *known; // of CommonTableExpr
};

const Query *query_of(const RangeTblEntry *entry, const Scope *scope) {
    for (Index level = 0; level < entry->ctelevelsup && scope; level++) scope = scope->outer;
    if (scope == nullptr) return nullptr;
    for (CommonTableExpr *each : pg::each<CommonTableExpr>(scope->known))
        if (strcmp(each->ctename, entry->ctename) == 0) return castNode(Query, each->ctequery);
    return nullptr;
}

void make_subquery(RangeTblEntry *entry, const Query *query) {
    entry->rtekind = RTE_SUBQUERY;
    entry->subquery = pg::copy<Query>(query);
    entry->ctename = nullptr;
    entry->coltypes = entry->coltypmods = entry->colcollations = NIL;
}

void inline_with(Query *query, const Place &place, const Scope *outer) {
    check_stack_depth();
    CHECK_FOR_INTERRUPTS();
    Scope scope{outer, NIL};
    for (CommonTableExpr *each : pg::each<CommonTableExpr>(query->cteList)) {
        if (each->cterecursive) place.refuse(Construct::recursive, -1);
        inline_with(castNode(Query, each->ctequery), place, &scope);
        scope.known = lappend(scope.known, each);
    }
    bool all = true;
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        if (entry->rtekind == RTE_CTE) {
            if (const Query *found = query_of(entry, &scope))
                make_subquery(entry, found);
            else
                all = false;
        } else if (entry->rtekind == RTE_SUBQUERY) {
            inline_with(entry->subquery, place, &scope);
        }
    }
    each_sublink(query, [&](SubLink *link) { inline_with(castNode(Query, link->subselect), place, &scope); });
    if (all) query->cteList = NIL;
}

// A view as the subquery that it stands for. Those of the extension stay what they are, and are refused as such.
void open_view(Query *query, RangeTblEntry *entry, const Place &place, Oid *as) {
    Relation view = relation_open(entry->relid, AccessShareLock);
    if (view->rd_rel->relkind != RELKIND_VIEW || entry->tablesample || pg::is_own_schema(RelationGetNamespace(view))) {
        relation_close(view, NoLock);
        return;
    }
    pg::check_privileges(query, entry, *as);
    if (!RelationHasSecurityInvoker(view)) *as = view->rd_rel->relowner;
    entry->rtekind = RTE_SUBQUERY;
    entry->subquery = pg::copy<Query>(get_view_query(view));
    entry->relid = InvalidOid;
    entry->relkind = 0;
    relation_close(view, NoLock);
    inline_with(entry->subquery, place, nullptr);
}

// Among references whose rows no outer join fills with NULLs, the first that is a plain subquery; 0 where none is.
int find_plain(Query *query, Node *item) {
    if (IsA(item, RangeTblRef)) {
        int index = reinterpret_cast<RangeTblRef *>(item)->rtindex;
        auto *entry = static_cast<RangeTblEntry *>(list_nth(query->rtable, index - 1));
        bool plain = entry->rtekind == RTE_SUBQUERY && obstacle(entry->subquery) == nullptr;
        // Outer joins have no place for what repeats rows: that is a part then.
        return plain && !(has_outer_join(query) && has_repeats(entry->subquery)) ? index : 0;
    }
    if (IsA(item, FromExpr)) {
        for (Node *each : pg::each<Node>(castNode(FromExpr, item)->fromlist))
            if (int found = find_plain(query, each)) return found;
        return 0;
    }
    auto *join = castNode(JoinExpr, item);
    int found = 0;
    if (join->jointype == JOIN_INNER || join->jointype == JOIN_LEFT) found = find_plain(query, join->larg);
    if (!found && (join->jointype == JOIN_INNER || join->jointype == JOIN_RIGHT)) found = find_plain(query, join->rarg);
    return found;
}

struct Put {
    int index;
    Node *in_its_place;
};

Node *put(Node *node, Put *what) {
    if (node == nullptr) return nullptr;
    if (IsA(node, RangeTblRef) && reinterpret_cast<RangeTblRef *>(node)->rtindex == what->index)
        return what->in_its_place;
    return pg::mutate_children(node, put, what);
}

struct WholeRow {
    int entry, level = 0, location = -1;
    bool found = false;
};

bool find_whole_row(Node *node, WholeRow *row) {
    if (node == nullptr) return false;
    if (IsA(node, Query)) {
        row->level++;
        bool found = pg::walk_query(castNode(Query, node), find_whole_row, row, 0);
        row->level--;
        return found;
    }
    if (!IsA(node, Var)) return pg::walk_children(node, find_whole_row, row);
    auto *var = reinterpret_cast<Var *>(node);
    if (static_cast<int>(var->varlevelsup) != row->level || static_cast<int>(var->varno) != row->entry) return false;
    row->location = var->location;
    return row->found = var->varattno == 0;
}

Query *pull_up(Query *query, int index, const Place &place) {
    WholeRow row{index};
    pg::walk_query(query, find_whole_row, &row, 0);
    if (row.found) place.refuse(Construct::whole_row, row.location);

    auto *entry = static_cast<RangeTblEntry *>(list_nth(query->rtable, index - 1));
    Query *subquery = entry->subquery;
    OffsetVarNodes(reinterpret_cast<Node *>(subquery), list_length(query->rtable), 0);
    IncrementVarSublevelsUp(reinterpret_cast<Node *>(subquery), -1, 1); // LATERAL: what was outside is beside now
    List *targets = subquery->targetList, *entries = subquery->rtable;
    Node *from = reinterpret_cast<Node *>(subquery->jointree);
    for (RangeTblEntry *each : pg::each<RangeTblEntry>(entries)) {
        pg::forget_privileges(each);
        // What was outside for a LATERAL subquery's own FROM is beside it now, and printed as such.
        bool computed = each->rtekind == RTE_SUBQUERY || each->rtekind == RTE_FUNCTION || each->rtekind == RTE_VALUES ||
                        each->rtekind == RTE_TABLEFUNC;
        if (entry->lateral && computed) each->lateral = true;
    }

    entry->subquery = makeNode(Query); // nobody reads it any more
    entry->subquery->commandType = CMD_SELECT;
    query = pg::replace_columns(query, index, targets);
    query->hasSubLinks |= subquery->hasSubLinks;
    query->rtable = list_concat(query->rtable, entries);
    Put what{index, from};
    query->jointree = castNode(FromExpr, put(reinterpret_cast<Node *>(query->jointree), &what));
    renew_joins(query);
    return query;
}

void rewrite_entries(Query *query, const Place &place, Oid as, bool user) {
    each_sublink(query, [&](SubLink *link) {
        auto *subquery = castNode(Query, link->subselect);
        if (link->subLinkType != ARRAY_SUBLINK) forget_order(subquery);
        link->subselect = reinterpret_cast<Node *>(rewrite_level(subquery, place, as, user));
    });
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        Oid reader = as;
        if (user && entry->rtekind == RTE_RELATION && entry->inFromCl) open_view(query, entry, place, &reader);
        if (entry->rtekind != RTE_SUBQUERY) continue;
        forget_order(entry->subquery);
        entry->subquery = rewrite_level(entry->subquery, place, reader, user);
    }
}

} // namespace

namespace {

void open_views(Query *query, const Place &place, Oid as) {
    check_stack_depth();
    each_sublink(query, [&](SubLink *link) { open_views(castNode(Query, link->subselect), place, as); });
    for (CommonTableExpr *each : pg::each<CommonTableExpr>(query->cteList))
        open_views(castNode(Query, each->ctequery), place, as);
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        Oid reader = as;
        if (entry->rtekind == RTE_RELATION && entry->inFromCl) open_view(query, entry, place, &reader);
        if (entry->rtekind == RTE_SUBQUERY) open_views(entry->subquery, place, reader);
    }
}

} // namespace

Query *with_views_open(const Query *query, const Place &place) {
    auto *copy = pg::copy<Query>(query);
    if (copy->commandType != CMD_SELECT || copy->hasModifyingCTE) return copy;
    forget_order(copy); // rewrite() has said so
    open_views(copy, place, GetUserId());
    return copy;
}

void inline_with(Query *query, const Place &place) { inline_with(query, place, nullptr); }

const char *obstacle_of_union(const Query *query) {
    if (query->limitCount || query->limitOffset) return "have LIMIT or OFFSET";
    if (query->rowMarks) return "lock rows";
    if (query->cteList) return "have WITH";
    return nullptr;
}

const char *obstacle(const Query *subquery) {
    if (subquery->setOperations) return "are unions";
    if (subquery->limitCount || subquery->limitOffset) return "have LIMIT or OFFSET";
    if (subquery->groupClause || subquery->groupingSets || subquery->hasAggs || subquery->havingQual)
        return "are grouped";
    if (subquery->distinctClause) return "are DISTINCT";
    if (subquery->hasWindowFuncs) return "have window functions";
    if (subquery->hasTargetSRFs) return "return sets";
    if (has_other_sublinks(subquery)) return "have subqueries in expressions";
    if (subquery->rowMarks) return "lock rows";
    if (subquery->cteList) return "have WITH";
    return nullptr;
}

Query *rewrite_arms(Query *query, const Place &place, Oid as, bool user) {
    rewrite_entries(query, place, as, user);
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable)) {
        if (entry->rtekind != RTE_SUBQUERY) continue;
        if (Query *spread = spread_over_union(entry->subquery))
            entry->subquery = rewrite_level(spread, place, as, user);
    }
    return query;
}

Query *inline_subqueries(Query *query, const Place &place, Oid as, bool user) {
    rewrite_entries(query, place, as, user);
    while (int index = find_plain(query, reinterpret_cast<Node *>(query->jointree)))
        query = pull_up(query, index, place);
    return query;
}

} // namespace compile
