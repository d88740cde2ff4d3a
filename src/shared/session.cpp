// An entry for each session that applies, taken at the first projection and left with the transaction.
#include "shared/session.hpp"

#include "shared/memory.hpp"

namespace shared {
namespace {

constinit Session *mine = nullptr;

// The launcher, a worker, or a rebuild in the background: they are shown elsewhere.
bool is_ours() { return MyBgworkerEntry && strcmp(MyBgworkerEntry->bgw_library_name, "pg_projections") == 0; }

} // namespace

void session_applies(Oid projection) {
    if (memory == nullptr || is_ours()) return;
    with_shared(LW_EXCLUSIVE, [&] {
        if (mine == nullptr) {
            Session *unused = std::find_if(std::begin(memory->sessions), std::end(memory->sessions),
                                           [](const Session &each) { return each.pid == 0; });
            auto own = std::count_if(std::begin(memory->sessions), std::end(memory->sessions), [](const Session &each) {
                return each.pid != 0 && each.caller == GetSessionUserId();
            });
            // Not shown; half of the places are left to others.
            if (unused == std::end(memory->sessions) || own >= std::ssize(memory->sessions) / 2) return;
            mine = unused;
        } else if (mine->projection == projection)
            return;
        *mine = {MyProcPid, MyDatabaseId, projection, GetSessionUserId(), GetCurrentTimestamp()};
    });
}

// Also at the abort with which a session that is terminated ends.
void session_ended() {
    if (mine == nullptr) return;
    with_shared(LW_EXCLUSIVE, [] { *mine = {}; });
    mine = nullptr;
}

} // namespace shared

extern "C" {

PG_FUNCTION_INFO_V1(projections_sessions);
// pid, projection, since; of this database
Datum projections_sessions(PG_FUNCTION_ARGS) {
    using namespace shared;
    InitMaterializedSRF(fcinfo, 0);
    if (memory == nullptr) PG_RETURN_NULL();
    auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    Session copy[lengthof(memory->sessions)];
    with_shared(LW_SHARED, [&] { std::copy(std::begin(memory->sessions), std::end(memory->sessions), copy); });
    for (const Session &each : copy) {
        if (each.pid == 0 || each.database != MyDatabaseId) continue;
        Datum values[] = {Int32GetDatum(each.pid), ObjectIdGetDatum(each.projection), TimestampTzGetDatum(each.since)};
        bool nulls[lengthof(values)] = {};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    PG_RETURN_NULL();
}

} // extern "C"
