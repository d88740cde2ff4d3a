// Values of ordinary size are read and written in the stored form of numerics, without a call of theirs; what does not
// fit is added by numeric_add.
#include "capture/exact_sum.hpp"

namespace capture {
namespace {

// The stored form of short numerics (the only one that values of this size have): a header word of marker, sign, scale
// and weight, then digits in base 10,000. It cannot change without rewriting every table, so that pg_upgrade relies on
// it too.
constexpr uint16 short_mark = 0x8000, mark_mask = 0xC000, short_sign = 0x2000, short_scale_mask = 0x1F80;
constexpr int short_scale_shift = 7;
constexpr uint16 short_weight_sign = 0x0040, short_weight_mask = 0x003F;
constexpr int unit_scale = 8, unit_digits = 2; // 10^-8 is two digits of base 10,000
constexpr int max_digits = 8;                  // before the point and after

// The value in units of 10^-8 and its scale. False for what is longer, NaN or infinite.
bool decode(Numeric value, __int128 *units, int *scale) {
    const char *data = VARDATA_ANY(value);
    std::size_t size = VARSIZE_ANY_EXHDR(value);
    uint16 header;
    memcpy(&header, data, sizeof header);
    if ((header & mark_mask) != short_mark) return false;
    *scale = (header & short_scale_mask) >> short_scale_shift;
    int weight = header & short_weight_mask;
    if (header & short_weight_sign) weight -= short_weight_mask + 1;
    int digits = static_cast<int>((size - sizeof header) / sizeof(int16));
    // Digit i is worth 10,000^(weight - i).
    int after = digits > 0 ? digits - 1 - weight : 0;
    if (*scale > unit_scale || after > unit_digits || weight + 1 + unit_digits > max_digits) return false;
    __int128 sum = 0;
    for (int i = 0; i < digits; i++) {
        int16 digit;
        memcpy(&digit, data + sizeof header + i * sizeof digit, sizeof digit);
        sum = sum * 10000 + digit;
    }
    for (int i = after; i < unit_digits && digits > 0; i++) sum *= 10000;
    *units = header & short_sign ? -sum : sum;
    return true;
}

// Decimal digits of `value`, written backwards from `end`; returns where they begin.
char *write_digits(char *end, unsigned __int128 value, int at_least) {
    for (; value != 0 || at_least > 0; value /= 10, at_least--)
        *--end = static_cast<char>('0' + static_cast<int>(value % 10));
    return end;
}

unsigned __int128 magnitude(__int128 value) {
    return value < 0 ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
}

Numeric read(const char *text) {
    return DatumGetNumeric(
        DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

Numeric add_numerics(Numeric a, Numeric b) {
    return DatumGetNumeric(DirectFunctionCall2(numeric_add, NumericGetDatum(a), NumericGetDatum(b)));
}

} // namespace

Numeric numeric_from(__int128 value) {
    if (value >= PG_INT64_MIN && value <= PG_INT64_MAX) return int64_to_numeric(static_cast<int64>(value));
    char text[64];
    text[sizeof text - 1] = '\0';
    char *begin = write_digits(text + sizeof text - 1, magnitude(value), 1);
    if (value < 0) *--begin = '-';
    return read(begin);
}

void ExactSum::add_rest(Numeric value, MemoryContext memory) {
    pg::within(memory, [&] {
        Numeric before = rest;
        rest = add_numerics(before ? before : int64_to_numeric(0), value);
        if (before) pfree(before);
    });
}

void ExactSum::add(Numeric value, int64 weight, MemoryContext memory) {
    __int128 decoded;
    int value_scale;
    constexpr __int128 room = static_cast<__int128>(1) << 120;
    if (weight >= -1000000 && weight <= 1000000 && units < room && units > -room &&
        decode(value, &decoded, &value_scale)) {
        units += decoded * weight;
        scale = std::max<int16>(scale, static_cast<int16>(value_scale));
        return;
    }
    if (weight != 1)
        value = DatumGetNumeric(
            DirectFunctionCall2(numeric_mul, NumericGetDatum(value), NumericGetDatum(int64_to_numeric(weight))));
    add_rest(value, memory);
}

void ExactSum::add(const ExactSum &other, MemoryContext memory) {
    constexpr __int128 room = static_cast<__int128>(1) << 120;
    if (magnitude(units) < static_cast<unsigned __int128>(room) &&
        magnitude(other.units) < static_cast<unsigned __int128>(room)) {
        units += other.units;
        scale = std::max(scale, other.scale);
        if (other.rest) add_rest(other.rest, memory);
        return;
    }
    add_rest(other.value(), memory);
}

bool ExactSum::is_zero() const {
    if (units == 0 && rest == nullptr) return true;
    return DatumGetBool(
        DirectFunctionCall2(numeric_eq, NumericGetDatum(value()), NumericGetDatum(int64_to_numeric(0))));
}

Numeric ExactSum::value() const {
    char text[64];
    text[sizeof text - 1] = '\0';
    char *end = text + sizeof text - 1;
    // Of the eight places, those beyond the scale are zeros.
    unsigned __int128 at_scale = magnitude(units);
    for (int i = scale; i < unit_scale; i++) at_scale /= 10;
    unsigned __int128 power = 1;
    for (int i = 0; i < scale; i++) power *= 10;
    char *begin = end;
    if (scale > 0) {
        begin = write_digits(end, at_scale % power, scale);
        *--begin = '.';
    }
    begin = write_digits(begin, at_scale / power, 1);
    if (units < 0) *--begin = '-';
    Numeric sum = read(begin);
    return rest ? add_numerics(sum, rest) : sum;
}

} // namespace capture
