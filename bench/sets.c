/* bench_sets: products of FLUX.1's shapes, attention and a convolution by several instruction sets, interleaved in one
 * process, so that what else the machine does falls on all alike. Prints medians of wall time as GFLOP/s.
 *   bench_sets [threads] [repetitions] [set ...]     (sets of FLUX1_CPU_ISA; default: avx512bf16 avx512amx) */
#include "tools/peak.h"

#include "base/half.h"
#include "ops/cpu/cpu.h"
#include "ops/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static flux1_error err;
static int threads = 1, repetitions = 5;

static void must(flux1_status st)
{
    if (st != FLUX1_OK) {
        fprintf(stderr, "bench_sets: %s\n", err.message);
        exit(1);
    }
}

/* A column: a backend of one instruction set and arithmetic. */
typedef struct column {
    const char *set;
    bool int8;
    ops *o;
    block *b;
    store_tensor tensor;
    weight *w;
    act in, k, v, out;
} column;
enum { MOST_COLUMNS = 16, MOST = 64 };
static column columns[MOST_COLUMNS];
static int count;

typedef enum what { PRODUCT, ATTENTION, CONV } what;
typedef struct shape {
    const char *name;
    what what;
    int64_t m, n, k; /* rows, outputs, inputs; queries, heads, head's size; side, outputs, inputs */
} shape;

static const shape SHAPES[] = {
    {"T5 wi, 256 tokens", PRODUCT, 256, 10240, 4096},    {"T5 wo, 256 tokens", PRODUCT, 256, 4096, 10240},
    {"T5 wi, 512 tokens", PRODUCT, 512, 10240, 4096},    {"CLIP fc1, 77 tokens", PRODUCT, 77, 3072, 768},
    {"DiT qkv, 256 + 256", PRODUCT, 512, 9216, 3072},    {"DiT qkv, 1024 + 512", PRODUCT, 1536, 9216, 3072},
    {"DiT mlp, 4096 + 512", PRODUCT, 4608, 12288, 3072}, {"DiT out, 1024 + 512", PRODUCT, 1536, 3072, 15360},
    {"attention, 1024 + 512", ATTENTION, 1536, 24, 128}, {"attention, 4096 + 512", ATTENTION, 4608, 24, 128},
    {"VAE 3x3, 128 x 128", CONV, 128, 512, 512}};

static uint64_t random_state = 88172645463325252ull;
static float random_value(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (float)(random_state >> 40) * 0x1p-23f - 1.0f;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static act random_act(ops *o, act_role role, act_shape s)
{
    act a;
    tensor t;
    must(ops_create(o, role, s, &a));
    must(tensor_create(DTYPE_F32, 3, (int64_t[]){1, act_rows(a), s.cols}, &t, &err));
    for (int64_t i = 0; i < tensor_elements(&t); i++)
        ((float *)t.data)[i] = random_value();
    must(ops_upload(o, &t, a));
    tensor_free(&t);
    return a;
}

static void random_weight(column *c, const shape *s)
{
    const bool conv = s->what == CONV;
    c->tensor = (store_tensor){.name = "w", .file = "memory", .store = 1};
    must(tensor_create(DTYPE_BF16, conv ? 4 : 2, (int64_t[]){s->n, s->k, 3, 3}, &c->tensor.view, &err));
    for (int64_t i = 0; i < tensor_elements(&c->tensor.view); i++)
        ((uint16_t *)c->tensor.view.data)[i] = bf16_from_f32(random_value() * 0.02f);
    weight_recipe r = recipe_whole(conv ? WEIGHT_CONV : WEIGHT_LINEAR, &c->tensor);
    r.kernel = conv ? 3 : 0;
    r.int8 = c->int8;
    must(ops_prepare(c->o, c->b, &r, NULL, &c->w));
}

static act_shape shape_of(const shape *s, int64_t cols)
{
    return s->what == CONV ? shape_plane(1, s->m, s->m, cols) : shape_rows(1, 0, s->m, cols);
}

static void open_column(column *c, const shape *s)
{
    const ops_config config = {.arithmetic = DTYPE_BF16, .int8 = c->int8, .threads = threads, .err = &err};
    const act_role role = s->what == ATTENTION ? ACT_HEADS : s->what == CONV ? ACT_PLANE : ACT_LINEAR;
    setenv("FLUX1_CPU_ISA", c->set, 1);
    must(ops_cpu_create(&config, &c->o));
    must(ops_reserve(c->o, (size_t)1 << 30));
    must(ops_block_create(c->o, "bench", &c->b));
    if (s->what == ATTENTION) {
        c->in = random_act(c->o, role, shape_of(s, s->n * s->k));
        c->k = random_act(c->o, role, shape_of(s, s->n * s->k));
        c->v = random_act(c->o, role, shape_of(s, s->n * s->k));
        must(ops_create(c->o, role, shape_of(s, s->n * s->k), &c->out));
    } else {
        random_weight(c, s);
        c->in = random_act(c->o, role, shape_of(s, s->k));
        must(ops_create(c->o, role, shape_of(s, s->n), &c->out));
    }
    must(ops_block_begin(c->o, c->b));
}

static double seconds_of(column *c, const shape *s)
{
    const double begin = now();
    const attention_args a = {.heads = (int)s->n, .scale = 0.1f};
    must(s->what == PRODUCT     ? ops_product(c->o, c->in, c->w, &(epilogue){0}, c->out)
         : s->what == ATTENTION ? ops_attention(c->o, c->in, c->k, c->v, &a, c->out)
                                : ops_conv(c->o, c->in, (act){0}, (act){0}, c->w, 1, (act){0}, c->out));
    return now() - begin;
}

static void bench(const shape *s)
{
    static double times[MOST_COLUMNS][MOST];
    const double side = (double)s->m, flops = 2 * side * (double)(s->n * s->k) *
                                              (s->what == ATTENTION ? 2 * side
                                               : s->what == CONV    ? 9 * side
                                                                    : 1);
    for (int i = 0; i < count; i++)
        if (s->what == PRODUCT || !columns[i].int8)
            open_column(&columns[i], s);
    for (int t = -1; t < repetitions; t++) /* the first is not counted */
        for (int i = 0; i < count; i++)
            if (columns[i].o)
                times[i][t < 0 ? 0 : t] = seconds_of(&columns[i], s);
    printf("%-24s", s->name);
    for (int i = 0; i < count; i++) {
        if (!columns[i].o) {
            printf(" %10s", "");
            continue;
        }
        qsort(times[i], (size_t)repetitions, sizeof times[i][0], ascending);
        printf(" %10.1f", flops * 1e-9 / times[i][repetitions / 2]);
        ops_destroy(columns[i].o);
        tensor_free(&columns[i].tensor.view);
        columns[i].o = NULL;
        columns[i].tensor = (store_tensor){0};
    }
    printf("\n");
    fflush(stdout);
}

/* ---- what one thread reaches on registers ---- */

static void print_peaks(void)
{
    printf("one thread's peak: bf16 pairs %.0f, VNNI %.0f", peak_avx512bf16(0.1) * 1e-9, peak_avx512vnni(0.1) * 1e-9);
    unsetenv("FLUX1_CPU_ISA");
    if (!strcmp(ops_cpu_isa(), "avx512amx"))
        printf(", AMX bf16 %.0f, AMX int8 %.0f", peak_avx512amx(0.1) * 1e-9, peak_avx512amx_int8(0.1) * 1e-9);
    printf(" GFLOP/s\n");
}

int main(int argc, char **argv)
{
    static const char *const both[] = {"avx512bf16", "avx512amx"};
    const int sets = argc > 3 ? argc - 3 : 2;
    threads = argc > 1 ? atoi(argv[1]) : 1, repetitions = argc > 2 ? atoi(argv[2]) : 5;
    if (threads < 1 || threads > 256 || repetitions < 1 || repetitions > MOST || sets > MOST_COLUMNS / 2) {
        fprintf(stderr, "usage: bench_sets [threads] [repetitions 1..%d] [set ...]\n", MOST);
        return 2;
    }
    print_peaks();
    printf("%d thread%s, GFLOP/s\n%-24s", threads, threads == 1 ? "" : "s", "");
    for (int i = 0; i < sets; i++)
        for (int int8 = 0; int8 < 2; int8++) {
            columns[count++] = (column){.set = argc > 3 ? argv[3 + i] : both[i], .int8 = int8};
            printf(" %10s", columns[count - 1].set);
        }
    printf("\n%-24s", "");
    for (int i = 0; i < count; i++)
        printf(" %10s", columns[i].int8 ? "int8" : "bf16");
    printf("\n");
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        bench(&SHAPES[i]);
    return 0;
}
