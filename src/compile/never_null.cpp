// Which columns of a block's key may be NULL.
//
// What counts is what holds for every row there is: that a column is NOT NULL, that a condition rejects NULLs, that an
// expression makes none of values that are none. Not a domain's NOT NULL: a column of a domain may read as NULL all the
// same (CREATE DOMAIN, Notes). What is not known here may be NULL. A part's table says nothing of itself: its
// definition is looked into, so that nothing is relied on but tables of users. (Test: sql/primary_keys)
#include "compile/block.hpp"
#include "pg/index.hpp"

namespace compile {
namespace {

// Built-in functions that return no NULL where no argument is NULL. Not extract(), which does so of infinity.
constexpr Oid make_no_null[] = {F_ABS_INT2,
                                F_ABS_INT4,
                                F_ABS_INT8,
                                F_ABS_NUMERIC,
                                F_MOD_INT2_INT2,
                                F_MOD_INT4_INT4,
                                F_MOD_INT8_INT8,
                                F_MOD_NUMERIC_NUMERIC,
                                F_FLOOR_NUMERIC,
                                F_CEIL_NUMERIC,
                                F_ROUND_NUMERIC,
                                F_ROUND_NUMERIC_INT4,
                                F_TRUNC_NUMERIC,
                                F_TRUNC_NUMERIC_INT4,
                                F_LOWER_TEXT,
                                F_UPPER_TEXT,
                                F_INITCAP,
                                F_BTRIM_TEXT,
                                F_LTRIM_TEXT,
                                F_RTRIM_TEXT,
                                F_LENGTH_TEXT,
                                F_MD5_TEXT,
                                F_TIMEZONE_TEXT_TIMESTAMP,
                                F_TIMEZONE_TEXT_TIMESTAMPTZ,
                                F_DATE_TRUNC_TEXT_TIMESTAMP,
                                F_DATE_TRUNC_TEXT_TIMESTAMPTZ,
                                F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT,
                                F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP,
                                F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ};

// In the rows of children, too, which may drop it up to version 17.
bool is_not_null(Oid table, AttrNumber column) {
    if (!pg::has_children(table)) return pg::is_not_null(table, column);
    const char *name = get_attname(table, column, false);
    ListCell *cell;
    foreach (cell, find_all_inheritors(table, NoLock, nullptr))
        if (!pg::is_not_null(lfirst_oid(cell), get_attnum(lfirst_oid(cell), name))) return false;
    return true;
}

// Of the server's own, nobody's since: a user may have made a cast or an operator of any built-in function.
bool is_built_in(Oid object) { return object < FirstNormalObjectId; }

// But for casts of jsonb, whose null becomes NULL from version 18 on.
bool is_cast(const FuncExpr *call) {
    Oid from = exprType(static_cast<Node *>(linitial(call->args))), to = call->funcresulttype;
    if (from == JSONBOID || !is_built_in(from) || !is_built_in(to)) return false;
    HeapTuple tuple = SearchSysCache2(CASTSOURCETARGET, ObjectIdGetDatum(from), ObjectIdGetDatum(to));
    if (!HeapTupleIsValid(tuple)) return false;
    auto *cast = reinterpret_cast<Form_pg_cast>(GETSTRUCT(tuple));
    bool found = is_built_in(cast->oid) && cast->castfunc == call->funcid;
    ReleaseSysCache(tuple);
    return found;
}

bool makes_no_null(const FuncExpr *call) {
    if (std::find(std::begin(make_no_null), std::end(make_no_null), call->funcid) != std::end(make_no_null))
        return true;
    return list_length(call->args) > 0 && is_cast(call);
}

// Comparisons, on which btree and hash rely, arithmetic that gives integers and numerics, and text that is put
// together.
bool makes_no_null(const OpExpr *operation) {
    if (!is_built_in(operation->opno)) return false;
    if (pg::compares(operation->opno)) return true;
    const char *name = get_opname(operation->opno);
    switch (operation->opresulttype) {
    case INT2OID:
    case INT4OID:
    case INT8OID:
    case NUMERICOID: return strlen(name) == 1 && strchr("+-*/%", name[0]);
    case TEXTOID: return strcmp(name, "||") == 0;
    default: return false;
    }
}

// Range table entries that an outer join fills with NULLs, and the conditions that every row has met.
struct Joined {
    Bitmapset *optional = nullptr;
    List *conditions = NIL;
};

void look_at_join(Node *item, bool optional, Joined &joined) {
    check_stack_depth();
    if (IsA(item, RangeTblRef)) {
        if (optional) joined.optional = bms_add_member(joined.optional, reinterpret_cast<RangeTblRef *>(item)->rtindex);
    } else if (IsA(item, FromExpr)) {
        auto *from = castNode(FromExpr, item);
        for (Node *each : pg::each<Node>(from->fromlist)) look_at_join(each, optional, joined);
        if (from->quals && !optional) joined.conditions = lappend(joined.conditions, from->quals);
    } else {
        auto *join = castNode(JoinExpr, item);
        if (optional) joined.optional = bms_add_member(joined.optional, join->rtindex);
        look_at_join(join->larg, optional || join->jointype == JOIN_RIGHT || join->jointype == JOIN_FULL, joined);
        look_at_join(join->rarg, optional || join->jointype == JOIN_LEFT || join->jointype == JOIN_FULL, joined);
        if (join->quals && !optional && join->jointype == JOIN_INNER)
            joined.conditions = lappend(joined.conditions, join->quals);
    }
}

class NeverNull {
public:
    explicit NeverNull(pg::vector<NotNull> &relied) : relied_(relied) {}

    // Whether an expression over a query's FROM is never NULL. What that relies on is noted, where it is.
    bool holds(const Query *query, const Node *node) {
        if (node == nullptr) return false;
        check_stack_depth();
        std::size_t before = relied_.size();
        bool never = look(query, node);
        if (!never) relied_.erase(relied_.begin() + static_cast<std::ptrdiff_t>(before), relied_.end());
        return never;
    }

    // The same of what a block returns: in each arm.
    bool holds(const Block &block, int column) {
        auto *expression = reinterpret_cast<Node *>(block.column(column)->expr);
        if (block.core->groupingSets) return false;
        if (!block.unites()) return holds(block.core, expression);
        return std::all_of(block.arms.begin(), block.arms.end(),
                           [&](const Arm &arm) { return holds(arm.query, block.over(arm, expression)); });
    }

private:
    bool all(const Query *query, List *nodes) {
        for (Node *each : pg::each<Node>(nodes))
            if (!holds(query, each)) return false;
        return true;
    }

    bool any(const Query *query, List *nodes) {
        for (Node *each : pg::each<Node>(nodes))
            if (holds(query, each)) return true;
        return false;
    }

    bool look(const Query *query, const Node *node) {
        auto argument = [&](auto *of) { return holds(query, reinterpret_cast<const Node *>(of->arg)); };
        switch (nodeTag(node)) {
        case T_Var: return column(query, reinterpret_cast<const Var *>(node));
        case T_Const: return !reinterpret_cast<const Const *>(node)->constisnull;
        case T_Aggref: {
            Oid function = reinterpret_cast<const Aggref *>(node)->aggfnoid;
            return function == F_COUNT_ || function == F_COUNT_ANY;
        }
        case T_CoalesceExpr: return any(query, reinterpret_cast<const CoalesceExpr *>(node)->args);
        case T_MinMaxExpr: return any(query, reinterpret_cast<const MinMaxExpr *>(node)->args); // leaves NULLs out
        case T_CaseExpr: return choice(query, reinterpret_cast<const CaseExpr *>(node));
        case T_RelabelType: return argument(reinterpret_cast<const RelabelType *>(node));
        case T_CollateExpr: return argument(reinterpret_cast<const CollateExpr *>(node));
        case T_CoerceViaIO: return argument(reinterpret_cast<const CoerceViaIO *>(node));
        case T_ArrayCoerceExpr: return argument(reinterpret_cast<const ArrayCoerceExpr *>(node));
        case T_CoerceToDomain: return argument(reinterpret_cast<const CoerceToDomain *>(node));
        case T_BoolExpr: return all(query, reinterpret_cast<const BoolExpr *>(node)->args);
        case T_NullTest:
        case T_BooleanTest:
        case T_DistinctExpr:
        case T_GroupingFunc:
        case T_ArrayExpr:
        case T_RowExpr: return true;
        case T_SubLink: return reinterpret_cast<const SubLink *>(node)->subLinkType == EXISTS_SUBLINK;
        case T_FuncExpr: {
            auto *call = reinterpret_cast<const FuncExpr *>(node);
            return makes_no_null(call) && all(query, call->args);
        }
        case T_OpExpr: {
            auto *operation = reinterpret_cast<const OpExpr *>(node);
            return makes_no_null(operation) && all(query, operation->args);
        }
        default: return false;
        }
    }

    bool choice(const Query *query, const CaseExpr *choice) {
        for (CaseWhen *when : pg::each<CaseWhen>(choice->args))
            if (!holds(query, reinterpret_cast<Node *>(when->result))) return false;
        return holds(query, reinterpret_cast<const Node *>(choice->defresult));
    }

    bool column(const Query *query, const Var *var) {
        if (var->varlevelsup > 0 || var->varattno <= 0) return false;
        Joined joined;
        look_at_join(reinterpret_cast<Node *>(query->jointree), false, joined);
        for (Node *condition : pg::each<Node>(joined.conditions))
            if (pg::rejects_null(condition, var)) return true;
        if (bms_is_member(static_cast<int>(var->varno), joined.optional)) return false;
        const RangeTblEntry *entry = rt_fetch(var->varno, query->rtable);
        switch (entry->rtekind) {
        case RTE_RELATION:
            if (const Block *part = block_of_part(entry->relid)) return holds(*part, var->varattno - 1);
            if (!is_not_null(entry->relid, var->varattno)) return false;
            relied_.push_back({entry->relid, var->varattno});
            return true;
        case RTE_SUBQUERY: return returned(entry->subquery, entry->subquery->setOperations, var->varattno);
        case RTE_JOIN: return holds(query, static_cast<Node *>(list_nth(entry->joinaliasvars, var->varattno - 1)));
        default: return false;
        }
    }

    // A column of a subquery, or of an operand of its set operations.
    bool returned(const Query *query, const Node *operand, int column) {
        check_stack_depth();
        if (operand == nullptr) {
            // What is not in each of several grouping sets is NULL in others.
            if (query->groupingSets) return false;
            return holds(query, reinterpret_cast<Node *>(
                                    static_cast<TargetEntry *>(list_nth(query->targetList, column - 1))->expr));
        }
        if (IsA(operand, RangeTblRef)) {
            Query *arm = rt_fetch(reinterpret_cast<const RangeTblRef *>(operand)->rtindex, query->rtable)->subquery;
            return returned(arm, arm->setOperations, column);
        }
        auto *operation = reinterpret_cast<const SetOperationStmt *>(operand);
        if (!returned(query, operation->larg, column))
            return operation->op == SETOP_INTERSECT && returned(query, operation->rarg, column);
        return operation->op != SETOP_UNION || returned(query, operation->rarg, column);
    }

    pg::vector<NotNull> &relied_;
};

const Block *know_no_part(Oid) { return nullptr; }

} // namespace

const Block *(*block_of_part)(Oid) = know_no_part;

KeyNulls key_nulls(const Block &block) {
    KeyNulls found;
    NeverNull never{found.relied};
    for (const Key &key : block.row_key)
        if (!never.holds(block, key.column)) found.nullable.push_back(key.column);
    return found;
}

} // namespace compile
