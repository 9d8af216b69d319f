/* What a plan says of memory and of bytes exchanged is what a run takes: weights held, tiles, refusals, collectives. */
#include "support/stage_runs.h"

#include "base/limits.h"
#include "mesh/comm.h"
#include "model/loader.h"
#include "ops/cpu/cpu.h"
#include "pipeline/run.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- bytes that malloc, calloc and aligned_alloc have given and not taken back; what weights lie in ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *p);
void *__real_large_alloc(size_t bytes);
void __real_large_free(void *p, size_t bytes);
void *__wrap_large_alloc(size_t bytes);
void __wrap_large_free(void *p, size_t bytes);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *p);

enum { PIECES = 1 << 22 }; /* AddressSanitizer gives no address twice for long */
static struct {
    void *at;
    size_t bytes, *of;            /* in `live` or `zeroed` */
} piece[PIECES];                  /* open addressing; a piece given back keeps its place with 0 bytes */
static size_t live, zeroed, most; /* zeroed: calloc's, which weights do not lie in; most: of both, since it was set */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static size_t place_of(const void *p)
{
    size_t i = (size_t)((uintptr_t)p >> 4) * 2654435761u % PIECES;
    for (int passed = 0; piece[i].at && piece[i].at != p; i = (i + 1) % PIECES)
        if (++passed == PIECES)
            abort(); /* the table is full */
    return i;
}

static void *taken(void *p, size_t bytes, size_t *of)
{
    pthread_mutex_lock(&lock);
    size_t i = place_of(p);
    if (p) {
        if (piece[i].at)
            *piece[i].of -= piece[i].bytes;
        piece[i].at = p;
        piece[i].bytes = bytes;
        piece[i].of = of;
        *of += bytes;
        most = live + zeroed > most ? live + zeroed : most;
    }
    pthread_mutex_unlock(&lock);
    return p;
}

void *__wrap_malloc(size_t size) { return taken(__real_malloc(size), size, &live); }
void *__wrap_calloc(size_t count, size_t size) { return taken(__real_calloc(count, size), count * size, &zeroed); }
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return taken(__real_aligned_alloc(alignment, size), size, &live);
}
/* From malloc or not: of the host's tensors, which weights do not lie in. */
void *__wrap_large_alloc(size_t bytes) { return taken(__real_large_alloc(bytes), bytes, &zeroed); }
void __wrap_large_free(void *p, size_t bytes)
{
    taken(p, 0, &zeroed);
    __real_large_free(p, bytes);
}
void *__wrap_realloc(void *old, size_t size)
{
    taken(old, 0, &live); /* lists that grow are no weights */
    return __real_realloc(old, size);
}
void __wrap_free(void *p)
{
    taken(p, 0, &live);
    __real_free(p);
}

/* ---- weights held ---- */

static void expect_bytes(size_t held, const stage_plan *plan, const char *what)
{
    if (held != plan->count.held_bytes)
        fail_msg("%s: %zu bytes of weights are held, the plan says %zu", what, held, plan->count.held_bytes);
    assert_true(held > 0);
}

/* What is allocated by a body beside its session. */
static void held_of_body(flux1_context *c, const flux1_model *m, const stage_plan *plan, mesh_body *body, void *job,
                         session **in, const char *what)
{
    assert_int_equal(session_take(c, &c->device, m, NULL, in), FLUX1_OK);
    assert_int_equal(mesh_reserve((*in)->mesh, plan->arena, &c->error), FLUX1_OK);
    size_t before = live;
    if (mesh_run((*in)->mesh, body, job, &c->error) != FLUX1_OK)
        fail_msg("%s: %s", what, c->error.message);
    expect_bytes(live - before, plan, what);
    session_give(c, *in);
    sessions_close(c); /* the next stage's weights are not this one's */
}

static void held_of_texts(flux1_context *c, const flux1_model *m, const char *what)
{
    flux1_text *text;
    text_plan plan;
    assert_int_equal(text_tokenize(m, "", 0, 16, &text, NULL, NULL, &c->error), FLUX1_OK);
    assert_int_equal(text_plan_make(c, m, NULL, text, &plan), FLUX1_OK);
    held_of_body(c, m, &plan.clip, clip_body, &plan.job, &plan.job.session, what);
    held_of_body(c, m, &plan.t5, t5_body, &plan.job, &plan.job.session, what);
    text_plan_free(&plan);
    flux1_text_free(text);
}

static request small_request(const flux1_model *m)
{
    return (request){.width = 4 * folder_size_multiple(m),
                     .height = 3 * folder_size_multiple(m),
                     .steps = 2,
                     .length = 16,
                     .passes = 1,
                     .tiling = FLUX1_TILING_NO};
}

static void held_of_denoiser(flux1_context *c, const flux1_model *m, const char *what)
{
    denoiser d;
    session *s;
    double opening;
    request r = small_request(m);
    flux1_text text = {.pooled = new_tensor(2, (int64_t[]){1, m->clip.hidden}),
                       .embeds = new_tensor(3, (int64_t[]){1, r.length, m->t5.d_model})};
    batch_row row = {.text = &text, .guidance = 1};
    assert_int_equal(denoiser_plan(c, m, &r, 1, &d), FLUX1_OK);
    assert_int_equal(session_take(c, &c->device, m, NULL, &s), FLUX1_OK); /* there before it counts */
    session_give(c, s);
    size_t before = live;
    if (denoiser_open(&d, &row, NULL, NULL, &opening) != FLUX1_OK)
        fail_msg("%s: %s", what, c->error.message);
    expect_bytes(live - before, &d.plan, what);
    denoiser_close(&d);
    sessions_close(c);
    tensor_free(&text.pooled);
    tensor_free(&text.embeds);
}

/* With adapters merged into it, which is memory of its own. */
static void merged_weights_held_are_in_the_plan(void **state)
{
    (void)state;
    static const flux1_dtype types[] = {FLUX1_DTYPE_F32, FLUX1_DTYPE_BF16};
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        denoiser d;
        session *s;
        double opening;
        flux1_adapter *a;
        flux1_context *c = context_on("cpu", "1x1", 1, types[i]);
        flux1_model *m = model_of(c, TEST_DATA "/pipelines/packed");
        assert_int_equal(flux1_adapter_open(c, m, TEST_DATA "/files/lora/golden/mixed.safetensors", &a), FLUX1_OK);
        request r = small_request(m);
        r.adapters = (adapter_set){.count = 1, .adapter = {a}, .scale = {0.5f}};
        flux1_text text = {.pooled = new_tensor(2, (int64_t[]){1, m->clip.hidden}),
                           .embeds = new_tensor(3, (int64_t[]){1, r.length, m->t5.d_model})};
        batch_row row = {.text = &text, .guidance = 1};
        assert_int_equal(denoiser_plan(c, m, &r, 1, &d), FLUX1_OK);
        assert_int_equal(session_take(c, &c->device, m, &r.adapters, &s), FLUX1_OK);
        session_give(c, s);
        size_t before = live;
        if (denoiser_open(&d, &row, NULL, NULL, &opening) != FLUX1_OK)
            fail_msg("%s", c->error.message);
        bytes[i] = live - before;
        expect_bytes(bytes[i], &d.plan, i ? "merged in bf16" : "merged in f32");
        denoiser_close(&d);
        sessions_close(c);
        tensor_free(&text.pooled);
        tensor_free(&text.embeds);
        flux1_adapter_close(a);
        flux1_model_close(m);
        flux1_context_destroy(c);
    }
    assert_true(bytes[1] < bytes[0]);
}

static void held_of_vae(flux1_context *c, const flux1_model *m, const char *what)
{
    decoder d;
    request r = small_request(m);
    vae_job *job = &d.job;
    int64_t scale = vae_scale(&m->vae);
    assert_int_equal(decoder_plan(c, m, &r, SIZE_MAX, &d), FLUX1_OK);
    job->in = new_tensor(3, (int64_t[]){1, job->h * job->w, m->vae.latent_channels});
    job->out = new_tensor(3, (int64_t[]){1, job->h * job->w * scale * scale, 3});
    held_of_body(c, m, &d.plan, vae_decode_body, job, &job->session, what);
    tensor_free(&job->in);
    tensor_free(&job->out);
    job->session = NULL;
    decoder_close(&d);
}

static void weights_held_are_as_many_bytes_as_the_plan_says(void **state)
{
    (void)state;
    static const char *const devices[] = {"ref", "cpu"};
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < PIPELINE_COUNT; i++) {
            char what[64];
            flux1_context *c = context_on(devices[k], "1x1", 1, FLUX1_DTYPE_F32);
            flux1_model *m = pipeline_of(c, PIPELINES[i]);
            snprintf(what, sizeof what, "%s on %s", PIPELINES[i], devices[k]);
            held_of_texts(c, m, what);
            held_of_denoiser(c, m, what);
            held_of_vae(c, m, what);
            flux1_model_close(m);
            flux1_context_destroy(c);
        }
}

/* ---- scratch ---- */

static void a_backends_scratch_is_what_it_allocates(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        flux1_error err = {0};
        ops_config c = {.arithmetic = DTYPE_F32, .threads = threads, .err = &err};
        ops *o, *dry;
        assert_int_equal(ops_dry_create(&c, &ops_cpu_sizing, &dry), FLUX1_OK);
        size_t before = live;
        assert_int_equal(ops_cpu_create(&c, &o), FLUX1_OK);
        size_t took = live - before, own = ops_dry_count(dry)->own_bytes;
        assert_in_range(took, own, own + 4096); /* and the threads' own few bytes */
        ops_destroy(o);
        ops_destroy(dry);
    }
}

/* ---- weights mapped ---- */

typedef struct blocks_job {
    const store_tensor *matrix; /* at least 5 × 5, float32 */
    const char *order;          /* of calls: a, b, c begin a block, A, B, C end it */
    bool filed;                 /* as a block's */
} blocks_job;

/* Blocks of 40, 100 and 60 mapped bytes, each with a bias that is held. */
static flux1_status three_blocks(void *arg, mesh *m)
{
    const blocks_job *job = arg;
    weight_recipe whole = recipe_whole(WEIGHT_LINEAR, job->matrix), vector = recipe_rows(&whole, 0, 1);
    block *b[3];
    weight *w;
    const int64_t rows[] = {2, 5, 3};
    vector = recipe_cols(&vector, 0, 1);
    vector.role = WEIGHT_VECTOR;
    for (int i = 0; i < 3; i++) {
        weight_recipe r = recipe_rows(&whole, 0, rows[i]), table = recipe_rows(&whole, 0, 4);
        r = recipe_cols(&r, 0, 5);
        table.role = WEIGHT_TABLE;
        TRY(ops_block_create(m->o, "a block", &b[i]));
        b[i]->filed = job->filed;
        TRY(ops_prepare(m->o, b[i], &r, NULL, &w));
        TRY(ops_prepare(m->o, b[i], &table, NULL, &w)); /* a few rows of it are read: it does not count */
        TRY(ops_prepare(m->o, b[i], &vector, NULL, &w));
    }
    for (const char *k = job->order; *k; k++)
        TRY(*k >= 'a' ? ops_block_begin(m->o, b[*k - 'a']) : ops_block_end(m->o, b[*k - 'A']));
    return FLUX1_OK;
}

/* What is held together, and the block begun behind it, which is read meanwhile; or what one weight's own form is made
 * of. */
static void blocks_that_are_in_memory_together_count(void **state)
{
    (void)state;
    const struct {
        const ops_device_kind *kind;
        const char *order;
        size_t bytes;
        enum { HELD, FILED, OF_NO_FILE } forms; /* OF_NO_FILE: there is a cache, but no file to store them of */
    } want[] = {
        {&ops_cpu_device, "aAbBcC", 160, HELD},
        {&ops_cpu_device, "aAbB", 140, HELD},
        {&ops_cpu_device, "bBbBbB", 100, HELD},
        {&ops_cpu_device, "aAcCaA", 100, HELD},
        {&ops_cpu_device, "acCAbB", 200, HELD},
        {&ops_cpu_device, "bBacCA", 140, HELD}, /* c is read when b is over */
        {&ops_cpu_device, "acCAaAcC", 100, HELD},
        {&ops_cpu_device, "acCbBA", 200, HELD},
        {&ops_ref_device, "aAbBcC", 256, HELD}, /* holds all in its own form: made of the table's 4 x 16 at the most */
        {&ops_cpu_device, "", 4, HELD},         /* a bias */
        /* the form of the largest while it is made, of 5 rows of 16 */
        {&ops_cpu_device, "", 164 + 5 * 64, FILED},
        {&ops_cpu_device, "aAbBcC", 160, OF_NO_FILE}}; /* weights of no file: no form of theirs ever is in one */
    flux1_error err = {0};
    blocks_job job;
    store *s;
    mesh_config one;
    assert_int_equal(
        store_open_file(TEST_DATA "/pipelines/schnell/transformer/diffusion_pytorch_model.safetensors", &s, &err),
        FLUX1_OK);
    size_t at = 0;
    while (store_at(s, at)->view.dims != 2 || store_at(s, at)->view.shape[0] < 5 || store_at(s, at)->view.shape[1] < 5)
        at++;
    assert_int_equal(mesh_parse(NULL, NULL, NULL, &one, &err), FLUX1_OK);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        mesh_device d = {.kind = want[i].kind,
                         .config = {.arithmetic = DTYPE_F32, .threads = 1, .forms_in_files = want[i].forms != HELD}};
        ops_count count;
        const bool filed = want[i].forms == FILED;
        job = (blocks_job){.matrix = store_at(s, at), .order = want[i].order, .filed = filed};
        if (mesh_dry_run(&one, &d, 0, three_blocks, &job, &count, &err) != FLUX1_OK)
            fail_msg("%s", err.message);
        if (filed) /* with columns, and a vector's form of 64 bytes */
            assert_true(count.held_bytes == 0 && count.mapped_bytes == 104 + 164 + 124);
        if (count.block_bytes != want[i].bytes)
            fail_msg("%s on %s: %zu bytes", want[i].order, want[i].kind->name, count.block_bytes);
    }
    store_close(s);
}

/* One weight of 5 × 5 in two pieces, columns of the same 5 rows of 16. */
static flux1_status columns_beside_each_other(void *arg, mesh *m)
{
    const weight_recipe whole = recipe_whole(WEIGHT_LINEAR, arg), rows = recipe_rows(&whole, 0, 5),
                        left = recipe_cols(&rows, 0, 2), right = recipe_cols(&rows, 7, 3);
    weight_recipe both;
    block *b;
    weight *w;
    TRY(recipe_beside(&left, &right, &both, m->err));
    TRY(ops_block_create(m->o, "a block", &b));
    b->filed = true;
    return ops_prepare(m->o, b, &both, NULL, &w);
}

static void rows_that_two_pieces_touch_count_once(void **state)
{
    (void)state;
    static float values[5 * 16];
    const store_tensor sheet = {.name = "w", .view = {DTYPE_F32, 2, {5, 16}, values}};
    flux1_error err = {0};
    ops_count count;
    mesh_config one;
    const mesh_device d = {.kind = &ops_cpu_device,
                           .config = {.arithmetic = DTYPE_F32, .threads = 1, .forms_in_files = true}};
    assert_int_equal(mesh_parse(NULL, NULL, NULL, &one, &err), FLUX1_OK);
    assert_int_equal(mesh_dry_run(&one, &d, 0, columns_beside_each_other, (void *)&sheet, &count, &err), FLUX1_OK);
    assert_int_equal(count.block_bytes, 5 * 5 * 4 + 5 * 16 * 4); /* the form, and the rows that it is made of */
}

/* A model that is open when a context is created is in what the process has by then, and not added again. */
static void a_model_that_was_open_before_counts_once(void **state)
{
    (void)state;
    flux1_context *before = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32), *c;
    flux1_model *old = pipeline_of(before, "schnell"), *new;
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.max_memory = (uint64_t)1 << 40;
    p.memory_of_process = 1;
    assert_int_equal(flux1_context_create(&p, &c), FLUX1_OK);
    new = pipeline_of(c, "schnell");
    old->opened = new->opened = 12345;
    context_uses(c, old);
    memory_need n = memory_of(c, &c->device, NULL, NULL);
    assert_true(n.program > 0 && n.opened == 0);
    context_uses(c, new);
    n = memory_of(c, &c->device, NULL, NULL);
    assert_int_equal(n.opened, 12345);
    flux1_context_destroy(c);
    p.max_memory = 0; /* a limit that is found leaves out what the process has, so that is added to both */
    const uint64_t resident = limits_resident();
    assert_int_equal(flux1_context_create(&p, &c), FLUX1_OK);
    n = memory_of(c, &c->device, NULL, NULL);
    assert_true(n.program >= resident && c->max_memory > resident);
    flux1_model_close(old);
    flux1_model_close(new);
    flux1_context_destroy(c);
    flux1_context_destroy(before);
}

uint64_t __real_limits_resident(void);
uint64_t __wrap_limits_resident(void);
#define NOT_SET UINT64_MAX
static uint64_t growth = NOT_SET; /* from one look at the process to the next, in place of what it is */
static uint64_t resident_now = (uint64_t)64 << 20;

uint64_t __wrap_limits_resident(void)
{
    return growth == NOT_SET ? __real_limits_resident() : (resident_now += growth);
}

/* Whether the heap grows by a few pages or by none is chance, and plans may not differ by it. */
static void a_model_that_is_opened_again_counts_the_same(void **state)
{
    (void)state;
    static const uint64_t pages[] = {0, 3 << 12, 700 << 10, 1 << 20, (1 << 20) + 1};
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        growth = pages[i];
        flux1_model *m = pipeline_of(c, "schnell");
        growth = NOT_SET;
        assert_int_equal(m->opened, (i < 4 ? 1 : 2) << 20);
        flux1_model_close(m);
    }
    flux1_context_destroy(c);
}

/* ---- dumps ---- */

/* What the file holds in the end, and the float32 picture that is copied into it, is in each stage's need. */
static void a_dump_is_as_large_as_the_plan_says(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    flux1_generate_params p;
    flux1_image *images;
    flux1_error err = {0};
    store *s;
    uint64_t bytes = 0;
    char *path = scratch_path("dump.safetensors");
    flux1_generate_params_defaults(&p);
    p.prompt = "a car", p.negative_prompt = "a ship", p.true_cfg_scale = 2;
    p.width = 48, p.height = 80, p.steps = 3, p.max_sequence_length = 21, p.count = 2;
    p.dump = path;
    if (flux1_generate(c, m, &p, &images) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    assert_int_equal(store_open_file(path, &s, &err), FLUX1_OK);
    for (size_t i = 0; i < store_count(s); i++)
        bytes += tensor_bytes(&store_at(s, i)->view);
    store_close(s);
    unlink(path);
    const flux1_generate_params *all[] = {&p};
    run g = {.c = c, .m = m, .n = 1};
    assert_int_equal(run_take_requests(&g, all), FLUX1_OK);
    assert_int_equal(run_dump_bytes(&g), bytes + 3 * 48 * 80 * sizeof(float));
    assert_int_equal(run_plan(&g), FLUX1_OK);
    assert_int_equal(memory_of(c, &c->device, &g.decoder.plan, NULL).dump, run_dump_bytes(&g));
    run_free(&g);
    flux1_images_free(images, 2);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* ---- the cache on disk ---- */

/* Of synthetic weights nothing is ever in it, so the plan has their forms in memory; of a file's, none. */
static void forms_of_weights_without_files_are_held(void **state)
{
    (void)state;
    flux1_context_params p;
    flux1_context *c;
    flux1_model *made;
    flux1_error err = {0};
    flux1_context_params_defaults(&p);
    p.cache = "unmade";
    p.plans_only = 1;
    assert_int_equal(flux1_context_create(&p, &c), FLUX1_OK);
    flux1_model *read = pipeline_of(c, "schnell");
    assert_int_equal(folder_synthetic("schnell", DTYPE_BF16, false, &made, &err), FLUX1_OK);
    for (int i = 0; i < 2; i++) {
        const flux1_model *m = i ? made : read;
        const request r = small_request(m);
        decoder d;
        assert_int_equal(decoder_plan(c, m, &r, SIZE_MAX, &d), FLUX1_OK);
        assert_int_equal(d.plan.count.held_bytes > 0, m == made);
        decoder_close(&d);
    }
    flux1_model_close(read);
    flux1_model_close(made);
    flux1_context_destroy(c);
}

/* ---- tiles ---- */

static void a_plan_of_tiles_has_the_weights_of_one_and_the_work_of_all(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "2x2", 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    request r = small_request(m);
    decoder whole, tiled;
    r.width = r.height = 4 * m->vae.sample_size;
    assert_int_equal(decoder_plan(c, m, &r, SIZE_MAX, &whole), FLUX1_OK);
    r.tiling = FLUX1_TILING_YES;
    assert_int_equal(decoder_plan(c, m, &r, SIZE_MAX, &tiled), FLUX1_OK);
    assert_true(tiled.tile_plans > 1);
    const ops_count *w = &whole.plan.count, *t = &tiled.plan.count;
    assert_true(w->held_bytes > 0 && w->block_bytes > 0);
    assert_int_equal(t->held_bytes, w->held_bytes);
    assert_int_equal(t->block_bytes, w->block_bytes);
    assert_int_equal(t->weight_bytes, w->weight_bytes);
    assert_true(t->operations > w->operations && t->exchanged > 0);
    assert_true(t->flops == t->linear_flops + t->attention_flops + t->conv_flops);
    assert_true(tiled.plan.memory < whole.plan.memory);
    decoder_close(&whole);
    decoder_close(&tiled);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* ---- pictures ---- */

/* The second of two, so that the session is there. */
static void a_picture_takes_the_bytes_that_the_plan_says(void **state)
{
    (void)state;
    static const flux1_tiling ways[] = {FLUX1_TILING_NO, FLUX1_TILING_YES, FLUX1_TILING_BANDS};
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        request r = small_request(m);
        decoder d;
        flux1_image image[2] = {{0}, {0}};
        r.tiling = ways[i];
        r.width = 4 * m->vae.sample_size;
        r.height = 6 * m->vae.sample_size;
        assert_int_equal(decoder_plan(c, m, &r, SIZE_MAX, &d), FLUX1_OK);
        tensor latent = new_tensor(3, (int64_t[]){1, d.grid.h * d.grid.w / 4, 4 * m->vae.latent_channels});
        size_t before = 0;
        for (int k = 0; k < 2; k++) {
            before = most = live + zeroed;
            if (decoder_run(&d, latent.data, NULL, NULL, NULL, &image[k]) != FLUX1_OK)
                fail_msg("%s", c->error.message);
        }
        const size_t took = most - before;
        if (took > d.plan.picture + 4096 || took + 4096 < d.plan.picture) /* lists */
            fail_msg("way %zu: %zu bytes, the plan says %zu", i, took, d.plan.picture);
        free(image[0].pixels);
        free(image[1].pixels);
        tensor_free(&latent);
        decoder_close(&d);
    }
    flux1_model_close(m);
    flux1_context_destroy(c);
}

/* ---- mapped weights ---- */

typedef struct mapped_sums {
    size_t all, in_steps, of_second;
} mapped_sums;

static mapped_sums mapped_on(const char *shape)
{
    flux1_context *c = context_on("cpu", shape, 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(c, "schnell");
    const request r = small_request(m);
    const int ranks = mesh_ranks(&c->mesh);
    denoiser d;
    mapped_sums sums = {0};
    assert_int_equal(denoiser_plan(c, m, &r, 1, &d), FLUX1_OK);
    for (int i = 0; i < ranks; i++) {
        sums.all += d.plan.mapped[i];
        sums.in_steps += d.plan.in_steps[i];
    }
    sums.of_second = ranks > 1 ? d.plan.mapped[1] : 0;
    denoiser_close(&d);
    flux1_model_close(m);
    flux1_context_destroy(c);
    return sums;
}

/* Ranks of sp have the blocks' weights in the same pages, and slices of the modulations': together one rank's alone. So
 * have those of sp beside tp, whose slices share nothing. */
static void pages_that_ranks_share_count_once(void **state)
{
    (void)state;
    const mapped_sums one = mapped_on("1x1"), tp = mapped_on("1x2");
    assert_true(one.all > 0 && one.in_steps > 0 && one.in_steps < one.all);
    assert_true(tp.of_second > tp.all / 3);
    static const char *const sp[] = {"2x1", "3x1"};
    for (int i = 0; i < 2; i++) {
        const mapped_sums more = mapped_on(sp[i]);
        assert_int_equal(more.all, one.all);
        assert_int_equal(more.in_steps, one.in_steps);
        assert_true(more.of_second > 0); /* its modulations */
    }
    const mapped_sums both = mapped_on("2x2");
    assert_int_equal(both.all, tp.all);
    assert_int_equal(both.in_steps, tp.in_steps);
}

/* ---- limits ---- */

static void a_refusal_says_what_takes_it_and_what_would_help(void **state)
{
    (void)state;
    const size_t mib = 1 << 20;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    c->max_memory = 3 * mib;
    c->max_device_memory = 5 * mib;
    memory_need n = {.activations = 2 * mib, .held = mib / 2, .mapped = mib / 2};
    assert_int_equal(memory_check(c, n, HINT_SIZE, "a stage"), FLUX1_OK);
    n.held += 1024;
    assert_int_equal(memory_check(c, n, 0, "stage %d", 7), FLUX1_ERR_LIMIT);
    assert_string_equal(
        c->error.message,
        "stage 7 takes 3146752 bytes of host memory (activations 2.00 MiB, prepared weights 513 KiB, weights "
        "of the blocks in use 512 KiB), more than the 3145728 bytes that it may have (max_memory)");
    n.uncached = true;
    assert_int_equal(memory_check(c, n, HINT_OPTIONS, "stage 7"), FLUX1_ERR_LIMIT);
    assert_non_null(strstr(c->error.message, "(max_memory); a cache folder for prepared weights would take less"));
    n.activations += n.held; /* then it is not enough */
    assert_int_equal(memory_check(c, n, HINT_OPTIONS, "stage 7"), FLUX1_ERR_LIMIT);
    assert_null(strstr(c->error.message, "cache"));
    n = (memory_need){.activations = 6 * mib, .device = true, .bf16 = true};
    assert_int_equal(memory_check(c, n, HINT_SIZE | HINT_BATCH, "denoising"), FLUX1_ERR_LIMIT);
    assert_string_equal(c->error.message,
                        "denoising takes 6.00 MiB of device memory, more than the 5.00 MiB that it may have "
                        "(max_device_memory); a smaller picture, a smaller batch or dtype bf16 would take less");
    flux1_context_destroy(c);
}

/* Encoders on the host beside a device with memory of its own: each stage is held to the limit of where it runs. */
static void each_stage_has_the_limit_of_its_own_memory(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    ops_device gpu = {.kind = &ops_cpu_device, .info = {.memory = 1 << 30, .bf16 = true}};
    mesh_device apart = {.device = &gpu, .config = {.arithmetic = DTYPE_BF16}};
    stage_plan p = {.arena = (size_t[]){100},
                    .scratch = (size_t[]){7},
                    .held = (size_t[]){20},
                    .block = (size_t[]){3},
                    .mapped = (size_t[]){9},
                    .in_steps = (size_t[]){9},
                    .picture = 5};
    c->max_memory = 135;
    c->max_device_memory = 100;
    memory_need host = memory_of(c, &c->device, &p, NULL), device = memory_of(c, &apart, &p, NULL);
    assert_true(!host.device && host.activations == 100 && host.scratch == 7 && host.held == 20 && host.mapped == 3 &&
                host.picture == 5 && host.bf16);
    assert_true(device.device && device.activations == 100 && device.scratch == 0 && device.held == 0 &&
                device.mapped == 0 && device.picture == 0 && !device.bf16);
    assert_true(memory_fits(c, host) && memory_fits(c, device));
    c->max_device_memory = 99;
    assert_true(memory_fits(c, host) && !memory_fits(c, device));
    c->max_device_memory = 100;
    c->max_memory = 134;
    assert_true(!memory_fits(c, host) && memory_fits(c, device));
    c->max_memory = 135;
    c->program = 1;
    host = memory_of(c, &c->device, &p, NULL);
    device = memory_of(c, &apart, &p, NULL);
    assert_true(host.program == 1 && device.program == 0 && !memory_fits(c, host));
    c->program = 0;
    assert_true(host.uncached);
    c->cache = (prepared_folder *)(void *)&p; /* one is there; it is not looked into */
    assert_false(memory_of(c, &c->device, &p, NULL).uncached);
    c->cache = NULL;
    c->max_memory = 162;
    assert_int_equal(memory_beside(c, &c->device, &p), 27);
    assert_int_equal(memory_beside(c, &c->device, NULL), 162);
    assert_int_equal(memory_beside(c, &apart, &p), 0);
    assert_int_equal(memory_total(memory_of(c, &c->device, &p, &p)), 270);
    flux1_context_destroy(c);
}

/* Prompts of the run are in its need. Those of earlier runs may have what all weights leave of the limit; where weights
 * are streamed, a sixteenth of what is left beside two blocks. */
static void encoded_prompts_give_way_to_weights(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    stage_plan p = {.arena = (size_t[]){100},
                    .scratch = (size_t[]){7},
                    .held = (size_t[]){20},
                    .block = (size_t[]){3},
                    .mapped = (size_t[]){1000},
                    .in_steps = (size_t[]){1000}};
    c->run_texts = 5;
    memory_need n = memory_of(c, &c->device, &p, NULL);
    assert_true(n.texts == 5 && n.kept == 0 && memory_total(n) == 135);
    c->max_memory = 1142;
    assert_int_equal(memory_for_texts(c, &n), 10); /* of 1142 − 132 − 1000 */
    c->max_memory = 1132;
    assert_int_equal(memory_for_texts(c, &n), (1132 - 135) / 16);
    c->max_memory = 134;
    assert_int_equal(memory_for_texts(c, &n), 0);
    n.kept = 62; /* then weights are streamed in what is left */
    c->max_memory = 1132;
    assert_true(memory_streams(c, &n) && memory_total(n) == 135);
    assert_int_equal(memory_peak(c, &n), 1132);
    flux1_context_destroy(c);
}

static void a_request_beyond_max_memory_is_refused(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    golden g;
    flux1_image *image;
    golden_open("dev", "scripts", &g);
    flux1_model *m = model_of(c, g.folder);
    c->max_memory = 4096;
    assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_ERR_LIMIT);
    static const char *const words[] = {"encoding the prompt", "host memory", "activations", "prepared weights",
                                        "max_memory"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strstr(c->error.message, words[i]))
            fail_msg("no \"%s\": %s", words[i], c->error.message);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* ---- bytes exchanged: the communicators of threads, counted ---- */

flux1_status __real_comm_threads_create(comm_group *g, int rank, flux1_error *err, comm **out);
flux1_status __wrap_comm_threads_create(comm_group *g, int rank, flux1_error *err, comm **out);

typedef struct counting_comm {
    comm head;
    comm *inner;
} counting_comm;

static atomic_size_t moved;

static comm *inner(comm *c) { return ((counting_comm *)c)->inner; }

static flux1_status count_gather(comm *c, const void *send, void *recv, size_t bytes)
{
    moved += bytes * (size_t)(c->size - 1);
    return inner(c)->fn->all_gather(inner(c), send, recv, bytes);
}

static flux1_status count_reduce(comm *c, const float *send, float *recv, size_t count)
{
    moved += count * sizeof(float) * (size_t)(c->size - 1);
    return inner(c)->fn->reduce_scatter(inner(c), send, recv, count);
}

static flux1_status count_shift(comm *c, const void *send, void *recv, size_t bytes, int distance)
{
    moved += bytes;
    return inner(c)->fn->shift_begin(inner(c), send, recv, bytes, distance);
}

static flux1_status count_shift_end(comm *c) { return inner(c)->fn->shift_end(inner(c)); }
static void count_abort(comm *c) { inner(c)->fn->abort(inner(c)); }
static void count_destroy(comm *c)
{
    inner(c)->fn->destroy(inner(c));
    free(c);
}

static const comm_table counting_table = {"threads",       count_gather, count_reduce,  count_shift,
                                          count_shift_end, count_abort,  count_destroy, NULL};

flux1_status __wrap_comm_threads_create(comm_group *g, int rank, flux1_error *err, comm **out)
{
    counting_comm *c = calloc(1, sizeof *c);
    assert_non_null(c);
    flux1_status st = __real_comm_threads_create(g, rank, err, &c->inner);
    if (st != FLUX1_OK) {
        free(c);
        return st;
    }
    c->head = *c->inner;
    c->head.fn = &counting_table;
    *out = &c->head;
    return FLUX1_OK;
}

static size_t planned_exchange(flux1_context *c, const flux1_model *m, const flux1_generate_params *params)
{
    request r;
    flux1_text *text;
    text_plan texts;
    denoiser dit;
    decoder vae;
    const size_t prompt = strlen(params->prompt);
    assert_int_equal(request_make(c, m, params, &r), FLUX1_OK);
    assert_int_equal(text_tokenize(m, params->prompt, prompt, r.length, &text, NULL, NULL, &c->error), FLUX1_OK);
    assert_int_equal(text_plan_make(c, m, NULL, text, &texts), FLUX1_OK);
    assert_int_equal(denoiser_plan(c, m, &r, 1, &dit), FLUX1_OK);
    assert_int_equal(decoder_plan(c, m, &r, SIZE_MAX, &vae), FLUX1_OK);
    size_t bytes =
        texts.clip.count.exchanged + texts.t5.count.exchanged + dit.plan.count.exchanged + vae.plan.count.exchanged;
    decoder_close(&vae);
    denoiser_close(&dit);
    text_plan_free(&texts);
    flux1_text_free(text);
    return bytes;
}

static void ranks_exchange_as_many_bytes_as_the_plan_says(void **state)
{
    (void)state;
    static const char *const shapes[] = {"2x2", "3x1", "1x3"};
    static const flux1_dtype types[] = {FLUX1_DTYPE_F32, FLUX1_DTYPE_BF16};
    for (int i = 0; i < 6; i++) {
        golden g;
        flux1_image *image;
        golden_open("dev", "scripts", &g);
        flux1_context *c = context_on("cpu", shapes[i / 2], 1, types[i % 2]);
        flux1_model *m = model_of(c, g.folder);
        g.params.steps = 3;
        moved = 0;
        if (flux1_generate(c, m, &g.params, &image) != FLUX1_OK)
            fail_msg("%s", flux1_context_message(c));
        size_t really = moved, planned = planned_exchange(c, m, &g.params);
        printf("%s %s: %zu bytes exchanged\n", shapes[i / 2], i % 2 ? "bf16" : "f32", really);
        assert_true(planned > 0);
        assert_int_equal(really, planned);
        flux1_images_free(image, 1);
        flux1_model_close(m);
        flux1_context_destroy(c);
        golden_close(&g);
    }
}

/* ---- a missing tensor ---- */

static flux1_status claim_with_a_passing_name(void *arg, mesh *m)
{
    char name[] = "a.name.that.no.file.has";
    block_list made = {0};
    loader l = {.m = m, .s = arg, .claim = true, .made = &made};
    weight_recipe r;
    TRY(load_recipe(&l, WEIGHT_LINEAR, name, 2, (int64_t[]){3, 5}, &r));
    memset(name, '?', sizeof name - 1);
    assert_int_equal(r.rows, 3);
    assert_null(strchr(r.piece[0].source->name, '?')); /* not the caller's text */
    return FLUX1_OK;
}

/* Whether a block of 128 MiB stays on the device when nobody uses it. */
static bool block_stays(kept *k, uint64_t name)
{
    const uint64_t key[2] = {name, name};
    flux1_error err;
    kept_block *b;
    assert_int_equal(kept_take(k, key, 128 << 20, &b, &err), FLUX1_OK);
    assert_non_null(b);
    kept_whole(k, b);
    kept_leave(k, b);
    b = kept_find(k, key);
    kept_leave(k, b);
    return b != NULL;
}

/* A context whose memory is tight lets the CPU keep less of what nobody uses; another one does not undo that, and it
 * ends with the context. */
static void what_the_cpu_keeps_is_what_the_tightest_context_allows(void **state)
{
    (void)state;
    ops_device *d;
    flux1_image *image;
    flux1_error err = {0};
    flux1_generate_params p;
    assert_int_equal(ops_cpu_device.open(0, &d, &err), FLUX1_OK);
    kept *k = ((cpu_device *)d)->kept;
    flux1_context *tight = context_on("cpu", "", 1, FLUX1_DTYPE_F32),
                  *ample = context_on("cpu", "", 1, FLUX1_DTYPE_F32);
    flux1_model *m = pipeline_of(ample, "schnell");
    flux1_generate_params_defaults(&p);
    p.width = p.height = 32;
    p.steps = 1;
    tight->max_memory = 64 << 20;
    ample->max_memory = (uint64_t)8 << 30;
    flux1_context *const turns[] = {ample, tight, ample};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(flux1_generate(turns[i], m, &p, &image), FLUX1_OK);
        flux1_images_free(image, 1);
        assert_int_equal(block_stays(k, (uint64_t)i), i == 0);
    }
    flux1_context_destroy(tight);
    assert_true(block_stays(k, 3));
    flux1_model_close(m);
    flux1_context_destroy(ample);
    ops_device_close(d);
}

static void a_missing_tensors_stand_in_outlives_the_callers_name(void **state)
{
    (void)state;
    store *s;
    flux1_error err = {0};
    mesh_config one;
    ops_count count;
    mesh_device d = {.kind = &ops_ref_device, .config = {.arithmetic = DTYPE_F32, .threads = 1}};
    assert_int_equal(mesh_parse(NULL, NULL, NULL, &one, &err), FLUX1_OK);
    assert_int_equal(
        store_open_file(TEST_DATA "/pipelines/schnell/transformer/diffusion_pytorch_model.safetensors", &s, &err),
        FLUX1_OK);
    if (mesh_dry_run(&one, &d, 0, claim_with_a_passing_name, s, &count, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    assert_int_equal(store_check(s, false, NULL, &err), FLUX1_ERR_MODEL);
    assert_non_null(strstr(err.message, "a.name.that.no.file.has"));
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_held_are_as_many_bytes_as_the_plan_says),
        cmocka_unit_test(merged_weights_held_are_in_the_plan),
        cmocka_unit_test(a_backends_scratch_is_what_it_allocates),
        cmocka_unit_test(blocks_that_are_in_memory_together_count),
        cmocka_unit_test(rows_that_two_pieces_touch_count_once),
        cmocka_unit_test(a_plan_of_tiles_has_the_weights_of_one_and_the_work_of_all),
        cmocka_unit_test(a_picture_takes_the_bytes_that_the_plan_says),
        cmocka_unit_test(a_model_that_was_open_before_counts_once),
        cmocka_unit_test(a_model_that_is_opened_again_counts_the_same),
        cmocka_unit_test(a_dump_is_as_large_as_the_plan_says),
        cmocka_unit_test(forms_of_weights_without_files_are_held),
        cmocka_unit_test(a_refusal_says_what_takes_it_and_what_would_help),
        cmocka_unit_test(each_stage_has_the_limit_of_its_own_memory),
        cmocka_unit_test(encoded_prompts_give_way_to_weights),
        cmocka_unit_test(a_request_beyond_max_memory_is_refused),
        cmocka_unit_test(pages_that_ranks_share_count_once),
        cmocka_unit_test(ranks_exchange_as_many_bytes_as_the_plan_says),
        cmocka_unit_test(what_the_cpu_keeps_is_what_the_tightest_context_allows),
        cmocka_unit_test(a_missing_tensors_stand_in_outlives_the_callers_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
