// SELECT → block.
//
// The query is first normalized: its FROM becomes a flat list of plain tables, its ON, USING and WHERE one list of
// conditions (inner joins only, so they mean the same). DISTINCT becomes GROUP BY. Then each aggregate is taken apart
// into *states*, plain aggregates that move by addition (count, sum) or by comparison (min, max), and a *final* text
// that computes the aggregate from them: avg is sum over count, bool_and compares two counts. A state or key that the
// query does not return is appended to the target list, so that the hidden view made of it yields every column of the
// table. Compiling that view again finds every state in place: the view is all that needs to be stored, and pg_depend,
// renames and dumps follow it.
#include "compile/deparse.hpp"
#include "compile/refuse.hpp"

namespace compile {
namespace {

constexpr int max_sources = 8;
const char *const keyed_hint =
    "Aggregates, inner joins, WHERE, GROUP BY and DISTINCT over tables are maintained incrementally; "
    "apply the rest in a view over the projection.";

struct Analysis {
    Query *query; // as analyzed by the server
    Place place;
    bool extend; // may append columns
    bool bag;    // a stored definition's rows have no identity
    bool (*is_event_source)(Oid);
    Block *block;
    Query *core = nullptr;
    List *conditions = NIL;
    pg::vector<int> renumbered = {}; // old range table index → new
    List *fields = NIL;              // canonical aggregates, in the order of block->finals
};

void refuse(const Analysis &a, const char *reason, int location, const char *hint = keyed_hint) {
    a.place.refuse(reason, location, hint);
}

// ---------------------------------------------------------------------------------------------------------- shape and
// FROM

void check_clauses(const Analysis &a) {
    const Query *q = a.query;
    if (q->commandType != CMD_SELECT || q->utilityStmt != nullptr)
        refuse(a, "it is not a SELECT", -1, "A definition is one SELECT statement.");
    if (q->hasModifyingCTE) refuse(a, "it writes", -1);
    if (q->rowMarks != NIL)
        refuse(a, "FOR UPDATE and FOR SHARE lock rows", a.place.of("for"), "Leave out the locking clause.");
    if (q->setOperations != nullptr)
        refuse(a, "UNION, INTERSECT and EXCEPT are not supported yet", a.place.of("union intersect except"));
    if (q->cteList != NIL)
        refuse(a, "WITH is not supported yet", a.place.of("with"), "Write the query without WITH, as joins of tables.");
    if (q->hasWindowFuncs) refuse(a, "window functions are not supported yet", a.place.of("over"));
    if (q->hasTargetSRFs) refuse(a, "set-returning functions in the SELECT list are not supported", -1);
    if (q->groupingSets != NIL)
        refuse(a, "GROUPING SETS, ROLLUP and CUBE are not supported yet", a.place.of("grouping rollup cube"));
    if (q->havingQual != nullptr)
        refuse(a, "HAVING is not supported yet", exprLocation(q->havingQual),
               "Keep every group in the projection and apply the condition in a view over it.");
    if (q->hasDistinctOn) refuse(a, "DISTINCT ON is not supported yet", a.place.of("distinct"));
    if (q->limitCount != nullptr || q->limitOffset != nullptr)
        refuse(a, "LIMIT and OFFSET depend on all rows", a.place.of("limit offset fetch"),
               "Apply them when reading the projection.");
    if (q->sortClause != NIL)
        refuse(a, "a table has no order", a.place.of("order"),
               "Leave out ORDER BY here and apply it when reading the projection.");
    if (q->distinctClause != NIL && (q->hasAggs || q->groupClause != NIL))
        refuse(a, "DISTINCT over aggregates is not supported yet", a.place.of("distinct"));
    if (q->hasSubLinks)
        refuse(a, "subqueries in expressions are not supported yet", a.place.of("exists in any some all array"),
               "Write the subquery as a join.");
}

void check_source(const Analysis &a, const RangeTblEntry *entry, int location) {
    if (entry->tablesample != nullptr) refuse(a, "TABLESAMPLE is random", location);
    Relation relation = table_open(entry->relid, AccessShareLock);
    const char *name = RelationGetRelationName(relation);
    const char *kind = nullptr;
    bool events = a.is_event_source(entry->relid);
    switch (relation->rd_rel->relkind) {
    case RELKIND_RELATION: break;
    case RELKIND_VIEW: kind = "a view"; break;
    case RELKIND_MATVIEW: kind = "a materialized view"; break;
    case RELKIND_FOREIGN_TABLE: kind = "a foreign table"; break;
    case RELKIND_PARTITIONED_TABLE: kind = events ? nullptr : "a partitioned table"; break;
    default: kind = "not a table"; break;
    }
    if (kind == nullptr && relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP) kind = "a temporary table";
    if (kind == nullptr && relation->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
        kind = "an unlogged table, which a crash empties without a trace";
    if (kind == nullptr && relation->rd_rel->relispartition) kind = "a partition";
    if (kind == nullptr && !events &&
        (has_superclass(entry->relid) || find_inheritance_children(entry->relid, NoLock) != NIL))
        kind = "part of an inheritance tree";
    if (kind == nullptr && IsCatalogRelationOid(entry->relid)) kind = "a system catalog";
    if (kind == nullptr && !events && RelationGetNamespace(relation) == get_namespace_oid("projections", true))
        kind = "a table of the extension";
    if (kind != nullptr)
        refuse(a, psprintf("\"%s\" is %s", name, kind), location,
               "A source is an ordinary table or another projection.");
    if (check_enable_rls(entry->relid, GetUserId(), true) == RLS_ENABLED)
        refuse(a,
               psprintf("row-level security hides rows of \"%s\" from \"%s\"", name,
                        GetUserNameFromId(GetUserId(), false)),
               location,
               "Let a role that sees every row own the projection, and put policies on the projection itself.");
    table_close(relation, AccessShareLock);
}

int source_index(Block *block, Oid relation) {
    for (std::size_t i = 0; i < block->sources.size(); i++)
        if (block->sources[i].relation == relation) return static_cast<int>(i);
    block->sources.push_back(Source{relation, {}});
    return static_cast<int>(block->sources.size()) - 1;
}

bool is_values(const Query *query) {
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(query->rtable))
        if (entry->rtekind == RTE_VALUES) return true;
    return false;
}

void add_table(Analysis &a, int index) {
    auto *entry = static_cast<RangeTblEntry *>(list_nth(a.query->rtable, index - 1));
    switch (entry->rtekind) {
    case RTE_RELATION: break;
    case RTE_SUBQUERY:
        if (is_values(entry->subquery))
            refuse(a, "VALUES in FROM is not supported", a.place.of("values"), "Put the values into a table.");
        refuse(a, "subqueries in FROM are not supported yet", a.place.of("from"),
               "Write the subquery as a join of its tables, or make it a projection of its own.");
        break;
    case RTE_FUNCTION: refuse(a, "functions in FROM are not supported", a.place.of("from")); break;
    case RTE_VALUES:
        refuse(a, "VALUES in FROM is not supported", a.place.of("values"), "Put the values into a table.");
        break;
    default: refuse(a, "only tables are supported in FROM", a.place.of("from")); break;
    }
    if (a.extend) check_source(a, entry, a.place.of(psprintf("%s", get_rel_name(entry->relid))));
    if (list_length(a.core->rtable) == max_sources)
        refuse(a, psprintf("it joins more than %d tables", max_sources), -1,
               "Make a part of the join a projection of its own.");

    RangeTblEntry *copy = static_cast<RangeTblEntry *>(copyObjectImpl(entry));
    copy->inFromCl = true;
    a.core->rtable = lappend(a.core->rtable, copy);
    a.renumbered[index] = list_length(a.core->rtable);
    a.block->occurrence_source.push_back(source_index(a.block, entry->relid));
}

void flatten_from(Analysis &a, Node *node) {
    if (IsA(node, RangeTblRef)) {
        add_table(a, reinterpret_cast<RangeTblRef *>(node)->rtindex);
    } else if (IsA(node, JoinExpr)) {
        auto *join = reinterpret_cast<JoinExpr *>(node);
        if (join->jointype != JOIN_INNER)
            refuse(a, "outer joins are not supported yet", a.place.of("left right full"),
                   "Use an inner join, and read the unmatched rows from their table.");
        flatten_from(a, join->larg);
        flatten_from(a, join->rarg);
        if (join->quals) a.conditions = lappend(a.conditions, join->quals);
    } else {
        auto *from = castNode(FromExpr, node);
        for (Node *item : pg::each<Node>(from->fromlist)) flatten_from(a, item);
        if (from->quals) a.conditions = lappend(a.conditions, from->quals);
    }
}

// Vars of the server's range table → Vars of core's, which also drops joins' aliases and notes the columns used.
Node *renumber(Node *node, Analysis *a) {
    if (node == nullptr) return nullptr;
    if (IsA(node, Var)) {
        Var *var = static_cast<Var *>(copyObjectImpl(node));
        if (var->varattno <= 0)
            refuse(*a,
                   var->varattno == 0 ? "whole-row references are not supported" : "system columns are not supported",
                   var->location, "Name the columns.");
        var->varno = a->renumbered[var->varno];
        pg::forget_nulling(var);
        var->varnosyn = 0;
        var->varattnosyn = 0;
        Source &source = a->block->sources[a->block->occurrence_source[var->varno - 1]];
        auto at = std::lower_bound(source.used.begin(), source.used.end(), var->varattno);
        if (at == source.used.end() || *at != var->varattno) source.used.insert(at, var->varattno);
        return reinterpret_cast<Node *>(var);
    }
    return pg::mutate_children(node, renumber, a);
}

Node *normalize(Analysis &a, Node *node) {
    node = pg::flatten_groups(a.query, node);
    return renumber(pg::flatten_joins(a.query, node), &a);
}

const char *unique_name(const Query *core, const char *wanted) {
    for (int n = 1;; n++) {
        char suffix[16] = "";
        if (n > 1) snprintf(suffix, sizeof suffix, "_%d", n);
        char *name = pstrdup(wanted);
        name[pg_mbcliplen(name, static_cast<int>(strlen(name)), static_cast<int>(NAMEDATALEN - 1 - strlen(suffix)))] =
            '\0';
        name = psprintf("%s%s", name, suffix);
        bool taken = false;
        for (TargetEntry *entry : pg::each<TargetEntry>(core->targetList)) taken |= strcmp(entry->resname, name) == 0;
        if (!taken) return name;
    }
}

// Appends a column that maintenance needs; returns its index from 0.
int append_column(Analysis &a, Expr *expression, const char *name) {
    if (!a.extend) elog(ERROR, "stored definition lacks column \"%s\"", name);
    int index = list_length(a.core->targetList);
    a.core->targetList =
        lappend(a.core->targetList, makeTargetEntry(expression, static_cast<AttrNumber>(index + 1),
                                                    const_cast<char *>(unique_name(a.core, name)), false));
    return index;
}

const char *expression_name(const Analysis &a, Node *expression) {
    if (IsA(expression, Var)) {
        auto *var = reinterpret_cast<Var *>(expression);
        auto *entry = static_cast<RangeTblEntry *>(list_nth(a.core->rtable, var->varno - 1));
        return get_attname(entry->relid, var->varattno, false);
    }
    return "key";
}

// Groups by a returned column that equals a GROUP BY expression but was not taken for it (a literal of a type not yet
// known then): read back from its text, the definition would group by that column.
bool group_by_equal_column(Query *core, const TargetEntry *grouped) {
    for (TargetEntry *entry : pg::each<TargetEntry>(core->targetList)) {
        if (!equal(entry->expr, grouped->expr) || entry->ressortgroupref != 0) continue;
        entry->ressortgroupref = grouped->ressortgroupref;
        return true;
    }
    return false;
}

// Builds core: flat FROM, one condition list, target list with the user's columns first.
void build_core(Analysis &a) {
    Query *core = makeNode(Query);
    core->commandType = CMD_SELECT;
    core->canSetTag = true;
    core->hasAggs = a.query->hasAggs;
    a.core = a.block->core = core;
    a.renumbered.resize(list_length(a.query->rtable) + 1, 0);
    if (a.query->jointree == nullptr || a.query->jointree->fromlist == NIL)
        refuse(a, "it reads no table", -1, "A projection follows the rows of at least one table.");
    flatten_from(a, reinterpret_cast<Node *>(a.query->jointree));

    List *references = NIL;
    for (int i = 1; i <= list_length(core->rtable); i++) {
        RangeTblRef *reference = makeNode(RangeTblRef);
        reference->rtindex = i;
        references = lappend(references, reference);
    }
    List *conditions = NIL;
    for (Node *condition : pg::each<Node>(a.conditions))
        conditions = list_concat(conditions, make_ands_implicit(reinterpret_cast<Expr *>(normalize(a, condition))));
    a.conditions = conditions;
    core->jointree =
        makeFromExpr(references, conditions ? reinterpret_cast<Node *>(make_ands_explicit(conditions)) : nullptr);

    List *junk = NIL;
    for (TargetEntry *entry : pg::each<TargetEntry>(a.query->targetList)) {
        auto *copy = static_cast<TargetEntry *>(palloc(sizeof(TargetEntry)));
        *copy = *entry;
        copy->expr = reinterpret_cast<Expr *>(normalize(a, reinterpret_cast<Node *>(entry->expr)));
        if (entry->resjunk) {
            junk = lappend(junk, copy);
            continue;
        }
        copy->resno = static_cast<AttrNumber>(list_length(core->targetList) + 1);
        core->targetList = lappend(core->targetList, copy);
    }
    if (a.extend) a.block->user_columns = list_length(core->targetList);
    // A GROUP BY expression that the SELECT list lacks is still the key.
    for (TargetEntry *entry : pg::each<TargetEntry>(junk)) {
        if (group_by_equal_column(core, entry)) continue;
        int column =
            append_column(a, entry->expr, psprintf("_%s", expression_name(a, reinterpret_cast<Node *>(entry->expr))));
        a.block->column(column)->ressortgroupref = entry->ressortgroupref;
    }
    core->groupClause =
        static_cast<List *>(copyObjectImpl(a.query->groupClause ? a.query->groupClause : a.query->distinctClause));
}

// -------------------------------------------------------------------------------------------------------------------
// keys

void add_key(Analysis &a, int column) {
    Node *expression = reinterpret_cast<Node *>(a.block->column(column)->expr);
    Oid type = exprType(expression);
    TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_CMP_PROC | TYPECACHE_HASH_PROC);
    if (!OidIsValid(cache->eq_opr) || !OidIsValid(cache->cmp_proc) || !OidIsValid(cache->hash_proc))
        refuse(a,
               psprintf("type %s of key column \"%s\" cannot be sorted and hashed", format_type_be(type),
                        a.block->column(column)->resname),
               exprLocation(expression), "Cast the key to a type that can, such as text or jsonb.");
    Key key{column, type, exprCollation(expression), cache->typlen, cache->typbyval, cache->eq_opr, {}, {}, {}};
    fmgr_info_cxt(get_opcode(cache->eq_opr), &key.equal, a.block->memory);
    fmgr_info_cxt(cache->cmp_proc, &key.compare, a.block->memory);
    fmgr_info_cxt(cache->hash_proc, &key.hash, a.block->memory);
    a.block->keys.push_back(key);
    a.block->key_expressions = lappend(a.block->key_expressions, expression);
}

bool is_key_column(const Block *block, int column) {
    for (const Key &key : block->keys)
        if (key.column == column) return true;
    return false;
}

// An expression returned twice is one key, and an output.
bool is_key_expression(const Block *block, int column) {
    for (Node *key : pg::each<Node>(block->key_expressions))
        if (equal(key, block->column(column)->expr)) return true;
    return false;
}

void collect_group_keys(Analysis &a) {
    for (SortGroupClause *clause : pg::each<SortGroupClause>(a.core->groupClause))
        for (int i = 0; i < list_length(a.core->targetList); i++)
            if (a.block->column(i)->ressortgroupref == clause->tleSortGroupRef && !is_key_expression(a.block, i))
                add_key(a, i);
}

// ------------------------------------------------------------------------------------------------- aggregates into
// states

Oid aggregate_oid(const char *name, int arguments, Oid type) {
    return LookupFuncName(list_make2(makeString(pstrdup("pg_catalog")), makeString(pstrdup(name))), arguments, &type,
                          false);
}

struct Plain { // a plain aggregate of one argument
    StateKind kind;
    bool is_max;
    Node *argument; // null is count(*)
};

// CASE WHEN condition THEN result END
Node *case_when(Expr *condition, Node *result) {
    CaseWhen *when = makeNode(CaseWhen);
    when->expr = condition;
    when->result = reinterpret_cast<Expr *>(result);
    when->location = -1;
    CaseExpr *choice = makeNode(CaseExpr);
    choice->casetype = exprType(result);
    choice->casecollid = exprCollation(result);
    choice->args = list_make1(when);
    choice->defresult =
        reinterpret_cast<Expr *>(makeNullConst(choice->casetype, exprTypmod(result), choice->casecollid));
    choice->location = -1;
    return reinterpret_cast<Node *>(choice);
}

Node *folded_argument(const Aggref *aggregate) {
    Node *argument = aggregate->args
                         ? reinterpret_cast<Node *>(static_cast<TargetEntry *>(linitial(aggregate->args))->expr)
                         : nullptr;
    if (argument && IsA(argument, Const) && !reinterpret_cast<Const *>(argument)->constisnull &&
        aggregate->aggfnoid == F_COUNT_ANY)
        argument = nullptr; // count(1) is count(*)
    if (aggregate->aggfilter == nullptr) return argument;
    if (argument == nullptr) argument = makeBoolConst(true, false);
    return case_when(aggregate->aggfilter, argument);
}

bool is_plain(const Aggref *aggregate, Plain *plain) {
    if (aggregate->aggdistinct != NIL || aggregate->aggorder != NIL || aggregate->aggkind != AGGKIND_NORMAL)
        return false;
    if (aggregate->aggfnoid >= FirstNormalObjectId) return false;
    std::string_view name(get_func_name(aggregate->aggfnoid));
    if (name == "count")
        *plain = {StateKind::count, false, folded_argument(aggregate)};
    else if (name == "sum")
        *plain = {StateKind::total, false, folded_argument(aggregate)};
    else if (name == "min" || name == "max")
        *plain = {StateKind::extremum, name == "max", folded_argument(aggregate)};
    else
        return false;
    return true;
}

Aggref *make_plain(const Plain &plain) {
    const char *name = plain.kind == StateKind::count   ? "count"
                       : plain.kind == StateKind::total ? "sum"
                       : plain.is_max                   ? "max"
                                                        : "min";
    Oid type = plain.argument ? exprType(plain.argument) : InvalidOid;
    Aggref *aggregate = makeNode(Aggref);
    aggregate->aggfnoid = plain.argument == nullptr        ? F_COUNT_
                          : plain.kind == StateKind::count ? F_COUNT_ANY
                                                           : aggregate_oid(name, 1, type);
    aggregate->aggtype = get_func_rettype(aggregate->aggfnoid);
    aggregate->inputcollid = plain.argument ? exprCollation(plain.argument) : InvalidOid;
    aggregate->aggargtypes = plain.argument ? list_make1_oid(type) : NIL;
    aggregate->args =
        plain.argument ? list_make1(makeTargetEntry(reinterpret_cast<Expr *>(plain.argument), 1, nullptr, false)) : NIL;
    aggregate->aggstar = plain.argument == nullptr;
    aggregate->aggkind = AGGKIND_NORMAL;
    aggregate->aggsplit = AGGSPLIT_SIMPLE;
    aggregate->aggno = aggregate->aggtransno = -1;
    aggregate->location = -1;
    return aggregate;
}

int argument_index(Block *block, Node *argument) {
    if (argument == nullptr) return -1;
    int i = 0;
    for (Node *known : pg::each<Node>(block->arguments)) {
        if (equal(known, argument)) return i;
        i++;
    }
    block->arguments = lappend(block->arguments, argument);
    return i;
}

// The state for a plain aggregate: known already, a column that returns it, or an appended column.
int need_state(Analysis &a, const Plain &plain, int validity, const char *name) {
    Block *block = a.block;
    int argument = argument_index(block, plain.argument);
    for (std::size_t i = 0; i < block->states.size(); i++) {
        const State &state = block->states[i];
        if (state.kind == plain.kind && state.is_max == plain.is_max && state.argument == argument)
            return static_cast<int>(i);
    }
    int column = -1;
    for (int i = 0; column < 0 && i < list_length(a.core->targetList); i++) {
        Plain found;
        Node *expression = reinterpret_cast<Node *>(block->column(i)->expr);
        if (IsA(expression, Aggref) && is_plain(reinterpret_cast<Aggref *>(expression), &found) &&
            found.kind == plain.kind && found.is_max == plain.is_max && equal(found.argument, plain.argument))
            column = i;
    }
    if (column < 0) column = append_column(a, reinterpret_cast<Expr *>(make_plain(plain)), name);

    Node *expression = reinterpret_cast<Node *>(block->column(column)->expr);
    State state{plain.kind,
                plain.is_max,
                argument,
                validity,
                column,
                exprType(expression),
                exprCollation(expression),
                plain.argument ? exprType(plain.argument) : InvalidOid,
                0,
                false,
                {}};
    get_typlenbyval(state.type, &state.length, &state.by_value);
    if (plain.kind == StateKind::extremum) {
        block->has_extremum = true;
        Oid comparison = lookup_type_cache(state.type, TYPECACHE_CMP_PROC)->cmp_proc;
        if (!OidIsValid(comparison))
            refuse(a, psprintf("type %s has no order that min and max could be kept by", format_type_be(state.type)),
                   -1);
        fmgr_info_cxt(comparison, &state.compare, block->memory);
    }
    block->states.push_back(state);
    return static_cast<int>(block->states.size()) - 1;
}

int need_count(Analysis &a, Node *argument, const char *name) {
    return need_state(a, {StateKind::count, false, argument}, -1, name);
}

int need_total(Analysis &a, Node *argument, int validity, const char *name) {
    return need_state(a, {StateKind::total, false, argument}, validity, name);
}

Template state_text(int state) { return psprintf("\1s%d\2", state); }

Node *cast_to(Node *expression, Oid type) {
    return coerce_to_target_type(nullptr, expression, exprType(expression), type, -1, COERCION_EXPLICIT,
                                 COERCE_EXPLICIT_CAST, -1);
}

Node *square(Node *expression) {
    ParseState *state = make_parsestate(nullptr);
    return reinterpret_cast<Node *>(make_op(state,
                                            list_make2(makeString(pstrdup("pg_catalog")), makeString(pstrdup("*"))),
                                            expression, static_cast<Node *>(copyObjectImpl(expression)), nullptr, -1));
}

Node *call_ours(const char *name, Node *argument) {
    Oid type = exprType(argument);
    Oid function =
        LookupFuncName(list_make2(makeString(pstrdup("projections")), makeString(pstrdup(name))), 1, &type, false);
    return reinterpret_cast<Node *>(makeFuncExpr(function, get_func_rettype(function), list_make1(argument), InvalidOid,
                                                 InvalidOid, COERCE_EXPLICIT_CALL));
}

Node *when_equal(Node *expression, const char *value) {
    ParseState *state = make_parsestate(nullptr);
    Const *constant = makeConst(FLOAT8OID, -1, InvalidOid, sizeof(float8),
                                DirectFunctionCall1(float8in, CStringGetDatum(value)), false, FLOAT8PASSBYVAL);
    Expr *same = make_op(state, list_make2(makeString(pstrdup("pg_catalog")), makeString(pstrdup("="))), expression,
                         reinterpret_cast<Node *>(constant), nullptr, -1);
    return case_when(same, makeBoolConst(true, false));
}

// Sums that a final value is computed from: of values, and of squares where a variance needs them.
struct Sums {
    Template count, total, squares;
    Template special; // null, or a text that is the float result where NaN or infinities are present, else null
};

// Floats are summed as exact numerics, with NaN and infinities counted beside: addition of floats depends on the order
// and cannot be undone.
Sums float_sums(Analysis &a, Node *argument, bool squares, bool infinity_is_nan, const char *name) {
    Node *value = cast_to(argument, FLOAT8OID);
    Node *exact = call_ours("exact_numeric", value);
    int finite = need_count(a, exact, psprintf("_%s_count", name));
    int total = need_total(a, exact, finite, psprintf("_%s_sum", name));
    int square_total = squares ? need_total(a, square(exact), finite, psprintf("_%s_squares", name)) : -1;
    Template nan = state_text(need_count(a, when_equal(value, "NaN"), psprintf("_%s_nan", name)));
    Template up = state_text(need_count(a, when_equal(value, "Infinity"), psprintf("_%s_infinity", name)));
    Template down = state_text(need_count(a, when_equal(value, "-Infinity"), psprintf("_%s_neg_infinity", name)));
    Template special = infinity_is_nan ? psprintf("WHEN %s + %s + %s > 0 THEN 'NaN'::float8", nan, up, down)
                                       : psprintf("WHEN %s > 0 OR %s > 0 AND %s > 0 THEN 'NaN'::float8 WHEN %s > 0 "
                                                  "THEN 'Infinity'::float8 WHEN %s > 0 THEN '-Infinity'::float8",
                                                  nan, up, down, up, down);
    return {psprintf("(%s + %s + %s + %s)", state_text(finite), nan, up, down), state_text(total),
            square_total < 0 ? nullptr : state_text(square_total), special};
}

Sums exact_sums(Analysis &a, Node *argument, bool squares, const char *name) {
    Oid type = exprType(argument);
    int count = need_count(a, argument, psprintf("_%s_count", name));
    // The variance's sums are numeric for every type; an average adds as sum() does.
    Node *value = squares && type != NUMERICOID ? cast_to(argument, NUMERICOID) : argument;
    int total = need_total(a, value, count, psprintf("_%s_sum", name));
    int square_total = squares ? need_total(a, square(value), count, psprintf("_%s_squares", name)) : -1;
    // The number of digits of core's quotient follows the largest scale among the group's values, which a removal may
    // lower.
    if (type == NUMERICOID && exprTypmod(argument) < 0) a.block->recompute_on_removal = true;
    return {state_text(count), psprintf("%s::numeric", state_text(total)),
            square_total < 0 ? nullptr : state_text(square_total), nullptr};
}

Template variance_final(const Sums &sums, bool sample, bool root, bool floating) {
    Template n = psprintf("%s::numeric", sums.count);
    Template numerator = psprintf("(%s * %s - %s * %s)", n, sums.squares, sums.total, sums.total);
    Template value =
        psprintf("%s / %s", numerator, sample ? psprintf("(%s * (%s - 1))", n, n) : psprintf("(%s * %s)", n, n));
    if (!floating)
        value = psprintf("CASE WHEN %s <= 0 THEN 0::numeric ELSE %s END", numerator, value); // without digits, as core
    if (floating)
        value = root ? psprintf("sqrt((%s)::float8)", value) : psprintf("(%s)::float8", value);
    else if (root)
        value = psprintf("projections.square_root(%s)", value);
    return psprintf("CASE WHEN %s <= %d THEN NULL %s ELSE %s END", sums.count, sample ? 1 : 0,
                    sums.special ? sums.special : "", value);
}

Template final_text(Analysis &a, const Aggref *aggregate, const char *name) {
    Plain plain;
    const char *what = get_func_name(aggregate->aggfnoid);
    if (aggregate->aggfnoid >= FirstNormalObjectId)
        refuse(a, psprintf("aggregate %s is user-defined, which is not supported yet", what), aggregate->location);
    if (aggregate->aggorder != NIL) refuse(a, "ORDER BY inside an aggregate is not supported yet", aggregate->location);
    if (aggregate->aggdistinct != NIL)
        refuse(a, psprintf("%s(DISTINCT …) is not supported yet", what), aggregate->location,
               "Make the distinct values a projection with GROUP BY, and a second projection that counts its rows.");
    std::string_view function(what);
    Node *argument = folded_argument(aggregate);
    Oid type = argument ? exprType(argument) : InvalidOid;
    bool floating = type == FLOAT4OID || type == FLOAT8OID;
    bool exact = type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID;

    if (function == "count" || function == "min" || function == "max" ||
        (function == "sum" && (exact || type == CASHOID))) {
        is_plain(aggregate, &plain);
        int validity = plain.kind == StateKind::total ? need_count(a, argument, psprintf("_%s_count", name)) : -1;
        return state_text(need_state(a, plain, validity, psprintf("_%s", name)));
    }
    if (function == "sum" && floating) {
        Sums sums = float_sums(a, argument, false, false, name);
        return psprintf("CASE WHEN %s = 0 THEN NULL %s ELSE %s END", sums.count, sums.special, sums.total);
    }
    if (function == "avg" && (exact || floating)) {
        Sums sums = floating ? float_sums(a, argument, false, false, name) : exact_sums(a, argument, false, name);
        return psprintf("CASE WHEN %s = 0 THEN NULL %s ELSE %s / %s::numeric END", sums.count,
                        sums.special ? sums.special : "", sums.total, sums.count);
    }
    bool root = function.starts_with("stddev");
    if ((root || function.starts_with("var")) && (exact || floating)) {
        Sums sums = floating ? float_sums(a, argument, true, true, name) : exact_sums(a, argument, true, name);
        return variance_final(sums, !function.ends_with("_pop"), root, floating);
    }
    if (function == "bool_and" || function == "bool_or" || function == "every") {
        Node *true_only = case_when(reinterpret_cast<Expr *>(argument), makeBoolConst(true, false));
        Template known = state_text(need_count(a, argument, psprintf("_%s_count", name)));
        Template yes = state_text(need_count(a, true_only, psprintf("_%s_true", name)));
        return psprintf("CASE WHEN %s = 0 THEN NULL ELSE %s %s END", known, yes,
                        function == "bool_or" ? "> 0" : psprintf("= %s", known));
    }
    refuse(a, psprintf("aggregate %s(%s) is not supported yet", what, type ? format_type_be(type) : ""),
           aggregate->location);
    return nullptr;
}

// ----------------------------------------------------------------------------------------------------------------
// outputs

struct Pseudo { // replaces keys and aggregates by columns of a pseudo relation
    Analysis *analysis;
    const char *name;
    List *columns = NIL;
    bool unresolved = false;
    bool unfixed_scale = false;
};

Node *pseudo_column(Pseudo *pseudo, Node *expression, char kind, int index) {
    const char *name = psprintf("\1%c%d\2", kind, index);
    int column = 0;
    while (column < list_length(pseudo->columns) && strcmp(strVal(list_nth(pseudo->columns, column)), name) != 0)
        column++;
    if (column == list_length(pseudo->columns)) pseudo->columns = lappend(pseudo->columns, makeString(pstrdup(name)));
    return reinterpret_cast<Node *>(makeVar(1, static_cast<AttrNumber>(column + 1), exprType(expression),
                                            exprTypmod(expression), exprCollation(expression), 0));
}

Node *replace_known(Node *node, Pseudo *pseudo) {
    if (node == nullptr) return nullptr;
    Analysis &a = *pseudo->analysis;
    int i = 0;
    for (Node *key : pg::each<Node>(a.block->key_expressions)) {
        if (equal(key, node)) return pseudo_column(pseudo, node, 'k', i);
        i++;
    }
    if (IsA(node, Aggref)) {
        auto *aggregate = reinterpret_cast<Aggref *>(node);
        Plain plain;
        if (is_plain(aggregate, &plain) && plain.kind == StateKind::total && exprType(plain.argument) == NUMERICOID &&
            exprTypmod(plain.argument) < 0)
            pseudo->unfixed_scale = true;
        for (i = 0; i < list_length(a.fields); i++)
            if (equal(list_nth(a.fields, i), node)) return pseudo_column(pseudo, node, 'f', i);
        a.fields = lappend(a.fields, node);
        a.block->finals.push_back(
            psprintf("(%s)::%s", final_text(a, aggregate, pseudo->name), format_type_be_qualified(aggregate->aggtype)));
        return pseudo_column(pseudo, node, 'f', list_length(a.fields) - 1);
    }
    if (IsA(node, Var)) {
        pseudo->unresolved = true;
        return node;
    }
    return pg::mutate_children(node, replace_known, pseudo);
}

bool is_state_column(const Block *block, int column) {
    for (const State &state : block->states)
        if (state.column == column) return true;
    return false;
}

bool add_ungrouped(Node *node, Analysis *a) {
    if (node == nullptr || IsA(node, Aggref)) return false;
    for (Node *key : pg::each<Node>(a->block->key_expressions))
        if (equal(key, node)) return false;
    if (IsA(node, Var)) {
        int column = -1;
        for (int i = 0; column < 0 && i < list_length(a->core->targetList); i++)
            if (equal(a->block->column(i)->expr, node)) column = i;
        if (column < 0)
            column = append_column(*a, reinterpret_cast<Expr *>(node), psprintf("_%s", expression_name(*a, node)));
        add_key(*a, column);
        return false;
    }
    return pg::walk_children(node, add_ungrouped, a);
}

void compile_groups(Analysis &a) {
    Block *block = a.block;
    block->shape = a.core->groupClause ? Shape::groups : Shape::total;
    collect_group_keys(a);
    // A column that the grouped primary key determines is a key as well: the groups are the same.
    for (int i = 0; i < block->user_columns; i++)
        if (block->shape == Shape::groups) add_ungrouped(reinterpret_cast<Node *>(block->column(i)->expr), &a);

    int before = list_length(a.core->targetList);
    for (int i = 0; i < before; i++) {
        if (is_key_column(block, i)) continue;
        TargetEntry *entry = block->column(i);
        if (i >= block->user_columns && !a.extend) { // an appended state: its owner asks for it
            continue;
        }
        Pseudo pseudo{&a, entry->resname};
        Node *expression = replace_known(reinterpret_cast<Node *>(entry->expr), &pseudo);
        if (pseudo.unresolved) elog(ERROR, "column \"%s\" is neither grouped nor aggregated", entry->resname);
        if (is_state_column(block, i)) continue;
        if (pseudo.unfixed_scale && !IsA(entry->expr, Aggref)) block->recompute_on_removal = true;
        block->outputs.push_back(Output{i, deparse_over(expression, pseudo.columns)});
    }
    block->row_count = need_count(a, nullptr, "_count");
    a.core->hasAggs = true;
    // A state found late may be a column that was first taken for an output.
    auto late = std::remove_if(block->outputs.begin(), block->outputs.end(),
                               [&](const Output &o) { return is_state_column(block, o.column); });
    block->outputs.erase(late, block->outputs.end());
}

// -------------------------------------------------------------------------------------------------------------------
// rows

// The columns of a table's primary key; empty where it has none that holds at every moment.
pg::vector<AttrNumber> primary_key(Oid table) {
    pg::vector<AttrNumber> columns;
    Relation relation = table_open(table, AccessShareLock);
    for (int i = 0; i < list_length(RelationGetIndexList(relation)); i++) {
        Relation index = index_open(list_nth_oid(RelationGetIndexList(relation), i), AccessShareLock);
        if (index->rd_index->indisprimary && index->rd_index->indimmediate && index->rd_index->indisvalid)
            for (int k = 0; k < index->rd_index->indnkeyatts; k++) columns.push_back(index->rd_index->indkey.values[k]);
        index_close(index, AccessShareLock);
    }
    table_close(relation, AccessShareLock);
    return columns;
}

void compile_rows(Analysis &a) {
    Block *block = a.block;
    bool identified = !a.bag;
    for (const Source &source : block->sources) identified &= !primary_key(source.relation).empty();
    block->shape = identified ? Shape::rows : Shape::bag;
    if (!identified) return;
    for (int occurrence = 1; occurrence <= list_length(a.core->rtable); occurrence++) {
        auto *entry = static_cast<RangeTblEntry *>(list_nth(a.core->rtable, occurrence - 1));
        for (AttrNumber attribute : primary_key(entry->relid)) {
            Oid type, collation;
            int32 typmod;
            get_atttypetypmodcoll(entry->relid, attribute, &type, &typmod, &collation);
            Var *var = makeVar(occurrence, attribute, type, typmod, collation, 0);
            int column = -1;
            for (int i = 0; column < 0 && i < list_length(a.core->targetList); i++)
                if (equal(block->column(i)->expr, var)) column = i;
            if (column < 0)
                column = append_column(
                    a, reinterpret_cast<Expr *>(var),
                    psprintf("_%s_%s", entry->eref->aliasname, get_attname(entry->relid, attribute, false)));
            Source &source = block->sources[block->occurrence_source[occurrence - 1]];
            auto at = std::lower_bound(source.used.begin(), source.used.end(), attribute);
            if (at == source.used.end() || *at != attribute) source.used.insert(at, attribute);
            add_key(a, column);
        }
    }
}

Block *compile(Analysis &a) {
    check_clauses(a);
    build_core(a);
    Node *expressions = reinterpret_cast<Node *>(list_concat_copy(a.core->targetList, a.conditions));
    a.block->settings_dependent = check_functions(expressions, a.place);
    if (a.core->hasAggs || a.core->groupClause != NIL)
        compile_groups(a);
    else
        compile_rows(a);
    if (list_length(a.core->targetList) > MaxHeapAttributeNumber / 2) refuse(a, "it needs too many columns", -1);
    if (strchr(deparse(a.core), '\1') != nullptr) refuse(a, "it contains the control character U+0001", -1, nullptr);
    return a.block;
}

Block *new_block(MemoryContext memory) {
    Block *block = pg::make<Block>(memory);
    block->memory = memory;
    return block;
}

} // namespace

Block *compile_query(Query *query, const char *text, bool (*is_event_source)(Oid)) {
    Block *block = new_block(CurrentMemoryContext);
    Analysis a{query, Place{text}, true, false, is_event_source, block};
    return compile(a);
}

Block *compile_definition(Oid projection, Oid definition, int user_columns, bool bag) {
    MemoryContext memory = AllocSetContextCreate(CacheMemoryContext, "projection block", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    Relation view = relation_open(definition, AccessShareLock);
    Query *query = static_cast<Query *>(copyObjectImpl(get_view_query(view)));
    for (TargetEntry *entry :
         pg::each<TargetEntry>(query->targetList)) // a renamed column of a view is renamed there only
        if (!entry->resjunk)
            entry->resname = pstrdup(NameStr(TupleDescAttr(RelationGetDescr(view), entry->resno - 1)->attname));
    relation_close(view, AccessShareLock);

    Block *block = new_block(memory);
    block->projection = projection;
    block->definition = definition;
    block->user_columns = user_columns;
    Analysis a{query, Place{nullptr}, false, bag, nullptr, block};
    compile(a);
    MemoryContextSwitchTo(before);
    return block;
}

} // namespace compile
