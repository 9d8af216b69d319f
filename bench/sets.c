/* bench_sets: products of FLUX.1's shapes, attention and a convolution by several instruction sets, interleaved in one
 * process, so that what else the machine does falls on all alike. Prints medians as GFLOP/s.
 *   bench_sets [--cpu] [--best] [--cold] [--only TEXT] [threads] [repetitions] [column ...]
 * A column is a set of FLUX1_CPU_ISA and an arithmetic: "avx2:f32" (weights in float32), "avx2:f32bf16" (weights in
 * bf16), "avx512amx:bf16", "avx512amx:int8", "avx2:f32int8-fast" (between products float32). Default: the last two of
 * avx512bf16 and avx512amx. --only: shapes whose names have TEXT. --cold: each call has other weights, so that they
 * come from memory as they do in a model. --cpu: processor time of all threads divided by them, for a machine that
 * others use too; otherwise wall time. --best: the best call in place of the median, which of a hundred short ones
 * repeats within 1 % on such a machine. */
#include "tools/peak.h"

#include "base/half.h"
#include "ops/cpu/cpu.h"
#include "ops/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static flux1_error err;
static int threads = 1, repetitions = 5;
static bool by_cpu, best, cold;

static double seconds_now(void) { return by_cpu ? now_cpu() / threads : now(); }

static void must(flux1_status st)
{
    if (st != FLUX1_OK) {
        fprintf(stderr, "bench_sets: %s\n", err.message);
        exit(1);
    }
}

/* How a column multiplies. */
typedef struct manner {
    const char *name;
    dtype arithmetic, weights;
    int8_kind int8;
} manner;
static const manner MANNERS[] = {
    {"f32", DTYPE_F32, DTYPE_F32, INT8_NONE},    {"f32bf16", DTYPE_F32, DTYPE_BF16, INT8_NONE},
    {"bf16", DTYPE_BF16, DTYPE_BF16, INT8_NONE}, {"f32int8-fast", DTYPE_F32, DTYPE_BF16, INT8_ROTATED},
    {"int8", DTYPE_BF16, DTYPE_BF16, INT8_FINE}, {"int8-fast", DTYPE_BF16, DTYPE_BF16, INT8_ROTATED}};

enum { MOST_WEIGHTS = 256 };

/* A column: a backend of one instruction set and manner. */
typedef struct column {
    const char *set; /* of FLUX1_CPU_ISA */
    const manner *by;
    ops *o;
    block *b;
    tensor values; /* of all weights */
    store_tensor tensor[MOST_WEIGHTS];
    weight *w[MOST_WEIGHTS];
    int weights, next;
    act in, k, v, out;
} column;
enum { MOST_COLUMNS = 16, MOST = 1000 };
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
    {"T5 wi, 512 tokens", PRODUCT, 512, 10240, 4096},    {"T5 qkv, 256 tokens", PRODUCT, 256, 12288, 4096},
    {"T5 o, 512 tokens", PRODUCT, 512, 4096, 4096},      {"CLIP qkv, 77 tokens", PRODUCT, 77, 2304, 768},
    {"CLIP out, 77 tokens", PRODUCT, 77, 768, 768},      {"CLIP fc1, 77 tokens", PRODUCT, 77, 3072, 768},
    {"CLIP fc2, 77 tokens", PRODUCT, 77, 768, 3072},     {"CLIP fc1, 24 tokens", PRODUCT, 24, 3072, 768},
    {"CLIP fc2, 24 tokens", PRODUCT, 24, 768, 3072},     {"modulation, 4 rows", PRODUCT, 4, 18432, 3072},
    {"DiT qkv, 256 + 256", PRODUCT, 512, 9216, 3072},    {"DiT qkv, 1024 + 512", PRODUCT, 1536, 9216, 3072},
    {"DiT mlp, 4096 + 512", PRODUCT, 4608, 12288, 3072}, {"DiT out, 1024 + 512", PRODUCT, 1536, 3072, 15360},
    {"attention, 256 + 256", ATTENTION, 512, 24, 128},   {"attention, 1024 + 512", ATTENTION, 1536, 24, 128},
    {"attention, 4096 + 512", ATTENTION, 4608, 24, 128}, {"VAE 3x3, 128 x 128", CONV, 128, 512, 512}};

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

static void random_values(const tensor *t)
{
    for (int64_t i = 0; i < tensor_elements(t); i++) {
        const float value = random_value() * 0.02f;
        if (t->type == DTYPE_F32)
            ((float *)t->data)[i] = value;
        else
            ((uint16_t *)t->data)[i] = bf16_from_f32(value);
    }
}

/* One, or as many as no cache holds. */
static void random_weights(column *c, const shape *s)
{
    const bool conv = s->what == CONV;
    const int64_t elements = s->n * s->k * (conv ? 9 : 1), few = ((int64_t)1 << 28) / elements;
    c->weights = !cold ? 1 : few < 2 ? 2 : few > MOST_WEIGHTS ? MOST_WEIGHTS : (int)few;
    must(tensor_create(c->by->weights, conv ? 4 : 2, (int64_t[]){s->n * c->weights, s->k, 3, 3}, &c->values, &err));
    random_values(&c->values);
    for (int i = 0; i < c->weights; i++) {
        c->tensor[i] = (store_tensor){.name = "w", .file = "memory", .store = 1, .view = c->values};
        c->tensor[i].view.shape[0] = s->n;
        c->tensor[i].view.data = (char *)c->values.data + (size_t)i * tensor_bytes(&c->tensor[i].view);
        weight_recipe r = recipe_whole(conv ? WEIGHT_CONV : WEIGHT_LINEAR, &c->tensor[i]);
        r.kernel = conv ? 3 : 0;
        r.int8 = c->by->int8;
        must(ops_prepare(c->o, c->b, &r, NULL, &c->w[i]));
    }
}

static act_shape shape_of(const shape *s, int64_t cols)
{
    return s->what == CONV ? shape_plane(1, s->m, s->m, cols) : shape_rows(1, 0, s->m, cols);
}

static void open_column(column *c, const shape *s)
{
    const ops_config config = {.arithmetic = c->by->arithmetic, .int8 = c->by->int8, .threads = threads, .err = &err};
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
        random_weights(c, s);
        c->in = random_act(c->o, role, shape_of(s, s->k));
        must(ops_create(c->o, role, shape_of(s, s->n), &c->out));
    }
    must(ops_block_begin(c->o, c->b));
}

static double seconds_of(column *c, const shape *s)
{
    const weight *w = s->what == ATTENTION ? NULL : c->w[c->next++ % c->weights];
    const double begin = seconds_now();
    const attention_args a = {.heads = (int)s->n, .scale = 0.1f, .int8 = true};
    must(s->what == PRODUCT     ? ops_product(c->o, c->in, w, &(epilogue){0}, c->out)
         : s->what == ATTENTION ? ops_attention(c->o, c->in, c->k, c->v, &a, c->out)
                                : ops_conv(c->o, c->in, (act){0}, (act){0}, w, 1, (act){0}, c->out));
    return seconds_now() - begin;
}

static void bench(const shape *s)
{
    static double times[MOST_COLUMNS][MOST];
    const double side = (double)s->m, flops = 2 * side * (double)(s->n * s->k) *
                                              (s->what == ATTENTION ? 2 * side
                                               : s->what == CONV    ? 9 * side
                                                                    : 1);
    for (int i = 0; i < count; i++)
        if (s->what != CONV || !columns[i].by->int8)
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
        printf(" %10.1f", flops * 1e-9 / times[i][best ? 0 : repetitions / 2]);
        ops_destroy(columns[i].o);
        tensor_free(&columns[i].values);
        columns[i] = (column){.set = columns[i].set, .by = columns[i].by};
    }
    printf("\n");
    fflush(stdout);
}

/* ---- what one thread reaches on registers ---- */

static void print_peaks(void)
{
    printf("one thread's peak: AVX2 f32 %.0f, bf16 pairs %.0f, VNNI %.0f", peak_avx2(0.1) * 1e-9,
           peak_avx512bf16(0.1) * 1e-9, peak_avx512vnni(0.1) * 1e-9);
    unsetenv("FLUX1_CPU_ISA");
    if (!strcmp(ops_cpu_isa(), "avx512amx"))
        printf(", AMX bf16 %.0f, AMX int8 %.0f", peak_avx512amx(0.1) * 1e-9, peak_avx512amx_int8(0.1) * 1e-9);
    printf(" GFLOP/s\n");
}

/* "set:manner". */
static bool read_column(const char *text, column *c)
{
    static char sets[MOST_COLUMNS][32];
    const char *colon = strchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof sets[0])
        return false;
    memcpy(sets[count], text, (size_t)(colon - text));
    *c = (column){.set = sets[count]};
    for (size_t i = 0; i < sizeof MANNERS / sizeof *MANNERS; i++)
        if (!strcmp(colon + 1, MANNERS[i].name))
            c->by = &MANNERS[i];
    return c->by != NULL;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: bench_sets [--cpu] [--best] [--cold] [--only TEXT] [threads 1..256] [repetitions 1..%d] "
            "[set:manner ...]\n",
            MOST);
    return 2;
}

static void print_head(void)
{
    printf("%d thread%s, GFLOP/s by %s time\n%-24s", threads, threads == 1 ? "" : "s", by_cpu ? "processor" : "wall",
           "");
    for (int i = 0; i < count; i++)
        printf(" %10s", columns[i].set);
    printf("\n%-24s", "");
    for (int i = 0; i < count; i++)
        printf(" %10s", columns[i].by->name);
    printf("\n");
}

int main(int argc, char **argv)
{
    static char *usual[] = {"avx512bf16:bf16", "avx512bf16:int8", "avx512amx:bf16", "avx512amx:int8"};
    const char *only = "";
    int at = 1;
    for (; at < argc && argv[at][0] == '-'; at++)
        if (!strcmp(argv[at], "--cpu"))
            by_cpu = true;
        else if (!strcmp(argv[at], "--best"))
            best = true;
        else if (!strcmp(argv[at], "--cold"))
            cold = true;
        else if (!strcmp(argv[at], "--only") && at + 1 < argc)
            only = argv[++at];
        else
            return usage();
    threads = at < argc ? atoi(argv[at]) : 1, repetitions = at + 1 < argc ? atoi(argv[at + 1]) : 5;
    char **named = at + 2 < argc ? argv + at + 2 : usual;
    const int all = at + 2 < argc ? argc - at - 2 : (int)(sizeof usual / sizeof *usual);
    if (threads < 1 || threads > 256 || repetitions < 1 || repetitions > MOST || all > MOST_COLUMNS)
        return usage();
    for (; count < all; count++)
        if (!read_column(named[count], &columns[count]))
            return usage();
    print_peaks();
    print_head();
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        if (strstr(SHAPES[i].name, only))
            bench(&SHAPES[i]);
    return 0;
}
