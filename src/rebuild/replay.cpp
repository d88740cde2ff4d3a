#include "rebuild/replay.hpp"

#include "async/slot.hpp"
#include "async/source.hpp"
#include "maintain/flush.hpp"

namespace rebuild {

using catalog::Flow;
using catalog::Kind;

bool replays(Rebuild &rebuild) {
    // An altered projection's shadow is not as it was.
    const catalog::Projection &made = OidIsValid(rebuild.shadow) ? shadow(rebuild) : live(rebuild);
    return made.kind != Kind::query || made.flow == Flow::events;
}

void replay(Rebuild &rebuild) {
    int64 head = 0;
    int slots = 0;
    step(rebuild, [&] {
        const async::EventSource *source = async::event_source(shadow(rebuild).sources.front());
        if (source == nullptr) elog(ERROR, "projection %s reads no event source", rebuild.name);
        head = async::safe_position(*source).position;
        slots = static_cast<int>(
            ask(psprintf("SELECT pg_catalog.count(*) FROM projections.slot WHERE projection = %u", rebuild.shadow)));
    });
    enter(rebuild, "replaying", head);
    TimestampTz told = GetCurrentTimestamp();
    bool more = true;
    while (more) {
        more = false;
        int64 lowest = PG_INT64_MAX;
        for (int slot = 0; slot < slots; slot++)
            step(rebuild, [&] {
                async::Progress progress = async::advance(shadow(rebuild), slot, {100000, 1000}, true);
                more |= progress.more;
                lowest = std::min(lowest, progress.position);
                note_progress(rebuild, std::min(lowest, head), head);
                maintain::flush_logs();
            });
        notice_progress(rebuild, told, std::min(lowest, head), head);
    }
}

bool replay_to_live(Rebuild &rebuild, TimestampTz deadline) {
    pg::vector<std::pair<int, int64>> targets;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            pg::spi_execute(psprintf("SELECT slot, position FROM projections.slot WHERE projection = %u ORDER BY slot",
                                     rebuild.target));
            bool null;
            for (uint64 i = 0; i < SPI_processed; i++)
                targets.push_back(
                    {DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &null)),
                     DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &null))});
        });
    });
    for (auto [slot, position] : targets) {
        async::Progress progress;
        do {
            progress = async::advance(shadow(rebuild), slot, {100000, 100}, true);
            CommandCounterIncrement();
            if (progress.position < position && GetCurrentTimestamp() >= deadline) return false;
        } while (progress.position < position);
    }
    return true;
}

void adopt_events(Rebuild &rebuild, bool async) {
    auto run = [&](const char *format) { execute(psprintf(format, rebuild.target, rebuild.shadow)); };
    run("DELETE FROM projections.slot WHERE projection = %1$u");
    if (async) run("UPDATE projections.slot SET projection = %1$u WHERE projection = %2$u");
    run("UPDATE projections.failure SET resolved_at = pg_catalog.clock_timestamp(), resolution = 'rebuilt', "
        "resolved_by "
        "= session_user, next_retry_at = NULL WHERE projection = %1$u AND resolved_at IS NULL");
    run("UPDATE projections.failure SET projection = %1$u WHERE projection = %2$u AND resolved_at IS NULL");
    run("DELETE FROM projections.parked_event WHERE projection = %1$u");
    run("UPDATE projections.parked_event SET projection = %1$u WHERE projection = %2$u");
    run("DELETE FROM projections.transition WHERE projection = %1$u AND set_by IS NULL");
    run("UPDATE projections.transition SET projection = %1$u WHERE projection = %2$u AND set_by IS NULL");
}

} // namespace rebuild
