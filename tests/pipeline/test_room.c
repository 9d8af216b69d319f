/* What is handed out of the memory there is: to mapped weights, arenas, prepared weights, prompts and open samplers. By
 * hand: plans of a few numbers, and sessions that note what they are given. */
#include "support/golden.h"

#include "mesh/runner.h"
#include "pipeline/folder.h"
#include "pipeline/memory.h"
#include "pipeline/text_cache.h"

enum { RANKS = 2 };

flux1_status __wrap_text_cache_limit(flux1_context *c, uint64_t room);
uint64_t __wrap_text_cache_bytes(const flux1_context *c);

static struct {
    uint64_t room, bytes; /* that it was given last; that it has */
    int calls;
    bool fails;
} texts;

flux1_status __wrap_text_cache_limit(flux1_context *c, uint64_t room)
{
    texts.room = room;
    texts.calls++;
    return texts.fails ? error_oom(&c->error, 0, "the encoded prompts") : FLUX1_OK;
}
uint64_t __wrap_text_cache_bytes(const flux1_context *c) { return (void)c, texts.bytes; }

typedef struct noting {
    mesh_session head;
    size_t budget[RANKS], arena[RANKS];
    int budgets; /* how often it was told one */
} noting;

static flux1_status note_reserve(mesh_session *s, const size_t *arena_bytes, flux1_error *err)
{
    (void)err;
    memcpy(((noting *)s)->arena, arena_bytes, sizeof((noting *)s)->arena);
    return FLUX1_OK;
}
static void note_budget(mesh_session *s, const size_t *bytes)
{
    memcpy(((noting *)s)->budget, bytes, sizeof((noting *)s)->budget);
    ((noting *)s)->budgets++;
}
static const mesh_runner NOTING = {.name = "noting", .reserve = note_reserve, .weights_budget = note_budget};

typedef struct numbers {
    size_t arena[RANKS], scratch[RANKS], held[RANKS], block[RANKS], mapped[RANKS], in_steps[RANKS];
} numbers;

static stage_plan plan_of(numbers *n)
{
    return (stage_plan){.arena = n->arena,
                        .scratch = n->scratch,
                        .held = n->held,
                        .block = n->block,
                        .mapped = n->mapped,
                        .in_steps = n->in_steps};
}

/* The stage of most tests, 202 bytes fixed and 1500 mapped, and one beside it, 50 fixed and 401 mapped. */
static numbers large = {{100, 60}, {7, 5}, {20, 10}, {3, 2}, {1000, 500}, {900, 500}},
               small = {{50, 0}, {0, 0}, {0, 0}, {1, 1}, {300, 101}, {0, 0}};

static flux1_context *context_of_two(session *s, noting *n)
{
    flux1_context *c = context_on("cpu", "1x2", 1, FLUX1_DTYPE_F32);
    memset(&texts, 0, sizeof texts);
    *n = (noting){.head = {.fn = &NOTING, .ranks = RANKS}};
    *s = (session){.context = c, .device = &c->device, .mesh = &n->head};
    return c;
}

/* ---- mapped weights ---- */

static void expect_share(flux1_context *c, session *s, size_t limit, const stage_plan *beside, size_t share)
{
    const noting *n = (noting *)s->mesh;
    const stage_plan p = plan_of(&large);
    c->max_memory = limit;
    assert_int_equal(memory_reserve(c, s, &p, beside, NULL), FLUX1_OK);
    for (int r = 0; r < RANKS; r++) {
        if (n->budget[r] != share)
            fail_msg("limit %zu: %zu bytes for rank %d", limit, n->budget[r], r);
        assert_int_equal(n->arena[r], large.arena[r]);
    }
}

/* All of them where there is room for all; else each rank gets the same part of what fixed memory leaves, and what the
 * plan beside it maps stays. Prompts of earlier runs that are kept count as fixed. */
static void ranks_share_the_room_for_mapped_weights(void **state)
{
    (void)state;
    session s;
    noting n;
    flux1_context *c = context_of_two(&s, &n);
    const stage_plan beside = plan_of(&small);
    expect_share(c, &s, 202 + 1500, NULL, SIZE_MAX);
    expect_share(c, &s, 202 + 1499, NULL, 749);
    expect_share(c, &s, 202 + 2, NULL, 1);
    expect_share(c, &s, 202 + 1, NULL, 0);
    expect_share(c, &s, 202, NULL, 0);
    expect_share(c, &s, 100, NULL, 0);
    expect_share(c, &s, 252 + 1901, &beside, SIZE_MAX);
    expect_share(c, &s, 252 + 1900, &beside, 749);
    expect_share(c, &s, 252 + 403, &beside, 1);
    expect_share(c, &s, 252 + 401, &beside, 0);
    expect_share(c, &s, 252 + 300, &beside, 0);
    texts.bytes = 10;
    expect_share(c, &s, 212 + 1500, NULL, SIZE_MAX);
    expect_share(c, &s, 212 + 1499, NULL, 749);
    flux1_context_destroy(c);
}

/* A device with memory of its own has no mapped weights, and the host's limit is not its own. */
static void a_device_with_memory_of_its_own_is_given_all(void **state)
{
    (void)state;
    session s;
    noting n, sampler = {.head = {.fn = &NOTING, .ranks = RANKS}};
    flux1_context *c = context_of_two(&s, &n);
    ops_device *cpu = c->device.device, gpu = {.kind = &ops_cpu_device, .info = {.memory = 1 << 30}};
    const stage_plan p = plan_of(&large);
    session of_sampler = {.mesh = &sampler.head};
    memory_hold h = {.session = &of_sampler, .plan = &p, .decoding = 5000};
    const size_t reserve[RANKS] = {1000, 2000};
    c->device.device = &gpu;
    c->holds = &h;
    c->max_memory = 1;
    assert_int_equal(memory_reserve(c, &s, &p, NULL, reserve), FLUX1_OK);
    assert_true(n.budget[0] == SIZE_MAX && n.budget[1] == SIZE_MAX && n.arena[0] == 1000 && n.arena[1] == 2000);
    assert_true(texts.calls == 0 && c->kept.bytes == 0 && !h.lowered && sampler.budgets == 0);
    assert_int_equal(memory_of_sampler(c, &p, &p).samplers, 0); /* they are on the host */
    c->holds = NULL;
    c->device.device = cpu;
    flux1_context_destroy(c);
}

/* ---- what nobody uses ---- */

/* Of 298 bytes that are left beside all weights, prompts may have all, and so may prepared weights beside the stage's
 * own 30. Where weights are streamed, prompts may have a sixteenth of what is left beside blocks. */
static void prompts_and_prepared_weights_may_have_what_is_left(void **state)
{
    (void)state;
    session s;
    noting n;
    flux1_context *c = context_of_two(&s, &n);
    const stage_plan beside = plan_of(&small);
    expect_share(c, &s, 2000, NULL, SIZE_MAX);
    assert_true(texts.room == 298 && c->kept.bytes == 30 + 298 + 1);
    expect_share(c, &s, 2000, &beside, (2000 - 252 - 401) / 2);
    assert_true(texts.room == (2000 - 259) / 16 && c->kept.bytes == 30 + (2000 - 252 - 1400) + 1);
    expect_share(c, &s, 2 * KEPT_UNUSED, NULL, SIZE_MAX);
    assert_int_equal(c->kept.bytes, KEPT_UNUSED + 1);
    expect_share(c, &s, 100, NULL, 0);
    assert_int_equal(c->kept.bytes, 30 + 1);
    numbers most = {.held = {KEPT_UNUSED, 7}};
    const stage_plan p = plan_of(&large), of_most = plan_of(&most);
    c->max_memory = 4 * KEPT_UNUSED;
    assert_int_equal(memory_reserve(c, &s, &of_most, NULL, NULL), FLUX1_OK);
    assert_int_equal(c->kept.bytes, KEPT_UNUSED + 7 + 1);
    texts.fails = true;
    n.budgets = 0;
    assert_int_equal(memory_reserve(c, &s, &p, NULL, NULL), FLUX1_ERR_MEMORY);
    assert_int_equal(n.budgets, 0);
    flux1_context_destroy(c);
}

/* 30 and 35 more than the stage's own arenas: where there is room for them beside all its weights and the prepared ones
 * that may stay. */
static void arenas_stay_as_large_as_they_were_where_there_is_room(void **state)
{
    (void)state;
    session s;
    noting n;
    flux1_context *c = context_of_two(&s, &n);
    const stage_plan p = plan_of(&large);
    const size_t reserve[RANKS] = {130, 95};
    c->max_memory = 1702 + KEPT_UNUSED + 65;
    assert_int_equal(memory_reserve(c, &s, &p, NULL, reserve), FLUX1_OK);
    assert_true(n.arena[0] == 130 && n.arena[1] == 95);
    const size_t first[RANKS] = {165, 60}; /* 65 and none */
    assert_int_equal(memory_reserve(c, &s, &p, NULL, first), FLUX1_OK);
    assert_true(n.arena[0] == 165 && n.arena[1] == 60);
    c->max_memory--;
    assert_int_equal(memory_reserve(c, &s, &p, NULL, reserve), FLUX1_OK);
    assert_true(n.arena[0] == 100 && n.arena[1] == 60);
    c->max_memory = 100; /* less than there is already */
    assert_int_equal(memory_reserve(c, &s, &p, NULL, reserve), FLUX1_OK);
    assert_true(n.arena[0] == 100 && n.arena[1] == 60);
    flux1_context_destroy(c);
}

/* ---- samplers ---- */

/* Of 26 bytes fixed and 300 mapped, with a decoder of 10 and 80; of the model 8. */
typedef struct sampler {
    numbers denoise, decode;
    stage_plan of_denoise, of_decode;
    noting n;
    session s;
    memory_hold h;
} sampler;

static void open_sampler(flux1_context *c, sampler *s)
{
    static flux1_model model = {.source = {.number = 8}};
    *s = (sampler){.denoise = {{10, 10}, {1, 1}, {2, 2}, {4, 6}, {200, 100}, {200, 100}},
                   .decode = {.arena = {5, 5}, .block = {3, 3}, .mapped = {50, 30}},
                   .n = {.head = {.fn = &NOTING, .ranks = RANKS}}};
    s->of_denoise = plan_of(&s->denoise);
    s->of_decode = plan_of(&s->decode);
    s->s = (session){.mesh = &s->n.head};
    s->h = (memory_hold){.session = &s->s, .plan = &s->of_denoise, .beside = &s->of_decode};
    memory_hold_on(c, &s->h, &model);
}

/* Its blocks alone may stay. */
static bool is_lowered(const sampler *s)
{
    assert_int_equal(s->n.budgets, s->h.lowered);
    return s->h.lowered && s->n.budget[0] == 4 && s->n.budget[1] == 6;
}

/* Where a stage's weights and the samplers' do not all stay: 202 + 1500 of the stage, 26 + 300 of each sampler. The
 * sampler whose own decoder it is has counted with it. */
static void weights_of_samplers_leave_where_a_stage_wants_the_room(void **state)
{
    (void)state;
    session s;
    noting n;
    flux1_context *c = context_of_two(&s, &n);
    sampler a, b;
    open_sampler(c, &a);
    expect_share(c, &s, 1702 + 326, NULL, SIZE_MAX);
    assert_false(is_lowered(&a));
    memory_hold_rest(&a.h);
    assert_int_equal(a.n.budgets, 0); /* all may stay */
    expect_share(c, &s, 1702 + 325, NULL, SIZE_MAX);
    assert_true(is_lowered(&a));
    memory_hold_rest(&a.h);
    assert_int_equal(a.n.budgets, 2);
    memory_let_go(c, &a.h);
    open_sampler(c, &a);
    open_sampler(c, &b);
    c->max_memory = 100;
    assert_int_equal(memory_reserve(c, &s, &a.of_decode, NULL, NULL), FLUX1_OK);
    assert_true(!is_lowered(&a) && is_lowered(&b));
    memory_let_go(c, &a.h);
    memory_let_go(c, &b.h);
    flux1_context_destroy(c);
}

/* The only one that is open gets room as when it was opened: beside its decoder, 36 are fixed, 300 mapped and 80 of the
 * decoder's. One that has never left is given nothing. */
static void a_sampler_that_is_alone_gets_its_room_back(void **state)
{
    (void)state;
    session s;
    noting n;
    flux1_context *c = context_of_two(&s, &n);
    sampler a;
    open_sampler(c, &a);
    c->max_memory = 100;
    assert_int_equal(memory_hold_again(c, &a.h), FLUX1_OK);
    assert_true(a.n.budgets == 0 && texts.calls == 0);
    for (int all = 0; all < 2; all++) {
        a.h.lowered = true;
        c->max_memory = (uint64_t)(36 + 379 + all);
        assert_int_equal(memory_hold_again(c, &a.h), FLUX1_OK);
        assert_true(!a.h.lowered && c->holds == &a.h && !a.h.next);
        assert_true(a.n.budget[0] == (all ? SIZE_MAX : 149) && a.n.budget[1] == a.n.budget[0]);
        assert_int_equal(texts.room, all ? (36 + 380 - 52) / 16 : (36 + 379 - 52) / 16); /* beside 16 of blocks */
    }
    c->max_memory = 36 + 380 + 5;
    a.h.lowered = true;
    assert_int_equal(memory_hold_again(c, &a.h), FLUX1_OK);
    assert_int_equal(texts.room, 5);
    a.h.lowered = texts.fails = true;
    a.n.budgets = 0;
    assert_int_equal(memory_hold_again(c, &a.h), FLUX1_ERR_MEMORY);
    assert_true(a.h.lowered && a.n.budgets == 0 && c->holds == &a.h);
    memory_let_go(c, &a.h);
    flux1_context_destroy(c);
}

/* Of two that go on in turns each has its blocks alone: the other one leaves. Prompts may have a sixteenth of what is
 * left beside both, 2 x 26, and those blocks, 10. */
static void samplers_that_go_on_in_turns_lower_each_other(void **state)
{
    (void)state;
    session s;
    noting n;
    flux1_context *c = context_of_two(&s, &n);
    sampler a, b;
    open_sampler(c, &a);
    open_sampler(c, &b);
    c->max_memory = 62 + 319;
    for (int turn = 0; turn < 2; turn++) {
        sampler *now = turn ? &b : &a, *other = turn ? &a : &b;
        now->h.lowered = true;
        other->h.lowered = false;
        now->n.budgets = other->n.budgets = 0;
        assert_int_equal(memory_hold_again(c, &now->h), FLUX1_OK);
        assert_true(is_lowered(other) && now->h.lowered && now->n.budgets == 0);
        assert_true(texts.calls == turn + 1 && texts.room == 319 / 16);
        assert_true(c->holds == &b.h && b.h.next == &a.h && !a.h.next);
    }
    texts.fails = true;
    assert_int_equal(memory_hold_again(c, &a.h), FLUX1_ERR_MEMORY);
    memory_let_go(c, &a.h);
    memory_let_go(c, &b.h);
    flux1_context_destroy(c);
}

/* ---- what is said of it ---- */

static void keep_line(void *user, flux1_log_level level, const char *line)
{
    assert_int_equal(level, FLUX1_LOG_INFO);
    snprintf(user, 256, "%s", line);
}

/* 252 fixed, and of the 1901 mapped the 1400 that steps read. */
static void weights_that_do_not_all_stay_are_told(void **state)
{
    (void)state;
    session s;
    noting n;
    flux1_context *c = context_of_two(&s, &n);
    const stage_plan p = plan_of(&large), beside = plan_of(&small);
    char line[256] = "";
    c->log = keep_line;
    c->log_user = line;
    c->max_memory = 1702;
    memory_tell(c, &c->device, "encoding", &p, NULL);
    assert_string_equal(line, "");
    memory_tell(c, &c->device, "denoising", &p, &beside);
    assert_string_equal(line, "memory: denoising takes 1.61 KiB at most; of 1.86 KiB of mapped weights 1.37 KiB are in "
                              "memory at a time, the others are read when they are needed");
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranks_share_the_room_for_mapped_weights),
                                       cmocka_unit_test(a_device_with_memory_of_its_own_is_given_all),
                                       cmocka_unit_test(prompts_and_prepared_weights_may_have_what_is_left),
                                       cmocka_unit_test(arenas_stay_as_large_as_they_were_where_there_is_room),
                                       cmocka_unit_test(weights_of_samplers_leave_where_a_stage_wants_the_room),
                                       cmocka_unit_test(a_sampler_that_is_alone_gets_its_room_back),
                                       cmocka_unit_test(samplers_that_go_on_in_turns_lower_each_other),
                                       cmocka_unit_test(weights_that_do_not_all_stay_are_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
