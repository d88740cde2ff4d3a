// A cache by projection, each entry in memory of its own with the plans that belong to it. A batch further up the stack
// may use an entry that is outdated: it is freed with the transaction.
#include "events/declared.hpp"

#include "events/failure.hpp"
#include "pg/plan.hpp"

namespace events {
namespace {

constinit pg::flat_map<Oid, Declared *> *known = nullptr;

const char *machine_key(const char *from, const char *event) { return psprintf("%s\1%s", from ? from : "", event); }

void free_plans(void *argument) {
    auto *declared = static_cast<Declared *>(argument);
    for (SPIPlanPtr plan : {declared->read, declared->read_slot, declared->read_at, declared->read_of,
                            declared->read_positions, declared->states, declared->upsert, declared->remove,
                            declared->lock, declared->newer, declared->removed, declared->expire})
        if (plan) SPI_freeplan(plan);
}

Datum datum_of(MemoryContext memory, int column, int length, bool *null) {
    Datum value = pg::Row().datum(column, null);
    if (*null) return 0;
    return pg::within(memory, [&] { return datumCopy(value, false, length); });
}

StateMachine *read_machine(MemoryContext memory, Oid relation) {
    auto *machine = pg::make<StateMachine>(memory, memory);
    const char *sql = psprintf(
        "SELECT s.key, e.key, e.value FROM projections_internal.projection p, pg_catalog.jsonb_each(p.transitions) s, "
        "pg_catalog.jsonb_each_text(s.value) e WHERE p.relation = %u::pg_catalog.regclass",
        relation);
    pg::spi_execute(sql);
    for (uint64 i = 0; i < SPI_processed; i++) {
        auto column = [&](int number) { return pg::Row(i).text(number, memory); };
        const char *place = MemoryContextStrdup(memory, machine_key(column(1), column(2)));
        machine->next.add(place, column(3));
    }
    pg::spi_execute(
        psprintf("SELECT p.options->>'initial', (p.options->>'retention')::interval, t.name FROM "
                 "projections_internal.projection p "
                 "LEFT JOIN LATERAL pg_catalog.jsonb_array_elements_text(p.options->'terminal') AS t(name) ON true "
                 "WHERE p.relation = %u::pg_catalog.regclass",
                 relation));
    bool null;
    machine->initial = pg::Row().text(1, memory);
    machine->retention = datum_of(memory, 2, sizeof(Interval), &null);
    for (uint64 i = 0; i < SPI_processed; i++)
        if (const char *name = pg::Row(i).text(3, memory)) machine->terminal.push_back(name);
    return machine;
}

OnFailure on_failure_of(const char *name) {
    if (name && strcmp(name, "skip") == 0) return OnFailure::skip;
    if (name && strcmp(name, "stop") == 0) return OnFailure::stop;
    return OnFailure::park_key;
}

Declared *read(catalog::Projection &projection) {
    MemoryContext memory = AllocSetContextCreate(CacheMemoryContext, "declared projection", ALLOCSET_SMALL_SIZES);
    auto *made = static_cast<Declared *>(MemoryContextAllocZero(memory, sizeof(Declared)));
    made->memory = memory;
    made->made_at = catalog::generation();
    made->row_type = get_rel_type_id(projection.sources.front());
    auto read_row = [&] {
        pg::spi_execute(psprintf("SELECT function, initial, options->>'on_failure', "
                                 "(1000 * pg_catalog.extract('epoch', (options->>'event_timeout')::interval))::integer "
                                 "FROM projections_internal.projection WHERE relation = %u::pg_catalog.regclass",
                                 projection.relation));
        if (SPI_processed != 1) elog(ERROR, "projection %s is not in the catalog", projection.name());
        pg::Row row;
        made->function = row.text(1, memory);
        made->initial = datum_of(memory, 2, -1, &made->initial_is_null);
        made->on_failure = on_failure_of(row.text(3));
        made->event_timeout = row.is_null(4) ? event_timeout : row.integer(4);
        if (projection.kind == catalog::Kind::state_machine)
            made->machine = pg::within(memory, [&] { return read_machine(memory, projection.relation); });
    };
    pg::with_spi([&] { pg::as_superuser(read_row); });
    return made;
}

} // namespace

const char *StateMachine::after(const char *from, const char *event) const {
    const char *const *found = next.find(machine_key(from, event));
    return found ? *found : nullptr;
}

Declared &declared(catalog::Projection &projection) {
    if (known == nullptr) known = pg::make<pg::flat_map<Oid, Declared *>>(CacheMemoryContext);
    auto found = known->find(projection.relation);
    if (found != known->end() && found->second->made_at == catalog::generation()) {
        if (found->second->made_at) return *found->second;
    }
    Declared *made = read(projection);
    auto *callback =
        static_cast<MemoryContextCallback *>(MemoryContextAlloc(made->memory, sizeof(MemoryContextCallback)));
    callback->func = free_plans;
    callback->arg = made;
    MemoryContextRegisterResetCallback(made->memory, callback);
    found = known->find(projection.relation);
    if (found == known->end()) {
        known->emplace(projection.relation, made);
    } else {
        // A batch further up the stack may use it.
        MemoryContextSetParent(found->second->memory, TopTransactionContext);
        found->second = made;
    }
    return *made;
}

SPIPlanPtr prepared(SPIPlanPtr &place, const char *sql, std::span<const Oid> types, int cursor_options) {
    if (place) return place;
    ereport(DEBUG1, (errmsg_internal("%s", sql), errhidestmt(true)));
    SPIPlanPtr plan =
        pg::spi_prepare_cursor(sql, static_cast<int>(types.size()), const_cast<Oid *>(types.data()), cursor_options);
    if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    SPI_keepplan(plan);
    return place = plan;
}

SPIPlanPtr prepared_by_key(SPIPlanPtr &place, const char *sql, std::span<const Oid> types) {
    bool fresh = place == nullptr;
    return pg::planned_by_index(prepared(place, sql, types, CURSOR_OPT_GENERIC_PLAN), fresh);
}

uint64 run(SPIPlanPtr plan, const Datum *values, const char *nulls, Effect effect) {
    int code = SPI_execute_plan(plan, const_cast<Datum *>(values), nulls, effect == Effect::read, 0);
    if (code < 0) elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(code));
    return SPI_processed;
}

} // namespace events
