// What a declaration names: the function, and the tables that a handler writes.
#include "declare/declaration.hpp"
#include "pg/scope.hpp"

namespace declare {
namespace {

[[noreturn]] void refuse_function(Oid function, int code, const char *problem, const char *detail, const char *hint) {
    ereport(ERROR, (errcode(code), errmsg("function %s %s", format_procedure(function), problem),
                    errdetail("%s", detail), errhint("%s", hint)));
    pg_unreachable();
}

void check_signature(const Declaration &d, Form_pg_proc form) {
    bool handler = strcmp(d.kind, "handler") == 0;
    Oid row = get_rel_type_id(d.source.relation);
    const Oid *given = form->proargtypes.values;
    bool fits = handler ? form->pronargs == 1 && given[0] == row && form->prorettype == VOIDOID
                        : form->pronargs == 3 && given[0] == JSONBOID && given[1] == row && given[2] == TEXTOID &&
                              form->prorettype == JSONBOID;
    if (fits && form->prokind == PROKIND_FUNCTION && !form->proretset) return;
    const char *type = format_type_be_qualified(row);
    refuse_function(form->oid, ERRCODE_INVALID_FUNCTION_DEFINITION,
                    handler ? "is not a handler of this source" : "is not a reducer of this source",
                    handler
                        ? psprintf("A handler is a function (event %s) RETURNS void.", type)
                        : psprintf("A reducer is a function (state jsonb, event %s, key text) RETURNS jsonb.", type),
                    "Declare the function with these arguments, in this order.");
}

bool sets_search_path(HeapTuple tuple) {
    bool null;
    Datum settings = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proconfig, &null);
    if (null) return false;
    Datum *elements;
    int count;
    deconstruct_array(DatumGetArrayTypeP(settings), TEXTOID, -1, false, TYPALIGN_INT, &elements, nullptr, &count);
    return std::any_of(elements, elements + count, [](Datum each) {
        return pg_strncasecmp(TextDatumGetCString(each), "search_path=", strlen("search_path=")) == 0;
    });
}

} // namespace

void refuse_bound_handler(Oid function) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for function %u", function);
    bool null;
    static_cast<void>(SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &null));
    if (!null)
        refuse_function(function, ERRCODE_FEATURE_NOT_SUPPORTED, "has a body that is bound to its tables",
                        "A rebuild points the handler at other tables of the same names.",
                        "Write the body as a string: AS $$ … $$.");
    if (sets_search_path(tuple))
        refuse_function(function, ERRCODE_FEATURE_NOT_SUPPORTED, "sets search_path",
                        "A rebuild points the handler at other tables of the same names.",
                        psprintf("ALTER FUNCTION %s RESET search_path; it runs under the search_path of this session.",
                                 format_procedure_extended(function, FORMAT_PROC_FORCE_QUALIFY)));
    ReleaseSysCache(tuple);
}

void check_function(const Declaration &d) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(d.function));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for function %u", d.function);
    check_signature(d, reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple)));
    if (pg::function_aclcheck(d.function, GetUserId(), ACL_EXECUTE) != ACLCHECK_OK)
        aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(d.function));
    if (strcmp(d.kind, "handler") == 0) refuse_bound_handler(d.function);
    ReleaseSysCache(tuple);
}

namespace {

void check_deferred(Oid table) {
    pg::with_spi([&] {
        pg::as_superuser([&] {
            pg::spi_execute(
                psprintf("SELECT conname FROM pg_catalog.pg_constraint WHERE conrelid = %u AND condeferred", table));
        });
        if (SPI_processed == 0) return;
        const char *constraint = pg::Row().text(1);
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("table %s has a deferred constraint \"%s\"", pg::qualified_name(table), constraint),
                        errdetail("It would be checked when it can no longer be told which event violates it."),
                        errhint("ALTER TABLE %s ALTER CONSTRAINT %s NOT DEFERRABLE;", pg::qualified_name(table),
                                quote_identifier(constraint))));
    });
}

void check_table(Oid table) {
    char kind = get_rel_relkind(table);
    if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is not a table", pg::qualified_name(table)),
                        errdetail("A handler writes tables."), errhint("List the tables that the function writes.")));
    catalog::Projection *projection = catalog::projection(table);
    if (projection && projection->kind != catalog::Kind::handler)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is a projection", pg::qualified_name(table)),
                        errdetail("Only its maintenance writes it."), errhint("List an ordinary table.")));
    AclMode writes = ACL_INSERT | ACL_UPDATE | ACL_DELETE;
    if (pg_class_aclmask(table, GetUserId(), writes, ACLMASK_ANY) == 0)
        aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(table));
    check_deferred(table);
}

} // namespace

pg::vector<Oid> read_tables(FunctionCallInfo fcinfo, int number) {
    if (PG_ARGISNULL(number))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"tables\" must not be null"),
                        errhint("List the tables that the function writes; '{}' for none.")));
    Datum *elements;
    int count;
    bool *nulls;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    pg::vector<Oid> tables;
    for (int i = 0; i < count; i++) {
        if (nulls[i])
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a table's name must not be null")));
        Oid table = RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(DatumGetTextPP(elements[i]))),
                                     AccessShareLock, false);
        check_table(table);
        tables.push_back(table);
    }
    return tables;
}

} // namespace declare
