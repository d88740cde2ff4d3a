// Relations by OID, then source tags; the header says in which order, and why.
#include "maintain/locks.hpp"

#include "catalog/lineage.hpp"
#include "pg/lock.hpp"

namespace maintain {
namespace {

using pg::LockClass;

constexpr uint32 block_tag = 31, keys_tag = 30, early_tag = 29;

void lock(Oid projection, uint32 what, LOCKMODE mode, LockClass of_class = LockClass::block) {
    LOCKTAG tag = pg::advisory_tag(of_class, projection, what);
    LockAcquire(&tag, mode, false, false);
    // What whoever held it has attached is read by the next query: plans know partitions by the relcache.
    AcceptInvalidationMessages();
}

// `applied`: changes will be written to its table.
void collect(catalog::Projection *projection, pg::flat_map<Oid, LOCKMODE> &modes, bool applied) {
    // Who feeds a shadow writes its logs only, and must not wait while indexes are built on it. A swap drops logs, and
    // so waits for him (test: sql/rebuild_sessions).
    if (OidIsValid(projection->shadow_of) && projection->flow == catalog::Flow::log && !applied) {
        for (Oid log : projection->changes) modes[log] = RowExclusiveLock;
        return;
    }
    LOCKMODE &mode = modes[projection->relation];
    if (mode == RowExclusiveLock) return;
    mode = RowExclusiveLock;
    // One that is not compiled yet is not here for a change of its sources, and may be gone. (Test:
    // isolation/async_slots)
    bool reads = projection->compiled && projection->compiled->reads_sources();
    for (Oid source : projection->sources) {
        modes.emplace(source, AccessShareLock);
        // A partition that is being emptied is locked, and whoever empties it will wait for tags and keys.
        if (reads)
            for (Oid member : catalog::members(source)) modes.emplace(member, AccessShareLock);
    }
    for (catalog::Projection *below : catalog::over(projection->relation)) collect(below, modes, false);
}

} // namespace

void lock_relations(std::span<catalog::Projection *const> roots, bool applied) {
    // A handler's tables are locked by users, too. Its feed only by who applies events: a rebuild that holds it knows
    // who waits.
    for (catalog::Projection *root : roots)
        if (root->kind == catalog::Kind::handler) LockRelationOid(root->definition, RowExclusiveLock);
    pg::flat_map<Oid, LOCKMODE> modes;
    for (catalog::Projection *root : roots) collect(root, modes, applied);
    for (auto [relation, mode] : modes) LockRelationOid(relation, mode);
}

void lock_early(const compile::Block &block) { lock(block.projection, early_tag, ShareRowExclusiveLock); }

void lock_sources(const compile::Block &block, int source, bool exclusive) {
    uint32 tags = 0;
    while ((std::size_t{1} << tags) < block.sources.size()) tags++;
    if (block.joins() && tags == 0) tags = 1; // one table joined with itself
    for (uint32 tag = 0; tag < tags; tag++)
        lock(block.projection, tag,
             exclusive             ? ShareRowExclusiveLock
             : (source >> tag) & 1 ? ShareLock
                                   : RowExclusiveLock);
}

uint32 key_of_class(uint32 lock_class, uint32 hash) { return hash_combine(murmurhash32(lock_class), hash); }

void lock_all_keys(Oid projection) { lock(projection, keys_tag, ShareRowExclusiveLock); }

void lock_keys(Oid projection, pg::vector<uint32> &hashes, std::size_t most) {
    if (hashes.empty()) return;
    std::sort(hashes.begin(), hashes.end());
    hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
    if (hashes.size() > most) return lock_all_keys(projection);
    lock(projection, keys_tag, RowExclusiveLock);
    for (uint32 hash : hashes) lock(projection, hash, ExclusiveLock, LockClass::key);
}

void lock_keys(Oid projection, uint32 lock_class, std::span<const uint32> hashes) {
    pg::vector<uint32> keys;
    for (uint32 hash : hashes) keys.push_back(key_of_class(lock_class, hash));
    lock_keys(projection, keys, most_block_keys);
}

void lock_block(const compile::Block &block) {
    if (block.slices())
        lock_all_keys(block.projection);
    else
        lock(block.projection, block_tag, ShareRowExclusiveLock);
}

} // namespace maintain
