// What changes of a table do to the rows that ask for its presence.
//
// Of a row of the arm's FROM, `net` is how many more matches it has than before: the sum of the weights of the changed
// rows that match it. With net > 0 it has matches now; it had none before if none is left after net of them are passed
// over. With net < 0 it had matches before; it has none now if none is left at all. So either way it comes or goes if
// NOT EXISTS (SELECT FROM the table WHERE it matches OFFSET greatest(net, 0)), which reads at most net + 1 matches,
// however many there are. (Tests: sql/presence, test/work)
#include "compile/analysis.hpp"
#include "compile/deparse.hpp"
#include "compile/expressions.hpp"
#include "compile/match.hpp"
#include "compile/term_parts.hpp"
#include "compile/terms.hpp"
#include "pg/list.hpp"
#include "pg/query.hpp"

namespace compile {
namespace {

using pg::copy;

void add_condition(Query *query, Node *condition) {
    query->jointree->quals = make_and_qual(query->jointree->quals, condition);
}

// An expression over the arm's FROM one level up, as one of that level.
Node *one_level_down(Node *expression) {
    Node *copied = copy(expression);
    IncrementVarSublevelsUp(copied, -1, 1);
    return copied;
}

// Changed rows of the table that match, as a subquery; without columns.
Query *changed_rows(const Presence &presence, int source) {
    auto *query = castNode(Query, copy(presence.rows));
    replace_entry(query, 1, psprintf("delta_%d", source));
    return query;
}

// sum(value)::bigint
Node *sum_of(Node *value) {
    Aggref *sum = makeNode(Aggref);
    sum->aggfnoid = F_SUM_INT8;
    sum->aggtype = NUMERICOID;
    sum->aggargtypes = list_make1_oid(INT8OID);
    sum->args = list_make1(makeTargetEntry(reinterpret_cast<Expr *>(value), 1, nullptr, false));
    sum->aggkind = AGGKIND_NORMAL;
    sum->aggno = sum->aggtransno = -1;
    sum->location = -1;
    return cast_to(reinterpret_cast<Node *>(sum), INT8OID);
}

// How many more matches there are than before, of a row of the FROM that is one level up.
Query *net_query(const Presence &presence, int source) {
    Query *query = changed_rows(presence, source);
    query->hasAggs = true;
    pg::add_target(query, sum_of(weight_of(1, rt_fetch(1, presence.rows->rtable)->relid)), "net");
    return query;
}

// Whether its conditions are about the FROM alone, and the table alone.
bool is_apart(const Match &match) { return match.outer && match.equal.empty() && match.mixed == NIL; }

Node *bigint(int value) { return cast_to(int_constant(value), INT8OID); }

Node *greatest_of_none(Node *net) { return extreme(IS_GREATEST, net, bigint(0)); }

// EXISTS (SELECT FROM the table WHERE it matches OFFSET passed): `passed` is over the arm's FROM.
Node *exists_after(const Presence &presence, Node *passed) {
    auto *rows = castNode(Query, copy(presence.rows));
    rows->limitOffset = copy(passed);
    IncrementVarSublevelsUp(rows->limitOffset, 1, 0);
    SubLink *link = makeNode(SubLink);
    link->subLinkType = EXISTS_SUBLINK;
    link->subselect = reinterpret_cast<Node *>(rows);
    link->location = -1;
    return reinterpret_cast<Node *>(link);
}

Node *negated(Node *condition) { return reinterpret_cast<Node *>(makeBoolExpr(NOT_EXPR, list_make1(condition), -1)); }

// The test of a presence as it was before its table changed.
Node *test_before(const Presence &presence, int source) {
    SubLink *link = makeNode(SubLink);
    link->subLinkType = EXPR_SUBLINK;
    link->subselect = reinterpret_cast<Node *>(net_query(presence, source));
    link->location = -1;
    Node *net = coalesce(reinterpret_cast<Node *>(link), bigint(0));
    Node *before = either(operation("<", net, bigint(0)), exists_after(presence, greatest_of_none(net)));
    return presence.negated ? negated(before) : before;
}

// What was there is dear to ask, and the planner asks as soon as it has what is asked about. So the condition mentions
// all that the FROM has, which is never NULL: it is asked of the rows that are left.
Node *asked_last(const Query *query, Node *test) {
    for (int i = 1; i <= list_length(query->rtable); i++) {
        const RangeTblEntry *entry = rt_fetch(i, query->rtable);
        bool table = entry->rtekind == RTE_RELATION;
        int last = list_length(entry->eref->colnames); // of changed rows: the weight, or the net
        Var *there = table ? makeVar(i, SelfItemPointerAttributeNumber, TIDOID, -1, InvalidOid, 0)
                           : makeVar(i, static_cast<AttrNumber>(last), INT8OID, -1, InvalidOid, 0);
        test = either(is_null(reinterpret_cast<Node *>(there)), test);
    }
    return test;
}

Node *test_now(const Presence &presence) {
    auto *rows = castNode(Query, copy(presence.rows));
    ask_once(presence, rows);
    return exists(rows, presence.negated);
}

// Adds an entry to a FROM, which has its place in it.
int add_entry(Query *query, RangeTblEntry *entry) {
    query->rtable = lappend(query->rtable, entry);
    query->jointree->fromlist = lappend(query->jointree->fromlist, pg::reference_to(list_length(query->rtable)));
    return list_length(query->rtable);
}

// The keys by which rows of the FROM match, once each, and where nothing else decides about a match, what they net to.
const char *keys_text(const Presence &presence, const Match &match, int source) {
    Query *query = changed_rows(presence, source);
    query->jointree->quals = match.inner ? copy(reinterpret_cast<Node *>(make_ands_explicit(match.inner))) : nullptr;
    for (const Equal &each : match.equal) pg::add_target(query, copy(each.inner), "k");
    add_weight(query, 1, rt_fetch(1, presence.rows->rtable)->relid);
    const char *keys = pg::joined(static_cast<int>(match.equal.size()), ", ", [](int i) { return psprintf("k%d", i); });
    const char *comma = *keys ? ", " : "";
    const char *group = *keys ? psprintf(" GROUP BY %s", keys) : "";
    const char *some = match.mixed ? "" : " HAVING pg_catalog.sum(w) OPERATOR(pg_catalog.<>) 0";
    return psprintf("net_%d AS (SELECT %s%spg_catalog.sum(w)::bigint AS net FROM (%s) AS d(%s%sw)%s%s)",
                    presence.occurrence, keys, comma, deparse(query), keys, comma, group, some);
}

RangeTblEntry *keys_entry(const Presence &presence, const Match &match) {
    List *names = NIL;
    for (std::size_t i = 0; i < match.equal.size(); i++) names = lappend(names, makeString(psprintf("k%zu", i)));
    RangeTblEntry *entry = makeNode(RangeTblEntry);
    entry->rtekind = RTE_CTE;
    entry->ctename = psprintf("net_%d", presence.occurrence);
    entry->eref = makeAlias(entry->ctename, lappend(names, makeString(pstrdup("net"))));
    entry->inFromCl = true;
    return entry;
}

// `key`: the inner side, of the entry that has the keys.
Node *equals_key(const Equal &equal, int entry, int number) {
    auto *key = reinterpret_cast<Node *>(
        makeVar(entry, static_cast<AttrNumber>(number + 1), exprType(equal.inner), -1, exprCollation(equal.inner), 0));
    auto *comparison = copy<OpExpr>(equal.comparison);
    bool inner_first = linitial(equal.comparison->args) == equal.inner;
    Node *outer = one_level_down(equal.outer);
    comparison->args = inner_first ? list_make2(key, outer) : list_make2(outer, key);
    return reinterpret_cast<Node *>(comparison);
}

// What the keys of entry `keys` net to.
Node *key_net(const Match &match, int keys) {
    auto column = static_cast<AttrNumber>(match.equal.size() + 1);
    return reinterpret_cast<Node *>(makeVar(keys, column, INT8OID, -1, InvalidOid, 0));
}

// The net of the changed rows that match a row of the FROM: what its keys net to, or what is added up for it.
Node *net_of(Query *query, const Presence &presence, const Match &match, int source, int keys) {
    if (match.mixed == NIL) return key_net(match, keys);
    RangeTblEntry *entry =
        pg::subquery_entry(net_query(presence, source), "matched", list_make1(makeString(pstrdup("net"))));
    entry->lateral = true;
    int place = add_entry(query, entry);
    auto *net = reinterpret_cast<Node *>(makeVar(place, 1, INT8OID, -1, InvalidOid, 0));
    add_condition(query, operation("<>", net, bigint(0)));
    return net;
}

} // namespace

void ask_once(const Presence &presence, Query *rows) {
    if (is_apart(match_of(presence))) rows->limitOffset = bigint_constant(0);
}

const char *add_presence_term(Query *query, const Block &block, const Arm &arm, const Presence &presence,
                              uint32 changed) {
    int source = block.occurrence_source[presence.occurrence - 1];
    Match match = match_of(presence);
    query->jointree->quals =
        arm.conditions ? copy(reinterpret_cast<Node *>(make_ands_explicit(arm.conditions))) : nullptr;
    for (Node *each : pg::each<Node>(match.outer)) add_condition(query, one_level_down(each));
    int keys = add_entry(query, keys_entry(presence, match));
    for (const Presence &other : arm.presences) {
        if (other.occurrence == presence.occurrence) continue;
        int others = block.occurrence_source[other.occurrence - 1];
        bool before = other.occurrence < presence.occurrence && (changed & (UINT32_C(1) << others));
        add_condition(query, before ? asked_last(query, test_before(other, others)) : test_now(other));
    }
    int number = 0;
    for (const Equal &each : match.equal) add_condition(query, equals_key(each, keys, number++));
    Node *net = net_of(query, presence, match, source, keys);
    add_condition(query, negated(exists_after(presence, greatest_of_none(net))));
    Node *comes = operation(presence.negated ? "<" : ">", net, bigint(0));
    pg::add_target(query, choice({{comes, bigint(1)}}, bigint(-1)), "weight");
    return keys_text(presence, match, source);
}

namespace {

// The table is entry `entry` of the FROM itself.
Node *beside(Node *node, int *entry) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, Var)) return pg::mutate_children(node, beside, entry);
    auto *var = copy<Var>(node);
    if (var->varlevelsup)
        var->varlevelsup--;
    else
        var->varno = *entry;
    return reinterpret_cast<Node *>(var);
}

} // namespace

int add_rows(Query *query, const Arm &arm, const Presence &presence, RangeTblEntry *rows) {
    query->jointree->quals =
        arm.conditions ? copy(reinterpret_cast<Node *>(make_ands_explicit(arm.conditions))) : nullptr;
    int entry = add_entry(query, rows);
    if (Node *match = presence.rows->jointree->quals) add_condition(query, beside(match, &entry));
    return entry;
}

void add_matched(Query *query, const Block &block, const Arm &arm, const Presence &presence) {
    Query *rows = changed_rows(presence, block.occurrence_source[presence.occurrence - 1]);
    int entry = add_rows(query, arm, presence, rt_fetch(1, rows->rtable));
    add_weight(query, entry, rt_fetch(1, presence.rows->rtable)->relid);
}

} // namespace compile
