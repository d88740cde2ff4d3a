// What the declarations of all kinds of projections have in common.
#pragma once
#include "rights/caller.hpp"

namespace declare {

// What an argument `mode` says; raises 22023 for what is neither 'inline' nor 'async'.
bool is_async(const char *mode);

// Where CREATE TABLE would put a relation of that name. Raises 3F000 for schemas that projections are not made in.
struct Place {
    Oid namespace_oid;
    const char *schema, *relation;
};
Place place_of(text *name);

// A query projection as it is asked for.
struct Request {
    const char *name;
    const char *query;
    const char *schema;
    const char *relation;
    Oid namespace_oid;
    bool if_not_exists;
    bool async;
    Datum options;
    bool fill_later;     // options.fill
    bool fallback;       // options.fallback
    bool key_not_null;   // options.key_not_null
    const char *part_of; // the name of the projection that it will be a part of; null: it is none
};

// How changes of the sources will reach a projection.
struct Plan {
    pg::vector<Oid> sources; // ascending
    pg::vector<Oid> changes; // change logs
    catalog::Flow flow;
};

struct Made {
    Oid table;
    Plan plan;
    uint64 rows;
    bool fill_later;
};
// Makes the projection that the request and its compiled query describe, as the caller's, with all that it consists of.
// Raises what create raises.
Made make_projection(Request &request, const compile::Block &block);

// One that nothing maintains, for who only looks at what would read it.
Oid make_unfilled(Request &request, const compile::Block &block);

// Raises PJ002 where rows that have no identity cannot be told apart by their columns either.
void check_bag(const compile::Block &block);
// Events are read from where they are; other tables' changes are logged. Raises PJ002 for what cannot be followed.
// And 22023, or 0A000, for an option that has no effect then.
Plan plan_flow(Request &request, const compile::Block &block);
// Holds off the sources' writers while the projection is made, or, where it is filled later, only where triggers are to
// be made. Raises 42501 where the user may not read a source, or put triggers on it.
void lock_sources(const Plan &plan, bool fill_later);
// The hidden view, owned by the current user. In an SPI connection, as the two below.
Oid make_definition(const Request &request, const compile::Block &block);
// The row in the catalog, and the slots.
void record(const Request &request, Oid table, Oid definition, const compile::Block &block, const Plan &plan,
            const char **settings);
// Lets the owner of a projection that is recorded read the arrivals of its sources. As a superuser, in an SPI
// connection.
void share_arrivals(Oid projection);

// What a table says of its key: a PRIMARY KEY where it can never be NULL and the query returns it, else a unique index
// that takes NULLs for equal.
struct KeyPromise {
    bool primary;
    bool not_null; // by options.key_not_null alone, beside that index
};
// `asked_for`: options.key_not_null; `taken`: the table has a primary key over something else, which stays.
KeyPromise promise_of(const compile::Block &block, bool asked_for, bool taken = false);
// Of one that exists: parts, which no client sees, say nothing.
KeyPromise promise_of(catalog::Projection &projection, bool taken = false);
// Whether all columns of its key are among those that the query returns.
bool returns_key(const compile::Block &block);
// The statement that makes what identifies rows, with a quoted name or ""; null where there is nothing.
const char *identity_index(const char *name, const char *table, const compile::Block &block, KeyPromise promise);
// "ALTER a SET NOT NULL, …" of the key's columns.
const char *key_not_null(const compile::Block &block);
// Raises 22023 where there is no key of which options.key_not_null could say anything.
void check_key_not_null(const compile::Block &block, bool asked_for);

// "ARRAY[…]" of regclass.
const char *oid_list(std::span<const Oid> oids);

// A name in the extension's schema, not in use: the relation's, cut to fit, and `suffix`.
const char *hidden_name(const char *relation, const char *suffix);

// Raises 0A000 for a function whose tables a rebuild could not exchange for others: one that sets search_path, or whose
// body is bound to them.
void refuse_bound_handler(Oid function);

// A WARNING where no worker will bring the projection up to date.
void warn_without_workers(Oid table);

} // namespace declare
