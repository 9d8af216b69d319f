/* The worker (tools/ttnn/flux1_ttnn.py): a child process, a Python with Tenstorrent's library, that makes a recording's
 * calls on cards. Orders and answers are lines, values lie in memory that both see (docs/recording.md, "The worker's
 * lines"). It may hang, die or talk nonsense: each is a status with a sentence, and the child is gone. */
#ifndef FLUX1_PIPELINE_TTNN_WORKER_H
#define FLUX1_PIPELINE_TTNN_WORKER_H

#include "mesh/mesh.h"
#include "ops/ttnn_machines.h"
#include "pipeline/context.h"

#define TTNN_PROTOCOL 1

/* The program (embed_worker.cmake). */
extern const char ttnn_script[];
extern const size_t ttnn_script_size;

typedef struct ttnn_worker ttnn_worker;

enum { TTNN_ANSWER = 160, TTNN_WORD = 64 };

/* Gives what the worker asks for while it carries out an order: `what` is "weight" or "input", `keys` KEY=VALUE…; puts
 * the bytes into ttnn_worker_memory and the answer's keys into `answer`. A failure ends the worker. */
typedef struct ttnn_supply {
    flux1_status (*give)(void *user, ttnn_worker *w, const char *what, const char *keys, char answer[TTNN_ANSWER],
                         flux1_error *err);
    void *user;
} ttnn_supply;

/* Starts it, waits for its greeting, and has it open the machine's cards as `shape`, with weights of that form. c: log,
 * cancel, and whether steps are captured; it outlives the worker. FLUX1_ERR_DEVICE. */
flux1_status ttnn_worker_start(flux1_context *c, const ttnn_machine *m, const mesh_config *shape, tile_format weights,
                               ttnn_worker **out);
void ttnn_worker_end(ttnn_worker *w); /* NULL is fine */

/* An order, and what the worker asks for until it is done; `doing` names it in messages. supply NULL: it asks for
 * nothing. FLUX1_ERR_CANCELLED: the worker is as before the order, or ended if it did not come to an end soon. Behind
 * any other failure it can only be ended (ttnn_worker_lost). */
flux1_status ttnn_worker_order(ttnn_worker *w, const ttnn_supply *supply, const char *doing, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool ttnn_worker_lost(const ttnn_worker *w);

/* After an order whose result is a float32 matrix [rows, cols] in the memory: copies it. FLUX1_ERR_DEVICE if the worker
 * has said that it is of another size, FLUX1_ERR_NUMERIC for NaN or infinity. */
flux1_status ttnn_worker_result(ttnn_worker *w, const char *doing, int64_t rows, int64_t cols, float *out);

/* A number that the last order's `done` gave, such as seconds in units of 1 ns; false: none of that name. */
bool ttnn_worker_told(const ttnn_worker *w, const char *key, int64_t *out);

/* Bytes of the memory that both see. FLUX1_ERR_MEMORY. */
flux1_status ttnn_worker_memory(ttnn_worker *w, size_t bytes, void **memory, flux1_error *err);
void ttnn_worker_memory_drop(ttnn_worker *w); /* its pages go back */

/* The value of a key in KEY=VALUE…; false if it is not there, or too long. As a whole number from 0 to 2^53. */
bool ttnn_key(const char *keys, const char *key, char out[TTNN_WORD]);
bool ttnn_number(const char *keys, const char *key, int64_t *out);

#endif
