#include "tools/spread.h"

#include <math.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of |value − m|: values are sorted, so their distances grow from the middle outwards. */
static double median_distance(const double *values, int count, double m)
{
    double last = 0, before = 0;
    for (int taken = 0, left = count / 2 - 1, right = count / 2; taken <= count / 2; taken++) {
        before = last;
        if (right >= count || (left >= 0 && m - values[left] < values[right] - m))
            last = m - values[left--];
        else
            last = values[right++] - m;
    }
    return count % 2 ? last : (before + last) / 2;
}

spread spread_of(double *values, int count)
{
    double sum = 0, squares = 0;
    qsort(values, (size_t)count, sizeof *values, by_value);
    for (int i = 0; i < count; i++)
        sum += values[i];
    spread s = {.mean = sum / count, .min = values[0], .max = values[count - 1]};
    for (int i = 0; i < count; i++)
        squares += (values[i] - s.mean) * (values[i] - s.mean);
    s.deviation = count > 1 ? sqrt(squares / (count - 1)) : 0;
    s.median = count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
    s.mad = median_distance(values, count, s.median);
    return s;
}
