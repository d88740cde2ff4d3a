// The columns of a projection's table, changed for another query.
#pragma once
#include "catalog/projection.hpp"

namespace rebuild {

// How many of the table's first columns are those of the block; what follows them is dropped, and made anew.
int kept_columns(Oid table, const compile::Block &block);

// Objects that use columns behind the first `kept`, apart from what the table's own key consists of (`key`: the index
// of its primary key, where that is the projection's): one a line; null for none. In an SPI connection.
const char *dependents(Oid table, int kept, Oid key);

// Statements that give the columns behind the first `kept` what they have of rights, comments and settings, where
// `next` has columns of the same names. In the current memory context.
List *column_details(Oid table, int kept, Oid next);

// Replaces the columns behind the first `kept` by the block's. The table is empty, or changes places with one that has
// been changed in the same way: its rows do not fit any more. Locks it in ACCESS EXCLUSIVE mode.
void change_layout(Oid table, int kept, const compile::Block &block);

// ALTER TABLE … SET or DROP NOT NULL, of columns of a table that is locked in ACCESS EXCLUSIVE mode by then.
void set_not_null(Oid table, std::span<const AttrNumber> columns, bool not_null);

// Makes an index on the table that is defined as `model` on another, without building it: a primary key, if that is
// one, of that name where it is not null. Returns its OID.
Oid make_unbuilt_index(Oid table, Oid model, const char *name);

} // namespace rebuild
