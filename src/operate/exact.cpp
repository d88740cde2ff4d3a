// Floats as exact decimals: sums of them neither drift nor depend on order.
#include "pg/pg.hpp"

extern "C" {

PG_FUNCTION_INFO_V1(projections_exact_numeric);

// float8 → numeric of exactly that value; NULL for NaN and infinities. A double has at most 1074 binary, and so
// decimal, places after the point.
Datum projections_exact_numeric(PG_FUNCTION_ARGS) {
    float8 value = PG_GETARG_FLOAT8(0);
    if (std::isnan(value) || std::isinf(value)) PG_RETURN_NULL();
    if (value == std::trunc(value) && std::fabs(value) < 9007199254740992.0)
        PG_RETURN_NUMERIC(int64_to_numeric(static_cast<int64>(value)));
    int exponent;
    std::frexp(value, &exponent); // value = m · 2^exponent, where m has 53 bits
    int places = std::clamp(53 - exponent, 0, 1074);
    char *digits = psprintf("%.*f", places, value);
    // Trailing zeros would only take room.
    if (places > 0) {
        char *end = digits + strlen(digits) - 1;
        while (*end == '0') *end-- = '\0';
        if (*end == '.') *end = '\0';
    }
    PG_RETURN_DATUM(
        DirectFunctionCall3(numeric_in, CStringGetDatum(digits), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

} // extern "C"
