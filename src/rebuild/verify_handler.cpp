// Verification of handlers.
//
// As in a rebuild, the handler is called again for all events, with twins of its tables before the others in its
// search_path (handler.cpp). But in one transaction, in a subtransaction that is rolled back: nobody else sees the
// twins, nor waits for them.
//
// What the live tables hold is what they and the checkpoints hold under one snapshot. Events are read under the same,
// and up to these checkpoints, so it does not matter that the handler runs later and under newer ones. Events that had
// failed, were parked, skipped or resolved are passed. (test/isolation/specs/verify_handler.spec)
//
// Values that the handler leaves to a default such as nextval() or now() are not the same the second time. A twin's
// defaults tell whether they were asked: those columns, and no others, are not compared, and a table whose primary key
// has one is compared as a bag of rows.
#include "rebuild/verify_handler.hpp"

#include "catalog/settings.hpp"
#include "events/events.hpp"
#include "events/feed.hpp"
#include "events/left_out.hpp"
#include "events/source.hpp"
#include "maintain/changes.hpp"
#include "maintain/flush.hpp"
#include "pg/list.hpp"
#include "rebuild/drawn.hpp"
#include "rebuild/handler.hpp"
#include "rebuild/replay.hpp"
#include "rebuild/shadow.hpp"
#include "rights/caller.hpp"

namespace rebuild {

using catalog::Projection;
using verify::Compared;
using verify::Difference;
using verify::Layout;
using verify::Scope;

namespace {

// ----------------------------------------------------------------------------------------------------------- standing

struct Standing {
    pg::vector<int64> checkpoints; // by slot
    pg::vector<int64> passed;      // positions
};

// In an SPI connection.
const char *read_under(const char *query, Snapshot snapshot, MemoryContext memory) {
    pg::spi_execute_under(snapshot, query, 1);
    return SPI_processed > 0 ? pg::Row().text(1, memory) : nullptr;
}

int64 number_of(const char *text) {
    return text ? DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(text))) : 0;
}

int64 last_visible(Rebuild &rebuild, Snapshot snapshot) {
    const events::EventSource &source = source_of(rebuild);
    const char *query =
        psprintf("SELECT max(%s)::bigint %s", events::position_expression(source), events::events_from(source));
    const char *text = nullptr;
    MemoryContext outside = CurrentMemoryContext;
    pg::as_owner(live(rebuild).owner(), [&] { pg::with_spi([&] { text = read_under(query, snapshot, outside); }); });
    return number_of(text);
}

Standing standing_of(Rebuild &rebuild, Snapshot snapshot) {
    Standing standing;
    if (live(rebuild).async) {
        standing.checkpoints = events::known_checkpoints(live(rebuild), snapshot);
    } else {
        standing.checkpoints.push_back(last_visible(rebuild, snapshot));
    }
    standing.passed = events::left_out_positions(rebuild.target, snapshot);
    return standing;
}

// ------------------------------------------------------------------------------------------------------------- replay

void pass_positions(Rebuild &rebuild, const pg::vector<int64> &positions) {
    execute(psprintf("DELETE FROM projections_internal.failure WHERE projection = %u", rebuild.shadow));
    execute(psprintf(
        "INSERT INTO projections_internal.failure (projection, slot, position, keys, error, sqlstate, category, "
        "resolved_at, resolution) SELECT %u, 0, p, '{}', '', '', 'other', pg_catalog.now(), 'skipped' "
        "FROM pg_catalog.unnest(%s) AS p",
        rebuild.shadow, events::positions_text({positions.data(), positions.size()})));
}

events::Progress apply_some(Rebuild &rebuild, int slot, int slots, int64 position, int64 to) {
    events::Progress progress;
    confined(rebuild, [&] {
        pg::as_superuser([&] {
            int level = NewGUCNestLevel();
            progress = events::apply_events(events::Slot{shadow(rebuild), slot, slots, position}, to, {100000, 1000});
            AtEOXact_GUC(false, level); // what the handler has SET
        });
    });
    CommandCounterIncrement();
    refuse_failed(rebuild, "true",
                  "It was applied when the function, or the tables, were others. Correct the function.");
    return progress;
}

void replay_slots(Rebuild &rebuild, const Standing &standing) {
    auto slots = static_cast<int>(standing.checkpoints.size());
    int64 next_analyze = 1, batches = 0;
    for (int slot = 0; slot < slots; slot++) {
        int64 to = standing.checkpoints[slot];
        for (int64 position = 0; position < to;) {
            position = apply_some(rebuild, slot, slots, position, to).position;
            CHECK_FOR_INTERRUPTS();
            if (++batches != next_analyze) continue;
            analyze(rebuild);
            next_analyze *= 2;
        }
    }
}

void replay_under(Rebuild &rebuild, const Standing &standing, Snapshot snapshot) {
    Snapshot before = std::exchange(events::events_as_of, snapshot);
    PG_TRY();
    { replay_slots(rebuild, standing); }
    PG_FINALLY();
    { events::events_as_of = before; }
    PG_END_TRY();
}

// --------------------------------------------------------------------------------------------------------- comparison

struct ComparedTable {
    TablePair pair;
    Layout layout;                   // of the columns that are compared
    pg::vector<const char *> names;  // theirs, quoted
    pg::vector<bool> assigned;       // whether an UPDATE may
    pg::vector<const char *> stored; // of the columns that an INSERT takes from the shadow
};

bool is_member(const pg::vector<AttrNumber> &columns, AttrNumber column) {
    return std::find(columns.begin(), columns.end(), column) != columns.end();
}

ComparedTable compared_table(TablePair pair, const pg::vector<Drawn> &watched) {
    ComparedTable made{pair, {nullptr, {}, false, false}, {}, {}, {}};
    pg::vector<AttrNumber> drawn, numbered, kept;
    for (const Drawn &each : watched) {
        if (each.twin != pair.shadow || !was_used(each)) continue;
        drawn.push_back(each.column);
        if (each.numbers) numbered.push_back(each.column);
    }
    Oid constraint;
    Bitmapset *key = get_primary_key_attnos(pair.table, true, &constraint);
    Relation table = table_open(pair.table, NoLock);
    TupleDesc desc = RelationGetDescr(table);
    made.layout.counted = key == nullptr;
    pg::TextList left_out;
    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(desc, i);
        if (column->attisdropped) continue;
        const char *name = pstrdup(quote_identifier(NameStr(column->attname)));
        bool is_key = bms_is_member(column->attnum - FirstLowInvalidHeapAttributeNumber, key);
        if (!column->attgenerated && !is_member(numbered, column->attnum)) made.stored.push_back(name);
        if (is_member(drawn, column->attnum)) {
            left_out.add("%s", name);
            made.layout.counted |= is_key;
            continue;
        }
        if (is_key) made.layout.keys.push_back(static_cast<int>(kept.size()));
        kept.push_back(column->attnum);
        made.names.push_back(name);
        made.assigned.push_back(!is_key && !column->attgenerated && column->attidentity != ATTRIBUTE_IDENTITY_ALWAYS);
    }
    made.layout.desc = CreateTemplateTupleDesc(static_cast<int>(kept.size()));
    for (std::size_t i = 0; i < kept.size(); i++)
        TupleDescCopyEntry(made.layout.desc, static_cast<AttrNumber>(i + 1), desc, kept[i]);
    table_close(table, NoLock);
    if (made.layout.counted) {
        made.layout.keys.clear();
        for (std::size_t i = 0; i < kept.size(); i++) made.layout.keys.push_back(static_cast<int>(i));
    }
    if (!left_out.empty())
        ereport(NOTICE, (errmsg("not compared in table %s: %s", pg::qualified_name(pair.table), left_out.text()),
                         errdetail("The handler leaves it to a default that is another one in a replay.")));
    return made;
}

struct Telling {
    const ComparedTable *table;
    bool only;
    void (*report)(const TableDifference &, void *);
    void *context;
};

void tell(const Difference &difference, void *context) {
    auto &to = *static_cast<Telling *>(context);
    if (to.report) to.report({to.table->pair.table, to.only, to.table->layout, difference}, to.context);
}

void name_projection(void *argument) { errcontext("verification of projection %s", static_cast<char *>(argument)); }

Compared compare_table(Rebuild &rebuild, const ComparedTable &table, Scope scope, Snapshot found_under, Telling &to) {
    Compared compared;
    Snapshot now = RegisterSnapshot(GetLatestSnapshot());
    auto side_of = [&](Oid relation, Snapshot snapshot) {
        const char *text =
            psprintf("SELECT %s FROM ONLY %s", pg::joined(table.names, ""), pg::qualified_name(relation));
        return [text, snapshot](verify::ReceiveRow receive, void *context) {
            SPIPlanPtr plan = pg::spi_prepare(text);
            maintain::read_rows(plan, snapshot, receive, context);
            SPI_freeplan(plan);
        };
    };
    auto expected = side_of(table.pair.shadow, now), found = side_of(table.pair.table, found_under);
    to.table = &table;
    Projection &projection = live(rebuild);
    pg::as_owner(projection.owner(), [&] {
        catalog::with_pinned(projection.settings, [&] {
            pg::with_spi([&] {
                compared = verify::compare(table.layout, scope, verify::side(expected), verify::side(found), tell, &to);
            });
        });
    });
    UnregisterSnapshot(now);
    return compared;
}

// ----------------------------------------------------------------------------------------------------------- all of it

void require_writable(const char *name) {
    if (!XactReadOnly) return;
    bool standby = RecoveryInProgress();
    ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
                    errmsg("handler %s cannot be verified in a read-only transaction", name),
                    errdetail("Its events are applied again to tables that are removed afterwards."),
                    errhint("%s", standby ? "Do it on the primary."
                                          : "SET TRANSACTION READ WRITE; or do it in another one.")));
}

// Makes a shadow, and brings it where the live tables are under `snapshot`. Returns the tables, to be compared.
pg::vector<ComparedTable> replay_all(Rebuild &rebuild, Snapshot snapshot) {
    refuse_archived(rebuild);
    Standing standing = standing_of(rebuild, snapshot);
    Projection &projection = live(rebuild);
    pg::as_superuser([&] {
        // In a name that no other session makes: one would wait for the other's end.
        pg::with_spi([&] { rebuild.shadow = make_shadow(projection, psprintf("%d", MyProcPid)); });
    });
    pass_positions(rebuild, standing.passed);
    pg::vector<Drawn> watched;
    for (const TablePair &each : table_pairs(rebuild))
        for (const Drawn &drawn : watch_defaults(each.shadow)) watched.push_back(drawn);
    replay_under(rebuild, standing, snapshot);
    pg::vector<ComparedTable> tables;
    for (const TablePair &each : table_pairs(rebuild)) tables.push_back(compared_table(each, watched));
    return tables;
}

Rebuild replay_of(Projection &projection) {
    projection.require_rights();
    return {.memory = CurrentMemoryContext,
            .target = projection.relation,
            .name = pstrdup(projection.name()),
            .by = "",
            .action = "verification"};
}

// Until the end of the transaction, so that they are what they are under the snapshot.
void lock_tables(Projection &projection, LOCKMODE mode) {
    LockRelationOid(projection.definition, AccessShareLock);
    for (Oid source : projection.sources) LockRelationOid(source, AccessShareLock);
    pg::vector<Oid> tables = tables_of(projection.relation);
    std::sort(tables.begin(), tables.end());
    for (Oid table : tables) LockRelationOid(table, mode);
}

} // namespace

Compared compare_handler(Projection &projection, Scope scope, void (*report)(const TableDifference &, void *),
                         void *context) {
    require_writable(projection.name());
    Rebuild rebuild = replay_of(projection);
    Compared total;
    if (tables_of(rebuild.target).empty()) return total;
    ErrorContextCallback where{error_context_stack, name_projection, const_cast<char *>(rebuild.name)};
    error_context_stack = &where;
    lock_tables(projection, AccessShareLock);
    maintain::flush_logs();
    CommandCounterIncrement();
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    auto compare = [&] {
        pg::vector<ComparedTable> tables = replay_all(rebuild, snapshot);
        Telling to{nullptr, tables.size() == 1, report, context};
        for (const ComparedTable &each : tables) {
            Compared compared = compare_table(rebuild, each, scope, snapshot, to);
            total.differences += compared.differences;
            total.expected += compared.expected;
            total.found += compared.found;
            scope.limit -= compared.differences;
            if ((total.more = compared.more)) break;
        }
    };
    pg::undoing([&] { pg::with_setting("search_path", "pg_catalog, pg_temp", compare); });
    UnregisterSnapshot(snapshot);
    error_context_stack = where.previous;
    return total;
}

// ------------------------------------------------------------------------------------------------------------- repair

namespace {

// Rows as text: what has no operators to be told apart by has that.
const char *image(const ComparedTable &table, const char *alias) {
    return psprintf("ROW(%s)::pg_catalog.text COLLATE \"C\"", pg::joined(table.names, psprintf("%s.", alias)));
}

// The places of the rows that `of` has oftener than `against`.
const char *surplus(const ComparedTable &table, Oid of, Oid against) {
    const char *text = image(table, "x");
    return psprintf(
        "SELECT d.place FROM (SELECT x.ctid AS place, %s AS image, row_number() OVER (PARTITION BY %s) AS n "
        "FROM ONLY %s AS x) AS d LEFT JOIN (SELECT %s AS image, count(*) AS copies FROM ONLY %s AS x GROUP "
        "BY 1) AS e ON e.image = d.image WHERE d.n > coalesce(e.copies, 0)",
        text, text, pg::qualified_name(of), text, pg::qualified_name(against));
}

const char *as_record(const ComparedTable &table, const char *alias) {
    return psprintf("ROW(%s)::record", pg::joined(table.names, psprintf("%s.", alias)));
}

// Of a row that stays, or is updated.
const char *same_row(const ComparedTable &table) {
    const char *key = key_condition(table.pair.table);
    if (!changes_by_insert(table.pair.table)) return key;
    return psprintf("%s AND %s OPERATOR(pg_catalog.*=) %s", key, as_record(table, "t"), as_record(table, "s"));
}

void add_deletes(MergeStatement &merge, const ComparedTable &table) {
    const char *name = pg::qualified_name(table.pair.table);
    merge.add(psprintf("DELETE FROM ONLY %s AS t", name),
              table.layout.counted
                  ? psprintf("t.ctid = ANY (ARRAY(%s))", surplus(table, table.pair.table, table.pair.shadow))
                  : psprintf("NOT EXISTS (SELECT FROM ONLY %s AS s WHERE %s)", pg::qualified_name(table.pair.shadow),
                             same_row(table)));
}

void add_updates(MergeStatement &merge, const ComparedTable &table) {
    if (table.layout.counted || changes_by_insert(table.pair.table)) return;
    pg::TextList set;
    for (std::size_t i = 0; i < table.names.size(); i++)
        if (table.assigned[i]) set.add("%s = s.%s", table.names[i], table.names[i]);
    if (!set.empty() == 0) return;
    merge.add(psprintf("UPDATE ONLY %s AS t SET %s FROM ONLY %s AS s", pg::qualified_name(table.pair.table), set.text(),
                       pg::qualified_name(table.pair.shadow)),
              psprintf("%s AND %s OPERATOR(pg_catalog.*<>) %s", key_condition(table.pair.table), as_record(table, "t"),
                       as_record(table, "s")));
}

void add_inserts(MergeStatement &merge, const ComparedTable &table) {
    const char *name = pg::qualified_name(table.pair.table), *shadow = pg::qualified_name(table.pair.shadow);
    const char *insert = table.stored.empty()
                             ? psprintf("INSERT INTO %s SELECT FROM ONLY %s AS s", name, shadow)
                             : psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM ONLY %s AS s", name,
                                        pg::joined(table.stored, ""), pg::joined(table.stored, "s."), shadow);
    merge.add(insert, table.layout.counted
                          ? psprintf("s.ctid = ANY (ARRAY(%s))", surplus(table, table.pair.shadow, table.pair.table))
                          : psprintf("NOT EXISTS (SELECT FROM ONLY %s AS t WHERE %s)", name, same_row(table)));
}

int64 merge_differences(Rebuild &rebuild, const pg::vector<ComparedTable> &tables) {
    MergeStatement merge;
    pg::vector<TablePair> pairs;
    for (const ComparedTable &each : tables) pairs.push_back(each.pair);
    for (const ComparedTable &each : tables) add_deletes(merge, each);
    for (const ComparedTable &each : tables) add_updates(merge, each);
    for (const ComparedTable &each : tables) add_inserts(merge, each);
    return run_merge(rebuild, pairs, merge.end());
}

// The tables that differ from their shadows.
pg::vector<ComparedTable> differing(Rebuild &rebuild, const pg::vector<ComparedTable> &tables) {
    pg::vector<ComparedTable> found;
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    Telling nobody{nullptr, false, nullptr, nullptr};
    for (const ComparedTable &each : tables)
        if (compare_table(rebuild, each, {1, 0}, snapshot, nobody).more) found.push_back(each);
    UnregisterSnapshot(snapshot);
    return found;
}

// Foreign keys' actions, or users' triggers, may have changed more than was written.
void require_repaired(Rebuild &rebuild, const pg::vector<ComparedTable> &tables) {
    pg::vector<ComparedTable> left = differing(rebuild, tables);
    if (left.empty()) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("table %s of handler %s cannot be repaired row by row",
                           pg::qualified_name(left.front().pair.table), rebuild.name),
                    errdetail("What a foreign key or a trigger did to it makes it differ again."),
                    errhint("CALL projections.rebuild(%s);", quote_literal_cstr(rebuild.name))));
}

} // namespace

int64 repair_handler(Projection &projection) {
    Rebuild rebuild = replay_of(projection);
    if (tables_of(rebuild.target).empty()) return 0;
    lock_tables(projection, ShareRowExclusiveLock);
    maintain::flush_logs();
    CommandCounterIncrement();
    int64 written = 0;
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    pg::with_setting("search_path", "pg_catalog, pg_temp", [&] {
        pg::vector<ComparedTable> all = replay_all(rebuild, snapshot);
        pg::vector<ComparedTable> wrong = differing(rebuild, all);
        if (!wrong.empty()) {
            written = merge_differences(rebuild, wrong);
            CommandCounterIncrement();
            require_repaired(rebuild, all);
        }
        pg::as_superuser([&] { pg::with_spi([&] { drop_shadow(rebuild.shadow); }); });
    });
    UnregisterSnapshot(snapshot);
    CommandCounterIncrement();
    return written;
}

} // namespace rebuild
