/* Mapped weights on their way through memory. A thread of each backend reads the block that comes next while the
 * present one computes. Where a backend may keep only so many bytes of mapped weights, it also gives back the pages of
 * blocks that are done; blocks that return in every step stay as far as there is room. */
#ifndef FLUX1_OPS_CPU_STREAM_H
#define FLUX1_OPS_CPU_STREAM_H

#include "ops/device.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* Bytes of a mapped file. */
typedef struct stream_range {
    const unsigned char *bytes;
    size_t count;
    bool dense; /* all of it is used; otherwise a rank's columns among others */
    bool file;  /* its pages can be given back */
} stream_range;

/* What a block is to a stream. Zeroed at first; the stream's from then on. */
typedef struct stream_block {
    const stream_range *range;
    int ranges;
    size_t bytes;                     /* of the ranges */
    struct stream_block *next, *then; /* in creation order; that was begun after it last time, NULL: not known */
    bool held, there, asked, stays, leaves;
    bool stepped; /* it was begun in a step */
    bool beside;  /* it was begun while the one before was held: both are there at a time */
} stream_block;

/* What was read ahead since the last reset. */
typedef struct stream_times {
    double read, waited; /* seconds: of reading, and of those that compute waited for it */
    double bytes;
} stream_times;

typedef struct stream {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool ready, started, stop, working;
    const atomic_int *cancel;
    stream_block *blocks, *wanted, *guess, *last; /* all; to be read next; the last asked for in advance; begun last */
    size_t budget, total, staying;
    bool in_steps;
    stream_times times;
} stream;

flux1_status stream_create(stream *s, const atomic_int *cancel, flux1_error *err);
void stream_destroy(stream *s);

/* Bytes that may stay in memory: SIZE_MAX (at first) for all. No block is begun. Where that is less than all of them,
 * and no more than before, pages are given back. */
void stream_budget(stream *s, size_t bytes);
bool stream_is_limited(const stream *s); /* to less than all */

/* What follows is in a step, which comes again. */
void stream_in_steps(stream *s);

/* The list of blocks, with ranges, before the first is begun; the thread does nothing with the old ones any more.
 * NULL: none. No pages are given back. */
void stream_take(stream *s, stream_block *blocks);

void stream_begin(stream *s, stream_block *b);
void stream_end(stream *s, stream_block *b);

/* The times so far go into the next note, where weights were limited; and begin anew. */
void stream_tell(stream *s);

/* ops_device_kind.next_note: how much of the reading was hidden, of all streams that told of it. */
bool stream_next_note(ops_note *out);

#endif
