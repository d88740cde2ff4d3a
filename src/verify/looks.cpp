// One question, prepared once, asked of each difference that may be a look only.
#include "verify/looks.hpp"

#include "maintain/statements.hpp"
#include "pg/list.hpp"

namespace verify {
namespace {

using catalog::Projection;
using compile::Block;
using compile::Key;

// What moves with the rows does not depend on the key's look.
bool same_states(const Block &block, const Difference &d) {
    return std::all_of(block.states.begin(), block.states.end(), [&](const compile::State &state) {
        bool null = d.expected->tts_isnull[state.column];
        if (null || d.found->tts_isnull[state.column]) return null == d.found->tts_isnull[state.column];
        TypeCacheEntry *type = lookup_type_cache(state.type, TYPECACHE_EQ_OPR_FINFO);
        return OidIsValid(type->eq_opr) &&
               DatumGetBool(FunctionCall2Coll(&type->eq_opr_finfo, state.collation,
                                              d.expected->tts_values[state.column], d.found->tts_values[state.column]));
    });
}

// Equality of `columns(i)` with the key in the parameters; `look`: in the very same look.
template <class Columns>
const char *is_key(const Block &block, bool look, Columns &&columns) {
    return pg::joined(static_cast<int>(block.row_key.size()), " AND ", [&](int i) -> const char * {
        const Key &key = block.row_key[i];
        const char *column = columns(i);
        const char *same = psprintf("(%s %s $%d OR %s IS NULL AND $%d IS NULL)", column,
                                    maintain::operator_text(key.equality), i + 1, column, i + 1);
        if (!look || !key.told_apart) return same;
        return psprintf("%s AND ROW(%s)::pg_catalog.text COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) "
                        "ROW($%d)::pg_catalog.text COLLATE pg_catalog.\"C\"",
                        same, column, i + 1);
    });
}

// Whether a row has the key of the parameters in this look, and the stored outputs are those of the stored key.
const char *question(Looks &looks) {
    Projection &projection = looks.projection;
    const Block &block = projection.block();
    const char *stored = is_key(block, true, [&](int i) {
        return psprintf("t.%s", maintain::column_name(projection, block.row_key[i].column));
    });
    const char *rows =
        psprintf("EXISTS (SELECT FROM (%s) AS r WHERE %s)", compile::keys_over(projection.block(), looks.rows),
                 is_key(block, true, [](int i) { return psprintf("r.k%d", i); }));
    if (block.outputs.empty()) return psprintf("SELECT %s", rows);
    const char *outputs = pg::joined(static_cast<int>(block.outputs.size()), ", ", [&](int i) {
        return psprintf("t.%s", maintain::column_name(projection, block.outputs[i].column));
    });
    // A damaged table may have several such rows, which are told of anyhow.
    return psprintf("SELECT %s AND (SELECT ROW(o.*)::pg_catalog.text COLLATE pg_catalog.\"C\" FROM (%s WHERE %s) AS o "
                    "LIMIT 1) OPERATOR(pg_catalog.=) (SELECT ROW(%s)::pg_catalog.text COLLATE pg_catalog.\"C\" FROM "
                    "ONLY %s AS t WHERE %s LIMIT 1)",
                    rows, maintain::outputs_text(projection), stored, outputs, projection.name(), stored);
}

SPIPlanPtr prepared(Looks &looks) {
    if (looks.plan) return looks.plan;
    pg::vector<Oid> types;
    for (const Key &key : looks.projection.block().row_key) types.push_back(key.type);
    looks.plan = pg::spi_prepare(question(looks), static_cast<int>(types.size()), types.data());
    if (looks.plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    return looks.plan;
}

} // namespace

bool is_another_look(const Difference &difference, void *context) {
    auto &looks = *static_cast<Looks *>(context);
    const Block &block = looks.projection.block();
    if (!same_states(block, difference)) return false;
    pg::vector<Datum> values;
    pg::vector<char> nulls;
    for (const Key &key : block.row_key) {
        values.push_back(difference.found->tts_values[key.column]);
        nulls.push_back(difference.found->tts_isnull[key.column] ? 'n' : ' ');
    }
    int code = SPI_execute_snapshot(prepared(looks), values.data(), nulls.data(), looks.snapshot, InvalidSnapshot, true,
                                    false, 1);
    if (code != SPI_OK_SELECT) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(code));
    bool is = pg::Row().boolean(1);
    SPI_freetuptable(SPI_tuptable);
    return is;
}

} // namespace verify
