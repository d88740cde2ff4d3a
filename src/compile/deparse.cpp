#include "compile/deparse.hpp"

#include "pg/scope.hpp"

namespace compile {

char *deparse(Query *query) {
    char *text = nullptr;
    pg::with_setting("search_path", "pg_catalog", [&] { text = pg_get_querydef(query, false); });
    return text;
}

char *deparse_over(Node *expression, List *columns) {
    RangeTblEntry *entry = makeNode(RangeTblEntry);
    entry->rtekind = RTE_CTE;
    entry->ctename = pstrdup("pseudo");
    entry->eref = makeAlias("pseudo", columns);
    entry->inFromCl = true;
    RangeTblRef *reference = makeNode(RangeTblRef);
    reference->rtindex = 1;
    Query *query = makeNode(Query);
    query->commandType = CMD_SELECT;
    query->rtable = list_make1(entry);
    query->jointree = makeFromExpr(list_make1(reference), nullptr);
    query->targetList = list_make1(makeTargetEntry(reinterpret_cast<Expr *>(expression), 1, pstrdup("\1e\2"), false));

    // " SELECT <expression> AS "\1e\2"\n   FROM pseudo": what stands between is the expression.
    const char *text = deparse(query);
    const char *begin = strstr(text, "SELECT");
    const char *end = begin ? strstr(begin, " AS \"\1e\2\"") : nullptr;
    if (end == nullptr) elog(ERROR, "unexpected deparsed expression: %s", text);
    begin += strlen("SELECT");
    return pnstrdup(begin, end - begin);
}

} // namespace compile
