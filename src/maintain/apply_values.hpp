// Values of deltas.
#pragma once
#include "capture/fold.hpp"

namespace maintain {

// The delta of a total as a value of the state's type. Raises 22003 where it is out of the type's range.
Datum total_delta(const compile::State &state, const capture::Cell &cell);

} // namespace maintain
