/* bench_packed: products with packed weights beside the same with bf16 weights, interleaved in one process, so that
 * what else the machine does falls on all alike. Prints the least processor time of several rounds as ratios to bf16's.
 * bench_packed [threads] [repetitions] [rows] FLUX1_CPU_ISA chooses the instruction set; bf16 arithmetic is timed too
 * where that multiplies bf16. bench_packed short: the shapes of few rows, once, in some seconds. */
#include "tools/peak.h"

#include "base/half.h"
#include "ops/ops.h"
#include "tensor/scale.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int threads = 1, repetitions = 5;
static flux1_error err;

static void must(flux1_status st)
{
    if (st != FLUX1_OK) {
        fprintf(stderr, "bench_packed: %s\n", err.message);
        exit(1);
    }
}

/* What else the machine does only adds. */
static double fastest(const double *list, int n)
{
    double least = list[0];
    for (int i = 1; i < n; i++)
        least = list[i] < least ? list[i] : least;
    return least;
}

static uint64_t random_state = 88172645463325252ull;
static uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}
static float random_value(void) { return (float)(random_bits() >> 40) * 0x1p-23f - 1.0f; }

/* ---- weights: random blocks, with f16 numbers of a sane size at offsets `d` and `m` ---- */

typedef struct kind {
    dtype type;
    int d, m; /* -1: none */
} kind;

static const kind KINDS[] = {
    {DTYPE_BF16, -1, -1}, {DTYPE_F16, -1, -1},   {DTYPE_F8_E4M3, -1, -1}, {DTYPE_F8_E5M2, -1, -1}, {DTYPE_I8, -1, -1},
    {DTYPE_BNB4, -1, -1}, {DTYPE_Q4_0, 0, -1},   {DTYPE_Q4_1, 0, 2},      {DTYPE_Q5_0, 0, -1},     {DTYPE_Q5_1, 0, 2},
    {DTYPE_Q8_0, 0, -1},  {DTYPE_IQ4_NL, 0, -1}, {DTYPE_Q2_K, 80, 82},    {DTYPE_Q3_K, 108, -1},   {DTYPE_Q4_K, 0, 2},
    {DTYPE_Q5_K, 0, 2},   {DTYPE_Q6_K, 208, -1}, {DTYPE_IQ4_XS, 0, -1}};
enum { COUNT = sizeof KINDS / sizeof *KINDS, MOST = 64 };

static float factors[1 << 20]; /* of rows, or of 64 elements */

static void give_scale(tensor_scale *s, dtype type, int64_t k)
{
    const tensor all = {.type = DTYPE_F32, .dims = 1, .shape = {1 << 20}, .data = factors};
    *s = (tensor_scale){.kind = type == DTYPE_I8 ? SCALE_ROWS : SCALE_CODES,
                        .factor = all,
                        .constant = 1.0f / 127,
                        .row = k,
                        .absmax = all,
                        .block = 64,
                        .rounded = DTYPE_BF16};
    for (int i = 0; i < 16; i++)
        s->code[i] = (float)(i - 8) / 8;
}

static void fill(const kind *q, const tensor *t)
{
    const size_t bytes = tensor_bytes(t), stride = (size_t)dtype_describe(q->type)->block_bytes;
    unsigned char *data = t->data;
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t x = random_bits() & (q->type == DTYPE_F16 ? 0xafffafffafffafffull : 0xbfefbfefbfefbfefull);
        memcpy(data + i, &x, 8);
    }
    for (size_t b = 0; b < bytes; b += stride) {
        const uint16_t small = f16_from_f32(0.001f);
        if (q->d >= 0)
            memcpy(data + b + q->d, &small, 2);
        if (q->m >= 0)
            memcpy(data + b + q->m, &small, 2);
    }
}

/* ---- products ---- */

static void bench(dtype arithmetic, const char *name, int64_t m, int64_t n, int64_t k)
{
    static double times[COUNT][MOST];
    static tensor_scale scales[COUNT];
    weight *w[COUNT];
    store_tensor stored[COUNT];
    ops *o;
    block *b;
    act in, out;
    tensor x;
    must(ops_cpu_create(&(ops_config){.arithmetic = arithmetic, .threads = threads, .err = &err}, &o));
    must(ops_reserve(o, (size_t)2 << 30));
    must(ops_block_create(o, "bench", &b));
    must(ops_block_begin(o, b));
    must(ops_create(o, ACT_LINEAR, shape_rows(1, 0, m, k), &in));
    must(ops_create(o, ACT_LINEAR, shape_rows(1, 0, m, n), &out));
    must(tensor_create(DTYPE_F32, 3, (int64_t[]){1, m, k}, &x, &err));
    for (int64_t i = 0; i < m * k; i++)
        ((float *)x.data)[i] = random_value();
    must(ops_upload(o, &x, in));
    for (int i = 0; i < COUNT; i++) {
        stored[i] = (store_tensor){.name = "w", .file = "memory"};
        must(tensor_create(KINDS[i].type, 2, (int64_t[]){n, k}, &stored[i].view, &err));
        fill(&KINDS[i], &stored[i].view);
        if (dtype_describe(KINDS[i].type)->needs_scale) {
            give_scale(&scales[i], KINDS[i].type, k);
            stored[i].view.scale = &scales[i];
        }
        weight_recipe r = recipe_whole(WEIGHT_LINEAR, &stored[i]);
        must(ops_prepare(o, b, &r, NULL, &w[i]));
    }
    for (int t = -1; t < repetitions; t++) /* the first is not counted */
        for (int i = 0; i < COUNT; i++) {
            const double begin = now_cpu();
            must(ops_product(o, in, w[i], &(epilogue){0}, out));
            times[i][t < 0 ? 0 : t] = now_cpu() - begin;
        }
    const double plain = fastest(times[0], repetitions), weights = (double)(n * k);
    printf("%-22s %-4s %4lld x %5lld x %5lld  bf16 %6.1f GFLOP/s a core;", name,
           arithmetic == DTYPE_F32 ? "f32" : "bf16", (long long)m, (long long)n, (long long)k,
           2e-9 * weights * (double)m / plain);
    for (int i = 1; i < COUNT; i++) {
        printf(" %s %.3f", dtype_describe(KINDS[i].type)->name, fastest(times[i], repetitions) / plain);
        tensor_free(&stored[i].view);
    }
    printf("\n");
    fflush(stdout);
    tensor_free(&stored[0].view);
    tensor_free(&x);
    ops_destroy(o);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int64_t m, n, k;
    } shapes[] = {{"DiT 512^2, in", 1280, 9216, 3072},      {"DiT 512^2, out", 1280, 3072, 12288},
                  {"DiT 1024^2, square", 4608, 3072, 3072}, {"T5 256 tokens, in", 256, 10240, 4096},
                  {"T5 256 tokens, out", 256, 4096, 10240}, {"few rows", 16, 9216, 3072},
                  {"modulation, 4 rows", 4, 18432, 3072}};
    enum { FEW = 16 };
    const bool brief = argc == 2 && !strcmp(argv[1], "short");
    const long long rows = argc > 3 ? atoll(argv[3]) : 0;
    threads = argc > 1 && !brief ? atoi(argv[1]) : 1;
    repetitions = brief ? 1 : argc > 2 ? atoi(argv[2]) : 5;
    if (threads < 1 || threads > 64 || repetitions < 1 || repetitions > MOST || rows < 0) {
        fprintf(
            stderr,
            "usage: bench_packed [threads 1..64] [repetitions 1..%d] [rows: only these]\n       bench_packed short\n",
            MOST);
        return 2;
    }
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++)
        factors[i] = 0.01f;
    printf("%s, %d threads: processor time, bf16 weights = 1\n", ops_cpu_isa(), threads);
    fflush(stdout);
    for (int bf16 = 0; bf16 <= ops_cpu_multiplies_bf16(); bf16++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            if ((!rows || shapes[i].m == rows) && (!brief || shapes[i].m <= FEW))
                bench(bf16 ? DTYPE_BF16 : DTYPE_F32, shapes[i].name, shapes[i].m, shapes[i].n, shapes[i].k);
    return 0;
}
