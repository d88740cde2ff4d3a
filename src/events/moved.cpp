// A bit for each position, 64 of them in an entry: events that move lie side by side, so ten million of them are a few
// megabytes. A set for each subtransaction that deletes, as its rollback brings events back.
#include "events/moved.hpp"

namespace events {
namespace {

struct Word {
    struct {
        uint64 source;
        int64 number; // of the 64 positions
    } key;            // without gaps, as its bytes are compared
    uint64 bits;
};

struct Set {
    SubTransactionId subtransaction;
    HTAB *words;
};

constinit List *sets = NIL; // of Set, in TopTransactionContext; outer subtransactions first

decltype(Word::key) key_of(Oid source, int64 position) { return {source, position >> 6}; }

uint64 bit_of(int64 position) { return UINT64CONST(1) << (static_cast<uint64>(position) & 63); }

Set *set_of_subtransaction() {
    SubTransactionId now = GetCurrentSubTransactionId();
    if (sets != NIL && static_cast<Set *>(llast(sets))->subtransaction == now) return static_cast<Set *>(llast(sets));
    return pg::within(TopTransactionContext, [&] {
        HASHCTL control{};
        control.keysize = sizeof(Word::key);
        control.entrysize = sizeof(Word);
        control.hcxt = TopTransactionContext;
        auto *made = static_cast<Set *>(palloc(sizeof(Set)));
        *made = Set{now, hash_create("deleted events", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT)};
        sets = lappend(sets, made);
        return made;
    });
}

void add(HTAB *words, decltype(Word::key) key, uint64 bits) {
    bool found;
    auto *word = static_cast<Word *>(hash_search(words, &key, HASH_ENTER, &found));
    word->bits = found ? word->bits | bits : bits;
}

void merge(Set &into, Set &from) {
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, from.words);
    while (auto *word = static_cast<Word *>(hash_seq_search(&scan))) add(into.words, word->key, word->bits);
    hash_destroy(from.words);
}

} // namespace

bool anything_deleted() { return sets != NIL; }

void note_deleted(Oid source, int64 position) {
    add(set_of_subtransaction()->words, key_of(source, position), bit_of(position));
}

bool was_deleted(Oid source, int64 position) {
    auto key = key_of(source, position);
    for (Set *set : pg::each<Set>(sets)) {
        auto *word = static_cast<Word *>(hash_search(set->words, &key, HASH_FIND, nullptr));
        if (word && (word->bits & bit_of(position))) return true;
    }
    return false;
}

void deleted_in_committed(SubTransactionId sub, SubTransactionId parent) {
    if (sets == NIL) return;
    auto *last = static_cast<Set *>(llast(sets));
    if (last->subtransaction != sub) return;
    last->subtransaction = parent;
    if (list_length(sets) < 2) return;
    auto *before = static_cast<Set *>(list_nth(sets, list_length(sets) - 2));
    if (before->subtransaction != parent) return;
    merge(*before, *last);
    sets = list_delete_last(sets);
}

void deleted_in_aborted(SubTransactionId sub) {
    if (sets == NIL) return;
    auto *last = static_cast<Set *>(llast(sets));
    if (last->subtransaction != sub) return;
    hash_destroy(last->words);
    sets = list_delete_last(sets);
}

void forget_deleted() { sets = NIL; }

} // namespace events
