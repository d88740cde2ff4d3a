// State machines: reducers whose function is a table of transitions. A state is a JSON string.
#include "events/batch.hpp"
#include "pg/list.hpp"

namespace events {
namespace {

constinit SPIPlanPtr history_plan = nullptr;

// What a JSON string, or null, says.
const char *state_name(Datum state) {
    Jsonb *jsonb = DatumGetJsonbP(state);
    JsonbValue value;
    if (!JB_ROOT_IS_SCALAR(jsonb) || !JsonbExtractScalar(&jsonb->root, &value) || value.type != jbvString)
        return nullptr;
    return pnstrdup(value.val.string.val, value.val.string.len);
}

Datum state_datum(const char *name) {
    JsonbValue value;
    value.type = jbvString;
    value.val.string.val = const_cast<char *>(name);
    value.val.string.len = static_cast<int>(strlen(name));
    return JsonbPGetDatum(JsonbValueToJsonb(&value));
}

const char *allowed_in(const StateMachine &machine, const char *from) {
    pg::TextList text;
    std::string_view prefix(psprintf("%s\1", from ? from : ""));
    pg::vector<std::string_view> events;
    machine.next.each([&](std::string_view key, const char *) {
        if (key.starts_with(prefix)) events.push_back({key.data() + prefix.size(), key.size() - prefix.size()});
    });
    std::sort(events.begin(), events.end());
    for (std::string_view event : events) text.add("%.*s", static_cast<int>(event.size()), event.data());
    return !text.empty() ? text.text() : nullptr;
}

[[noreturn]] void refuse(catalog::Projection &projection, const StateMachine &machine, const Event &event,
                         const Key &key, const char *from) {
    const char *name = TextDatumGetCString(key.text), *allowed = allowed_in(machine, from);
    ereport(ERROR, (errcode(pg::error::invalid_transition),
                    errmsg("event \"%s\" is not allowed for \"%s\" in state %s", event.type ? event.type : "", name,
                           from ? psprintf("\"%s\"", from) : "nothing"),
                    allowed ? errdetail("State machine %s allows here: %s.", projection.name(), allowed)
                            : errdetail("State machine %s allows no event here.", projection.name()),
                    errhint("Skip the event, or set the state: SELECT projections.set_state(%s, %s, state, reason);",
                            quote_literal_cstr(projection.name()), quote_literal_cstr(name))));
    pg_unreachable();
}

Folded transition(catalog::Projection &projection, const StateMachine &machine, const Event &event, const Key &key,
                  const State &state) {
    const char *from = state.present ? state_name(state.value) : machine.initial;
    const char *to = event.type ? machine.after(from, event.type) : nullptr;
    if (to == nullptr) refuse(projection, machine, event, key, from);
    return Folded{state_datum(to), false, from, to};
}

} // namespace

Folded fold(catalog::Projection &projection, Declared &declared, Call *call, const Event &event, const Key &key,
            const State &state) {
    if (event.override_) return Folded{datumCopy(event.row, false, -1), false, nullptr, nullptr};
    if (declared.machine) return transition(projection, *declared.machine, event, key, state);
    ParamExternData *parameters = call->parameters->params;
    parameters[0].value = state.present ? state.value : declared.initial;
    parameters[0].isnull = !state.present && declared.initial_is_null;
    parameters[1].value = event.row;
    parameters[2].value = key.text;
    Folded folded{};
    folded.value = evaluate(*call, &folded.null);
    return folded;
}

void forget_expired(const Declared &declared, const Event &event, State &state) {
    const StateMachine *machine = declared.machine;
    if (!machine || !machine->retention || !state.present || !state.has_time || !event.has_time || event.override_)
        return;
    const char *name = state_name(state.value);
    bool ended = std::any_of(machine->terminal.begin(), machine->terminal.end(),
                             [&](const char *each) { return name && strcmp(each, name) == 0; });
    if (!ended) return;
    Datum gone = DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(state.time), machine->retention);
    if (DatumGetTimestampTz(gone) >= event.time) return;
    state.present = false;
    state.version = 0;
}

void write_transitions(catalog::Projection &projection, const pg::vector<Transition> &transitions) {
    if (transitions.empty()) return;
    static constexpr Oid types[] = {REGCLASSOID,  TEXTARRAYOID, TEXTARRAYOID,       TEXTARRAYOID,
                                    TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
    static constexpr Oid elements[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID};
    std::size_t count = transitions.size();
    Datum values[lengthof(types)] = {ObjectIdGetDatum(projection.relation)};
    auto array = [&](std::size_t which, auto &&value) {
        auto *datums = static_cast<Datum *>(palloc(sizeof(Datum) * count));
        auto *nulls = static_cast<bool *>(palloc0(sizeof(bool) * count));
        for (std::size_t i = 0; i < count; i++) datums[i] = value(transitions[i], nulls + i);
        int16 length;
        bool by_value;
        char align;
        get_typlenbyvalalign(elements[which], &length, &by_value, &align);
        int lower = 1, size = static_cast<int>(count);
        values[which + 1] = PointerGetDatum(
            construct_md_array(datums, nulls, 1, &size, &lower, elements[which], length, by_value, align));
    };
    auto text = [](const char *value, bool *null) {
        return (*null = value == nullptr) ? 0 : CStringGetTextDatum(value);
    };
    array(0, [](const Transition &each, bool *) { return each.key; });
    array(1, [&](const Transition &each, bool *null) { return text(each.from, null); });
    array(2, [&](const Transition &each, bool *null) { return text(each.event, null); });
    array(3, [&](const Transition &each, bool *null) { return text(each.to, null); });
    array(4, [](const Transition &each, bool *) { return Int64GetDatum(each.position); });
    array(5, [](const Transition &each, bool *null) {
        *null = !each.has_time;
        return TimestampTzGetDatum(each.time);
    });
    pg::as_superuser([&] {
        SPIPlanPtr plan = prepared(
            history_plan,
            "INSERT INTO projections_internal.transition (projection, key, from_state, event, to_state, position, "
            "event_time) "
            "SELECT $1, u.key, u.from_state, u.event, u.to_state, u.position, u.event_time FROM unnest($2, $3, $4, $5, "
            "$6, "
            "$7) WITH ORDINALITY AS u(key, from_state, event, to_state, position, event_time, n) ORDER BY u.n",
            types);
        run(plan, values, nullptr, Effect::write);
    });
}

} // namespace events
