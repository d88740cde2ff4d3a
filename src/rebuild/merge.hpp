// How a rebuild ends: the difference as DML, or a swap of files.
#pragma once
#include "rebuild/session.hpp"

namespace rebuild {

enum class Finish { automatic, merge, swap };

struct Choice {
    Finish finish;       // automatic: a merge where little differs
    const char *because; // for those who read
};

// Who would miss a change of the table's contents if only files change places; null for nobody.
const char *who_follows_rows(Oid table);

// A logical slot of this database that decodes whatever is changed in it, as those of wal2json do: of a swap it would
// see nothing. (What uses pgoutput follows publications.) Null for none.
const char *who_decodes();

// That users have added columns to a query's table, of which a shadow has neither defaults nor generation expressions;
// null where they have not.
const char *columns_of_its_own(Oid table);

// Why the files cannot just change places; null where they can.
const char *what_forbids_swap(Oid table);

// What options.finish, and who depends on the table, allow. Raises 55000 where the option asks for what is not
// possible.
Choice choice_for(catalog::Projection &projection);
// The same as a step.
Choice choose(Rebuild &rebuild);

// Compares the table with its definition, and recomputes the keys that differ, as refresh_rows does, some at a time.
// Returns false, having changed nothing, where more than `limit` differ.
bool merge(Rebuild &rebuild, int64 limit);

// How many keys may differ before a swap is less work.
int64 merge_limit(Rebuild &rebuild);

// For the last moment before a swap, with the table locked: raises an error if it must not be swapped any more.
void refuse_swap(const char *name, Oid table);

} // namespace rebuild
