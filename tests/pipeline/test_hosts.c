/* Memory is compared host by host: processes 0 and 2 on one host, 1 and 3 on another, by the linker's --wrap. */
#include "support/golden.h"

#include "mesh/processes.h"
#include "pipeline/memory_course.h"
#include "pipeline/text_to_image.h"
#include "pipeline/team.h"

static process_info infos[] = {{.host = "one", .memory = 1000, .threads = 1},
                               {.host = "two", .memory = 600, .threads = 1},
                               {.host = "one", .memory = 900, .threads = 1},
                               {.host = "two", .memory = 700, .threads = 1}};
enum { COUNT = sizeof infos / sizeof *infos };
static int place;

int __wrap_processes_count(const processes *p);
int __wrap_processes_index(const processes *p);
const process_info *__wrap_processes_info(const processes *p, int index);
void __wrap_processes_ranks(const processes *p, int index, int ranks, int *first, int *count);

int __wrap_processes_count(const processes *p) { return (void)p, COUNT; }
int __wrap_processes_index(const processes *p) { return (void)p, place; }
const process_info *__wrap_processes_info(const processes *p, int index) { return (void)p, &infos[index]; }
void __wrap_processes_ranks(const processes *p, int index, int ranks, int *first, int *count)
{
    (void)p;
    assert_int_equal(ranks, 8);
    *first = 2 * index;
    *count = 2;
}

static void the_host_with_least_to_spare_is_named(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "2x4", 1, FLUX1_DTYPE_F32);
    int64_t dummy;
    size_t activations[8], held[8] = {0}, none[8] = {0};
    stage_plan p = {
        .arena = activations, .scratch = none, .held = held, .block = none, .mapped = none, .in_steps = none};
    for (int r = 0; r < 8; r++)
        activations[r] = 100;
    c->processes = c->device.processes = (processes *)&dummy;
    c->max_memory = 1000;
    memory_need n = memory_of(c, &c->device, &p, NULL);
    assert_true(n.process == 1 && memory_total(n) == 400 && memory_fits(c, n)); /* 600 there, 900 on the first */
    assert_int_equal(memory_beside(c, &c->device, &p), 200);
    c->program = 3; /* each process there has it, and has opened the model */
    c->opened = 4;
    n = memory_of(c, &c->device, &p, NULL);
    assert_true(n.process == 1 && n.program == 6 && n.opened == 8 && memory_total(n) == 414);
    c->program = c->opened = 0;
    held[0] = 350; /* now the first has 150 to spare, the second 200 */
    n = memory_of(c, &c->device, &p, NULL);
    assert_true(n.process == 0 && memory_total(n) == 750 && memory_fits(c, n));
    c->max_memory = 740; /* of this process: less than the others there may have */
    assert_false(memory_fits(c, memory_of(c, &c->device, &p, NULL)));
    held[7] = 300; /* the second lacks 100, the first 10 */
    n = memory_of(c, &c->device, &p, NULL);
    assert_int_equal(memory_check(c, n, HINT_SIZE | HINT_OPTIONS, "denoising"), FLUX1_ERR_LIMIT);
    assert_string_equal(c->error.message,
                        "denoising takes 700 bytes of host memory on two (activations 400 bytes, prepared weights 300 "
                        "bytes), more than the 600 bytes that it may have (max_memory); a smaller picture, dtype bf16 "
                        "or a cache folder "
                        "for prepared weights would take less");
    n = memory_of(c, &c->device, &p, &p);
    assert_true(n.process == 1 && memory_total(n) == 1400);
    p.picture = 200; /* on the first host, which then lacks 210 */
    n = memory_of(c, &c->device, &p, NULL);
    assert_true(n.process == 0 && n.picture == 200 && memory_total(n) == 950);
    c->processes = c->device.processes = NULL;
    flux1_context_destroy(c);
}

static void plan_on_eight(flux1_context *c, const flux1_model *m, stage_plan *out)
{
    request r;
    denoiser d;
    flux1_generate_params params;
    flux1_generate_params_defaults(&params);
    assert_int_equal(request_make(c, m, &params, &r), FLUX1_OK);
    assert_int_equal(denoiser_plan(c, m, &r, 1, &d), FLUX1_OK);
    *out = d.plan;
    d.plan = (stage_plan){0};
    denoiser_close(&d);
}

/* Of sp's eight ranks each process maps the blocks once for its two. */
static void a_process_maps_for_itself(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "8x1", 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    int64_t dummy;
    stage_plan plan;
    c->device.processes = (processes *)&dummy;
    plan_on_eight(c, m, &plan);
    for (int i = 0; i < 8; i += 2)
        assert_true(plan.mapped[i] > plan.mapped[i + 1] && plan.mapped[i] > plan.mapped[0] / 2);
    stage_plan_free(&plan);
    c->device.processes = NULL;
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* Each process computes with its own threads, which have scratch. Ranks of a machine that is only described lie as
 * those of processes with as many threads. */
static void a_plan_has_each_process_with_its_threads(void **state)
{
    (void)state;
    static const char *const shapes[] = {"8x1", "1x8", "2x4"};
    for (int s = 0; s < 3; s++) {
        flux1_context *c = context_on("cpu", shapes[s], 6, FLUX1_DTYPE_F32);
        flux1_model *m = pipeline_of(c, "schnell");
        int64_t dummy;
        stage_plan few, more, described;
        c->device.processes = (processes *)&dummy;
        plan_on_eight(c, m, &few);
        infos[2].threads = 6;
        plan_on_eight(c, m, &more);
        infos[2].threads = 1;
        c->device.processes = NULL;
        c->device.together = 2;
        plan_on_eight(c, m, &described);
        c->device.together = 0;
        for (int r = 0; r < 8; r++) {
            const bool third = r / 2 == 2;
            if (more.arena[r] != (third ? described : few).arena[r] ||
                more.scratch[r] != (third ? described : few).scratch[r])
                fail_msg("rank %d of %s: %zu bytes", r, shapes[s], more.arena[r]);
            assert_true(third ? more.scratch[r] > few.scratch[r] : more.scratch[r] == few.scratch[r]);
            assert_int_equal(described.mapped[r], few.mapped[r]);
        }
        assert_true(s > 0 || more.arena[4] > few.arena[4]); /* of sp, all ranks have heads; attention is the peak */
        stage_plan_free(&few);
        stage_plan_free(&more);
        stage_plan_free(&described);
        flux1_model_close(m);
        flux1_context_destroy(c);
    }
}

/* Of an open sampler each host has what its own ranks have. */
static void samplers_are_counted_host_by_host(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "2x4", 1, FLUX1_DTYPE_F32);
    int64_t dummy;
    size_t activations[8] = {10, 10, 20, 20, 10, 10, 20, 20}, held[8] = {0, 0, 0, 5, 0, 0, 0, 0}, none[8] = {0};
    stage_plan open = {.arena = activations,
                       .scratch = none,
                       .held = held,
                       .block = none,
                       .mapped = none,
                       .in_steps = none},
               p = {.arena = none, .scratch = none, .held = none, .block = none, .mapped = none, .in_steps = none};
    memory_hold h = {.plan = &open, .model = 7};
    c->holds = &h;
    c->model = 7; /* whose prepared weights are in its own plan */
    assert_int_equal(memory_of(c, &c->device, &p, NULL).samplers, 120);
    c->processes = c->device.processes = (processes *)&dummy;
    c->max_memory = 1000;
    memory_need n = memory_of(c, &c->device, &p, NULL);
    assert_true(n.process == 1 && n.samplers == 80 && memory_total(n) == 80);
    c->model = 8;
    assert_int_equal(memory_of(c, &c->device, &p, NULL).samplers, 85);
    c->max_memory = 50;
    n = memory_of(c, &c->device, &p, NULL);
    assert_true(n.process == 0 && n.samplers == 40);
    c->processes = c->device.processes = NULL;
    c->holds = NULL;
    flux1_context_destroy(c);
}

/* ---- what is handed out ---- */

flux1_status __wrap_session_reserve(flux1_context *c, session *s, const size_t *arena_bytes, const size_t *weights);
flux1_status __wrap_text_cache_limit(flux1_context *c, uint64_t room);

static size_t reserved[8], share[8];
static uint64_t room_of_texts;

flux1_status __wrap_session_reserve(flux1_context *c, session *s, const size_t *arena_bytes, const size_t *weights)
{
    (void)c, (void)s;
    memcpy(reserved, arena_bytes, sizeof reserved);
    memcpy(share, weights, sizeof share);
    return FLUX1_OK;
}
flux1_status __wrap_text_cache_limit(flux1_context *c, uint64_t room)
{
    return (void)c, room_of_texts = room, FLUX1_OK;
}

/* Ranks 0, 1, 4 and 5 are on the first host, which has 900 bytes, the others on the second, which has 600. On each 400
 * are fixed, 200 more on the first for the picture, and 400 are mapped, 40 of them beside. Prompts lie on the first. */
static void mapped_weights_share_the_room_of_their_host(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "2x4", 1, FLUX1_DTYPE_F32);
    int64_t dummy;
    size_t activations[8], mapped[8], few[8], none[8] = {0}, larger[8];
    stage_plan p = {.arena = activations,
                    .scratch = none,
                    .held = none,
                    .block = none,
                    .mapped = mapped,
                    .in_steps = none},
               beside = {.arena = none, .scratch = none, .held = none, .block = none, .mapped = few, .in_steps = none};
    session s = {.device = &c->device};
    for (int r = 0; r < 8; r++) {
        activations[r] = 100;
        larger[r] = 101;
        mapped[r] = 90;
        few[r] = 10;
    }
    c->processes = c->device.processes = (processes *)&dummy;
    c->max_memory = 1000;
    static const struct {
        size_t picture, first, second;
    } cases[] = {{0, SIZE_MAX, (200 - 40) / 4}, {200, (300 - 40) / 4, (200 - 40) / 4}, {480, 0, (200 - 40) / 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        p.picture = cases[i].picture;
        assert_int_equal(memory_reserve(c, &s, &p, &beside, larger), FLUX1_OK);
        for (int r = 0; r < 8; r++) {
            if (share[r] != (r / 2 % 2 ? cases[i].second : cases[i].first))
                fail_msg("case %zu: %zu bytes for rank %d", i, share[r], r);
            assert_int_equal(reserved[r], 100);
        }
        assert_int_equal(room_of_texts, i == 0 ? 100 : (500 - p.picture) / 16);
    }
    p.picture = 0;
    const uint64_t before[COUNT] = {infos[0].memory, infos[1].memory, infos[2].memory, infos[3].memory};
    infos[0].memory = infos[1].memory = infos[2].memory = infos[3].memory = c->max_memory = (uint64_t)1 << 40;
    assert_int_equal(memory_reserve(c, &s, &p, NULL, larger), FLUX1_OK);
    assert_true(reserved[0] == 100 && share[0] == SIZE_MAX &&
                share[7] == SIZE_MAX); /* what others touched is not known */
    for (int i = 0; i < COUNT; i++)
        infos[i].memory = before[i];
    c->processes = c->device.processes = NULL;
    flux1_context_destroy(c);
}

/* What one stage leaves to the next is not counted where several processes have it. */
static void of_several_processes_nothing_is_known_to_stay(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "2x4", 1, FLUX1_DTYPE_F32);
    int64_t dummy;
    size_t little[8], more[8], none[8] = {0};
    for (int r = 0; r < 8; r++) {
        little[r] = 10;
        more[r] = 20;
    }
    const stage_plan
        first = {.arena = more, .scratch = none, .held = little, .block = none, .mapped = none, .in_steps = none},
        second = {.arena = little, .scratch = none, .held = more, .block = none, .mapped = none, .in_steps = none};
    const memory_stage stages[] = {{&c->device, &first, NULL}, {&c->device, &second, NULL}};
    c->processes = c->device.processes = (processes *)&dummy;
    c->max_memory = 1000;
    const memory_course course = memory_over(c, stages, 2);
    assert_true(course.first == 4 * 30 && course.later == 4 * 30); /* of four ranks on a host */
    c->processes = c->device.processes = NULL;
    flux1_context_destroy(c);
}

static void ranks_are_those_of_the_process(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "2x4", 1, FLUX1_DTYPE_F32);
    int64_t dummy;
    assert_true(team_ranks(c).begin == 0 && team_ranks(c).count == 8 && !team_leads(c));
    c->processes = c->device.processes = (processes *)&dummy;
    assert_true(team_leads(c));
    place = 3;
    assert_true(team_ranks(c).begin == 6 && team_ranks(c).count == 2 && !team_leads(c));
    place = 0;
    c->processes = c->device.processes = NULL;
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_host_with_least_to_spare_is_named),
        cmocka_unit_test(a_process_maps_for_itself),
        cmocka_unit_test(a_plan_has_each_process_with_its_threads),
        cmocka_unit_test(samplers_are_counted_host_by_host),
        cmocka_unit_test(ranks_are_those_of_the_process),
        cmocka_unit_test(mapped_weights_share_the_room_of_their_host),
        cmocka_unit_test(of_several_processes_nothing_is_known_to_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
