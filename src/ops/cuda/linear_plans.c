#include "ops/cuda/linear_plans.h"

#include "ops/cuda/race.h"

#include <stdio.h>
#include <stdlib.h>

enum { CANDIDATES = RACE_MOST, TABLE = 512 };
#define WORTH_TIMING 2e9 /* multiply-adds: below, the first answer will do */

typedef cuda_product_shape shape;

typedef struct plan {
    shape key;
    bool used, own, proven; /* own: the kernel gemm; proven: the library has done it once */
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
} plan;

/* The device's, under its plans_lock: an operation sets a plan's pointers and enqueues it in one go. */
struct cuda_linear_plans {
    plan table[TABLE]; /* open addressing; where sixteen places in a row are taken, the first makes room */
};

static void free_plan(const cuda_libraries *lib, plan *q)
{
    if (q->product)
        lib->cublasLtMatmulDescDestroy(q->product);
    cublasLtMatrixLayout_t layouts[] = {q->a, q->b, q->d};
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            lib->cublasLtMatrixLayoutDestroy(layouts[i]);
    *q = (plan){0};
}

void cuda_plans_save(cuda_device *d)
{
    pthread_mutex_lock(&d->plans_lock);
    cuda_algorithms_save(d);
    pthread_mutex_unlock(&d->plans_lock);
}

void cuda_plans_free(cuda_device *d)
{
    for (int i = 0; d->linear_plans && i < TABLE; i++)
        free_plan(d->lib, &d->linear_plans->table[i]);
    free(d->linear_plans);
    d->linear_plans = NULL;
    cuda_algorithms_free(d);
}

#define LT(call) ((call) == CUBLAS_STATUS_SUCCESS)

static bool set_product(const cuda_libraries *lib, plan *q, cublasLtMatmulDescAttributes_t name, const void *value,
                        size_t bytes)
{
    return LT(lib->cublasLtMatmulDescSetAttribute(q->product, name, value, bytes));
}

/* What belongs to the operands rather than to the shape. */
static bool set_pointers(const cuda_libraries *lib, plan *q, const cuda_operands *x)
{
    bool good = q->key.tail == CUDA_TAIL_NONE ||
                set_product(lib, q, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &x->bias, sizeof x->bias);
    if (q->key.type_in >= CUDA_INPUT_E4M3_WHOLE)
        good = good && set_product(lib, q, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &x->w_scales, sizeof x->w_scales) &&
               set_product(lib, q, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &x->in_scales, sizeof x->in_scales);
    return good;
}

/* FAST_ACCUM: sums stay in the tensor cores; on Hopper those hold fewer bits than float32, and moving them out on the
 * way takes time. What either costs is to be measured. */
static bool describe_e4m3(const cuda_ops *o, plan *q)
{
    const int8_t fast = 1;
    const int32_t rows = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    return set_product(o->lib, q, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast) &&
           (q->key.type_in == CUDA_INPUT_E4M3_WHOLE ||
            (set_product(o->lib, q, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &rows, sizeof rows) &&
             set_product(o->lib, q, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &rows, sizeof rows)));
}

static bool describe(const cuda_ops *o, plan *q, const cuda_operands *x)
{
    const cuda_libraries *lib = o->lib;
    const shape *s = &q->key;
    const cudaDataType_t types[] = {CUDA_R_32F, CUDA_R_16BF, CUDA_R_8F_E4M3, CUDA_R_8F_E4M3}, in = types[s->type_in],
                         out = types[s->bf16_out];
    const cublasOperation_t turn = s->across ? CUBLAS_OP_N : CUBLAS_OP_T;
    const uint64_t w_line = (uint64_t)(s->across ? s->n : s->k), w_lines = (uint64_t)(s->across ? s->k : s->n);
    const cublasLtEpilogue_t tails[] = {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU_BIAS};
    bool good = LT(lib->cublasLtMatmulDescCreate(&q->product, CUBLAS_COMPUTE_32F, CUDA_R_32F)) &&
                set_product(lib, q, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn) &&
                (s->type_in < CUDA_INPUT_E4M3_WHOLE || describe_e4m3(o, q)) &&
                LT(lib->cublasLtMatrixLayoutCreate(&q->a, in, w_line, w_lines, s->ld_w)) &&
                LT(lib->cublasLtMatrixLayoutCreate(&q->b, in, (uint64_t)s->k, (uint64_t)s->m, s->ld_in)) &&
                LT(lib->cublasLtMatrixLayoutCreate(&q->d, out, (uint64_t)s->n, (uint64_t)s->m, s->ld_out));
    if (good && s->tail != CUDA_TAIL_NONE)
        good = set_product(lib, q, CUBLASLT_MATMUL_DESC_EPILOGUE, &tails[s->tail], sizeof tails[0]) &&
               set_product(lib, q, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &out,
                           sizeof out);     /* bf16 behind bf16, float32 behind float32: what is documented for both */
    return good && set_pointers(lib, q, x); /* the heuristic takes the bias' alignment from its address */
}

static cublasStatus_t run_plan(cuda_ops *o, plan *q, const cuda_operands *x, const cublasLtMatmulAlgo_t *algorithm)
{
    const float one = 1, zero = 0;
    if (!set_pointers(o->lib, q, x))
        return CUBLAS_STATUS_INVALID_VALUE;
    return o->lib->cublasLtMatmul(o->device->blas, q->product, &one, x->w, q->a, x->in, q->b, &zero, x->out, q->d,
                                  x->out, q->d, algorithm, (void *)(uintptr_t)o->workspace, CUDA_WORKSPACE, o->stream);
}

/* Answers of the library's heuristic, best guess first; their count. */
static int candidates(cuda_ops *o, const plan *q, cublasLtMatmulHeuristicResult_t *found)
{
    const cuda_libraries *lib = o->lib;
    cublasLtMatmulPreference_t wish = NULL;
    const size_t workspace = CUDA_WORKSPACE;
    const uint32_t align = (uint32_t)q->key.align, reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    int count = 0, good_count = 0;
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    bool good = LT(lib->cublasLtMatmulPreferenceCreate(&wish)) &&
                LT(lib->cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                             sizeof workspace));
    for (int i = 0; i < 4; i++)
        good = good && LT(lib->cublasLtMatmulPreferenceSetAttribute(wish, alignments[i], &align, sizeof align));
    if (good) /* where k is split, its parts are summed in float32; an older library ignores this
                 setting */
        lib->cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                                                  sizeof reductions);
    if (!good || !LT(lib->cublasLtMatmulAlgoGetHeuristic(o->device->blas, q->product, q->a, q->b, q->d, q->d, wish,
                                                         CANDIDATES, found, &count)))
        count = 0;
    for (int i = 0; i < count; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS)
            found[good_count++] = found[i];
    if (wish)
        lib->cublasLtMatmulPreferenceDestroy(wish);
    return good_count;
}

/* What race_winner runs: the answers of one search. */
typedef struct search {
    cuda_ops *o;
    plan *q;
    const cuda_operands *x;
    const cublasLtMatmulHeuristicResult_t *found;
    CUevent begin, end;
} search;

/* The result is written each time: it is the same. */
static double time_algorithm(void *user, int which, int runs)
{
    const search *s = user;
    cuda_ops *o = s->o;
    float ms = -1;
    o->lib->cuEventRecord(s->begin, o->stream);
    for (int i = 0; i < runs; i++)
        if (!LT(run_plan(o, s->q, s->x, &s->found[which].algo)))
            return -1;
    o->lib->cuEventRecord(s->end, o->stream);
    if (o->lib->cuEventSynchronize(s->end) != CUDA_SUCCESS ||
        o->lib->cuEventElapsedTime(&ms, s->begin, s->end) != CUDA_SUCCESS)
        return -1;
    return ms;
}

/* The place of the fastest, −1 if none runs. */
static int fastest(cuda_ops *o, plan *q, const cuda_operands *x, const cublasLtMatmulHeuristicResult_t *found,
                   int count)
{
    search s = {.o = o, .q = q, .x = x, .found = found};
    int best = -1;
    if (o->lib->cuEventCreate(&s.begin, CU_EVENT_DEFAULT) == CUDA_SUCCESS &&
        o->lib->cuEventCreate(&s.end, CU_EVENT_DEFAULT) == CUDA_SUCCESS)
        best = race_winner(count, time_algorithm, &s);
    if (s.begin)
        o->lib->cuEventDestroy(s.begin);
    if (s.end)
        o->lib->cuEventDestroy(s.end);
    return best;
}

/* An algorithm for a described product: a remembered one, or the fastest answer, or while a step is recorded the first.
 * False if there is none. */
static bool choose(cuda_ops *o, plan *q, const cuda_operands *x)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES] = {0};
    const cublasLtMatmulAlgo_t *known = cuda_algorithm_find(o->device, &q->key);
    if (known &&
        LT(o->lib->cublasLtMatmulAlgoCheck(o->device->blas, q->product, q->a, q->b, q->d, q->d, known, &found[0])) &&
        found[0].workspaceSize <= CUDA_WORKSPACE) {
        q->algorithm = *known;
        return true;
    }
    int count = candidates(o, q, found), best = 0;
    bool timed = count > 1 && !o->recording && (double)q->key.m * (double)q->key.n * (double)q->key.k >= WORTH_TIMING;
    if (timed)
        best = fastest(o, q, x, found, count);
    if (count == 0 || best < 0)
        return false;
    q->algorithm = found[best].algo;
    if (timed)
        cuda_algorithm_note(o->device, &q->key, &q->algorithm);
    return true;
}

static plan *place_of(struct cuda_linear_plans *p, const shape *key)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    const unsigned char *bytes = (const unsigned char *)key;
    for (size_t i = 0; i < sizeof *key; i++)
        h = (h ^ bytes[i]) * 1099511628211u;
    for (int probe = 0; probe < 16; probe++) {
        plan *q = &p->table[(h + (uint64_t)probe) % TABLE];
        if (!q->used || cuda_product_same(&q->key, key))
            return q;
    }
    return &p->table[h % TABLE]; /* sixteen others in a row: this one makes room */
}

static flux1_status plan_of(cuda_ops *o, const shape *key, const cuda_operands *x, plan **out)
{
    cuda_device *d = o->device;
    if (!d->linear_plans && !(d->linear_plans = calloc(1, sizeof *d->linear_plans)))
        return error_oom(o->head.err, sizeof *d->linear_plans, "the products' plans");
    plan *q = place_of(d->linear_plans, key);
    if (!q->used || !cuda_product_same(&q->key, key)) {
        free_plan(o->lib, q);
        q->key = *key;
        q->used = true;
        q->own = !describe(o, q, x) || !choose(o, q, x);
    }
    *out = q;
    return FLUX1_OK;
}

/* Where the call itself says that the library does not do what its heuristic offered. */
static bool is_refusal(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_NOT_SUPPORTED || s == CUBLAS_STATUS_INVALID_VALUE || s == CUBLAS_STATUS_ARCH_MISMATCH;
}

static flux1_status product_failed(cuda_ops *o, const shape *s, cublasStatus_t why)
{
    char sentence[256];
    snprintf(sentence, sizeof sentence, "cuBLASLt fails on a product of %lld x %lld x %lld: %s", (long long)s->m,
             (long long)s->n, (long long)s->k, o->lib->cublasLtGetStatusString(why));
    return cuda_library_failed(o, sentence);
}

flux1_status cuda_plan_run(cuda_ops *o, const cuda_product_shape *key, const cuda_operands *x, bool *done)
{
    plan *q = NULL;
    TRY(plan_of(o, key, x, &q));
    if (!q->own) {
        cublasStatus_t status = run_plan(o, q, x, &q->algorithm);
        if (!LT(status) && (q->proven || !is_refusal(status)))
            return product_failed(o, key, status);
        q->proven = LT(status);
        q->own = !q->proven;
    }
    *done = !q->own;
    return FLUX1_OK;
}
