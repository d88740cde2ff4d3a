// Makes the triggers of catalog/own_trigger.hpp. A projection whose changes another trigger of that name does not
// capture would go wrong in silence, so that is refused. (Test: sql/rights_declare)
#include "declare/own_triggers.hpp"

#include "catalog/lineage.hpp"
#include "catalog/own_trigger.hpp"
#include "catalog/projection.hpp"
#include "pg/scope.hpp"

namespace declare {

using catalog::find_trigger;
using catalog::Found;
using catalog::OwnTrigger;

namespace {

[[noreturn]] void refuse(Oid source, const char *trigger) {
    const char *table = pg::qualified_name(source);
    auto others = catalog::over(source);
    ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
                    errmsg("trigger %s on %s is not as the extension makes it", trigger, table),
                    errdetail("It calls another function, does not fire for every change, or is not ENABLE ALWAYS."),
                    others.empty() ? errhint("DROP TRIGGER %s ON %s;", trigger, table)
                                   : errhint("SELECT projections.repair(%s); restores it.",
                                             quote_literal_cstr(others.front()->name()))));
    pg_unreachable();
}

bool is_partitioned(Oid source) { return get_rel_relkind(source) == RELKIND_PARTITIONED_TABLE; }

// As of the extension's owner, within an SPI connection.
void make(const char *table, const OwnTrigger &trigger) {
    pg::spi_execute(psprintf("CREATE TRIGGER %s %s", trigger.name, psprintf(trigger.made, table)));
    pg::spi_execute(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, trigger.name));
}

void make_if_absent(Oid source, const OwnTrigger &trigger) {
    Found found = find_trigger(source, trigger);
    if (found == Found::as_made) return;
    if (found != Found::nothing) refuse(source, trigger.name);
    make(pg::qualified_name(source), trigger);
}

} // namespace

void make_capture(std::span<const Oid> sources, bool whole) {
    pg::as_superuser([&] {
        for (Oid source : sources) {
            make_if_absent(source, catalog::capture_rows);
            make_if_absent(source, catalog::capture_truncate);
            auto found = catalog::members(source);
            if (!whole || (!is_partitioned(source) && found.empty())) continue;
            // A copy: making triggers outdates what is cached.
            pg::vector<Oid> members(found.begin(), found.end());
            make_if_absent(source, catalog::capture_truncating);
            for (Oid member : members) {
                if (!is_partitioned(source)) make_if_absent(member, catalog::capture_rows); // nothing is copied to it
                make_if_absent(member, catalog::capture_truncate);
                make_if_absent(member, catalog::capture_truncating);
            }
        }
    });
}

void lock_for_capture(Oid source) {
    if (find_trigger(source, catalog::capture_rows) == Found::as_made &&
        find_trigger(source, catalog::capture_truncate) == Found::as_made) {
        LockRelationOid(source, AccessShareLock);
        return;
    }
    pg::with_setting("lock_timeout", "1s", [&] { catalog::lock_tree(source, ShareRowExclusiveLock); });
}

void make_guard(Oid table) {
    const char *name = pg::qualified_name(table);
    pg::as_superuser([&] {
        make(name, catalog::guard_rows);
        make(name, catalog::guard_truncate);
    });
}

} // namespace declare
