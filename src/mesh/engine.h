/* Moves data between processes while ranks compute. One thread owns the wire: it starts what ranks hand it and tests it
 * again and again, with pauses that grow while nothing moves; when nothing is under way and an order is done, it
 * sleeps. Ranks wait on a condition. A transfer that was made before (same direction, process, tag, bytes and place) is
 * started again, not set up anew. */
#ifndef FLUX1_MESH_ENGINE_H
#define FLUX1_MESH_ENGINE_H

#include "mesh/wire.h"

#include <stdint.h>

typedef struct engine engine;

/* What one rank waits for together. Zero it; it stays until engine_wait. */
typedef struct exchange {
    int pending;
    flux1_status status;
    double first, last; /* when it was begun, and when the last of it had moved; clock_seconds. They stay */
} exchange;

/* Told once, from the engine's thread, when the wire has failed. */
typedef void engine_failed(void *arg, const char *why);

/* Starts the thread and the wire, and waits for it for at most `seconds`. FLUX1_ERR_COMM */
flux1_status engine_open(const wire_table *w, int seconds, engine_failed *failed, void *arg, engine **out,
                         flux1_error *err);

/* finalize: ends the wire too, together with the other processes, and waits for at most `seconds`. Without it the
 * process keeps an MPI that has not ended. NULL is fine. */
void engine_close(engine *e, bool finalize, int seconds);

int engine_count(const engine *e);
int engine_index(const engine *e);
int engine_tag_max(const engine *e);

/* Every process's `bytes` of mine, in order. */
flux1_status engine_gather(engine *e, const void *mine, void *all, size_t bytes, int seconds, flux1_error *err);

/* Any size; 0 moves nothing. The buffer stays as it is until engine_wait returned FLUX1_OK, or engine_settle. */
void engine_send(engine *e, exchange *x, int peer, int tag, const void *from, size_t bytes);
void engine_receive(engine *e, exchange *x, int peer, int tag, void *to, size_t bytes);
flux1_status engine_wait(engine *e, exchange *x, flux1_error *err);

/* All waits, now and later, return FLUX1_ERR_COMM: until engine_resume, or for ever with `why`. From any thread. */
void engine_abort(engine *e);
void engine_break(engine *e, const char *why);
void engine_resume(engine *e);

/* After an abort, when no rank waits any more: ends all transfers. `sent` [count]: messages that this process has ever
 * sent to each; `expected` [count]: what each has ever sent to this one. What arrived for nobody is thrown away:
 * messages of this order, whose tags have `tags` in the bits of `mask`. */
void engine_sent(engine *e, uint64_t *sent);
flux1_status engine_settle(engine *e, const uint64_t *expected, int mask, int tags, flux1_error *err);

/* Nothing that this process has sent is still awaited: until the next transfer the thread sleeps. */
void engine_rest(engine *e);

/* Ranks of this process that wait for each other do it here too, so that one abort wakes everybody. Between lock and
 * unlock: engine_await waits for the next engine_notify; false after an abort. */
void engine_lock(engine *e);
void engine_unlock(engine *e);
void engine_notify(engine *e);
bool engine_await(engine *e);

/* The sentence of an abort. */
flux1_status engine_aborted(engine *e, flux1_error *err);

#endif
