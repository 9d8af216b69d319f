/* `flux1 plan` as a whole: every way to use a mesh, sums, what the stages' own plans count, memory, the timeline. */
#include "support/golden.h"

#include "base/file.h"
#include "base/json.h"
#include "flux1_tools.h"
#include "pipeline/text_to_image.h"
#include "tools/machine.h"
#include "ops/ttnn_machines.h"

enum { PARTS = 5 };

static const json_value *get(const json_value *o, const char *key)
{
    const json_value *v = json_object_get(o, key);
    if (!v)
        fail_msg("a row has no \"%s\"", key);
    return v;
}

static double number(const json_value *o, const char *key) { return json_number_value(get(o, key)); }
static const char *text(const json_value *o, const char *key) { return json_string_value(get(o, key)); }

static flux1_plan_params plan_params(const char *name)
{
    flux1_plan_params p;
    flux1_plan_params_defaults(&p);
    p.machine = name;
    return p;
}

static int plan_threads = 2;

static char *plan_text(const flux1_plan_params *p)
{
    char *json;
    flux1_context *c = context_on("cpu", "", plan_threads, FLUX1_DTYPE_F32);
    if (flux1_plan_json(c, p, &json) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    flux1_context_destroy(c);
    return json;
}

static json_value *plan(const flux1_plan_params *p)
{
    char *json = plan_text(p);
    json_value *rows;
    flux1_error err = {0};
    assert_int_equal(json_parse(json, strlen(json), "the plan", &rows, &err), FLUX1_OK);
    flux1_string_free(json);
    return rows;
}

static void refused(const flux1_plan_params *p, flux1_status status, const char *says)
{
    char *json;
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    assert_int_equal(flux1_plan_json(c, p, &json), status);
    assert_null(json);
    if (!strstr(flux1_context_message(c), says))
        fail_msg("\"%s\", it should say \"%s\"", flux1_context_message(c), says);
    flux1_context_destroy(c);
}

/* 2 × 4: both axes, either one for either, or none. */
static void every_way_of_a_mesh_is_listed_best_first(void **state)
{
    (void)state;
    static const char *const ways[][2] = {{"2@0", "4@1"}, {"4@1", "2@0"}, {"2@0", "1@1"}, {"1@0", "4@1"},
                                          {"4@1", "1@0"}, {"1@1", "2@0"}, {"1@0", "1@1"}};
    flux1_plan_params p = plan_params("wh-t3k");
    json_value *rows = plan(&p);
    assert_int_equal(json_array_size(rows), 7);
    for (int w = 0; w < 7; w++) {
        int found = 0;
        for (size_t i = 0; i < 7; i++)
            found += strcmp(text(json_array_get(rows, i), "sp"), ways[w][0]) == 0 &&
                     strcmp(text(json_array_get(rows, i), "tp"), ways[w][1]) == 0;
        if (found != 1)
            fail_msg("sp %s tp %s is listed %d times", ways[w][0], ways[w][1], found);
    }
    for (size_t i = 1; i < 7; i++) {
        const json_value *a = json_array_get(rows, i - 1), *b = json_array_get(rows, i);
        bool a_fits = json_is_true(get(a, "fits")), b_fits = json_is_true(get(b, "fits"));
        assert_true(a_fits > b_fits || (a_fits == b_fits && number(a, "total_seconds") <= number(b, "total_seconds")));
        assert_true(b_fits == (number(b, "memory_bytes") <= number(b, "memory_limit_bytes")));
    }
    assert_false(json_is_true(get(json_array_get(rows, 6), "fits"))); /* 24 GB on a chip of 12 */
    json_free(rows);
}

/* The C library's sort, which may put equal things in any order: the last comes first here. By the linker's --wrap. */
void __real_qsort(void *base, size_t count, size_t size, int (*compare)(const void *, const void *));
void __wrap_qsort(void *base, size_t count, size_t size, int (*compare)(const void *, const void *));

void __wrap_qsort(void *base, size_t count, size_t size, int (*compare)(const void *, const void *))
{
    char *first = base, *last = first + count * size;
    for (size_t i = 0; i < count / 2; i++) {
        last -= size;
        for (size_t k = 0; k < size; k++, first++) {
            const char byte = *first;
            *first = last[k];
            last[k] = byte;
        }
    }
    __real_qsort(base, count, size, compare);
}

/* On a square mesh with equal links either order of the axes takes as long. */
static void equal_ways_come_as_they_are_listed(void **state)
{
    (void)state;
    flux1_plan_params p = plan_params("bh-quietbox2");
    json_value *rows = plan(&p);
    const json_value *a = json_array_get(rows, 0), *b = json_array_get(rows, 1);
    assert_true(number(a, "total_seconds") == number(b, "total_seconds"));
    assert_string_equal(text(a, "sp"), "2@0");
    assert_string_equal(text(b, "sp"), "2@1");
    json_free(rows);
}

static void a_factor_may_be_asked_for(void **state)
{
    (void)state;
    flux1_plan_params p = plan_params("wh-galaxy");
    p.sp = "4@0";
    json_value *rows = plan(&p);
    assert_int_equal(json_array_size(rows), 2); /* tp 8@1 or none */
    json_free(rows);
    p.tp = "8@1";
    rows = plan(&p);
    assert_int_equal(json_array_size(rows), 1);
    assert_string_equal(text(json_array_get(rows, 0), "mesh"), "4x8");
    assert_true(number(json_array_get(rows, 0), "ranks") == 32);
    json_free(rows);
    p.tp = "3@1";
    refused(&p, FLUX1_ERR_ARGUMENT, "axis 1 of mesh 4x8 has 8 devices");
    p.sp = p.tp = NULL;
    p.mesh = "2x4sp1tp0";
    rows = plan(&p);
    assert_int_equal(json_array_size(rows), 1);
    assert_string_equal(text(json_array_get(rows, 0), "sp"), "4@1");
    assert_string_equal(text(json_array_get(rows, 0), "tp"), "2@0");
    json_free(rows);
    p.sp = "2@0";
    refused(&p, FLUX1_ERR_ARGUMENT, "contradict");
    p.mesh = NULL;
    p.sp = p.tp = "4@0";
    refused(&p, FLUX1_ERR_ARGUMENT, "sp and tp both take axis 0");
}

static void near(double got, double want, const char *what)
{
    if (!(fabs(got - want) <= 1e-9 * fabs(want) + 1e-12))
        fail_msg("%s: %.12g, it should be %.12g", what, got, want);
}

static void totals_are_the_sums_of_their_parts(void **state)
{
    (void)state;
    static const char *const names[PARTS] = {"clip", "t5", "dit opening", "dit step", "vae decode"};
    flux1_plan_params p = plan_params("bh-loudbox");
    p.variant = "dev";
    p.steps = 3;
    json_value *rows = plan(&p);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_value *row = json_array_get(rows, i), *stages = get(row, "stages");
        double seconds = 0, moved = 0, hidden = 0;
        assert_int_equal(json_array_size(stages), PARTS);
        for (size_t k = 0; k < PARTS; k++) {
            const json_value *s = json_array_get(stages, k), *of = get(s, "seconds_of"), *v;
            const char *key;
            double parts = 0;
            assert_string_equal(text(s, "stage"), names[k]);
            assert_true(number(s, "times") == (k == 3 ? 3 : 1));
            for (size_t j = 0; (v = json_object_at(of, j, &key)); j++)
                parts += json_number_value(v);
            near(parts, number(s, "seconds_each"), "the parts of a stage");
            near(number(s, "seconds"), number(s, "times") * number(s, "seconds_each"), "its times");
            assert_true(number(s, "hidden_bytes") <= number(s, "moved_bytes"));
            seconds += number(s, "seconds");
            moved += number(s, "moved_bytes");
            hidden += number(s, "hidden_bytes");
        }
        near(seconds, number(row, "total_seconds"), "the total");
        near(moved, number(row, "moved_bytes"), "bytes moved");
        near(hidden, number(row, "hidden_bytes"), "bytes hidden");
    }
    json_free(rows);
}

/* A machine of the text, in a file. */
static char *machine_file(const char *name, const char *content)
{
    static char path[512];
    snprintf(path, sizeof path, "%s", scratch_path(name));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(content, f);
    fclose(f);
    return path;
}

/* A machine whose activations are as long as this CPU's. */
static char *rows_machine(void)
{
    return machine_file(
        "rows.json",
        "{\"name\": \"a<b> & \\\"c\\\"\", \"mesh\": [2, 3], \"dtype\": \"f32\", \"memory_bytes\": 1e9, "
        "\"memory_bytes_per_second\": 1e10, "
        "\"peak_flops_per_second\": {\"f32\": 1e11}, \"exchange\": {\"all_gather\": {\"bytes_per_second\": 1e9}, "
        "\"reduce_scatter\": {\"bytes_per_second\": 1e9}, \"shift\": {\"bytes_per_second\": 1e9}}}");
}

/* What ranks exchange in CLIP where all its rows are computed, as on a described machine; a CPU leaves some out. */
static double bytes_of_whole_clip(flux1_context *c, const char *folder)
{
    flux1_text *ids;
    text_plan plan;
    stage_plan whole;
    flux1_model *m = model_of(c, folder);
    assert_int_equal(text_stand_in(m, m->clip_length, 20, &ids, &c->error), FLUX1_OK);
    assert_int_equal(text_plan_make(c, m, NULL, ids, &plan), FLUX1_OK);
    text_job *job = &plan.job;
    job->clip_rows = 0;
    assert_int_equal(stage_plan_make(&c->mesh, &c->device, clip_body, job, &job->ticker, &whole, &c->error), FLUX1_OK);
    const double bytes = (double)whole.count.exchanged;
    stage_plan_free(&whole);
    text_plan_free(&plan);
    flux1_text_free(ids);
    flux1_model_close(m);
    return bytes;
}

/* The bytes are those of the plan that a real run makes before it begins. */
static void bytes_are_those_of_a_runs_own_plan(void **state)
{
    (void)state;
    static const char *const meshes[] = {"1x1", "1x2", "2x1", "2x3"};
    char *path = rows_machine();
    for (int k = 0; k < 4; k++) {
        char *json;
        flux1_bench_params b;
        flux1_error err = {0};
        json_value *bench;
        flux1_plan_params p = plan_params(path);
        p.path = TEST_DATA "/pipelines/dev";
        p.mesh = meshes[k];
        p.width = 80;
        p.height = 48;
        p.steps = 3;
        p.sequence_length = 20;
        char sp[8], tp[8];
        snprintf(sp, sizeof sp, "%c@0", meshes[k][0]);
        snprintf(tp, sizeof tp, "%c@1", meshes[k][2]);
        p.sp = sp;
        p.tp = tp;
        json_value *rows = plan(&p);
        flux1_bench_params_defaults(&b);
        b.path = p.path;
        b.width = 80;
        b.height = 48;
        b.steps = 3;
        b.repeats = 0;
        b.sequence_length = 20;
        flux1_context *c = context_on("cpu", meshes[k], 2, FLUX1_DTYPE_F32);
        assert_int_equal(flux1_bench_json(c, &b, &json), FLUX1_OK);
        assert_int_equal(json_parse(json, strlen(json), "bench", &bench, &err), FLUX1_OK);
        for (size_t i = 0; i < PARTS; i++) {
            const json_value *s = json_array_get(get(json_array_get(rows, 0), "stages"), i);
            const double counted = i == 0 ? bytes_of_whole_clip(c, p.path)
                                          : number(json_array_get(get(bench, "stages"), i), "exchanged_bytes");
            near(number(s, "moved_bytes_all_ranks"), number(s, "times") * counted, text(s, "stage"));
            assert_true((counted > 0) == (k > 0));
            assert_true(number(s, "seconds") > 0);
            assert_true(number(s, "moved_bytes") <= number(s, "moved_bytes_all_ranks"));
        }
        json_free(bench);
        json_free(rows);
        flux1_string_free(json);
        flux1_context_destroy(c);
    }
    unlink(path);
}

static void equal_requests_have_equal_plans(void **state)
{
    (void)state;
    flux1_plan_params p = plan_params("8xh200");
    char *a = plan_text(&p), *b = plan_text(&p);
    assert_string_equal(a, b);
    flux1_string_free(a);
    flux1_string_free(b);
}

/* ---- memory ---- */

typedef struct weights {
    double blocks, modulation, others; /* bytes held by a rank; modulation: of the blocks' that are not counted there */
} weights;

static void weigh(void *user, const ops_event *e)
{
    weights *w = user;
    if (strcmp(e->operation, "prepare") != 0)
        return;
    double *kind = !strstr(e->block, "transformer_blocks") ? &w->others
                   : strstr(e->block, ".norm")             ? &w->modulation
                                                           : &w->blocks;
    *kind += (double)e->bytes_out;
}

/* Rank 0's weights and arena of a step on this machine. */
static void weigh_rank(const char *name, const char *sp, const char *tp, double cell, weights *w, double *arena_bytes)
{
    machine m;
    flux1_error err = {0};
    flux1_model *model;
    request r;
    flux1_generate_params g;
    char shape[16];
    denoiser d;
    ops_count count;
    flux1_context *c = context_on("cpu", "", 1, FLUX1_DTYPE_F32);
    assert_int_equal(machine_find(name, &m, &err), FLUX1_OK);
    m.weight_cell = cell;
    machine_device device = {.head = {.kind = &machine_kind, .info = {.memory = 1}}, .m = &m};
    snprintf(shape, sizeof shape, "%dx%d", m.mesh[0], m.mesh[1]);
    const mesh_device own = c->device;
    c->device = (mesh_device){.kind = &machine_kind,
                              .device = &device.head,
                              .config = {.arithmetic = DTYPE_BF16, .threads = 1, .device = &device.head}};
    assert_int_equal(mesh_parse(shape, sp, tp, &c->mesh, &err), FLUX1_OK);
    assert_int_equal(folder_synthetic("dev", DTYPE_BF16, false, &model, &err), FLUX1_OK);
    flux1_generate_params_defaults(&g);
    g.width = g.height = 1024;
    g.steps = 1;
    assert_int_equal(request_make(c, model, &g, &r), FLUX1_OK);
    assert_int_equal(denoiser_plan(c, model, &r, 1, &d), FLUX1_OK);
    *w = (weights){0};
    c->device.config.event = weigh;
    c->device.config.event_user = w;
    stage_plan recorded = {0};
    d.job.ticker.recording = &recorded;
    assert_int_equal(mesh_dry_run(&c->mesh, &c->device, 0, dit_dry_body, &d.job, &count, &err), FLUX1_OK);
    *arena_bytes = (double)count.arena_peak;
    stage_plan_free(&recorded);
    denoiser_close(&d);
    folder_close(model);
    c->device = own;
    mesh_parse("1x1", NULL, NULL, &c->mesh, &err);
    flux1_context_destroy(c);
}

/* The vendor's allocator counted, in banks of a chip, the weights of the 57 blocks in tiles of bf16, or of 8 bits with
 * an exponent for each 16 (1088 bytes in 1024 cells), with inputs and the buffers of collectives: 504 MB in each of 12
 * banks on 2 × 4, 253 on 4 × 8, 756 in each of 8 on 2 × 4 Blackholes, 1505 on 2 × 2, 1509 on 1 × 2; in 8 bits 273 of 12
 * on 2 × 4, 544 on 1 × 2. There a rank's share of the modulation is one of tp, ours is one of all ranks. With theirs
 * the weights are below what was counted, and with all activations of a step above. */
static void memory_is_the_vendors_allocators(void **state)
{
    (void)state;
    static const struct {
        const char *machine, *sp, *tp;
        double cell, bytes;
    } counted[] = {{"wh-t3k", "2@0", "4@1", 2, 504e6 * 12},      {"wh-galaxy", "4@0", "8@1", 2, 253e6 * 12},
                   {"bh-loudbox", "2@0", "4@1", 2, 756e6 * 8},   {"bh-quietbox2", "2@0", "2@1", 2, 1505e6 * 8},
                   {"bh-p300", "1@0", "2@1", 2, 1509e6 * 8},     {"wh-t3k", "2@0", "4@1", 1.0625, 273e6 * 12},
                   {"wh-n300", "1@0", "2@1", 1.0625, 544e6 * 12}};
#ifdef __SANITIZE_ADDRESS__ /* twenty times as long, and the rows differ in numbers only */
    const size_t rows = 1;
#else
    const size_t rows = sizeof counted / sizeof *counted;
#endif
    for (size_t i = 0; i < rows; i++) {
        weights w;
        double arena_bytes;
        weigh_rank(counted[i].machine, counted[i].sp, counted[i].tp, counted[i].cell, &w, &arena_bytes);
        double theirs = w.blocks + atoi(counted[i].sp) * w.modulation, ours = w.blocks + w.modulation;
        double least = theirs / counted[i].bytes - 1, most = (theirs + arena_bytes) / counted[i].bytes - 1;
        print_message("%s: blocks %.0f MB, cut as theirs %.0f, others %.0f, activations %.0f; counted %.0f: %+.1f to "
                      "%+.1f %%\n",
                      counted[i].machine, ours / 1e6, theirs / 1e6, w.others / 1e6, arena_bytes / 1e6,
                      counted[i].bytes / 1e6, 100 * least, 100 * most);
        assert_true(least > -0.03 && least < 0.03 && most > 0);
    }
}

/* Every < opens a tag of a known name that is closed in order; quotes come in pairs. */
static void is_well_formed(const char *svg)
{
    const char *open[64];
    int depth = 0;
    for (const char *at = svg; (at = strchr(at, '<')); at++) {
        const char *end = strchr(at, '>');
        assert_non_null(end);
        int quotes = 0;
        for (const char *q = at; q < end; q++)
            quotes += *q == '"';
        assert_int_equal(quotes % 2, 0);
        if (at[1] == '/') {
            assert_true(depth > 0);
            depth--;
            size_t n = strcspn(open[depth], " >");
            assert_int_equal(strncmp(at + 2, open[depth], n), 0);
            assert_true(at[2 + n] == '>');
        } else if (end[-1] != '/') {
            assert_true(depth < 64);
            open[depth++] = at + 1;
        }
    }
    assert_int_equal(depth, 0);
    assert_null(strstr(svg, "nan"));
}

/* Rates of all that is measured otherwise. */
#define MEASURED                                                                                                    \
    "\"chip\": \"this-cpu\", \"memory_bytes\": 1e12, \"memory_bytes_per_second\": 1e10, \"launch_seconds\": 1e-6, " \
    "\"peak_flops_per_second\": {\"f32\": 1e11}, \"rates\": [{\"operation\": \"product\", \"flops_per_second\": "   \
    "{\"f32\": 1e11}}, {\"operation\": \"attention\", \"flops_per_second\": {\"f32\": 1e11}}, {\"operation\": "     \
    "\"conv\", \"flops_per_second\": {\"f32\": 1e11}}, {\"operation\": \"add\", \"bytes_per_second\": 1e10}, "      \
    "{\"operation\": \"layer_norm\", \"bytes_per_second\": 1e10}, {\"operation\": \"cast\", \"bytes_per_second\": " \
    "1e10}, {\"operation\": \"head_norm_rope\", \"bytes_per_second\": 1e10}, {\"operation\": "                      \
    "\"attention_merge\", \"bytes_per_second\": 1e10}, {\"operation\": \"group_stats\", \"bytes_per_second\": "     \
    "1e10}, {\"operation\": \"group_apply\", \"bytes_per_second\": 1e10}, {\"operation\": \"upsample\", "           \
    "\"bytes_per_second\": 1e10}], \"exchange\": {\"all_gather\": {\"bytes_per_second\": 1e9}, "                    \
    "\"reduce_scatter\": {\"bytes_per_second\": 1e9}, \"shift\": {\"bytes_per_second\": 1e9}}"

static double memory_of_step(const char *content)
{
    flux1_plan_params p = plan_params(machine_file("cpus.json", content));
    p.mesh = "1x4sp0tp1";
    p.width = p.height = p.sequence_length = 256;
    p.steps = 1;
    p.dtype = FLUX1_DTYPE_F32;
    json_value *rows = plan(&p);
    const double bytes = number(json_array_get(get(json_array_get(rows, 0), "stages"), 3), "memory_bytes");
    json_free(rows);
    unlink(p.machine);
    return bytes;
}

/* Where ranks are on hosts of their own, a sum over four of them has the others' three parts beside its own: of 512
 * rows of 3072 columns in float32. */
static void ranks_on_hosts_have_what_others_have_added_up(void **state)
{
    (void)state;
    plan_threads = 1; /* whose scratch is the same however they are shared */
    const double together = memory_of_step("{\"mesh\": [1, 4], \"chips\": 1, " MEASURED "}"),
                 apart = memory_of_step("{\"mesh\": [1, 4], " MEASURED "}"),
                 pairs = memory_of_step("{\"mesh\": [1, 4], \"chips\": 2, " MEASURED "}"), part = 512 / 4 * 3072 * 4;
    assert_true(fabs(apart - together - 3 * part) < 0.05 * part);
    assert_true(fabs(pairs - together - 2 * part) < 0.05 * part);
    plan_threads = 2;
}

/* A card keeps the weights of all parts. On two Wormhole chips each part of dev fits alone in bf16, and all of them do
 * not. In 8 bits, which is what device ttnn gives an n300, they take 11169 MB by tests/ttnn/memory.py, whose calls are
 * the worker's. */
static void a_cards_memory_is_that_of_all_parts(void **state)
{
    (void)state;
    flux1_plan_params p = plan_params("wh-1x4");
    p.variant = "dev";
    p.mesh = "1x2sp0tp1";
    p.tp = "2@1";
    json_value *rows = plan(&p);
    const json_value *way = json_array_get(rows, 0), *stage;
    double largest = 0;
    for (size_t i = 0; (stage = json_array_get(get(way, "stages"), i)); i++)
        largest = fmax(largest, number(stage, "memory_bytes"));
    assert_true(largest < number(way, "memory_limit_bytes"));
    assert_true(number(way, "memory_bytes") > 18e9);
    assert_false(json_is_true(get(way, "fits")));
    json_free(rows);
    p.machine = "wh-n300";
    rows = plan(&p);
    way = json_array_get(rows, 0);
    assert_true(fabs(number(way, "memory_bytes") / 11169e6 - 1) < 0.01);
    assert_true(json_is_true(get(way, "fits")));
    json_free(rows);
}

static void a_step_is_drawn(void **state)
{
    (void)state;
    char *path = scratch_path("step.svg"), *svg;
    size_t bytes;
    flux1_error err = {0};
    flux1_plan_params p = plan_params("wh-t3k");
    p.timeline = path;
    json_free(plan(&p));
    assert_int_equal(file_read(path, 1 << 22, &svg, &bytes, &err), FLUX1_OK);
    is_well_formed(svg);
    assert_non_null(strstr(svg, "wh-t3k, mesh 2x4"));
    assert_non_null(strstr(svg, "(behind computing)"));
    assert_non_null(strstr(svg, "transformer_blocks"));
    free(svg);
    unlink(path);
    p.machine = rows_machine(); /* a name to be escaped */
    p.sp = "2@0";
    p.tp = "3@1";
    p.timeline = path = scratch_path("named.svg");
    json_free(plan(&p));
    unlink(p.machine);
    assert_int_equal(file_read(path, 1 << 22, &svg, &bytes, &err), FLUX1_OK);
    is_well_formed(svg);
    assert_non_null(strstr(svg, "a&lt;b&gt; &amp; &quot;c&quot;, mesh 2x3"));
    free(svg);
    unlink(path);
    p = plan_params("wh-t3k");
    p.timeline = "step.png";
    refused(&p, FLUX1_ERR_ARGUMENT, "should end in .svg");
    p.timeline = "/tmp/no such folder/step.svg";
    refused(&p, FLUX1_ERR_IO, "/tmp/no such folder/step.svg");
}

static void what_cannot_be_planned_is_refused(void **state)
{
    (void)state;
    flux1_plan_params p = plan_params("wh-t3k");
    p.dtype = FLUX1_DTYPE_F32;
    refused(&p, FLUX1_ERR_ARGUMENT, "has no rate for it, only for bf16");
    p.dtype = FLUX1_DTYPE_FP8;
    refused(&p, FLUX1_ERR_UNSUPPORTED, "fp8");
    p.dtype = FLUX1_DTYPE_INT8_FAST;
    refused(&p, FLUX1_ERR_UNSUPPORTED, "dtype int8-fast: plans are made for f32 and bf16, and of this machine's CPU");
    p = plan_params("h200");
    p.mesh = "2x2";
    refused(&p, FLUX1_ERR_ARGUMENT, "is one device without links");
    p = plan_params(machine_file("half.json", "{\"mesh\": [1, 1], \"memory_bytes\": 1e9, "
                                              "\"memory_bytes_per_second\": 1e9, \"peak_flops_per_second\": "
                                              "{\"bf16\": 1e12}, \"exchange\": {\"all_gather\": "
                                              "{\"bytes_per_second\": 1e9}}}"));
    p.mesh = "2x2";
    refused(&p, FLUX1_ERR_ARGUMENT, "whose \"exchange\" has all_gather, reduce_scatter and shift");
    unlink(p.machine);
    p = plan_params("wh-t3k");
    p.variant = "pro";
    refused(&p, FLUX1_ERR_ARGUMENT, "\"pro\"");
    p = plan_params("no machine");
    refused(&p, FLUX1_ERR_ARGUMENT, "wh-galaxy");
}

static void this_cpu_is_measured_and_described(void **state)
{
    (void)state;
    flux1_error err = {0};
    json_value *m;
    flux1_plan_params p = plan_params("this-cpu");
    p.describe = 1;
    p.dtype = FLUX1_DTYPE_INT8_FAST;
    char *json = plan_text(&p);
    assert_int_equal(json_parse(json, strlen(json), "the machine", &m, &err), FLUX1_OK);
    assert_string_equal(text(m, "chip"), "this-cpu");
    assert_true(number(m, "memory_bytes") > 0 && number(m, "memory_bytes_per_second") > 1e8);
    assert_true(json_array_size(get(m, "rates")) >= 11);
    assert_string_equal(text(json_array_get(get(m, "rates"), 1), "operation"), "product_int8_fast");
    assert_true(number(get(get(m, "exchange"), "all_gather"), "bytes_per_second") > 1e7);
    json_free(m);
    flux1_string_free(json);
}

/* It names its tensors itself: what it gives would be signed as rounded, and is not. */
static void a_recording_refuses_rounded_weights(void **state)
{
    (void)state;
    flux1_context_params of_context;
    flux1_generate_params picture;
    flux1_image *image;
    flux1_plan_params p = plan_params("wh-n300");
    char *path = scratch_path("rounded.rec");
    p.path = TEST_DATA "/pipelines/schnell";
    p.mesh = "1x1";
    p.steps = 1;
    p.sequence_length = 16;
    p.width = p.height = 32;
    p.record = path;
    flux1_string_free(plan_text(&p));
    flux1_context_params_defaults(&of_context);
    of_context.device = "ref";
    of_context.weight_rounding = FLUX1_ROUNDING_BFP8;
    flux1_context *c = context_of(&of_context);
    flux1_model *m = model_of(c, p.path);
    flux1_generate_params_defaults(&picture);
    picture.prompt = "a car";
    assert_int_equal(flux1_recording_run(c, m, path, &picture, &image), FLUX1_ERR_UNSUPPORTED);
    assert_null(image);
    assert_non_null(strstr(flux1_context_message(c), "weight_rounding cannot be used"));
    unlink(path);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* Device ttnn's machines are the planner's, chip by chip, link by link, and in the form of weights. */
static void the_workers_machines_are_the_planners(void **state)
{
#define NAME(name, ...) name,
    static const char *const names[] = {TTNN_MACHINES(NAME)};
#undef NAME
    machine m;
    flux1_error e = {0};
    const ttnn_machine *t;
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(ttnn_machine_find(names[i], &(cards){0}, &t, &e), FLUX1_OK);
        assert_int_equal(machine_find(t->name, &m, &e), FLUX1_OK);
        assert_int_equal(m.mesh[0], t->rows);
        assert_int_equal(m.mesh[1], t->cols);
        assert_int_equal(m.links[0], t->links);
        assert_int_equal(m.links[1], t->links);
        assert_true(m.weight_cell == (t->weights == TILE_BFP8 ? 1.0625 : 2));
        assert_int_equal(strncmp(t->device, "ttnn:", 5), 0);
        assert_string_equal(t->device + 5, t->name);
    }
    assert_int_equal(sizeof names / sizeof *names, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_of_a_mesh_is_listed_best_first),
        cmocka_unit_test(equal_ways_come_as_they_are_listed),
        cmocka_unit_test(a_factor_may_be_asked_for),
        cmocka_unit_test(totals_are_the_sums_of_their_parts),
        cmocka_unit_test(bytes_are_those_of_a_runs_own_plan),
        cmocka_unit_test(equal_requests_have_equal_plans),
        cmocka_unit_test(memory_is_the_vendors_allocators),
        cmocka_unit_test(ranks_on_hosts_have_what_others_have_added_up),
        cmocka_unit_test(a_cards_memory_is_that_of_all_parts),
        cmocka_unit_test(a_step_is_drawn),
        cmocka_unit_test(what_cannot_be_planned_is_refused),
        cmocka_unit_test(this_cpu_is_measured_and_described),
        cmocka_unit_test(a_recording_refuses_rounded_weights),
        cmocka_unit_test(the_workers_machines_are_the_planners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
