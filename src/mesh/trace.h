/* What a profile shows: a Chrome trace (chrome://tracing, ui.perfetto.dev), and how much of the exchange between ranks
 * is hidden behind compute. */
#ifndef FLUX1_MESH_TRACE_H
#define FLUX1_MESH_TRACE_H

#include "mesh/mesh.h"
#include "ops/profile.h"

/* Writes JSON to `path` under a temporary name and renames it: one process for each rank with the tracks "compute"
 * (stages and steps enclose calls) and "exchange"; times in microseconds from the first span on. */
flux1_status trace_write(const profile *p, const mesh_config *c, const char *path, flux1_error *err);

/* Of all ranks together: seconds that exchanges took, and what part of them compute did not wait for. `ring`: of the
 * shifts alone, which are the ones that can be hidden. */
typedef struct exchange_time {
    double seconds, hidden;
    double ring_seconds, ring_hidden;
} exchange_time;

exchange_time trace_exchange(const profile *p, int64_t step); /* of one step, or of everything with −1 */
int64_t trace_steps(const profile *p);                        /* the last step's number + 1 */

/* One sentence: "exchange 12.3 ms, of which 81.5 % hidden behind compute (ring 96.2 %; by step 80.1, 82.9 %)". */
void trace_sentence(const profile *p, char *out, size_t size);

#endif
