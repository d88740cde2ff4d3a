// One scan for all readers. What grows over delta_memory is applied early or spilled, as a statement's changes are.
#include "capture/members.hpp"

#include "catalog/lineage.hpp"
#include "pg/scope.hpp"

namespace capture {
namespace {

// Values that are stored out of line go with the table, before the change is applied.
void take_in(TupleTableSlot *row, const pg::vector<AttrNumber> &columns) {
    for (AttrNumber column : columns) {
        Datum &value = row->tts_values[column - 1];
        if (row->tts_isnull[column - 1] || !VARATT_IS_EXTERNAL(DatumGetPointer(value))) continue;
        value = PointerGetDatum(detoast_external_attr(reinterpret_cast<struct varlena *>(DatumGetPointer(value))));
    }
}

pg::vector<AttrNumber> stored_out_of_line(const Readers &readers, Oid table, TupleDesc desc) {
    pg::vector<AttrNumber> columns;
    for (catalog::Projection *projection : readers)
        for (const compile::Source &source : projection->block().sources)
            for (AttrNumber column : source.used)
                if (source.relation == table && TupleDescAttr(desc, column - 1)->attlen == -1 &&
                    std::find(columns.begin(), columns.end(), column) == columns.end())
                    columns.push_back(column);
    return columns;
}

} // namespace

void capture_table(Relation member, Oid table, const Readers &readers, int64 weight) {
    if (readers.empty()) return;
    // What was logged before may have values that are stored in the member's place.
    if (weight < 0)
        for (catalog::Projection *projection : readers) flush_early(projection->relation);
    CommandCounterIncrement();
    Relation above = table_open(table, AccessShareLock);
    TupleDesc desc = CreateTupleDescCopy(RelationGetDescr(above));
    table_close(above, NoLock);
    catalog::Ancestor ancestor{table, desc, convert_tuples_by_name(RelationGetDescr(member), desc)};
    pg::vector<AttrNumber> columns = stored_out_of_line(readers, table, desc);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    TupleTableSlot *slot = table_slot_create(member, nullptr);
    TableScanDesc scan = table_beginscan(member, snapshot, 0, nullptr);
    MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "member row", ALLOCSET_DEFAULT_SIZES);
    while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        pg::within(memory, [&] {
            TupleTableSlot *row = catalog::as_whole_row_of(ancestor, slot);
            take_in(row, columns);
            row_came_or_went(readers, table, row, weight);
        });
        MemoryContextReset(memory);
    }
    table_endscan(scan);
    ExecDropSingleTupleTableSlot(slot);
    UnregisterSnapshot(snapshot);
    MemoryContextDelete(memory);
}

} // namespace capture
