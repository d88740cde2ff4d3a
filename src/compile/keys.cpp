// What tells the rows of a projection apart: the grouped columns or, without groups, the sources' primary keys.
#include "compile/analysis.hpp"
#include "compile/columns.hpp"

namespace compile {

namespace {

// Whether equal values may look different, by what btree asks before it stores equal keys once.
bool is_told_apart(Oid type, int32 typmod, Oid collation) {
    type = getBaseTypeAndTypmod(type, &typmod);
    if (type == NUMERICOID && typmod >= 0) return false; // of one scale
    if (type == BPCHAROID && typmod < 0) return true;    // blanks at the end do not count
    if (Oid element = get_element_type(type); OidIsValid(element)) return is_told_apart(element, typmod, collation);
    TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
    Oid equal_image =
        get_opfamily_proc(cache->btree_opf, cache->btree_opintype, cache->btree_opintype, BTEQUALIMAGE_PROC);
    return !OidIsValid(equal_image) ||
           !DatumGetBool(OidFunctionCall1Coll(equal_image, collation, ObjectIdGetDatum(cache->btree_opintype)));
}

} // namespace

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
            is_told_apart(type, exprTypmod(expression), exprCollation(expression)),
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

} // namespace

void compile_rows(Analysis &a) {
    Block *block = a.block;
    bool identified = !a.bag && !block->unites();
    for (RangeTblEntry *entry : pg::each<RangeTblEntry>(a.core->rtable))
        identified &= !block->unites() && !primary_key(entry->relid).empty();
    block->identity = identified ? Identity::rows : Identity::multiset;
    block->reason = identified ? Reason::primary_keys : block->unites() ? Reason::united_rows : Reason::no_primary_key;
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
            note_used(block->sources[block->occurrence_source[occurrence - 1]], attribute);
            block->row_key.push_back(make_key(a, column));
        }
    }
}

} // namespace compile
