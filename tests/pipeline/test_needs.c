/* What is in memory at the same time, by hand: plans of a few numbers that nobody computes, and which plans of a
 * request lie together. */
#include "support/golden.h"

#include "pipeline/folder.h"
#include "pipeline/memory_course.h"
#include "pipeline/run.h"

#define M ((size_t)1 << 20)

typedef struct numbers {
    size_t arena, scratch, held, block, mapped, in_steps;
} numbers;

/* Of one rank; `form` of a block's own at most. */
static stage_plan plan_of(numbers *n, size_t form)
{
    return (stage_plan){.arena = &n->arena,
                        .scratch = &n->scratch,
                        .held = &n->held,
                        .block = &n->block,
                        .mapped = &n->mapped,
                        .in_steps = &n->in_steps,
                        .count = {.form_bytes = form}};
}

/* ---- samplers ---- */

/* An open sampler has its activations and scratch, its prepared weights where they are another model's, and its mapped
 * ones where all stay; of the decoders of all samplers the largest is there at a time, 9 + 50 + 2 + 5 + 1 = 67. */
static void open_samplers_count_until_they_are_freed(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    numbers a = {100, 7, 20, 3, 1000, 1000}, b = {50, 2, 5, 1, 10, 10}, d = {30, 1, 2, 3, 5, 5};
    stage_plan denoise = plan_of(&a, 0), large = plan_of(&b, 0), small = plan_of(&d, 0);
    static flux1_model own = {.source = {.number = 7}}, other = {.source = {.number = 8}};
    memory_hold first = {.plan = &denoise, .beside = &large}, second = {.plan = &denoise, .beside = &small};
    large.picture = 9;
    small.picture = 4;
    c->max_memory = 4000;
    c->model = 7;
    memory_hold_on(c, &first, &own);
    assert_int_equal(memory_of(c, &c->device, NULL, NULL).samplers, 107);
    assert_int_equal(memory_total(memory_of(c, &c->device, NULL, NULL)), 107);
    c->model = 8;
    memory_need n = memory_of(c, &c->device, &denoise, NULL);
    assert_true(n.samplers == 127 && memory_total(n) == 127 + 130);
    assert_int_equal(memory_for_texts(c, &n), 4000 - (127 + 127 + 1000 + 1000)); /* both plans' weights stay */
    assert_int_equal(memory_of_sampler(c, &denoise, &large).samplers, 127);
    assert_int_equal(memory_of_sampler(c, &denoise, &small).samplers, 127 + 67 - 40);
    memory_hold_on(c, &second, &other); /* whose prepared weights the next plan has, too */
    assert_int_equal(memory_of(c, &c->device, NULL, NULL).samplers, 127 + 107);
    memory_let_go(c, &first);
    memory_let_go(c, &first);
    assert_int_equal(memory_of_sampler(c, &denoise, &large).samplers, 107);
    assert_int_equal(memory_of_sampler(c, &denoise, &small).samplers, 107);
    memory_let_go(c, &second);
    assert_int_equal(memory_of(c, &c->device, NULL, NULL).samplers, 0);
    flux1_context_destroy(c);
}

/* ---- mapped weights ---- */

/* 100 are fixed. Of 1000 that are read, 600 of them in steps: all, where there is room for all; else the steps', as far
 * as there is room, and two blocks of 30 at least. */
static void weights_stay_as_far_as_there_is_room(void **state)
{
    (void)state;
    static const struct {
        uint64_t limit, peak;
        bool streams;
    } cases[] = {{5000, 1100, false}, {1100, 1100, false}, {1099, 700, true}, {700, 700, true},
                 {699, 699, true},    {140, 140, true},    {130, 130, true},  {100, 130, true}};
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    numbers a = {100, 0, 0, 30, 1000, 600};
    const stage_plan p = plan_of(&a, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        c->max_memory = cases[i].limit;
        const memory_need n = memory_of(c, &c->device, &p, NULL);
        assert_int_equal(memory_peak(c, &n), cases[i].peak);
        assert_int_equal(memory_streams(c, &n), cases[i].streams);
    }
    flux1_context_destroy(c);
}

/* ---- what a stage leaves behind ---- */

static memory_course course_of(flux1_context *c, size_t limit, const memory_stage *stages, int count)
{
    c->max_memory = limit;
    return memory_over(c, stages, count);
}

static void assert_course(memory_course got, size_t first, size_t later)
{
    assert_int_equal(got.first, first * M);
    assert_int_equal(got.later, later * M);
}

/* In MiB: stage a has 100 of activations and 200 of prepared weights in blocks of 30, stage b 130, 400 and 150. Of 512
 * for prepared weights that nobody uses b leaves 112 to a's, so 3 blocks stay, 90; a leaves 312 to b's, 2 blocks, 300.
 *   first  a: 100 + 200 = 300;  b: 130 + 400 + 90 = 620
 *   later  a: 300 + 300, and 30 of the larger arena, if there is room for it and 512 more: 630;  b: 620
 * With a limit of 610, b leaves 80 to a's, 2 blocks: 590; and a leaves 310: 600. */
static void prepared_weights_and_an_arena_stay_where_there_is_room(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    numbers na = {.arena = 100 * M, .held = 200 * M}, nb = {.arena = 130 * M, .held = 400 * M},
            nc = {.arena = 700 * M, .held = 300 * M};
    const stage_plan a = plan_of(&na, 30 * M), b = plan_of(&nb, 150 * M), third = plan_of(&nc, 100 * M);
    const memory_stage stages[] = {{&c->device, &a, NULL}, {&c->device, &b, NULL}, {&c->device, &third, NULL}};
    assert_course(course_of(c, 2000 * M, stages, 2), 620, 630);
    assert_course(course_of(c, 842 * M, stages, 2), 620, 630); /* 300 + 512 + 30 */
    assert_course(course_of(c, 841 * M, stages, 2), 620, 620);
    assert_course(course_of(c, 610 * M, stages, 2), 590, 600);
    /* a third one, 700 + 300, leaves 212: a's 90 are the oldest and go, of b's 400 one block stays, 150. Then a: b's
     * go, the third's 300 stay, 600, and 600 of the arena */
    assert_course(course_of(c, 2000 * M, stages, 3), 1150, 1200);
    nb.held = 312 * M; /* b leaves 200, and all of a's stay; a has all of b's, and 30 of the arena */
    assert_course(course_of(c, 2000 * M, stages, 2), 130 + 312 + 200, 100 + 200 + 312 + 30);
    flux1_context_destroy(c);
}

/* On a mesh of two what stays is theirs together: 300 + 200 of stage a's arenas, beside b's 20 + 10 and its 100 of
 * prepared weights. */
static void arenas_of_all_ranks_stay(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x2", 1, FLUX1_DTYPE_F32);
    size_t large[2] = {300 * M, 200 * M}, small[2] = {20 * M, 10 * M}, held[2] = {60 * M, 40 * M}, none[2] = {0};
    const stage_plan
        a = {.arena = large, .scratch = none, .held = none, .block = none, .mapped = none, .in_steps = none},
        b = {.arena = small, .scratch = none, .held = held, .block = none, .mapped = none, .in_steps = none};
    const memory_stage stages[] = {{&c->device, &a, NULL}, {&c->device, &b, NULL}};
    assert_course(course_of(c, 2000 * M, stages, 2), 600, 600);
    flux1_context_destroy(c);
}

/* Stage a has 500, stage b 30 and 100 of prepared weights: 130, or 600 where a's arena stays. It does not where a's
 * weights are streamed (two blocks of 10 are there), nor is b's arena a's on another device. */
static void an_arena_stays_on_its_device_where_nothing_is_streamed(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    numbers na = {.arena = 500 * M}, nb = {.arena = 30 * M, .held = 100 * M};
    const stage_plan a = plan_of(&na, 0), b = plan_of(&nb, 10 * M);
    c->text_device = c->device;
    c->text_mesh = c->mesh;
    for (int i = 0; i < 3; i++) {
        const memory_stage stages[] = {{i == 2 ? &c->text_device : &c->device, &a, NULL}, {&c->device, &b, NULL}};
        na.block = i == 1 ? 10 * M : 0;
        na.mapped = i == 1 ? 5000 * M : 0;
        assert_int_equal(course_of(c, 2000 * M, stages, 2).first, (i == 0 ? 600 : i == 1 ? 510 : 500) * M);
    }
    flux1_context_destroy(c);
}

/* Stage a has touched 500 of an arena, b streams its weights and gives the arena back at its end, so the last one has
 * its own 30 and 600 alone. */
static void a_stage_that_streams_gives_the_arena_back(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    numbers na = {.arena = 500 * M}, nb = {.arena = 40 * M, .block = 10 * M, .mapped = 5000 * M},
            nc = {.arena = 30 * M, .held = 600 * M};
    const stage_plan a = plan_of(&na, 0), b = plan_of(&nb, 0), last = plan_of(&nc, 10 * M);
    const memory_stage stages[] = {{&c->device, &a, NULL}, {&c->device, &b, NULL}, {&c->device, &last, NULL}};
    /* later: b's 40 and 10, 510 of the last one's prepared weights, and 460 of a's arena */
    assert_course(course_of(c, 2000 * M, stages, 3), 630, 1020);
    flux1_context_destroy(c);
}

/* Of a device with memory of its own each stage has what is compared with its limit, and nothing of the others. */
static void stages_on_another_device_leave_nothing_behind(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    ops_device *cpu = c->device.device, gpu = {.kind = &ops_cpu_device, .info = {.memory = 1 << 30}};
    numbers na = {.arena = 100 * M, .held = 200 * M}, nb = {.arena = 130 * M, .held = 400 * M};
    const stage_plan a = plan_of(&na, 30 * M), b = plan_of(&nb, 150 * M);
    const memory_stage stages[] = {{&c->device, &a, NULL}, {&c->device, &b, NULL}};
    c->device.device = &gpu;
    c->max_device_memory = 2000 * M;
    assert_course(course_of(c, 2000 * M, stages, 2), 130, 130);
    c->device.device = cpu;
    flux1_context_destroy(c);
}

/* ---- a whole request ---- */

typedef struct planned {
    flux1_context *c;
    flux1_model *m;
    flux1_generate_params p;
    run g;
    ops_device *cpu; /* the context's own, while another is played */
} planned;

static int go_on(void *user, const flux1_progress *now) { return (void)user, (void)now, 0; }

static void planned_open(planned *t)
{
    *t = (planned){.c = context_on("cpu", "1x2", 1, FLUX1_DTYPE_F32)};
    t->m = pipeline_of(t->c, "schnell");
    flux1_generate_params_defaults(&t->p);
    t->p.prompt = "a car";
    t->p.width = t->p.height = 128;
    t->p.steps = 1;
    t->p.tiling = FLUX1_TILING_NO;
    t->p.preview_kind = FLUX1_PREVIEW_VAE;
    t->p.progress = go_on;
}

static flux1_status plan_again(planned *t)
{
    const flux1_generate_params *const all[] = {&t->p};
    run_free(&t->g);
    t->g = (run){.c = t->c, .m = t->m, .n = 1};
    assert_int_equal(run_take_requests(&t->g, all), FLUX1_OK);
    return run_plan(&t->g);
}

static void planned_close(planned *t)
{
    run_free(&t->g);
    flux1_model_close(t->m);
    flux1_context_destroy(t->c);
}

/* The arena that stays from stage to stage holds the largest one on every rank. */
static void expect_reserve(const run *g)
{
    const stage_plan *const all[] = {&g->text_plan.clip, &g->text_plan.t5, &g->denoiser.plan, &g->decoder.plan};
    assert_ptr_equal(g->text_plan.reserve, g->reserve);
    for (int r = 0; r < 2; r++) {
        size_t most = 0;
        for (int i = 0; i < 4; i++)
            most = all[i]->arena[r] > most ? all[i]->arena[r] : most;
        assert_int_equal(g->reserve[r], most);
    }
}

/* With room for all: each batch is decoded before the next, so the decoder lies beside the denoiser where there is
 * another batch, and where it makes previews. */
static void a_decoder_lies_beside_the_denoiser_that_goes_on(void **state)
{
    (void)state;
    static const struct {
        int count, batch, previews;
        bool rest, beside;
    } cases[] = {{1, 1, 0, false, false}, {1, 1, 1, false, true}, {2, 2, 0, false, false}, {2, 1, 0, false, true},
                 {3, 2, 0, true, true},   {2, 2, 1, false, true}, {2, 9, 0, false, false}};
    planned t;
    planned_open(&t);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        t.p.count = cases[i].count;
        t.p.batch = cases[i].batch;
        t.p.preview_every = cases[i].previews;
        if (plan_again(&t) != FLUX1_OK)
            fail_msg("row %zu: %s", i, flux1_context_message(t.c));
        const stage_plan *beside = cases[i].beside ? &t.g.decoder.plan : NULL;
        assert_int_equal(t.g.batch, cases[i].batch < cases[i].count ? cases[i].batch : cases[i].count);
        assert_int_equal(t.g.rest.plan.arena != NULL, cases[i].rest);
        assert_int_equal(t.g.rest.batch, cases[i].rest);
        assert_true(t.g.alternate);
        assert_int_equal(t.g.denoiser.previews, cases[i].previews);
        assert_ptr_equal(t.g.denoiser.beside, beside);
        assert_ptr_equal(t.g.rest.beside, beside);
        expect_reserve(&t.g);
    }
    planned_close(&t);
}

/* A byte less than both take: then all is denoised first. Previews by the VAE want both together; where the denoiser
 * takes all there is, they are refused. */
static void without_room_for_both_all_is_denoised_first(void **state)
{
    (void)state;
    planned t;
    planned_open(&t);
    t.p.count = 3;
    t.p.batch = 2;
    assert_int_equal(plan_again(&t), FLUX1_OK);
    const uint64_t both = memory_total(memory_of(t.c, &t.c->device, &t.g.denoiser.plan, &t.g.decoder.plan)),
                   one = memory_total(memory_of(t.c, &t.c->device, &t.g.denoiser.plan, NULL));
    for (uint64_t less = 0; less < 2; less++) {
        t.c->max_memory = both - less;
        assert_int_equal(plan_again(&t), FLUX1_OK);
        assert_int_equal(t.g.alternate, !less);
        assert_ptr_equal(t.g.denoiser.beside, less ? NULL : &t.g.decoder.plan);
        assert_ptr_equal(t.g.rest.beside, t.g.denoiser.beside);
    }
    t.p.count = 2; /* one batch: the denoiser is done when the decoder begins */
    assert_int_equal(plan_again(&t), FLUX1_OK);
    assert_true(t.g.alternate);
    t.c->max_memory = one;
    t.p.preview_every = 1;
    assert_int_equal(plan_again(&t), FLUX1_ERR_LIMIT);
    const char *told = flux1_context_message(t.c);
    if (!strstr(told, "denoising and previewing a picture of 128x128 takes") ||
        !strstr(told, "a smaller picture, decoding in tiles or no previews would take less"))
        fail_msg("%s", told);
    planned_close(&t);
}

/* ---- a device with memory of its own ---- */

static void on_a_gpu(planned *t, ops_device *gpu)
{
    planned_open(t);
    *gpu = (ops_device){.kind = &ops_cpu_device, .info = {.name = "a GPU", .memory = (uint64_t)1 << 40}};
    t->cpu = t->c->device.device;
    t->c->device.device = gpu;
    t->c->max_device_memory = (uint64_t)1 << 40;
}

static void off_the_gpu(planned *t)
{
    t->c->device.device = t->cpu;
    planned_close(t);
}

/* Packed, since they are held so where they do not fit otherwise. */
static void a_batch_drives_no_weights_out(void **state)
{
    (void)state;
    planned t;
    ops_device gpu;
    on_a_gpu(&t, &gpu);
    t.p.width = t.p.height = t.p.max_sequence_length = 64;
    t.p.count = 4;
    assert_int_equal(plan_again(&t), FLUX1_OK);
    assert_int_equal(t.g.batch, 4);
    const uint64_t needed = t.g.denoiser.plan.memory + t.g.denoiser.plan.count.packed_bytes;
    for (uint64_t less = 0; less < 2; less++) {
        t.c->max_device_memory = needed - less;
        t.p.batch = 0;
        assert_int_equal(plan_again(&t), FLUX1_OK);
        assert_int_equal(t.g.batch, less ? 2 : 4);
        t.p.batch = 4; /* as it was asked for */
        assert_int_equal(plan_again(&t), FLUX1_OK);
        assert_int_equal(t.g.batch, 4);
    }
    off_the_gpu(&t);
}

/* There is one arena for all stages where it fits beside the weights of any, and else each stage has its own. */
static void the_arena_of_all_stages_leaves_room_for_weights(void **state)
{
    (void)state;
    planned t;
    ops_device gpu;
    uint64_t activations = 0, weights = 0;
    on_a_gpu(&t, &gpu);
    assert_int_equal(plan_again(&t), FLUX1_OK);
    expect_reserve(&t.g);
    for (int r = 0; r < 2; r++)
        activations += t.g.reserve[r];
    const stage_plan *const all[] = {&t.g.text_plan.clip, &t.g.text_plan.t5, &t.g.denoiser.plan, &t.g.decoder.plan};
    for (int i = 0; i < 4; i++)
        weights = all[i]->count.packed_bytes > weights ? all[i]->count.packed_bytes : weights;
    t.c->max_device_memory = weights + activations;
    assert_int_equal(plan_again(&t), FLUX1_OK);
    expect_reserve(&t.g);
    t.c->max_device_memory--;
    assert_int_equal(plan_again(&t), FLUX1_OK);
    assert_null(t.g.reserve);
    assert_null(t.g.text_plan.reserve);
    off_the_gpu(&t);
}

/* What would take less is what takes much here. */
static void a_refusal_hints_at_what_the_request_has(void **state)
{
    (void)state;
    static const struct {
        int batch, steps, length;
        const char *hints;
    } cases[] = {{1, 1, 16, "a smaller picture"},
                 {2, 1, 16, "a smaller picture or a smaller batch"},
                 {1, 1, 64, "a smaller picture"}, /* 64 tokens each */
                 {1, 1, 65, "a smaller picture or a smaller max_sequence_length"},
                 {1, 300, 16, "a smaller picture or fewer steps"}};
    planned t;
    planned_open(&t);
    const uint64_t all = t.c->max_memory;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char want[160];
        t.p.count = t.p.batch = cases[i].batch;
        t.p.steps = cases[i].steps;
        t.p.max_sequence_length = cases[i].length;
        t.c->max_memory = all;
        assert_int_equal(plan_again(&t), FLUX1_OK);
        t.c->max_memory = memory_total(memory_of(t.c, &t.c->device, &t.g.denoiser.plan, NULL)) - 1;
        assert_int_equal(plan_again(&t), FLUX1_ERR_LIMIT);
        snprintf(want, sizeof want, "; %s would take less", cases[i].hints);
        if (!strstr(flux1_context_message(t.c), want) ||
            !strstr(flux1_context_message(t.c), cases[i].batch == 2 ? "denoising 2 pictures at a time of 128x128"
                                                                    : "denoising a picture of 128x128"))
            fail_msg("row %zu: \"%s\"", i, flux1_context_message(t.c));
    }
    planned_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(open_samplers_count_until_they_are_freed),
                                       cmocka_unit_test(weights_stay_as_far_as_there_is_room),
                                       cmocka_unit_test(prepared_weights_and_an_arena_stay_where_there_is_room),
                                       cmocka_unit_test(arenas_of_all_ranks_stay),
                                       cmocka_unit_test(an_arena_stays_on_its_device_where_nothing_is_streamed),
                                       cmocka_unit_test(a_stage_that_streams_gives_the_arena_back),
                                       cmocka_unit_test(stages_on_another_device_leave_nothing_behind),
                                       cmocka_unit_test(a_decoder_lies_beside_the_denoiser_that_goes_on),
                                       cmocka_unit_test(without_room_for_both_all_is_denoised_first),
                                       cmocka_unit_test(a_batch_drives_no_weights_out),
                                       cmocka_unit_test(the_arena_of_all_stages_leaves_room_for_weights),
                                       cmocka_unit_test(a_refusal_hints_at_what_the_request_has)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
