// Reducers: states of keys, folded in memory, and written back by the chunk.
//
// The states of a chunk's keys are read by one statement. A failing event leaves them as they were before it: only the
// subtransaction is rolled back, and the fold goes on with the next event. CHECK constraints of the table are evaluated
// after each event, not only for the last state that is written, so that a projection does not depend on where its
// chunks ended.
#include "events/batch.hpp"

#include "maintain/maintaining.hpp"

namespace events {
namespace {

// The table's CHECK constraints, to be evaluated on states that are not written yet.
struct Checks {
    Relation table;
    EState *estate;
    ResultRelInfo *target;
    TupleTableSlot *slot;
};

// Columns that users added have values that only the executor computes.
bool has_only_ours(TupleDesc desc) {
    for (int i = reducer_columns; i < desc->natts; i++)
        if (!TupleDescAttr(desc, i)->attisdropped) return false;
    return true;
}

Checks open_checks(Oid relation) {
    Checks checks{};
    checks.table = table_open(relation, RowExclusiveLock);
    TupleConstr *constraints = RelationGetDescr(checks.table)->constr;
    if (constraints == nullptr || constraints->num_check == 0 || !has_only_ours(RelationGetDescr(checks.table)))
        return checks;
    checks.estate = CreateExecutorState();
    checks.target = makeNode(ResultRelInfo);
    InitResultRelInfo(checks.target, checks.table, 0, nullptr, 0);
    checks.slot = MakeSingleTupleTableSlot(RelationGetDescr(checks.table), &TTSOpsVirtual);
    return checks;
}

void close_checks(Checks &checks) {
    if (checks.estate) {
        ExecDropSingleTupleTableSlot(checks.slot);
        FreeExecutorState(checks.estate);
    }
    table_close(checks.table, NoLock);
}

// Checks over such columns are left to the table, which then has to be written after each event.
bool is_written_singly(Oid relation) {
    Relation table = table_open(relation, AccessShareLock);
    TupleConstr *constraints = RelationGetDescr(table)->constr;
    bool singly = constraints && constraints->num_check > 0 && !has_only_ours(RelationGetDescr(table));
    table_close(table, AccessShareLock);
    return singly;
}

void check_state(Checks &checks, const State &state) {
    if (checks.estate == nullptr || !state.present) return;
    TupleTableSlot *slot = ExecClearTuple(checks.slot);
    std::fill_n(slot->tts_isnull, slot->tts_tupleDescriptor->natts, true);
    Datum values[] = {state.key, state.value, Int64GetDatum(state.version), Int64GetDatum(state.position),
                      TimestampTzGetDatum(state.time)};
    for (int i = 0; i < reducer_columns; i++) {
        slot->tts_values[i] = values[i];
        slot->tts_isnull[i] = false;
    }
    slot->tts_isnull[reducer_columns - 1] = !state.has_time;
    ExecStoreVirtualTuple(slot);
    ExecConstraints(checks.target, slot, checks.estate);
    ResetPerTupleExprContext(checks.estate);
}

struct Folding {
    MemoryContext memory;
    KeyTable<int> index;
    pg::vector<State> states;
    pg::vector<Transition> transitions;

    explicit Folding(MemoryContext of) : memory(of), index(of) {}
    State &state(const Key &key) { return states[*index.find(key.name)]; }
};

std::string_view view(Datum text) {
    return {VARDATA_ANY(DatumGetPointer(text)), VARSIZE_ANY_EXHDR(DatumGetPointer(text))};
}

void collect_keys(Batch &batch, Folding &work, std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; i++)
        for (const Key &key : batch.chunk[i].keys) {
            bool added;
            work.index.add(key.name, static_cast<int>(work.states.size()), &added);
            if (added) work.states.push_back(State{key.text, 0, false, false, false, 0, 0, 0, false});
        }
}

Datum keys_datum(const pg::vector<State> &states) {
    auto *keys = static_cast<Datum *>(palloc(sizeof(Datum) * std::max<std::size_t>(states.size(), 1)));
    for (std::size_t i = 0; i < states.size(); i++) keys[i] = states[i].key;
    return PointerGetDatum(construct_array(keys, static_cast<int>(states.size()), TEXTOID, -1, false, TYPALIGN_INT));
}

// A row (key, state, version, position, updated_at) of the last statement.
void take_row(State &state, uint64 row) {
    pg::Row found(row);
    bool null;
    auto value = [&](ReducerColumn which) { return found.datum(static_cast<int>(which), &null); };
    Datum time = value(ReducerColumn::updated_at);
    state.has_time = !null;
    state.time = null ? 0 : DatumGetTimestampTz(time);
    state.version = DatumGetInt64(value(ReducerColumn::version));
    state.position = DatumGetInt64(value(ReducerColumn::position));
    state.value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value(ReducerColumn::state)));
    state.present = state.exists = true;
}

void read_states(Batch &batch, Folding &work) {
    static constexpr Oid types[] = {TEXTARRAYOID};
    SPIPlanPtr plan =
        prepared_by_key(batch.declared.states,
                        psprintf("SELECT key, state, version, position, updated_at FROM %s WHERE key = ANY ($1)",
                                 pg::qualified_name(batch.projection.relation)),
                        types);
    Datum keys = keys_datum(work.states);
    CommandCounterIncrement();
    pg::with_snapshot(GetLatestSnapshot(), [&] { run(plan, &keys, nullptr, Effect::read); });
    pg::within(work.memory, [&] {
        for (uint64 i = 0; i < SPI_processed; i++) {
            Datum key = pg::Row(i).datum(1);
            take_row(work.states[*work.index.find(view(PointerGetDatum(DatumGetTextPP(key))))], i);
        }
    });
    SPI_freetuptable(SPI_tuptable);
}

// The states of all the event's keys change, or none.
void fold_event(Batch &batch, Folding &work, Call *call, Checks &checks, const Event &event) {
    boost::container::small_vector<State, 4, pg::Allocator<State>> next;
    boost::container::small_vector<Transition, 4, pg::Allocator<Transition>> made;
    for (const Key &key : event.keys) {
        State state = work.state(key);
        forget_expired(batch.declared, event, state);
        Folded folded = pg::within(work.memory, [&] {
            Folded result = fold(batch.projection, batch.declared, call, event, key, state);
            if (!result.null && !result.to && !event.override_)
                result.value = PointerGetDatum(PG_DETOAST_DATUM_COPY(result.value));
            return result;
        });
        // A state set by hand before the first event is come by again with it.
        bool repeated = event.override_ && state.present && datum_image_eq(state.value, folded.value, false, -1);
        state.value = folded.value;
        state.present = !folded.null;
        state.changed = true;
        state.version = state.present ? state.version + (repeated ? 0 : 1) : 0;
        state.position = std::max(state.position, event.position);
        state.time = event.time;
        state.has_time = event.has_time;
        check_state(checks, state);
        next.push_back(state);
        if (folded.to && !event.override_)
            made.push_back(
                Transition{key.text, folded.from, event.type, folded.to, event.position, event.time, event.has_time});
    }
    for (std::size_t i = 0; i < event.keys.size(); i++) {
        State &state = work.state(event.keys[i]);
        // Hot keys would otherwise keep every state between.
        if (state.present && state.value && state.value != next[i].value) pfree(DatumGetPointer(state.value));
        state = next[i];
    }
    for (const Transition &transition : made) work.transitions.push_back(transition);
}

struct Columns {
    Datum *values[reducer_columns];
    bool *nulls;
    int count = 0;

    explicit Columns(std::size_t room) {
        for (Datum *&each : values) each = static_cast<Datum *>(palloc(sizeof(Datum) * room));
        nulls = static_cast<bool *>(palloc0(sizeof(bool) * room));
    }
    void add(const State &state) {
        Datum row[] = {state.key, state.value, Int64GetDatum(state.version), Int64GetDatum(state.position),
                       TimestampTzGetDatum(state.time)};
        for (int i = 0; i < reducer_columns; i++) values[i][count] = row[i];
        nulls[count++] = !state.has_time;
    }
    Datum array(int which, Oid type) const {
        int16 length;
        bool by_value;
        char align;
        get_typlenbyvalalign(type, &length, &by_value, &align);
        int lower = 1, size = count;
        return PointerGetDatum(construct_md_array(values[which], which == reducer_columns - 1 ? nulls : nullptr, 1,
                                                  &size, &lower, type, length, by_value, align));
    }
};

void upsert(catalog::Projection &projection, Declared &declared, const Columns &rows) {
    static constexpr Oid types[] = {TEXTARRAYOID, JSONBARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
    static constexpr Oid elements[] = {TEXTOID, JSONBOID, INT8OID, INT8OID, TIMESTAMPTZOID};
    SPIPlanPtr plan = prepared_by_key(
        declared.upsert,
        psprintf("INSERT INTO %s (key, state, version, position, updated_at) SELECT * FROM unnest($1, $2, $3, "
                 "$4, $5) ON CONFLICT (key) DO UPDATE SET state = excluded.state, version = "
                 "excluded.version, position = excluded.position, updated_at = excluded.updated_at",
                 pg::qualified_name(projection.relation)),
        types);
    Datum values[reducer_columns];
    for (int i = 0; i < reducer_columns; i++) values[i] = rows.array(i, elements[i]);
    run(plan, values, nullptr, Effect::write);
}

void remove_keys(catalog::Projection &projection, Declared &declared, const pg::vector<State> &states) {
    static constexpr Oid types[] = {TEXTARRAYOID};
    SPIPlanPtr plan = prepared_by_key(
        declared.remove, psprintf("DELETE FROM %s WHERE key = ANY ($1)", pg::qualified_name(projection.relation)),
        types);
    Datum keys = keys_datum(states);
    run(plan, &keys, nullptr, Effect::write);
}

void write_states(Batch &batch, Folding &work) {
    Columns rows(work.states.size() + 1);
    pg::vector<State> gone;
    for (const State &state : work.states) {
        if (!state.changed) continue;
        if (state.present)
            rows.add(state);
        else if (state.exists)
            gone.push_back(state);
    }
    maintain::writing_as(batch.projection.relation, [&] {
        if (!gone.empty()) remove_keys(batch.projection, batch.declared, gone);
        if (rows.count) upsert(batch.projection, batch.declared, rows);
    });
    write_transitions(batch.projection, work.transitions);
    flush_written();
}

struct Course {
    std::size_t at;  // the event that is being folded; `end` when all are
    std::size_t end; // where the deadline ends it
    bool read = false;
};

void fold_each(Batch &batch, Folding &work, Course &course, Pace pace) {
    Call call{};
    if (!batch.declared.machine) call = call_of(batch.projection, batch.declared);
    Checks checks = open_checks(batch.projection.relation);
    if (!course.read) {
        read_states(batch, work);
        course.read = true;
    }
    std::size_t first = course.at;
    for (; course.at < course.end; course.at++) {
        if (pace == Pace::until_deadline && (shared::settled_overrun() || (course.at > first && batch.late()))) {
            course.end = course.at;
            break;
        }
        CHECK_FOR_INTERRUPTS();
        Event &event = batch.chunk[course.at];
        if (event.outcome == Outcome::failed || event.keys.empty()) continue;
        if (!event.override_ && parks(batch, event)) continue;
        if (batch.recording) begin_event_timeout(batch.slot, event.position, batch.declared.event_timeout);
        fold_event(batch, work, call.state ? &call : nullptr, checks, event);
        end_event_timeout();
        if (call.state) ResetExprContext(call.context);
    }
    close_checks(checks);
    write_states(batch, work);
}

ErrorData *attempt_fold(Batch &batch, Folding &work, Course &course, Pace pace) {
    auto body = [&] {
        MemoryContext memory = AllocSetContextCreate(batch.chunk.memory, "fold", ALLOCSET_DEFAULT_SIZES);
        pg::within(memory, [&] {
            pg::as_owner(batch.projection.owner(), [&] {
                pg::with_snapshot(GetLatestSnapshot(), [&] { fold_each(batch, work, course, pace); });
            });
        });
        MemoryContextDelete(memory);
    };
    if (batch.recording) return attempt(body);
    body();
    return nullptr;
}

} // namespace

std::size_t apply_to_reducer(Batch &batch, std::size_t from, std::size_t to, Pace pace) {
    check_stack_depth();
    if (to - from > 1 && is_written_singly(batch.projection.relation)) {
        std::size_t reached = from;
        while (reached < to && (reached == from || pace == Pace::to_the_end || !batch.late()) && !batch.stopped &&
               apply_to_reducer(batch, reached, reached + 1, Pace::to_the_end) > reached)
            reached++;
        return reached;
    }
    while (from < to) {
        MemoryContext memory = AllocSetContextCreate(batch.chunk.memory, "states", ALLOCSET_DEFAULT_SIZES);
        Folding &work = *pg::make<Folding>(memory, memory);
        pg::within(memory, [&] { collect_keys(batch, work, from, to); });
        Course course{from, to};
        ErrorData *error;
        while ((error = attempt_fold(batch, work, course, pace)) && course.at < course.end) {
            fail(batch, batch.chunk[course.at], error);
            if (batch.stopped)
                course.end = course.at; // what came before it is still to be written
            else
                course.at++;
        }
        MemoryContextDelete(memory);
        if (error == nullptr) {
            for (std::size_t i = from; i < course.end; i++) {
                Event &event = batch.chunk[i];
                if (event.outcome == Outcome::failed) continue;
                bool parked = !event.override_ && !event.keys.empty() && parks(batch, event);
                event.outcome = parked ? Outcome::parked : Outcome::applied;
            }
            return course.end;
        }
        // The table refused the states, as by a unique index or a trigger of a user's. Halves tell whose it is.
        if (course.end - from > 1) {
            std::size_t middle = from + (course.end - from) / 2;
            std::size_t reached = apply_to_reducer(batch, from, middle, Pace::to_the_end);
            if (reached < middle) return reached;
            from = middle;
            continue;
        }
        fail(batch, batch.chunk[from], error);
        if (batch.stopped) return from;
        from++;
    }
    return from;
}

} // namespace events
