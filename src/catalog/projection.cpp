// The cache: read whole, when it is first asked for after an invalidation, under the catalog's own snapshot. Also of
// the tables of older versions, which lack columns.
#include "catalog/projection.hpp"

#include "catalog/hidden.hpp"
#include "catalog/lineage.hpp"
#include "catalog/settings.hpp"
#include "catalog/stored.hpp"
#include "compile/refuse.hpp"
#include "pg/scope.hpp"

namespace catalog {
namespace {

// Columns of projections_internal.projection. What an older version's table lacks reads as null.
struct Columns {
    int relation, definition, kind, mode, user_columns, shape, sources, changes, settings, paused_at, shadow_of,
        part_of, building, options;
};
constexpr struct {
    const char *name;
    int Columns::*number;
    const char *since; // the version that added it; null: always there
} known_columns[] = {{"relation", &Columns::relation, nullptr},
                     {"definition", &Columns::definition, nullptr},
                     {"kind", &Columns::kind, nullptr},
                     {"mode", &Columns::mode, nullptr},
                     {"user_columns", &Columns::user_columns, nullptr},
                     {"shape", &Columns::shape, nullptr},
                     {"sources", &Columns::sources, nullptr},
                     {"changes", &Columns::changes, nullptr},
                     {"settings", &Columns::settings, nullptr},
                     {"paused_at", &Columns::paused_at, nullptr},
                     {"shadow_of", &Columns::shadow_of, nullptr},
                     {"part_of", &Columns::part_of, "0.3.0"},
                     {"building", &Columns::building, nullptr},
                     {"options", &Columns::options, nullptr}};

// Versions of the SQL objects whose catalog this library reads and keeps rightly, besides its own.
constexpr const char *older_versions[] = {"0.2.0"};

struct Cache {
    MemoryContext memory;
    pg::vector<Projection *> ordered;
    pg::flat_map<Oid, Projection *> by_relation;
    pg::flat_map<Oid, pg::vector<Projection *> *> by_source;
    pg::vector<Oid> event_sources; // ascending
    bool sql_is_current = false;   // not those of an older version
    bool has_one_schema = false;   // those of an older version, which had no internal schema
    const char *unknown = nullptr; // the version of SQL objects that the library does not know: nothing is read
};

// An invalidation may arrive at any lock: it only marks the cache, which is read again when it is next asked.
constinit Cache *cache = nullptr;
constinit Oid catalog_oid = InvalidOid;
constinit bool stale = true;
constinit bool held_off = false; // this transaction holds off updates of the extension
constinit uint64 current_generation = 1;
constinit uint64 current_rights = 1; // grows also with every change of roles, memberships, and the database's owner
constinit uint64 ended_transactions = 1;
constinit List *replaced = NIL; // Projections no longer in the catalog, which pending deltas may still name

void outdate() {
    current_generation++;
    current_rights++;
}

void roles_changed(Datum, int, uint32) { current_rights++; }

void relation_changed(Datum, Oid changed) {
    if (!OidIsValid(changed) || changed == catalog_oid) stale = true;
    if (!OidIsValid(changed) || cache == nullptr || cache->by_relation.contains(changed) ||
        cache->by_source.contains(changed) || lineage_changed(changed))
        outdate();
}

// A replaced function may have been inlined; a renamed schema is in every text.
void function_or_schema_changed(Datum, int, uint32) { outdate(); }

pg::vector<Oid> oids(Datum array) {
    pg::vector<Oid> result;
    Datum *elements;
    int count;
    deconstruct_array(DatumGetArrayTypeP(array), REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT, &elements, nullptr,
                      &count);
    for (int i = 0; i < count; i++) result.push_back(DatumGetObjectId(elements[i]));
    return result;
}

// In the order of pinned_settings, to which each version adds at the end.
const char **pinned_values(Datum array) {
    Datum *elements;
    int count;
    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, nullptr, &count);
    if (count > pinned_setting_count)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("projections_internal.projection.settings has %d elements instead of %d", count,
                               pinned_setting_count),
                        errhint("The library and the extension's SQL differ in version: see projections.version().")));
    auto **result = static_cast<const char **>(palloc(sizeof(char *) * pinned_setting_count));
    for (int i = 0; i < pinned_setting_count; i++)
        result[i] = i < count ? TextDatumGetCString(elements[i]) : unpinned_setting(i);
    return result;
}

// The row of a projection, by columns.
struct Row {
    HeapTuple tuple;
    TupleDesc desc;
    const Columns &columns;

    Datum get(int Columns::*column, bool *null) const {
        int number = columns.*column;
        *null = number == 0;
        return number == 0 ? 0 : heap_getattr(tuple, number, desc, null);
    }
    Datum operator[](int Columns::*column) const {
        bool null;
        return get(column, &null);
    }
    bool has(int Columns::*column) const {
        bool null;
        get(column, &null);
        return !null;
    }
};

// What may change in the life of a projection.
void read_state(Projection &projection, const Row &row) {
    projection.async = strcmp(TextDatumGetCString(row[&Columns::mode]), "async") == 0;
    Datum changes = row[&Columns::changes];
    projection.changes = pg::within(projection.memory, [&] { return oids(changes); });
    projection.takes_away_detached = takes_away_detached(row[&Columns::options]);
    projection.paused = row.has(&Columns::paused_at);
    projection.shadow_of = row.has(&Columns::shadow_of) ? DatumGetObjectId(row[&Columns::shadow_of]) : InvalidOid;
    projection.key_not_null = is_key_not_null(row[&Columns::options]);
    projection.part_of = row.has(&Columns::part_of) ? DatumGetObjectId(row[&Columns::part_of]) : InvalidOid;
    bool building = row.has(&Columns::building) && DatumGetBool(row[&Columns::building]);
    projection.flow = building                      ? Flow::none
                      : !projection.changes.empty() ? Flow::log
                      : projection.async            ? Flow::events
                                                    : Flow::inline_;
}

Projection *read(const Row &row) {
    MemoryContext memory = AllocSetContextCreate(CacheMemoryContext, "projection", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    Projection *projection = pg::make<Projection>(memory);
    projection->memory = memory;
    projection->relation = DatumGetObjectId(row[&Columns::relation]);
    projection->definition = DatumGetObjectId(row[&Columns::definition]);
    projection->user_columns = DatumGetInt32(row[&Columns::user_columns]);
    projection->kind = kind_of(TextDatumGetCString(row[&Columns::kind]));
    const char *shape = row.has(&Columns::shape) ? TextDatumGetCString(row[&Columns::shape]) : "";
    projection->stored = stored_as(shape, row[&Columns::options]);
    projection->one_row = strcmp(shape, "total") == 0;
    projection->sources = oids(row[&Columns::sources]);
    projection->settings = pinned_values(row[&Columns::settings]);
    read_state(*projection, row);
    MemoryContextSwitchTo(before);
    return projection;
}

int depth_of(const Cache &c, Projection *projection) {
    if (projection->depth > 0) return projection->depth;
    int depth = 1;
    for (Oid source : projection->sources) {
        auto upstream = c.by_relation.find(source);
        if (upstream != c.by_relation.end()) depth = std::max(depth, 1 + depth_of(c, upstream->second));
    }
    return projection->depth = depth;
}

void load_event_sources(Cache &c, Oid schema) {
    Oid relation = get_relname_relid("source", schema);
    if (!OidIsValid(relation)) return;
    Relation table = table_open(relation, AccessShareLock);
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, nullptr, 0, nullptr);
    while (HeapTuple tuple = systable_getnext(scan)) {
        bool null;
        c.event_sources.push_back(DatumGetObjectId(heap_getattr(tuple, 1, RelationGetDescr(table), &null)));
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    std::sort(c.event_sources.begin(), c.event_sources.end());
}

// The version of the SQL objects.
const char *read_sql_version() {
    Relation table = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("pg_projections"));
    SysScanDesc scan = systable_beginscan(table, ExtensionNameIndexId, true, nullptr, 1, &key);
    const char *version = nullptr;
    if (HeapTuple tuple = systable_getnext(scan)) {
        bool null;
        version =
            TextDatumGetCString(heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(table), &null));
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return version;
}

[[noreturn]] void refuse_version(const char *version) {
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("the SQL objects of extension pg_projections are not those of its library"),
                    errdetail("The library is version %s, and does not know the SQL objects of version %s: what it "
                              "does not know of a projection it would leave out.",
                              PROJECTIONS_VERSION, version),
                    errhint("Install the library of version %s, and restart the server if pg_projections is in "
                            "shared_preload_libraries.",
                            version)));
}

bool is_older(const char *version) {
    return std::any_of(std::begin(older_versions), std::end(older_versions),
                       [&](const char *older) { return strcmp(version, older) == 0; });
}

// What an older version's table lacks did not exist then. What a newer version's table says cannot be known.
bool know_columns(TupleDesc desc, const char *version, Columns &columns) {
    bool own = strcmp(version, PROJECTIONS_VERSION) == 0;
    if (!own && !is_older(version)) return false;
    for (const auto &known : known_columns) {
        for (int i = 0; i < desc->natts; i++) {
            Form_pg_attribute attribute = TupleDescAttr(desc, i);
            if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), known.name) == 0)
                columns.*known.number = i + 1;
        }
        if (columns.*known.number == 0 && (own || known.since == nullptr)) return false;
    }
    return true;
}

void load_projections(Cache &fresh, Relation table, const Columns &columns) {
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, nullptr, 0, nullptr);
    while (HeapTuple tuple = systable_getnext(scan)) {
        Row row{tuple, RelationGetDescr(table), columns};
        Projection *found = read(row);
        auto known = cache ? cache->by_relation.find(found->relation) : decltype(cache->by_relation.end()){};
        if (cache && known != cache->by_relation.end() && known->second->definition == found->definition &&
            cache->has_one_schema == fresh.has_one_schema) {
            MemoryContextDelete(found->memory);
            found = known->second;
            found->depth = 0;
            read_state(*found, row);
        }
        fresh.by_relation.emplace(found->relation, found);
    }
    systable_endscan(scan);
}

// Where an update is under way, the version may be the next one's already, or be the one before.
Oid find_schema(bool one) {
    Oid schema = get_namespace_oid(one ? pg::public_schema : pg::internal_schema, true);
    return OidIsValid(schema) && OidIsValid(get_relname_relid("projection", schema)) ? schema : InvalidOid;
}

void read_catalog(Cache &fresh, const char *version) {
    fresh.has_one_schema = is_older(version);
    Oid schema = find_schema(fresh.has_one_schema);
    if (!OidIsValid(schema) && creating_extension) {
        fresh.has_one_schema = !fresh.has_one_schema;
        schema = find_schema(fresh.has_one_schema);
    }
    catalog_oid = OidIsValid(schema) ? get_relname_relid("projection", schema) : InvalidOid;
    if (!OidIsValid(catalog_oid)) return;
    Relation table = table_open(catalog_oid, AccessShareLock);
    fresh.sql_is_current = strcmp(version, PROJECTIONS_VERSION) == 0;
    Columns columns{};
    if (know_columns(RelationGetDescr(table), version, columns))
        load_projections(fresh, table, columns);
    else
        fresh.unknown = version;
    table_close(table, AccessShareLock);
    if (fresh.unknown == nullptr) load_event_sources(fresh, schema);
}

// Reads the catalog table. Projections that are still there keep their compiled block: it only depends on the
// definition.
Cache *load() {
    MemoryContext memory = AllocSetContextCreate(CacheMemoryContext, "projections", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    Cache *fresh = pg::make<Cache>(memory);
    fresh->memory = memory;
    catalog_oid = InvalidOid;

    if (const char *version = read_sql_version()) read_catalog(*fresh, version);
    for (auto &[oid, projection] : fresh->by_relation) {
        depth_of(*fresh, projection);
        fresh->ordered.push_back(projection);
    }
    std::sort(fresh->ordered.begin(), fresh->ordered.end(), [](const Projection *a, const Projection *b) {
        return a->depth != b->depth ? a->depth < b->depth : a->relation < b->relation;
    });
    for (Projection *projection : fresh->ordered)
        for (Oid source : projection->sources) {
            if (projection->flow == Flow::events || projection->flow == Flow::none) continue;
            auto &list = fresh->by_source[source];
            if (list == nullptr) list = pg::make<pg::vector<Projection *>>(memory);
            list->push_back(projection);
        }
    MemoryContextSwitchTo(before);
    return fresh;
}

// Holds ALTER EXTENSION … UPDATE off until the transaction ends: it moves what our texts name, and one that waited for
// it would name what is not there any more. The lock is the transaction's, as a subtransaction's abort would give it
// back. (Test: test/t/021_update.pl)
void hold_off_updates() {
    if (held_off || !OidIsValid(catalog_oid) || !IsTransactionState()) return;
    ResourceOwner owner = CurrentResourceOwner;
    CurrentResourceOwner = TopTransactionResourceOwner;
    LockRelationOid(catalog_oid, AccessShareLock);
    CurrentResourceOwner = owner;
    held_off = true;
}

void refresh();

Cache &cached() {
    if (cache == nullptr) refresh();
    hold_off_updates(); // and hears of one that has been
    refresh();
    hold_off_updates();
    return *cache;
}

void refresh() {
    // Reading may itself receive an invalidation, which must not be lost: the flag goes down first.
    while (stale || cache == nullptr) {
        stale = false;
        Cache *fresh;
        // A failed read leaves the cache stale.
        PG_TRY();
        { fresh = load(); }
        PG_CATCH();
        {
            stale = true;
            PG_RE_THROW();
        }
        PG_END_TRY();
        if (cache) {
            pg::within(CacheMemoryContext, [&] {
                for (auto &[oid, projection] : cache->by_relation) {
                    auto kept = fresh->by_relation.find(oid);
                    if (kept == fresh->by_relation.end() || kept->second != projection)
                        replaced = lappend(replaced, projection);
                }
            });
            MemoryContextDelete(cache->memory);
        }
        cache = fresh;
        outdate();
    }
}

// An ERROR where the library does not know what the catalog says: to miss a change in silence would be damage.
Cache &current() {
    Cache &c = cached();
    if (c.unknown) refuse_version(c.unknown);
    return c;
}

} // namespace

// Whoever asks does so to run as him: he must find what is hidden as he needs it.
Oid Projection::owner() {
    if (owner_known_at == current_generation) return known_owner; // a change of owner invalidates the relation
    known_owner = pg::owner_of(relation);
    owner_known_at = current_generation;
    bool secured = is_secured(definition, known_owner, ACL_SELECT);
    for (Oid log : changes) secured = secured && is_secured(log, known_owner, ACL_SELECT);
    if (!secured) secure_hidden(*this);
    return known_owner;
}

bool Projection::may_read() {
    if (readable_known_at == current_rights) return known_readable;
    uint64 now = current_rights; // looking may itself receive an invalidation
    known_readable = missing_rights().empty();
    readable_known_at = now;
    return known_readable;
}

const char *Projection::name() const { return pg::qualified_name(relation); }

Projection *projection(Oid relation) {
    Cache &c = current();
    auto found = c.by_relation.find(relation);
    return found == c.by_relation.end() ? nullptr : found->second;
}

std::span<Projection *const> over(Oid source) {
    Cache &c = current();
    auto found = c.by_source.find(source);
    if (found == c.by_source.end()) return {};
    return {found->second->data(), found->second->size()};
}

bool is_event_source(Oid relation) {
    Cache &c = current();
    return std::binary_search(c.event_sources.begin(), c.event_sources.end(), relation);
}

std::span<Projection *const> all() {
    Cache &c = current();
    return {c.ordered.data(), c.ordered.size()};
}

std::span<Projection *const> known() {
    if (cache == nullptr) return {};
    return {cache->ordered.data(), cache->ordered.size()};
}

uint64 transaction_number() { return ended_transactions; }

bool is_readable() { return cached().unknown == nullptr; }

bool sql_is_current() { return current().sql_is_current; }

void require_current_sql() {
    if (sql_is_current()) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("this needs the SQL objects of extension pg_projections in version %s", PROJECTIONS_VERSION),
                    errdetail("The database has those of an older version. Projections are kept up to date "
                              "meanwhile."),
                    errhint("ALTER EXTENSION pg_projections UPDATE;")));
}

Oid catalog_relation() {
    cached();
    return catalog_oid;
}

void announce_change() {
    stale = true;
    for (bool one : {false, true})
        if (Oid schema = find_schema(one); OidIsValid(schema))
            CacheInvalidateRelcacheByRelid(get_relname_relid("projection", schema));
}

uint64 generation() { return current_generation; }

void end_transaction(void (*discard)(Projection &)) {
    held_off = false;
    end_lineage_transaction();
    ended_transactions++;
    for (Projection *projection : pg::each<Projection>(replaced)) {
        discard(*projection);
        MemoryContextDelete(projection->memory);
    }
    list_free(replaced);
    replaced = NIL;
}

void register_callbacks() {
    pg::has_one_schema = [] { return cached().has_one_schema; };
    compile::block_of_part = [](Oid relation) -> const compile::Block * {
        if (!pg::is_own_schema(get_rel_namespace(relation))) return nullptr;
        Projection *part = projection(relation);
        return part && part->kind == Kind::query ? &part->block() : nullptr;
    };
    compile::how_kept = [](Oid relation) {
        Projection *found = projection(relation);
        if (found == nullptr || found->kind != Kind::query || found->stored != compile::Stored::by_key)
            return compile::Kept::not_by_key;
        return found->one_row ? compile::Kept::as_one_row : compile::Kept::by_key;
    };
    CacheRegisterRelcacheCallback(relation_changed, 0);
    CacheRegisterSyscacheCallback(PROCOID, function_or_schema_changed, 0);
    CacheRegisterSyscacheCallback(NAMESPACEOID, function_or_schema_changed, 0);
    for (int cache_id : {AUTHOID, AUTHMEMMEMROLE, AUTHMEMROLEMEM, DATABASEOID})
        CacheRegisterSyscacheCallback(cache_id, roles_changed, 0);
}

const char *checkpoints_of(Oid definition) {
    const char *text =
        sql_is_current()
            ? "projections_internal._slots AS s WHERE s.definition OPERATOR(pg_catalog.=) %s::pg_catalog.regclass"
            : "projections_internal.slot AS s JOIN projections_internal.projection AS p "
              "ON p.relation OPERATOR(pg_catalog.=) s.projection "
              "WHERE p.definition OPERATOR(pg_catalog.=) %s::pg_catalog.regclass";
    return psprintf(text, quote_literal_cstr(pg::qualified_name(definition)));
}

} // namespace catalog
