// A running sum of numerics.
#pragma once
#include "pg/pg.hpp"

namespace capture {

// All zero bytes is 0. Values of up to 24 digits before and 8 after the point add as 128-bit integers; others, and NaN
// and infinities, as numerics. The sum has the greatest scale among its values, as numeric addition gives.
struct ExactSum {
    __int128 units; // of 10^-8
    int16 scale;    // of what units holds
    Numeric rest;   // what does not fit in units; null is 0

    // Adds `weight` times `value`; what has to be kept is kept in `memory`.
    void add(Numeric value, int64 weight, MemoryContext memory);
    void add(const ExactSum &other, MemoryContext memory);
    bool is_zero() const;
    // The sum, in the current memory context.
    Numeric value() const;

private:
    void add_rest(Numeric value, MemoryContext memory);
};

// A 128-bit integer as numeric.
Numeric numeric_from(__int128 value);

} // namespace capture
