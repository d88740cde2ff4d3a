// Terms are run one after the other, each under the snapshot that the flush has taken after its locks, and their rows
// folded or collected.
#include "maintain/changes.hpp"

#include "maintain/chains.hpp"
#include "maintain/presence_keys.hpp"
#include "maintain/statements.hpp"
#include "pg/scope.hpp"

namespace maintain {

using compile::Block;

namespace {

struct Receiver {
    DestReceiver base;
    Receive receive;
    void *context;
};

bool receive_slot(TupleTableSlot *slot, DestReceiver *self) {
    auto *receiver = reinterpret_cast<Receiver *>(self);
    receiver->receive(slot, receiver->context);
    return true;
}

void start(DestReceiver *, int, TupleDesc) {}
void stop(DestReceiver *) {}

} // namespace

RowHash RowHash::of(MinimalTuple row) {
    auto *bytes = reinterpret_cast<unsigned char *>(row);
    auto size = static_cast<int>(row->t_len);
    return {DatumGetUInt64(hash_any_extended(bytes, size, 1)), DatumGetUInt64(hash_any_extended(bytes, size, 2))};
}

void Fingerprint::add(MinimalTuple row, int64 weight) {
    RowHash hash = RowHash::of(row);
    low += static_cast<uint64>(weight) * hash.low;
    high += static_cast<uint64>(weight) * hash.high;
}

void add_image(Images &images, MinimalTuple row, int64 weight) {
    struct Slot {
        RowHash key;
        std::size_t position;
    };
    RowHash key = RowHash::of(row);
    bool found;
    auto *slot = static_cast<Slot *>(hash_search(images.index, &key, HASH_ENTER, &found));
    if (found) {
        images.list[slot->position].net += weight;
        return;
    }
    slot->position = images.list.size();
    pg::within(images.memory, [&] {
        auto *copy = static_cast<MinimalTuple>(palloc(row->t_len));
        memcpy(copy, row, row->t_len);
        images.list.push_back({copy, weight});
    });
}

MinimalTuple image_of(TupleTableSlot *row, TupleDesc desc) {
    Datum values[MaxTupleAttributeNumber];
    for (int i = 0; i < desc->natts; i++) {
        bool may_be_toasted = TupleDescAttr(desc, i)->attlen == -1 && !row->tts_isnull[i];
        values[i] = may_be_toasted ? PointerGetDatum(PG_DETOAST_DATUM_PACKED(row->tts_values[i])) : row->tts_values[i];
    }
    return pg::form_minimal_tuple(desc, values, row->tts_isnull);
}

namespace {

struct Sink { // where the rows of a term go
    Taken *taken;
    int columns; // before the weights
    bool keep;   // false: only the fingerprint
    bool fingerprinted;
    Fingerprint fingerprint;
    TupleDesc desc;
    int64 rows = 0;
};

void receive_change(TupleTableSlot *row, void *context) {
    auto &sink = *static_cast<Sink *>(context);
    slot_getallattrs(row);
    int64 weight = 1;
    for (int i = sink.columns; i < row->tts_tupleDescriptor->natts; i++) weight *= DatumGetInt64(row->tts_values[i]);
    if (weight == 0) return;
    sink.rows++;
    if (sink.keep && sink.taken->fold && !sink.taken->images)
        sink.taken->fold->add(row->tts_values, row->tts_isnull, weight);
    if (!sink.fingerprinted && !(sink.keep && sink.taken->images)) return;

    MinimalTuple tuple = image_of(row, sink.desc);
    if (sink.fingerprinted) sink.fingerprint.add(tuple, weight);
    if (sink.keep && sink.taken->images) add_image(*sink.taken->images, tuple, weight);
    heap_free_minimal_tuple(tuple);
}

// The columns of a term without its weights.
TupleDesc feed_desc(const Block &block) {
    if (!block.grouped()) return ExecTypeFromTL(block.core->targetList);
    return ExecTypeFromExprList(block.feed());
}

int changed_occurrences(const Taken &taken) {
    int changed = 0;
    for (int source : taken.block.occurrence_source) changed += taken.rows[source] != nullptr;
    return changed;
}

void run_terms(Taken &taken, Snapshot snapshot, Sink &sink) {
    for (PreparedChain *chain : taken.chains) run_chain(*chain, taken, snapshot, receive_change, &sink);
    if (!taken.chains.empty()) return;
    uint32 changed = 0;
    int64 most = 0;
    for (std::size_t i = 0; i < taken.rows.size(); i++) {
        if (taken.rows[i]) changed |= UINT32_C(1) << i;
        most = std::max(most, taken.row_counts[i]);
    }
    for (int occurrence = 1; occurrence <= static_cast<int>(taken.block.occurrence_source.size()); occurrence++) {
        if (!(changed & (UINT32_C(1) << taken.block.occurrence_source[occurrence - 1]))) continue;
        uint32 earlier = taken.block.is_whole() ? changed : 0;
        for (int i = taken.block.arm_of(occurrence).first; i < occurrence; i++)
            earlier |= changed & (UINT32_C(1) << taken.block.occurrence_source[i - 1]);
        if (most <= large_delta) {
            uint64 variant = static_cast<uint64>(occurrence) << 32 | earlier;
            SPIPlanPtr plan = cached_query(taken.projection, -1, variant,
                                           [&] { return compile::term_text(taken.block, occurrence, changed); });
            read_rows(plan, snapshot, receive_change, &sink);
        } else {
            const char *text = compile::term_text(taken.block, occurrence, changed);
            SPIPlanPtr plan = pg::spi_prepare(text);
            read_rows(plan, snapshot, receive_change, &sink);
            SPI_freeplan(plan);
        }
    }
}

} // namespace

void fail_serialization() {
    ereport(ERROR,
            (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("could not serialize access due to concurrent update"),
             errdetail("A concurrent transaction changed rows that this projection joins with the rows changed here."),
             errhint("Retry the transaction.")));
    pg_unreachable();
}

Snapshot as_of(Snapshot snapshot, CommandId command) {
    PushCopiedSnapshot(snapshot);
    Snapshot copy = GetActiveSnapshot();
    copy->curcid = std::min(copy->curcid, command); // InvalidCommandId is the greatest
    copy = RegisterSnapshot(copy);
    PopActiveSnapshot();
    return copy;
}

static Receiver receiver_of(Receive receive, void *context) {
    Receiver receiver{};
    receiver.base.receiveSlot = receive_slot;
    receiver.base.rStartup = start;
    receiver.base.rShutdown = stop;
    receiver.base.rDestroy = stop;
    receiver.base.mydest = DestNone;
    receiver.receive = receive;
    receiver.context = context;
    return receiver;
}

void read_rows(SPIPlanPtr plan, Snapshot snapshot, Receive receive, void *context, ParamListInfo parameters) {
    Receiver receiver = receiver_of(receive, context);
    SPIExecuteOptions options{};
    options.read_only = true; // under the active snapshot as it is
    options.params = parameters;
    options.dest = &receiver.base;
    pg::with_snapshot(snapshot, [&] {
        int code = SPI_execute_plan_extended(plan, &options);
        if (code < 0) elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(code));
    });
}

void name_relation(const char *name, TupleDesc desc, Tuplestorestate *rows) {
    SPI_unregister_relation(name);
    auto *relation = static_cast<EphemeralNamedRelation>(palloc0(sizeof(EphemeralNamedRelationData)));
    relation->md.name = pstrdup(name);
    relation->md.tupdesc = desc;
    relation->md.enrtype = ENR_NAMED_TUPLESTORE;
    relation->md.enrtuples = static_cast<double>(tuplestore_tuple_count(rows));
    relation->reldata = rows;
    int code = SPI_register_relation(relation);
    if (code != SPI_OK_REL_REGISTER) elog(ERROR, "SPI_register_relation failed: %s", SPI_result_code_string(code));
}

Images *make_images(TupleDesc desc, MemoryContext parent) {
    return pg::within(parent, [&] {
        Images *images = pg::make<Images>(parent);
        images->memory = parent;
        images->desc = desc;
        HASHCTL control{};
        control.keysize = 2 * sizeof(uint64);
        control.entrysize = 3 * sizeof(uint64);
        control.hcxt = parent;
        images->index = hash_create("projection row images", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
        return images;
    });
}

// A log's columns under the names that their source's columns have now: one may have been renamed since the first
// change.
static TupleDesc named_as_today(TupleDesc logged, const compile::Source &source) {
    TupleDesc desc = CreateTupleDescCopy(logged);
    for (std::size_t i = 0; i < source.used.size(); i++)
        namestrcpy(&TupleDescAttr(desc, i)->attname, get_attname(source.relation, source.used[i], false));
    const char *weight = compile::weight_column(source.relation);
    namestrcpy(&TupleDescAttr(desc, source.used.size())->attname, weight);
    if (desc->natts > static_cast<int>(source.used.size()) + 1) // a change log's, with the change's number
        namestrcpy(&TupleDescAttr(desc, source.used.size() + 1)->attname, psprintf("%s_change", weight));
    return desc;
}

namespace {

struct AdditionSink {
    Sink sink;
    Additions &additions;
};

void receive_addition(TupleTableSlot *row, void *context) {
    auto &[sink, additions] = *static_cast<AdditionSink *>(context);
    slot_getallattrs(row);
    int64 position = DatumGetInt64(row->tts_values[sink.columns]);
    row->tts_values[sink.columns] = Int64GetDatum(1);
    additions.torn = true;
    receive_change(row, &sink);
    additions = {sink.rows, position, false};
}

} // namespace

void compute_additions(Taken &taken, const char *rows, uint64 variant, int64 from, int64 to, Snapshot snapshot,
                       Additions &additions) {
    const Block &block = taken.block;
    taken.projection.refuse_changed();
    TupleDesc desc = pg::within(taken.memory, [&] { return feed_desc(block); });
    if (block.grouped() && taken.fold == nullptr)
        taken.fold = pg::make<capture::Fold>(taken.memory, block, taken.memory);
    if (!block.grouped() && taken.images == nullptr) taken.images = make_images(desc, taken.memory);
    AdditionSink to_add{{&taken, desc->natts, true, false, {}, desc, additions.rows}, additions};
    SPIPlanPtr plan = cached_query(taken.projection, -3, variant, [&] { return compile::additions_text(block, rows); },
                                   {INT8OID, INT8OID});
    ParamListInfo parameters = makeParamList(2);
    int64 values[] = {from, to};
    for (int i = 0; i < 2; i++) parameters->params[i] = {Int64GetDatum(values[i]), false, PARAM_FLAG_CONST, INT8OID};
    read_rows(plan, snapshot, receive_addition, &to_add, parameters);
}

void compute_changes(Taken &taken) {
    const Block &block = taken.block;
    taken.projection.refuse_changed();
    for (std::size_t i = 0; i < taken.rows.size(); i++)
        if (taken.rows[i] && taken.chains.empty())
            name_relation(psprintf("delta_%zu", i), named_as_today(taken.descs[i], block.sources[i]), taken.rows[i]);
    if (taken.asked_source >= 0) lock_presence_keys(taken, taken.asked_source);
    if (block.grouped()) taken.fold = pg::make<capture::Fold>(taken.memory, block, taken.memory);
    TupleDesc desc = feed_desc(block);
    // Where several sources changed, rows of old states come with their opposites. A fold that tells what came from
    // what went must see neither: else each inserted row looks like a removed extremum, and its group is recomputed.
    bool netted =
        block.grouped() && (block.has_extremum || block.recompute_on_removal) && changed_occurrences(taken) > 1;
    if (!block.grouped() || netted) taken.images = make_images(desc, taken.memory);

    Sink sink{&taken, desc->natts, true, IsolationUsesXactSnapshot() && block.joins() && !taken.snapshot, {}, desc};
    CommandCounterIncrement();
    // A commit is visible before its locks go: this snapshot sees every writer that the source locks made us wait for.
    Snapshot fresh = RegisterSnapshot(taken.snapshot ? taken.snapshot : GetLatestSnapshot());
    run_terms(taken, fresh, sink);
    UnregisterSnapshot(fresh);

    if (sink.fingerprinted) {
        Sink own{&taken, desc->natts, false, true, {}, desc};
        Snapshot snapshot = RegisterSnapshot(GetTransactionSnapshot());
        run_terms(taken, snapshot, own);
        UnregisterSnapshot(snapshot);
        if (!(own.fingerprint == sink.fingerprint)) fail_serialization();
    }
    if (netted) {
        TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
        for (const Images::Image &image : taken.images->list) {
            if (image.net == 0) continue;
            ExecStoreMinimalTuple(image.row, slot, false);
            slot_getallattrs(slot);
            taken.fold->add(slot->tts_values, slot->tts_isnull, image.net);
        }
        ExecDropSingleTupleTableSlot(slot);
        taken.images = nullptr; // the fold has it all
    }
}

} // namespace maintain
