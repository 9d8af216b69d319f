/* A recording is complete: made of a request, written, read and played on ops/ref it gives what the request itself
 * gives there, bit by bit, at every stage: for the committed pipelines, on meshes that divide and others. */
#include "support/golden.h"

#include "base/file.h"
#include "pipeline/recording_play.h"

typedef struct trial {
    golden g;
    flux1_context *c;
    flux1_model *m;
    mesh_config mesh;
} trial;

static void trial_open(trial *t, const char *pipeline, const char *name, const char *shape)
{
    golden_open(pipeline, name, &t->g);
    t->c = context_on("ref", shape, 1, FLUX1_DTYPE_F32);
    t->m = model_of(t->c, t->g.folder);
    t->mesh = t->c->mesh;
}

static void trial_close(trial *t)
{
    flux1_model_close(t->m);
    flux1_context_destroy(t->c);
    golden_close(&t->g);
}

static void record(trial *t, recording *out)
{
    request r;
    assert_int_equal(request_make(t->c, t->m, &t->g.params, &r), FLUX1_OK);
    if (recording_make(t->c, t->m, &r, &t->mesh, t->g.folder, out) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(t->c));
}

/* Written to a file and read again. */
static void through_file(trial *t, recording *r)
{
    const char *path = scratch_path("recording");
    recording again;
    if (recording_write(r, path, &t->c->error) != FLUX1_OK || recording_read(path, &again, &t->c->error) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(t->c));
    unlink(path);
    recording_free(r);
    *r = again;
}

static void same_bits(const store *dumped, const char *name, const tensor *got, const char *where)
{
    const store_tensor *want = store_find(dumped, name);
    assert_non_null(want);
    assert_int_equal(tensor_elements(&want->view), tensor_elements(got));
    if (memcmp(want->view.data, got->data, tensor_bytes(got)) != 0)
        fail_msg("%s: %s differs by %.2e", where, name, relative_l2(got->data, want->view.data, tensor_elements(got)));
}

/* pixels [height·width, 3] as the dump's [3, height, width]. */
static void same_picture(const store *dumped, const tensor *pixels, const char *where)
{
    const store_tensor *want = store_find(dumped, "decoded");
    assert_non_null(want);
    const int64_t n = pixels->shape[0];
    const float *a = want->view.data, *b = pixels->data;
    for (int64_t i = 0; i < 3 * n; i++)
        if (a[(i % 3) * n + i / 3] != b[i])
            fail_msg("%s: pixel %lld differs", where, (long long)(i / 3));
}

static void equals_the_request(trial *t, const recording *r, const char *where)
{
    const recording_request q = {t->g.params.prompt, t->g.params.seed, r->guidance_scale};
    recording_results got;
    flux1_image played = {0}, *direct;
    store *dumped;
    char latents[32];
    const char *path = scratch_path("recording.safetensors");
    if (recording_play(t->c, t->m, r, &q, &got, &played) != FLUX1_OK)
        fail_msg("%s: %s", where, flux1_context_message(t->c));
    t->g.params.dump = path;
    if (flux1_generate(t->c, t->m, &t->g.params, &direct) != FLUX1_OK)
        fail_msg("%s: %s", where, flux1_context_message(t->c));
    assert_int_equal(store_open_file(path, &dumped, &t->c->error), FLUX1_OK);
    snprintf(latents, sizeof latents, "latents.%lld", (long long)r->steps);
    same_bits(dumped, "pooled_prompt_embeds", &got.pooled, where);
    same_bits(dumped, "prompt_embeds", &got.embeds, where);
    same_bits(dumped, latents, &got.latent, where);
    same_picture(dumped, &got.pixels, where);
    assert_int_equal(direct->width, played.width);
    assert_int_equal(direct->height, played.height);
    assert_memory_equal(direct->pixels, played.pixels, 3 * (size_t)(direct->width * direct->height));
    store_close(dumped);
    unlink(path);
    free(played.pixels);
    flux1_images_free(direct, 1);
    recording_results_free(&got);
}

static void play(const char *pipeline, const char *name, const char *shape)
{
    trial t;
    recording r;
    char where[128];
    snprintf(where, sizeof where, "%s/%s on %s", pipeline, name, shape);
    trial_open(&t, pipeline, name, shape);
    record(&t, &r);
    through_file(&t, &r);
    equals_the_request(&t, &r, where);
    recording_free(&r);
    trial_close(&t);
}

static void every_pipeline_on_one_device(void **state)
{
    static const char *const cases[][2] = {{"schnell", "car"}, {"double", "night"},   {"single", "fox"},
                                           {"mixed", "car"},   {"patchwork", "owls"}, {"wide", "tall"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        play(cases[i][0], cases[i][1], "1x1");
}

/* mixed has odd heads, the sizes leave ragged rows; 3x1 and 1x3 divide nothing. */
static void meshes(void **state)
{
    static const char *const shapes[] = {"2x1", "1x2", "2x2", "3x1", "1x3", "2x3"};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        play("mixed", "car", shapes[i]);
        play(i % 2 ? "wide" : "schnell", i % 2 ? "tall" : "car", shapes[i]);
    }
    play("dev", "long", "2x2");
}

/* The calls are any backend's. */
static void on_the_cpu_it_is_the_same_up_to_rounding(void **state)
{
    trial t;
    recording r;
    recording_results ref, cpu;
    (void)state;
    trial_open(&t, "mixed", "car", "1x2");
    record(&t, &r);
    const recording_request q = {t.g.params.prompt, t.g.params.seed, r.guidance_scale};
    assert_int_equal(recording_play(t.c, t.m, &r, &q, &ref, NULL), FLUX1_OK);
    flux1_context *c = context_on("cpu", "1x2", 2, FLUX1_DTYPE_F32);
    if (recording_play(c, t.m, &r, &q, &cpu, NULL) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    assert_true(relative_l2(cpu.latent.data, ref.latent.data, tensor_elements(&ref.latent)) < 1e-5);
    assert_true(relative_l2(cpu.pixels.data, ref.pixels.data, tensor_elements(&ref.pixels)) < 1e-5);
    recording_results_free(&ref);
    recording_results_free(&cpu);
    recording_free(&r);
    flux1_context_destroy(c);
    trial_close(&t);
}

/* ---- whose files the weights come from ---- */

#define FILES TEST_DATA "/files/"
#define PACKED TEST_DATA "/pipelines/packed"

static const model_paths FORMS[] = {{.model = PACKED},
                                    {.model = PACKED,
                                     .part = {[COMPONENT_CLIP] = FILES "bfl/clip_l.safetensors",
                                              [COMPONENT_T5] = FILES "bfl/t5xxl.safetensors",
                                              [COMPONENT_DIT] = FILES "bfl/flux1.safetensors",
                                              [COMPONENT_VAE] = FILES "bfl/ae.safetensors"}},
                                    {.model = PACKED,
                                     .part = {[COMPONENT_CLIP] = FILES "gguf/clip.gguf",
                                              [COMPONENT_T5] = FILES "gguf/t5.gguf",
                                              [COMPONENT_DIT] = FILES "gguf/flux1.gguf"}}};

/* As trial_open, of a model of several files. */
static void trial_open_form(trial *t, const model_paths *paths)
{
    golden_open("files", "bfl", &t->g);
    t->c = context_on("ref", "2x2", 1, FLUX1_DTYPE_F32);
    if (folder_open_parts(paths, &t->m, &t->c->error) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(t->c));
    t->mesh = t->c->mesh;
}

/* The recording's text, malloc'd. */
static char *text_of(trial *t, const recording *r)
{
    const char *path = scratch_path("recording");
    char *text;
    size_t size;
    assert_int_equal(recording_write(r, path, &t->c->error), FLUX1_OK);
    assert_int_equal(file_read(path, SIZE_MAX, &text, &size, &t->c->error), FLUX1_OK);
    unlink(path);
    return text;
}

/* Fused layers, halves in another order, packed types: the recording knows the model's own names only. */
static void every_form_of_files_has_one_recording_and_runs_it(void **state)
{
    char *first = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++) {
        trial t;
        recording r;
        trial_open_form(&t, &FORMS[i]);
        record(&t, &r);
        char *text = text_of(&t, &r);
        if (first)
            assert_string_equal(text, first);
        equals_the_request(&t, &r, t.m->path);
        if (first)
            free(text);
        else
            first = text;
        recording_free(&r);
        trial_close(&t);
    }
    free(first);
}

/* ---- what is refused ---- */

static void what_a_recording_cannot_have_is_refused_by_name(void **state)
{
    const request refused[] = {{.passes = 1, .step_cache = 0.1f},
                               {.passes = 2},
                               {.passes = 1, .preview_every = 1},
                               {.passes = 1, .adapters = {.count = 1}}};
    const char *const names[] = {"a step cache", "true CFG", "previews", "adapters (LoRA)"};
    flux1_error err;
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(recording_takes(&refused[i], &err), FLUX1_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, names[i]));
    }
    assert_int_equal(recording_takes(&(request){.passes = 1}, &err), FLUX1_OK);
}

/* A copy of text with the first `from` replaced by `to`. */
static char *changed(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    char *out = malloc(strlen(text) + strlen(to) + 1);
    assert_non_null(out);
    if (!at)
        fail_msg("the recording has no \"%s\"", from);
    sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

typedef struct broken {
    const char *from, *to, *told;
} broken;

/* Of schnell/car on 2x2. */
static const broken BROKEN[] = {
    /* the form */
    {"flux1-recording 1", "flux1-recording 2", "r: it is a recording of version 2"},
    {"flux1-recording 1", "{", "r: it is not a recording"},
    {"variant=schnell", "variant=pro", "r: line 2 should be \"model variant=schnell or dev\""},
    {"steps=4", "steps=0", "should be \"picture width"},
    {"width=", "width=99999", "should be \"picture width"},
    {"sp=2@0", "sp=3@0", "r: line 4: "},
    {"guidance 0", "guidance inf", "should be \"guidance G\""},
    {"sigmas 1 ", "sigmas ", "should have 5 numbers"},
    {"stage t5", "stage t6", "should be \"stage t5\""},
    {"\nend\n", "\n", "without \"end\": it was cut off"},
    {"\nend\n", "\nend\nstage vae\n", "behind the last stage"},
    {"linear in=", "lineer in=", "unknown call \"lineer\""},
    {"linear in=a", "linear in=b", "linear: in=b"},
    {"linear in=", "linear of=a1 in=", "linear: unknown key of="},
    {"linear in=", "linear in=a1 in=", "linear: in= is given twice"},
    {"linear in=", "linear  in=", "with one space in front"},
    {"finite in=", "finite on=", "finite: in= is missing"},
    {"axis=tp", "axis=dp", "should be sp, tp or all"},
    {"role=residual", "role=residue", "should be residual, linear"},
    {"eps=1e-05", "eps=1e", "should be a number"},
    {"eps=1e-05", "eps=1e99", "should be a number"},
    {"slot=0", "slot=99999999999", "slot=99999999999 should be a whole number"},
    {"=sp(", "=sp(7,", "should be a whole number"},
    {"\n@0", "\n@4", "should begin with ranks of the mesh"},
    {"\ngather_rows ", "\n@0 gather_rows ", "all ranks make it together"},
    /* what the numbers stand for */
    {"finite in=a", "finite in=a7", "finite: a7"},
    {"slot=0", "slot=4096", "finite: slot 4096"},
    {"linear in=a", "linear in=a99", "is not there"},
    {"create act=a1 ", "create act=a0 ", "create: a0 is there already"},
    {"batch=1", "batch=2147483647", "line "},
    {"cols=", "cols=-", "a shape out of range"},
    {"\nbegin block=b0\n", "\nbegin block=b99\n", "begin: b99 is not there"},
    {"\nbegin block=b0\n", "\n", "outside its bracket"},
    {"\nprepare w=w3\n", "\n", "w3 is not prepared"},
    {"\npiece w=w1 ", "\npiece w=w0 ", "not begun, or prepared already"},
    {"tensor=text_model", "tensor=text_modem", "has no tensor \"text_modem"},
    {"tensor_rows=500", "tensor_rows=501", "the recording is of a model where it is [501, "},
    {"from_row=all(0,", "from_row=all(99,", "not inside of it"},
    {"\nrelease mark=m0", "\nrelease mark=m9999", "m9999 is not set"},
    {"name=noise", "name=noises", "unknown input \"noises\""},
    {"name=clip.ids", "name=noise", "input noise has"},
    {"given=clip.pooled_row", "given=row", "unknown row \"row\""},
    {"\n@0 output in=a", "\n@1 output in=a0\n@0 output in=a", "an output of another rank than 0"},
    {"\n@0 output in=a", "\n#", "stage clip gives no output"},
    {"\n@0 output in=a", "\n@0 output in=a0\n@0 output in=a", "output: the output has "},
    {"unit=1", "unit=0", "share of the other's"},
    {"\nring_receive ", "\n#", "whose keys are still on their way"},
    {"\nring_receive ", "\nring_begin axis=sp unit=1 k=a0 v=a0\nring_receive ",
     "ring_begin: an exchange before the ring has come round"},
    {"\nring_receive ", "\ncheck\nring_receive ", "check: an exchange before the ring has come round"},
    {"\nring_receive ", "\nrelease mark=m0\nring_receive ", "release: m0 was set before the ring"},
    {"k=a26:16+16 v=a26:32+16\n", "k=a26:16+0 v=a26:32+0\n", "ring_receive: k and v are wider than what comes"},
    {" distance=1 ", " distance=sp(1,-1) ", "halo_row: distance is one number for all ranks"},
    {"act=a1 ", "act=a32768 ", "act=a32768 should be an activation"},
    {"\nmark mark=m0\n", "\nmark mark=m32768\n", "mark=m32768 should be a mark"},
    {"stage dit.step\n", "stage dit.step\ncreate act=a999 role=linear batch=1 image=1 cols=1\n",
     "stage dit.step: it should release what it makes"},
    {"wanted=", "wanted=1 distance=3 x=", "halo_row: "},
    {"stride=1", "stride=3", "conv: stride 3"},
    {"heads=", "heads=7 x=", "line "},
    {"\ncheck\n", "\n@0 check\n", "check: all ranks make it together"},
};

/* On 1x1, which fuses more. */
static const broken BROKEN_ALONE[] = {
    {" slot=-1 ", " slot=-9 ", "linear_norm: slot -9 of 4096"},
    {"\nend\n",
     "\ncreate act=a9000 role=heads batch=1 image=1 cols=8\nring_begin axis=sp image=1 unit=1 k=a9000 v=a9000\nend\n",
     "a ring of no rows, or of one rank"},
};

/* On 3x1, where the two neighbours are two ranks. */
static const broken BROKEN_AMONG_THREE[] = {
    {" distance=1 ", " distance=sp(1,-1,1) ", "halo_row: distance is one number for all ranks"},
    {"\nring_receive ", "\n#", "k and v have not the rows of the rank that they come from"}, /* the first of two */
};

/* Lines behind all others, on 2x2: the noise is 16 rows of 64, decoder.conv_in.bias has 8 values. */
#define ROWS(id, role, n, cols) "create act=a" #id " role=" #role " batch=1 image=" #n " cols=" #cols "\n"
#define PLANE(id, n, h, w, cols) \
    "create act=a" #id " role=plane batch=1 image=" #n " cols=" #cols " height=" #h " width=" #w "\n"
#define WEIGHT(rows) "block block=b900 name=x\nweight w=w900 block=b900 role=vector rows=" #rows " cols=1\n"
#define PIECE(from_row, from_col, rows, row)                                                                          \
    "piece w=w900 tensor=decoder.conv_in.bias tensor_rows=8 tensor_cols=1 from_row=" #from_row " from_col=" #from_col \
    " rows=" #rows " cols=1 row=" #row "\n"
#define NOT_A_SHARE "the rows of one operand are not this rank's share"
#define NOT_ALIKE "operands of an exchange differ in role, batch or columns"
#define NOT_COLUMNS "the columns of one operand are not this rank's share"
static const struct {
    const char *lines, *told;
} AT_THE_END[] = {
    {ROWS(9000, linear, 4, 64) "input name=noise first=13 out=a9000",
     "input: input noise has 16 rows of 64, not rows 13+4 of 64"},
    {ROWS(9000, linear, 17, 64) "input name=noise out=a9000", "not rows 0+17 of 64"},
    {ROWS(9000, linear, 4, 63) "input name=noise out=a9000", "not rows 0+4 of 63"},
    {"create act=a9000 role=linear batch=2 image=4 cols=64\ninput name=noise out=a9000", "input: input noise has"},
    {ROWS(9000, linear, 4, 1) "input name=clip.ids out=a9000", "input: input clip.ids has"},
    {ROWS(9000, ids, 4, 1) "input name=dsigma out=a9000", "input: input dsigma has"},
    {ROWS(9000, linear, 4, 64) "input out=a9000", "input: an input without a name"},
    {"create act=a9000 role=linear batch=-1 image=1 cols=1", "a9000: a shape out of range"},
    {"create act=a9000 role=linear batch=1 text=-1 image=2 cols=1", "a9000: a shape out of range"},
    {"create act=a9000 role=linear batch=1 text=2 image=-1 cols=1", "a9000: a shape out of range"},
    {"create act=a9000 role=linear batch=1 image=1 cols=-1", "a9000: a shape out of range"},
    {"create act=a9000 role=linear batch=2147483647 image=2147483647 cols=1", "a9000: a shape out of range"},
    {"create act=a9000 role=linear batch=2147483647 image=2147483647 cols=2147483647", "a9000: a shape out of range"},
    {ROWS(9000, linear, 2147483647, 16384), "a9000: a shape out of range"},
    {ROWS(9000, linear, 4, 8) "cast in=a9000[1+4] out=a9000", "a9000 of 4 rows, 8 columns has no window [1+4]:0+8"},
    {ROWS(9000, linear, 4, 8) "cast in=a9000[5+0] out=a9000", "has no window [5+0]:0+8"},
    {ROWS(9000, linear, 4, 8) "cast in=a9000:1+8 out=a9000", "has no window [0+4]:1+8"},
    {ROWS(9000, linear, 4, 8) "cast in=a9000.text[0+1] out=a9000", "of 0 rows, 8 columns has no window [0+1]"},
    /* marks that went with an older one, though other things lie there by now, or nothing did */
    {"mark mark=m900\n" ROWS(9000, linear, 4, 8) "mark mark=m901\nrelease mark=m900\n" ROWS(9001, linear, 4, 8)
         ROWS(9002, linear, 4, 8) "release mark=m901",
     "release: m901 is not set"},
    {"mark mark=m900\n" ROWS(9000, linear, 0, 8) "mark mark=m901\nrelease mark=m900\nrelease mark=m901",
     "release: m901 is not set"},
    {"mark mark=m900\n" ROWS(9000, linear, 4, 8) "release mark=m900\ncast in=a9000 out=a9000", "a9000 is not there"},
    /* weights */
    {"block block=b0 name=x", "block: b0 is there already"},
    {"weight w=w0 block=b0 role=vector rows=8 cols=1", "weight: w0 is there already"},
    {"weight w=w900 block=b901 role=vector rows=0 cols=1\nprepare w=w900", "prepare: b901 is not there"},
    {WEIGHT(8) PIECE(0, 0, 8, 0) "bias w=w900 rows=8\nbias w=w900 rows=8", "bias: a second bias"},
    {WEIGHT(8) PIECE(0, 0, 5, 0) PIECE(0, 0, 4, 4), "piece: pieces that overlap"},
    {WEIGHT(8) PIECE(0, 0, 5, 0) PIECE(0, 0, 2, 5) "prepare w=w900", "prepare: the pieces do not make up the weight"},
    {WEIGHT(8) PIECE(0, 0, 8, 0) "bias w=w900 rows=8\nprepare w=w900", "the pieces do not make up the weight"},
    {WEIGHT(8) PIECE(0, 0, 8, 1), "is not inside of it, or of the weight"},
    {WEIGHT(7) PIECE(0, 0, 8, 0), "is not inside of it, or of the weight"},
    {WEIGHT(8) PIECE(1, 0, 8, 0), "is not inside of it, or of the weight"},
    {WEIGHT(8) PIECE(0, 1, 8, 0), "is not inside of it, or of the weight"},
    {WEIGHT(8) PIECE(-1, 0, 8, 0), "is not inside of it, or of the weight"},
    {WEIGHT(8) PIECE(0, -1, 8, 0), "is not inside of it, or of the weight"},
    {WEIGHT(8) PIECE(0, 0, -1, 0), "is not inside of it, or of the weight"},
    {WEIGHT(8) PIECE(0, 0, 8, -1), "is not inside of it, or of the weight"},
    {WEIGHT(8) "piece w=w900 tensor=decoder.conv_in.bias tensor_rows=8 tensor_cols=1 rows=8 cols=-1",
     "is not inside of it, or of the weight"},
    {WEIGHT(8) "piece w=w900 tensor=decoder.conv_in.bias tensor_rows=8 tensor_cols=1 rows=8 cols=1 col=-1",
     "is not inside of it, or of the weight"},
    {WEIGHT(8) "piece w=w900 tensor=decoder.conv_in.bias tensor_rows=8 tensor_cols=1 rows=8 cols=1 col=1",
     "is not inside of it, or of the weight"},
    {WEIGHT(-1), "weight: w900: a shape out of range"},
    {"weight w=w900 block=b0 role=linear rows=1 cols=-1", "weight: w900: a shape out of range"},
    {WEIGHT(8) "bias w=w900 rows=-1", "bias: a shape out of range"},
    {WEIGHT(8) "piece w=w900 tensor_rows=8 tensor_cols=1 rows=8 cols=1", "piece: a piece of no tensor"},
    {WEIGHT(9) PIECE(0, 0, 1, 0) PIECE(0, 0, 1, 1) PIECE(0, 0, 1, 2) PIECE(0, 0, 1, 3) PIECE(0, 0, 1, 4)
         PIECE(0, 0, 1, 5) PIECE(0, 0, 1, 6) PIECE(0, 0, 1, 7) PIECE(0, 0, 1, 8),
     "piece: a weight of more than 8 pieces"},
    /* exchanges */
    {ROWS(9000, linear, 1, 8) ROWS(9001, linear, 5, 8) "gather_rows axis=all in=a9000 unit=1 out=a9001", NOT_A_SHARE},
    {ROWS(9000, linear, 1, 8) ROWS(9001, linear, 4, 8) "gather_rows axis=tp in=a9000 unit=1 out=a9001", NOT_A_SHARE},
    {ROWS(9000, linear, 2, 8) ROWS(9001, linear, 5, 8) "gather_rows axis=all in=a9000 unit=2 out=a9001", NOT_A_SHARE},
    {ROWS(9000, linear, 1, 8) ROWS(9001, linear, 4, 9) "gather_rows axis=all in=a9000 unit=1 out=a9001", NOT_ALIKE},
    {ROWS(9000, linear, 1, 8) ROWS(9001, heads, 4, 8) "gather_rows axis=all in=a9000 unit=1 out=a9001", NOT_ALIKE},
    {ROWS(9000, linear, 1, 8) "create act=a9001 role=linear batch=2 image=4 cols=8\n"
                              "gather_rows axis=all in=a9000 unit=1 out=a9001",
     NOT_ALIKE},
    {ROWS(9000, table, 1, 3) ROWS(9001, table, 1, 8) "gather_columns axis=all in=a9000 out=a9001", NOT_COLUMNS},
    {ROWS(9000, table, 2, 2) ROWS(9001, table, 1, 8) "gather_columns axis=all in=a9000 out=a9001", NOT_COLUMNS},
    {ROWS(9000, table, 1, 2) ROWS(9001, linear, 1, 8) "gather_columns axis=all in=a9000 out=a9001", NOT_COLUMNS},
    {"create act=a9000 role=table batch=2 image=1 cols=2\ncreate act=a9001 role=table batch=2 image=1 cols=8\n"
     "gather_columns axis=all in=a9000 out=a9001",
     NOT_COLUMNS},
    {"create act=a9000 role=table batch=2 image=1 cols=2\n" ROWS(9001, table, 1,
                                                                 8) "gather_columns axis=all in=a9000 out=a9001",
     NOT_COLUMNS},
    {ROWS(9000, table, 1, 2) "create act=a9001 role=table batch=2 image=1 cols=8\n"
                             "gather_columns axis=all in=a9000 out=a9001",
     NOT_COLUMNS},
    {ROWS(9000, linear, 4, 8) ROWS(9001, linear, 1, 8) "reduce_rows axis=all in=a9000 out=a9001",
     "reduce_rows: a sum over ranks of something else than partial"},
    {ROWS(9000, partial, 4, 8) ROWS(9001, partial, 2, 8) "reduce_rows axis=all in=a9000 out=a9001", NOT_A_SHARE},
    {ROWS(9000, heads, 1, 8) "ring_begin axis=sp image=2 unit=0 k=a9000 v=a9000", "a ring of no rows, or of one rank"},
    {ROWS(9000, heads, 1, 8) "ring_begin axis=sp text=-1 image=2 unit=1 k=a9000 v=a9000", "a ring of no rows"},
    {ROWS(9000, heads, 1, 8) "ring_begin axis=sp image=-1 unit=1 k=a9000 v=a9000", "a ring of no rows"},
    {ROWS(9000, heads, 2, 8) "ring_begin axis=sp image=2 unit=1 k=a9000 v=a9000",
     "k and v are not this rank's share of the ring's rows"},
    {ROWS(9000, heads, 1, 8) ROWS(9001, heads, 1, 9) "ring_begin axis=sp image=2 unit=1 k=a9000 v=a9001",
     "k and v are not this rank's share of the ring's rows"},
    {ROWS(9000, heads, 1, 8) ROWS(9001, linear, 1, 8) "ring_begin axis=sp image=2 unit=1 k=a9000 v=a9001",
     "k and v are not this rank's share of the ring's rows"},
    {ROWS(9000, heads, 1, 8) ROWS(9001, heads, 2, 8) "ring_begin axis=sp image=2 unit=1 k=a9000 v=a9001",
     "k and v are not this rank's share of the ring's rows"},
    {ROWS(9000, heads, 1, 8) "ring_begin axis=sp image=2 unit=1 k=a9000 v=a9000",
     "a ring has begun, and has not come round"},
    {ROWS(9000, heads, 1, 8) "ring_receive k=a9000 v=a9000", "ring_receive: no ring has begun, or all of it has come"},
    {ROWS(9000, heads, 1, 8) ROWS(9001, heads, 1, 9) "ring_begin axis=sp image=2 unit=1 k=a9000 v=a9000\n"
                                                     "ring_receive k=a9000 v=a9001",
     "k and v have not the rows of the rank that they come from"},
    {ROWS(9000, linear, 4, 1) PLANE(9001, 2, 1, 2, 1) "halo_row in=a9000 row=0 distance=1 wanted=1 out=a9001",
     "halo_row: a halo row is a row of the plane"},
    {PLANE(9000, 4, 2, 2, 1) PLANE(9001, 2, 1, 2, 1) "halo_row in=a9000 row=2 distance=1 wanted=1 out=a9001",
     "halo_row: a halo row is a row of the plane"},
    {PLANE(9000, 4, 2, 2, 1) PLANE(9001, 1, 1, 1, 1) "halo_row in=a9000 row=1 distance=1 wanted=1 out=a9001",
     "halo_row: a halo row is a row of the plane"},
    {PLANE(9000, 4, 2, 2, 1) PLANE(9001, 2, 1, 2, 2) "halo_row in=a9000 row=1 distance=1 wanted=1 out=a9001",
     "halo_row: a halo row is a row of the plane"},
    {PLANE(9000, 4, 2, 2, 1) PLANE(9001, 2, 1, 2, 1) "halo_row in=a9000 row=1 distance=2 wanted=1 out=a9001",
     "halo_row: a halo row from farther than a neighbour"},
};

static flux1_status run_text(trial *t, char *text)
{
    const recording_request q = {"a car", 1, 0};
    recording r;
    recording_results got;
    TRY(recording_parse(text, "r", &r, &t->c->error));
    flux1_status st = recording_play(t->c, t->m, &r, &q, &got, NULL);
    if (st == FLUX1_OK)
        recording_results_free(&got);
    recording_free(&r);
    return st;
}

/* Of schnell/car, without a path. */
static char *text_of_car(trial *t, const char *shape)
{
    recording r;
    trial_open(t, "schnell", "car", shape);
    record(t, &r);
    free(r.path);
    r.path = NULL;
    r.guidance_scale = 0;
    char *text = text_of(t, &r);
    recording_free(&r);
    return text;
}

static void is_one_sentence(trial *t, const char *text, const broken *b, const char *shape)
{
    char *bad = changed(text, b->from, b->to);
    const flux1_status st = run_text(t, bad);
    if (st == FLUX1_OK || !strstr(t->c->error.message, b->told) || strchr(t->c->error.message, '\n'))
        fail_msg("\"%s\" for \"%s\" on %s: %s (%d)", b->to, b->from, shape,
                 st == FLUX1_OK ? "it runs" : t->c->error.message, (int)st);
    if (st == FLUX1_ERR_INTERNAL)
        fail_msg("\"%s\": an internal error: %s", b->to, t->c->error.message);
    free(bad);
}

static void each_is_one_sentence(const char *shape, const broken *b, size_t n)
{
    trial t;
    char *text = text_of_car(&t, shape);
    for (size_t i = 0; i < n; i++)
        is_one_sentence(&t, text, &b[i], shape);
    free(text);
    trial_close(&t);
}

static void a_broken_recording_is_one_sentence(void **state)
{
    (void)state;
    each_is_one_sentence("2x2", BROKEN, sizeof BROKEN / sizeof *BROKEN);
    each_is_one_sentence("1x1", BROKEN_ALONE, sizeof BROKEN_ALONE / sizeof *BROKEN_ALONE);
    each_is_one_sentence("3x1", BROKEN_AMONG_THREE, sizeof BROKEN_AMONG_THREE / sizeof *BROKEN_AMONG_THREE);
}

static void so_is_a_line_that_does_not_fit(void **state)
{
    trial t;
    char *text = text_of_car(&t, "2x2");
    (void)state;
    for (size_t i = 0; i < sizeof AT_THE_END / sizeof *AT_THE_END; i++) {
        char lines[2000];
        const int n = snprintf(lines, sizeof lines, "\n%s\nend\n", AT_THE_END[i].lines);
        assert_in_range(n, 1, sizeof lines - 1);
        is_one_sentence(&t, text, &(broken){"\nend\n", lines, AT_THE_END[i].told}, "2x2");
    }
    free(text);
    trial_close(&t);
}

/* Where ranks would send each other different numbers of bytes, nothing is sent. */
static void ranks_that_would_not_agree_are_found_before(void **state)
{
    trial t;
    recording r;
    (void)state;
    trial_open(&t, "schnell", "car", "2x1");
    record(&t, &r);
    free(r.path);
    r.path = NULL;
    char *text = text_of(&t, &r), *bad;
    /* each rank gathers rows of its own width */
    bad = changed(text, "\nend\n",
                  "\ncreate act=a9000 role=partial batch=1 image=1 cols=all(4,8)\n"
                  "create act=a9001 role=partial batch=1 image=2 cols=all(4,8)\n"
                  "gather_rows axis=all in=a9000 unit=1 out=a9001\nend\n");
    assert_int_equal(run_text(&t, bad), FLUX1_ERR_FORMAT);
    assert_non_null(strstr(t.c->error.message, "stage vae: rank 1 and others differ in what they exchange"));
    free(bad);
    free(text);
    recording_free(&r);
    trial_close(&t);
}

/* CLIP gives infinity where it runs; what a step leaves to the next is found before that. */
static void a_second_step_is_checked_before_anything_runs(void **state)
{
    trial t;
    recording r;
    (void)state;
    trial_open(&t, "schnell", "car", "2x2");
    record(&t, &r);
    free(r.path);
    r.path = NULL;
    char *text = text_of(&t, &r);
    char *infinite = changed(text, "\n@0 output in=a19\n",
                             "\n@0 add x=a19 s=3e+38 y=a19 out=a19\n@0 add x=a19 s=3e+38 y=a19 out=a19\n"
                             "@0 finite in=a19 slot=0\ncheck\n@0 output in=a19\n");
    char *late = changed(infinite, "stage dit.step\n", "stage dit.step\nblock block=b99 name=late\n");
    assert_int_equal(run_text(&t, infinite), FLUX1_ERR_NUMERIC);
    assert_int_equal(run_text(&t, late), FLUX1_ERR_FORMAT);
    assert_non_null(strstr(t.c->error.message, "block: b99 is there already"));
    free(late);
    free(infinite);
    free(text);
    recording_free(&r);
    trial_close(&t);
}

static void another_model_is_refused(void **state)
{
    trial dev, schnell;
    recording r;
    recording_results got;
    (void)state;
    trial_open(&dev, "dev", "long", "1x1");
    trial_open(&schnell, "schnell", "car", "1x1");
    record(&dev, &r);
    const recording_request q = {"a car", 1, 3.5f};
    assert_int_equal(recording_play(schnell.c, schnell.m, &r, &q, &got, NULL), FLUX1_ERR_MODEL);
    assert_string_equal(flux1_context_message(schnell.c), "the recording is of dev, the model is schnell");
    recording_free(&r);
    trial_close(&dev);
    trial_close(&schnell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pipeline_on_one_device),
        cmocka_unit_test(meshes),
        cmocka_unit_test(on_the_cpu_it_is_the_same_up_to_rounding),
        cmocka_unit_test(every_form_of_files_has_one_recording_and_runs_it),
        cmocka_unit_test(what_a_recording_cannot_have_is_refused_by_name),
        cmocka_unit_test(a_broken_recording_is_one_sentence),
        cmocka_unit_test(so_is_a_line_that_does_not_fit),
        cmocka_unit_test(ranks_that_would_not_agree_are_found_before),
        cmocka_unit_test(a_second_step_is_checked_before_anything_runs),
        cmocka_unit_test(another_model_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
