// A projection's table: its columns, the index of its key, and its first rows.
#include "declare/table.hpp"

#include "catalog/hidden.hpp"
#include "compile/deparse.hpp"
#include "pg/list.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"

namespace declare {

using compile::Block;

namespace {

const char *column_list(const Block &block, bool with_types) {
    return pg::joined(block.columns(), ", ", [&](int i) {
        const TargetEntry *entry = block.column(i);
        const char *name = quote_identifier(entry->resname);
        return with_types ? psprintf("%s %s", name, compile::type_and_collation(entry)) : name;
    });
}

} // namespace

const char *identity_index(const char *name, const char *table, const Block &block) {
    if (const char *key = key_text(block))
        return psprintf("CREATE UNIQUE INDEX %s%sON %s (%s) NULLS NOT DISTINCT", name, *name ? " " : "", table, key);
    if (block.counts_equal_rows()) {
        pg::TextList columns; // slices of rows are read by their keys, and single rows removed from them
        for (const compile::Key &key : block.keys)
            columns.add("%s", quote_identifier(block.column(key.column)->resname));
        columns.add("pg_catalog.hash_record_extended(ROW(%s), 0)", column_list(block, false));
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
    pg::spi_execute(psprintf("CREATE TABLE %s (%s)%s", table, column_list(block, true), spread));
    CommandCounterIncrement();
}

void create_index(const char *table, const Block &block) {
    if (const char *index = identity_index("", table, block)) pg::spi_execute(index);
    CommandCounterIncrement();
}

// Hidden, and the caller's all the same: what its maintenance does it does as its owner. Before there is an index,
// which core makes as the table's owner.
void create_hidden_table(const char *table, const Block &block, const char *part_of) {
    const char *owner = quote_identifier(GetUserNameFromId(GetUserId(), false));
    pg::as_superuser([&] {
        create_table(table, block);
        pg::spi_execute(psprintf("ALTER TABLE %s OWNER TO %s", table, owner));
        create_index(table, block);
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
        create_index(table, block);
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

uint64 fill(Oid table, Oid definition, const Block &block, bool empty) {
    if (empty && !block.always_has_row()) return 0;
    const char *from = pg::qualified_name(definition);
    if (empty) {
        Query *query = pg::copy<Query>(block.core);
        query->jointree->quals = makeBoolConst(false, false);
        from = psprintf("(%s) AS d", compile::deparse(query));
    }
    SPIPlanPtr plan = pg::spi_prepare(
        psprintf("INSERT INTO %s (%s) SELECT * FROM %s", pg::qualified_name(table), column_list(block, false), from));
    CommandCounterIncrement();
    // Writers whose end the locks waited for have committed after a REPEATABLE READ transaction's snapshot was taken.
    int code = SPI_execute_snapshot(plan, nullptr, nullptr, GetLatestSnapshot(), InvalidSnapshot, false, true, 0);
    if (code < 0) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
    return SPI_processed;
}

} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_identity_index);
Datum projections_identity_index(PG_FUNCTION_ARGS) {
    const char *statement = nullptr;
    catalog::look(PG_GETARG_OID(0), [&](catalog::Projection &projection) {
        if (projection.kind == catalog::Kind::query)
            statement = declare::identity_index("", projection.name(), projection.block());
    });
    if (statement == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(statement));
}

} // extern "C"
