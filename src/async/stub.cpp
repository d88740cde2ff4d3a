#include "async/events.hpp"
#include "async/failure.hpp"
namespace async {
Progress apply_events(const Slot &, int64, Limits) { elog(ERROR, "stub"); }
int64 retry_due(const Slot &) { return 0; }
void apply_inline(catalog::Projection &, TupleTableSlot *) {}
void record_failure(const Slot &, const FailedEvent &e, const ErrorData *x) {
    elog(WARNING, "failure at " INT64_FORMAT ": %s", e.position, x->message);
}
void resolve_failure(const Slot &, int64, const char *) {}
bool must_rethrow(const ErrorData *e) { return e->sqlerrcode == ERRCODE_QUERY_CANCELED; }
} // namespace async
