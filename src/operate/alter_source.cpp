// A source altered with the projections over it: those that are in the way are taken off, and put back afterwards.
//
// Rights: the text runs as the caller, as if he had typed it. A definition runs as its projection's owner, and would
// mean something else over another type, whose owner may have given it casts and operators: so a projection is taken
// off for a member of its owner only, and its definition is parsed as the owner. (Test: sql/migrations)
//
// Locks, all before the text runs, in an order in which no writer waits for us and we for him: the other tables that
// the projections read, by OID, in SHARE ROW EXCLUSIVE mode, which goes with the locks of a flush; then the source in
// ACCESS EXCLUSIVE mode, after which nobody is left who could write; then the projections' tables, upstream first.
// (Test: isolation/alter_source)
#include "catalog/lineage.hpp"
#include "declare/in_use.hpp"
#include "events/slot.hpp"
#include "pg/scope.hpp"
#include "rebuild/rebuild.hpp"
#include "rebuild/taken_off.hpp"
#include "rights/audit.hpp"
#include "rights/caller.hpp"
#include "rights/reader.hpp"

namespace operate {

using catalog::Projection;

namespace {

struct Text {
    Oid projection;
    const char *text;
};

struct Altering {
    MemoryContext memory;
    Oid source, caller;
    const char *name;
    pg::vector<Oid> above;  // the projections over it, parts included, upstream first
    pg::vector<Text> texts; // of their definitions, by the names that there are before the text runs
    pg::vector<rebuild::TakenOff *> off;
};
constinit Altering *altering = nullptr; // while the text runs

Projection &whole(Projection &projection) {
    return OidIsValid(projection.part_of) ? *catalog::projection(projection.part_of) : projection;
}

// All that follow from the source, or from a table below it.
pg::vector<Oid> projections_above(Oid source) {
    List *reached = find_all_inheritors(source, NoLock, nullptr);
    pg::vector<Oid> above;
    for (Projection *projection : catalog::all()) {
        if (OidIsValid(projection->shadow_of) || projection->kind != catalog::Kind::query) continue;
        if (std::none_of(projection->sources.begin(), projection->sources.end(),
                         [&](Oid each) { return list_member_oid(reached, each); }))
            continue;
        above.push_back(projection->relation);
        reached = lappend_oid(reached, projection->relation);
    }
    return above;
}

bool contains(const pg::vector<Oid> &oids, Oid oid) { return std::find(oids.begin(), oids.end(), oid) != oids.end(); }

bool may_take_off(Projection &projection) { return pg::owns_relation(whole(projection).relation, altering->caller); }

// What the projections that may be taken off read beside the source and each other.
pg::vector<Oid> other_tables() {
    pg::vector<Oid> tables;
    for (Oid each : altering->above) {
        Projection *projection = catalog::projection(each);
        if (projection == nullptr || !may_take_off(*projection)) continue;
        for (Oid table : projection->sources)
            if (table != altering->source && !contains(altering->above, table) && !contains(tables, table))
                tables.push_back(table);
    }
    std::sort(tables.begin(), tables.end());
    return tables;
}

void lock() {
    for (Oid table : other_tables()) catalog::lock_tree(table, ShareRowExclusiveLock);
    catalog::lock_tree(altering->source, AccessExclusiveLock);
    for (Oid each : altering->above) {
        Projection *projection = catalog::projection(each);
        if (projection == nullptr || !may_take_off(*projection)) continue;
        if (!OidIsValid(projection->part_of)) rebuild::hold_off_rebuild(*projection);
        LockRelationOid(each, AccessExclusiveLock);
    }
}

// Projections come and go while locks are waited for.
void lock_all() {
    for (;;) {
        altering->above = projections_above(altering->source);
        lock();
        pg::vector<Oid> now = projections_above(altering->source);
        if (now == altering->above) return;
    }
}

// A table that is put in another one's place gets its name later.
void read_texts() {
    for (Oid each : altering->above) {
        Projection &projection = *catalog::projection(each);
        if (!OidIsValid(projection.part_of) && may_take_off(projection))
            altering->texts.push_back({each, rebuild::text_of(projection)});
    }
}

const char *text_of(Oid projection) {
    for (const Text &each : altering->texts)
        if (each.projection == projection) return each.text;
    pg_unreachable();
}

void require_owner(Projection &projection) {
    if (may_take_off(projection)) return;
    ereport(ERROR,
            (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of projection %s", projection.name()),
             errdetail("Its definition would be parsed anew over %s, to be run with the rights of %s.", altering->name,
                       quote_identifier(GetUserNameFromId(projection.owner(), false))),
             errhint("Have a member of both owners do it; or drop the projection with the column: DROP … "
                     "CASCADE.")));
}

bool take_off(Projection &projection) {
    if (!contains(altering->above, projection.relation) || projection.kind != catalog::Kind::query) return false;
    auto is_it = [&](const rebuild::TakenOff *off) { return off->relation == projection.relation && !off->done; };
    if (std::any_of(altering->off.begin(), altering->off.end(), is_it)) return true;
    require_owner(projection);
    const char *text = text_of(projection.relation);
    rebuild::TakenOff *off = rebuild::take_off(projection, text, altering->memory);
    off->source = altering->name;
    altering->off.push_back(off);
    return true;
}

// What reads a projection whose table is filled anew is told of no rows.
void take_off_readers(Oid relation) {
    pg::vector<Oid> readers;
    for (Projection *reader : catalog::over(relation)) readers.push_back(whole(*reader).relation);
    for (Oid reader : readers)
        if (Projection *projection = catalog::projection(reader)) take_off(*projection);
}

// -------------------------------------------------------------------------------------------------- new definitions

[[noreturn]] void refuse_definitions(const char *what, const char *detail) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", what), errdetail("%s", detail),
                    errhint("Pass, for example, definitions => '{\"sales\": \"SELECT …\"}'.")));
    pg_unreachable();
}

void give_definition(const char *name, const char *query) {
    RangeVar *range = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name)));
    Oid relation = RangeVarGetRelid(range, NoLock, true);
    Projection *projection = OidIsValid(relation) ? catalog::projection(relation) : nullptr;
    if (projection == nullptr || OidIsValid(projection->part_of) || !take_off(*projection))
        refuse_definitions(psprintf("\"%s\" is no query projection over %s", name, altering->name),
                           "Definitions are given by the projections' names.");
    for (rebuild::TakenOff *off : altering->off)
        if (off->relation == relation) off->given = MemoryContextStrdup(altering->memory, query);
}

void give_definitions(Jsonb *definitions) {
    if (!JB_ROOT_IS_OBJECT(definitions))
        refuse_definitions("definitions must be a JSON object",
                           "Its keys are names of projections, its values queries.");
    JsonbIterator *members = JsonbIteratorInit(&definitions->root);
    JsonbValue value;
    const char *name = nullptr;
    for (JsonbIteratorToken token; (token = JsonbIteratorNext(&members, &value, true)) != WJB_DONE;) {
        if (token == WJB_KEY) name = pnstrdup(value.val.string.val, value.val.string.len);
        if (token != WJB_VALUE) continue;
        if (value.type != jbvString)
            refuse_definitions(psprintf("the definition of \"%s\" must be a string", name), "It is a query.");
        give_definition(name, pnstrdup(value.val.string.val, value.val.string.len));
    }
}

// ---------------------------------------------------------------------------------------------------------- the whole

void run(const char *text) {
    pg::with_spi([&] {
        int code = SPI_execute(text, false, 0); // not a text of ours
        if (code == SPI_ERROR_TRANSACTION)
            ereport(ERROR,
                    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("alter_source() cannot run transaction commands"),
                     errdetail("All of its text takes effect, or none of it."),
                     errhint("Put BEGIN and COMMIT around the call.")));
        if (code == SPI_ERROR_COPY)
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("alter_source() cannot run COPY"),
                            errdetail("There is no client to copy from or to."), errhint("Copy before or after it.")));
        if (code < 0) elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(code));
    });
}

// Upstream first: what is filled anew takes what reads it off.
rebuild::TakenOff *next() {
    rebuild::TakenOff *found = nullptr;
    for (rebuild::TakenOff *off : altering->off)
        if (!off->done && (found == nullptr || off->depth < found->depth)) found = off;
    return found;
}

void put_row(ReturnSetInfo *result, const rebuild::TakenOff &off, const rebuild::PutBack &done) {
    Datum values[] = {CStringGetTextDatum(off.name), CStringGetTextDatum(done.refilled ? "refilled" : "compared"),
                      Int64GetDatum(done.rows)};
    bool nulls[] = {false, false, false};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

void alter_source(FunctionCallInfo fcinfo) {
    const char *text = rights::text_argument(fcinfo, 1, "ddl");
    lock_all();
    read_texts();
    declare::take_off = take_off;
    if (!PG_ARGISNULL(2)) give_definitions(PG_GETARG_JSONB_P(2));
    run(text);
    InitMaterializedSRF(fcinfo, 0);
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    while (rebuild::TakenOff *off = next()) {
        rebuild::PutBack done = rebuild::put_back(*off, take_off_readers);
        if (catalog::projection(off->relation)) put_row(result, *off, done);
    }
}

Oid owned_source(FunctionCallInfo fcinfo) {
    Oid source = rights::named_relation(fcinfo, 0);
    if (!pg::owns_relation(source, GetUserId()))
        aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(source)), get_rel_name(source));
    return source;
}

} // namespace
} // namespace operate

extern "C" {

PG_FUNCTION_INFO_V1(projections_alter_source);
AUDITED(projections_alter_source) {
    using namespace operate;
    catalog::require_current_sql();
    events::refuse_while_applying();
    if (altering)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("alter_source() cannot be called by its own text"),
                        errdetail("It is altering %s.", altering->name), errhint("Call one after the other.")));
    Oid source = owned_source(fcinfo);
    altering = pg::make<Altering>(CurrentMemoryContext);
    altering->memory = CurrentMemoryContext;
    altering->source = source;
    altering->caller = GetUserId();
    altering->name = pg::qualified_name(source);
    PG_TRY();
    { alter_source(fcinfo); }
    PG_FINALLY();
    {
        declare::take_off = nullptr;
        altering = nullptr;
    }
    PG_END_TRY();
    return 0;
}

} // extern "C"
