// Core's ruleutils, under settings in which a text means the same everywhere.
#include "compile/deparse.hpp"

#include "pg/query.hpp"
#include "pg/scope.hpp"

namespace compile {

char *deparse(Query *query) {
    char *text = nullptr;
    // Of a copy: core renews the columns of joins in what it prints, in the memory that is current.
    pg::with_plain_text([&] { text = pg_get_querydef(pg::copy<Query>(query), false); });
    return text;
}

char *deparse_qualified(const Query *query) {
    auto *copied = pg::copy<Query>(query);
    RangeTblEntry *another = makeNode(RangeTblEntry);
    another->rtekind = RTE_RESULT;
    another->eref = makeAlias("another", NIL);
    copied->rtable = lappend(copied->rtable, another);
    return deparse(copied);
}

char *deparse_over(Node *expression, const char *alias, Oid relation) {
    char *text = nullptr;
    pg::with_plain_text(
        [&] { text = deparse_expression(expression, deparse_context_for(alias, relation), true, false); });
    return text;
}

namespace {

// Each table gets a namespace of its own, as if it were one of an outer query. `depth`: of subqueries.
Node *one_level_each(Node *node, Index *depth) {
    if (node == nullptr) return nullptr;
    if (IsA(node, Query)) {
        ++*depth;
        auto *changed = reinterpret_cast<Node *>(pg::mutate_query(castNode(Query, node), one_level_each, depth));
        --*depth;
        return changed;
    }
    if (!IsA(node, Var)) return pg::mutate_children(node, one_level_each, depth);
    Var *var = pg::copy<Var>(node);
    if (var->varlevelsup < *depth) return reinterpret_cast<Node *>(var);
    var->varlevelsup = *depth + var->varno - 1;
    var->varno = 1;
    var->varnosyn = 0;
    var->varattnosyn = 0;
    return reinterpret_cast<Node *>(var);
}

} // namespace

char *deparse_among(Node *expression, const Query *query) {
    List *context = NIL;
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable))
        if (entry->rtekind == RTE_RELATION) // what only repeats rows comes last, and no expression reads it
            context = list_concat(context, deparse_context_for(entry->eref->aliasname, entry->relid));
    char *text = nullptr;
    Index depth = 0;
    pg::with_plain_text([&] {
        text = deparse_expression(one_level_each(expression, &depth), context, list_length(context) > 1, false);
    });
    return text;
}

const char *type_and_collation(const TargetEntry *column) {
    auto *expression = reinterpret_cast<Node *>(column->expr);
    Oid type = exprType(expression), collation = exprCollation(expression);
    const char *name =
        format_type_extended(type, exprTypmod(expression), FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
    if (!OidIsValid(collation) || collation == get_typcollation(type)) return name;
    return psprintf("%s COLLATE %s", name,
                    DatumGetCString(DirectFunctionCall1(regcollationout, ObjectIdGetDatum(collation))));
}

} // namespace compile
