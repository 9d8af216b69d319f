/* What is told of repeated measurements. */
#ifndef FLUX1_TOOLS_SPREAD_H
#define FLUX1_TOOLS_SPREAD_H

/* deviation is the sample's (n − 1), 0 for one value; mad is the median of the distances from the median, which a few
 * disturbed values do not move. */
typedef struct spread {
    double mean, deviation, min, max, median, mad;
} spread;

/* Of `count` > 0 values, which are sorted. */
spread spread_of(double *values, int count);

#endif
