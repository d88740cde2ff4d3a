// The parameters of a statement of maintenance, and running it.
#pragma once
#include "maintain/statements.hpp"

namespace maintain {

struct Parameters {
    pg::vector<Datum> values;
    pg::vector<char> nulls; // 'n' or ' ', as SPI wants them
    NullMask mask = 0;

    void add(Datum value, bool null) {
        values.push_back(value);
        nulls.push_back(null ? 'n' : ' ');
    }
};

// In an SPI connection of with_statements(). Returns the rows.
inline int64 execute(catalog::Projection &projection, Statement statement, Parameters &parameters) {
    return run_plan(plan(projection, statement, parameters.mask), parameters.values.data(), parameters.nulls.data());
}

// The table is not what it must be: raises PJ004.
[[noreturn]] void fail_stale(const catalog::Projection &projection, const char *detail);
// The same for a row that is not there; or, where the transaction's snapshot may be why, 40001.
[[noreturn]] void fail_missing(const catalog::Projection &projection, const char *detail);

} // namespace maintain
