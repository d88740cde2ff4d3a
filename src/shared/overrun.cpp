// Noted by the process that ends, loaded at the next batch, and forgotten when the transaction that settled it commits.
#include "shared/overrun.hpp"

#include "shared/memory.hpp"

namespace shared {
namespace {

constexpr int most = lengthof(Shared::overruns);

// Of the projection that is being brought up to date.
constinit Overrun loaded[most] = {};
constinit int loaded_count = 0;
// In this transaction.
constinit Overrun settled[most] = {};
constinit int settled_count = 0;

bool same(const Overrun &a, const Overrun &b) {
    return a.database == b.database && a.projection == b.projection && a.position == b.position;
}

void transaction_ended(XactEvent event, void *) {
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE) return;
    int count = std::exchange(settled_count, 0);
    if (count == 0 || event == XACT_EVENT_ABORT) return;
    with_shared(LW_EXCLUSIVE, [&] {
        for (Overrun &each : memory->overruns)
            if (std::any_of(settled, settled + count, [&](const Overrun &done) { return same(each, done); })) each = {};
    });
    loaded_count = 0;
}

} // namespace

void note_overrun(Oid projection, Oid owner, int64 position, int milliseconds) {
    if (memory == nullptr) return;
    Overrun overrun{MyDatabaseId, owner, projection, position, milliseconds, GetCurrentTimestamp()};
    with_shared(LW_EXCLUSIVE, [&] {
        auto *known = std::find_if(std::begin(memory->overruns), std::end(memory->overruns),
                                   [&](const Overrun &each) { return same(each, overrun); });
        if (known == std::end(memory->overruns)) known = place_in(memory->overruns, &Overrun::owner, &Overrun::at);
        *known = overrun;
    });
}

void load_overruns(Oid projection) {
    loaded_count = 0;
    if (memory == nullptr) return;
    static constinit bool registered = false;
    if (!std::exchange(registered, true)) RegisterXactCallback(transaction_ended, nullptr);
    with_shared(LW_SHARED, [&] {
        for (const Overrun &each : memory->overruns)
            if (each.database == MyDatabaseId && each.projection == projection) loaded[loaded_count++] = each;
    });
}

int settle_overrun(Oid projection, int64 position) {
    Overrun *end = loaded + loaded_count;
    Overrun *found = std::find_if(
        loaded, end, [&](const Overrun &each) { return each.projection == projection && each.position == position; });
    if (found == end) return 0;
    bool known = std::any_of(settled, settled + settled_count, [&](const Overrun &each) { return same(each, *found); });
    if (!known && settled_count < most) settled[settled_count++] = *found;
    return found->milliseconds;
}

bool settled_overrun() { return settled_count > 0 && MyBgworkerEntry != nullptr; }

} // namespace shared
