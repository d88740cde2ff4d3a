// Groups whose key has several looks: 1.0 and 1.00 are equal, and a group of both is shown by either. What is computed
// from the key, such as its text, is right if it follows from a look that some row has.
#pragma once
#include "verify/compare.hpp"

namespace catalog {
struct Projection;
}

namespace verify {

struct Looks {
    catalog::Projection &projection;
    Snapshot snapshot;
    std::span<const char *const> rows; // of the sources, as maintain::keys_over() takes them
    SPIPlanPtr plan = nullptr;
};

// Whether the rows of a key differ by its look only, and the look that is found is one of a row's. In the SPI
// connection of the comparison, as the owner. `looks`: a Looks. (Test: sql/keys)
bool is_another_look(const Difference &difference, void *looks);

} // namespace verify
