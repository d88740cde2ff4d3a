// A group that lost rows may have lost what its row shows: its extremum, the look of its key, the digits of a sum. The
// row tells, once it is locked.
#include "maintain/judge.hpp"

#include "maintain/statements.hpp"

namespace maintain {

using capture::Cell;
using capture::Group;
using compile::Block;
using compile::State;
using compile::StateKind;

namespace {

int compare(const State &state, Datum a, Datum b) {
    return DatumGetInt32(FunctionCall2Coll(&state.compare, state.collation, a, b));
}

// Whether the delta takes the last row of the group whose locked row this is.
bool empties(const Block &block, const Group &group, const pg::Row &row) {
    bool null;
    Datum count = row.datum(block.row_count + 1, &null);
    return !null && DatumGetInt64(count) + group.cells[block.row_count].count <= 0;
}

// Whether rows with just that look of the key went: then another's may have to be shown. (Test: sql/keys.)
bool shows_lost_key(const Block &block, const Group &group, const pg::Row &row) {
    pg::vector<Datum> shown;
    for (std::size_t i = 0; i < block.row_key.size(); i++)
        shown.push_back(row.datum(static_cast<int>(block.states.size() + i + 1)));
    for (const capture::KeyImage *image = group.images; image; image = image->next) {
        bool same = image->net < 0;
        for (std::size_t i = 0; same && i < block.row_key.size(); i++)
            same = !block.row_key[i].told_apart || group.key_nulls[i] ||
                   datum_image_eq(shown[i], image->key[i], block.row_key[i].by_value, block.row_key[i].length);
        if (same) return true;
    }
    return false;
}

// Whether a sum becomes zero that may have lost its last value of more digits than zeros have. (Test: sql/aggregates)
bool loses_digits(const Block &block, const Group &group, const pg::Row &row) {
    if (!group.removed || !block.recompute_zeros) return false;
    Datum zero = DirectFunctionCall1(int4_numeric, Int32GetDatum(0));
    for (std::size_t i = 0; i < block.states.size(); i++) {
        if (!block.states[i].zero_tells_no_digits) continue;
        bool null;
        Datum old = row.datum(static_cast<int>(i + 1), &null), sum = total_delta(block.states[i], group.cells[i]);
        if (!null) sum = DirectFunctionCall2(numeric_add, old, sum);
        if (DatumGetBool(DirectFunctionCall2(numeric_eq, sum, zero))) return true;
    }
    return false;
}

} // namespace

Row judge_row(Taken &taken, const Group &group, Parameters &parameters) {
    const Block &block = taken.block;
    if (execute(taken.projection, Statement::lock, parameters) == 0) return Row::absent;
    if (block.recompute_on_removal || group.special) return Row::locked;
    pg::Row row;
    if (group.lost_image() && !empties(block, group, row) && shows_lost_key(block, group, row)) return Row::locked;
    if (loses_digits(block, group, row) && !empties(block, group, row)) return Row::locked;
    for (std::size_t i = 0; i < block.states.size(); i++) {
        const State &state = block.states[i];
        const Cell &cell = group.cells[i];
        if (state.kind != StateKind::extremum || !cell.has_removed) continue;
        // The extremum is known if a value beyond all that went stays: the old one, or one that came.
        auto beyond = [&](Datum value) {
            return state.is_max ? compare(state, value, cell.removed) > 0 : compare(state, value, cell.removed) < 0;
        };
        bool null;
        Datum old = row.datum(static_cast<int>(i + 1), &null);
        if (!(!null && beyond(old)) && !(cell.has_added && beyond(cell.added))) return Row::locked;
    }
    return Row::tells;
}

bool fragile(const Block &block, const Group &group) {
    return group.special || group.lost_image() ||
           (group.removed && (block.has_extremum || block.recompute_on_removal || block.recompute_zeros));
}

} // namespace maintain
