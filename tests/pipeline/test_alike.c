/* Plans that run ranks of a kind dry once are those that run all of them. */
#include "support/golden.h"

#include "pipeline/text_to_image.h"

/* Of every stage: CLIP, T5, denoising, decoding whole and in bands. */
enum { PLANS = 5 };
typedef struct plans {
    text_plan texts;
    denoiser dit;
    decoder vae[2];
    const stage_plan *of[PLANS];
} plans;

static void plan(flux1_context *c, const flux1_model *m, const request *r, const flux1_text *text, plans *out)
{
    request bands = *r;
    bands.tiling = FLUX1_TILING_BANDS;
    assert_int_equal(text_plan_make(c, m, NULL, text, &out->texts), FLUX1_OK);
    assert_int_equal(denoiser_plan(c, m, r, 1, &out->dit), FLUX1_OK);
    assert_int_equal(decoder_plan(c, m, r, SIZE_MAX, &out->vae[0]), FLUX1_OK);
    assert_int_equal(decoder_plan(c, m, &bands, SIZE_MAX, &out->vae[1]), FLUX1_OK);
    const stage_plan *const all[PLANS] = {&out->texts.clip, &out->texts.t5, &out->dit.plan, &out->vae[0].plan,
                                          &out->vae[1].plan};
    memcpy(out->of, all, sizeof all);
}

static void plans_free(plans *p)
{
    text_plan_free(&p->texts);
    denoiser_close(&p->dit);
    decoder_close(&p->vae[0]);
    decoder_close(&p->vae[1]);
}

/* What ranks have in common is taken off by the plan of all of them only. */
static void assert_same(const stage_plan *each, const stage_plan *once, int ranks)
{
    assert_memory_equal(&each->count, &once->count, sizeof each->count);
    assert_memory_equal(&each->before, &once->before, sizeof each->before);
    assert_memory_equal(each->arena, once->arena, (size_t)ranks * sizeof *each->arena);
    assert_memory_equal(each->scratch, once->scratch, (size_t)ranks * sizeof *each->scratch);
    assert_memory_equal(each->block, once->block, (size_t)ranks * sizeof *each->block);
    assert_true(each->flops == once->flops && each->opening == once->opening && each->memory == once->memory);
    assert_int_equal(each->tick_count, once->tick_count);
    assert_memory_equal(each->ticks, once->ticks, each->tick_count * sizeof *each->ticks);
}

static void compare(const char *shape, int width, int height, int tokens)
{
    flux1_context *c = context_on("cpu", shape, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params p;
    request r;
    flux1_text *text;
    plans each, once;
    flux1_generate_params_defaults(&p);
    p.prompt = "";
    p.width = width, p.height = height, p.steps = 3, p.max_sequence_length = tokens;
    assert_int_equal(request_make(c, m, &p, &r), FLUX1_OK);
    assert_int_equal(text_stand_in(m, m->clip_length, tokens, &text, &c->error), FLUX1_OK);
    plan(c, m, &r, text, &each);
    c->device.alike = true;
    plan(c, m, &r, text, &once);
    for (int i = 0; i < PLANS; i++)
        assert_same(each.of[i], once.of[i], mesh_ranks(&c->mesh));
    plans_free(&each);
    plans_free(&once);
    flux1_text_free(text);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* Ranks with more rows than others, with fewer, and with none; at the picture's border and within it. */
static void ranks_of_a_kind_are_run_once(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "1x2", "2x1", "3x3", "5x1", "1x7", "4x5", "2x11", "13x2"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        compare(shapes[i], 64, 64, 21);
        compare(shapes[i], 48, 176, 5);
    }
}

/* A rank's 64 gathers and 63 turns of a ring: all of them are 64 times as many. */
static void a_large_mesh_is_planned_by_a_few_ranks(void **state)
{
    (void)state;
    compare("1x64", 64, 288, 9);
    compare("8x8", 288, 64, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_of_a_kind_are_run_once),
        cmocka_unit_test(a_large_mesh_is_planned_by_a_few_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
