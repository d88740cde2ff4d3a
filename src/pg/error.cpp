// Errors leave by longjmp; what Boost would throw leaves the same way.
#include "pg/pg.hpp"

namespace pg {

ErrorData *copy_error(const ErrorData *error, MemoryContext memory) {
    return within(memory, [&] {
        auto *copy = static_cast<ErrorData *>(palloc(sizeof(ErrorData)));
        *copy = *error;
        for (char **text : {&copy->message, &copy->detail, &copy->detail_log, &copy->hint, &copy->context,
                            &copy->schema_name, &copy->table_name, &copy->column_name, &copy->datatype_name,
                            &copy->constraint_name, &copy->internalquery, &copy->backtrace})
            if (*text) *text = pstrdup(*text);
        for (const char **name :
             {&copy->filename, &copy->funcname, &copy->domain, &copy->context_domain, &copy->message_id})
            if (*name) *name = pstrdup(*name);
        copy->assoc_context = memory;
        return copy;
    });
}

void rethrow(const ErrorData *error) {
    // What is raised lives there, and goes when it has been reported or taken back.
    ReThrowError(copy_error(error, ErrorContext));
    pg_unreachable();
}

bool is_about_column(const char *schema, const char *table, List *columns) {
    // Core copies an error into any context but that in which it is reported.
    MemoryContext memory = AllocSetContextCreate(ErrorContext, "error that is looked at", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    const ErrorData *error = CopyErrorData();
    bool found = false;
    if (error->schema_name && error->table_name && error->column_name && strcmp(error->schema_name, schema) == 0 &&
        strcmp(error->table_name, table) == 0)
        for (char *name : each<char>(columns)) found |= strcmp(error->column_name, name) == 0;
    MemoryContextSwitchTo(before);
    MemoryContextDelete(memory);
    return found;
}

} // namespace pg

// Boost.Container is built without exceptions: what it would throw is raised as an ERROR.

namespace boost::container {

static void raise(int sqlstate, const char *what) {
    ereport(ERROR, (errcode(sqlstate), errmsg_internal("container: %s", what)));
}

void throw_bad_alloc() {
    raise(ERRCODE_OUT_OF_MEMORY, "out of memory");
    pg_unreachable();
}
void throw_out_of_range(const char *what) {
    raise(ERRCODE_INTERNAL_ERROR, what);
    pg_unreachable();
}
void throw_length_error(const char *what) {
    raise(ERRCODE_PROGRAM_LIMIT_EXCEEDED, what);
    pg_unreachable();
}
void throw_logic_error(const char *what) {
    raise(ERRCODE_INTERNAL_ERROR, what);
    pg_unreachable();
}
void throw_runtime_error(const char *what) {
    raise(ERRCODE_INTERNAL_ERROR, what);
    pg_unreachable();
}

} // namespace boost::container
