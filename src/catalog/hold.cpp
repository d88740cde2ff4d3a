// Holding a projection as it is: from its name to what is done with it, nobody drops it.
#include "catalog/projection.hpp"

namespace catalog {
namespace {

void lock_sources(const Projection &projection) {
    pg::vector<Oid> sources = projection.sources;
    std::sort(sources.begin(), sources.end());
    for (Oid source : sources) LockRelationOid(source, AccessShareLock);
}

// What goes, or is another one, whenever the projection does.
Oid anchor_of(const Projection &projection) {
    return OidIsValid(projection.definition) ? projection.definition : projection.relation;
}

bool is_still(const Projection &projection, Oid definition) {
    Projection *now = catalog::projection(projection.relation);
    return now == &projection && now->definition == definition;
}

} // namespace

bool hold(Projection &projection, Hold what) {
    if (what == Hold::nothing) return true;
    Oid definition = projection.definition;
    bool compiles = projection.kind == Kind::query && projection.compiled == nullptr;
    if (what == Hold::all || compiles) lock_sources(projection);
    // Who applies events to a handler's tables locks its feed first.
    bool feed_first = projection.kind == Kind::handler;
    LockRelationOid(feed_first ? anchor_of(projection) : projection.relation, AccessShareLock);
    LockRelationOid(feed_first ? projection.relation : anchor_of(projection), AccessShareLock);
    return is_still(projection, definition);
}

void let_go(const Projection &projection) {
    UnlockRelationOid(anchor_of(projection), AccessShareLock);
    UnlockRelationOid(projection.relation, AccessShareLock);
}

Projection *begin_look(Oid relation) {
    for (;;) {
        Projection *found = projection(relation);
        if (found == nullptr) return nullptr;
        Oid definition = found->definition, anchor = anchor_of(*found);
        pg::vector<Oid> sources = found->sources;
        bool compiles = found->kind == Kind::query && found->compiled == nullptr;
        if (compiles) lock_sources(*found);
        LockRelationOid(anchor, AccessShareLock);
        bool still = is_still(*found, definition);
        if (still && compiles) found->block();
        if (compiles)
            for (Oid source : sources) UnlockRelationOid(source, AccessShareLock);
        if (still) return found;
        UnlockRelationOid(anchor, AccessShareLock);
    }
}

void end_look(const Projection &projection) { UnlockRelationOid(anchor_of(projection), AccessShareLock); }

} // namespace catalog
