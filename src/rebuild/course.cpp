// The courses.
#include "rebuild/course.hpp"

#include "rebuild/exchange.hpp"
#include "rebuild/fill.hpp"
#include "rebuild/handler.hpp"
#include "rebuild/replay.hpp"

namespace rebuild {
namespace {

// What reads tables: its definition is copied, and its change log applied.
constexpr Course copied{.fill = {wait_for_writers, copy, build_indexes, catch_up},
                        .follow = follow_log,
                        .is_complete = has_all_indexes,
                        .complete = build_indexes,
                        .hold_still = hold_fed_alike,
                        .apply_rest = apply_rest_of_log,
                        .lock = lock_pair,
                        .exchange = exchange};

void make_complete(Rebuild &rebuild) {
    enter(rebuild, "indexing");
    step(rebuild, [&] { complete_tables(rebuild); });
}

// What reads events: they are applied again, into tables like the live ones.
constexpr Course replayed{.fill = {make_complete, replay},
                          .follow = replay_more,
                          .is_complete = tables_are_complete,
                          .complete = make_complete,
                          .hold_still = hold_events_still,
                          .apply_rest = replay_to_live,
                          .lock = lock_tables,
                          .exchange = exchange_replayed};

constexpr Course with(Course course, void (*lock)(Rebuild &), void (*exchange)(Rebuild &)) {
    course.lock = lock;
    course.exchange = exchange;
    return course;
}

constexpr Course altered(Course course) {
    course = with(course, lock_pair, exchange_altered);
    course.hold_still = hold_fed_otherwise;
    return course;
}

constexpr Course merged = with(replayed, nullptr, merge_replayed);
constexpr Course copied_altered = altered(copied);
// One table, whose columns are not the live one's.
constexpr Course replayed_altered = [] {
    Course course = altered(replayed);
    course.fill[0] = course.complete = build_indexes;
    course.is_complete = has_all_indexes;
    return course;
}();

} // namespace

const Course &course_of(Rebuild &rebuild) {
    if (rebuild.alteration) return replays(rebuild) ? replayed_altered : copied_altered;
    if (rebuild.merges) return merged;
    return replays(rebuild) ? replayed : copied;
}

} // namespace rebuild
