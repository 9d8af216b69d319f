/* First-block cache of one pass on one rank: where the first block changes the image by nearly what it did in the last
 * step that was computed whole, what all other blocks added to it then is added again, and they do not run. Prompt rows
 * need nothing: behind the last block only the image is read.
 * (github.com/chengzeyi/ParaAttention, diffusers: hooks/first_block_cache.py.)
 *
 * The change is compared on the host, where each rank adds up its rows; all ranks get all sums and so decide alike. A
 * batch is one decision: the entry that changed most counts. */
#ifndef FLUX1_MODEL_STEP_CACHE_H
#define FLUX1_MODEL_STEP_CACHE_H

#include "mesh/mesh.h"

typedef struct step_cache {
    float threshold; /* Σ|change − change then| ÷ Σ|change then|, above which the blocks run */
    int64_t batch, rows, cols;
    act before; /* the image in front of the first block, then behind it; RESIDUAL, this rank's rows */
    act change; /* what the first block added to it */
    act rest;   /* what the other blocks added when they last ran */
    float *now, *then, *sums;
    int64_t computed; /* the step in which they did; −1: none */
    int64_t counted;  /* the last step that was counted, so that one made again counts once */
    int64_t reused;   /* steps since step_cache_start in which they did not */
} step_cache;

/* For an image of `rows` rows on this rank. Host memory: step_cache_bytes. */
flux1_status step_cache_create(mesh *m, float threshold, int64_t batch, int64_t rows, int64_t cols, step_cache **out);
void step_cache_destroy(step_cache *c); /* NULL is fine */
size_t step_cache_bytes(int64_t batch, int64_t rows, int64_t cols);

void step_cache_start(step_cache *c); /* another batch begins */

/* In a step, in this order; `image` is the residual's image part. What is called by a part of a step (mesh_part) is the
 * same in every step; the others are called between parts. */
flux1_status step_cache_begin(const step_cache *c, mesh *m, act image);  /* in a part: in front of the first block */
flux1_status step_cache_change(const step_cache *c, mesh *m, act image); /* in that part: behind it */
flux1_status step_cache_decide(step_cache *c, mesh *m, bool *reuse);     /* between. Waits */
flux1_status step_cache_apply(const step_cache *c, mesh *m, act image);  /* reuse, in a part: for the other blocks */
flux1_status step_cache_keep(const step_cache *c, mesh *m, act image);   /* not, in a part: behind the last block */
void step_cache_kept(step_cache *c, const mesh *m);                      /* behind that part */

#endif
