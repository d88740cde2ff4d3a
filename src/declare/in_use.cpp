// Columns and tables that definitions read.
//
// The hidden views depend on them, so core refuses what would break a definition. Its message names the view, which
// nobody knows, and advises to drop it. Here the same is refused before core comes to it, by the projections' names and
// with the call that does it (alter_source). Where event triggers are off, core's message is what there is.
#include "declare/in_use.hpp"

#include "pg/compat.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace declare {

constinit TakeOff take_off = nullptr;

namespace {

// The projections that users know whose definitions, or those of parts or of next generations, `condition` is true of:
// w is the view's rule, d what it depends on, q the row of the catalog.
pg::vector<Oid> readers(const char *condition) {
    pg::vector<Oid> found;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            pg::spi_execute(psprintf(
                "SELECT DISTINCT coalesce(s.part_of, s.relation, q.part_of, q.relation)::oid FROM "
                "projections_internal.projection AS q "
                "LEFT JOIN projections_internal.projection AS s ON s.relation = q.shadow_of "
                "JOIN pg_catalog.pg_rewrite AS w ON w.ev_class = q.definition "
                "JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid "
                "WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND %s ORDER BY 1",
                condition));
            for (uint64 i = 0; i < SPI_processed; i++) found.push_back(pg::Row(i).oid(1));
        });
    });
    return found;
}

pg::vector<Oid> readers_of(Oid relation, AttrNumber column) {
    return readers(psprintf("d.refobjid = %u AND d.refobjsubid = %d", relation, column));
}

// Those that tell rows apart, or find one, by what the constraint says.
pg::vector<Oid> relying_on(Oid relation, const char *constraint) {
    Oid oid = get_relation_constraint_oid(relation, constraint, true);
    Oid index = OidIsValid(oid) ? get_constraint_index(oid) : InvalidOid;
    if (!OidIsValid(index)) return {};
    return readers(
        psprintf("EXISTS (SELECT FROM projections_internal.reliance AS r WHERE r.projection = q.relation AND "
                 "(r.aspect = 'primary key' AND r.object = %u OR r.aspect = 'unique key' AND r.object = %u))",
                 relation, index));
}

// Those whose primary key rests on the column.
pg::vector<Oid> resting_on(Oid relation, const char *column) {
    return readers(psprintf("EXISTS (SELECT FROM projections_internal.reliance AS r WHERE r.projection = q.relation AND "
                            "r.aspect = 'not null' AND r.object = %u AND r.part = '%d')",
                            relation, get_attnum(relation, column)));
}

// Those that stay although alter_source() runs.
void let_take_off(pg::vector<Oid> &found) {
    auto is_off = [](Oid each) {
        catalog::Projection *projection = catalog::projection(each);
        return projection == nullptr || (take_off && take_off(*projection));
    };
    found.erase(std::remove_if(found.begin(), found.end(), is_off), found.end());
}

bool all_are_queries(const pg::vector<Oid> &found) {
    return std::all_of(found.begin(), found.end(),
                       [](Oid each) { return catalog::projection(each)->kind == catalog::Kind::query; });
}

// "Projections a, b read it."
const char *told(const pg::vector<Oid> &found) {
    constexpr int most = 20;
    int count = static_cast<int>(found.size());
    const char *names = pg::joined(std::min(count, most), ", ", [&](int i) { return pg::qualified_name(found[i]); });
    return psprintf("Projection%s %s%s read%s it.", count == 1 ? "" : "s", names, count > most ? " and others" : "",
                    count == 1 ? "s" : "");
}

const char *call(Oid relation, const char *command, bool redefined) {
    const char *name = quote_literal_cstr(pg::qualified_name(relation));
    return psprintf("SELECT projections.alter_source(%s, 'ALTER TABLE … %s …'%s);", name, command,
                    redefined ? ", definitions => '{\"projection\": \"SELECT …\"}'" : "");
}

void refuse_column(Oid relation, const char *column, bool drop, const pg::vector<Oid> &found) {
    const char *what = drop ? "drop column %s of %s" : "alter the type of column %s of %s";
    const char *hint =
        !all_are_queries(found) ? "What reads events knows them by this column. Drop the projections first."
        : drop ? psprintf("%s gives them definitions without it. DROP COLUMN … CASCADE drops the projections, too.",
                          call(relation, "DROP COLUMN", true))
               : psprintf("%s takes the projections off, runs the command, and puts them back.",
                          call(relation, "ALTER COLUMN", false));
    ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                    errmsg("cannot %s because projections read it",
                           psprintf(what, quote_identifier(column), pg::qualified_name(relation))),
                    errdetail("%s", told(found)), errhint("%s", hint)));
}

void column_goes(Oid root, const char *column, bool drop) {
    ListCell *cell;
    foreach (cell, find_all_inheritors(root, NoLock, nullptr)) {
        Oid relation = lfirst_oid(cell);
        AttrNumber number = get_attnum(relation, column);
        if (number <= 0) continue; // core says so
        pg::vector<Oid> found = readers_of(relation, number);
        let_take_off(found);
        if (!found.empty()) refuse_column(relation, column, drop, found);
    }
}

// Of what follows the command the event triggers know, and refuse it or follow; here the projection may be taken off.
void may_take_off(pg::vector<Oid> found) {
    if (take_off) let_take_off(found);
}

void command_comes(Oid relation, const AlterTableCmd *command) {
    switch (command->subtype) {
    case AT_DropColumn:
        if (command->behavior != DROP_CASCADE) column_goes(relation, command->name, true);
        return;
    case AT_AlterColumnType: return column_goes(relation, command->name, false);
    case AT_DropConstraint: return may_take_off(relying_on(relation, command->name));
    case AT_DropNotNull: return may_take_off(resting_on(relation, command->name));
    default:
        if (pg::sets_expression(command)) may_take_off(readers_of(relation, get_attnum(relation, command->name)));
    }
}

bool is_callers(Oid relation) { return OidIsValid(relation) && pg::owns_relation(relation, GetUserId()); }

// Whether it goes with the same command.
bool is_dropped(const DropStmt *statement, Oid relation) {
    for (Node *object : pg::each<Node>(statement->objects))
        if (RangeVarGetRelid(makeRangeVarFromNameList(castNode(List, object)), NoLock, true) == relation) return true;
    return false;
}

void table_goes(const DropStmt *statement, Oid relation) {
    pg::vector<Oid> found = readers(psprintf("d.refobjid = %u AND q.relation <> %u", relation, relation));
    found.erase(std::remove_if(found.begin(), found.end(), [&](Oid each) { return is_dropped(statement, each); }),
                found.end());
    let_take_off(found);
    if (found.empty()) return;
    const char *another = psprintf(" To put another table in its place: SELECT projections.alter_source(%s, '…');",
                                   quote_literal_cstr(pg::qualified_name(relation)));
    ereport(
        ERROR,
        (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
         errmsg("cannot drop table %s because projections read it", pg::qualified_name(relation)),
         errdetail("%s", told(found)),
         errhint("DROP TABLE … CASCADE drops the projections, too; projections.drop(name, keep_table => true) leaves "
                 "their rows.%s",
                 all_are_queries(found) ? another : "")));
}

} // namespace

void refuse_used(const AlterTableStmt *statement) {
    if (!catalog::sql_is_current()) return;
    Oid relation = RangeVarGetRelid(statement->relation, NoLock, true);
    if (!is_callers(relation)) return;
    for (AlterTableCmd *command : pg::each<AlterTableCmd>(statement->cmds)) command_comes(relation, command);
}

void refuse_used(const DropStmt *statement) {
    if (!catalog::sql_is_current() || statement->behavior == DROP_CASCADE) return;
    for (Node *object : pg::each<Node>(statement->objects)) {
        Oid relation = RangeVarGetRelid(makeRangeVarFromNameList(castNode(List, object)), NoLock, true);
        if (is_callers(relation) && !pg::is_own_schema(get_rel_namespace(relation))) table_goes(statement, relation);
    }
}

} // namespace declare
