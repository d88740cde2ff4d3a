// Metrics: projections_internal._metrics() for those who may call it, as rows and in Prometheus' text format.
#include "pg/scope.hpp"

namespace operate {
namespace {

enum Column { name = 1, labels, value, type, help };

// `receive` gets each row of projections_internal._metrics() while the SPI connection is open.
template <class Receive>
void read_metrics(Datum about, bool of_all, Receive &&receive) {
    pg::as_superuser([&] {
        pg::with_spi([&] {
            Oid text_type = TEXTOID;
            char null = of_all ? 'n' : ' ';
            int code = pg::spi_execute_with_args(
                "SELECT name, labels, value, type, help FROM projections_internal._metrics($1)", 1, &text_type, &about,
                &null, false, 0);
            if (code != SPI_OK_SELECT) elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
            for (uint64 i = 0; i < SPI_processed; i++) receive(pg::Row(i));
        });
    });
}

// The family of a sample: a summary's sum and count stand under its name.
std::string_view family_of(std::string_view sample, std::string_view kind) {
    if (kind != "summary") return sample;
    for (std::string_view suffix : {"_sum", "_count"})
        if (sample.ends_with(suffix)) {
            sample.remove_suffix(suffix.size());
            break;
        }
    return sample;
}

void append_escaped(StringInfo out, const char *text, int length) {
    for (const char *each = text; each < text + length; each++) switch (*each) {
        case '\\': appendStringInfoString(out, "\\\\"); break;
        case '"': appendStringInfoString(out, "\\\""); break;
        case '\n': appendStringInfoString(out, "\\n"); break;
        default: appendStringInfoCharMacro(out, *each);
        }
}

void append_labels(StringInfo out, Jsonb *object) {
    JsonbIterator *iterator = JsonbIteratorInit(&object->root);
    JsonbValue item;
    char before = '{';
    for (JsonbIteratorToken token; (token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE;) {
        if (token == WJB_KEY) {
            appendStringInfoChar(out, before);
            appendBinaryStringInfo(out, item.val.string.val, item.val.string.len);
            appendStringInfoString(out, "=\"");
            before = ',';
        } else if (token == WJB_VALUE) {
            if (item.type == jbvString) append_escaped(out, item.val.string.val, item.val.string.len);
            appendStringInfoChar(out, '"');
        }
    }
    if (before == ',') appendStringInfoChar(out, '}');
}

void append_value(StringInfo out, double number) {
    if (std::isinf(number))
        appendStringInfoString(out, number > 0 ? "+Inf" : "-Inf");
    else if (std::isnan(number))
        appendStringInfoString(out, "NaN");
    else {
        char text[DOUBLE_SHORTEST_DECIMAL_LEN];
        double_to_shortest_decimal_buf(number, text); // whatever extra_float_digits says
        appendStringInfoString(out, text);
    }
}

void append_sample(StringInfo out, const pg::Row &row, StringInfo family) {
    const char *sample = row.text(name), *kind = row.text(type);
    std::string_view of = family_of(sample, kind);
    if (of != std::string_view(family->data, family->len)) {
        resetStringInfo(family);
        appendBinaryStringInfo(family, of.data(), static_cast<int>(of.size()));
        appendStringInfo(out, "# HELP %s %s\n# TYPE %s %s\n", family->data, row.text(help), family->data, kind);
    }
    appendStringInfoString(out, sample);
    append_labels(out, DatumGetJsonbP(row.datum(labels)));
    appendStringInfoChar(out, ' ');
    append_value(out, row.number(value));
    appendStringInfoChar(out, '\n');
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_metrics);
Datum projections_metrics(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    operate::read_metrics(PG_GETARG_DATUM(0), PG_ARGISNULL(0),
                          [&](pg::Row row) { tuplestore_puttuple(result->setResult, row.tuple()); });
    return 0;
}

PG_FUNCTION_INFO_V1(projections_metrics_text);
Datum projections_metrics_text(PG_FUNCTION_ARGS) {
    StringInfoData out, family;
    initStringInfo(&out);
    initStringInfo(&family);
    operate::read_metrics(0, true, [&](pg::Row row) { operate::append_sample(&out, row, &family); });
    PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

} // extern "C"
