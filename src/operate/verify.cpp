// projections.verify(): what differs, as rows that a reader understands.
#include "events/slot.hpp"
#include "pg/scope.hpp"
#include "rebuild/verify_handler.hpp"
#include "rights/caller.hpp"
#include "verify/drift.hpp"

namespace operate {

namespace {

struct Showing {
    const verify::Layout &layout;
    TupleDesc row_desc, key_desc;
    ReturnSetInfo *result;
    const char *table = nullptr; // to be told apart from others
};

Datum json_of(TupleDesc desc, Datum *values, bool *nulls) {
    HeapTuple tuple = heap_form_tuple(desc, values, nulls);
    Datum json = DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(tuple, desc));
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(json)));
}

// {"table": …, …}, or null where that would say nothing.
Datum key_json(const Showing &showing, TupleTableSlot *row, bool *null) {
    Datum keys[MaxHeapAttributeNumber];
    bool key_nulls[MaxHeapAttributeNumber];
    int i = 0;
    if (showing.table) {
        keys[i] = CStringGetTextDatum(showing.table);
        key_nulls[i++] = false;
    }
    for (int column : showing.layout.keys) {
        if (showing.layout.counted) break;
        keys[i] = row->tts_values[column];
        key_nulls[i++] = row->tts_isnull[column];
    }
    *null = showing.layout.counted && showing.table == nullptr;
    return *null ? 0 : json_of(showing.key_desc, keys, key_nulls);
}

const char *problem_name(verify::Problem problem) {
    switch (problem) {
    case verify::Problem::missing: return "missing";
    case verify::Problem::extra: return "extra";
    case verify::Problem::different: return "different";
    case verify::Problem::duplicate: return "duplicate";
    }
    pg_unreachable();
}

void show(const verify::Difference &difference, void *context) {
    auto &showing = *static_cast<Showing *>(context);
    Datum values[4] = {CStringGetTextDatum(problem_name(difference.problem)), 0, 0, 0};
    bool nulls[4] = {false, false, difference.expected == nullptr, difference.found == nullptr};
    values[1] = key_json(showing, difference.expected ? difference.expected : difference.found, &nulls[1]);
    if (difference.expected)
        values[2] = json_of(showing.row_desc, difference.expected->tts_values, difference.expected->tts_isnull);
    if (difference.found)
        values[3] = json_of(showing.row_desc, difference.found->tts_values, difference.found->tts_isnull);
    tuplestore_putvalues(showing.result->setResult, showing.result->setDesc, values, nulls);
}

// "table" first, if it is named.
TupleDesc row_type(const verify::Layout &layout, const pg::vector<int> &columns, bool table) {
    int count = static_cast<int>(columns.size()), first = table ? 1 : 0;
    TupleDesc desc = CreateTemplateTupleDesc(count + first);
    if (table) TupleDescInitEntry(desc, 1, "table", TEXTOID, -1, 0);
    for (int i = 0; i < count; i++)
        TupleDescCopyEntry(desc, static_cast<AttrNumber>(i + first + 1), layout.desc,
                           static_cast<AttrNumber>(columns[i] + 1));
    desc->tdtypeid = RECORDOID;
    return BlessTupleDesc(desc);
}

Showing showing_of(const verify::Layout &layout, ReturnSetInfo *result, const char *table) {
    pg::vector<int> all;
    for (int i = 0; i < layout.desc->natts; i++) all.push_back(i);
    return {layout, row_type(layout, all, false),
            row_type(layout, layout.counted ? pg::vector<int>() : layout.keys, table != nullptr), result, table};
}

void show_in_table(const rebuild::TableDifference &difference, void *context) {
    Showing showing = showing_of(difference.layout, static_cast<ReturnSetInfo *>(context),
                                 difference.only ? nullptr : pg::qualified_name(difference.table));
    show(difference.row, &showing);
}

double sample_argument(FunctionCallInfo fcinfo, int number) {
    double sample = PG_ARGISNULL(number) ? 0 : PG_GETARG_FLOAT8(number);
    if (sample > 0 && sample <= 1) return sample;
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("sample must be above 0 and at most 1"),
             errdetail("It is the share of the rows that is compared."), errhint("Leave it out to compare all rows.")));
    pg_unreachable();
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_verify);
Datum projections_verify(PG_FUNCTION_ARGS) {
    using namespace operate;
    events::refuse_while_applying();
    catalog::Projection &projection = rights::named_projection(fcinfo, catalog::Hold::all);
    verify::require_reader(projection);
    verify::Scope scope{sample_argument(fcinfo, 1)};
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    if (projection.kind == catalog::Kind::handler) {
        rebuild::compare_handler(projection, scope, show_in_table, result);
        return 0;
    }
    auto compare = [&](catalog::Projection &each, const char *table) {
        verify::Layout layout = verify::layout_of(each);
        Showing showing = showing_of(layout, result, table);
        verify::compare_projection(each, scope, show, &showing);
    };
    for (catalog::Projection *part : catalog::parts_of(projection.relation))
        if (catalog::hold(*part, catalog::Hold::all)) compare(*part, part->name());
    compare(projection, nullptr);
    return 0;
}

} // extern "C"
