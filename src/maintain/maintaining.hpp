// The bracket around everything that writes a projection's table.
#pragma once
#include "maintain/statements.hpp"

namespace maintain {

// What maintenance writes now; nested where a user's trigger on a projection reads another.
struct Writing {
    Oid relation;
    int trigger_depth;
    Writing *outer;
};
extern Writing *innermost;

// Runs `body` with writes of `relation` at this trigger depth known as maintenance's own, which the guard lets pass.
template <class Body>
void writing_as(Oid relation, Body &&body) {
    Writing writing{relation, pg::trigger_depth(), innermost};
    Writing *outer = innermost;
    innermost = &writing;
    // A transaction may become read-only after it has written: what it has written still reaches its projections.
    // (Test: sql/read_only.)
    bool read_only = XactReadOnly;
    const char *purpose = pg::purpose;
    XactReadOnly = false;
    PG_TRY();
    { body(); }
    PG_FINALLY();
    {
        innermost = outer;
        XactReadOnly = read_only;
        pg::purpose = purpose;
    }
    PG_END_TRY();
}

// Error context callback; the argument is the projection's Statements.
void name_projection(void *argument);

// Runs `body` as the projection's owner, with errors and statements that name the projection.
template <class Body>
void maintaining(catalog::Projection &projection, Body &&body) {
    ErrorContextCallback context{error_context_stack, name_projection, &statements(projection)};
    error_context_stack = &context;
    writing_as(projection.relation, [&] {
        pg::purpose = statements(projection).purpose;
        pg::as_owner(projection.owner(), body);
    });
    error_context_stack = context.previous;
}

} // namespace maintain
