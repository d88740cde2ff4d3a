// Written as their owner, a superuser; consumed by reading and deleting what one snapshot sees, which is then applied
// as a flush would have.
#include "maintain/log.hpp"

#include "catalog/hidden.hpp"
#include "catalog/lineage.hpp"
#include "maintain/apply.hpp"
#include "maintain/flush.hpp"
#include "maintain/locks.hpp"
#include "maintain/maintaining.hpp"
#include "pg/list.hpp"

namespace maintain {

using catalog::Projection;

namespace {

// "c1, c2, " for a source's used columns.
const char *logged_columns(const compile::Source &source) {
    StringInfoData text;
    initStringInfo(&text);
    for (std::size_t i = 0; i < source.used.size(); i++) appendStringInfo(&text, "c%zu, ", i + 1);
    return text.data;
}

const char *log_name(const Projection &projection, std::size_t source) {
    return pg::qualified_name(projection.changes[source]);
}

struct Reading {
    Tuplestorestate *rows;
    int columns; // before the weight
    int64 count, last;
};

int64 run_under(Snapshot snapshot, bool read_only, const char *text) {
    SPIPlanPtr plan = pg::spi_prepare(text);
    int code = SPI_execute_snapshot(plan, nullptr, nullptr, snapshot, InvalidSnapshot, read_only, true, 0);
    if (code < 0) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
    SPI_freeplan(plan);
    return static_cast<int64>(SPI_processed);
}

// Writes a log as its owner, a superuser: the projection's owner may read it, and neither write nor lock it. Nothing of
// the logged columns is converted, compared or checked, so no code of his is part of this.
void write_log(Oid log, const char *text, Snapshot snapshot = nullptr) {
    CommandCounterIncrement();
    pg::as_owner(pg::owner_of(log), [&] {
        if (snapshot)
            run_under(snapshot, false, text);
        else
            pg::spi_execute(text);
    });
}

// A row of a log: the columns, the weight, the number.
void receive_logged(TupleTableSlot *row, void *context) {
    auto &reading = *static_cast<Reading *>(context);
    slot_getallattrs(row);
    reading.count++;
    reading.last = std::max(reading.last, DatumGetInt64(row->tts_values[reading.columns + 1]));
    tuplestore_puttupleslot(reading.rows, row);
}

TupleDesc logged_desc(Oid log) {
    Relation table = relation_open(log, AccessShareLock);
    TupleDesc desc = RelationGetDescr(table);
    int columns = desc->natts - 2;
    // In the order in which they are read: the number comes first in the table and last here.
    TupleDesc result = CreateTemplateTupleDesc(desc->natts);
    for (int i = 0; i < columns + 2; i++) {
        auto from = static_cast<AttrNumber>(i < columns ? i + 2 : i == columns ? desc->natts : 1);
        TupleDescCopyEntry(result, static_cast<AttrNumber>(i + 1), desc, from);
    }
    // Named as the source's columns are when they are read: see changes.cpp.
    relation_close(table, AccessShareLock);
    return result;
}

// Takes rows off one log: reads and deletes what one snapshot sees. Nobody else deletes: consumers are one at a time.
Reading take_rows(Projection &projection, std::size_t source, int64 at_most, Snapshot snapshot, Tuplestorestate *rows) {
    const char *log = log_name(projection, source);
    const char *columns = logged_columns(projection.block().sources[source]);
    const char *limit = at_most > 0 ? psprintf(" ORDER BY change LIMIT " INT64_FORMAT, at_most) : "";
    Reading reading{rows, static_cast<int>(projection.block().sources[source].used.size()), 0, 0};
    SPIPlanPtr plan = pg::spi_prepare(psprintf("SELECT %sweight, change FROM ONLY %s%s", columns, log, limit));
    read_rows(plan, snapshot, receive_logged, &reading);
    SPI_freeplan(plan);
    if (reading.count > 0)
        write_log(projection.changes[source],
                  psprintf("DELETE FROM ONLY %s WHERE change <= " INT64_FORMAT, log, reading.last), snapshot);
    return reading;
}

// Takes rows off the logs, at most `at_most` (0: all) off each.
void take_changes(Projection &projection, Taken &taken, int64 at_most, Consumed &consumed) {
    for (std::size_t i = 0; i < projection.changes.size(); i++) {
        // To outlive the SPI connection.
        Tuplestorestate *rows =
            pg::within(taken.memory, [] { return tuplestore_begin_heap(true, false, capture::delta_memory); });
        Reading reading = take_rows(projection, i, at_most, taken.snapshot, rows);
        consumed.rows += reading.count;
        consumed.last = std::max(consumed.last, reading.last);
        consumed.more |= at_most > 0 && reading.count >= at_most;
        bool some = reading.count > 0 && !taken.cleared;
        if (!some) tuplestore_end(rows);
        taken.rows.push_back(some ? rows : nullptr);
        taken.row_counts.push_back(some ? reading.count : 0);
        taken.descs.push_back(logged_desc(projection.changes[i]));
    }
}

// The rest of a log that was cut.
void take_rest(Projection &projection, Taken &taken, Consumed &consumed) {
    Reading rest = take_rows(projection, 0, 0, taken.snapshot, taken.rows.front());
    taken.row_counts.front() += rest.count;
    consumed.rows += rest.count;
    consumed.last = std::max(consumed.last, rest.last);
    consumed.more = false;
}

void apply_taken(Projection &projection, Taken &taken, Consumed &consumed) {
    if (taken.cleared) {
        refill(taken);
        return;
    }
    compute_changes(taken);
    // A NaN left: its group will be read from the source as the snapshot sees it, with all that is in the log.
    if (consumed.more && taken.fold && taken.fold->special()) {
        take_rest(projection, taken, consumed);
        compute_changes(taken);
    }
    if (taken.fold)
        apply_fold(taken);
    else
        apply_images(taken);
}

bool any_truncated(Projection &projection, Snapshot snapshot) {
    for (std::size_t i = 0; i < projection.changes.size(); i++) {
        if (run_under(snapshot, true,
                      psprintf("SELECT FROM ONLY %s WHERE weight IS NULL LIMIT 1", log_name(projection, i))) > 0)
            return true;
    }
    return false;
}

} // namespace

// Without a statement, as that would check NULLs of the users' domains.
void mark_truncated(Projection &projection) {
    CommandCounterIncrement();
    Relation log = table_open(projection.changes[0], RowExclusiveLock);
    TupleDesc desc = RelationGetDescr(log);
    Datum values[MaxHeapAttributeNumber]{};
    bool nulls[MaxHeapAttributeNumber];
    std::fill_n(nulls, desc->natts, true);
    values[0] = Int64GetDatum(nextval_internal(linitial_oid(getOwnedSequences(RelationGetRelid(log))), false));
    nulls[0] = false;
    CatalogTupleInsert(log, heap_form_tuple(desc, values, nulls));
    table_close(log, NoLock);
    CommandCounterIncrement();
}

// The number of a change as an expression and a comma, where the log does not draw it itself: all logs of a projection
// draw from the first one's sequence, so that one position says how far all of them are applied.
static const char *number_of_change(const Projection &projection, std::size_t source) {
    if (getOwnedSequences(projection.changes[source]) != NIL) return "";
    List *first = getOwnedSequences(projection.changes.front());
    if (first == NIL) elog(ERROR, "the change log of projection %s has no sequence", projection.name());
    return psprintf("pg_catalog.nextval(%u::pg_catalog.oid::pg_catalog.regclass), ", linitial_oid(first));
}

void append_changes(Taken &taken) {
    Projection &projection = taken.projection;
    if (taken.cleared) {
        // The marker says all that there is to know: what else is in the logs goes with it.
        mark_truncated(projection);
        return;
    }
    for (std::size_t i = 0; i < taken.rows.size(); i++) {
        if (taken.rows[i] == nullptr) continue;
        const compile::Source &source = taken.block.sources[i];
        name_relation("changed", taken.descs[i], taken.rows[i]);
        StringInfoData values;
        initStringInfo(&values);
        for (int column = 0; column < taken.descs[i]->natts - 1; column++)
            appendStringInfo(&values, "%s, ",
                             quote_identifier(NameStr(TupleDescAttr(taken.descs[i], column)->attname)));
        const char *number = number_of_change(projection, i);
        write_log(
            projection.changes[i],
            psprintf("INSERT INTO %s (%s%sweight) SELECT %s%s%s FROM changed", log_name(projection, i),
                     *number ? "change, " : "", logged_columns(source), number, values.data,
                     quote_identifier(NameStr(TupleDescAttr(taken.descs[i], taken.descs[i]->natts - 1)->attname))));
    }
}

Consumed consume_changes(Projection &projection, int64 at_most, Snapshot snapshot) {
    Projection *root = &projection;
    lock_relations({&root, 1});
    renew_statements(projection);
    const compile::Block &block = projection.block();
    if (block.reads_sources() && snapshot == nullptr) settle(projection, "apply changes of");
    MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "projection changes", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    Taken &taken = *new (palloc(sizeof(Taken))) Taken{projection, block, memory};
    Consumed consumed;
    // Log and sources are read under one snapshot, so that what is recomputed is neither older nor newer than what has
    // been consumed.
    std::span<const Oid> sources{projection.sources.data(), projection.sources.size()};
    uint64 partitions = catalog::partitions_of(sources);
    taken.snapshot = RegisterSnapshot(snapshot ? snapshot : GetLatestSnapshot());
    maintaining(projection, [&] {
        with_statements(projection, [&] {
            taken.cleared = any_truncated(projection, taken.snapshot);
            bool all = taken.cleared || block.reads_sources() || block.unites() || at_most <= 0;
            take_changes(projection, taken, all ? 0 : at_most, consumed);
            if (consumed.rows > 0) apply_taken(projection, taken, consumed);
        });
    });
    if (block.reads_sources() || taken.cleared) catalog::refuse_other_partitions(sources, partitions);
    UnregisterSnapshot(taken.snapshot);
    for (Tuplestorestate *rows : taken.rows)
        if (rows) tuplestore_end(rows);
    MemoryContextSwitchTo(before);
    MemoryContextDelete(memory);
    return consumed;
}

int64 discard_changes(Projection &projection, Snapshot snapshot) {
    int64 rows = 0;
    for (std::size_t i = 0; i < projection.changes.size(); i++) {
        write_log(projection.changes[i], psprintf("DELETE FROM ONLY %s", log_name(projection, i)), snapshot);
        rows += static_cast<int64>(SPI_processed);
    }
    return rows;
}

// "c1 integer, c2 text COLLATE …, "
static const char *log_columns(const compile::Source &source) {
    StringInfoData columns;
    initStringInfo(&columns);
    for (std::size_t i = 0; i < source.used.size(); i++) {
        Oid type, collation;
        int32 typmod;
        get_atttypetypmodcoll(source.relation, source.used[i], &type, &typmod, &collation);
        appendStringInfo(&columns, "c%zu %s%s, ", i + 1,
                         format_type_extended(type, typmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY),
                         OidIsValid(collation) && collation != get_typcollation(type)
                             ? psprintf(" COLLATE %s", DatumGetCString(DirectFunctionCall1(
                                                           regcollationout, ObjectIdGetDatum(collation))))
                             : "");
    }
    return columns.data;
}

// ANALYZE runs as the table's owner, who is a superuser, and calls what a type of a user's names (a range's
// subtype_diff). Nothing is planned by these columns. (Test: sql/rights_hidden.)
static const char *without_statistics(const compile::Source &source) {
    return pg::joined(static_cast<int>(source.used.size()), ", ",
                      [](int i) { return psprintf("ALTER c%d SET STATISTICS 0", i + 1); });
}

pg::vector<Oid> make_change_logs(const compile::Block &block, const char *name, Oid owner) {
    pg::vector<Oid> logs;
    Oid schema = pg::own_schema_oid();
    for (const compile::Source &source : block.sources) {
        const char *base = pnstrdup(name, pg_mbcliplen(name, static_cast<int>(strlen(name)), NAMEDATALEN - 20));
        const char *log = psprintf("%s_changes", base);
        for (int i = 2; OidIsValid(get_relname_relid(log, schema)); i++) log = psprintf("%s_changes_%d", base, i);
        const char *table = quote_qualified_identifier(pg::own_schema(), log);
        pg::spi_execute(psprintf("CREATE TABLE %s (change bigint %sPRIMARY KEY, %sweight bigint)", table,
                                 logs.empty() ? "GENERATED ALWAYS AS IDENTITY " : "", log_columns(source)));
        if (!source.used.empty()) pg::spi_execute(psprintf("ALTER TABLE %s %s", table, without_statistics(source)));
        pg::spi_execute(psprintf("GRANT SELECT ON %s TO %s", table, quote_identifier(GetUserNameFromId(owner, false))));
        catalog::mark_hidden(psprintf("TABLE %s", table), "change log", quote_identifier(name));
        CommandCounterIncrement();
        logs.push_back(get_relname_relid(log, schema));
    }
    return logs;
}

} // namespace maintain
