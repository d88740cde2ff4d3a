// A projection's table: its columns, its key, and its first rows.
#include "declare/table.hpp"

#include "catalog/hidden.hpp"
#include "compile/deparse.hpp"
#include "pg/index.hpp"
#include "pg/list.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"

namespace declare {

using compile::Block;

namespace {

const char *column_names(const Block &block) {
    return pg::joined(block.columns(), ", ", [&](int i) { return quote_identifier(block.column(i)->resname); });
}

const char *column_definitions(const Block &block) {
    return pg::joined(block.columns(), ", ", [&](int i) {
        const TargetEntry *entry = block.column(i);
        return psprintf("%s %s", quote_identifier(entry->resname), compile::type_and_collation(entry));
    });
}

} // namespace

// What users do not see of a projection is not what they know its rows by.
bool returns_key(const Block &block) {
    return std::all_of(block.row_key.begin(), block.row_key.end(),
                       [&](const compile::Key &key) { return key.column < block.user_columns; });
}

KeyPromise promise_of(const Block &block, bool asked_for, bool taken) {
    if (!block.has_key() || !catalog::sql_is_current()) return {}; // older objects know a unique index only
    bool never_null = asked_for || compile::key_nulls(block).nullable.empty();
    bool primary = never_null && !taken && returns_key(block);
    return {primary, asked_for && !primary};
}

KeyPromise promise_of(catalog::Projection &projection, bool taken) {
    if (OidIsValid(projection.part_of)) return {};
    return promise_of(projection.block(), projection.key_not_null, taken);
}

void check_key_not_null(const Block &block, bool asked_for) {
    if (!asked_for || block.has_key()) return;
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"key_not_null\" has no effect on this query"),
             errdetail("%s", block.always_has_row() ? "It always has one row, and no key." : "Its rows have no key."),
             errhint("Leave it out (null takes it back)%s",
                     block.always_has_row() ? "." : ", or give every source a primary key.")));
}

const char *key_not_null(const Block &block) {
    pg::TextList text;
    for (char *name : pg::each<char>(key_names(block))) text.add("ALTER %s SET NOT NULL", quote_identifier(name));
    return text.text();
}

const char *identity_index(const char *name, const char *table, const Block &block, KeyPromise promise) {
    const char *key = key_text(block);
    if (key && promise.primary)
        return psprintf("ALTER TABLE %s ADD %s%s%sPRIMARY KEY (%s)", table, *name ? "CONSTRAINT " : "", name,
                        *name ? " " : "", key);
    if (key)
        return psprintf("CREATE UNIQUE INDEX %s%sON %s (%s) NULLS NOT DISTINCT%s", name, *name ? " " : "", table, key,
                        promise.not_null ? psprintf("; ALTER TABLE %s %s", table, key_not_null(block)) : "");
    if (block.counts_equal_rows()) {
        pg::TextList columns; // slices of rows are read by their keys, and single rows removed from them
        for (const compile::Key &each : block.keys)
            columns.add("%s", quote_identifier(block.column(each.column)->resname));
        columns.add("pg_catalog.hash_record_extended(ROW(%s), 0)", column_names(block));
        return psprintf("CREATE INDEX %s%sON %s (%s)", name, *name ? " " : "", table, columns.text());
    }
    return nullptr;
}

namespace {

// Groups are updated again and again: room on the page keeps updates HOT. Only the first rows are spread so: with a
// lasting fillfactor every update would find its page filled beyond it and prune it, for one dead row at a time, which
// measured as half the cost of an update.
constexpr int first_fillfactor = 50;

void create_table(const char *table, const Block &block) {
    const char *spread = block.grouped() ? psprintf(" WITH (fillfactor = %d)", first_fillfactor) : "";
    pg::spi_execute(psprintf("CREATE TABLE %s (%s)%s", table, column_definitions(block), spread));
    CommandCounterIncrement();
}

void create_key(const char *table, const Block &block, KeyPromise promise) {
    if (const char *key = identity_index("", table, block, promise)) pg::spi_execute(key);
    CommandCounterIncrement();
}

// Hidden, and the caller's all the same: what its maintenance does it does as its owner. Before there is an index,
// which core makes as the table's owner.
void create_hidden_table(const char *table, const Block &block, const char *part_of) {
    const char *owner = quote_identifier(GetUserNameFromId(GetUserId(), false));
    pg::as_superuser([&] {
        create_table(table, block);
        pg::spi_execute(psprintf("ALTER TABLE %s OWNER TO %s", table, owner));
        create_key(table, block, {}); // which no client sees
        catalog::mark_hidden(psprintf("TABLE %s", table), "part", part_of);
    });
    CommandCounterIncrement();
}

} // namespace

Oid make_table(const Request &request, const Block &block) {
    const char *table = quote_qualified_identifier(request.schema, request.relation);
    if (request.part_of)
        create_hidden_table(table, block, request.part_of);
    else {
        create_table(table, block);
        create_key(table, block, promise_of(block, request.key_not_null));
    }
    return get_relname_relid(request.relation, request.namespace_oid);
}

namespace {

bool is_part(const Block &block, int occurrence) {
    Oid relation = block.entry(occurrence)->relid;
    return pg::is_own_schema(get_rel_namespace(relation)) && !catalog::is_event_source(relation);
}

} // namespace

void index_parts(const Block &block) {
    for (int i = 1; i <= static_cast<int>(block.occurrence_source.size()); i++) {
        if (!is_part(block, i)) continue;
        for (char *statement : pg::each<char>(index_advice(block, i)))
            pg::as_superuser([&] { pg::spi_execute(statement); });
        CommandCounterIncrement();
    }
}

void forget_spread(Oid table) {
    const char *reset = psprintf("ALTER TABLE %s RESET (fillfactor)", pg::qualified_name(table));
    if (pg::is_own_schema(get_rel_namespace(table))) // hidden: its owner may not
        pg::as_superuser([&] { pg::spi_execute(reset); });
    else
        pg::spi_execute(reset);
}

namespace {

// Whose rows are being filled in.
struct Filling {
    const char *schema, *table, *key;
    List *names;
};

// As maintenance tells a writer of it (maintain/flush.cpp).
void explain_null(void *argument) {
    auto &filling = *static_cast<Filling *>(argument);
    if (geterrcode() != ERRCODE_NOT_NULL_VIOLATION ||
        !pg::is_about_column(filling.schema, filling.table, filling.names))
        return;
    errdetail("The key of the query is (%s), and with option key_not_null there can be no NULL in it.", filling.key);
    errhint("Add a condition (IS NOT NULL), put coalesce() around it, or leave out the option.");
}

uint64 insert_rows(Oid table, const char *from, const Block &block) {
    SPIPlanPtr plan = pg::spi_prepare(
        psprintf("INSERT INTO %s (%s) SELECT * FROM %s", pg::qualified_name(table), column_names(block), from));
    CommandCounterIncrement();
    // Writers whose end the locks waited for have committed after a REPEATABLE READ transaction's snapshot was taken.
    int code = SPI_execute_snapshot(plan, nullptr, nullptr, GetLatestSnapshot(), InvalidSnapshot, false, true, 0);
    if (code < 0) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
    return SPI_processed;
}

} // namespace

uint64 fill(Oid table, Oid definition, const Block &block, bool empty) {
    if (empty && !block.always_has_row()) return 0;
    const char *from = pg::qualified_name(definition);
    if (empty) {
        Query *query = pg::copy<Query>(block.core);
        query->jointree->quals = makeBoolConst(false, false);
        from = psprintf("(%s) AS d", compile::deparse(query));
    }
    Filling filling{get_namespace_name(get_rel_namespace(table)), get_rel_name(table), key_text(block),
                    key_names(block)};
    ErrorContextCallback context{error_context_stack, explain_null, &filling};
    error_context_stack = &context;
    uint64 rows = insert_rows(table, from, block);
    error_context_stack = context.previous;
    return rows;
}

} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_identity_index);
Datum projections_identity_index(PG_FUNCTION_ARGS) {
    const char *statement = nullptr;
    catalog::look(PG_GETARG_OID(0), [&](catalog::Projection &projection) {
        if (projection.kind == catalog::Kind::query)
            statement =
                declare::identity_index("", projection.name(), projection.block(),
                                        declare::promise_of(projection, pg::has_primary_key(projection.relation)));
    });
    if (statement == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(statement));
}

PG_FUNCTION_INFO_V1(projections_not_null_columns);
// None where the table does not say that its key is never NULL.
Datum projections_not_null_columns(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    catalog::look(PG_GETARG_OID(0), [&](catalog::Projection &projection) {
        if (projection.kind != catalog::Kind::query) return;
        const compile::Block &block = projection.block();
        auto is_not_null = [&](const compile::Key &key) {
            return pg::is_not_null(projection.relation, static_cast<AttrNumber>(key.column + 1));
        };
        compile::KeyNulls nulls = compile::key_nulls(block);
        if (!nulls.nullable.empty() || !std::all_of(block.row_key.begin(), block.row_key.end(), is_not_null)) return;
        for (const compile::NotNull &each : nulls.relied) {
            Datum values[] = {ObjectIdGetDatum(each.relation), Int16GetDatum(each.column)};
            bool none[] = {false, false};
            tuplestore_putvalues(result->setResult, result->setDesc, values, none);
        }
    });
    PG_RETURN_NULL();
}

} // extern "C"
