// Copy.
//
// The definition runs as one query whose rows are written here, as CREATE TABLE AS does: an INSERT … SELECT would not
// be planned in parallel. The design had workers for ranges of the key; a parallel plan divides the sources' pages
// instead, under the same one snapshot, and needs no index on the key and no ranges of like size.
#include "rebuild/copy.hpp"
#include "catalog/settings.hpp"
#include "maintain/changes.hpp"
#include "maintain/flush.hpp"
#include "maintain/log.hpp"
#include "maintain/maintaining.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace rebuild {

constinit int rebuild_workers = 2;

namespace {

constexpr int batch_rows = 1000;
constexpr std::size_t batch_bytes = 65536;

struct Writer {
    Relation table;
    BulkInsertState pages;
    CommandId command;
    MemoryContext memory; // of the batch
    pg::vector<TupleTableSlot *> batch;
    int filled = 0;
    std::size_t bytes = 0;
    int64 rows = 0;
    pg::vector<int> columns;  // of the query, for each of the table's; -1: dropped
    pg::vector<int> not_null; // of the table's, from 0
};

void write_batch(Writer &writer) {
    if (writer.filled == 0) return;
    pg::within(writer.memory, [&] {
        table_multi_insert(writer.table, writer.batch.data(), writer.filled, writer.command, TABLE_INSERT_SKIP_FSM,
                           writer.pages);
    });
    for (int i = 0; i < writer.filled; i++) ExecClearTuple(writer.batch[i]);
    MemoryContextReset(writer.memory);
    writer.rows += writer.filled;
    writer.filled = 0;
    writer.bytes = 0;
    pgstat_progress_update_param(PROGRESS_COPY_TUPLES_PROCESSED, writer.rows);
}

// The table is a user's: a value that is not what its column says would be read as something else.
void check_row(const Writer &writer, TupleDesc row) {
    TupleDesc desc = RelationGetDescr(writer.table);
    for (std::size_t i = 0; i < writer.columns.size(); i++) {
        if (writer.columns[i] < 0) continue;
        if (TupleDescAttr(row, writer.columns[i])->atttypid != TupleDescAttr(desc, static_cast<int>(i))->atttypid)
            elog(ERROR, "column %zu of the shadow is of another type than the definition's", i + 1);
    }
}

// Which no executor does here.
void refuse_null(const Writer &writer, const TupleTableSlot *row) {
    for (int column : writer.not_null) {
        if (!row->tts_isnull[column]) continue;
        const char *name = NameStr(TupleDescAttr(RelationGetDescr(writer.table), column)->attname);
        ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
                        errmsg("null value in column \"%s\" of relation \"%s\" violates not-null constraint", name,
                               RelationGetRelationName(writer.table)),
                        errtablecol(writer.table, column + 1)));
    }
}

void receive_row(TupleTableSlot *row, void *context) {
    auto &writer = *static_cast<Writer *>(context);
    if (writer.rows == 0 && writer.filled == 0) check_row(writer, row->tts_tupleDescriptor);
    slot_getallattrs(row);
    TupleTableSlot *slot = writer.batch[writer.filled];
    ExecClearTuple(slot);
    for (std::size_t i = 0; i < writer.columns.size(); i++) {
        int column = writer.columns[i];
        slot->tts_isnull[i] = column < 0 || row->tts_isnull[column];
        slot->tts_values[i] = column < 0 ? 0 : row->tts_values[column];
    }
    ExecStoreVirtualTuple(slot);
    refuse_null(writer, slot);
    ExecMaterializeSlot(slot);
    writer.bytes += heap_compute_data_size(slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);
    if (++writer.filled == batch_rows || writer.bytes > batch_bytes) write_batch(writer);
}

// "column, …" of the definition, and which of them goes into which of the table's columns.
const char *column_list(Relation table, pg::vector<int> &columns) {
    pg::TextList names;
    TupleDesc desc = RelationGetDescr(table);
    int count = 0;
    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute attribute = TupleDescAttr(desc, i);
        columns.push_back(attribute->attisdropped ? -1 : count++);
        if (attribute->attisdropped) continue;
        names.add("%s", quote_identifier(NameStr(attribute->attname)));
    }
    return names.text();
}

void run_copy(catalog::Projection &shadow, Snapshot snapshot, Writer &writer) {
    const char *text =
        psprintf("SELECT %s FROM %s", column_list(writer.table, writer.columns), pg::qualified_name(shadow.definition));
    pg::with_spi([&] {
        SPIPlanPtr plan = pg::spi_prepare_cursor(text, 0, nullptr, CURSOR_OPT_PARALLEL_OK);
        if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
        maintain::read_rows(plan, snapshot, receive_row, &writer);
        write_batch(writer);
        SPI_freeplan(plan);
    });
}

} // namespace

int64 copy_rows(catalog::Projection &shadow, Snapshot snapshot) {
    shadow.block();
    shadow.require_rights();
    // A parallel plan may assign neither: the leader writes while it runs.
    GetCurrentTransactionId();
    Writer writer{table_open(shadow.relation, RowExclusiveLock),
                  GetBulkInsertState(),
                  GetCurrentCommandId(true),
                  AllocSetContextCreate(CurrentMemoryContext, "rebuild copy", ALLOCSET_DEFAULT_SIZES),
                  {},
                  0,
                  0,
                  0,
                  {},
                  {}};
    for (int i = 0; i < RelationGetDescr(writer.table)->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(RelationGetDescr(writer.table), i);
        if (column->attnotnull && !column->attisdropped) writer.not_null.push_back(i);
    }
    for (int i = 0; i < batch_rows; i++) writer.batch.push_back(table_slot_create(writer.table, nullptr));
    pgstat_progress_start_command(PROGRESS_COMMAND_COPY, shadow.relation);
    int level = NewGUCNestLevel();
    pg::set_locally("max_parallel_workers_per_gather", psprintf("%d", rebuild_workers));
    maintain::maintaining(shadow,
                          [&] { catalog::with_pinned(shadow.settings, [&] { run_copy(shadow, snapshot, writer); }); });
    AtEOXact_GUC(false, level);
    pgstat_progress_end_command();
    FreeBulkInsertState(writer.pages);
    table_finish_bulk_insert(writer.table, TABLE_INSERT_SKIP_FSM);
    for (TupleTableSlot *slot : writer.batch) ExecDropSingleTupleTableSlot(slot);
    table_close(writer.table, NoLock);
    MemoryContextDelete(writer.memory);
    CommandCounterIncrement();
    return writer.rows;
}

int64 catch_up_log(Rebuild &rebuild) {
    int64 rows = maintain::consume_changes(shadow(rebuild), 0).rows;
    maintain::flush_logs();
    return rows;
}

} // namespace rebuild
