/* bench_int8: products in int8 beside the same in float32 or bf16, interleaved in one process, so that what else the
 * machine does falls on all alike. Prints the median of processor time as ratios to bf16 weights' without int8.
 * bench_int8 [threads] [repetitions]; FLUX1_CPU_ISA chooses the instruction set. */
#include "tools/peak.h"

#include "base/half.h"
#include "ops/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static flux1_error err;

static void must(flux1_status st)
{
    if (st != FLUX1_OK) {
        fprintf(stderr, "bench_int8: %s\n", err.message);
        exit(1);
    }
}

/* d: where a block has its float16 scale, m: and a second one; −1: nowhere. */
typedef struct kind {
    const char *name;
    dtype type;
    int d, m;
    bool int8;
} kind;

static const kind KINDS[] = {{"bf16", DTYPE_BF16, -1, -1, false},
                             {"bf16 as int8", DTYPE_BF16, -1, -1, true},
                             {"Q8_0", DTYPE_Q8_0, 0, -1, false},
                             {"Q8_0 as int8", DTYPE_Q8_0, 0, -1, true},
                             {"Q4_K as int8", DTYPE_Q4_K, 0, 2, true}};
enum { COUNT = sizeof KINDS / sizeof *KINDS, MOST = 64 };

static uint64_t random_state = 88172645463325252ull;
static uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Any bits that are no NaN in bf16, with scales of a sane size. */
static void fill(const kind *q, const tensor *t)
{
    const uint16_t small = f16_from_f32(0.001f);
    const size_t bytes = tensor_bytes(t), step = (size_t)dtype_describe(q->type)->block_bytes;
    unsigned char *data = t->data;
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        const uint64_t x = random_bits() & 0xbfefbfefbfefbfefull;
        memcpy(data + i, &x, 8);
    }
    for (size_t b = 0; b < bytes && q->d >= 0; b += step) {
        memcpy(data + b + q->d, &small, 2);
        if (q->m >= 0)
            memcpy(data + b + q->m, &small, 2);
    }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void upload_random(ops *o, act in, int64_t m, int64_t k)
{
    tensor x;
    must(tensor_create(DTYPE_F32, 3, (int64_t[]){1, m, k}, &x, &err));
    for (int64_t i = 0; i < m * k; i++)
        ((float *)x.data)[i] = (float)(random_bits() >> 40) * 0x1p-23f - 1;
    must(ops_upload(o, &x, in));
    tensor_free(&x);
}

static void bench(int threads, int repetitions, int64_t m, int64_t n, int64_t k)
{
    static double times[COUNT][MOST];
    const ops_config c = {.arithmetic = ops_cpu_multiplies_bf16() ? DTYPE_BF16 : DTYPE_F32,
                          .int8 = true,
                          .threads = threads,
                          .err = &err};
    store_tensor stored[COUNT];
    weight *w[COUNT];
    block *b;
    ops *o;
    act in, out;
    must(ops_cpu_create(&c, &o));
    must(ops_reserve(o, (size_t)1 << 30));
    must(ops_block_create(o, "bench", &b));
    must(ops_create(o, ACT_LINEAR, shape_rows(1, 0, m, k), &in));
    must(ops_create(o, ACT_LINEAR, shape_rows(1, 0, m, n), &out));
    upload_random(o, in, m, k);
    for (int i = 0; i < COUNT; i++) {
        stored[i] = (store_tensor){.name = "w", .file = "memory", .store = (uint64_t)i + 1};
        must(tensor_create(KINDS[i].type, 2, (int64_t[]){n, k}, &stored[i].view, &err));
        fill(&KINDS[i], &stored[i].view);
        weight_recipe r = recipe_whole(WEIGHT_LINEAR, &stored[i]);
        r.int8 = KINDS[i].int8;
        must(ops_prepare(o, b, &r, NULL, &w[i]));
    }
    must(ops_block_begin(o, b));
    for (int t = -1; t < repetitions; t++) /* the first is not counted */
        for (int i = 0; i < COUNT; i++) {
            const double begin = now_cpu();
            must(ops_product(o, in, w[i], &(epilogue){0}, out));
            times[i][t < 0 ? 0 : t] = now_cpu() - begin;
        }
    printf("%lld x %lld x %lld:", (long long)m, (long long)n, (long long)k);
    for (int i = 0; i < COUNT; i++) {
        qsort(times[i], (size_t)repetitions, sizeof times[i][0], ascending);
        const double median = times[i][repetitions / 2];
        printf(" %s %.1f GOP/s, %.2f;", KINDS[i].name, 2e-9 * (double)(m * n * k) / median,
               median / times[0][repetitions / 2]);
        tensor_free(&stored[i].view);
    }
    printf("\n");
    ops_destroy(o);
}

int main(int argc, char **argv)
{
    static const int64_t shapes[][3] = {{1280, 12288, 3072}, {512, 9216, 3072}, {256, 10240, 4096}};
    const int threads = argc > 1 ? atoi(argv[1]) : 1, repetitions = argc > 2 ? atoi(argv[2]) : 5;
    if (threads < 1 || threads > 64 || repetitions < 1 || repetitions > MOST) {
        fprintf(stderr, "usage: bench_int8 [threads 1..64] [repetitions 1..%d]\n", MOST);
        return 2;
    }
    printf("%s, %d thread%s: processor time, bf16 weights in %s = 1\n", ops_cpu_isa(), threads, threads == 1 ? "" : "s",
           ops_cpu_multiplies_bf16() ? "bf16" : "f32");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        bench(threads, repetitions, shapes[i][0], shapes[i][1], shapes[i][2]);
    return 0;
}
