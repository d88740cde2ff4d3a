// The trigger on the sources, and the evaluation of a source row for a fold.
#pragma once
#include "capture/pending.hpp"

namespace capture {

// Compiled expressions that turn a source row into a fold's keys and arguments.
struct Evaluator {
    MemoryContext memory;
    ExprContext *context;
    ExprState *condition;
    pg::vector<ExprState *> repeats; // factors of a row's weight
    ProjectionInfo *values;
    TupleTableSlot *result;
};

// What to do when a fold grows over delta_memory in the middle of a statement; set once, by who applies folds.
using EarlyFlush = void (*)(Oid projection);
extern EarlyFlush flush_early;

// What an inline handler or reducer does with a new event.
using ApplyEvent = void (*)(catalog::Projection &projection, TupleTableSlot *event);
extern ApplyEvent apply_event;
// And with one that is deleted, which may come back.
extern ApplyEvent note_removed;

using Readers = boost::container::small_vector<catalog::Projection *, 8, pg::Allocator<catalog::Projection *>>;

// What reads a table. A copy: a flush meanwhile may read the catalog anew; the projections themselves stay.
Readers readers_of(Oid relation);
Readers query_readers_of(Oid relation);

// What maintenance writes past the triggers: it hands each row on to what reads `relation`, as the trigger would, in
// memory that is reset after the row, and while the table counts as half-written. When all of them are written,
// `rows_changed` applies what has grown over its memory meanwhile: not before, as rows are to be locked below first.
void row_changed(Oid relation, TupleTableSlot *before, TupleTableSlot *after);
void rows_changed(Oid relation);

// A row of a table below `table`, in its layout, that comes or goes with that table.
void row_came_or_went(const Readers &readers, Oid table, TupleTableSlot *row, int64 weight);

// Statements that write a table and have not fired all their triggers. Rows of such a table may be visible and not yet
// captured: what reads it must wait.
// A referential action leaves its triggers to the statement that caused it (`triggers_later`), and is unfinished as
// long.
void statement_begins(QueryDesc *query, bool triggers_later);
void statement_ends(QueryDesc *query);
// The same for what is no query: COPY, and maintenance, to whose triggers all that it writes at once is one statement.
// `writer` tells it apart.
void writing_begins(const void *writer, Oid relation);
void writing_ends(const void *writer);
bool half_written(Oid relation);
void statements_aborted(int level);

// Frees what evaluates a projection's expressions; it is made anew.
void discard_evaluator(catalog::Projection &projection);

} // namespace capture
