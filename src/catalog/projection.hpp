// What is declared: the rows of projections_internal.projection, cached for the session.
#pragma once
#include "compile/block.hpp"

namespace maintain {
struct Statements;
struct DirectPlan;
} // namespace maintain
namespace capture {
struct Evaluator;
struct Pending;
} // namespace capture

namespace catalog {

enum class Kind { query, handler, reducer, state_machine };

// How changes of the sources reach the projection.
enum class Flow {
    inline_, // triggers on the sources; applied in the writer's transaction
    log,     // triggers on the sources; appended to change logs, which a worker consumes, or the end of a pause
    events,  // no triggers: a worker reads an event source
    none     // being built: its shadow is told, and takes its place
};

// What a projection's owner may not do any more, as "may not read s.t", and the command that lets him.
struct MissingRight {
    const char *what, *grant;
};

struct Projection {
    MemoryContext memory;
    Oid relation;
    Oid definition; // of a query: the hidden view of all columns; else the feed
    Kind kind;
    Flow flow;
    bool async; // as declared; a paused inline projection flows through a log
    bool paused;
    Oid shadow_of;            // the projection that this is the next generation of; InvalidOid for what users know
    bool takes_away_detached; // options.detached: what has gone from an event source need not stay counted
    Oid part_of;              // the projection that this is a part of, hidden below it; InvalidOid for what users know
    int user_columns;
    bool one_row;            // by its shape
    bool key_not_null;       // options.key_not_null
    compile::Stored stored;  // by that, and options.fallback
    pg::vector<Oid> changes; // change logs, one for each source, where flow is log
    const char **settings;   // as pinned at create, in the order of pinned_settings
    pg::vector<Oid> sources;
    int depth = 0; // 1 + the greatest depth of a source that is a projection

    // Made when first needed, and kept for later transactions (maintain/kept.cpp).
    compile::Block *compiled = nullptr;
    maintain::Statements *statements = nullptr; // texts and plans, remade after DDL on any relation involved
    maintain::DirectPlan *direct = nullptr;
    capture::Evaluator *evaluator = nullptr;
    uint64 statements_made_at = 0, evaluator_made_at = 0; // generations; the direct plan is as old as the statements
    Oid known_owner = InvalidOid;
    uint64 owner_known_at = 0;
    bool known_readable = false;
    uint64 readable_known_at = 0;      // generation of rights
    capture::Pending *delta = nullptr; // the transaction's,
    uint64 delta_in = 0;               // if it is this one, by transaction_number()
    uint64 used_in = 0;                // the last one that asked for the block
    std::size_t kept_bytes = 0;        // of what is made when needed; 0: not measured since some of it was made
    uint64 relied_on_at = 0;           // the generation in which what it relies on was last found as recorded

    const compile::Block &block();
    // To be called when something has been made that is kept.
    void grew();
    // Raises PJ004 where the definition's functions have changed so that its results could not be followed.
    void refuse_changed();
    // The table's owner, who runs its maintenance.
    Oid owner();
    // Whether the owner has the rights that the definition needs. Where not, it takes in no change. A comparison as
    // long as no right changes.
    bool may_read();
    // Raises 42501 where it has not: what is read as the owner is refused, or, by row-level security, lacks rows.
    void require_rights();
    // All that is missing, in the current memory context.
    pg::vector<MissingRight> missing_rights();
    // Schema-qualified and quoted where needed, in the current memory context.
    const char *name() const;
    // The same of the projection that users know: of a part, the one that it is a part of.
    const char *known_name() const;
};

// The projection kept in `relation`, or null. The pointer holds until the end of the transaction; what it tells of may
// be dropped by then, unless the caller holds a lock.
Projection *projection(Oid relation);

// What of a projection is to stay as it is until the transaction ends.
enum class Hold {
    nothing, // for who waits, or takes stronger locks: these come first, and the projection is looked for after them
    rows,    // its table and definition
    all      // its sources, too
};

// Locks against DROP and other definitions, in the order in which writers lock: ACCESS SHARE, until the transaction
// ends. False where the projection is not any more what it was before a lock was waited for.
bool hold(Projection &projection, Hold what);

// Gives back what hold() took but for the sources, in the same resource owner: for who does something to many, and is
// done with this one. (The server's table of locks has room for some thousands.)
void let_go(const Projection &projection);

// What look() stands between: the projection, compiled, while nobody can drop it or give it another definition; or
// null.
Projection *begin_look(Oid relation);
void end_look(const Projection &projection);

// Calls `use` with the projection kept in `relation`; false where there is none. For what looks at many: it keeps no
// lock.
template <class Use>
bool look(Oid relation, Use &&use) {
    Projection *found = begin_look(relation);
    if (found == nullptr) return false;
    use(*found);
    end_look(*found);
    return true;
}

// The projections that read `source`, upstream first.
std::span<Projection *const> over(Oid source);

// The parts of a projection, inner ones first.
pg::vector<Projection *> parts_of(Oid projection);

// What a projection and its parts read, in the order in which their writers lock it: tables that are none of its parts,
// by OID, then the parts, inner ones first.
pg::vector<Oid> tables_below(const Projection &projection);

// Whether the table is registered as a source of events.
bool is_event_source(Oid relation);

// Every projection, upstream first.
std::span<Projection *const> all();

// Those that the session knows, without a look at the catalog: at the end of a transaction.
std::span<Projection *const> known();

// How often the session has ended a transaction, and how often something has been made for a projection that is kept.
uint64 transaction_number();
uint64 growth();

// Whether the library knows the version of the SQL objects. Where it does not, because that is newer, everything that
// asks for projections raises.
bool is_readable();

// Whether the database has the SQL objects of the library's version; false where they are of an older version, which
// the library still keeps projections by, or where there are none.
bool sql_is_current();

// Raises 55000 unless it is so: for what calls functions or reads tables that older versions lack.
void require_current_sql();

// The catalog table's OID; InvalidOid where the extension is not installed.
Oid catalog_relation();

// To be called after every change of the catalog table: tells all sessions, this one included.
void announce_change();

// Grows with every DDL that may change names, functions or plans.
uint64 generation();

// What stands behind FROM where the slots `s` of the handler that `definition` feeds are read, by its owner, too. The
// SQL objects of version 0.2.0 have no view of them.
const char *checkpoints_of(Oid definition);

// Frees what was replaced during the transaction, after `discard`; no pointer from before may be in use.
void end_transaction(void (*discard)(Projection &));

// When the library is loaded: what outdates the cache.
void register_callbacks();

} // namespace catalog
