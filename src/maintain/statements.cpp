#include "maintain/statements.hpp"

#include "compile/deparse.hpp"
#include "maintain/direct.hpp"

namespace maintain {

using catalog::Projection;
using compile::Block;
using compile::Key;
using compile::Shape;
using compile::State;
using compile::StateKind;

namespace {

const char *operator_text(Oid op) {
    return psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(get_func_namespace(get_opcode(op)))),
                    get_opname(op));
}

template <class Item>
const char *joined(int count, const char *separator, Item &&item) {
    StringInfoData text;
    initStringInfo(&text);
    for (int i = 0; i < count; i++) appendStringInfo(&text, "%s%s", i ? separator : "", item(i));
    return text.data;
}

// Parameters of add, remove and insert: the keys, then each state's delta.
const char *delta_parameter(const Block &block, std::size_t state) {
    return psprintf("$%zu", block.keys.size() + state + 1);
}

// Where a text finds a state's new value.
enum class In {
    update, // of the row t, by the deltas in the parameters
    insert, // of a new group: the deltas are the values
    row,    // of a row t that holds the new states already
};

// What a state becomes.
const char *new_state(Projection &projection, std::size_t index, In in) {
    const Block &block = projection.block();
    const State &state = block.states[index];
    if (in == In::row) return psprintf("t.%s", column_name(projection, state.column));
    bool update = in == In::update;
    const char *delta = delta_parameter(block, index);
    const char *old = psprintf("t.%s", column_name(projection, state.column));
    switch (state.kind) {
    case StateKind::count: return update ? psprintf("(%s + %s)", old, delta) : delta;
    case StateKind::extremum:
        return update ? psprintf("%s(%s, %s)", state.is_max ? "GREATEST" : "LEAST", old, delta) : delta;
    case StateKind::total: break;
    }
    const char *count = new_state(projection, state.validity, in);
    return update ? psprintf("(CASE WHEN %s = 0 THEN NULL ELSE COALESCE(%s + %s, %s) END)", count, old, delta, delta)
                  : psprintf("(CASE WHEN %s = 0 THEN NULL ELSE %s END)", count, delta);
}

const char *output_text(Projection &projection, compile::Template text, In in) {
    const Block &block = projection.block();
    StringInfoData out;
    initStringInfo(&out);
    auto state = [&](char, int index) { appendStringInfoString(&out, new_state(projection, index, in)); };
    // Deparsed places are quoted identifiers: the quotes around them go.
    auto strip = [&] {
        if (out.len > 0 && out.data[out.len - 1] == '"') out.data[--out.len] = '\0';
    };
    for (const char *at = text; *at; ++at) {
        if (*at != '\1') {
            appendStringInfoChar(&out, *at);
            continue;
        }
        strip();
        char kind = *++at;
        int index = 0;
        while (*++at != '\2') index = index * 10 + (*at - '0');
        if (at[1] == '"') ++at;
        appendStringInfoChar(&out, '(');
        if (kind == 'k')
            appendStringInfoString(&out, in == In::insert
                                             ? psprintf("$%d", index + 1)
                                             : psprintf("t.%s", column_name(projection, block.keys[index].column)));
        else if (kind == 'f')
            compile::expand(&out, block.finals[index], state);
        appendStringInfoChar(&out, ')');
    }
    return out.data;
}

const char *assignments(Projection &projection) {
    const Block &block = projection.block();
    int states = static_cast<int>(block.states.size());
    return joined(states + static_cast<int>(block.outputs.size()), ", ", [&](int i) {
        return i < states ? psprintf("%s = %s", column_name(projection, block.states[i].column),
                                     new_state(projection, i, In::update))
                          : psprintf("%s = %s", column_name(projection, block.outputs[i - states].column),
                                     output_text(projection, block.outputs[i - states].text, In::update));
    });
}

const char *all_columns(Projection &projection) {
    return joined(projection.block().columns(), ", ", [&](int i) { return column_name(projection, i); });
}

bool is_key(const Block &block, int column) {
    for (const Key &key : block.keys)
        if (key.column == column) return true;
    return false;
}

// "a = from(a), …" over the columns that are no key.
template <class From>
const char *non_key_assignments(Projection &projection, From &&from) {
    const Block &block = projection.block();
    StringInfoData text;
    initStringInfo(&text);
    for (int i = 0; i < block.columns(); i++)
        if (!is_key(block, i))
            appendStringInfo(&text, "%s%s = %s", text.len ? ", " : "", column_name(projection, i), from(i));
    return text.len ? text.data : nullptr;
}

const char *parameter(int i) { return psprintf("$%d", i + 1); }

// The keys' positions in a list of all columns.
const char *parameter_key_condition(Projection &projection, NullMask nulls) {
    return key_condition(projection, nulls, [&](int i) { return parameter(projection.block().keys[i].column); });
}

// Whether the row t differs from the parameters; types without equality are compared as text.
const char *differs(Projection &projection) {
    return joined(projection.block().columns(), " OR ", [&](int i) {
        Oid type = exprType(reinterpret_cast<Node *>(projection.block().column(i)->expr));
        const char *cast = OidIsValid(lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr) ? "" : "::text";
        return psprintf("t.%s%s IS DISTINCT FROM $%d%s", column_name(projection, i), cast, i + 1, cast);
    });
}

const char *insert_text(Projection &projection) {
    const Block &block = projection.block();
    int keys = static_cast<int>(block.keys.size()), states = static_cast<int>(block.states.size());
    int outputs = static_cast<int>(block.outputs.size());
    const char *columns = joined(keys + states + outputs, ", ", [&](int i) {
        return column_name(projection, i < keys            ? block.keys[i].column
                                       : i < keys + states ? block.states[i - keys].column
                                                           : block.outputs[i - keys - states].column);
    });
    const char *values = joined(keys + states + outputs, ", ", [&](int i) {
        return i < keys            ? parameter(i)
               : i < keys + states ? new_state(projection, i - keys, In::insert)
                                   : output_text(projection, block.outputs[i - keys - states].text, In::insert);
    });
    return psprintf("INSERT INTO %s AS t (%s) VALUES (%s) ON CONFLICT (%s) DO UPDATE SET %s", table_name(projection),
                    columns, values, key_columns(projection), assignments(projection));
}

const char *key_join(Projection &projection, const char *left, const char *right) {
    const Block &block = projection.block();
    return joined(static_cast<int>(block.keys.size()), " AND ", [&](int i) {
        const char *column = column_name(projection, block.keys[i].column);
        return psprintf("%s.%s %s %s.%s", left, column, operator_text(block.keys[i].equality), right, column);
    });
}

const char *drop_equal_text(Projection &projection) {
    int columns = projection.block().columns();
    const char *mine = joined(columns, ", ", [&](int i) { return psprintf("t.%s", column_name(projection, i)); });
    const char *given = joined(columns, ", ", parameter);
    const char *equal = joined(columns, " AND ", [&](int i) {
        return psprintf("t.%s IS NOT DISTINCT FROM $%d", column_name(projection, i), i + 1);
    });
    return psprintf("DELETE FROM ONLY %s WHERE ctid = ANY (ARRAY(SELECT t.ctid FROM ONLY %s AS t WHERE "
                    "hash_record_extended(ROW(%s), 0) = "
                    "hash_record_extended(ROW(%s), 0) AND %s LIMIT $%d))",
                    table_name(projection), table_name(projection), mine, given, equal, columns + 1);
}

const char *statement_text(Projection &projection, Statement statement, NullMask nulls) {
    const Block &block = projection.block();
    const char *table = table_name(projection);
    auto by_parameter = [&] { return key_condition(projection, nulls, parameter); };
    const char *count = block.row_count >= 0 ? new_state(projection, block.row_count, In::update) : nullptr;
    switch (statement) {
    case Statement::add:
        return psprintf("UPDATE ONLY %s AS t SET %s WHERE %s%s", table, assignments(projection), by_parameter(),
                        block.shape == Shape::groups ? psprintf(" AND %s > 0", count) : "");
    case Statement::remove:
        return psprintf("DELETE FROM ONLY %s AS t WHERE %s AND %s = 0", table, by_parameter(), count);
    case Statement::insert: return insert_text(projection);
    case Statement::lock: {
        const char *states = joined(static_cast<int>(block.states.size()), ", ", [&](int i) {
            return psprintf("t.%s", column_name(projection, block.states[i].column));
        });
        return psprintf("SELECT %s FROM ONLY %s AS t WHERE %s FOR UPDATE", *states ? states : "1", table,
                        by_parameter());
    }
    case Statement::replace: {
        const char *assigned = non_key_assignments(projection, parameter);
        if (assigned == nullptr)
            assigned = psprintf("%s = t.%s", column_name(projection, 0), column_name(projection, 0));
        return psprintf("UPDATE ONLY %s AS t SET %s WHERE %s AND (%s)", table, assigned,
                        parameter_key_condition(projection, nulls), differs(projection));
    }
    case Statement::place:
        return psprintf("INSERT INTO %s (%s) VALUES (%s) ON CONFLICT DO NOTHING", table, all_columns(projection),
                        joined(block.columns(), ", ", parameter));
    case Statement::discard: return psprintf("DELETE FROM ONLY %s AS t WHERE %s", table, by_parameter());
    case Statement::upsert: {
        const char *assigned =
            non_key_assignments(projection, [&](int i) { return psprintf("excluded.%s", column_name(projection, i)); });
        return psprintf("INSERT INTO %s (%s) SELECT %s FROM came ON CONFLICT (%s) DO %s%s", table,
                        all_columns(projection), all_columns(projection), key_columns(projection),
                        assigned ? "UPDATE SET " : "NOTHING", assigned ? assigned : "");
    }
    case Statement::withdraw:
        return psprintf("DELETE FROM ONLY %s AS t USING gone WHERE %s", table, key_join(projection, "t", "gone"));
    case Statement::copy:
        return psprintf("INSERT INTO %s (%s) SELECT %s FROM came", table, all_columns(projection),
                        all_columns(projection));
    case Statement::drop_equal: return drop_equal_text(projection);
    }
    pg_unreachable();
}

pg::vector<Oid> parameter_types(const Block &block, Statement statement) {
    pg::vector<Oid> types;
    switch (statement) {
    case Statement::add:
    case Statement::remove:
    case Statement::insert:
    case Statement::lock:
    case Statement::discard:
        for (const Key &key : block.keys) types.push_back(key.type);
        for (const State &state : block.states) types.push_back(state.type);
        break;
    case Statement::replace:
    case Statement::place:
    case Statement::drop_equal:
        for (int i = 0; i < block.columns(); i++)
            types.push_back(exprType(reinterpret_cast<Node *>(block.column(i)->expr)));
        if (statement == Statement::drop_equal) types.push_back(INT8OID);
        break;
    default: break;
    }
    return types;
}

// -------------------------------------------------------------------------------------------------- queries over the
// sources

List *source_columns(Oid relation, const char *extra) {
    List *names = NIL;
    Relation table = relation_open(relation, AccessShareLock);
    for (int i = 0; i < RelationGetNumberOfAttributes(table); i++) {
        Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(table), i);
        names =
            lappend(names, makeString(attribute->attisdropped ? pstrdup("") : pstrdup(NameStr(attribute->attname))));
    }
    relation_close(table, AccessShareLock);
    return lappend(names, makeString(pstrdup(extra)));
}

// Puts a named relation (a delta, an old state) in the place of a table.
void replace_entry(Query *query, int occurrence, const char *name) {
    auto *entry = static_cast<RangeTblEntry *>(list_nth(query->rtable, occurrence - 1));
    RangeTblEntry *named = makeNode(RangeTblEntry);
    named->rtekind = RTE_CTE;
    named->ctename = pstrdup(name);
    named->alias = makeAlias(entry->eref->aliasname, NIL);
    named->eref = makeAlias(entry->eref->aliasname, source_columns(entry->relid, capture::weight_column));
    named->inFromCl = true;
    lfirst(list_nth_cell(query->rtable, occurrence - 1)) = named;
}

void add_target(Query *query, Node *expression, const char *name) {
    query->targetList =
        lappend(query->targetList,
                makeTargetEntry(reinterpret_cast<Expr *>(expression),
                                static_cast<AttrNumber>(list_length(query->targetList) + 1), pstrdup(name), false));
}

void add_weight(Query *query, int occurrence, Oid relation) {
    Relation table = relation_open(relation, AccessShareLock);
    auto number = static_cast<AttrNumber>(RelationGetNumberOfAttributes(table) + 1);
    relation_close(table, AccessShareLock);
    add_target(query, reinterpret_cast<Node *>(makeVar(occurrence, number, INT8OID, -1, InvalidOid, 0)),
               psprintf("weight_%d", occurrence));
}

const char *old_state_text(const compile::Source &source, int index) {
    const char *columns = joined(static_cast<int>(source.used.size()), ", ", [&](int i) {
        return quote_identifier(get_attname(source.relation, source.used[i], false));
    });
    const char *table = pg::qualified_name(source.relation);
    // OFFSET 0: the planner cannot make a bare tuplestore scan depend on a join's other side, and without that it gives
    // up the index on the table beside it, too, and reads the whole table for every delta.
    return psprintf("old_%d AS NOT MATERIALIZED (SELECT %s%s1::bigint AS %s FROM ONLY %s UNION ALL (SELECT %s%s- %s "
                    "FROM delta_%d OFFSET 0))",
                    index, columns, *columns ? ", " : "", capture::weight_column, table, columns, *columns ? ", " : "",
                    capture::weight_column, index);
}

} // namespace

const char *table_name(const Projection &projection) { return projection.name(); }

const char *column_name(const Projection &projection, int column) {
    return quote_identifier(get_attname(projection.relation, static_cast<AttrNumber>(column + 1), false));
}

const char *key_columns(const Projection &projection) {
    const Block &block = *projection.compiled;
    return joined(static_cast<int>(block.keys.size()), ", ",
                  [&](int i) { return column_name(projection, block.keys[i].column); });
}

template <class Value>
const char *key_condition(Projection &projection, NullMask nulls, Value &&value) {
    const Block &block = projection.block();
    if (block.keys.empty()) return "true";
    return joined(static_cast<int>(block.keys.size()), " AND ", [&](int i) {
        const char *column = column_name(projection, block.keys[i].column);
        return nulls & (UINT64CONST(1) << i)
                   ? psprintf("t.%s IS NULL", column)
                   : psprintf("t.%s %s %s", column, operator_text(block.keys[i].equality), value(i));
    });
}

Statements &statements(Projection &projection) {
    if (projection.statements == nullptr) {
        MemoryContext memory = AllocSetContextCreate(projection.memory, "projection statements", ALLOCSET_SMALL_SIZES);
        projection.statements = pg::make<Statements>(memory);
        projection.statements->memory = memory;
        pg::within(memory, [&] {
            projection.statements->name = projection.name();
            projection.statements->key = key_columns(projection);
        });
    }
    return *projection.statements;
}

SPIPlanPtr find_plan(Projection &projection, int kind, uint64 variant) {
    for (const CachedPlan &cached : statements(projection).plans)
        if (cached.kind == kind && cached.variant == variant) return cached.plan;
    return nullptr;
}

SPIPlanPtr keep_plan(Projection &projection, int kind, uint64 variant, const char *text, int parameters, Oid *types) {
    ereport(DEBUG1, (errmsg_internal("%s", text), errhidestmt(true)));
    // A custom plan for each execution would plan at each commit; the statements find rows by key, whatever the values
    // are.
    SPIPlanPtr plan = SPI_prepare_cursor(text, parameters, types, CURSOR_OPT_GENERIC_PLAN);
    if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    if (SPI_keepplan(plan) != 0) elog(ERROR, "SPI_keepplan failed");
    Statements &kept = statements(projection);
    pg::within(kept.memory, [&] { kept.plans.push_back(CachedPlan{kind, variant, plan}); });
    return plan;
}

SPIPlanPtr plan_once(Projection &projection, Statement statement) {
    return pg::spi_prepare(statement_text(projection, statement, 0));
}

SPIPlanPtr plan(Projection &projection, Statement statement, NullMask nulls) {
    int kind = static_cast<int>(statement);
    if (SPIPlanPtr known = find_plan(projection, kind, nulls)) return known;
    pg::vector<Oid> types = parameter_types(projection.block(), statement);
    return keep_plan(projection, kind, nulls, statement_text(projection, statement, nulls),
                     static_cast<int>(types.size()), types.data());
}

void renew_statements(Projection &projection) {
    if (projection.statements_made_at == catalog::generation()) return;
    projection.statements_made_at = catalog::generation();
    discard_direct(projection);
    if (projection.statements == nullptr) return;
    for (const CachedPlan &cached : projection.statements->plans) SPI_freeplan(cached.plan);
    MemoryContextDelete(projection.statements->memory);
    projection.statements = nullptr;
}

const char *outputs_text(Projection &projection) {
    const Block &block = projection.block();
    const char *outputs = joined(static_cast<int>(block.outputs.size()), ", ",
                                 [&](int i) { return output_text(projection, block.outputs[i].text, In::row); });
    return psprintf("SELECT %s FROM ONLY %s AS t", outputs, table_name(projection));
}

const char *term_text(Projection &projection, int occurrence, uint32 changed) {
    const Block &block = projection.block();
    Query *query = static_cast<Query *>(copyObjectImpl(block.core));
    query->groupClause = NIL;
    query->hasAggs = false;
    if (block.grouped()) {
        query->targetList = NIL;
        for (Node *key : pg::each<Node>(block.key_expressions)) add_target(query, key, "key");
        for (Node *argument : pg::each<Node>(block.arguments)) add_target(query, argument, "argument");
    }
    StringInfoData with;
    initStringInfo(&with);
    uint32 written = 0;
    for (int i = 1; i <= occurrence; i++) {
        int source = block.occurrence_source[i - 1];
        uint32 bit = UINT32_C(1) << source;
        if (i < occurrence && !(changed & bit)) continue;
        replace_entry(query, i, psprintf(i == occurrence ? "delta_%d" : "old_%d", source));
        add_weight(query, i, block.sources[source].relation);
        if (i < occurrence && !(written & bit)) {
            appendStringInfo(&with, "%s%s", with.len ? ", " : "WITH ", old_state_text(block.sources[source], source));
            written |= bit;
        }
    }
    return psprintf("%s %s", with.data, compile::deparse(query));
}

const char *additions_text(Projection &projection, const char *rows) {
    return psprintf("WITH delta_0 AS NOT MATERIALIZED (%s)%s ORDER BY weight_1", rows, term_text(projection, 1, 1));
}

const char *definition_text(Projection &projection, const char *rows) {
    Query *query = static_cast<Query *>(copyObjectImpl(projection.block().core));
    replace_entry(query, 1, "delta_0");
    return psprintf("WITH delta_0 AS NOT MATERIALIZED (%s) %s", rows, compile::deparse(query));
}

const char *definition_over(Projection &projection, std::span<const char *const> rows) {
    const Block &block = projection.block();
    Query *query = static_cast<Query *>(copyObjectImpl(block.core));
    StringInfoData with;
    initStringInfo(&with);
    for (std::size_t i = 0; i < rows.size(); i++) {
        if (rows[i] == nullptr) continue;
        appendStringInfo(&with, "%ssource_%zu AS NOT MATERIALIZED (%s)", with.len ? ", " : "WITH ", i, rows[i]);
        for (std::size_t k = 0; k < block.occurrence_source.size(); k++)
            if (block.occurrence_source[k] == static_cast<int>(i))
                replace_entry(query, static_cast<int>(k + 1), psprintf("source_%zu", i));
    }
    return psprintf("%s %s", with.data, compile::deparse(query));
}

const char *recompute_text(Projection &projection, NullMask nulls, const char *rows) {
    const Block &block = projection.block();
    Query *query = static_cast<Query *>(copyObjectImpl(block.core));
    if (rows) replace_entry(query, 1, "delta_0");
    const char *with = rows ? psprintf("WITH delta_0 AS NOT MATERIALIZED (%s) ", rows) : "";
    if (block.keys.empty()) return psprintf("%sSELECT d.*, 0::bigint FROM (%s) AS d", with, compile::deparse(query));

    List *names = NIL;
    for (std::size_t i = 0; i < block.keys.size(); i++) names = lappend(names, makeString(psprintf("k%zu", i)));
    names = lappend(names, makeString(pstrdup("ordinal")));
    RangeTblEntry *affected = makeNode(RangeTblEntry);
    affected->rtekind = RTE_CTE;
    affected->ctename = pstrdup("affected");
    affected->eref = makeAlias("affected", names);
    affected->inFromCl = true;
    query->rtable = lappend(query->rtable, affected);
    int index = list_length(query->rtable);
    RangeTblRef *reference = makeNode(RangeTblRef);
    reference->rtindex = index;
    query->jointree->fromlist = lappend(query->jointree->fromlist, reference);

    List *conditions = make_ands_implicit(reinterpret_cast<Expr *>(query->jointree->quals));
    int i = 0;
    for (Node *key : pg::each<Node>(block.key_expressions)) {
        const Key &type = block.keys[i];
        Expr *left = static_cast<Expr *>(copyObjectImpl(key));
        if (nulls & (UINT64CONST(1) << i)) {
            NullTest *test = makeNode(NullTest);
            test->arg = left;
            test->nulltesttype = IS_NULL;
            test->location = -1;
            conditions = lappend(conditions, test);
        } else {
            Var *value = makeVar(index, static_cast<AttrNumber>(i + 1), type.type, -1, type.collation, 0);
            conditions =
                lappend(conditions, make_opclause(type.equality, BOOLOID, false, left, reinterpret_cast<Expr *>(value),
                                                  InvalidOid, type.collation));
        }
        i++;
    }
    query->jointree->quals = reinterpret_cast<Node *>(make_ands_explicit(conditions));

    // One key has one ordinal: grouping by it too changes no group.
    Var *ordinal = makeVar(index, static_cast<AttrNumber>(block.keys.size() + 1), INT8OID, -1, InvalidOid, 0);
    add_target(query, reinterpret_cast<Node *>(ordinal), "ordinal");
    if (query->groupClause != NIL) {
        TargetEntry *target = static_cast<TargetEntry *>(llast(query->targetList));
        Index reference_number = 1;
        for (TargetEntry *each : pg::each<TargetEntry>(query->targetList))
            reference_number = std::max(reference_number, each->ressortgroupref + 1);
        target->ressortgroupref = reference_number;
        SortGroupClause *clause = makeNode(SortGroupClause);
        clause->tleSortGroupRef = reference_number;
        TypeCacheEntry *type = lookup_type_cache(INT8OID, TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR);
        clause->eqop = type->eq_opr;
        clause->sortop = type->lt_opr;
        clause->hashable = true;
        query->groupClause = lappend(query->groupClause, clause);
    }
    return psprintf("%s%s", with, compile::deparse(query));
}

} // namespace maintain
