/* Which of several ways of doing the same work is the fastest, by the clock. */
#ifndef FLUX1_OPS_CUDA_RACE_H
#define FLUX1_OPS_CUDA_RACE_H

enum { RACE_MOST = 16 };

/* Milliseconds that `runs` runs of candidate `which` take together; negative: it does not run. */
typedef double race_clock(void *user, int which, int runs);

/* Each of `count` candidates (the likeliest first, at most RACE_MOST) runs once to warm up and once to see how long it
 * takes; the first, and those that come near the best, then run in turn, twice over, for at least a millisecond each
 * time, and their better time counts. The first that runs wins unless another is faster by more than a hundredth. −1:
 * none runs. */
int race_winner(int count, race_clock *clock, void *user);

#endif
