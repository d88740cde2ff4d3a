// Inline reducers and state machines, at the flush.
//
// Events wait in the transaction's delta until the flush, as changes of query projections do, and the keys of all of
// them are locked in one order before any is read: writers of several keys do not deadlock, whatever the order of their
// events. (test/isolation/specs/inline_keys.spec) For state machines that is the end of each statement, which has to
// fail itself where an event is not allowed; there the order holds within a statement.
//
// Positions are drawn long before. Of two transactions that share keys, one may come with lower positions than those
// that are folded already, and where they share two keys no order of the two would help. Such a key is folded anew,
// from the events there are: the lock on the key says that those of whoever came before are visible. That holds for
// keys without a row, too, which may have lost it to a later event.
#include "catalog/settings.hpp"
#include "events/delivery.hpp"
#include "events/events.hpp"
#include "events/source.hpp"
#include "maintain/locks.hpp"
#include "maintain/maintaining.hpp"

namespace events {

constinit Refold refold_late = nullptr;

namespace {

using catalog::Projection;

constexpr std::size_t chunk_events = 5000;

struct Queue {
    Projection &projection;
    Tuplestorestate *rows;
    TupleTableSlot *slot;
    MemoryContext memory;
    KeyTable<int64> first;       // each key's lowest position
    KeyTable<bool> late;         // to be folded anew
    pg::vector<int64> positions; // ascending, once they are read
    bool ordered = true;         // as they were kept

    Queue(Projection &of, Tuplestorestate *kept, TupleDesc desc, MemoryContext in)
        : projection(of), rows(kept), slot(MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple)), memory(in), first(in),
          late(in) {
        slot->tts_tableOid = of.sources.front();
    }
};

std::string_view view(Datum text) {
    return {VARDATA_ANY(DatumGetPointer(text)), VARSIZE_ANY_EXHDR(DatumGetPointer(text))};
}

std::string_view copied(std::string_view key, MemoryContext memory) {
    auto *bytes = static_cast<char *>(MemoryContextAlloc(memory, key.size() + 1));
    memcpy(bytes, key.data(), key.size());
    return {bytes, key.size()};
}

Datum text_of(std::string_view key) {
    return PointerGetDatum(cstring_to_text_with_len(key.data(), static_cast<int>(key.size())));
}

// The next event that the feed lets through, in the current memory context.
bool next(Queue &queue, Event &event) {
    while (tuplestore_gettupleslot(queue.rows, true, false, queue.slot)) {
        event = Event{};
        if (deliver(delivery(queue.projection), queue.slot, event)) return true;
    }
    return false;
}

void note_keys(Queue &queue, const Event &event) {
    for (const Key &key : event.keys) {
        const int64 *known = queue.first.find(key.name);
        std::string_view name = known ? key.name : copied(key.name, queue.memory);
        int64 &lowest = queue.first.add(name, event.position);
        lowest = std::min(lowest, event.position);
    }
}

// As the owner.
void read_keys(Queue &queue) {
    MemoryContext scratch = AllocSetContextCreate(queue.memory, "queued event", ALLOCSET_DEFAULT_SIZES);
    tuplestore_rescan(queue.rows);
    for (bool more = true; more;) {
        CHECK_FOR_INTERRUPTS();
        Event event{};
        more = pg::within(scratch, [&] { return next(queue, event); });
        if (more) {
            queue.ordered &= queue.positions.empty() || queue.positions.back() < event.position;
            queue.positions.push_back(event.position);
            note_keys(queue, event);
        }
        MemoryContextReset(scratch);
    }
    std::sort(queue.positions.begin(), queue.positions.end());
}

Datum names_of(const Queue &queue) {
    pg::vector<Datum> names;
    queue.first.each([&](std::string_view key, int64) { names.push_back(text_of(key)); });
    return PointerGetDatum(
        construct_array(names.data(), static_cast<int>(names.size()), TEXTOID, -1, false, TYPALIGN_INT));
}

void lock(Queue &queue) {
    pg::vector<uint32> hashes;
    queue.first.each([&](std::string_view key, int64) {
        hashes.push_back(hash_bytes(reinterpret_cast<const unsigned char *>(key.data()), static_cast<int>(key.size())));
    });
    maintain::lock_keys(queue.projection.relation, hashes, maintain::most_reducer_keys);
}

[[noreturn]] void refuse_unseen(Projection &projection) {
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("could not serialize access to projection %s", projection.name()),
                    errdetail("A transaction that its snapshot does not see has made one of the keys."),
                    errhint("Retry the transaction.")));
}

// The keys' rows, against whoever sets a state by hand. Tells those that have come further than the events.
uint64 lock_rows(Queue &queue, Datum names, KeyTable<bool> &present) {
    static constexpr Oid types[] = {TEXTARRAYOID};
    Declared &known = declared(queue.projection);
    SPIPlanPtr plan =
        prepared_by_key(known.lock,
                        psprintf("SELECT key, position FROM %s WHERE key = ANY ($1) ORDER BY key FOR UPDATE",
                                 pg::qualified_name(queue.projection.relation)),
                        types);
    uint64 count = run(plan, &names, nullptr, Effect::write);
    for (uint64 i = 0; i < count; i++) {
        pg::Row row(i);
        std::string_view key = copied(view(PointerGetDatum(DatumGetTextPP(row.datum(1)))), queue.memory);
        present.add(key, true);
        const int64 *first = queue.first.find(key);
        if (first && row.bigint(2) >= *first) queue.late.add(key, true);
    }
    SPI_freetuptable(SPI_tuptable);
    return count;
}

// A repeatable snapshot does not see, and so cannot remove, what others have made since.
void refuse_newer(Queue &queue, Datum names, uint64 seen) {
    static constexpr Oid types[] = {TEXTARRAYOID};
    if (!IsolationUsesXactSnapshot()) return;
    SPIPlanPtr plan = prepared_by_key(
        declared(queue.projection).newer,
        psprintf("SELECT key FROM %s WHERE key = ANY ($1)", pg::qualified_name(queue.projection.relation)), types);
    uint64 now = 0;
    pg::with_snapshot(GetLatestSnapshot(), [&] { now = run(plan, &names, nullptr, Effect::read); });
    SPI_freetuptable(SPI_tuptable);
    if (now != seen) refuse_unseen(queue.projection);
}

// Of keys without a row: whether others' events of later positions are there. Those of this transaction are in the
// queue.
void find_removed(Queue &queue, const KeyTable<bool> &present) {
    static constexpr Oid types[] = {INT8OID};
    int64 from = PG_INT64_MAX;
    queue.first.each([&](std::string_view key, int64 position) {
        if (present.find(key) == nullptr) from = std::min(from, position);
    });
    if (from == PG_INT64_MAX) return;
    SPIPlanPtr plan = prepared_by_key(declared(queue.projection).removed,
                                      psprintf("SELECT position::bigint, keys FROM %s WHERE position > $1",
                                               pg::qualified_name(queue.projection.definition)),
                                      types);
    Datum after = Int64GetDatum(from);
    uint64 count = 0;
    pg::with_snapshot(GetLatestSnapshot(), [&] { count = run(plan, &after, nullptr, Effect::read); });
    for (uint64 i = 0; i < count; i++) {
        bool null;
        int64 position = pg::Row(i).bigint(1);
        Datum keys = pg::Row(i).datum(2, &null);
        if (null || std::binary_search(queue.positions.begin(), queue.positions.end(), position)) continue;
        for (const Key &key : keys_of(keys)) {
            const int64 *first = queue.first.find(key.name);
            if (first && *first < position && present.find(key.name) == nullptr)
                queue.late.add(copied(key.name, queue.memory), true);
        }
    }
    SPI_freetuptable(SPI_tuptable);
}

// Leaves the event with the keys that are not folded anew.
void leave_late(const Queue &queue, Event &event) {
    if (queue.late.empty()) return;
    auto *kept = static_cast<Key *>(palloc(sizeof(Key) * event.keys.size()));
    std::size_t count = 0;
    for (const Key &key : event.keys)
        if (queue.late.find(key.name) == nullptr) kept[count++] = key;
    event.keys = {kept, count};
}

// As the owner. What is not in order is applied in one chunk. Returns whether there is more.
bool read_chunk(Queue &queue, Chunk &chunk) {
    return pg::within(chunk.memory, [&] {
        Event event{};
        while (next(queue, event)) {
            leave_late(queue, event);
            if (!event.keys.empty()) chunk.events->push_back(event);
            if (queue.ordered && chunk.size() >= chunk_events) return true;
        }
        return false;
    });
}

void apply_chunks(Queue &queue) {
    Slot slot{queue.projection, 0, 1, 0};
    Batch &batch = *pg::make<Batch>(CurrentMemoryContext, slot, false);
    tuplestore_rescan(queue.rows);
    for (bool more = true; more;) {
        batch.chunk.clear();
        pg::as_owner(queue.projection.owner(), [&] { more = read_chunk(queue, batch.chunk); });
        pg::within(batch.scratch, [&] {
            order(*batch.chunk.events);
            apply(batch, 0, batch.chunk.size(), Pace::to_the_end);
        });
        MemoryContextReset(batch.scratch);
    }
}

// Asked at each flush, for it gets further by being asked, and is where a late key's fold goes on from.
void note_decided(Projection &projection) {
    const EventSource *source = event_source(projection.sources.front());
    if (source && sequence_problem(source->sequence) == nullptr) static_cast<void>(safe_position(*source));
}

void fold_late(Queue &queue) {
    if (queue.late.empty()) return;
    pg::vector<Datum> keys;
    int64 lowest = PG_INT64_MAX;
    queue.late.each([&](std::string_view key, bool) {
        keys.push_back(text_of(key));
        lowest = std::min(lowest, *queue.first.find(key));
    });
    refold_late(queue.projection, {keys.data(), keys.size()}, lowest);
}

// All as the owner.
void take_keys(Queue &queue) {
    read_keys(queue);
    if (queue.positions.empty()) return;
    lock(queue);
    CommandCounterIncrement();
    Datum names = names_of(queue);
    KeyTable<bool> present(queue.memory);
    uint64 seen = lock_rows(queue, names, present);
    refuse_newer(queue, names, seen);
    find_removed(queue, present);
}

} // namespace

void apply_queued(Projection &projection, Tuplestorestate *rows, TupleDesc desc) {
    named(projection, [&] {
        MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "queued events", ALLOCSET_DEFAULT_SIZES);
        pg::with_spi([&] {
            pg::within(memory, [&] {
                catalog::with_pinned(projection.settings, [&] {
                    Queue &queue = *pg::make<Queue>(memory, projection, rows, desc, memory);
                    pg::as_owner(projection.owner(), [&] { take_keys(queue); });
                    if (queue.positions.empty()) return;
                    note_decided(projection);
                    apply_chunks(queue);
                    fold_late(queue);
                });
            });
        });
        MemoryContextDelete(memory);
    });
}

} // namespace events
