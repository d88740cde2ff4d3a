// A hash table by text key. Its memory, and that of the keys, is the caller's context: nothing is freed one by one.
#pragma once
#include "pg/pg.hpp"

namespace events {

template <class Value>
class KeyTable {
    struct Entry {
        std::string_view key;
        uint64 hash;
        Value value;
        bool used;
    };

    MemoryContext memory_;
    Entry *entries_;
    std::size_t capacity_, count_ = 0;

    static Entry *allocate(MemoryContext memory, std::size_t capacity) {
        return static_cast<Entry *>(
            MemoryContextAllocExtended(memory, capacity * sizeof(Entry), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
    }

    static uint64 hash_of(std::string_view key) {
        return DatumGetUInt64(
            hash_any_extended(reinterpret_cast<const unsigned char *>(key.data()), static_cast<int>(key.size()), 0));
    }

    Entry &place(std::string_view key, uint64 hash) const {
        for (std::size_t i = hash & (capacity_ - 1);; i = (i + 1) & (capacity_ - 1))
            if (!entries_[i].used || (entries_[i].hash == hash && entries_[i].key == key)) return entries_[i];
    }

    void grow() {
        Entry *old = entries_;
        std::size_t before = capacity_;
        entries_ = allocate(memory_, before * 2);
        capacity_ = before * 2;
        for (std::size_t i = 0; i < before; i++)
            if (old[i].used) place(old[i].key, old[i].hash) = old[i];
        pfree(old);
    }

public:
    explicit KeyTable(MemoryContext memory) : memory_(memory), entries_(allocate(memory, 64)), capacity_(64) {}

    bool empty() const { return count_ == 0; }

    const Value *find(std::string_view key) const {
        if (count_ == 0) return nullptr;
        Entry &entry = place(key, hash_of(key));
        return entry.used ? &entry.value : nullptr;
    }

    // The key's value, made from `value` where it is new. `added` tells which. The key's bytes must live as long as the
    // table.
    Value &add(std::string_view key, Value value, bool *added = nullptr) {
        if (count_ * 2 >= capacity_) grow();
        uint64 hash = hash_of(key);
        Entry &entry = place(key, hash);
        if (added) *added = !entry.used;
        if (!entry.used) {
            entry = Entry{key, hash, value, true};
            count_++;
        }
        return entry.value;
    }

    template <class Body>
    void each(Body &&body) const {
        for (std::size_t i = 0; i < capacity_; i++)
            if (entries_[i].used) body(entries_[i].key, entries_[i].value);
    }
};

} // namespace events
