// Parts are made inner first, before the projection that reads them, by the same steps as any projection.
#include "declare/parts.hpp"

#include "compile/deparse.hpp"
#include "maintain/reliance.hpp"
#include "pg/scope.hpp"

namespace declare {

using compile::Block;

Oid Parts::make(Query *part, void *context) {
    auto &parts = *static_cast<Parts *>(context);
    Request request{};
    const char *suffix = psprintf("part_%d", list_length(parts.made_) + 1);
    request.name = request.relation = hidden_name(parts.of_.relation, suffix);
    request.query = parts.of_.query;
    request.schema = pg::own_schema();
    request.namespace_oid = pg::own_schema_oid();
    request.options = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
    request.async = parts.of_.async;
    request.fill_later = parts.of_.fill_later;
    request.part_of = quote_qualified_identifier(parts.of_.schema, parts.of_.relation);
    if (parts.stages_) appendStringInfo(parts.stages_, "part %d\n", list_length(parts.made_) + 1);
    Block *block = compile_normal(part, parts.of_.query, parts.made_, parts.stages_);
    if (parts.purpose_ == Purpose::use) catalog::require_current_sql();
    parts.blocks_.push_back(block);
    return parts.purpose_ == Purpose::look ? make_unfilled(request, *block) : make_projection(request, *block).table;
}

void Parts::belong_to(Oid projection) const {
    if (made_ == NIL) return;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            ListCell *cell;
            foreach (cell, made_)
                pg::spi_execute(psprintf("UPDATE projections_internal.projection SET part_of = %u WHERE relation = %u",
                                         projection, lfirst_oid(cell)));
        });
    });
    CommandCounterIncrement();
}

// -------------------------------------------------------------------------------------------------------------
// no_parts

compile::PartMaker no_parts(const char *what) {
    static constinit List *none = NIL;
    auto refuse = [](Query *, void *context) -> Oid {
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("%s cannot have parts", static_cast<const char *>(context)),
                        errdetail("HAVING, subqueries over groups and their like are kept in tables of their own."),
                        errhint("Drop the projection, and create it with the new query.")));
        return InvalidOid;
    };
    return {refuse, const_cast<char *>(what), &none};
}

// -------------------------------------------------------------------------------------------------------
// has_definition

namespace {

struct Comparing {
    catalog::Projection &projection;
    const char *text;
    pg::vector<catalog::Projection *> unseen = {};
    List *seen = NIL;
};

bool is_same(const Block &block, catalog::Projection &projection) {
    return strcmp(compile::deparse_qualified(block.core), compile::deparse_qualified(projection.block().core)) == 0;
}

// The part of that query that is there.
Oid find_part(Query *part, void *context) {
    auto &comparing = *static_cast<Comparing *>(context);
    const Block *block = compile_normal(part, comparing.text, comparing.seen);
    for (catalog::Projection *&each : comparing.unseen) {
        if (each == nullptr || !is_same(*block, *each)) continue;
        Oid found = each->relation;
        each = nullptr;
        return found;
    }
    refuse_existing(comparing.projection.relation, &comparing.projection, false);
}

} // namespace

bool has_definition(catalog::Projection &projection, const char *text) {
    if (projection.block().refreshes()) return is_same(*compile_text_refreshed(text), projection);
    Comparing comparing{projection, text};
    comparing.unseen = catalog::parts_of(projection.relation);
    const Block *block = compile_text(text, {find_part, &comparing, &comparing.seen});
    bool all = std::all_of(comparing.unseen.begin(), comparing.unseen.end(), [](auto *each) { return !each; });
    return all && is_same(*block, projection);
}

} // namespace declare
