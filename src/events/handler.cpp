// Handlers: a function of the user's, called once per event.
#include "events/batch.hpp"

#include "capture/pending.hpp"
#include "events/confinement.hpp"
#include "maintain/flush.hpp"

namespace events {
namespace {

Param *parameter(int number, Oid type) {
    Param *made = makeNode(Param);
    made->paramkind = PARAM_EXTERN;
    made->paramid = number;
    made->paramtype = type;
    made->paramtypmod = -1;
    made->paramcollid = get_typcollation(type);
    made->location = -1;
    return made;
}

// How far an attempt at some events came.
struct Course {
    std::size_t at;  // the event that is being applied; `end` after all calls
    std::size_t end; // where the deadline ends it
};

void call_each(Batch &batch, Course &course, Pace pace) {
    Call call = call_of(batch.projection, batch.declared);
    std::size_t first = course.at;
    for (; course.at < course.end; course.at++) {
        if (pace == Pace::until_deadline && (shared::settled_overrun() || (course.at > first && batch.late()))) {
            course.end = course.at;
            break;
        }
        CHECK_FOR_INTERRUPTS();
        Event &event = batch.chunk[course.at];
        if (event.outcome == Outcome::failed || event.keys.empty() || parks(batch, event)) continue;
        call.parameters->params[0].value = event.row;
        if (confinement) confinement->position = event.position;
        bool null;
        if (batch.recording) begin_event_timeout(batch.slot, event.position, batch.declared.event_timeout);
        evaluate(call, &null);
        end_event_timeout();
        ResetExprContext(call.context);
    }
}

// An error leaves the flag up: whoever catches it puts it down.
void call_confined(Batch &batch, Course &course, Pace pace) {
    if (confinement) confinement->calling = true;
    call_each(batch, course, pace);
    if (confinement) confinement->calling = false;
    flush_written();
}

void settle(Batch &batch, std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; i++) {
        Event &event = batch.chunk[i];
        if (event.outcome == Outcome::failed) continue;
        event.outcome = !event.keys.empty() && parks(batch, event) ? Outcome::parked : Outcome::applied;
    }
}

ErrorData *attempt_calls(Batch &batch, Course &course, Pace pace) {
    auto body = [&] {
        // What the functions' statements allocate ends with the chunk.
        MemoryContext memory = AllocSetContextCreate(batch.chunk.memory, "calls", ALLOCSET_DEFAULT_SIZES);
        pg::within(memory, [&] {
            pg::as_owner(batch.projection.owner(),
                         [&] { pg::with_snapshot(GetLatestSnapshot(), [&] { call_confined(batch, course, pace); }); });
        });
        MemoryContextDelete(memory);
    };
    if (!batch.recording) {
        body();
        return nullptr;
    }
    ErrorData *error = attempt(body);
    if (confinement) confinement->calling = false;
    raise_breach(); // not the event's fault
    return error;
}

} // namespace

Call call_of(catalog::Projection &projection, Declared &declared) {
    Oid function = DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(declared.function)));
    bool handler = projection.kind == catalog::Kind::handler;
    List *arguments = handler
                          ? list_make1(parameter(1, declared.row_type))
                          : list_make3(parameter(1, JSONBOID), parameter(2, declared.row_type), parameter(3, TEXTOID));
    FuncExpr *expression = makeFuncExpr(function, handler ? VOIDOID : JSONBOID, arguments, InvalidOid,
                                        handler ? InvalidOid : DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
    Call call{};
    call.parameters = makeParamList(handler ? 1 : 3);
    for (int i = 0; i < call.parameters->numParams; i++) {
        call.parameters->params[i].ptype = reinterpret_cast<Param *>(list_nth(arguments, i))->paramtype;
        call.parameters->params[i].isnull = false;
    }
    call.context = CreateStandaloneExprContext();
    call.context->ecxt_param_list_info = call.parameters;
    // The function may be called, or inlined, when the call is planned.
    pg::as_owner(projection.owner(),
                 [&] { call.state = ExecInitExpr(expression_planner(reinterpret_cast<Expr *>(expression)), nullptr); });
    return call;
}

Datum evaluate(Call &call, bool *null) { return ExecEvalExprSwitchContext(call.state, call.context, null); }

void flush_written() {
    if (capture::anything_pending()) maintain::flush_for_any_read();
}

std::size_t apply_to_handler(Batch &batch, std::size_t from, std::size_t to, Pace pace) {
    check_stack_depth();
    while (from < to) {
        Course course{from, to};
        ErrorData *error = attempt_calls(batch, course, pace);
        if (error == nullptr) {
            settle(batch, from, course.end);
            return course.end;
        }
        bool after_calls = course.at == course.end;
        if (after_calls && course.end - from > 1) {
            // As by a projection over the tables. Halves tell whose it is.
            std::size_t middle = from + (course.end - from) / 2;
            std::size_t reached = apply_to_handler(batch, from, middle, Pace::to_the_end);
            if (reached < middle) return reached;
            from = middle;
            continue;
        }
        std::size_t failed = after_calls ? from : course.at;
        std::size_t reached = apply_to_handler(batch, from, failed, Pace::to_the_end);
        if (reached < failed) return reached;
        fail(batch, batch.chunk[failed], error);
        if (batch.stopped) return failed;
        from = failed + 1;
    }
    return from;
}

std::size_t apply(Batch &batch, std::size_t from, std::size_t to, Pace pace) {
    std::size_t reached = from;
    while_calling_users([&] {
        reached = batch.projection.kind == catalog::Kind::handler ? apply_to_handler(batch, from, to, pace)
                                                                  : apply_to_reducer(batch, from, to, pace);
    });
    return reached;
}

} // namespace events
