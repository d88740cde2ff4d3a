// Which columns determine rows, what objects name by them, and the keys of those rows.
//
// Keys are searched for by a query per way of naming: the values of each object are handed, LATERAL and behind OFFSET
// 0, to a query of the rows with one object's values, as only a condition that is no join's reaches the inside of a
// grouped definition, and there an index. (Test: sql/by_columns)
#include "operate/named_rows.hpp"

#include "catalog/settings.hpp"
#include "compile/terms.hpp"
#include "declare/describe.hpp"
#include "maintain/statements.hpp"
#include "pg/query.hpp"
#include "pg/scope.hpp"

namespace operate {

using catalog::Projection;
using compile::Block;

namespace {

// ----------------------------------------------------------------------------------------------- what determines rows

// A query whose expressions are looked at, and what is outside of it.
struct Level {
    Query *query;
    const Block *block; // whose core it is; else null
    Level *outside;
};

bool has_made_column(Level level, int column);

// Whether an expression has something that is made of several rows.
bool is_made(Node *node, Level *level);

// A column of one of the query's tables, joins and subqueries.
bool is_made_column(const Var *column, Level *level) {
    for (Index up = column->varlevelsup; up > 0; up--)
        if ((level = level->outside) == nullptr) return true;
    const RangeTblEntry *entry = rt_fetch(column->varno, level->query->rtable);
    switch (entry->rtekind) {
    case RTE_FUNCTION:
    case RTE_VALUES: return false;
    case RTE_SUBQUERY: return has_made_column({entry->subquery, nullptr, level}, column->varattno);
    case RTE_JOIN:
        return column->varattno < 1 ||
               is_made(static_cast<Node *>(list_nth(entry->joinaliasvars, column->varattno - 1)), level);
    case RTE_RELATION: {
        Projection *part = catalog::projection(entry->relid);
        if (part == nullptr || !OidIsValid(part->part_of)) return false;
        return has_made_column({part->block().core, &part->block(), nullptr}, column->varattno);
    }
    default: return true;
    }
}

bool is_made(Node *node, Level *level) {
    if (node == nullptr) return false;
    for (std::size_t i = 0; level->block && i < level->block->row_key.size(); i++)
        if (equal(node, level->block->column(level->block->row_key[i].column)->expr)) return false;
    switch (nodeTag(node)) {
    case T_Aggref:
    case T_GroupingFunc:
    case T_WindowFunc:
    case T_SubLink: return true;
    case T_Var: return is_made_column(reinterpret_cast<Var *>(node), level);
    default: return pg::walk_children(node, is_made, level);
    }
}

// Whether a column of a query is made of several rows; of a union, in any branch.
bool has_made_column(Level level, int column) {
    if (column < 1) return true; // a whole row
    if (level.query->setOperations) {
        for (RangeTblEntry *entry : pg::each<RangeTblEntry>(level.query->rtable))
            if (entry->rtekind == RTE_SUBQUERY && has_made_column({entry->subquery, nullptr, &level}, column))
                return true;
        return false;
    }
    auto *target = static_cast<TargetEntry *>(list_nth(level.query->targetList, column - 1));
    return is_made(pg::flatten_groups(level.query, reinterpret_cast<Node *>(target->expr)), &level);
}

bool is_key(const Block &block, int column) {
    return std::any_of(block.row_key.begin(), block.row_key.end(),
                       [&](const compile::Key &key) { return key.column == column; });
}

// Why a column does not determine rows; null where it does.
const char *problem_of(Projection &projection, int column) {
    const Block &block = projection.block();
    if (is_key(block, column)) return nullptr;
    if (has_made_column({block.core, &block, nullptr}, column + 1))
        return "is an aggregate, or made of several rows otherwise";
    if (equality_of(projection, column) == nullptr) return "has values that cannot be compared";
    return nullptr;
}

// What may be given instead.
const char *hint_for(Projection &projection) {
    const Block &block = projection.block();
    if (block.row_key.empty()) return "Pass {}, which means all of it.";
    pg::TextList columns;
    for (int i = 0; i < block.columns(); i++)
        if (problem_of(projection, i) == nullptr) columns.add("%s", column_name(projection, i));
    return psprintf("Pass objects of columns and values. Columns that do: %s.", columns.text());
}

[[noreturn]] void fail(Projection &projection, const char *object, const char *detail) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("%s does not determine rows of projection %s", object, projection.name()),
                    errdetail("%s", detail), errhint("%s", hint_for(projection))));
    pg_unreachable();
}

// ------------------------------------------------------------------------------------------------------ the objects

const char *text_of(JsonbValue *value) {
    return DatumGetCString(DirectFunctionCall1(jsonb_out, JsonbPGetDatum(JsonbValueToJsonb(value))));
}

const char *text_of(Datum json) { return DatumGetCString(DirectFunctionCall1(jsonb_out, json)); }

// The column that an object names, from 0; below 0 where there is none.
int column_of(Projection &projection, const char *name) {
    int column = get_attnum(projection.relation, name) - 1;
    return column < projection.block().columns() ? column : -1;
}

// The columns that an object names.
Naming naming_of(Projection &projection, JsonbValue *object) {
    const Block &block = projection.block();
    Naming naming;
    if (object->type != jbvBinary || !JsonContainerIsObject(object->val.binary.data))
        fail(projection, text_of(object), "It is not an object.");
    JsonbIterator *members = JsonbIteratorInit(object->val.binary.data);
    JsonbValue value;
    int number = -1;
    for (JsonbIteratorToken token; (token = JsonbIteratorNext(&members, &value, true)) != WJB_DONE;) {
        if (token == WJB_KEY) {
            const char *name = pnstrdup(value.val.string.val, value.val.string.len);
            number = column_of(projection, name);
            if (number < 0) fail(projection, text_of(object), psprintf("The projection has no column \"%s\".", name));
        } else if (token == WJB_VALUE) {
            naming.columns.push_back({number, value.type == jbvNull});
        }
    }
    std::sort(naming.columns.begin(), naming.columns.end(),
              [](const Naming::Column &a, const Naming::Column &b) { return a.number < b.number; });
    naming.by_key = naming.columns.size() == block.row_key.size() &&
                    std::all_of(naming.columns.begin(), naming.columns.end(),
                                [&](const Naming::Column &column) { return is_key(block, column.number); });
    return naming;
}

// Raises 22023 where the columns of an object do not determine rows.
void require_determining(Projection &projection, const Naming &naming, JsonbValue *object) {
    if (projection.block().row_key.empty() != naming.columns.empty())
        fail(projection, text_of(object),
             naming.columns.empty() ? "It names no column." : "The projection has no key.");
    for (const Naming::Column &column : naming.columns)
        if (const char *problem = problem_of(projection, column.number))
            fail(projection, text_of(object),
                 psprintf("Column \"%s\" %s.",
                          get_attname(projection.relation, static_cast<AttrNumber>(column.number + 1), false),
                          problem));
}

bool same_columns(const Naming &a, const Naming &b) {
    return std::equal(
        a.columns.begin(), a.columns.end(), b.columns.begin(), b.columns.end(),
        [](const Naming::Column &x, const Naming::Column &y) { return x.number == y.number && x.null == y.null; });
}

Datum array_of(Datum object) {
    JsonbValue element{};
    Jsonb *json = DatumGetJsonbP(object);
    element.type = jbvBinary;
    element.val.binary.data = &json->root;
    element.val.binary.len = static_cast<int>(VARSIZE_ANY_EXHDR(json));
    JsonbParseState *state = nullptr;
    pushJsonbValue(&state, WJB_BEGIN_ARRAY, nullptr);
    pushJsonbValue(&state, WJB_ELEM, &element);
    return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, nullptr)));
}

// "column type, …" of the columns that an object names. A domain's are of its base type: a NULL or a value that it does
// not allow names no row, and is no error.
const char *values_of(Projection &projection, const Naming &naming) {
    return pg::joined(static_cast<int>(naming.columns.size()), ", ", [&](int i) {
        int column = naming.columns[i].number;
        Oid type, collation;
        int32 typmod;
        get_atttypetypmodcoll(projection.relation, static_cast<AttrNumber>(column + 1), &type, &typmod, &collation);
        type = getBaseTypeAndTypmod(type, &typmod);
        return psprintf("%s %s", column_name(projection, column),
                        format_type_extended(type, typmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
    });
}

// "SELECT the keys" of the objects of one naming, which are parameter `number`.
const char *keys_of(Projection &projection, const Naming &naming, int number, const char *definition, Among among) {
    const Block &block = projection.block();
    auto keys = [&](const char *alias) {
        return pg::joined(static_cast<int>(block.row_key.size()), ", ", [&](int i) {
            return psprintf("%s.%s", alias, column_name(projection, block.row_key[i].column));
        });
    };
    const char *values = naming.columns.empty()
                             ? ""
                             : psprintf(", LATERAL pg_catalog.jsonb_to_record($1 OPERATOR(pg_catalog.->) i) AS r(%s)",
                                        values_of(projection, naming));
    const char *objects = psprintf("FROM pg_catalog.unnest($%d) AS i%s", number, values);
    if (naming.by_key) return psprintf("SELECT %s %s", keys("r"), objects);
    const char *condition = condition_of(projection, naming, [&](std::size_t i) {
        return psprintf("r.%s", column_name(projection, naming.columns[i].number));
    });
    const char *names = pg::joined(block.columns(), ", ", [&](int i) { return column_name(projection, i); });
    const char *rows = psprintf("SELECT %s FROM (%s) AS t(%s) WHERE %s", keys("t"), definition, names, condition);
    if (among == Among::definition_and_table)
        rows = psprintf("%s UNION ALL SELECT %s FROM ONLY %s AS t WHERE %s", rows, keys("t"), projection.name(),
                        condition);
    return psprintf("SELECT x.* %s, LATERAL (%s OFFSET 0) AS x", objects, rows);
}

} // namespace

const char *column_name(Projection &projection, int column) { return maintain::column_name(projection, column); }

const char *equality_of(Projection &projection, int column) {
    const Block &block = projection.block();
    for (const compile::Key &key : block.row_key)
        if (key.column == column) return maintain::operator_text(key.equality);
    Oid type = exprType(reinterpret_cast<Node *>(block.column(column)->expr));
    Oid equality = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
    return OidIsValid(equality) ? maintain::operator_text(equality) : nullptr;
}

NamedRows named_rows(Projection &projection, Datum json) {
    Jsonb *given = DatumGetJsonbP(json);
    NamedRows named{JB_ROOT_IS_OBJECT(given) ? array_of(json) : JsonbPGetDatum(given)};
    JsonbContainer *array = &DatumGetJsonbP(named.objects)->root;
    for (uint32 i = 0; i < JsonContainerSize(array); i++) {
        JsonbValue *object = getIthJsonbValueFromContainer(array, i);
        Naming naming = naming_of(projection, object);
        auto same = std::find_if(named.namings.begin(), named.namings.end(),
                                 [&](const Naming &other) { return same_columns(other, naming); });
        if (same == named.namings.end()) {
            require_determining(projection, naming, object);
            same = named.namings.insert(same, std::move(naming));
        }
        same->objects.push_back(static_cast<int32>(i));
    }
    return named;
}

NamedRows named_row(Projection &projection, Datum json) {
    if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(json))) fail(projection, text_of(json), "It is not an object.");
    return named_rows(projection, json);
}

void fail_several(Projection &projection, Datum json) {
    ereport(ERROR,
            (errcode(ERRCODE_CARDINALITY_VIOLATION),
             errmsg("%s determines several rows of projection %s", text_of(json), projection.name()),
             errdetail("One row is asked for."),
             errhint("Add columns; those of the key, (%s), determine one.", declare::key_text(projection.block()))));
    pg_unreachable();
}

const char *keys_query(Projection &projection, const NamedRows &named, const char *definition, Among among) {
    pg::TextList each(" UNION ALL "), order;
    for (std::size_t i = 0; i < named.namings.size(); i++)
        each.add("(%s)", keys_of(projection, named.namings[i], static_cast<int>(i + 2), definition, among));
    for (std::size_t i = 1; i <= projection.block().row_key.size(); i++) order.add("%zu", i);
    return psprintf("SELECT DISTINCT * FROM (%s) AS k ORDER BY %s", each.text(), order.text());
}

void run_keys_query(const NamedRows &named, const char *query, Snapshot snapshot, long limit) {
    pg::vector<Oid> types;
    pg::vector<Datum> values;
    types.push_back(JSONBOID);
    values.push_back(named.objects);
    for (const Naming &naming : named.namings) {
        pg::vector<Datum> places;
        for (int32 place : naming.objects) places.push_back(Int32GetDatum(place));
        types.push_back(INT4ARRAYOID);
        values.push_back(PointerGetDatum(construct_array(places.data(), static_cast<int>(places.size()), INT4OID,
                                                         sizeof(int32), true, TYPALIGN_INT)));
    }
    pg::spi_execute_under(snapshot, query, limit, static_cast<int>(values.size()), types.data(), values.data());
}

bool whole_key(Projection &projection, Datum json, Datum *key) {
    NamedRows named = named_row(projection, json);
    *key = json;
    if (named.namings.front().by_key) return true;
    MemoryContext outside = CurrentMemoryContext;
    uint64 found = 0;
    auto find = [&] {
        const char *keys =
            keys_query(projection, named, compile::definition_over(projection.block(), {}), Among::definition);
        run_keys_query(named, psprintf("SELECT pg_catalog.to_jsonb(k) FROM (%s) AS k", keys), GetActiveSnapshot(), 2);
        found = SPI_processed;
        bool null;
        if (found == 1) pg::within(outside, [&] { *key = datumCopy(pg::Row().datum(1, &null), false, -1); });
    };
    pg::as_owner(projection.owner(), [&] {
        catalog::with_pinned(projection.settings, [&] {
            // The key comes back from the JSON as it was.
            pg::with_setting("extra_float_digits", "3", [&] { pg::with_spi(find); });
        });
    });
    if (found > 1) fail_several(projection, json);
    return found == 1;
}

} // namespace operate
