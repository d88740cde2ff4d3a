// What a projection relies on.
//
// The facts, what is done with them, and what follows from a difference are SQL (src/schema: 52_relied.sql,
// 53_relied_checks.sql, 51_conditions.sql). Comparing them takes milliseconds, so a flush compares a digest of the
// relations' and functions' catalog entries first, and only where this session's view of the catalogs has moved since
// it last did. The digest may differ where no fact does (an added column); the facts are then found equal, and the
// digest is recorded anew.
#include "maintain/reliance.hpp"

#include "catalog/lineage.hpp"
#include "maintain/flush.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace maintain {
namespace {

void add(uint64 &digest, const void *bytes, std::size_t length) {
    digest = hash_combine64(
        digest, hash_bytes_extended(static_cast<const unsigned char *>(bytes), static_cast<int>(length), 0));
}

template <class Value>
void add(uint64 &digest, const Value &value) {
    add(digest, &value, sizeof(value));
}

// Which version of a catalog row it is.
void add_version(uint64 &digest, HeapTuple tuple) {
    if (!HeapTupleIsValid(tuple)) {
        add(digest, 0);
        return;
    }
    add(digest, HeapTupleHeaderGetRawXmin(tuple->t_data));
    add(digest, tuple->t_self);
    ReleaseSysCache(tuple);
}

void add_columns(uint64 &digest, Relation relation) {
    TupleDesc desc = RelationGetDescr(relation);
    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(desc, i);
        add(digest, column->atttypid);
        add(digest, column->atttypmod);
        add(digest, column->attcollation);
        add(digest, column->attgenerated);
        add(digest, column->attidentity);
    }
    const TupleConstr *constraints = desc->constr;
    for (int i = 0; constraints && constraints->has_generated_stored && i < constraints->num_defval; i++)
        add(digest, constraints->defval[i].adbin, strlen(constraints->defval[i].adbin));
}

void add_triggers(uint64 &digest, Relation relation) {
    const TriggerDesc *triggers = relation->trigdesc;
    for (int i = 0; triggers && i < triggers->numtriggers; i++) {
        const Trigger &trigger = triggers->triggers[i];
        add(digest, trigger.tgname, strlen(trigger.tgname));
        add(digest, trigger.tgfoid);
        add(digest, trigger.tgtype);
        add(digest, trigger.tgenabled);
        add(digest, trigger.tgnattr);
        add(digest, trigger.tgqual != nullptr);
    }
}

void add_indexes(uint64 &digest, Relation relation) {
    ListCell *cell;
    foreach (cell, RelationGetIndexList(relation)) {
        HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
        if (!HeapTupleIsValid(tuple)) continue;
        auto *index = reinterpret_cast<Form_pg_index>(GETSTRUCT(tuple));
        const bool properties[] = {index->indisunique, index->indisprimary, index->indimmediate,
                                   index->indisvalid,  index->indisready,   index->indisreplident};
        add(digest, index->indexrelid);
        add(digest, properties, sizeof(properties));
        add(digest, index->indkey.values, sizeof(int16) * index->indkey.dim1);
        ReleaseSysCache(tuple);
    }
}

void add_relation(uint64 &digest, Oid oid) {
    Relation relation = try_relation_open(oid, AccessShareLock);
    if (relation == nullptr) return;
    const FormData_pg_class &entry = *relation->rd_rel;
    const char properties[] = {entry.relpersistence, entry.relreplident,        entry.relispartition,
                               entry.relrowsecurity, entry.relforcerowsecurity, entry.relhasrules,
                               entry.relhassubclass};
    add(digest, properties, sizeof(properties));
    add_columns(digest, relation);
    add_triggers(digest, relation);
    add_indexes(digest, relation);
    relation_close(relation, AccessShareLock);
}

// A partition, whose columns are its parent's.
void add_member(uint64 &digest, Oid oid) {
    Relation relation = try_relation_open(oid, AccessShareLock);
    if (relation == nullptr) return;
    add(digest, oid);
    add(digest, relation->rd_rel->relpersistence);
    add_triggers(digest, relation);
    relation_close(relation, AccessShareLock);
}

uint64 digest_of(const catalog::Projection &projection, ArrayType *functions) {
    uint64 digest = 0;
    for (Oid source : projection.sources) {
        add_relation(digest, source);
        for (Oid member : catalog::members(source)) add_member(digest, member);
    }
    add_relation(digest, projection.relation);
    add_version(digest,
                SearchSysCache2(RULERELNAME, ObjectIdGetDatum(projection.definition), CStringGetDatum("_RETURN")));
    Datum *elements;
    int count;
    deconstruct_array(functions, OIDOID, sizeof(Oid), true, TYPALIGN_INT, &elements, nullptr, &count);
    for (int i = 0; i < count; i++) add_version(digest, SearchSysCache1(PROCOID, elements[i]));
    return digest;
}

// Finds those whose records are of these catalog entries.
void find_recorded(std::span<const Oid> projections) {
    uint64 now = catalog::generation(); // looking may itself receive an invalidation
    // In an array: a plan's constant of type oid counts as a relation that it reads, and the projection would be
    // brought up to date first.
    pg::spi_execute(psprintf("SELECT projection, functions, digest FROM projections_internal.reliance_record "
                             "WHERE projection = ANY (%s)",
                             pg::oid_array(projections)));
    const SPITupleTable *records = SPI_tuptable;
    for (uint64 i = 0, count = SPI_processed; i < count; i++) {
        pg::Row record(records, i);
        catalog::Projection *projection = catalog::projection(record.oid(1));
        if (projection &&
            static_cast<uint64>(record.bigint(3)) == digest_of(*projection, DatumGetArrayTypeP(record.datum(2))))
            projection->relied_on_at = now;
    }
}

bool is_to_be_checked(const catalog::Projection &projection) {
    return projection.relied_on_at != catalog::generation() && !XactReadOnly && catalog::sql_is_current();
}

} // namespace

void check_reliance(catalog::Projection &projection) {
    if (!is_to_be_checked(projection)) return;
    Oid relation = projection.relation;
    pg::as_superuser([&] {
        pg::with_spi([&] {
            find_recorded({&relation, 1});
            if (projection.relied_on_at != catalog::generation())
                pg::spi_execute(
                    psprintf("SELECT projections_internal._check_relied(ARRAY[%u]::oid[], false)", relation));
        });
    });
    projection.relied_on_at = catalog::generation();
}

void check_reliance_of_many(std::span<catalog::Projection *const> projections) {
    pg::vector<Oid> unchecked;
    for (catalog::Projection *projection : projections)
        if (is_to_be_checked(*projection)) unchecked.push_back(projection->relation);
    if (unchecked.size() < 2) return;
    pg::as_superuser([&] { pg::with_spi([&] { find_recorded({unchecked.data(), unchecked.size()}); }); });
}

void record_reliance(Oid projection) {
    if (!catalog::sql_is_current()) return; // ALTER EXTENSION … UPDATE records it
    CommandCounterIncrement();
    pg::as_superuser([&] {
        pg::with_spi([&] {
            pg::spi_execute(psprintf("SELECT projections_internal._forget_relied(%u)", projection));
            pg::spi_execute(psprintf("SELECT projections_internal._record_relied(ARRAY[%u]::oid[])", projection));
            pg::spi_execute(psprintf("SELECT projections_internal._identify_published(ARRAY[%u]::oid[])", projection));
        });
    });
    CommandCounterIncrement();
    flush_ended(projection, nullptr); // what failed before was over what has been made anew
}

} // namespace maintain

extern "C" {

PG_FUNCTION_INFO_V1(projections_reliance_digest);
Datum projections_reliance_digest(PG_FUNCTION_ARGS) {
    uint64 digest = 0;
    catalog::look(PG_GETARG_OID(0), [&](catalog::Projection &projection) {
        digest = maintain::digest_of(projection, PG_GETARG_ARRAYTYPE_P(1));
    });
    PG_RETURN_INT64(static_cast<int64>(digest));
}

} // extern "C"
