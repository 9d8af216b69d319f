#include "base/units.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};

#define UNITS (int)(sizeof units / sizeof *units)

/* amount in [0, 999.5) as three digits and the point's place among them: the first precision at which the rounded
 * number has no fourth digit. Printed as integers, since printf's %f writes the locale's decimal point. */
static void write_amount(char *out, size_t room, const char *sign, double amount, const char *unit)
{
    static const int scales[] = {1000, 100, 10, 1};
    int decimals = 3, digits = 0;
    for (int i = 0; i < 4; i++, decimals--) {
        digits = (int)(amount * scales[i] + 0.5);
        if (digits < 1000)
            break;
    }
    int scale = scales[3 - decimals];
    if (decimals == 0)
        snprintf(out, room, "%s%d %s", sign, digits, unit);
    else
        snprintf(out, room, "%s%d.%0*d %s", sign, digits / scale, decimals, digits % scale, unit);
}

const char *format_bytes(char *out, size_t room, double bytes)
{
    const char *sign = bytes <= -0.5 ? "-" : "";
    double amount = fabs(bytes);
    if (isnan(bytes)) {
        snprintf(out, room, "? bytes");
    } else if (amount < 1023.5) {
        int whole = (int)(amount + 0.5);
        snprintf(out, room, "%s%d byte%s", sign, whole, whole == 1 ? "" : "s");
    } else {
        int unit = 0;
        for (amount /= 1024; amount >= 999.5 && unit < UNITS - 1; unit++)
            amount /= 1024;
        if (amount >= 999.5)
            snprintf(out, room, "%s999+ %s", sign, units[unit]);
        else
            write_amount(out, room, sign, amount, units[unit]);
    }
    return out;
}

bool parse_bytes(const char *text, uint64_t *out)
{
    static const char prefixes[] = "KMGT";
    size_t digits = strspn(text, "0123456789.");
    char *end;
    double value = digits > 0 ? strtod(text, &end) : 0;
    const char *rest = text + digits;
    const char *unit = *rest ? strchr(prefixes, *rest >= 'a' ? *rest - 'a' + 'A' : *rest) : NULL;
    if (unit) {
        value = ldexp(value, 10 * (int)(unit - prefixes + 1));
        rest++;
    }
    const bool tail = *rest == '\0' || strcasecmp(rest, "b") == 0 ||
                      (unit && (strcasecmp(rest, "i") == 0 || strcasecmp(rest, "ib") == 0));
    if (digits == 0 || end != text + digits || !tail || value < 1 || value >= 0x1p63)
        return false;
    *out = (uint64_t)value;
    return true;
}
