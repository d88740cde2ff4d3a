// One table of statements, each a text made when it is first needed, and a plan kept while generation() stands still.
#include "maintain/statements.hpp"

#include "capture/trigger.hpp"
#include "catalog/lineage.hpp"
#include "compile/deparse.hpp"
#include "compile/expressions.hpp"
#include "maintain/direct.hpp"
#include "pg/list.hpp"
#include "pg/plan.hpp"
#include "pg/query.hpp"

namespace maintain {

using catalog::Projection;
using compile::Block;
using compile::Key;
using compile::State;
using compile::StateKind;

const char *operator_text(Oid op) {
    return psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(get_func_namespace(get_opcode(op)))),
                    get_opname(op));
}

namespace {

const char *parameter(int i) { return psprintf("$%d", i + 1); }

// Where a text finds a state's new value.
enum class In {
    update, // of the row t, by the deltas in the parameters that follow those of the key
    insert, // of a new group: the deltas are the values
    row,    // of a row t that holds the new states already
};

Node *delta_value(const Block &block, std::size_t state) {
    Param *made = makeNode(Param);
    made->paramkind = PARAM_EXTERN;
    made->paramid = static_cast<int>(block.row_key.size() + state + 1);
    made->paramtype = block.states[state].type;
    made->paramtypmod = -1;
    made->paramcollid = block.states[state].collation;
    made->location = -1;
    return reinterpret_cast<Node *>(made);
}

// A parameter has no collation of its own: where the column has one that is not its type's, it is said.
Node *collated(Node *value, Oid collation) {
    if (!OidIsValid(collation) || collation == get_typcollation(exprType(value))) return value;
    CollateExpr *made = makeNode(CollateExpr);
    made->arg = reinterpret_cast<Expr *>(value);
    made->collOid = collation;
    made->location = -1;
    return reinterpret_cast<Node *>(made);
}

Node *beyond(const State &state, Node *a, Node *b) {
    MinMaxExpr *made = makeNode(MinMaxExpr);
    made->minmaxtype = state.type;
    made->minmaxcollid = made->inputcollid = state.collation;
    made->op = state.is_max ? IS_GREATEST : IS_LEAST;
    made->args = list_make2(a, b);
    made->location = -1;
    return reinterpret_cast<Node *>(made);
}

// What a state becomes.
Node *new_state(const Block &block, std::size_t index, In in) {
    const State &state = block.states[index];
    Node *old = compile::row_column(&block, state.column);
    if (in == In::row) return old;
    Node *delta = delta_value(block, index);
    bool update = in == In::update;
    if (!update) delta = collated(delta, state.collation);
    switch (state.kind) {
    case StateKind::count: return update ? compile::operation("+", old, delta) : delta;
    case StateKind::extremum: return update ? beyond(state, old, delta) : delta;
    case StateKind::total: break;
    }
    Node *none = compile::operation("=", new_state(block, state.validity, in), compile::int_constant(0));
    Node *value = update ? compile::coalesce(compile::operation("+", old, delta), delta) : delta;
    return compile::choice({{none, compile::null_like(value)}}, value);
}

struct Renewed {
    const Block &block;
    In in;
};

// An expression over the row, with the new values of its keys and states.
Node *renew(Node *node, Renewed *to) {
    if (node == nullptr) return nullptr;
    if (!IsA(node, Var)) return pg::mutate_children(node, renew, to);
    int column = reinterpret_cast<Var *>(node)->varattno - 1;
    for (std::size_t i = 0; i < to->block.states.size(); i++)
        if (to->block.states[i].column == column) return new_state(to->block, i, to->in);
    for (std::size_t i = 0; to->in == In::insert && i < to->block.row_key.size(); i++) {
        const Key &key = to->block.row_key[i];
        if (key.column != column) continue;
        Param *made = makeNode(Param);
        made->paramkind = PARAM_EXTERN;
        made->paramid = static_cast<int>(i + 1);
        made->paramtype = key.type;
        made->paramtypmod = -1;
        made->paramcollid = key.collation;
        made->location = -1;
        return collated(reinterpret_cast<Node *>(made), key.collation);
    }
    return pg::copy(node);
}

const char *text_of(const Projection &projection, Node *expression) {
    return compile::deparse_over(expression, "t", projection.relation);
}

const char *state_text(Projection &projection, std::size_t index, In in) {
    return text_of(projection, new_state(projection.block(), index, in));
}

const char *output_text(Projection &projection, Node *expression, In in) {
    Renewed to{projection.block(), in};
    return text_of(projection, renew(expression, &to));
}

const char *assignments(Projection &projection) {
    const Block &block = projection.block();
    int states = static_cast<int>(block.states.size());
    return pg::joined(states + static_cast<int>(block.outputs.size()), ", ", [&](int i) {
        return i < states ? psprintf("%s = %s", column_name(projection, block.states[i].column),
                                     state_text(projection, i, In::update))
                          : psprintf("%s = %s", column_name(projection, block.outputs[i - states].column),
                                     output_text(projection, block.outputs[i - states].expression, In::update));
    });
}

const char *all_columns(Projection &projection) {
    return pg::joined(projection.block().columns(), ", ", [&](int i) { return column_name(projection, i); });
}

bool is_key(const Block &block, int column) {
    for (const Key &key : block.row_key)
        if (key.column == column) return true;
    return false;
}

// A key column whose equal values look different: its row shows one that is there.
bool is_told_apart(const Block &block, int column) {
    for (const Key &key : block.row_key)
        if (key.column == column) return key.told_apart;
    return false;
}

// "a = from(a), …" over the columns that are no key.
template <class From>
const char *non_key_assignments(Projection &projection, From &&from) {
    const Block &block = projection.block();
    pg::TextList text;
    for (int i = 0; i < block.columns(); i++)
        if (!is_key(block, i)) text.add("%s = %s", column_name(projection, i), from(i));
    return !text.empty() ? text.text() : nullptr;
}

// "a = $1, …" over the columns that may change while their row stays.
const char *changeable_assignments(Projection &projection) {
    const Block &block = projection.block();
    pg::TextList text;
    for (int i = 0; i < block.columns(); i++)
        if (!is_key(block, i) || is_told_apart(block, i)) text.add("%s = $%d", column_name(projection, i), i + 1);
    return !text.empty() ? text.text() : nullptr;
}

// The keys' positions in a list of all columns.
const char *parameter_key_condition(Projection &projection, NullMask nulls) {
    const auto &keys = projection.block().row_key;
    return key_condition(projection, keys, nulls, [&](int i) { return parameter(keys[i].column); });
}

// " COLLATE c" where the values are compared otherwise than their type's are.
const char *collate(Oid collation, Oid type) {
    if (!OidIsValid(collation) || collation == get_typcollation(type)) return "";
    return psprintf(" COLLATE %s", generate_collation_name(collation));
}

// The parameters of all columns, compared and hashed as the columns are: a parameter has no collation of its own.
const char *all_parameters(const Block &block) {
    return pg::joined(block.columns(), ", ", [&](int i) {
        auto *expression = reinterpret_cast<Node *>(block.column(i)->expr);
        return psprintf("$%d%s", i + 1, collate(exprCollation(expression), exprType(expression)));
    });
}

// The row t, and the parameters, as a row. The cast keeps the parser from comparing column by column, with operators
// that it finds by name.
const char *row_of_table(Projection &projection) {
    return psprintf("ROW(%s)::record", pg::joined(projection.block().columns(), ", ",
                                                  [&](int i) { return psprintf("t.%s", column_name(projection, i)); }));
}

const char *row_of_parameters(Projection &projection) {
    return psprintf("ROW(%s)::record", all_parameters(projection.block()));
}

// Whether the row t and the parameters are the same to the bit: equal values may look different (1.0 and 1.00).
const char *is_image(Projection &projection) {
    return psprintf("%s OPERATOR(pg_catalog.*=) %s", row_of_table(projection), row_of_parameters(projection));
}

const char *insert_text(Projection &projection) {
    const Block &block = projection.block();
    int keys = static_cast<int>(block.row_key.size()), states = static_cast<int>(block.states.size());
    int outputs = static_cast<int>(block.outputs.size());
    const char *columns = pg::joined(keys + states + outputs, ", ", [&](int i) {
        return column_name(projection, i < keys            ? block.row_key[i].column
                                       : i < keys + states ? block.states[i - keys].column
                                                           : block.outputs[i - keys - states].column);
    });
    const char *values = pg::joined(keys + states + outputs, ", ", [&](int i) {
        return i < keys            ? parameter(i)
               : i < keys + states ? state_text(projection, i - keys, In::insert)
                                   : output_text(projection, block.outputs[i - keys - states].expression, In::insert);
    });
    return psprintf("INSERT INTO %s AS t (%s) SELECT %s ON CONFLICT (%s) DO UPDATE SET %s", table_name(projection),
                    columns, values, key_columns(projection), assignments(projection));
}

const char *key_join(Projection &projection, const char *left, const char *right, NullMask nulls) {
    const Block &block = projection.block();
    return pg::joined(static_cast<int>(block.row_key.size()), " AND ", [&](int i) {
        const char *column = column_name(projection, block.row_key[i].column);
        if (nulls & (UINT64CONST(1) << i)) return psprintf("%s.%s IS NULL", left, column);
        return psprintf("%s.%s %s %s.%s", left, column, operator_text(block.row_key[i].equality), right, column);
    });
}

// " AND t.k = $1 …": the keys of slices, by which rows are indexed; their values are among those of all columns.
const char *of_slice(Projection &projection, NullMask nulls) {
    const Block &block = projection.block();
    if (!block.slices()) return "";
    return psprintf(" AND %s", key_condition(projection, block.keys, nulls,
                                             [&](int i) { return parameter(block.keys[i].column); }));
}

const char *drop_equal_text(Projection &projection, NullMask nulls) {
    int columns = projection.block().columns();
    const char *mine = pg::joined(columns, ", ", [&](int i) { return psprintf("t.%s", column_name(projection, i)); });
    const char *given = all_parameters(projection.block());
    // Of equal rows, those that look like the one that went, and others only where there are not so many: no more are
    // read than go, however many there are. (Test: test/work)
    auto some = [&](const char *look) {
        return psprintf("(SELECT t.ctid FROM ONLY %s AS t WHERE hash_record_extended(ROW(%s), 0) = "
                        "hash_record_extended(ROW(%s), 0) AND %s OPERATOR(pg_catalog.=) %s%s AND %s(%s) LIMIT $%d)",
                        table_name(projection), mine, given, row_of_table(projection), row_of_parameters(projection),
                        of_slice(projection, nulls), look, is_image(projection), columns + 1);
    };
    return psprintf("DELETE FROM ONLY %s WHERE ctid = ANY (ARRAY(%s UNION ALL %s LIMIT $%d))", table_name(projection),
                    some(""), some("NOT "), columns + 1);
}

const char *statement_text(Projection &projection, Statement statement, NullMask nulls) {
    const Block &block = projection.block();
    const char *table = table_name(projection);
    auto by_parameter = [&] { return key_condition(projection, block.row_key, nulls, parameter); };
    const char *count = block.row_count >= 0 ? state_text(projection, block.row_count, In::update) : nullptr;
    switch (statement) {
    case Statement::add:
        return psprintf("UPDATE ONLY %s AS t SET %s WHERE %s%s", table, assignments(projection), by_parameter(),
                        !block.always_has_row() ? psprintf(" AND %s > 0", count) : "");
    case Statement::remove:
        return psprintf("DELETE FROM ONLY %s AS t WHERE %s AND %s = 0", table, by_parameter(), count);
    case Statement::insert: return insert_text(projection);
    case Statement::lock: {
        const char *states = pg::joined(static_cast<int>(block.states.size()), ", ", [&](int i) {
            return psprintf("t.%s", column_name(projection, block.states[i].column));
        });
        const char *keys = pg::joined(static_cast<int>(block.row_key.size()), "", [&](int i) {
            return psprintf(", t.%s", column_name(projection, block.row_key[i].column));
        });
        return psprintf("SELECT %s%s FROM ONLY %s AS t WHERE %s FOR UPDATE", *states ? states : "1",
                        *states ? keys : "", table, by_parameter());
    }
    case Statement::replace: {
        const char *assigned = changeable_assignments(projection);
        if (assigned == nullptr)
            assigned = psprintf("%s = t.%s", column_name(projection, 0), column_name(projection, 0));
        return psprintf("UPDATE ONLY %s AS t SET %s WHERE %s AND NOT (%s)", table, assigned,
                        parameter_key_condition(projection, nulls), is_image(projection));
    }
    case Statement::place:
        // Of the key only: what conflicts with another constraint is no row that could be locked and written instead.
        return psprintf("INSERT INTO %s (%s) VALUES (%s)%s", table, all_columns(projection),
                        pg::joined(block.columns(), ", ", parameter),
                        block.row_key.empty() ? "" : psprintf(" ON CONFLICT (%s) DO NOTHING", key_columns(projection)));
    case Statement::discard: return psprintf("DELETE FROM ONLY %s AS t WHERE %s", table, by_parameter());
    case Statement::upsert: {
        const char *assigned =
            non_key_assignments(projection, [&](int i) { return psprintf("excluded.%s", column_name(projection, i)); });
        return psprintf("INSERT INTO %s (%s) SELECT %s FROM came ON CONFLICT (%s) DO %s%s", table,
                        all_columns(projection), all_columns(projection), key_columns(projection),
                        assigned ? "UPDATE SET " : "NOTHING", assigned ? assigned : "");
    }
    case Statement::withdraw:
        return psprintf("DELETE FROM ONLY %s AS t USING gone WHERE %s", table,
                        key_join(projection, "t", "gone", nulls));
    case Statement::copy:
        return psprintf("INSERT INTO %s (%s) SELECT %s FROM came", table, all_columns(projection),
                        all_columns(projection));
    case Statement::drop_equal: return drop_equal_text(projection, nulls);
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
        for (const Key &key : block.row_key) types.push_back(key.type);
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

} // namespace

const char *table_name(const Projection &projection) { return projection.name(); }

const char *column_name(const Projection &projection, int column) {
    return quote_identifier(get_attname(projection.relation, static_cast<AttrNumber>(column + 1), false));
}

const char *key_columns(const Projection &projection) {
    const Block &block = *projection.compiled;
    return pg::joined(static_cast<int>(block.row_key.size()), ", ",
                      [&](int i) { return column_name(projection, block.row_key[i].column); });
}

// A name may hold what ends a comment.
static const char *comment_on(const Projection &projection) {
    const char *name = projection.name();
    if (strstr(name, "*/") || strstr(name, "/*")) name = psprintf("%u", projection.relation);
    return psprintf("/* maintenance of projection %s */", name);
}

static void name_for_errors(const Projection &projection, Statements &made) {
    made.schema = get_namespace_name(get_rel_namespace(projection.relation));
    made.table = get_rel_name(projection.relation);
    for (const compile::Key &key : projection.compiled->row_key)
        made.key_names =
            lappend(made.key_names, get_attname(projection.relation, static_cast<AttrNumber>(key.column + 1), false));
    made.known_name =
        OidIsValid(projection.shadow_of) ? pg::qualified_name(projection.shadow_of) : projection.known_name();
    made.key_not_null = projection.key_not_null;
}

Statements &statements(Projection &projection) {
    if (projection.statements == nullptr) {
        MemoryContext memory = AllocSetContextCreate(projection.memory, "projection statements", ALLOCSET_SMALL_SIZES);
        projection.statements = pg::make<Statements>(memory);
        projection.statements->memory = memory;
        projection.grew();
        pg::within(memory, [&] {
            projection.statements->name = projection.name();
            projection.statements->purpose = comment_on(projection);
            projection.statements->key = key_columns(projection);
            name_for_errors(projection, *projection.statements);
        });
    }
    return *projection.statements;
}

namespace {

KeptPlan *find_plan(Projection &projection, int kind, uint64 variant) {
    for (KeptPlan &kept : statements(projection).plans)
        if (kept.kind == kind && kept.variant == variant) return &kept;
    return nullptr;
}

BlockNumber blocks_of_sources(const Projection &projection) {
    BlockNumber blocks = 0;
    auto add = [&](Oid relation) {
        Relation table = try_relation_open(relation, AccessShareLock);
        if (table == nullptr) return;
        if (RELKIND_HAS_STORAGE(table->rd_rel->relkind)) blocks += RelationGetNumberOfBlocks(table);
        relation_close(table, NoLock);
    };
    for (Oid source : projection.sources) {
        add(source);
        for (Oid member : catalog::members(source)) add(member);
    }
    return blocks;
}

} // namespace

SPIPlanPtr find_query(Projection &projection, int kind, uint64 variant) {
    KeptPlan *kept = find_plan(projection, kind, variant);
    if (kept == nullptr) return nullptr;
    // The planner takes an empty table for one of ten pages.
    if (blocks_of_sources(projection) / 2 <= std::max<BlockNumber>(kept->blocks, 5)) return kept->plan;
    SPI_freeplan(kept->plan);
    auto &plans = statements(projection).plans;
    plans.erase(plans.begin() + (kept - plans.data()));
    return nullptr;
}

SPIPlanPtr keep_plan(Projection &projection, int kind, uint64 variant, const char *text, int parameters, Oid *types) {
    ereport(DEBUG1, (errmsg_internal("%s", text), errhidestmt(true)));
    // A custom plan for each execution would plan at each commit; the statements find rows by key, whatever the values
    // are.
    SPIPlanPtr plan = pg::spi_prepare_cursor(text, parameters, types, CURSOR_OPT_GENERIC_PLAN);
    if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    if (SPI_keepplan(plan) != 0) elog(ERROR, "SPI_keepplan failed");
    Statements &kept = statements(projection);
    BlockNumber blocks = kind < 0 ? blocks_of_sources(projection) : 0;
    pg::within(kept.memory, [&] { kept.plans.push_back(KeptPlan{kind, variant, plan, blocks}); });
    projection.grew();
    return plan;
}

OneStatement::OneStatement(Oid relation) {
    capture::writing_begins(this, relation);
    AfterTriggerBeginQuery();
}

// Not in a destructor: an ERROR runs none, and the abort of its (sub)transaction undoes both.
void OneStatement::end() {
    EState *state = CreateExecutorState();
    CommandCounterIncrement();
    pg::with_snapshot(GetTransactionSnapshot(), [&] { AfterTriggerEndQuery(state); });
    ExecCloseResultRelations(state);
    ExecResetTupleTable(state->es_tupleTable, false);
    FreeExecutorState(state);
    capture::writing_ends(this);
}

int64 run_plan(SPIPlanPtr plan, const Datum *values, const char *nulls, Snapshot snapshot) {
    int code =
        SPI_execute_snapshot(plan, const_cast<Datum *>(values), nulls, snapshot, InvalidSnapshot, false, false, 0);
    if (code < 0) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
    return static_cast<int64>(SPI_processed);
}

SPIPlanPtr plan_once(Projection &projection, Statement statement, NullMask nulls) {
    return pg::spi_prepare(statement_text(projection, statement, nulls));
}

SPIPlanPtr plan(Projection &projection, Statement statement, NullMask nulls) {
    int kind = static_cast<int>(statement);
    pg::Reads reads = statement == Statement::drop_equal ? pg::Reads::first : pg::Reads::all;
    if (KeptPlan *known = find_plan(projection, kind, nulls)) return pg::planned_by_index(known->plan, false, reads);
    pg::vector<Oid> types = parameter_types(projection.block(), statement);
    SPIPlanPtr made = keep_plan(projection, kind, nulls, statement_text(projection, statement, nulls),
                                static_cast<int>(types.size()), types.data());
    return pg::planned_by_index(made, true, reads);
}

void renew_statements(Projection &projection) {
    if (projection.statements_made_at == catalog::generation()) return;
    projection.statements_made_at = catalog::generation();
    discard_statements(projection);
}

void discard_statements(Projection &projection) {
    discard_direct(projection);
    if (projection.statements == nullptr) return;
    for (const KeptPlan &kept : projection.statements->plans) SPI_freeplan(kept.plan);
    MemoryContextDelete(projection.statements->memory);
    projection.statements = nullptr;
}

const char *outputs_text(Projection &projection) {
    const Block &block = projection.block();
    const char *outputs = pg::joined(static_cast<int>(block.outputs.size()), ", ", [&](int i) {
        return output_text(projection, block.outputs[i].expression, In::row);
    });
    return psprintf("SELECT %s FROM ONLY %s AS t", outputs, table_name(projection));
}

} // namespace maintain
