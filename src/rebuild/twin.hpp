// A table like another one in all that decides what may be written to it.
#pragma once
#include "rebuild/swap.hpp"

namespace rebuild {

// An empty table of the same name and owner in `schema`, where the owner may create: columns, defaults, identity,
// generated columns, constraints and indexes under the names that they have, sequences of its own, grants. Without
// foreign keys, triggers and policies. As a superuser, in an SPI connection, under a search_path that nobody else
// writes to. Raises 0A000 for a table of which no twin can be made.
Oid make_writable_twin(Oid table, const char *schema);

// Foreign keys of `table` to others of `tables` are made for their twins in `schema`.
void copy_foreign_keys(Oid table, const pg::vector<Oid> &tables, const char *schema);

// Makes the indexes, and the constraints that they serve, which the twin in `schema` lacks.
void complete_indexes(Oid table, const char *schema);

// The live table's indexes with the twin's of the same names; InvalidOid where one is missing.
pg::vector<IndexPair> pairs_by_name(Oid table, Oid twin);

// Gives the twin's indexes the names by which a swap pairs them.
void name_for_swap(Oid table, Oid twin);

// A table's sequences go on where its twin's have come to, if that is further.
void advance_sequences(Oid table, Oid twin);

} // namespace rebuild
