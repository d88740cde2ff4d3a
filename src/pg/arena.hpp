// Containers whose memory belongs to a MemoryContext.
//
// An ereport(ERROR) leaves by longjmp and runs no destructor. A container is therefore always placed in, and allocates
// from, a MemoryContext whose reset frees it: what a skipped destructor would have freed is freed with the context.
#pragma once

namespace pg {

// Allocates from the context that was current when the container was made. Out of memory is an ERROR, never a null.
template <class T>
struct Allocator {
    using value_type = T;
    MemoryContext context;

    Allocator() noexcept : context(CurrentMemoryContext) {}
    explicit Allocator(MemoryContext owner) noexcept : context(owner) {}
    template <class U>
    Allocator(const Allocator<U> &other) noexcept : context(other.context) {}

    T *allocate(std::size_t n) {
        return static_cast<T *>(MemoryContextAllocExtended(context, n * sizeof(T), MCXT_ALLOC_HUGE));
    }
    void deallocate(T *p, std::size_t) noexcept { pfree(p); }

    friend bool operator==(const Allocator &a, const Allocator &b) { return a.context == b.context; }
    friend bool operator!=(const Allocator &a, const Allocator &b) { return a.context != b.context; }
};

template <class T>
using vector = boost::container::vector<T, Allocator<T>>;

template <class K, class V>
using flat_map = boost::container::flat_map<K, V, std::less<K>, Allocator<std::pair<K, V>>>;

// Makes a T in `context` with that context current, so that the containers inside it allocate there too.
template <class T, class... Args>
T *make(MemoryContext context, Args &&...args) {
    MemoryContext before = MemoryContextSwitchTo(context);
    T *made = new (palloc(sizeof(T))) T(std::forward<Args>(args)...);
    MemoryContextSwitchTo(before);
    return made;
}

// Runs `body` with `context` current. An ERROR inside needs no undo: the handler sets its own context.
template <class Body>
auto within(MemoryContext context, Body &&body) {
    MemoryContext before = MemoryContextSwitchTo(context);
    if constexpr (std::is_void_v<decltype(body())>) {
        body();
        MemoryContextSwitchTo(before);
    } else {
        auto result = body();
        MemoryContextSwitchTo(before);
        return result;
    }
}

// The elements of a List, to be used in a range-for.
template <class T>
struct Each {
    const List *list;
    struct Iterator {
        const ListCell *cell;
        T *operator*() const { return static_cast<T *>(cell->ptr_value); }
        Iterator &operator++() { return ++cell, *this; }
        bool operator!=(const Iterator &other) const { return cell != other.cell; }
    };
    Iterator begin() const { return {list ? list->elements : nullptr}; }
    Iterator end() const { return {list ? list->elements + list->length : nullptr}; }
};
template <class T>
Each<T> each(const List *list) {
    return {list};
}

} // namespace pg
