// Lists as text.
#pragma once
#include "pg/pg.hpp"

namespace pg {

// item(0), item(1) … of `count`, with the separator in between; in the current memory context.
template <class Item>
const char *joined(int count, const char *separator, Item &&item) {
    StringInfoData text;
    initStringInfo(&text);
    for (int i = 0; i < count; i++) appendStringInfo(&text, "%s%s", i ? separator : "", item(i));
    return text.data;
}

// Names, each after `prefix`, with commas.
inline const char *joined(const vector<const char *> &names, const char *prefix = "") {
    return joined(static_cast<int>(names.size()), ", ", [&](int i) { return psprintf("%s%s", prefix, names[i]); });
}

// Relations or other objects, as an array in SQL.
inline const char *oid_array(std::span<const Oid> oids) {
    const char *items = joined(static_cast<int>(oids.size()), ", ",
                               [&](int i) { return psprintf("%u", oids[static_cast<std::size_t>(i)]); });
    return psprintf("ARRAY[%s]::pg_catalog.oid[]", items);
}

// The same, item by item.
class TextList {
public:
    explicit TextList(const char *separator = ", ") : separator_(separator) { initStringInfo(&text_); }
    void add(const char *format, ...) pg_attribute_printf(2, 3) {
        if (!empty()) appendStringInfoString(&text_, separator_);
        for (;;) {
            va_list arguments;
            va_start(arguments, format);
            int needed = appendStringInfoVA(&text_, format, arguments);
            va_end(arguments);
            if (needed == 0) return;
            enlargeStringInfo(&text_, needed);
        }
    }
    bool empty() const { return text_.len == 0; }
    const char *text() const { return text_.data; }

private:
    StringInfoData text_;
    const char *separator_;
};

} // namespace pg
