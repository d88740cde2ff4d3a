// A projection's definition, compiled when the session first needs it, and what it has become since it was stored.
#include "catalog/projection.hpp"
#include "catalog/settings.hpp"
#include "compile/refuse.hpp"
#include "pg/scope.hpp"

namespace catalog {

static constinit uint64 growths = 0;

const compile::Block &Projection::block() {
    if (compiled == nullptr) {
        // Its constants are made, and its functions called, also where a superuser looks at it. The texts that it
        // holds have constants in the form that the pinned settings give them and read them in.
        pg::as_owner(owner(), [&] {
            with_pinned(settings,
                        [&] { compiled = compile::compile_definition(relation, definition, user_columns, stored); });
        });
        MemoryContextSetParent(compiled->memory, memory);
        grew();
    }
    used_in = transaction_number();
    return *compiled;
}

void Projection::grew() {
    kept_bytes = 0;
    growths++;
}

void Projection::refuse_changed() {
    const compile::Block &known = block();
    if (known.changed == nullptr) return;
    compile::Place nowhere{nullptr};
    // It may have been changed back.
    if (compile::check_functions(reinterpret_cast<Node *>(known.expressions()), nowhere).changed == nullptr) return;
    const char *quoted = quote_literal_cstr(known_name());
    ereport(ERROR, (errcode(pg::error::projection_stale),
                    errmsg("projection %s cannot be maintained: %s", known_name(), known.changed),
                    errdetail("Its results could change without a source row changing."),
                    errhint("Declare the function IMMUTABLE again, or SELECT projections.drop(%s); "
                            "SELECT projections.pause(%s, 'reason'); lets writers of its sources go on meanwhile.",
                            quoted, quoted)));
}

uint64 growth() { return growths; }

} // namespace catalog
