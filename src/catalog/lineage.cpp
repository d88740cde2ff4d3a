// Kept as long as catalog::generation() does not move: DDL on a source, or on a table below it that the session has
// come across, moves it. An ordinary table that becomes a partition or a child is forgotten only.
#include "catalog/lineage.hpp"

#include "catalog/own_trigger.hpp"
#include "catalog/projection.hpp"
#include "pg/own_schema.hpp"

namespace catalog {
namespace {

struct Known {
    MemoryContext memory;
    uint64 made_at;
    bool outdated = false;
    pg::flat_map<Oid, pg::vector<Ancestor> *> above;
    pg::flat_map<Oid, pg::vector<Oid> *> below;
    pg::flat_map<Oid, bool> trees; // all tables below sources
};

constinit Known *looked_up = nullptr;
constinit List *replaced = NIL; // memory contexts, whose spans may be in use

Known &current() {
    uint64 now = generation();
    if (looked_up && looked_up->made_at == now && !looked_up->outdated) return *looked_up;
    if (looked_up) pg::within(CacheMemoryContext, [&] { replaced = lappend(replaced, looked_up->memory); });
    looked_up = nullptr;
    MemoryContext memory = AllocSetContextCreate(CacheMemoryContext, "projection lineage", ALLOCSET_SMALL_SIZES);
    Known *fresh = pg::within(memory, [&] { return pg::make<Known>(memory); });
    fresh->memory = memory;
    fresh->made_at = now;
    return *(looked_up = fresh);
}

// A partition has one parent; a child may have several.
List *parents_of(Oid table) {
    List *parents = NIL;
    Relation inherits = table_open(InheritsRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(table));
    SysScanDesc scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, nullptr, 1, &key);
    while (HeapTuple tuple = systable_getnext(scan)) {
        auto *form = reinterpret_cast<Form_pg_inherits>(GETSTRUCT(tuple));
        if (!form->inhdetachpending) parents = lappend_oid(parents, form->inhparent);
    }
    systable_endscan(scan);
    table_close(inherits, AccessShareLock);
    return parents;
}

List *all_above(Oid table) {
    List *above = parents_of(table);
    for (int i = 0; i < list_length(above); i++)
        above = list_concat_unique_oid(above, parents_of(list_nth_oid(above, i)));
    return above;
}

// The archive of our own store inherits from its events. What is in it has been applied.
bool is_own_store(Oid table) { return pg::is_own_schema(get_rel_namespace(table)); }

pg::vector<Ancestor> *find_ancestors(Relation table) {
    auto *found = pg::make<pg::vector<Ancestor>>(CurrentMemoryContext);
    List *above = all_above(RelationGetRelid(table));
    for (int i = 0; i < list_length(above); i++) {
        Oid each = list_nth_oid(above, i);
        if (over(each).empty() || is_own_store(each)) continue;
        // Its columns are those of the tables below, which whoever writes those keeps from changing.
        Relation ancestor = table_open(each, AccessShareLock);
        TupleDesc desc = CreateTupleDescCopy(RelationGetDescr(ancestor));
        table_close(ancestor, NoLock);
        desc->tdtypeid = get_rel_type_id(each);
        found->push_back(
            Ancestor{each, desc, convert_tuples_by_name(CreateTupleDescCopy(RelationGetDescr(table)), desc)});
    }
    return found;
}

pg::vector<Ancestor> &entry(Relation table) {
    Oid oid = RelationGetRelid(table);
    for (;;) {
        Known &now = current();
        auto found = now.above.find(oid);
        if (found != now.above.end()) return *found->second;
        pg::vector<Ancestor> *made = pg::within(now.memory, [&] { return find_ancestors(table); });
        if (&current() != &now) continue; // it has moved meanwhile
        pg::within(now.memory, [&] { now.above.emplace(oid, made); });
        return *made;
    }
}

// None of a table that has gone, which a DROP's parts still name.
List *all_below(Oid table, LOCKMODE mode) {
    bool there = SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table));
    return there ? find_all_inheritors(table, mode, nullptr) : NIL;
}

// A partition, or what may be a child: those have the trigger that sources have, which is not copied to them.
bool may_be_below(Relation table) {
    if (table->rd_rel->relispartition) return true;
    const TriggerDesc *triggers = table->rd_rel->relkind == RELKIND_RELATION ? table->trigdesc : nullptr;
    for (int i = 0; triggers && i < triggers->numtriggers; i++)
        if (strcmp(triggers->triggers[i].tgname, capture_rows.name) == 0) return true;
    return false;
}

} // namespace

// A table that no projection reads is told by its entry in the relcache: to read our own catalog would make a
// dependency, for SERIALIZABLE, between all who write and whoever creates a projection. (Test: isolation/create_drop)
std::span<const Ancestor> ancestors_read(Relation table) {
    if (!may_be_below(table) || table->rd_rel->relkind == RELKIND_FOREIGN_TABLE) return {};
    const pg::vector<Ancestor> &found = entry(table);
    return {found.data(), found.size()};
}

// Of every table that is written: without a lock, which who writes it has.
bool may_be_below(Oid table) {
    Relation relation = RelationIdGetRelation(table);
    if (!RelationIsValid(relation)) return false;
    bool may_be = may_be_below(relation);
    RelationClose(relation);
    return may_be;
}

std::span<const Ancestor> ancestors_read(Oid table) {
    Relation relation = try_relation_open(table, AccessShareLock);
    if (relation == nullptr) return {};
    std::span<const Ancestor> above = ancestors_read(relation);
    relation_close(relation, NoLock);
    return above;
}

std::span<const Oid> members(Oid source) {
    for (;;) {
        Known &now = current();
        auto known_below = now.below.find(source);
        if (known_below != now.below.end()) return {known_below->second->data(), known_below->second->size()};
        auto *found = pg::within(now.memory, [&] {
            auto *made = pg::make<pg::vector<Oid>>(now.memory);
            List *tree = is_own_store(source) ? NIL : all_below(source, NoLock);
            for (int i = 0; i < list_length(tree); i++) {
                Oid each = list_nth_oid(tree, i);
                now.trees.emplace(each, true);
                if (each != source && get_rel_relkind(each) != RELKIND_PARTITIONED_TABLE) made->push_back(each);
            }
            return made;
        });
        if (&current() != &now) continue;
        pg::within(now.memory, [&] { now.below.emplace(source, found); });
        return {found->data(), found->size()};
    }
}

uint64 partitions_of(std::span<const Oid> sources) {
    uint64 digest = 0;
    for (Oid source : sources) {
        if (!has_subclass(source) && get_rel_relkind(source) != RELKIND_PARTITIONED_TABLE) continue;
        List *tree = all_below(source, NoLock);
        for (int i = 0; i < list_length(tree); i++) digest = hash_combine64(digest, list_nth_oid(tree, i));
        list_free(tree);
    }
    return digest;
}

void refuse_other_partitions(std::span<const Oid> sources, uint64 before) {
    if (partitions_of(sources) == before) return;
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("could not serialize access: tables below a source came or went while it was read"),
                    errdetail("Some of what was read may be of before, and some of after."),
                    errhint("Retry the transaction.")));
}

void lock_tree(Oid table, LOCKMODE mode) {
    LockRelationOid(table, mode);
    list_free(all_below(table, mode));
}

TupleTableSlot *as_row_of(const Ancestor &ancestor, TupleTableSlot *row) {
    if (row == nullptr || ancestor.map == nullptr) return row;
    TupleTableSlot *converted = MakeSingleTupleTableSlot(ancestor.desc, &TTSOpsVirtual);
    return execute_attr_map_slot(ancestor.map->attrMap, row, converted);
}

TupleTableSlot *as_whole_row_of(const Ancestor &ancestor, TupleTableSlot *row) {
    if (row == nullptr || ancestor.map != nullptr) return as_row_of(ancestor, row);
    TupleTableSlot *copy = MakeSingleTupleTableSlot(ancestor.desc, &TTSOpsVirtual);
    slot_getallattrs(row);
    auto columns = static_cast<std::size_t>(ancestor.desc->natts);
    memcpy(copy->tts_values, row->tts_values, sizeof(Datum) * columns);
    memcpy(copy->tts_isnull, row->tts_isnull, sizeof(bool) * columns);
    return ExecStoreVirtualTuple(copy);
}

bool lineage_changed(Oid table) {
    if (looked_up == nullptr) return false;
    auto found = looked_up->above.find(table);
    bool below_source =
        looked_up->trees.contains(table) || (found != looked_up->above.end() && !found->second->empty());
    if (below_source || found != looked_up->above.end()) looked_up->outdated = true;
    return below_source;
}

void end_lineage_transaction() {
    for (MemoryContextData *memory : pg::each<MemoryContextData>(replaced)) MemoryContextDelete(memory);
    list_free(replaced);
    replaced = NIL;
}

} // namespace catalog
