// Which columns are NOT NULL for the key's sake is told from the table: those of a primary key that is the
// projection's, or of its key where options.key_not_null says so.
#include "rebuild/promise.hpp"

#include "declare/describe.hpp"
#include "maintain/reliance.hpp"
#include "pg/index.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"
#include "rebuild/layout.hpp"
#include "rebuild/session.hpp"
#include "rebuild/swap.hpp"
#include "rights/caller.hpp"

namespace rebuild {

using catalog::Projection;
using compile::Block;

namespace {

bool contains(std::span<const AttrNumber> columns, AttrNumber column) {
    return std::find(columns.begin(), columns.end(), column) != columns.end();
}

pg::vector<AttrNumber> key_of(const Block &block) {
    pg::vector<AttrNumber> columns;
    for (const compile::Key &key : block.row_key) columns.push_back(static_cast<AttrNumber>(key.column + 1));
    return columns;
}

// Of a primary key.
bool is_in(Oid index, AttrNumber column) {
    Relation opened = index_open(index, AccessShareLock);
    bool found = false;
    for (int i = 0; i < opened->rd_index->indnkeyatts; i++) found |= opened->rd_index->indkey.values[i] == column;
    index_close(opened, NoLock);
    return found;
}

// Columns of the key that are NOT NULL for its sake, if they are: not for that of a user's primary key.
pg::vector<AttrNumber> promisable(Projection &projection) {
    Oid primary = pg::primary_key_of(projection.relation);
    bool taken = OidIsValid(primary) && primary != own_primary_key(projection);
    pg::vector<AttrNumber> columns;
    for (AttrNumber column : key_of(projection.block()))
        if (!taken || !is_in(primary, column)) columns.push_back(column);
    return columns;
}

} // namespace

Oid own_primary_key(Projection &projection) {
    Oid primary = pg::primary_key_of(projection.relation);
    pg::vector<Oid> own = identity_indexes(projection);
    return std::find(own.begin(), own.end(), primary) != own.end() ? primary : InvalidOid;
}

Promised promised(Projection &projection) {
    Oid primary = pg::primary_key_of(projection.relation), own = own_primary_key(projection);
    Promised now{{}, OidIsValid(primary) && !OidIsValid(own), projection.key_not_null};
    if (OidIsValid(own) || projection.key_not_null) now.columns = promisable(projection);
    return now;
}

declare::KeyPromise next_promise(Projection &projection, const Block &block) {
    Promised now = promised(projection);
    return declare::promise_of(block, now.asked_for, now.taken);
}

void change_promise(const Promised &before, Oid table, int kept, const Block &next) {
    declare::KeyPromise promise = declare::promise_of(next, before.asked_for, before.taken);
    pg::vector<AttrNumber> wanted, dropped;
    if (promise.primary || promise.not_null) wanted = key_of(next);
    for (AttrNumber column : before.columns)
        if (column <= kept && !contains({wanted.data(), wanted.size()}, column)) dropped.push_back(column);
    set_not_null(table, {dropped.data(), dropped.size()}, false);
    set_not_null(table, {wanted.data(), wanted.size()}, true);
}

void drop_identity(std::span<const Oid> indexes) {
    for (Oid index : indexes) {
        if (get_rel_name(index) == nullptr) continue; // another command has dropped it
        Oid constraint = get_index_constraint(index);
        ObjectAddress object{RelationRelationId, index, 0};
        if (OidIsValid(constraint)) object = {ConstraintRelationId, constraint, 0};
        performDeletion(&object, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
    }
    CommandCounterIncrement();
}

void drop_identity(Projection &projection) {
    pg::vector<Oid> indexes = identity_indexes(projection);
    drop_identity({indexes.data(), indexes.size()});
}

namespace {

// What reads a projection knows its rows by its key, and was compiled for what that was.
void refuse_readers(const Projection &projection) {
    const char *reader = ask_text(psprintf("SELECT projections_internal._name(r.relation) FROM "
                                           "projections_internal.projection AS r WHERE %u::pg_catalog.oid = ANY "
                                           "(r.sources::pg_catalog.oid[]) ORDER BY r.relation LIMIT 1",
                                           projection.relation));
    if (reader == nullptr) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("option \"key_not_null\" of projection %s cannot be changed", projection.name()),
                    errdetail("Projection %s reads it, and knows its rows by its key.", reader),
                    errhint("Drop that first, and create it again afterwards.")));
}

// As the owner.
void refuse_null_keys(const Projection &projection, const Block &block) {
    StringInfoData any;
    initStringInfo(&any);
    for (char *name : pg::each<char>(declare::key_names(block)))
        appendStringInfo(&any, "%s%s IS NULL", any.len > 0 ? " OR " : "", quote_identifier(name));
    pg::spi_execute(psprintf("SELECT FROM ONLY %s WHERE %s LIMIT 1", projection.name(), any.data));
    if (SPI_processed == 0) return;
    ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
                    errmsg("the key of projection %s is NULL in some of its rows", projection.name()),
                    errdetail("With option key_not_null there can be no such row."),
                    errhint("They are found by: SELECT * FROM %s WHERE %s; change the rows of the sources that they "
                            "come from.",
                            projection.name(), any.data),
                    errtable(table_open(projection.relation, NoLock))));
}

// What the table says of its key now.
declare::KeyPromise said(Projection &projection) {
    bool primary = OidIsValid(own_primary_key(projection));
    pg::vector<AttrNumber> key = key_of(projection.block());
    bool not_null = std::all_of(key.begin(), key.end(),
                                [&](AttrNumber column) { return pg::is_not_null(projection.relation, column); });
    return {primary, not_null && !primary};
}

// As the owner.
void change_key(Projection &projection, declare::KeyPromise promise) {
    const Block &block = projection.block();
    Promised before = promised(projection);
    before.columns = promisable(projection); // the option that is taken back has promised all of them
    if (projection.key_not_null) refuse_null_keys(projection, block);
    bool another = promise.primary != OidIsValid(own_primary_key(projection));
    if (another) drop_identity(projection);
    change_promise(before, projection.relation, block.columns(), block);
    if (another) pg::spi_execute(declare::identity_index("", projection.name(), block, promise));
}

} // namespace

void follow_key_option(Projection &projection) {
    declare::check_key_not_null(projection.block(), projection.key_not_null);
    LockRelationOid(projection.relation, AccessExclusiveLock);
    declare::KeyPromise promise = next_promise(projection, projection.block()), now = said(projection);
    if (promise.primary != now.primary || promise.not_null != now.not_null) {
        refuse_readers(projection);
        // Its DDL is looked at when all of it is done.
        pg::as_superuser([&] {
            pg::with_spi([&] {
                pg::spi_execute(psprintf("SELECT projections_internal._forget_relied(%u)", projection.relation));
            });
        });
        pg::as_owner(projection.owner(), [&] { pg::with_spi([&] { change_key(projection, promise); }); });
        CommandCounterIncrement();
    }
    maintain::record_reliance(projection.relation);
}

} // namespace rebuild

extern "C" {

PG_FUNCTION_INFO_V1(projections_follow_key_option);
Datum projections_follow_key_option(PG_FUNCTION_ARGS) {
    rebuild::follow_key_option(rights::projection_of(PG_GETARG_OID(0)));
    PG_RETURN_VOID();
}

} // extern "C"
