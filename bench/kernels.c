/* bench_kernels: the CPU backend's products at true sizes beside the machine's multiply-add peak and OpenBLAS, all in
 * one run and interleaved, so that what else the machine does falls on all alike. Prints medians and ratios.
 *   bench_kernels [linear|attention|conv|all] [threads] [repetitions] [wall|cpu]
 * FLUX1_CPU_ISA chooses our instruction set, OPENBLAS_CORETYPE=SkylakeX OpenBLAS's AVX-512 kernels where it does not
 * know the processor. "cpu" divides processor time by threads instead of taking wall time: for a machine that others
 * use too. */
#include "tools/peak.h"

#include "base/half.h"
#include "base/pool.h"
#include "ops/ops.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void openblas_set_num_threads(int threads);

static int threads, repetitions;
static bool by_cpu;

static double clock_now(void) { return by_cpu ? now_cpu() / threads : now(); }
static pool *workers;
static flux1_error err;

static void must(flux1_status st)
{
    if (st != FLUX1_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.message);
        exit(1);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(double *list, int n)
{
    qsort(list, (size_t)n, sizeof *list, by_value);
    return list[n / 2];
}

/* ---- peak of all threads together ---- */

typedef struct peak_job {
    double (*of_one)(double seconds);
    double sum[64];
} peak_job;

static void peak_task(void *arg, int64_t index, int worker)
{
    peak_job *j = arg;
    (void)worker;
    j->sum[index] = j->of_one(0.05);
}

static double peak(double (*of_one)(double seconds))
{
    peak_job j = {.of_one = of_one};
    double all = 0;
    pool_run(workers, threads, peak_task, &j);
    for (int i = 0; i < threads; i++)
        all += j.sum[i];
    return all;
}

static double peak_f32(void)
{
    const char *isa = ops_cpu_isa();
    return peak(!strncmp(isa, "avx512", 6) ? peak_avx512 : peak_avx2);
}

/* ---- a backend with one block, and random operands ---- */

typedef struct rig {
    ops *o;
    block *b;
} rig;

static rig open_rig(dtype arithmetic)
{
    rig r;
    must(ops_cpu_create(&(ops_config){.arithmetic = arithmetic, .threads = threads, .err = &err}, &r.o));
    must(ops_reserve(r.o, (size_t)6 << 30));
    must(ops_block_create(r.o, "bench", &r.b));
    must(ops_block_begin(r.o, r.b));
    return r;
}

static uint64_t random_state = 88172645463325252ull;
static float random_value(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (float)(random_state >> 40) * 0x1p-23f - 1.0f;
}

static act random_act(rig *r, act_role role, act_shape shape)
{
    act a;
    tensor t;
    must(ops_create(r->o, role, shape, &a));
    must(tensor_create(DTYPE_F32, 3, (int64_t[]){shape.batch, act_rows(a), shape.cols}, &t, &err));
    for (int64_t i = 0; i < tensor_elements(&t); i++)
        ((float *)t.data)[i] = random_value();
    must(ops_upload(r->o, &t, a));
    tensor_free(&t);
    return a;
}

static store_tensor random_weight(dtype type, int dims, const int64_t *shape)
{
    store_tensor s = {.name = "w", .file = "memory"};
    must(tensor_create(type, dims, shape, &s.view, &err));
    for (int64_t i = 0; i < tensor_elements(&s.view); i++) {
        if (type == DTYPE_F32)
            ((float *)s.view.data)[i] = random_value() * 0.02f;
        else
            ((uint16_t *)s.view.data)[i] = bf16_from_f32(random_value() * 0.02f);
    }
    return s;
}

static void settle(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 120000000},
              NULL); /* OpenBLAS's threads spin for a while after their work */
}

/* ---- linear ---- */

enum { KINDS = 3, MOST = 64 };
static const struct {
    const char *name;
    dtype arithmetic, weights;
} kinds[KINDS] = {{"f32 x f32", DTYPE_F32, DTYPE_F32},
                  {"f32 x bf16", DTYPE_F32, DTYPE_BF16},
                  {"bf16 x bf16", DTYPE_BF16, DTYPE_BF16}};

static void bench_linear(int64_t m, int64_t n, int64_t k)
{
    double flops = 2.0 * (double)m * (double)n * (double)k, times[KINDS + 1][MOST], tops[MOST];
    rig rigs[KINDS];
    act in[KINDS], out[KINDS];
    weight *w[KINDS];
    store_tensor tensors[KINDS];
    for (int i = 0; i < KINDS; i++) {
        rigs[i] = open_rig(kinds[i].arithmetic);
        in[i] = random_act(&rigs[i], ACT_LINEAR, shape_rows(1, 0, m, k));
        must(ops_create(rigs[i].o, ACT_LINEAR, shape_rows(1, 0, m, n), &out[i]));
        tensors[i] = random_weight(kinds[i].weights, 2, (int64_t[]){n, k});
        weight_recipe r = recipe_whole(WEIGHT_LINEAR, &tensors[i]);
        must(ops_prepare(rigs[i].o, rigs[i].b, &r, NULL, &w[i]));
    }
    float *a = malloc((size_t)(m * k) * sizeof *a), *c = malloc((size_t)(m * n) * sizeof *c);
    if (!a || !c)
        exit(1);
    for (int64_t i = 0; i < m * k; i++)
        a[i] = random_value();
    for (int t = -1; t < repetitions; t++) { /* the first is not counted */
        int at = t < 0 ? 0 : t;
        tops[at] = peak_f32();
        double begin = clock_now();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, 1, a, (int)k, tensors[0].view.data,
                    (int)k, 0, c, (int)n);
        times[KINDS][at] = clock_now() - begin;
        settle();
        for (int i = 0; i < KINDS; i++) {
            begin = clock_now();
            must(ops_product(rigs[i].o, in[i], w[i], &(epilogue){0}, out[i]));
            times[i][at] = clock_now() - begin;
        }
    }
    double blas = flops / median(times[KINDS], repetitions), top = median(tops, repetitions);
    printf("linear %5lld x %5lld x %5lld  OpenBLAS %6.1f GFLOP/s (%3.0f%% of peak %.0f)", (long long)m, (long long)n,
           (long long)k, blas * 1e-9, 100 * blas / top, top * 1e-9);
    for (int i = 0; i < KINDS; i++) {
        double ours = flops / median(times[i], repetitions);
        printf("  %s %6.1f = %3.0f%%", kinds[i].name, ours * 1e-9, 100 * ours / blas);
        ops_destroy(rigs[i].o);
        tensor_free(&tensors[i].view);
    }
    printf("\n");
    fflush(stdout);
    free(a);
    free(c);
}

/* ---- attention and convolution ---- */

static void report(const char *what, dtype arithmetic, double flops, double *times, double *tops)
{
    double rate = flops / median(times, repetitions), top = median(tops, repetitions);
    printf("%s %-4s %7.1f ms %6.1f GFLOP/s = %3.0f%% of f32 FMA peak %.0f\n", what,
           arithmetic == DTYPE_F32 ? "f32" : "bf16", median(times, repetitions) * 1e3, rate * 1e-9, 100 * rate / top,
           top * 1e-9);
    fflush(stdout);
}

static void bench_attention(int64_t rows, int64_t heads, int64_t dim, dtype arithmetic)
{
    rig r = open_rig(arithmetic);
    double times[MOST], tops[MOST];
    char name[80];
    act qkv = random_act(&r, ACT_HEADS, shape_rows(1, 512, rows - 512, 3 * heads * dim)), out;
    must(ops_create(r.o, ACT_HEADS, shape_rows(1, 512, rows - 512, heads * dim), &out));
    attention_args a = {.heads = heads, .scale = 0.088f};
    for (int t = -1; t < repetitions; t++) {
        tops[t < 0 ? 0 : t] = peak_f32();
        double begin = clock_now();
        must(ops_attention(r.o, act_columns(qkv, 0, heads * dim), act_columns(qkv, heads * dim, heads * dim),
                           act_columns(qkv, 2 * heads * dim, heads * dim), &a, out));
        times[t < 0 ? 0 : t] = clock_now() - begin;
    }
    snprintf(name, sizeof name, "attention %lld tokens, %lld x %lld", (long long)rows, (long long)heads,
             (long long)dim);
    report(name, arithmetic, 4.0 * (double)rows * (double)rows * (double)(heads * dim), times, tops);
    ops_destroy(r.o);
}

static void bench_conv(int64_t size, int64_t in_channels, int64_t out_channels, dtype arithmetic)
{
    rig r = open_rig(arithmetic);
    double times[MOST], tops[MOST];
    char name[80];
    act in = random_act(&r, ACT_PLANE, shape_plane(1, size, size, in_channels)), out;
    must(ops_create(r.o, ACT_PLANE, shape_plane(1, size, size, out_channels), &out));
    store_tensor t = random_weight(arithmetic, 4, (int64_t[]){out_channels, in_channels, 3, 3});
    weight_recipe recipe = recipe_whole(WEIGHT_CONV, &t);
    recipe.kernel = 3;
    weight *w;
    must(ops_prepare(r.o, r.b, &recipe, NULL, &w));
    for (int i = -1; i < repetitions; i++) {
        tops[i < 0 ? 0 : i] = peak_f32();
        double begin = clock_now();
        must(ops_conv(r.o, in, (act){0}, (act){0}, w, 1, (act){0}, out));
        times[i < 0 ? 0 : i] = clock_now() - begin;
    }
    snprintf(name, sizeof name, "conv 3x3 %3lld^2, %3lld -> %3lld", (long long)size, (long long)in_channels,
             (long long)out_channels);
    report(name, arithmetic, 2.0 * (double)(size * size) * 9 * (double)(in_channels * out_channels), times, tops);
    ops_destroy(r.o);
    tensor_free(&t.view);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "all";
    bool all = !strcmp(what, "all");
    threads = argc > 2 ? atoi(argv[2]) : cpu_physical_cores();
    repetitions = argc > 3 ? atoi(argv[3]) : 5;
    by_cpu = argc > 4 && !strcmp(argv[4], "cpu");
    if (!(all || !strcmp(what, "linear") || !strcmp(what, "attention") || !strcmp(what, "conv")) || threads < 1 ||
        threads > 64 || repetitions < 1 || repetitions > MOST) {
        fprintf(stderr,
                "usage: bench_kernels [linear|attention|conv|all] [threads 1..64] [repetitions 1..%d] [wall|cpu]\n",
                MOST);
        return 2;
    }
    must(pool_create(threads, &workers, &err));
    openblas_set_num_threads(threads);
    printf("%s, %d threads; peak GFLOP/s: avx2 %.0f, avx512 %.0f, bf16 pairs %.0f; OpenBLAS: %s\n", ops_cpu_isa(),
           threads, peak(peak_avx2) * 1e-9, peak(peak_avx512) * 1e-9, peak(peak_avx512bf16) * 1e-9,
           openblas_get_config());
    if (all || !strcmp(what, "linear")) {
        static const int64_t shapes[][2] = {{3072, 3072}, {9216, 3072}, {12288, 3072}, {3072, 12288}, {3072, 15360}},
                             rows[] = {512, 4608};
        for (int m = 0; m < 2; m++)
            for (int s = 0; s < 5; s++)
                bench_linear(rows[m], shapes[s][0], shapes[s][1]);
    }
    if (all || !strcmp(what, "attention")) {
        bench_attention(4608, 24, 128, DTYPE_F32);
        bench_attention(4608, 24, 128, DTYPE_BF16);
        bench_attention(4096 + 512, 1, 512, DTYPE_F32);
    }
    if (all || !strcmp(what, "conv")) {
        static const int64_t convs[][3] = {{64, 16, 512},   {64, 512, 512},  {128, 512, 512},
                                           {256, 512, 512}, {256, 512, 256}, {256, 256, 256},
                                           {512, 256, 128}, {512, 128, 128}, {512, 128, 3}};
        for (int half = 0; half < 2; half++)
            for (int i = 0; i < 9; i++)
                bench_conv(convs[i][0], convs[i][1], convs[i][2], half ? DTYPE_BF16 : DTYPE_F32);
    }
    pool_destroy(workers);
    return 0;
}
