// A list for the transaction, whose entries know the subtransaction that made them.
#include "capture/missed.hpp"

namespace capture {
namespace {

struct Missed {
    Oid projection;
    SubTransactionId subtransaction;
};

constinit List *all = NIL; // of Missed, in TopTransactionContext

} // namespace

void miss(Oid projection) {
    SubTransactionId now = GetCurrentSubTransactionId();
    for (Missed *each : pg::each<Missed>(all))
        if (each->projection == projection && each->subtransaction == now) return;
    pg::within(TopTransactionContext, [&] {
        auto *made = static_cast<Missed *>(palloc(sizeof(Missed)));
        *made = Missed{projection, now};
        all = lappend(all, made);
    });
}

List *missed() {
    List *projections = NIL;
    for (Missed *each : pg::each<Missed>(all)) projections = list_append_unique_oid(projections, each->projection);
    list_sort(projections, list_oid_cmp);
    return projections;
}

void missed_in_committed(SubTransactionId sub, SubTransactionId parent) {
    for (Missed *each : pg::each<Missed>(all))
        if (each->subtransaction == sub) each->subtransaction = parent;
}

void missed_in_aborted(SubTransactionId sub) {
    ListCell *cell;
    foreach (cell, all)
        if (static_cast<Missed *>(lfirst(cell))->subtransaction == sub) all = foreach_delete_current(all, cell);
}

void forget_missed() { all = NIL; }

} // namespace capture
