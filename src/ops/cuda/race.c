#include "ops/cuda/race.h"

#include <math.h>

#define LEAP_MS 1.0 /* a measurement takes at least so long */
#define NEAR 1.5    /* times the best: slower ones need no second look */
#define WORTH 1.01  /* a first choice that is slower by less stays */
enum { PASSES = 2, MOST_RUNS = 1000 };

static int runs_of(double each)
{
    double runs = each > 0 ? ceil(LEAP_MS / each) : MOST_RUNS;
    return runs < 1 ? 1 : runs > MOST_RUNS ? MOST_RUNS : (int)runs;
}

/* Of one run of each, after a first that counts for nothing; infinite for those that do not run. */
static double look(int count, race_clock *clock, void *user, double each[RACE_MOST])
{
    double best = INFINITY;
    for (int i = 0; i < count; i++) {
        each[i] = clock(user, i, 1) < 0 ? -1 : clock(user, i, 1);
        each[i] = each[i] < 0 ? INFINITY : each[i];
        best = fmin(best, each[i]);
    }
    return best;
}

int race_winner(int count, race_clock *clock, void *user)
{
    double each[RACE_MOST], time[RACE_MOST];
    const double near = NEAR * look(count, clock, user, each);
    int first = -1, best = -1;
    for (int i = 0; i < count; i++) {
        time[i] = INFINITY;
        if (first < 0 && each[i] < INFINITY)
            first = i;
    }
    for (int pass = 0; pass < PASSES; pass++)
        for (int i = 0; i < count; i++) {
            if (each[i] == INFINITY || (i != first && each[i] > near))
                continue;
            const int runs = runs_of(each[i]);
            const double ms = clock(user, i, runs);
            if (ms >= 0)
                time[i] = fmin(time[i], ms / runs);
        }
    for (int i = 0; i < count; i++)
        if (time[i] < INFINITY && (best < 0 || time[i] < time[best]))
            best = i;
    return best >= 0 && time[first] <= WORTH * time[best] ? first : best;
}
