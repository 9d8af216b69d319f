#include "pipeline/folder.h"

#include "base/builder.h"
#include "base/file.h"
#include "flux1.h"
#include "pipeline/content.h"
#include "pipeline/parts.h"
#include "pipeline/stages.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether the folder's `name` is named elsewhere. */
static bool comes_from_elsewhere(const model_paths *paths, const char *name)
{
    for (int c = 0; c < COMPONENTS; c++)
        if (strncmp(name, component_folder(c), strlen(component_folder(c))) == 0 &&
            name[strlen(component_folder(c))] == '/')
            return paths->part[c];
    return paths->tokenizers && strncmp(name, "tokenizer", strlen("tokenizer")) == 0;
}

/* Everything that a pipeline folder must have, so that what is missing can be said at once. */
static flux1_status check_folder(const model_paths *paths, flux1_error *err)
{
    static const char *const needed[] = {"model_index.json",
                                         "scheduler/scheduler_config.json",
                                         "tokenizer",
                                         "tokenizer_2",
                                         "text_encoder/config.json",
                                         "text_encoder_2/config.json",
                                         "transformer/config.json",
                                         "vae/config.json"};
    const char *path = paths->model;
    char missing[512] = "";
    size_t used = 0;
    int count = 0;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (comes_from_elsewhere(paths, needed[i]))
            continue;
        char *full = path_join(path, needed[i]);
        if (!full)
            return error_oom(err, 0, "a path");
        bool there;
        const flux1_status st = file_find(full, &there, err);
        free(full);
        TRY(st);
        if (i == 0 && there) /* another pipeline lacks other parts: that it is one comes first */
            TRY(parts_check_class(path, err));
        if (!there) {
            used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%s", count ? ", " : "", needed[i]);
            count++;
        }
    }
    if (count)
        return error_set(err, FLUX1_ERR_MODEL, "%s: not a complete FLUX.1 pipeline folder: %s %s missing", path,
                         missing, count > 1 ? "are" : "is");
    return FLUX1_OK;
}

static flux1_status agree(const char *path, const char *a, int64_t x, const char *b, int64_t y, flux1_error *err)
{
    if (x == y)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_MODEL, "%s: the parts do not fit together: %s is %lld, %s is %lld", path, a,
                     (long long)x, b, (long long)y);
}

static flux1_status check_agreement(const struct flux1_model *m, flux1_error *err)
{
    TRY(agree(m->path, "text_encoder hidden_size", m->clip.hidden, "transformer pooled_projection_dim",
              m->dit.pooled_dim, err));
    TRY(agree(m->path, "text_encoder_2 d_model", m->t5.d_model, "transformer joint_attention_dim", m->dit.joint_dim,
              err));
    return agree(m->path, "4 × vae latent_channels", 4 * m->vae.latent_channels, "transformer in_channels",
                 m->dit.in_channels, err);
}

static flux1_status check_vocabulary(const char *path, const char *tokenizer, int64_t entries, int64_t table,
                                     flux1_error *err)
{
    if (entries <= table)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_MODEL, "%s: the %s has %lld entries, its text encoder's embedding table only %lld",
                     path, tokenizer, (long long)entries, (long long)table);
}

/* The compiled-in tokenizer belongs to text encoders of FLUX.1's size; a few spare rows (T5 has 28) are no other
 * vocabulary. */
static flux1_status check_builtin(const char *path, const char *encoder, int64_t entries, int64_t table,
                                  flux1_error *err)
{
    enum { SPARE = 1024 };
    if (entries <= table && table <= entries + SPARE)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_MODEL,
                     "%s: no tokenizers are named, and the built-in one for %s has %lld entries, the embedding table "
                     "%lld: this text encoder needs its own; name the folder with its tokenizer and "
                     "tokenizer_2",
                     path, encoder, (long long)entries, (long long)table);
}

static flux1_status check_tokenizers(const struct flux1_model *m, flux1_error *err)
{
    if (!m->tokenizers) {
        TRY(check_builtin(m->path, "CLIP", clip_tokenizer_vocabulary(m->clip_tokens), m->clip.vocab, err));
        TRY(check_builtin(m->path, "T5", t5_tokenizer_vocabulary(m->t5_tokens), m->t5.vocab, err));
    }
    TRY(check_vocabulary(m->path, "tokenizer", clip_tokenizer_vocabulary(m->clip_tokens), m->clip.vocab, err));
    TRY(check_vocabulary(m->path, "tokenizer_2", t5_tokenizer_vocabulary(m->t5_tokens), m->t5.vocab, err));
    if (clip_tokenizer_length(m->clip_tokens) > m->clip.positions)
        return error_set(err, FLUX1_ERR_MODEL,
                         "%s: the tokenizer's model_max_length is %d, but text_encoder has only %lld positions",
                         m->path, clip_tokenizer_length(m->clip_tokens), (long long)m->clip.positions);
    return FLUX1_OK;
}

const char *const folder_twins[] = {"*position_ids", "encoder.embed_tokens.weight", "shared.weight", NULL};

/* What no stage asks for (decoders, towers, projections, stray keys): diffusers ignores it, so do we, but not silently.
 */
static flux1_status note_unused(struct flux1_model *m, flux1_error *err)
{
    flux1_error unused;
    builder note = {0};
    for (int c = 0; c < COMPONENTS; c++)
        if (store_check(m->store[c], true, folder_twins, &unused) != FLUX1_OK)
            builder_format(&note, "%s%s", note.length ? "; " : "ignored: ", unused.message);
    return note.length || note.failed ? builder_take(&note, "a note", &m->unused, err) : FLUX1_OK;
}

/* Builds every model once on the dry backend, so that each claims its tensors, and puts all faults into one message. */
static flux1_status check_tensors(struct flux1_model *m, flux1_error *err)
{
    flux1_error one, all = {0};
    TRY(stage_claim_all(m, err));
    for (int c = 0; c < COMPONENTS; c++) {
        if (store_check(m->store[c], false, NULL, NULL) == FLUX1_OK)
            continue;
        store_check(m->store[c], true, folder_twins, &one);
        if (all.status == FLUX1_OK)
            all = one;
        else
            error_append(&all, "; %s", one.message);
    }
    return all.status == FLUX1_OK ? note_unused(m, err) : error_set(err, all.status, "%s", all.message);
}

int folder_default_length(int tokenizer_length, bool guidance)
{
    int most = guidance ? T5_LENGTH_MAX : 256;
    return tokenizer_length < most ? tokenizer_length : most;
}

static void set_lengths(struct flux1_model *m)
{
    m->clip_length = m->clip_tokens ? clip_tokenizer_length(m->clip_tokens) : (int)m->clip.positions;
    m->t5_length_max = T5_LENGTH_MAX;
    m->t5_length =
        folder_default_length(m->t5_tokens ? t5_tokenizer_length(m->t5_tokens) : T5_LENGTH_MAX, m->dit.guidance);
}

flux1_status folder_open_tokenizers(const char *path, clip_tokenizer **clip_out, t5_tokenizer **t5_out,
                                    flux1_error *err)
{
    char *folder = path ? path_join(path, "tokenizer") : NULL, *folder_2 = path ? path_join(path, "tokenizer_2") : NULL;
    flux1_status st = !path || (folder && folder_2) ? FLUX1_OK : error_oom(err, 0, "a path");
    if (st == FLUX1_OK)
        st = clip_tokenizer_open(folder, clip_out, err);
    if (st == FLUX1_OK)
        st = t5_tokenizer_open(folder_2, t5_out, err);
    free(folder);
    free(folder_2);
    return st;
}

static atomic_ullong last_number;

uint64_t folder_last_number(void) { return atomic_load(&last_number); }

/* A model whose address may be another one's later is told apart by its number. */
static struct flux1_model *new_model(const char *path)
{
    struct flux1_model *m = calloc(1, sizeof *m);
    if (m)
        m->projection = projection_place_create();
    if (!m || !m->projection || !(m->path = strdup(path))) {
        folder_close(m);
        return NULL;
    }
    for (size_t n = strlen(m->path); n > 1 && m->path[n - 1] == '/'; n--)
        m->path[n - 1] = '\0';
    m->source.number = atomic_fetch_add(&last_number, 1) + 1;
    return m;
}

static uint64_t mix(uint64_t sum, const void *bytes, size_t size) /* FNV-1a */
{
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3ull;
    return sum;
}

/* Every tensor's name and shape, and of the configs what these do not show. */
static uint64_t sum_of_sizes(const struct flux1_model *m)
{
    uint64_t sum = 0xcbf29ce484222325ull;
    const int64_t heads[] = {m->clip.heads, m->t5.heads, m->dit.heads, m->vae.groups, (int64_t)m->dit.axis_count};
    const double reals[] = {m->clip.eps, m->t5.eps, m->vae.scaling, m->vae.shift};
    for (int c = 0; c < COMPONENTS; c++)
        for (size_t i = 0; i < store_count(m->store[c]); i++) {
            const store_tensor *t = store_at(m->store[c], i);
            sum = mix(sum, t->name, strlen(t->name) + 1);
            sum = mix(sum, t->view.shape, (size_t)t->view.dims * sizeof t->view.shape[0]);
        }
    sum = mix(sum, heads, sizeof heads);
    sum = mix(sum, m->dit.axes, m->dit.axis_count * sizeof m->dit.axes[0]);
    return mix(sum, reals, sizeof reals);
}

/* The first path that is named, for messages. */
static const char *name_of(const model_paths *paths)
{
    const char *name = paths->model ? paths->model : paths->part[COMPONENT_DIT];
    for (int c = 0; !name && c < COMPONENTS; c++)
        name = paths->part[c];
    return name ? name : "model";
}

static flux1_status keep_path(const char *path, char *out, flux1_error *err)
{
    const size_t size = path ? strlen(path) + 1 : 0;
    if (size > FOLDER_PATH_MAX)
        return error_set(err, FLUX1_ERR_LIMIT, "%s: a path of more than %d bytes", path, FOLDER_PATH_MAX - 1);
    memcpy(out, path ? path : "", size);
    return FLUX1_OK;
}

static flux1_status keep_paths(struct flux1_model *m, const model_paths *paths, flux1_error *err)
{
    TRY(keep_path(paths->model, m->source.model, err));
    for (int c = 0; c < COMPONENTS; c++)
        TRY(keep_path(paths->part[c], m->source.part[c], err));
    snprintf(m->source.variant, sizeof m->source.variant, "%s", paths->variant ? paths->variant : "");
    return keep_path(paths->tokenizers, m->source.tokenizers, err);
}

flux1_status folder_open_parts(const model_paths *paths, struct flux1_model **out, flux1_error *err)
{
    flux1_status st;
    parts from = {0};
    bool there = true;
    if (paths->model)
        TRY(file_find(paths->model, &there, err));
    if (!there)
        return error_set(err, FLUX1_ERR_MODEL,
                         "%s: no such file or folder; a model is a FLUX.1 pipeline folder as Hugging Face lays it "
                         "out, or a file of weights",
                         paths->model);
    if (paths->model && file_is_directory(paths->model))
        TRY(check_folder(paths, err));
    struct flux1_model *m = new_model(name_of(paths));
    if (!m)
        return error_oom(err, 0, "the model");
    if (paths->name && !(m->name = strdup(paths->name)))
        TRY_CLEANUP(error_oom(err, 0, "the model"));
    if (paths->model && file_is_directory(paths->model))
        TRY_CLEANUP(trained_read(paths->model, &m->trained, err));
    TRY_CLEANUP(parts_find(paths, &from, err));
    TRY_CLEANUP(parts_read_sizes(&from, m, err));
    TRY_CLEANUP(check_agreement(m, err));
    TRY_CLEANUP(folder_open_tokenizers(from.tokenizers, &m->clip_tokens, &m->t5_tokens, err));
    if (from.tokenizers && !(m->tokenizers = strdup(from.tokenizers)))
        TRY_CLEANUP(error_oom(err, 0, "a path"));
    TRY_CLEANUP(check_tokenizers(m, err));
    set_lengths(m);
    st = parts_open_folders(&from, m, err);
    if (st == FLUX1_OK)
        st = check_tensors(m, err);
    if (st == FLUX1_ERR_MODEL || st == FLUX1_ERR_FORMAT || st == FLUX1_ERR_UNSUPPORTED)
        st = parts_name_quantised(&from, m, err);
    TRY_CLEANUP(st);
    m->source.sizes = sum_of_sizes(m);
    TRY_CLEANUP(keep_paths(m, paths, err));
    *out = m;
    parts_free(&from);
    return FLUX1_OK;
cleanup:
    parts_free(&from);
    folder_close(m);
    return st;
}

flux1_status folder_check_files(const struct flux1_model *m, component c, flux1_error *err)
{
    return store_check_files(m->store[c], err);
}

const char *folder_name(const struct flux1_model *m)
{
    const char *slash = strrchr(m->path, '/'); /* there is none at its end */
    return m->name ? m->name : slash && slash[1] ? slash + 1 : m->path;
}

void folder_close(struct flux1_model *m)
{
    if (!m)
        return;
    for (int c = 0; c < COMPONENTS; c++)
        store_close(m->store[c]);
    clip_tokenizer_close(m->clip_tokens);
    t5_tokenizer_close(m->t5_tokens);
    projection_place_free(m->projection);
    free(m->tokenizers);
    free(m->unused);
    free(m->path);
    free(m->name);
    free(m);
}

/* The real configs of both models differ in two things. */
static void true_size(struct flux1_model *m, bool dev)
{
    m->clip = (clip_config){.vocab = 49408,
                            .positions = 77,
                            .hidden = 768,
                            .layers = 12,
                            .heads = 12,
                            .mlp = 3072,
                            .eos = 2,
                            .act = ACTIVATION_QUICK_GELU,
                            .eps = 1e-5};
    m->t5 = (t5_config){.vocab = 32128,
                        .d_model = 4096,
                        .d_kv = 64,
                        .d_ff = 10240,
                        .layers = 24,
                        .heads = 64,
                        .buckets = 32,
                        .max_distance = 128,
                        .eps = 1e-6};
    m->dit = (dit_config){.in_channels = 64,
                          .out_channels = 64,
                          .layers = 19,
                          .single_layers = 38,
                          .head_dim = 128,
                          .heads = 24,
                          .joint_dim = 4096,
                          .pooled_dim = 768,
                          .axes = {16, 56, 56},
                          .axis_count = 3,
                          .guidance = dev};
    m->vae = (vae_config){.in_channels = 3,
                          .out_channels = 3,
                          .latent_channels = 16,
                          .layers = 2,
                          .groups = 32,
                          .levels = 4,
                          .channels = {128, 256, 512, 512},
                          .sample_size = 1024,
                          .scaling = 0.3611,
                          .shift = 0.1159,
                          .mid_attention = true};
    m->scheduler = parts_scheduler(dev);
}

flux1_status folder_synthetic(const char *variant, dtype weights, bool with_data, struct flux1_model **out,
                              flux1_error *err)
{
    flux1_status st = FLUX1_OK;
    bool dev = strcmp(variant, "dev") == 0;
    if (!dev && strcmp(variant, "schnell") != 0)
        return error_set(err, FLUX1_ERR_ARGUMENT, "variant \"%s\": it should be schnell or dev", variant);
    struct flux1_model *m = new_model(variant);
    if (!m)
        return error_oom(err, 0, "the model");
    m->source.synthetic = true;
    m->source.weights = weights;
    snprintf(m->source.model, sizeof m->source.model, "%s", variant);
    true_size(m, dev);
    set_lengths(m);
    for (int c = 0; c < COMPONENTS; c++)
        TRY_CLEANUP(store_synthetic(weights, with_data, &m->store[c], err));
    TRY_CLEANUP(check_tensors(m, err));
    *out = m;
    return FLUX1_OK;
cleanup:
    folder_close(m);
    return st;
}

static const char *named(const char *path) { return path[0] ? path : NULL; }

flux1_status folder_open_source(const model_source *source, uint64_t content, struct flux1_model **out,
                                flux1_error *err)
{
    model_paths paths = {
        .model = named(source->model), .tokenizers = named(source->tokenizers), .variant = named(source->variant)};
    for (int c = 0; c < COMPONENTS; c++)
        paths.part[c] = named(source->part[c]);
    TRY(source->synthetic ? folder_synthetic(source->model, source->weights, true, out, err)
                          : folder_open_parts(&paths, out, err));
    if ((*out)->source.sizes == source->sizes && (!content || content_of(*out) == content))
        return FLUX1_OK;
    folder_close(*out);
    *out = NULL;
    return error_set(err, FLUX1_ERR_MODEL,
                     "%s: this model is not the one that the leading process has under that name; copy it to all hosts",
                     name_of(&paths));
}
