// What cannot be a projection, as data: construct × place × reason × what to write instead.
#pragma once
#include "pg/pg.hpp"

namespace compile {

enum class Construct {
    not_select,
    writes,
    row_locks,
    recursive,
    with,
    window,
    undecided_window,
    set_returning,
    grouping_sets,
    distinct_on,
    limit,
    unordered_first_rows,
    sublink,
    scalar_rows,
    not_in,
    presence_rows,
    full_join_of_slices,
    untraced_key,
    unlinked_subquery,
    undetermined_rows,
    one_document,
    no_table,
    outer_join,
    derived_table,
    values,
    function,
    other_from,
    sample,
    too_many_sources,
    source_kind,
    inherited_key,
    source_hidden_rows,
    whole_row,
    system_column,
    users_aggregate,
    ordered_aggregate,
    distinct_aggregate,
    other_aggregate,
    unordered_extremum,
    row_comparison,
    row_comparison_nulls,
    volatile_function,
    stable_function,
    changing_function,
    clock_literal,
    session_value,
    clock_cast,
    sequence,
    cursor,
    unhashable_key,
    no_column,
    unnamed_columns,
    repeated_column,
    reserved_column,
    untyped_column,
    row_column,
    too_many_columns,
    too_many_group_columns,
    too_many_key_columns
};

struct Refusal {
    Construct construct;
    const char *what;    // the construct, as SQL names it
    const char *where;   // its place in the query
    const char *reason;  // with %s for what the query says
    const char *instead; // what to write; null where there is nothing
    const char *words;   // of which the first tells the place in the text, where the tree does not; null
};

// All of them, in the order of Construct; and that of one.
std::span<const Refusal> refusals();
const Refusal &refusal(Construct construct);

} // namespace compile
