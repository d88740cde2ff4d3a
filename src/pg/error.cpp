// Boost.Container is built without exceptions: what it would throw is raised as an ERROR.
#include "pg/pg.hpp"

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
