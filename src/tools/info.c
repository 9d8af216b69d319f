/* flux1 info: what a folder is, what is wrong with it, what a picture will take. */
#include "pipeline/text_to_image.h"

#include "base/checked.h"
#include "base/file.h"
#include "base/pool.h"
#include "flux1_tools.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every json_… call below passes NULL through: one check at the end finds a lack of memory. */
static void put(json_t *object, const char *key, json_t *value, bool *ok)
{
    if (!value || json_object_set_new(object, key, value) != 0)
        *ok = false;
}

static double parameters(const store *s)
{
    double sum = 0;
    for (size_t i = 0; i < store_count(s); i++)
        sum += (double)tensor_elements(&store_at(s, i)->view);
    return sum;
}

static json_t *describe_component(component part, const store *s, bool *ok)
{
    size_t count[DTYPE_COUNT] = {0}, bytes = 0, used = 0;
    char dtypes[256] = "";
    for (size_t i = 0; i < store_count(s); i++) {
        const tensor *t = &store_at(s, i)->view;
        count[t->type]++;
        bytes += tensor_bytes(t);
    }
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (count[t] && used < sizeof dtypes)
            used +=
                (size_t)snprintf(dtypes + used, sizeof dtypes - used, "%s%s", used ? " " : "", dtype_describe(t)->name);
    json_t *o = json_object();
    put(o, "component", json_string(component_folder(part)), ok);
    put(o, "tensors", json_integer((json_int_t)store_count(s)), ok);
    put(o, "parameters", json_integer((json_int_t)parameters(s)), ok);
    put(o, "bytes", json_integer((json_int_t)bytes), ok);
    put(o, "dtypes", json_string(dtypes), ok);
    return o;
}

static void describe_components(json_t *root, store *const *stores, bool *ok)
{
    json_t *list = json_array();
    for (int p = 0; p < COMPONENTS; p++)
        if (stores[p])
            json_array_append_new(list, describe_component(p, stores[p], ok));
    put(root, "components", list, ok);
}

static void describe_defaults(json_t *root, const flux1_model *m, bool *ok)
{
    flux1_model_info info = {.size = sizeof info};
    json_t *o = json_object();
    flux1_model_get_info(m, &info);
    put(o, "width", json_integer(info.default_width), ok);
    put(o, "height", json_integer(info.default_height), ok);
    put(o, "steps", json_integer(info.default_steps), ok);
    if (info.guidance)
        put(o, "guidance", json_real((double)info.default_guidance), ok);
    put(o, "max_sequence_length", json_integer(info.default_sequence_length), ok);
    put(o, "size_multiple", json_integer(info.size_multiple), ok);
    put(root, "kind",
        json_string(info.guidance ? "FLUX.1 dev (with guidance embedding)"
                                  : "FLUX.1 schnell (without guidance embedding)"),
        ok);
    put(root, "defaults", o, ok);
}

static json_t *describe_stage(const char *name, const stage_plan *p, bool *ok)
{
    json_t *o = json_object();
    put(o, "stage", json_string(name), ok);
    put(o, "flops", json_real(p->count.flops), ok);
    put(o, "memory_bytes", json_integer((json_int_t)p->memory), ok);
    put(o, "weight_bytes", json_integer((json_int_t)p->count.weight_bytes), ok);
    if (p->count.held_bytes)
        put(o, "device_weight_bytes", json_integer((json_int_t)p->count.held_bytes), ok);
    put(o, "exchanged_bytes", json_integer((json_int_t)p->count.exchanged), ok);
    return o;
}

static void describe_plans(json_t *root, const request *r, const text_plan *texts, const denoiser *denoise,
                           const decoder *decode, bool *ok)
{
    json_t *o = json_object(), *list = json_array();
    put(o, "width", json_integer(r->width), ok);
    put(o, "height", json_integer(r->height), ok);
    put(o, "steps", json_integer(r->steps), ok);
    put(o, "max_sequence_length", json_integer(r->length), ok);
    json_array_append_new(list, describe_stage("CLIP", &texts->clip, ok));
    json_array_append_new(list, describe_stage("T5", &texts->t5, ok));
    json_array_append_new(list, describe_stage("denoise", &denoise->plan, ok));
    json_array_append_new(list, describe_stage("decode", &decode->plan, ok));
    put(o, "stages", list, ok);
    put(root, "request", o, ok);
}

/* Dry runs of all stages for one picture; sums are over all ranks. */
static flux1_status describe_request(flux1_context *c, const flux1_model *m, const flux1_generate_params *params,
                                     json_t *root, bool *ok)
{
    request r;
    flux1_text *text = NULL;
    text_plan texts = {0};
    denoiser denoise = {0};
    decoder decode = {0};
    flux1_status st;
    TRY(request_make(c, m, params, &r));
    TRY(text_tokenize(m, "", 0, r.length, &text, NULL, NULL, &c->error));
    TRY_CLEANUP(text_plan_make(c, m, text, &texts));
    TRY_CLEANUP(denoiser_plan(c, m, &r, 1, &denoise));
    TRY_CLEANUP(decoder_plan(c, m, &r, memory_beside(c, &c->device, (memory_need){0}), &decode));
    describe_plans(root, &r, &texts, &denoise, &decode, ok);
cleanup:
    decoder_close(&decode);
    denoiser_close(&denoise);
    text_plan_free(&texts);
    flux1_text_free(text);
    return st;
}

/* ---- verify: every weight read once ---- */

#define VERIFY_CHUNK 16384

typedef struct verify_job {
    const store *s;
    const atomic_int *cancel;
    atomic_int *bad; /* [tensors] */
} verify_job;

static void verify_tensor(void *arg, int64_t index, int worker)
{
    (void)worker;
    verify_job *job = arg;
    const tensor *t = &store_at(job->s, (size_t)index)->view;
    float chunk[VERIFY_CHUNK];
    int64_t count = tensor_elements(t);
    if (!dtype_describe(t->type)->decodes)
        return;
    for (int64_t i = 0; i < count && !atomic_load_explicit(job->cancel, memory_order_relaxed); i += VERIFY_CHUNK) {
        int64_t n = i64_min(VERIFY_CHUNK, count - i);
        if (tensor_decode(t, i, n, chunk, NULL) != FLUX1_OK)
            return;
        for (int64_t k = 0; k < n; k++)
            if (!isfinite(chunk[k])) {
                atomic_store(&job->bad[index], 1);
                return;
            }
    }
}

static flux1_status verify_store(flux1_context *c, pool *workers, const store *s)
{
    size_t count = store_count(s);
    verify_job job = {.s = s, .cancel = &c->cancel, .bad = calloc(count + 1, sizeof *job.bad)};
    flux1_status st = FLUX1_OK;
    if (!job.bad)
        return error_oom(&c->error, 0, "the check of weights");
    pool_run(workers, (int64_t)count, verify_tensor, &job);
    for (size_t i = 0; i < count; i++) {
        if (!atomic_load(&job.bad[i]))
            continue;
        const store_tensor *t = store_at(s, i);
        if (st == FLUX1_OK)
            st = error_set(&c->error, FLUX1_ERR_NUMERIC, "%s: NaN or infinity in tensor \"%s\"", t->file, t->name);
        else
            error_append(&c->error, ", \"%s\"", t->name);
    }
    free(job.bad);
    return atomic_load(&c->cancel) ? error_set(&c->error, FLUX1_ERR_CANCELLED, "cancelled") : st;
}

static flux1_status verify_model(flux1_context *c, store *const *stores)
{
    pool *workers = NULL;
    flux1_status st = pool_create(c->device.config.threads, &workers, &c->error);
    for (int p = 0; st == FLUX1_OK && p < COMPONENTS; p++)
        st = verify_store(c, workers, stores[p]);
    pool_destroy(workers);
    return st;
}

/* What can still be said of a folder that does not open: the components whose files do. */
static void describe_remains(json_t *root, const char *path, bool *ok)
{
    store *stores[COMPONENTS] = {0};
    for (int p = 0; p < COMPONENTS; p++) {
        const char *const stem[] = {p == COMPONENT_CLIP || p == COMPONENT_T5 ? "model" : "diffusion_pytorch_model",
                                    NULL};
        char *folder = path_join(path, component_folder(p));
        if (folder && store_open(folder, stem, &stores[p], NULL) != FLUX1_OK)
            stores[p] = NULL;
        free(folder);
    }
    describe_components(root, stores, ok);
    for (int p = 0; p < COMPONENTS; p++)
        store_close(stores[p]);
}

flux1_status flux1_info_json(flux1_context *c, const char *path, const flux1_generate_params *params, int verify,
                             char **json)
{
    flux1_model *m = NULL;
    bool ok = true;
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(context_needs(c, path, "path"));
    json_t *root = json_object();
    if (!root)
        return error_oom(&c->error, 0, "the description");
    put(root, "path", json_string(path), &ok);
    flux1_status st = folder_open(path, &m, &c->error);
    if (st == FLUX1_OK) {
        describe_defaults(root, m, &ok);
        describe_components(root, m->store, &ok);
        st = describe_request(c, m, params, root, &ok);
    } else if (file_is_directory(path))
        describe_remains(root, path, &ok);
    if (st == FLUX1_OK && verify) {
        st = verify_model(c, m->store);
        put(root, "verified", json_boolean(st == FLUX1_OK), &ok);
    }
    put(root, "complete", json_boolean(m != NULL), &ok);
    if (st != FLUX1_OK)
        put(root, "problem", json_string(c->error.message), &ok);
    *json = ok ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    folder_close(m);
    if (!*json && st == FLUX1_OK)
        st = error_oom(&c->error, 0, "the description");
    return st;
}

void flux1_string_free(char *text) { free(text); }
