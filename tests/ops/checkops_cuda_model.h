/* A small model on a GPU, and a few steps of it. */
#ifndef FLUX1_TESTS_CHECKOPS_CUDA_MODEL_H
#define FLUX1_TESTS_CHECKOPS_CUDA_MODEL_H

#include "ops/checkops_cuda.h"

/* Blocks of one square weight each, x ← gate[step]·(x·Wᵀ + b) + x. */

enum { MODEL_BLOCKS = 9, MODEL_WIDTH = 64, MODEL_ROWS = 10, MODEL_STEPS = 5 };

typedef struct model {
    run r;
    block *b[MODEL_BLOCKS];
    weight *w[MODEL_BLOCKS];
    act x, in, gate;
    bool replayed;
} model;

/* The store of the weights at hand: memory that is used again has other contents, so other weights are of another
 * store. */
static uint64_t model_store = 77;
static ops_fp8 model_fp8; /* FP8_NO but where a test says otherwise */

static void make_activations(model *m)
{
    run *r = &m->r;
    r->random = 4711;
    ok(r, ops_create(r->o, ACT_RESIDUAL, shape_rows(1, 0, MODEL_ROWS, MODEL_WIDTH), &m->x));
    ok(r, ops_create(r->o, ACT_LINEAR, shape_rows(1, 0, MODEL_ROWS, MODEL_WIDTH), &m->in));
    ok(r, ops_create(r->o, ACT_TABLE, shape_rows(1, 0, MODEL_STEPS, MODEL_WIDTH), &m->gate));
    fill(r, m->x, false);
    fill(r, m->gate, false);
}

static void open_model(model *m, const tensor *weights, bool eager)
{
    start_run(&m->r, ops_cuda_create, &ops_cuda_sizing,
              &(ops_config){.arithmetic = DTYPE_F32, .fp8 = model_fp8, .threads = 2, .device = gpu, .eager = eager},
              false, 7);
    run *r = &m->r;
    for (int i = 0; i < MODEL_BLOCKS; i++) {
        store_tensor *t = &r->tensors[i]; /* borrowed: not freed with the run */
        *t = (store_tensor){.name = "w", .file = "memory", .view = weights[i], .store = model_store};
        weight_recipe w = recipe_whole(WEIGHT_LINEAR, t);
        w.piece[0].source = t;
        w.coarse = true;
        ok(r, ops_block_create(r->o, "a block", &m->b[i]));
        ok(r, ops_prepare(r->o, m->b[i], &w, NULL, &m->w[i]));
    }
    make_activations(m);
}

static flux1_status try_block(model *m, int i)
{
    ops *o = m->r.o;
    TRY(ops_block_begin(o, m->b[i]));
    TRY(ops_cast(o, m->x, m->in));
    TRY(ops_product(o, m->in, m->w[i], &(epilogue){.gate = m->gate, .residual = m->x}, m->x));
    return ops_block_end(o, m->b[i]);
}

static flux1_status try_model_step(model *m, int64_t step)
{
    ops *o = m->r.o;
    TRY(ops_step_set(o, step % MODEL_STEPS));
    TRY(ops_step_replay(o, 1, &m->replayed));
    for (int i = 0; i < MODEL_BLOCKS && !m->replayed; i++)
        TRY(try_block(m, i));
    return m->replayed ? FLUX1_OK : ops_step_record(o);
}

static bool run_model_step(model *m, int64_t step)
{
    ok(&m->r, try_model_step(m, step));
    return m->replayed;
}

/* All steps; the result goes to `out` [MODEL_ROWS · MODEL_WIDTH]. Returns how many steps were replayed. */
static int run_model(const tensor *weights, bool eager, float *out)
{
    model m;
    int replayed = 0;
    open_model(&m, weights, eager);
    for (int k = 0; k < MODEL_STEPS; k++)
        replayed += run_model_step(&m, k);
    keep(&m.r, m.x);
    memcpy(out, m.r.out, m.r.count * sizeof *out);
    close_run(&m.r);
    return replayed;
}

static void make_weights(tensor *weights)
{
    run r = {.random = 99};
    model_store++;
    for (int i = 0; i < MODEL_BLOCKS; i++) {
        ok(&r, tensor_create(DTYPE_F32, 2, (int64_t[]){MODEL_WIDTH, MODEL_WIDTH}, &weights[i], &r.err));
        for (int64_t k = 0; k < tensor_elements(&weights[i]); k++)
            ((float *)weights[i].data)[k] = value(&r) * 0.1f;
    }
}

static void free_weights(tensor *weights)
{
    for (int i = 0; i < MODEL_BLOCKS; i++)
        tensor_free(&weights[i]);
}

#endif
