// What tells the rows of a projection apart: the grouped columns or, without groups, the sources' primary keys.
#include "compile/analysis.hpp"
#include "compile/columns.hpp"
#include "compile/lookups.hpp"
#include "pg/index.hpp"

namespace compile {

bool is_told_apart(Oid type, int32 typmod, Oid collation) {
    type = getBaseTypeAndTypmod(type, &typmod);
    if (type == NUMERICOID && typmod >= 0) return false; // of one scale
    if (type == BPCHAROID) {
        if (typmod < 0) return true; // blanks at the end do not count
        type = TEXTOID;              // of one length, which btree does not ask for
    }
    if (Oid element = get_element_type(type); OidIsValid(element)) return is_told_apart(element, typmod, collation);
    TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
    Oid equal_image =
        get_opfamily_proc(cache->btree_opf, cache->btree_opintype, cache->btree_opintype, BTEQUALIMAGE_PROC);
    return !OidIsValid(equal_image) ||
           !DatumGetBool(OidFunctionCall1Coll(equal_image, collation, ObjectIdGetDatum(cache->btree_opintype)));
}

bool is_told_apart(Node *value) {
    if (getBaseType(exprType(value)) == NUMERICOID && has_fixed_scale(value)) return false;
    return is_told_apart(exprType(value), exprTypmod(value), exprCollation(value));
}

namespace {

Key make_key(Analysis &a, int column) {
    Node *expression = reinterpret_cast<Node *>(a.block->column(column)->expr);
    Oid type = exprType(expression);
    TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_CMP_PROC | TYPECACHE_HASH_PROC);
    if (!OidIsValid(cache->eq_opr) || !OidIsValid(cache->cmp_proc) || !OidIsValid(cache->hash_proc))
        a.place.refuse(Construct::unhashable_key, exprLocation(expression), format_type_be(type),
                       a.block->column(column)->resname);
    Key key{column,
            expression,
            type,
            exprCollation(expression),
            cache->typlen,
            cache->typbyval,
            is_told_apart(expression),
            cache->eq_opr,
            {},
            {},
            {}};
    a.block->keys_told_apart |= key.told_apart;
    fmgr_info_cxt(get_opcode(cache->eq_opr), &key.equal, a.block->memory);
    fmgr_info_cxt(cache->cmp_proc, &key.compare, a.block->memory);
    fmgr_info_cxt(cache->hash_proc, &key.hash, a.block->memory);
    return key;
}

} // namespace

// Groups are rows, and sums are kept by the same columns.
void add_group_key(Analysis &a, int column) {
    Key key = make_key(a, column);
    a.block->row_key.push_back(key);
    a.block->keys.push_back(key);
}

void add_slice_key(Analysis &a, int column) {
    for (const Key &key : a.block->keys)
        if (key.column == column) return;
    a.block->keys.push_back(make_key(a, column));
}

bool is_key_column(const Block *block, int column) {
    for (const Key &key : block->row_key)
        if (key.column == column) return true;
    return false;
}

namespace {

// An expression returned twice is one key, and an output.
bool is_key_expression(const Block *block, int column) {
    for (const Key &key : block->keys)
        if (equal(key.expression, block->column(column)->expr)) return true;
    return false;
}

} // namespace

void collect_group_keys(Analysis &a) {
    for (SortGroupClause *clause : pg::each<SortGroupClause>(a.core->groupClause))
        for (int i = 0; i < list_length(a.core->targetList); i++)
            if (a.block->column(i)->ressortgroupref == clause->tleSortGroupRef && !is_key_expression(a.block, i))
                add_group_key(a, i);
}

namespace {

struct Identifying {
    bool found = false;
    pg::vector<AttrNumber> columns = {}; // none where there is one row
};

// Whether an index says of each row which it is, at every moment: a primary key, or that of a projection, which takes
// NULLs for equal.
bool identifies(Relation index, bool primary) {
    const Form_pg_index form = index->rd_index;
    if (!form->indimmediate || !form->indisvalid) return false;
    if (primary) return form->indisprimary;
    return form->indisunique && form->indnullsnotdistinct && pg::is_of_columns(index->rd_indextuple);
}

// Whose key says which rows are there: of a stored definition, columns that it returns.
enum class Of { rows, others };

bool returns(const Analysis &a, int occurrence, AttrNumber column) {
    for (TargetEntry *entry : pg::each<TargetEntry>(a.core->targetList)) {
        auto *var = reinterpret_cast<Var *>(entry->expr);
        if (IsA(var, Var) && static_cast<int>(var->varno) == occurrence && var->varattno == column) return true;
    }
    return false;
}

// A stored definition returns the columns that were chosen when it was made, of whichever index.
Identifying find_index(const Analysis &a, int occurrence, Relation table, bool primary, Of of) {
    Identifying identifying;
    for (int i = 0; i < list_length(RelationGetIndexList(table)) && !identifying.found; i++) {
        Relation index = index_open(list_nth_oid(RelationGetIndexList(table), i), AccessShareLock);
        bool all = identifies(index, primary);
        for (int k = 0; all && k < index->rd_index->indnkeyatts; k++)
            all = primary || of == Of::others || a.extend || returns(a, occurrence, index->rd_index->indkey.values[k]);
        for (int k = 0; all && k < index->rd_index->indnkeyatts; k++)
            identifying.columns.push_back(index->rd_index->indkey.values[k]);
        identifying.found = all;
        index_close(index, AccessShareLock);
    }
    return identifying;
}

Identifying identifying_columns(const Analysis &a, int occurrence, Oid table, Of of = Of::rows) {
    Kept kept = how_kept(table);
    if (kept == Kept::as_one_row) return {true};
    if (pg::has_children(table)) return {};
    Relation relation = table_open(table, AccessShareLock);
    Identifying identifying = find_index(a, occurrence, relation, true, of);
    if (!identifying.found && kept == Kept::by_key) identifying = find_index(a, occurrence, relation, false, of);
    table_close(relation, AccessShareLock);
    return identifying;
}

// The column that returns a column of an entry; appended where there is none.
int column_returning(Analysis &a, int index, AttrNumber attribute) {
    auto *entry = static_cast<RangeTblEntry *>(list_nth(a.core->rtable, index - 1));
    Oid type, collation;
    int32 typmod;
    get_atttypetypmodcoll(entry->relid, attribute, &type, &typmod, &collation);
    Var *var = makeVar(index, attribute, type, typmod, collation, 0);
    for (int i = 0; i < a.block->columns(); i++)
        if (equal(a.block->column(i)->expr, var)) return i;
    return append_column(a, reinterpret_cast<Expr *>(var),
                         psprintf("_%s_%s", entry->eref->aliasname, get_attname(entry->relid, attribute, false)));
}

void add_row_key(Analysis &a, int occurrence, AttrNumber attribute) {
    Block *block = a.block;
    int column = column_returning(a, occurrence, attribute);
    note_used(block->sources[block->occurrence_source[occurrence - 1]], attribute);
    block->row_key.push_back(make_key(a, column));
}

} // namespace

bool find_key(const Analysis &a, int entry, pg::vector<AttrNumber> &columns) {
    Identifying identifying = identifying_columns(a, entry, rt_fetch(entry, a.core->rtable)->relid, Of::others);
    columns = identifying.columns;
    return identifying.found;
}

pg::vector<TableKey> keys_of(const RangeTblEntry *entry) {
    if (entry->rtekind != RTE_RELATION) return {};
    Kept kept = how_kept(entry->relid);
    if (kept == Kept::as_one_row) return {TableKey{{}, true, true}};
    if (pg::has_children(entry->relid)) return {};
    pg::vector<TableKey> keys;
    Relation table = table_open(entry->relid, AccessShareLock);
    for (int i = 0; i < list_length(RelationGetIndexList(table)); i++) {
        Relation index = index_open(list_nth_oid(RelationGetIndexList(table), i), AccessShareLock);
        bool primary = identifies(index, true), told = primary || (kept == Kept::by_key && identifies(index, false));
        if (told || finds_one_row(entry, index)) {
            TableKey key{{}, primary, told};
            for (int k = 0; k < index->rd_index->indnkeyatts; k++)
                key.columns.push_back(index->rd_index->indkey.values[k]);
            keys.push_back(key);
        }
        index_close(index, AccessShareLock);
    }
    table_close(table, AccessShareLock);
    return keys;
}

void add_entry_key(Analysis &a, int entry, void (*add)(Analysis &, int)) {
    Identifying identifying = identifying_columns(a, entry, rt_fetch(entry, a.core->rtable)->relid);
    for (AttrNumber attribute : identifying.columns) add(a, column_returning(a, entry, attribute));
}

namespace {
Kept know_nothing(Oid) { return Kept::not_by_key; }
} // namespace

Kept (*how_kept)(Oid) = know_nothing;

namespace {

void compile_united_rows(Analysis &a) {
    Block *block = a.block;
    pg::vector<int> key = a.bag ? pg::vector<int>{} : union_key(a);
    block->identity = key.empty() ? Identity::multiset : Identity::rows;
    block->reason = key.empty() ? Reason::united_rows : Reason::primary_keys;
    for (int column : key) block->row_key.push_back(make_key(a, column));
}

} // namespace

void compile_rows(Analysis &a) {
    Block *block = a.block;
    if (block->unites()) return compile_united_rows(a);
    bool repeated = block->arms.front().repeats != NIL;
    bool identified = !a.bag && !repeated;
    pg::vector<Identifying> keys;
    for (int occurrence = 1; identified && occurrence <= list_length(a.core->rtable); occurrence++) {
        auto *entry = static_cast<RangeTblEntry *>(list_nth(a.core->rtable, occurrence - 1));
        keys.push_back(identifying_columns(a, occurrence, entry->relid));
        identified &= keys.back().found;
    }
    std::size_t columns = 0;
    for (const Identifying &each : keys) columns += each.columns.size();
    identified &= columns > 0; // else one row at most, which nothing tells apart from others
    block->identity = identified ? Identity::rows : Identity::multiset;
    block->reason = identified ? Reason::primary_keys : repeated ? Reason::repeated_rows : Reason::no_primary_key;
    if (!identified) return;
    for (std::size_t i = 0; i < keys.size(); i++)
        for (AttrNumber attribute : keys[i].columns) add_row_key(a, static_cast<int>(i + 1), attribute);
}

} // namespace compile
