// The table of refusals. In the order of Construct, which refusal() relies on.
#include "compile/refuse.hpp"

namespace compile {
namespace {

constexpr const char *what_works =
    "Joins, subqueries, aggregates, set operations, WHERE, GROUP BY, HAVING, DISTINCT and DISTINCT ON are maintained "
    "incrementally; "
    "apply the rest in a view over the projection.";

#define as_a_whole "let all rows be read again for each change, with options => '{\"fallback\": \"refresh\"}'."

constexpr const char *by_groups = "GROUP BY something: then what is computed again is the groups that change. Or "
                                  "aggregate the projection's rows when "
                                  "reading them.";

constexpr Refusal table[] = {
    {Construct::not_select, "a statement that is no SELECT", "query", "it is not a SELECT",
     "A definition is one SELECT statement.", nullptr},
    {Construct::writes, "INSERT, UPDATE or DELETE in WITH", "WITH", "it writes", what_works, nullptr},
    {Construct::row_locks, "FOR UPDATE, FOR SHARE", "query", "FOR UPDATE and FOR SHARE lock rows",
     "Leave out the locking clause.", "for"},
    {Construct::recursive, "WITH RECURSIVE", "WITH", "recursive queries are not supported", what_works, "with"},
    {Construct::with, "WITH", "WITH", "this use of WITH is not supported yet",
     "Write the query without WITH, as joins of tables.", "with"},
    {Construct::window, "windows that partition by nothing, or by nothing in common", "SELECT",
     "its windows have no expression of PARTITION BY in common, so all rows would be read again for each change",
     "PARTITION BY something in every window: then what is read again is the partitions that change. Or " as_a_whole,
     "over"},
    {Construct::undecided_window, "a window function that depends on which of equal rows comes last", "SELECT",
     "%s depends on the order of rows that its window's ORDER BY does not tell apart",
     "Order by columns that tell all rows apart, such as a primary key, or give the frame in ROWS.", "over"},
    {Construct::set_returning, "set-returning functions beside groups, DISTINCT ON or LIMIT", "SELECT",
     "this use of set-returning functions in the SELECT list is not supported yet",
     "Write the function in FROM, or in a subquery of FROM.", nullptr},
    {Construct::grouping_sets, "more than 64 grouping sets, or with a window", "GROUP BY",
     "these GROUPING SETS, ROLLUP or CUBE are not supported yet", what_works, "grouping rollup cube"},
    {Construct::distinct_on, "DISTINCT ON over groups or windows", "SELECT",
     "DISTINCT ON over groups or windows is not supported yet",
     "Make the groups a projection of their own, and choose among its rows.", "distinct"},
    {Construct::limit, "LIMIT, OFFSET, FETCH over joins, groups or without ORDER BY", "query, FROM, WITH",
     "LIMIT and OFFSET depend on all rows", "Apply them when reading the projection, or " as_a_whole,
     "limit offset fetch"},
    {Construct::unordered_first_rows, "ORDER BY … LIMIT without an index of that order", "query, FROM, WITH",
     "no index has the rows in the order of ORDER BY, so all of them would be read again for each change%s",
     "Create such an index; or apply LIMIT when reading the projection; or " as_a_whole, "limit offset fetch"},
    {Construct::sublink,
     "an aggregate, EXISTS or IN in an expression, correlated otherwise than by equality; ARRAY; other comparisons "
     "with ANY and ALL in expressions",
     "SELECT, WHERE, ON", "this subquery in an expression is not supported yet",
     "A scalar subquery works where it is an aggregate, correlated by equality or not at all, or finds one row by a "
     "unique key; EXISTS and IN so everywhere but in ON of outer joins; EXISTS, IN and ANY, by any condition, as "
     "conditions of WHERE that AND connects. Else write the subquery as a join.",
     "exists in any some all array"},
    {Construct::scalar_rows, "a scalar subquery that may have several rows", "SELECT, WHERE",
     "no unique key says that this scalar subquery has one row at most",
     "Compare all columns of a unique index, neither deferrable nor partial, by equality with what is outside; or take "
     "an aggregate, such as max().",
     nullptr},
    {Construct::not_in, "NOT IN, ALL", "ON of an outer join",
     "NOT IN and ALL in the condition of an outer join are not supported yet",
     "Write NOT EXISTS (SELECT … WHERE …), which says what NULLs mean.", "not"},
    {Construct::presence_rows,
     "EXISTS, IN over LIMIT or unions that read columns of the query around them, or over groups other than by "
     "equality",
     "WHERE", "EXISTS and IN with a subquery that %s are not supported here yet",
     "Let the subquery read nothing of the query around it but in a condition of WHERE.", "exists in any some"},
    {Construct::full_join_of_slices, "FULL JOIN beside what is read again for each key", "FROM",
     "FULL JOIN beside DISTINCT ON, LATERAL or a document is not supported yet",
     "Make the join a projection of its own, and read that.", "full"},
    {Construct::untraced_key, "a key that is a subquery, or of a side of an outer join that may be missing",
     "DISTINCT ON, GROUP BY",
     "a changed row does not tell which key it concerns, as the key is computed by a subquery, or of a side of an "
     "outer "
     "join that may be missing",
     "Let the key be columns of tables that FROM reads by inner joins, or of the side that is kept.", nullptr},
    {Construct::unlinked_subquery, "a subquery that no condition links to the rows around it", "SELECT, LATERAL",
     "a row of \"%s\" is linked to the rows around its subquery by no condition, so each of them would have to be read "
     "again for each change",
     "Write a condition of WHERE, that AND connects, between columns of the subquery's table and of those around it.",
     nullptr},
    {Construct::undetermined_rows, "a document without a key", "FROM",
     "its rows are not told apart by primary keys: \"%s\" may have several rows for one of the others",
     "Give every table of FROM a primary key; join side tables by theirs, or put their rows into an array of the row "
     "that they belong to.",
     nullptr},
    {Construct::one_document, "one document of everything", "SELECT",
     "it is one row, made of all rows, which would be read again for each change",
     "Let it have a row for each of a "
     "table's, or GROUP BY.",
     nullptr},
    {Construct::no_table, "no table", "FROM", "it reads no table",
     "A projection follows the rows of at least one table.", nullptr},
    {Construct::outer_join, "an outer join over tables that LATERAL needs", "FROM", "%s supported yet",
     "Use an inner join, and read the unmatched rows from their table.", "left right full"},
    {Construct::derived_table,
     "a subquery that reads columns of what stands beside it, and is limited, a union, or grouped and not correlated "
     "by equality",
     "FROM (LATERAL)", "subqueries in FROM that %s are not supported yet",
     "Write the subquery as a join of its tables, or make it a projection of its own.", "from"},
    {Construct::values, "VALUES in EXISTS or FULL JOIN, or that make more than 64 branches", "FROM",
     "this use of VALUES is not supported", "Put the values into a table.", "values"},
    {Construct::function, "a function", "FROM", "functions in FROM are not supported", what_works, "from"},
    {Construct::other_from, "XMLTABLE, JSON_TABLE and others", "FROM", "only tables are supported in FROM", what_works,
     "from"},
    {Construct::sample, "TABLESAMPLE", "FROM", "TABLESAMPLE is random", what_works, "tablesample"},
    {Construct::too_many_sources, "a join of many tables", "FROM", "it joins more than %s tables",
     "Make a part of the join a projection of its own.", nullptr},
    {Construct::source_kind,
     "a foreign, temporary or unlogged table, or one above such a table; ONLY of a table with others below it; a "
     "partition, a materialized view, a system catalog",
     "FROM", "\"%s\" is %s", "A source is an ordinary or partitioned table, or another projection.", nullptr},
    {Construct::inherited_key, "columns that the grouped primary key of a table with children would determine",
     "GROUP BY", "the primary key of \"%s\" does not hold for the rows of its children",
     "Group by the other columns, too.", "group"},
    {Construct::source_hidden_rows, "a table with row-level security", "FROM",
     "row-level security hides rows of \"%s\" from \"%s\"",
     "Let a role that sees every row own the projection, and put policies on the "
     "projection itself.",
     nullptr},
    {Construct::whole_row, "a whole row", "any expression", "whole-row references are not supported",
     "Name the columns.", nullptr},
    {Construct::system_column, "a system column", "any expression", "system columns are not supported",
     "Name the columns.", nullptr},
    {Construct::users_aggregate, "a user's aggregate without GROUP BY", "SELECT",
     "aggregate %s over all rows would have to be computed again for each change", by_groups, nullptr},
    {Construct::ordered_aggregate, "an aggregate with ORDER BY, without GROUP BY", "SELECT",
     "an aggregate with ORDER BY over all rows would have to be computed again for each change", by_groups, nullptr},
    {Construct::distinct_aggregate, "variance and others beside an aggregate with DISTINCT, without GROUP BY", "SELECT",
     "%s beside DISTINCT is not supported without GROUP BY",
     "Beside an aggregate with DISTINCT, count, sum, avg, min, max, bool_and and bool_or work; make the others a "
     "projection of their own.",
     nullptr},
    {Construct::other_aggregate, "an aggregate that does not add up, without GROUP BY", "SELECT",
     "aggregate %s(%s) over all rows would have to be computed again for each change", by_groups, nullptr},
    {Construct::unordered_extremum, "min, max of a type without an order", "SELECT",
     "type %s has no order that min and max could be kept by", what_works, nullptr},
    {Construct::row_comparison, "a comparison of rows by users' operators", "any expression",
     "comparing rows by operators that are not PostgreSQL's own cannot be stored",
     "Write the comparison out: a < c OR (a = c AND b < d).", nullptr},
    {Construct::row_comparison_nulls, "IS DISTINCT FROM over rows by users' operators", "any expression",
     "comparing rows by operators that are not PostgreSQL's own cannot be stored", "Compare the fields one by one.",
     nullptr},
    {Construct::volatile_function, "a volatile function", "any expression", "function %s is volatile",
     "Compute the value when the source row is written, in a column of the source.", nullptr},
    {Construct::stable_function, "a user's STABLE function", "any expression",
     "function %s is STABLE, so its result may change without a source row changing",
     "Declare the function IMMUTABLE if its result depends on its arguments only.", nullptr},
    {Construct::changing_function, "a function of the clock, the session or the catalog", "any expression",
     "the result of %s changes without a source row changing",
     "Leave it out of the definition and apply it when reading, in a view over the "
     "projection.",
     nullptr},
    {Construct::clock_literal, "'now', 'today' and their like", "any expression",
     "'%s' means the moment at which the query is analyzed",
     "Write the date itself, or apply the condition in a view over the projection.", nullptr},
    {Construct::session_value, "CURRENT_DATE, CURRENT_USER and their like", "any expression",
     "the clock and the session's user change without a source row changing",
     "Leave it out of the definition and apply it when reading, in a view over the "
     "projection.",
     nullptr},
    {Construct::clock_cast, "text cast to a date or time", "any expression", "%s",
     "Write to_date(text, format), to_timestamp(text, format), make_date(…), "
     "make_timestamp(…) or make_time(…), which take no such words; or store the value in "
     "a column of its type.",
     nullptr},
    {Construct::sequence, "nextval of an identity", "any expression", "it draws from a sequence", nullptr, nullptr},
    {Construct::cursor, "CURRENT OF", "WHERE", "it names a cursor", nullptr, nullptr},
    {Construct::unhashable_key, "a key that cannot be sorted and hashed", "GROUP BY, primary keys",
     "type %s of key column \"%s\" cannot be sorted and hashed",
     "Cast the key to a type that can, such as text or jsonb.", nullptr},
    {Construct::no_column, "no column", "SELECT", "it returns no column", "Name the columns to return.", nullptr},
    {Construct::unnamed_columns, "columns without names", "SELECT", "two columns have no name",
     "Give each column a name of its own with AS.", nullptr},
    {Construct::repeated_column, "a column name twice", "SELECT", "two columns are named \"%s\"",
     "Give each column a name of its own with AS.", nullptr},
    {Construct::reserved_column, "a system column's name", "SELECT", "every table has a system column \"%s\"",
     "Give the column another name with AS.", nullptr},
    {Construct::untyped_column, "a pseudo-type", "SELECT", "column \"%s\" is of type %s, which no table can hold",
     "Cast it to another type, such as text.", nullptr},
    {Construct::row_column, "an anonymous row", "SELECT", "column \"%s\" is of type %s, which no table can hold",
     "Return the fields as columns of their own, or cast the row to a composite type.", nullptr},
    {Construct::too_many_columns, "more columns than a table has", "SELECT", "it needs too many columns", what_works,
     nullptr},
    {Construct::too_many_group_columns, "a wide key", "GROUP BY", "its key has %s columns, and an index can have %s",
     "Group by fewer columns: by the key of a table, join the other columns to it in a "
     "view over the projection; or by one value made of several, such as "
     "jsonb_build_array(…).",
     nullptr},
    {Construct::too_many_key_columns, "many tables' primary keys", "FROM",
     "its key has %s columns, and an index can have %s",
     "Join fewer tables, or make a part of the join a projection of its own.", nullptr},
};

constexpr bool is_in_order() {
    for (std::size_t i = 0; i < std::size(table); i++)
        if (static_cast<std::size_t>(table[i].construct) != i) return false;
    return true;
}
static_assert(is_in_order());

} // namespace

std::span<const Refusal> refusals() { return table; }
const Refusal &refusal(Construct construct) { return table[static_cast<std::size_t>(construct)]; }

void Place::raise(const char *reason, int location, const char *hint) const {
    const char *piece = at(location);
    ereport(ERROR, (errcode(pg::error::unsupported_query), errmsg("this query cannot be a projection: %s", reason),
                    piece ? errdetail("At character %d: %s", pg_mbstrlen_with_len(text, location) + 1, piece) : 0,
                    hint ? errhint("%s", hint) : 0));
    pg_unreachable();
}

} // namespace compile
