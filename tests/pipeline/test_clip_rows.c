/* CLIP computes the rows up to the pooled one, and the last layer for that one alone: the vector is that of all rows,
 * whatever follows the prompt, on any mesh. (test_goldens.c compares both ways with the oracle: this one on the CPU and
 * ref, all rows on an emulated GPU; test_recording.c plays all rows.) */
#include "support/stage_runs.h"

#define BOUND 1e-6 /* float32; the last layer's one row may be summed in another order */

typedef struct clip_case {
    flux1_context *c;
    flux1_model *m;
    flux1_text *text;
} clip_case;

static void open_case(const char *device, const char *shape, const char *pipeline, clip_case *k)
{
    k->c = context_on(device, shape, 1, FLUX1_DTYPE_F32);
    k->m = pipeline_of(k->c, pipeline);
    assert_int_equal(text_stand_in(k->m, 1, 16, &k->text, &k->c->error), FLUX1_OK);
}

static void close_case(clip_case *k)
{
    flux1_text_free(k->text);
    flux1_model_close(k->m);
    flux1_context_destroy(k->c);
}

/* Ids of a prompt of so many tokens; `behind`: what stands for the others. */
static void set_ids(clip_case *k, int tokens, int32_t behind)
{
    const clip_config *c = &k->m->clip;
    const int32_t end = (int32_t)(c->eos == 2 ? c->vocab - 1 : c->eos);
    for (int i = 0; i < k->text->clip_length; i++)
        k->text->clip_ids[i] = i < tokens - 1 ? 5 + i * 7 % 40 : i == tokens - 1 ? end : behind;
}

/* The pooled vector, by the planned rows, or by `rows`. It is NaN where nothing was written. */
static void encode(clip_case *k, int rows, tensor *out)
{
    text_plan plan;
    *out = new_tensor(2, (int64_t[]){1, k->m->clip.hidden});
    for (int64_t i = 0; i < k->m->clip.hidden; i++)
        ((float *)out->data)[i] = NAN;
    if (text_plan_make(k->c, k->m, NULL, k->text, &plan) != FLUX1_OK)
        fail_msg("%s", k->c->error.message);
    text_job *job = &plan.job;
    if (rows >= 0) {
        job->clip_rows = rows;
        stage_plan_free(&plan.clip);
        assert_int_equal(
            stage_plan_make(&k->c->mesh, &k->c->device, clip_body, job, &job->ticker, &plan.clip, &k->c->error),
            FLUX1_OK);
    }
    job->pooled = *out;
    assert_int_equal(session_take(k->c, &k->c->device, k->m, NULL, &job->session), FLUX1_OK);
    assert_int_equal(mesh_reserve(job->session->mesh, plan.clip.arena, &k->c->error), FLUX1_OK);
    if (mesh_run(job->session->mesh, clip_body, job, &k->c->error) != FLUX1_OK)
        fail_msg("%s", k->c->error.message);
    session_give(k->c, job->session);
    text_plan_free(&plan);
}

/* The planned rows against all of them, and against each other number that holds the prompt: the same bits. */
static void compare(clip_case *k, const char *where, int tokens, bool bits)
{
    const int length = k->text->clip_length, needed = (int)clip_rows(&k->m->clip, k->text->clip_ids, length);
    tensor few, all, more;
    encode(k, -1, &few);
    encode(k, 0, &all);
    encode(k, needed + (length - needed) / 2, &more);
    const size_t bytes = (size_t)k->m->clip.hidden * sizeof(float);
    const double error = relative_l2(few.data, all.data, k->m->clip.hidden);
    if (!(error <= (bits ? 0 : BOUND)))
        fail_msg("%s, %d tokens: off by %g", where, tokens, error);
    assert_memory_equal(few.data, more.data, bytes);
    tensor_free(&few);
    tensor_free(&all);
    tensor_free(&more);
}

/* Prompts of one token, of none (begin and end), around the fewest rows and a step of them, and of all. */
static void compare_prompts(const char *device, const char *shape, const char *pipeline)
{
    clip_case k;
    char where[96];
    snprintf(where, sizeof where, "%s on %s %s", pipeline, device, shape);
    open_case(device, shape, pipeline, &k);
    const int length = k.text->clip_length, tokens[] = {1, 2, 7, 24, 25, 33, length - 1, length};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        set_ids(&k, tokens[i], 3);
        compare(&k, where, tokens[i], strcmp(device, "ref") == 0);
    }
    close_case(&k);
}

/* eos_token_id 2 (the greatest id's row), the tokenizer's own, and one layer of one head. */
static const char *const MODELS[] = {"schnell", "mixed", "single"};

static void on_ref_rows_that_are_left_out_change_no_bit(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        compare_prompts("ref", "1x1", MODELS[i]);
}

static void on_the_cpu_they_change_the_last_layers_rounding(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        compare_prompts("cpu", "1x1", MODELS[i]);
}

/* Rows that do not divide, and more ranks than rows. */
static void on_meshes(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x3", "2x4", "19x1", "4x8"};
    for (int i = 0; i < 4; i++)
        compare_prompts("cpu", shapes[i], MODELS[i % 2]);
}

/* Where the first end of text counts, a second one behind it does not; by the greatest id, the first of them counts. */
static void the_first_end_of_text_counts(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        clip_case k;
        tensor once, twice;
        open_case("cpu", "1x1", MODELS[i], &k);
        set_ids(&k, 9, 3);
        encode(&k, -1, &once);
        set_ids(&k, 9, k.text->clip_ids[8]);
        assert_int_equal(clip_pooled_row(&k.m->clip, k.text->clip_ids, k.text->clip_length), 8);
        encode(&k, -1, &twice);
        assert_memory_equal(once.data, twice.data, (size_t)k.m->clip.hidden * sizeof(float));
        tensor_free(&once);
        tensor_free(&twice);
        close_case(&k);
    }
}

/* Too few rows for the prompt are refused, also where another process asks for them. */
static void rows_before_the_pooled_one_are_refused(void **state)
{
    (void)state;
    clip_case k;
    text_plan plan;
    open_case("cpu", "1x1", "schnell", &k);
    set_ids(&k, 30, 3);
    assert_int_equal(text_plan_make(k.c, k.m, NULL, k.text, &plan), FLUX1_OK);
    for (int rows = 29; rows <= 30; rows++) {
        stage_plan other;
        plan.job.clip_rows = rows;
        assert_int_equal(
            stage_plan_make(&k.c->mesh, &k.c->device, clip_body, &plan.job, &plan.job.ticker, &other, &k.c->error),
            rows == 29 ? FLUX1_ERR_INTERNAL : FLUX1_OK);
        if (rows == 30)
            stage_plan_free(&other);
    }
    text_plan_free(&plan);
    close_case(&k);
}

static const char *const PROMPTS[] = {"a car", "a cat",
                                      "a car and a car and a car and a car and a car and a car and "
                                      "a car and a car and a car and a car and a car and a car"};

/* Requests from `first` on in a context of their own, which has encoded nothing yet. */
static flux1_image *pictures_of(const char *shape, int first, int count)
{
    flux1_context *c = context_on("cpu", shape, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_image *images;
    flux1_generate_params p[3];
    const flux1_generate_params *each[3];
    for (int i = 0; i < count; i++) {
        flux1_generate_params_defaults(&p[i]);
        p[i].width = p[i].height = 32;
        p[i].steps = 1;
        p[i].batch = 1;
        p[i].max_sequence_length = 16;
        p[i].prompt = PROMPTS[(first + i) % 2];
        p[i].negative_prompt = PROMPTS[first + i];
        p[i].true_cfg_scale = 2;
        p[i].seed = 7;
        each[i] = &p[i];
    }
    if (flux1_generate_many(c, m, each, count, &images) != FLUX1_OK)
        fail_msg("%s: %s", shape, flux1_context_message(c));
    flux1_model_close(m);
    flux1_context_destroy(c);
    return images;
}

/* Requests of one call are planned together, also where the first prompt is not the longest and a negative one is; each
 * picture is the one that its request has alone. */
static void prompts_of_all_lengths_go_together(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "1x5"};
    for (int i = 0; i < 2; i++) {
        flux1_image *together = pictures_of(shapes[i], 0, 3);
        for (int k = 0; k < 3; k++) {
            flux1_image *alone = pictures_of(shapes[i], k, 1);
            assert_memory_equal(alone->pixels, together[k].pixels, (size_t)(3 * 32 * 32));
            flux1_images_free(alone, 1);
        }
        flux1_images_free(together, 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_ref_rows_that_are_left_out_change_no_bit),
        cmocka_unit_test(on_the_cpu_they_change_the_last_layers_rounding),
        cmocka_unit_test(on_meshes),
        cmocka_unit_test(the_first_end_of_text_counts),
        cmocka_unit_test(rows_before_the_pooled_one_are_refused),
        cmocka_unit_test(prompts_of_all_lengths_go_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
