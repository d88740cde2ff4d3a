// From rows of a source to the keys of the projections over it: which are behind, and which to compute again.
//
// A definition without its aggregates yields a key for each row of its sources. With one source's rows replaced by some
// of them, or by what is in its log, it yields the keys that those touch. They are read as the projection's owner.
#include "capture/pending.hpp"
#include "catalog/settings.hpp"
#include "declare/declare.hpp"
#include "events/declared.hpp"
#include "events/feed.hpp"
#include "events/left_out.hpp"
#include "events/query.hpp"
#include "events/recompute.hpp"
#include "events/source.hpp"
#include "maintain/flush.hpp"
#include "maintain/locks.hpp"
#include "maintain/statements.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"
#include "rights/caller.hpp"
#include "verify/drift.hpp"
#include "verify/refold.hpp"

namespace verify {
namespace {

using catalog::Flow;
using catalog::Kind;
using catalog::Projection;

// The definition's rows for some rows of one of its tables, as a table t with the keys in columns k0…, and n, the
// number that `rows` yields with each row. Texts that reach the outside are made in the current memory context.
const char *traced(Projection &projection, int occurrence, const char *rows) {
    const compile::Block &block = projection.block();
    int columns = list_length(block.feed());
    StringInfoData names;
    initStringInfo(&names);
    for (int i = 0; i < columns; i++) {
        int key = -1;
        for (std::size_t k = 0; k < block.told_keys().size(); k++)
            if (block.grouped() ? static_cast<int>(k) == i : block.told_keys()[k].column == i)
                key = static_cast<int>(k);
        appendStringInfoString(&names, key >= 0 ? psprintf("k%d, ", key) : psprintf("x%d, ", i));
    }
    int source = block.occurrence_source[occurrence - 1];
    return psprintf("(WITH delta_%d AS NOT MATERIALIZED (%s) %s) AS t(%sn)", source, rows,
                    compile::trace_text(block, occurrence), names.data);
}

// "'a', t.k0, 'b', t.k1": what jsonb_build_object makes a key of.
const char *key_parts(Projection &projection) {
    const compile::Block &block = projection.block();
    return pg::joined(static_cast<int>(block.told_keys().size()), ", ", [&](int i) {
        const char *name =
            get_attname(projection.relation, static_cast<AttrNumber>(block.told_keys()[i].column + 1), false);
        return psprintf("%s, t.k%d", quote_literal_cstr(name), i);
    });
}

// The used columns of a source, under their names; `value(i)` is the text of each.
template <class Value>
const char *used_columns(const compile::Source &source, Value &&value) {
    StringInfoData text;
    initStringInfo(&text);
    for (std::size_t i = 0; i < source.used.size(); i++)
        appendStringInfo(&text, "%s AS %s, ", value(i),
                         quote_identifier(get_attname(source.relation, source.used[i], false)));
    return text.data;
}

// ---------------------------------------------------------------------------------------------------------- stale keys

const char *pending_events(Projection &projection) {
    const events::EventSource &source = events::source_of(projection);
    pg::vector<int64> checkpoints = events::known_checkpoints(projection, InvalidSnapshot);
    projection.block();
    const char *position = events::position_expression(source),
               *at = events::positions_text({checkpoints.data(), checkpoints.size()});
    return psprintf("%s WHERE %s > " INT64_FORMAT " AND %s > (%s)[%s::int + 1]",
                    events::rows_select(projection, source), position,
                    *std::min_element(checkpoints.begin(), checkpoints.end()), position, at,
                    events::stripe_text(position, psprintf("%zu", checkpoints.size())));
}

const char *pending_changes(Projection &projection, std::size_t source) {
    const compile::Source &used = projection.block().sources[source];
    return psprintf("SELECT %schange AS %s FROM ONLY %s WHERE weight IS NOT NULL",
                    used_columns(used, [](std::size_t i) { return psprintf("c%zu", i + 1); }),
                    compile::weight_column(used.relation), pg::qualified_name(projection.changes[source]));
}

// Keys, how many rows wait, and the first of those.
const char *stale_query(Projection &projection) {
    const compile::Block &block = projection.block();
    pg::TextList from(" UNION ALL ");
    for (std::size_t i = 0; i < block.occurrence_source.size(); i++) {
        auto source = static_cast<std::size_t>(block.occurrence_source[i]);
        const char *rows =
            projection.flow == Flow::events ? pending_events(projection) : pending_changes(projection, source);
        from.add("SELECT pg_catalog.jsonb_build_object(%s) AS key, t.n FROM %s", key_parts(projection),
                 traced(projection, static_cast<int>(i + 1), rows));
    }
    return psprintf("SELECT p.key, pg_catalog.count(*), pg_catalog.min(p.n) FROM (%s) AS p GROUP BY p.key",
                    from.text());
}

// Of what is applied event by event, also what failed or is parked.
const char *stale_feed_query(Projection &projection) {
    pg::vector<int64> checkpoints = events::known_checkpoints(projection, InvalidSnapshot);
    pg::vector<int64> behind;
    pg::with_spi([&] {
        pg::as_superuser([&] {
            pg::spi_execute(psprintf("SELECT u.position FROM %s AS u",
                                     events::still_to_come(psprintf("%u::pg_catalog.regclass", projection.relation))));
        });
        behind = pg::bigints();
    });
    return psprintf(
        "SELECT pg_catalog.jsonb_build_object('key', k), pg_catalog.count(*), pg_catalog.min(f.position)::bigint FROM "
        "%s AS f, pg_catalog.unnest(f.keys) AS k WHERE f.position > (%s)[coalesce(%s, 0)::int + 1] OR f.position = ANY "
        "(%s) GROUP BY k",
        pg::qualified_name(projection.definition), events::positions_text({checkpoints.data(), checkpoints.size()}),
        events::slot_text("f.keys[1]", psprintf("%zu", checkpoints.size())),
        events::positions_text({behind.data(), behind.size()}));
}

// The time of the event at a position.
const char *time_text(Projection &projection) {
    const events::EventSource *source =
        projection.flow == Flow::events ? events::event_source(projection.sources.front()) : nullptr;
    if (source == nullptr || source->time_column == nullptr) return "NULL::timestamptz";
    return psprintf("(SELECT e.%s::timestamptz %s WHERE %s = s.first)", source->time_column,
                    events::events_from(*source), events::position_expression(*source));
}

void stale_keys(Projection &projection, int64 min_lag, ReturnSetInfo *result) {
    if (projection.flow != Flow::events && projection.flow != Flow::log) return;
    if (projection.kind == Kind::query && projection.block().is_bag())
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("projection %s has no key", projection.name()),
                        errdetail("A source has no primary key, so its rows cannot be addressed."),
                        errhint("projections.health() says how far behind it is.")));
    const char *keys = projection.kind == Kind::query ? stale_query(projection) : stale_feed_query(projection);
    const char *text =
        psprintf("SELECT s.key, s.lag, s.first, %s FROM (%s) AS s(key, lag, first) WHERE s.lag >= " INT64_FORMAT
                 " ORDER BY s.first, s.key",
                 time_text(projection), keys, min_lag);
    pg::with_spi([&] {
        pg::as_owner(projection.owner(), [&] {
            catalog::with_pinned(projection.settings, [&] {
                if (pg::spi_execute(text, true, 0) != SPI_OK_SELECT) elog(ERROR, "reading stale keys failed");
            });
        });
        pg::put_rows(result->setResult);
    });
}

// ------------------------------------------------------------------------------------------------------ refresh_source

struct SourceRows {
    Oid relation;
    Datum keys;            // jsonb array
    const char *condition; // over a row s of the source and its key r; $1 are the keys
};

[[noreturn]] void fail_keys(const char *problem, const char *detail) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", problem), errdetail("%s", detail),
                    errhint("Pass an array of objects, for example '[{\"id\": 1}, {\"id\": 2}]'.")));
    pg_unreachable();
}

// Every object names the same columns of the source.
SourceRows source_rows(Oid relation, Datum keys) {
    SourceRows rows{relation, 0, nullptr};
    pg::TextList condition(" AND ");
    MemoryContext outside = CurrentMemoryContext;
    pg::with_spi([&] {
        Oid type = JSONBOID;
        static constexpr const char *text =
            "SELECT CASE jsonb_typeof($1) WHEN 'array' THEN $1 ELSE jsonb_build_array($1) END, c.name, "
            "bool_or(c.value = 'null'), count(*) = a.objects FROM (SELECT count(*) AS objects FROM "
            "jsonb_array_elements(CASE jsonb_typeof($1) WHEN 'array' THEN $1 ELSE jsonb_build_array($1) END)) AS a, "
            "jsonb_array_elements(CASE jsonb_typeof($1) WHEN 'array' THEN $1 ELSE jsonb_build_array($1) END) AS "
            "e(key), "
            "LATERAL jsonb_each(CASE jsonb_typeof(e.key) WHEN 'object' THEN e.key ELSE '{}' END) AS c(name, value) "
            "GROUP BY c.name, a.objects ORDER BY c.name";
        pg::with_setting("search_path", "pg_catalog, pg_temp", [&] {
            if (pg::spi_execute_with_args(text, 1, &type, &keys, nullptr, true, 0) != SPI_OK_SELECT)
                elog(ERROR, "reading keys failed");
        });
        for (uint64 i = 0; i < SPI_processed; i++) {
            pg::Row row(i);
            const char *name = row.text(2), *column = quote_identifier(name);
            if (get_attnum(relation, name) <= 0)
                fail_keys(psprintf("%s has no column \"%s\"", pg::qualified_name(relation), name),
                          "Keys are columns of the source.");
            if (!row.boolean(4))
                fail_keys(psprintf("not every key has column \"%s\"", name), "All objects name the same columns.");
            bool with_null = row.boolean(3);
            Oid equality =
                lookup_type_cache(get_atttype(relation, get_attnum(relation, name)), TYPECACHE_EQ_OPR)->eq_opr;
            if (!OidIsValid(equality))
                fail_keys(psprintf("values of column \"%s\" cannot be compared", name), "Its type has no equality.");
            const char *both_null = psprintf(" OR s.%s IS NULL AND r.%s IS NULL", column, column);
            condition.add("(s.%s %s r.%s%s)", column, maintain::operator_text(equality), column,
                          with_null ? both_null : "");
            if (i == 0) rows.keys = pg::within(outside, [&] { return datumCopy(row.datum(1), false, -1); });
        }
    });
    if (condition.empty()) fail_keys("keys name no column", "Each key is an object of columns and values.");
    rows.condition = condition.text();
    return rows;
}

const char *among_keys(const SourceRows &rows) {
    return psprintf("EXISTS (SELECT FROM pg_catalog.jsonb_array_elements($1) AS e(key), LATERAL "
                    "pg_catalog.jsonb_populate_record(NULL::%s, e.key) AS r WHERE %s)",
                    pg::qualified_name(rows.relation), rows.condition);
}

// Runs a query over the keys as the projection's owner, and keeps its rows.
Tuplestorestate *owner_rows(Projection &projection, const char *text, Datum keys, TupleDesc *desc) {
    Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);
    MemoryContext outside = CurrentMemoryContext;
    pg::with_spi([&] {
        pg::as_owner(projection.owner(), [&] {
            catalog::with_pinned(projection.settings, [&] {
                Oid type = JSONBOID;
                if (pg::spi_execute_with_args(text, 1, &type, &keys, nullptr, true, 0) != SPI_OK_SELECT)
                    elog(ERROR, "reading keys of %s failed", projection.name());
            });
        });
        pg::within(outside, [&] {
            *desc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
            pg::put_rows(store);
        });
    });
    return store;
}

// The distinct keys, in the order in which writers lock them.
const char *touched_keys(Projection &projection, const SourceRows &rows) {
    const compile::Block &block = projection.block();
    pg::TextList from(" UNION ALL ");
    const char *columns =
        pg::joined(static_cast<int>(block.told_keys().size()), ", ", [](int i) { return psprintf("k%d", i); });
    const char *names = block.told_keys().empty() ? "0::bigint AS ordinal" : columns;
    for (std::size_t i = 0; i < block.occurrence_source.size(); i++) {
        const compile::Source &source = block.sources[block.occurrence_source[i]];
        if (source.relation != rows.relation) continue;
        const char *selected = psprintf(
            "SELECT %s0::bigint AS %s FROM %s AS s WHERE %s",
            used_columns(source,
                         [&](std::size_t c) {
                             return psprintf("s.%s",
                                             quote_identifier(get_attname(source.relation, source.used[c], false)));
                         }),
            compile::weight_column(source.relation), pg::qualified_name(rows.relation), among_keys(rows));
        from.add("SELECT %s FROM %s", names, traced(projection, static_cast<int>(i + 1), selected));
    }
    return psprintf("SELECT DISTINCT * FROM (%s) AS u ORDER BY %s", from.text(),
                    block.told_keys().empty() ? "1" : columns);
}

int64 refresh_states(Projection &projection, const SourceRows &rows) {
    require_history(projection);
    if (projection.async) {
        Projection *root = &projection;
        maintain::lock_relations({&root, 1});
        events::lock_slots(projection.relation);
    } else {
        LockRelationOid(projection.sources.front(), ShareRowExclusiveLock); // its writers fold
    }
    const char *text = psprintf("SELECT DISTINCT k FROM (SELECT (f.event).*, f.keys AS _keys FROM %s AS f) AS s, "
                                "pg_catalog.unnest(s._keys) AS k WHERE %s",
                                pg::qualified_name(projection.definition), among_keys(rows));
    TupleDesc desc = nullptr;
    Tuplestorestate *store = owner_rows(projection, text, rows.keys, &desc);
    pg::vector<Datum> keys;
    TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
    while (tuplestore_gettupleslot(store, true, false, slot)) {
        slot_getallattrs(slot);
        if (!slot->tts_isnull[0]) keys.push_back(datumCopy(slot->tts_values[0], false, -1));
    }
    ExecDropSingleTupleTableSlot(slot);
    tuplestore_end(store);
    return keys.empty() ? 0 : refold_keys(projection, {keys.data(), keys.size()});
}

int64 refresh_projection(Projection &projection, const SourceRows &rows) {
    if (projection.flow == Flow::none) return 0;
    if (projection.kind == Kind::handler) {
        ereport(NOTICE, (errmsg("handler %s is left out", projection.name()),
                         errdetail("What it writes follows from nothing but its function."),
                         errhint("projections.replay() calls it again for events.")));
        return 0;
    }
    if (projection.kind != Kind::query) return refresh_states(projection, rows);
    if (projection.block().is_bag()) return apply_row_drift(projection, find_drift(projection, {}));
    TupleDesc desc = nullptr;
    Tuplestorestate *keys = owner_rows(projection, touched_keys(projection, rows), rows.keys, &desc);
    int64 written = tuplestore_tuple_count(keys) ? events::refresh_keys(projection, keys, desc) : 0;
    tuplestore_end(keys);
    return written;
}

int64 refresh_source(text *name, Datum keys) {
    Oid relation = RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(name)), AccessShareLock, false);
    pg::vector<Oid> over;
    for (Projection *each : catalog::all()) { // those that read events too
        auto &sources = each->sources;
        if (OidIsValid(each->shadow_of) || std::find(sources.begin(), sources.end(), relation) == sources.end())
            continue;
        rights::require_owner(*each);
        over.push_back(each->relation);
    }
    if (over.empty())
        ereport(ERROR,
                (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("no projection reads %s", pg::qualified_name(relation)),
                 errdetail("There is nothing to compute again."),
                 errhint("projections.dependencies lists what reads what.")));
    for (Oid each : over)
        if (Projection *projection = catalog::projection(each)) maintain::settle(*projection, "recompute");
    SourceRows rows = source_rows(relation, keys);
    int64 written = 0;
    for (Oid each : over)
        if (Projection *projection = catalog::projection(each)) written += refresh_projection(*projection, rows);
    return written;
}

} // namespace
} // namespace verify

extern "C" {

PG_FUNCTION_INFO_V1(projections_stale_keys);
Datum projections_stale_keys(PG_FUNCTION_ARGS) {
    events::refuse_while_applying();
    catalog::Projection &projection = rights::named_projection(fcinfo, catalog::Hold::all);
    verify::require_reader(projection);
    int64 min_lag = PG_ARGISNULL(1) ? 1 : PG_GETARG_INT64(1);
    InitMaterializedSRF(fcinfo, 0);
    verify::stale_keys(projection, min_lag, reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
    return 0;
}

PG_FUNCTION_INFO_V1(projections_refresh_source);
Datum projections_refresh_source(PG_FUNCTION_ARGS) {
    events::refuse_while_applying();
    rights::text_argument(fcinfo, 0, "source");
    if (PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"keys\" must not be null"),
                        errhint("Pass an array of {column: value} objects.")));
    PG_RETURN_INT64(verify::refresh_source(PG_GETARG_TEXT_PP(0), PG_GETARG_DATUM(1)));
}

} // extern "C"
