// An altered projection's parts are made with its shadow, and filled before that is copied. While both generations are
// there, all are parts of the projection; which are today's follows from the definition, so nothing has to be noted,
// and a rebuild that died leaves no more than what the next one, or DROP, finds.
#include "rebuild/parts.hpp"

#include "rebuild/fill.hpp"
#include "rebuild/place.hpp"
#include "rebuild/rebuild.hpp"
#include "rebuild/shadow.hpp"

namespace rebuild {

using catalog::Flow;
using catalog::Projection;

namespace {

bool has(const pg::vector<Oid> &oids, Oid wanted) { return std::find(oids.begin(), oids.end(), wanted) != oids.end(); }

// Outer first.
pg::vector<Oid> idle_parts(Oid target) {
    pg::vector<Projection *> parts = catalog::parts_of(target);
    pg::vector<Oid> read, idle;
    auto add = [&](const pg::vector<Oid> &sources) {
        for (Oid each : sources)
            if (!has(read, each)) read.push_back(each);
    };
    add(catalog::projection(target)->sources);
    for (std::size_t i = 0; i < read.size(); i++)
        for (Projection *part : parts)
            if (part->relation == read[i]) add(pg::vector<Oid>(part->sources));
    for (auto part = parts.rbegin(); part != parts.rend(); ++part)
        if (!has(read, (*part)->relation)) idle.push_back((*part)->relation);
    return idle;
}

enum class Wait { shortly, not_at_all };

// Writers have captured changes for what is filled. In the queue of a lock all who come later would wait, too.
void lock_writers_out(const pg::vector<Oid> &parts, Wait wait) {
    pg::vector<Oid> sources;
    for (Oid each : parts) {
        const Projection *part = catalog::projection(each);
        if (part == nullptr || part->flow == Flow::none) continue;
        for (Oid source : part->sources)
            if (!has(parts, source) && !has(sources, source)) sources.push_back(source);
    }
    std::sort(sources.begin(), sources.end());
    if (wait == Wait::shortly) pg::set_locally("lock_timeout", psprintf("%d", swap_lock_timeout));
    for (Oid source : sources)
        if (wait == Wait::shortly)
            LockRelationOid(source, AccessExclusiveLock);
        else if (!ConditionalLockRelationOid(source, AccessExclusiveLock))
            ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
                            errmsg("could not obtain lock on relation \"%s\"", get_rel_name(source))));
}

} // namespace

void fill_parts(Rebuild &rebuild) {
    List *parts = NIL;
    step(rebuild, [&] {
        pg::within(rebuild.memory, [&] {
            for (Projection *part : catalog::parts_of(rebuild.target))
                if (part->flow == Flow::none) parts = lappend_oid(parts, part->relation);
        });
    });
    ErrorData *volatile error = nullptr;
    MemoryContext before = CurrentMemoryContext;
    PG_TRY();
    {
        ListCell *cell;
        foreach (cell, parts) run_rebuild(lfirst_oid(cell), rebuild.by);
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(rebuild.memory);
        error = CopyErrorData();
        FlushErrorState();
        SPI_rollback();
        MemoryContextSwitchTo(before);
    }
    PG_END_TRY();
    if (error) give_up(rebuild, error);
}

namespace {

void drop_parts(Rebuild &rebuild, Wait wait) {
    pg::vector<Oid> idle = idle_parts(rebuild.target);
    lock_writers_out(idle, wait);
    pg::as_superuser([&] {
        pg::with_spi([&] {
            for (Oid each : idle) drop_shadow(each);
        });
    });
}

bool has_idle_parts(Rebuild &rebuild) {
    return catalog::projection(rebuild.target) != nullptr && !idle_parts(rebuild.target).empty();
}

} // namespace

// Between two attempts no lock and no snapshot is held: another rebuild may wait for either, and hold the other one.
// (Test: test/alter_stress)
void drop_idle_parts(Rebuild &rebuild) {
    bool idle = true;
    for (long pause = least_pause;; pause = std::min(pause * 2, longest_pause)) {
        step(rebuild, [&] { idle = has_idle_parts(rebuild); });
        if (!idle) return;
        ErrorData *error = attempt(rebuild, true, [&] { drop_parts(rebuild, Wait::shortly); });
        if (error && !timed_out(error)) give_up(rebuild, error);
        SPI_commit();
        if (error) wait_a_moment(rebuild, pause);
    }
}

void try_to_drop_idle_parts(Rebuild &rebuild) {
    if (!has_idle_parts(rebuild)) return;
    ErrorData *error = attempt(rebuild, true, [&] { drop_parts(rebuild, Wait::not_at_all); });
    if (error == nullptr)
        SPI_commit();
    else
        ereport(WARNING, (errmsg("parts that projection %s does not read could not be removed: %s", rebuild.name,
                                 error->message),
                          errdetail("Their tables' writers go on maintaining them."),
                          errhint("CALL projections.rebuild(%s); removes them.", quote_literal_cstr(rebuild.name))));
}

} // namespace rebuild
