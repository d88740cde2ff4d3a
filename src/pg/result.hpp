// What a query of SPI's returned.
#pragma once
#include "pg/pg.hpp"

namespace pg {

// A row: of the last result, unless another is said. Columns count from 1. NULL is 0, false, InvalidOid, or null for a
// text; who has to tell it apart asks. What is passed by reference lives as long as the result.
class Row {
public:
    explicit Row(uint64 number = 0) : Row(SPI_tuptable, number) {}
    Row(const SPITupleTable *result, uint64 number) : Row(result->vals[number], result->tupdesc) {}
    Row(HeapTuple tuple, TupleDesc desc) : tuple_(tuple), desc_(desc) {}

    HeapTuple tuple() const { return tuple_; }
    Datum datum(int column, bool *null) const { return SPI_getbinval(tuple_, desc_, column, null); }
    Datum datum(int column) const {
        bool null;
        return datum(column, &null);
    }
    bool is_null(int column) const {
        bool null;
        datum(column, &null);
        return null;
    }
    bool boolean(int column) const { return DatumGetBool(datum(column)); }
    int32 integer(int column) const { return DatumGetInt32(datum(column)); }
    int64 bigint(int column) const { return DatumGetInt64(datum(column)); }
    Oid oid(int column) const { return DatumGetObjectId(datum(column)); }
    TimestampTz timestamp(int column) const { return DatumGetTimestampTz(datum(column)); }
    float8 number(int column) const {
        bool null;
        Datum value = datum(column, &null);
        return null ? 0 : DatumGetFloat8(value);
    }
    // What the type's output function says, in the current memory context, or in one that outlives it.
    char *text(int column) const { return SPI_getvalue(tuple_, desc_, column); }
    char *text(int column, MemoryContext memory) const {
        char *found = text(column);
        return found ? MemoryContextStrdup(memory, found) : nullptr;
    }

private:
    HeapTuple tuple_;
    TupleDesc desc_;
};

// The first column of every row of the last result.
inline vector<int64> bigints() {
    vector<int64> values;
    for (uint64 i = 0; i < SPI_processed; i++) values.push_back(Row(i).bigint(1));
    return values;
}

// The same, of OIDs.
inline vector<Oid> oids() {
    vector<Oid> values;
    for (uint64 i = 0; i < SPI_processed; i++) values.push_back(Row(i).oid(1));
    return values;
}

// The rows of the last result, into a store.
inline void put_rows(Tuplestorestate *store) {
    for (uint64 i = 0; i < SPI_processed; i++) tuplestore_puttuple(store, SPI_tuptable->vals[i]);
}

} // namespace pg
