#include "catalog/projection.hpp"

#include "catalog/settings.hpp"
#include "pg/scope.hpp"

namespace catalog {
namespace {

// Columns of projections.projection.
enum Column {
    relation = 1, definition, kind, mode, user_columns, shape, sources, changes, settings, paused_at = 16,
    shadow_of = 23, building
};

struct Cache {
    MemoryContext memory;
    pg::vector<Projection *> ordered;
    pg::flat_map<Oid, Projection *> by_relation;
    pg::flat_map<Oid, pg::vector<Projection *> *> by_source;
    pg::vector<Oid> event_sources; // ascending
};

// An invalidation may arrive at any lock: it only marks the cache, which is read again when it is next asked.
constinit Cache *cache = nullptr;
constinit Oid catalog_oid = InvalidOid;
constinit bool stale = true;
constinit uint64 current_generation = 1;
constinit List *replaced = NIL; // Projections no longer in the catalog, which pending deltas may still name

void relation_changed(Datum, Oid changed) {
    if (!OidIsValid(changed) || changed == catalog_oid) stale = true;
    if (!OidIsValid(changed) || cache == nullptr || cache->by_relation.contains(changed) ||
        cache->by_source.contains(changed))
        current_generation++;
}

// A replaced function may have been inlined; a renamed schema is in every text.
void function_or_schema_changed(Datum, int, uint32) { current_generation++; }

pg::vector<Oid> oids(Datum array) {
    pg::vector<Oid> result;
    Datum *elements;
    int count;
    deconstruct_array(DatumGetArrayTypeP(array), REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT, &elements, nullptr,
                      &count);
    for (int i = 0; i < count; i++) result.push_back(DatumGetObjectId(elements[i]));
    return result;
}

const char **strings(Datum array, int expected) {
    Datum *elements;
    int count;
    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, nullptr, &count);
    if (count != expected)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("projections.projection.settings has %d elements instead of %d", count, expected),
                        errhint("The library and the extension's SQL differ in version: see projections.version().")));
    auto **result = static_cast<const char **>(palloc(sizeof(char *) * count));
    for (int i = 0; i < count; i++) result[i] = TextDatumGetCString(elements[i]);
    return result;
}

Kind kind_of(const char *name) {
    if (strcmp(name, "handler") == 0) return Kind::handler;
    if (strcmp(name, "reducer") == 0) return Kind::reducer;
    if (strcmp(name, "state_machine") == 0) return Kind::state_machine;
    return Kind::query;
}

// What may change in the life of a projection.
void read_state(Projection &projection, HeapTuple tuple, TupleDesc desc) {
    bool null;
    auto value = [&](Column column) { return heap_getattr(tuple, column, desc, &null); };
    projection.async = strcmp(TextDatumGetCString(value(Column::mode)), "async") == 0;
    Datum changes = value(Column::changes);
    projection.changes = pg::within(projection.memory, [&] { return oids(changes); });
    value(Column::paused_at);
    projection.paused = !null;
    Datum of = value(Column::shadow_of);
    projection.shadow_of = null ? InvalidOid : DatumGetObjectId(of);
    bool building = DatumGetBool(value(Column::building));
    projection.flow = building                      ? Flow::none
                      : !projection.changes.empty() ? Flow::log
                      : projection.async            ? Flow::events
                                                    : Flow::inline_;
}

Projection *read(HeapTuple tuple, TupleDesc desc) {
    bool null;
    auto value = [&](Column column) { return heap_getattr(tuple, column, desc, &null); };
    MemoryContext memory = AllocSetContextCreate(CacheMemoryContext, "projection", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    Projection *projection = pg::make<Projection>(memory);
    projection->memory = memory;
    projection->relation = DatumGetObjectId(value(Column::relation));
    projection->definition = DatumGetObjectId(value(Column::definition));
    projection->user_columns = DatumGetInt32(value(Column::user_columns));
    projection->kind = kind_of(TextDatumGetCString(value(Column::kind)));
    Datum shape = value(Column::shape);
    projection->bag = !null && strcmp(TextDatumGetCString(shape), "bag") == 0;
    projection->sources = oids(value(Column::sources));
    projection->settings = strings(value(Column::settings), pinned_setting_count);
    read_state(*projection, tuple, desc);
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

// Columns are read by their number: SQL objects of another version would be misread.
void check_version(TupleDesc desc) {
    static constexpr struct {
        int number;
        const char *name;
    } expected[] = {{Column::relation, "relation"},
                    {Column::kind, "kind"},
                    {Column::changes, "changes"},
                    {Column::settings, "settings"},
                    {Column::paused_at, "paused_at"},
                    {Column::shadow_of, "shadow_of"},
                    {Column::building, "building"}};
    for (const auto &[number, name] : expected)
        if (desc->natts < number || strcmp(NameStr(TupleDescAttr(desc, number - 1)->attname), name) != 0)
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("the SQL objects of extension pg_projections are not those of its library"),
                            errdetail("The library is version %s.", PROJECTIONS_VERSION),
                            errhint("ALTER EXTENSION pg_projections UPDATE; or install the library that fits.")));
}

// Reads the catalog table. Projections that are still there keep their compiled block: it only depends on the
// definition.
Cache *load() {
    MemoryContext memory = AllocSetContextCreate(CacheMemoryContext, "projections", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(memory);
    Cache *fresh = pg::make<Cache>(memory);
    fresh->memory = memory;

    Oid schema = get_namespace_oid("projections", true);
    catalog_oid = OidIsValid(schema) ? get_relname_relid("projection", schema) : InvalidOid;
    if (OidIsValid(catalog_oid) && OidIsValid(get_extension_oid("pg_projections", true))) {
        Relation table = table_open(catalog_oid, AccessShareLock);
        check_version(RelationGetDescr(table));
        SysScanDesc scan = systable_beginscan(table, InvalidOid, false, nullptr, 0, nullptr);
        while (HeapTuple tuple = systable_getnext(scan)) {
            Projection *found = read(tuple, RelationGetDescr(table));
            auto known = cache ? cache->by_relation.find(found->relation) : decltype(cache->by_relation.end()){};
            if (cache && known != cache->by_relation.end() && known->second->definition == found->definition) {
                MemoryContextDelete(found->memory);
                found = known->second;
                found->depth = 0;
                read_state(*found, tuple, RelationGetDescr(table));
            }
            fresh->by_relation.emplace(found->relation, found);
        }
        systable_endscan(scan);
        table_close(table, AccessShareLock);
        load_event_sources(*fresh, schema);
    }
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

Cache &current() {
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
        current_generation++;
    }
    return *cache;
}

} // namespace

const compile::Block &Projection::block() {
    if (compiled == nullptr) {
        compiled = compile::compile_definition(relation, definition, user_columns, bag);
        MemoryContextSetParent(compiled->memory, memory);
    }
    return *compiled;
}

Oid Projection::owner() {
    if (owner_known_at == current_generation) return known_owner; // a change of owner invalidates the relation
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for relation %u", relation);
    known_owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    owner_known_at = current_generation;
    return known_owner;
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

Oid catalog_relation() {
    current();
    return catalog_oid;
}

void announce_change() {
    stale = true;
    Oid schema = get_namespace_oid("projections", true);
    Oid table = OidIsValid(schema) ? get_relname_relid("projection", schema) : InvalidOid;
    if (OidIsValid(table)) CacheInvalidateRelcacheByRelid(table);
}

uint64 generation() { return current_generation; }

void end_transaction() {
    for (Projection *projection : pg::each<Projection>(replaced)) MemoryContextDelete(projection->memory);
    list_free(replaced);
    replaced = NIL;
}

void register_callbacks() {
    CacheRegisterRelcacheCallback(relation_changed, 0);
    CacheRegisterSyscacheCallback(PROCOID, function_or_schema_changed, 0);
    CacheRegisterSyscacheCallback(NAMESPACEOID, function_or_schema_changed, 0);
}

void mark_hidden(const char *object, const char *kind, const char *of) {
    pg::spi_execute(
        psprintf("COMMENT ON %s IS %s", object, quote_literal_cstr(psprintf("pg_projections: %s of %s", kind, of))));
}

} // namespace catalog
