// The advisory locks of the extension: every class there is, in the order in which they are taken. Users' advisory
// locks have 1 or 2 in the field where ours have their class, so the two never meet. Locks of relations, rows and
// slots: maintain/locks.hpp and src/README.md.
#pragma once
#include "pg/pg.hpp"

namespace pg {

enum class LockClass : uint16 {
    // (projection, 0), of a session: one rebuild, alter or reset at a time, which pg_locks tells from what one left
    // behind (src/schema/70_rebuild.sql knows the number). Held over many transactions, before any other.
    rebuild = 0x504B,
    // (projection, 0): one session restores the grants of what is hidden. Taken before maintenance's own.
    hidden_grants = 0x5053,
    // (projection, tag): which source's changes a join takes in, and the tags of all keys and of the whole block.
    block = 0x504A,
    // (projection, hash of the key), ascending: a reducer's, or what a block asks about by key, with the class of it.
    key = 0x504C,
    // (0, 1), of a session, never waited for: which worker compares projections with their definitions.
    scrub = 0x504D,
};

inline LOCKTAG advisory_tag(LockClass of_class, uint32 first, uint32 second) {
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, first, second, static_cast<uint16>(of_class));
    return tag;
}

} // namespace pg
