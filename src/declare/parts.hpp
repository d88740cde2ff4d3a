// The parts of a projection: hidden projections that its query reads (compile/parts.hpp).
#pragma once
#include "declare/declare.hpp"
#include "declare/describe.hpp"

namespace declare {

// Makes the parts of a projection that is being made, as the caller's.
class Parts {
public:
    enum class Purpose {
        use,
        look // only what is needed to compile what reads them: to be undone
    };
    explicit Parts(const Request &of, Purpose purpose = Purpose::use, StringInfo stages = nullptr)
        : of_(of), purpose_(purpose), stages_(stages) {}
    Parts(const Parts &) = delete;
    Parts &operator=(const Parts &) = delete;
    compile::PartMaker maker() { return {make, this, &made_}; }
    // What they were compiled to, inner first.
    std::span<const compile::Block *const> blocks() const { return {blocks_.data(), blocks_.size()}; }
    // What it made has been undone.
    void forget() {
        made_ = NIL;
        blocks_.clear();
    }
    // Says whose they are, once that is made.
    void belong_to(Oid projection) const;

private:
    static Oid make(Query *part, void *context);

    const Request &of_;
    Purpose purpose_;
    StringInfo stages_; // where to print what the compiler makes of each
    pg::vector<const compile::Block *> blocks_ = {};
    List *made_ = NIL;
};

// Raises 0A000 for a query that has parts: for who has no place for them.
compile::PartMaker no_parts(const char *what);

// 42P07: `projection` is what is there under the name, or null.
[[noreturn]] void refuse_existing(Oid relation, catalog::Projection *projection, bool same);

// Whether the query's text means what the projection's definition, and those of its parts, are. Where a part is
// another, refuse_existing().
bool has_definition(catalog::Projection &projection, const char *text);

} // namespace declare
