/* What a plan says of the memory of a whole request is what the process has at the most (getrusage), within 10 %.
 * Models of FLUX.1's true width, with a few blocks, whose weights are holes. With --true-size: all blocks, as long as
 * it takes. */
#include "support/golden.h"
#include "support/true_layout.h"

#include "base/limits.h"
#include "pipeline/memory_course.h"
#include "pipeline/text_to_image.h"

#include <sys/resource.h>
#include <sys/wait.h>

#define MIB ((uint64_t)1 << 20)

typedef struct peak_case {
    const char *name;
    true_layout transformer, t5;
    uint64_t limit; /* max_memory; 0: none */
    int size, steps;
    flux1_dtype dtype;
    const char *mesh; /* NULL: one rank */
    bool cache;       /* of prepared weights, empty and then filled */
    int again;        /* pictures behind the first, of other prompts */
    int tokens;       /* max_sequence_length; 0: 16 */
    int threads;      /* 0: 2 */
    size_t own; /* bytes of the application; 0: the limit is not that of the process, otherwise beside what it has */
} peak_case;

typedef struct peaks {
    uint64_t planned, measured, before; /* before: when the context was open, and no model */
    uint64_t limit;
} peaks;

static char folder[] = "/tmp/flux1-peak-XXXXXX", transformer_path[64], t5_path[64], clip_path[64], vae_path[64],
            cache_path[64];

/* ---- the process that computes ---- */

static memory_course planned(flux1_context *c, const flux1_model *m, const flux1_generate_params *params)
{
    request r;
    flux1_text *text;
    text_plan texts;
    denoiser dit;
    decoder vae;
    c->opened = m->opened;
    assert_int_equal(request_make(c, m, params, &r), FLUX1_OK);
    assert_int_equal(text_tokenize(m, "", 0, r.length, &text, NULL, NULL, &c->error), FLUX1_OK);
    assert_int_equal(text_plan_make(c, m, NULL, text, &texts), FLUX1_OK);
    assert_int_equal(denoiser_plan(c, m, &r, 1, &dit), FLUX1_OK);
    assert_int_equal(decoder_plan(c, m, &r, memory_beside(c, &c->device, NULL), &vae), FLUX1_OK);
    const memory_stage stages[] = {{&c->device, &texts.clip, NULL},
                                   {&c->device, &texts.t5, NULL},
                                   {&c->device, &dit.plan, NULL},
                                   {&c->device, &vae.plan, NULL}};
    const memory_course course = memory_over(c, stages, 4);
    decoder_close(&vae);
    denoiser_close(&dit);
    text_plan_free(&texts);
    flux1_text_free(text);
    return course;
}

static uint64_t most_resident(void)
{
    struct rusage used;
    assert_int_equal(getrusage(RUSAGE_SELF, &used), 0);
    return (uint64_t)used.ru_maxrss * 1024;
}

static void tell(void *user, flux1_log_level level, const char *message)
{
    (void)level;
    printf("    %s: %s\n", (const char *)user, message);
    fflush(stdout);
}

static flux1_context *context_for(const peak_case *p, uint64_t limit)
{
    flux1_context *c;
    flux1_context_params params;
    flux1_context_params_defaults(&params);
    params.threads = p->threads ? p->threads : 2;
    params.dtype = p->dtype;
    params.max_memory = limit;
    params.memory_of_process = p->own > 0;
    params.mesh = p->mesh;
    params.cache = p->cache ? cache_path : "";
    params.log = tell;
    params.log_user = (void *)(uintptr_t)p->name;
    if (flux1_context_create(&params, &c) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    return c;
}

static peaks run(const peak_case *p, const flux1_model_parts *parts)
{
    char *own = p->own ? malloc(p->own) : NULL;
    if (own)
        memset(own, 1, p->own);
    peaks out = {.limit = own ? limits_resident() + p->limit : p->limit};
    flux1_model *m;
    flux1_image *image;
    flux1_generate_params params;
    flux1_context *c = context_for(p, out.limit);
    out.before = most_resident();
    if (flux1_model_open_parts(c, parts, &m) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    flux1_generate_params_defaults(&params);
    params.prompt = "a red fox"; /* as many tokens as those below */
    params.width = params.height = p->size;
    params.steps = p->steps;
    params.max_sequence_length = p->tokens ? p->tokens : 16;
    const memory_course course = planned(c, m, &params);
    out.planned = p->again && course.later > course.first ? course.later : course.first;
    for (int i = 0; i <= p->again; i++) {
        char prompt[32];
        snprintf(prompt, sizeof prompt, "%d red foxes", i);
        params.prompt = prompt;
        if (flux1_generate(c, m, &params, &image) != FLUX1_OK)
            fail_msg("%s", flux1_context_message(c));
        flux1_images_free(image, 1);
    }
    out.measured = most_resident();
    flux1_model_close(m);
    flux1_context_destroy(c);
    free(own);
    return out;
}

/* Each in a process of its own: a peak never goes down again. */
static peaks run_apart(const peak_case *p, const flux1_model_parts *parts,
                       peaks (*run_case)(const peak_case *, const flux1_model_parts *))
{
    int tube[2], status;
    peaks out;
    fflush(stdout);
    assert_int_equal(pipe(tube), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        out = run_case(p, parts);
        _exit(write(tube[1], &out, sizeof out) == (ssize_t)sizeof out ? 0 : 1);
    }
    close(tube[1]);
    const ssize_t got = read(tube[0], &out, sizeof out);
    assert_int_equal(waitpid(child, &status, 0), child);
    close(tube[0]);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || got != (ssize_t)sizeof out)
        fail_msg("%s: the process ended with status %d", p->name, status);
    return out;
}

/* ---- cases ---- */

static void tell_peaks(const peak_case *p, const peaks *got)
{
    printf("%s: planned %.1f MiB, measured %.1f MiB (%.1f of them before a model was open), ratio %.3f\n", p->name,
           (double)got->planned / MIB, (double)got->measured / MIB, (double)got->before / MIB,
           (double)got->measured / (double)got->planned);
}

static void check_peaks(const peak_case *p, const peaks *got)
{
    const double ratio = (double)got->measured / (double)got->planned;
    tell_peaks(p, got);
    if (ratio < 0.9 || ratio > 1.1)
        fail_msg("%s: measured is %.3f times what was planned", p->name, ratio);
    if (p->limit && got->measured > p->limit)
        fail_msg("%s: %llu bytes, the limit is %llu", p->name, (unsigned long long)got->measured,
                 (unsigned long long)p->limit);
}

static void check(const peak_case *p)
{
    const flux1_model_parts parts = {
        .size = sizeof parts, .transformer = transformer_path, .t5 = t5_path, .clip = clip_path, .vae = vae_path};
    true_layout_write(transformer_path, &p->transformer);
    true_layout_write(t5_path, &p->t5);
    for (int i = 0; i < (p->cache ? 2 : 1); i++) {
        const peaks got = run_apart(p, &parts, run);
        check_peaks(p, &got);
    }
}

#define PARTS(bits, joint, single, text)                                                                 \
    .transformer = {.transformer = true, .packed_bits = bits, .layers = joint, .single_layers = single}, \
    .t5 = {.t5 = true, .packed_bits = bits, .t5_layers = text}

#define NF4(joint, single)                                                                       \
    .transformer = {.transformer = true, .nf4 = true, .layers = joint, .single_layers = single}, \
    .t5 = {.t5 = true, .packed_bits = 4, .t5_layers = 1}

static void a_few_blocks_in_the_memory_that_the_plan_says(void **state)
{
    (void)state;
    static const peak_case cases[] = {
        {"Q8_0", PARTS(8, 1, 1, 3), .size = 32, .steps = 1},
        {"Q4_0, limited", PARTS(4, 2, 3, 2), .limit = 550 * MIB, .size = 32, .steps = 2},
        /* T5's own form, 207 MiB, is there while T5 computes and not while the transformer does */
        {"Q8_0 and T5 in bf16, in int8, limited",
         .transformer = {.transformer = true, .packed_bits = 8, .layers = 1, .single_layers = 1},
         .t5 = {.t5 = true, .bf16 = true, .t5_layers = 1}, .limit = 500 * MIB, .size = 32, .steps = 1,
         FLUX1_DTYPE_INT8},
        /* from then on it stays beside the transformer, and so does what decoding has touched of the arena */
        {"Q8_0 and T5 in bf16, in int8, two pictures",
         .transformer = {.transformer = true, .packed_bits = 8, .layers = 1, .single_layers = 1},
         .t5 = {.t5 = true, .bf16 = true, .t5_layers = 1}, .size = 64, .steps = 1, FLUX1_DTYPE_INT8, .again = 1},
        /* all of the transformer's forms together would not fit */
        {"Q8_0 in int8-fast, in files of the cache, limited", PARTS(8, 1, 2, 1), .limit = 480 * MIB, .size = 32,
         .steps = 2, FLUX1_DTYPE_INT8_FAST, .cache = true},
        /* of each 4-bit matrix an eighth more are scales, which lie elsewhere in the file */
        {"NF4", NF4(1, 1), .size = 32, .steps = 1},
        {"NF4, limited", NF4(2, 4), .limit = 400 * MIB, .size = 32, .steps = 2},
        {"Q4_0, two ranks of sp", PARTS(4, 3, 4, 1), .size = 32, .steps = 1, .mesh = "2x1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(&cases[i]);
}

/* planned: what the process had before it opened the model; before: how much of the opened model is there behind it. */
static peaks run_opening(const peak_case *p, const flux1_model_parts *parts)
{
    flux1_model *m;
    flux1_context *c = context_for(p, p->limit);
    const uint64_t resident = limits_resident(), most = most_resident();
    if (flux1_model_open_parts(c, parts, &m) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    const peaks out = {
        .planned = most, .measured = most_resident(), .before = limits_resident() - resident, .limit = p->limit};
    flux1_model_close(m);
    flux1_context_destroy(c);
    return out;
}

/* A marker of scales makes the opening look for some in every matrix of 8 bits, tensor by tensor: 482 MiB, of which the
 * largest has 63. */
static void what_is_read_while_a_model_is_opened_does_not_stay(void **state)
{
    (void)state;
    const peak_case p = {.name = "opening",
                         .transformer = {.transformer = true, .layers = 1, .single_layers = 1, .extra = "scaled_fp8"},
                         .t5 = {.t5 = true, .packed_bits = 4, .t5_layers = 1}};
    const flux1_model_parts parts = {
        .size = sizeof parts, .transformer = transformer_path, .t5 = t5_path, .clip = clip_path, .vae = vae_path};
    true_layout_write(transformer_path, &p.transformer);
    true_layout_write(t5_path, &p.t5);
    const peaks got = run_apart(&p, &parts, run_opening);
    printf("opening: %.1f MiB more at most, %.1f MiB stay\n", (double)(got.measured - got.planned) / MIB,
           (double)got.before / MIB);
    assert_true(got.measured - got.planned < 100 * MIB);
    assert_true(got.before < 30 * MIB);
}

#if !defined(__SANITIZE_ADDRESS__)
static peaks peaks_of_mini(const peak_case *p, peaks (*run_case)(const peak_case *, const flux1_model_parts *))
{
    char model[256];
    snprintf(model, sizeof model, "%s/mini-schnell", test_models());
    const flux1_model_parts parts = {.size = sizeof parts, .model = model};
    const peaks got = run_apart(p, &parts, run_case);
    printf("%s: measured %.1f MiB, the limit is %.1f MiB\n", p->name, (double)got.measured / MIB,
           (double)got.limit / MIB);
    return got;
}
#endif

/* The application's own memory is in the limit, so the decoder gets bands where it would otherwise decode as a whole,
 * and pass the limit by 4 MiB. What decoding took is not there any more when the next picture is denoised. Sanitizers
 * take memory that no plan knows of. */
static void a_limit_of_the_process_holds_beside_its_own_data(void **state)
{
    (void)state;
#if !defined(__SANITIZE_ADDRESS__)
    const peak_case p = {.name = "mini-schnell",
                         .limit = 21 * MIB,
                         .size = 128,
                         .steps = 2,
                         .dtype = FLUX1_DTYPE_F32,
                         .again = 2,
                         .own = 24 * MIB};
    const peaks got = peaks_of_mini(&p, run);
    assert_true(got.measured <= got.limit && got.planned <= got.limit && got.planned > p.own);
#endif
}

/* Weights are streamed, and what is kept of earlier prompts, 256 KiB each, would fill what is left for them. */
static void encoded_prompts_are_in_the_limit(void **state)
{
    (void)state;
#if !defined(__SANITIZE_ADDRESS__)
    const peak_case p = {.name = "prompts",
                         .limit = 29 * MIB,
                         .size = 64,
                         .steps = 1,
                         .dtype = FLUX1_DTYPE_F32,
                         .again = 40,
                         .tokens = 512,
                         .threads = 1,
                         .own = 1};
    const peaks got = peaks_of_mini(&p, run);
    assert_true(got.measured <= got.limit && got.planned <= got.limit);
#endif
}

/* ---- requests that change ---- */

/* Two pictures of which each is decoded before the next is denoised, and so on another session; then larger ones, in a
 * process of its own. */
static peaks run_changing(const peak_case *p, const flux1_model_parts *parts)
{
    peaks out = {.limit = limits_resident() + p->limit};
    flux1_model *m;
    flux1_image *images;
    flux1_generate_params params;
    flux1_context *c = context_for(p, out.limit);
    assert_int_equal(flux1_model_open_parts(c, parts, &m), FLUX1_OK);
    flux1_generate_params_defaults(&params);
    params.prompt = "a red fox";
    params.steps = p->steps;
    params.max_sequence_length = 16;
    params.batch = 1;
    for (int i = 0; i < 3; i++) {
        params.count = i == 0 ? 2 : 1;
        params.width = params.height = i == 0 ? p->size : p->size * 3 / 2;
        if (flux1_generate(c, m, &params, &images) != FLUX1_OK)
            fail_msg("%s", flux1_context_message(c));
        flux1_images_free(images, params.count);
    }
    out.measured = most_resident();
    flux1_model_close(m);
    flux1_context_destroy(c);
    return out;
}

/* What the second session has left of its decoding, 17 MiB, gives way to the larger picture's. */
static void what_an_unused_session_has_leaves_for_others(void **state)
{
    (void)state;
#if !defined(__SANITIZE_ADDRESS__)
    const peak_case p = {
        .name = "changing", .limit = 50 * MIB, .size = 128, .steps = 1, .dtype = FLUX1_DTYPE_F32, .own = 1};
    const peaks got = peaks_of_mini(&p, run_changing);
    assert_true(got.measured <= got.limit);
#endif
}

/* ---- samplers ---- */

enum { SAMPLERS = 6 };

/* As many as are not refused, each with a step and a decode by turns, in a process of its own. */
static peaks run_samplers(const peak_case *p, const flux1_model_parts *parts)
{
    peaks out = {.limit = p->limit};
    flux1_model *m;
    flux1_text *text;
    flux1_image *image;
    flux1_sampler *sampler[SAMPLERS];
    int count = 0;
    flux1_generate_params params;
    flux1_context *c = context_for(p, p->limit);
    assert_int_equal(flux1_model_open_parts(c, parts, &m), FLUX1_OK);
    flux1_generate_params_defaults(&params);
    params.prompt = "a red fox";
    params.width = params.height = p->size;
    params.steps = p->steps;
    params.max_sequence_length = 16;
    assert_int_equal(flux1_encode_text(c, m, &params, &text), FLUX1_OK);
    while (count < SAMPLERS && flux1_sampler_create(c, m, text, &params, &sampler[count]) == FLUX1_OK)
        count++;
    assert_true(count > 1 && count < SAMPLERS);
    assert_non_null(strstr(flux1_context_message(c), "open samplers"));
    for (int i = 0; i < p->steps * count; i++) {
        assert_int_equal(flux1_sampler_step(sampler[i % count], NULL), FLUX1_OK);
        assert_int_equal(flux1_sampler_decode(sampler[i % count], &image), FLUX1_OK);
        flux1_images_free(image, 1);
    }
    for (int i = 0; i < count; i++)
        flux1_sampler_free(sampler[i]);
    assert_int_equal(flux1_sampler_create(c, m, text, &params, &sampler[0]), FLUX1_OK); /* there is room again */
    flux1_sampler_free(sampler[0]);
    out.measured = most_resident();
    flux1_text_free(text);
    flux1_model_close(m);
    flux1_context_destroy(c);
    return out;
}

/* mini-schnell: the model is small beside what a sampler has. */
static void open_samplers_are_in_the_limit(void **state)
{
    (void)state;
#if !defined(__SANITIZE_ADDRESS__)
    const peak_case p = {
        .name = "samplers", .limit = 70 * MIB, .size = 128, .steps = 1, .dtype = FLUX1_DTYPE_F32, .own = 1};
    const peaks got = peaks_of_mini(&p, run_samplers);
    assert_true(got.measured <= got.limit);
#endif
}

/* A picture of mini-schnell under this limit: how it went, and what was said. */
static flux1_status draw(const peak_case *p, uint64_t limit, char *said, size_t room)
{
    char model[256];
    flux1_model *m;
    flux1_image *image = NULL;
    flux1_generate_params params;
    flux1_context *c = context_for(p, limit);
    snprintf(model, sizeof model, "%s/mini-schnell", test_models());
    flux1_generate_params_defaults(&params);
    params.prompt = "a red fox";
    params.width = params.height = p->size;
    params.steps = p->steps;
    flux1_status st = flux1_model_open(c, model, &m);
    if (st == FLUX1_OK)
        st = flux1_generate(c, m, &params, &image);
    snprintf(said, room, "%s", flux1_context_message(c));
    flux1_images_free(image, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
    return st;
}

static void follow(const char *advice, peak_case *p)
{
    static const struct {
        const char *words;
        flux1_dtype dtype;
    } names[] = {{"dtype int8-fast", FLUX1_DTYPE_INT8_FAST},
                 {"dtype int8", FLUX1_DTYPE_INT8},
                 {"dtype bf16", FLUX1_DTYPE_BF16},
                 {"a cache folder", FLUX1_DTYPE_F32}};
    size_t i = 0;
    while (i < sizeof names / sizeof *names && strncmp(advice, names[i].words, strlen(names[i].words)) != 0)
        i++;
    assert_true(i < sizeof names / sizeof *names);
    p->dtype = names[i].dtype;
    p->cache = strncmp(advice, "a cache", 7) == 0 || strstr(advice, " and a cache folder");
}

/* From little memory upwards: by the first advice there is, and by one that is another, the picture is made. */
static void what_a_refusal_says_would_fit_fits(void **state)
{
    (void)state;
    char said[2048], again[2048], followed[2048] = "";
    const peak_case asked = {.name = "mini-schnell", .size = 128, .steps = 1, .dtype = FLUX1_DTYPE_F32};
    int advices = 0;
    for (uint64_t limit = 4 * MIB; draw(&asked, limit, said, sizeof said) == FLUX1_ERR_LIMIT; limit += MIB / 8) {
        const char *with = strstr(said, "would fit with ");
        with = with ? with + strlen("would fit with ") : strstr(said, "128x128 with ");
        if (with && strncmp(with, "128x128", 7) == 0)
            with += strlen("128x128 with ");
        if (!with || strcmp(with, followed) == 0)
            continue;
        peak_case p = asked;
        snprintf(followed, sizeof followed, "%s", with);
        follow(with, &p);
        if (draw(&p, limit, again, sizeof again) != FLUX1_OK)
            fail_msg("%s; but then: %s", said, again);
        advices++;
    }
    assert_true(advices >= 2);
}

static void all_of_it_in_the_memory_that_the_plan_says(void **state)
{
    (void)state;
    static const peak_case cases[] = {
        {"schnell, Q8_0", PARTS(8, 0, 0, 0), .limit = 13824 * MIB, .size = 128, .steps = 1},
        {"schnell, Q8_0, streamed", PARTS(8, 0, 0, 0), .limit = 4096 * MIB, .size = 128, .steps = 2},
        {"schnell, Q4_0", PARTS(4, 0, 0, 0), .limit = 7680 * MIB, .size = 128, .steps = 1},
        {"schnell, Q8_0 in int8", PARTS(8, 0, 0, 0), .limit = 13824 * MIB, .size = 128, .steps = 1, FLUX1_DTYPE_INT8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(&cases[i]);
}

static int begin(void **state)
{
    (void)state;
    if (!mkdtemp(folder) || setenv("XDG_CACHE_HOME", folder, 1) != 0)
        return -1;
    snprintf(cache_path, sizeof cache_path, "%s/prepared", folder);
    snprintf(transformer_path, sizeof transformer_path, "%s/transformer.gguf", folder);
    snprintf(t5_path, sizeof t5_path, "%s/t5.gguf", folder);
    snprintf(clip_path, sizeof clip_path, "%s/clip.safetensors", folder);
    snprintf(vae_path, sizeof vae_path, "%s/vae.safetensors", folder);
    true_layout_write(clip_path, &(true_layout){.clip = true, .bf16 = true});
    true_layout_write(vae_path, &(true_layout){.vae = true, .bf16 = true});
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest few[] = {cmocka_unit_test(a_few_blocks_in_the_memory_that_the_plan_says),
                                     cmocka_unit_test(what_is_read_while_a_model_is_opened_does_not_stay),
                                     cmocka_unit_test(a_limit_of_the_process_holds_beside_its_own_data),
                                     cmocka_unit_test(encoded_prompts_are_in_the_limit),
                                     cmocka_unit_test(what_a_refusal_says_would_fit_fits),
                                     cmocka_unit_test(what_an_unused_session_has_leaves_for_others),
                                     cmocka_unit_test(open_samplers_are_in_the_limit)},
                            all[] = {cmocka_unit_test(all_of_it_in_the_memory_that_the_plan_says)};
    if (argc > 1 && strcmp(argv[1], "--true-size") == 0)
        return cmocka_run_group_tests(all, begin, end);
    return cmocka_run_group_tests(few, begin, end);
}
