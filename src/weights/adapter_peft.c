#include "weights/adapter_peft.h"

#include "base/file.h"
#include "base/json.h"
#include "base/pattern.h"
#include "weights/store_base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PEFT_FILE "adapter_model.safetensors"
#define PEFT_CONFIG "adapter_config.json"
#define WRAPPER "base_model.model." /* PEFT's, in front of the names of the model that it wraps */

/* Values by patterns of names. */
typedef struct table {
    const json_value *json;
    pattern **pattern; /* of each key; NULL until one was asked for */
} table;

enum { RANKS, ALPHAS, TABLES };

struct adapter_peft {
    const char *path; /* of the file of weights */
    json_value *json;
    bool bare; /* keys without the part's name in front */
    table table[MODEL_PARTS][TABLES];
};

/* ---- the configuration ---- */

static const char *const part_prefixes[MODEL_PARTS] = {
    [MODEL_CLIP] = "text_encoder.", [MODEL_T5] = "text_encoder_2.", [MODEL_TRANSFORMER] = "transformer."};

static const json_value *value_of(const adapter_peft *p, model_part part, const char *key)
{
    char full[80];
    snprintf(full, sizeof full, "%s%s", part_prefixes[part] && !p->bare ? part_prefixes[part] : "", key);
    return json_object_get(p->json, full);
}

static flux1_status open_beside(adapter_peft *p, flux1_error *err)
{
    const char *slash = strrchr(p->path, '/');
    const size_t folder = slash ? (size_t)(slash - p->path) + 1 : 0;
    if (strcmp(p->path + folder, PEFT_FILE) != 0)
        return FLUX1_OK;
    char *config = malloc(folder + sizeof PEFT_CONFIG);
    if (!config)
        return error_oom(err, folder + sizeof PEFT_CONFIG, "a path");
    memcpy(config, p->path, folder);
    memcpy(config + folder, PEFT_CONFIG, sizeof PEFT_CONFIG);
    const flux1_status st = file_exists(config) ? json_parse_file(config, &p->json, err) : FLUX1_OK;
    p->bare = true;
    free(config);
    return st;
}

/* A pipeline's writer puts the part's name in front of each key; a transformer's own, save_lora_adapter, does not. */
static bool is_bare(const json_value *json)
{
    const char *key;
    for (size_t i = 0; json_object_at(json, i, &key); i++)
        for (int part = 0; part < MODEL_PARTS; part++)
            if (part_prefixes[part] && strncmp(key, part_prefixes[part], strlen(part_prefixes[part])) == 0)
                return false;
    return true;
}

static flux1_status open_json(const store *s, adapter_peft *p, flux1_error *err)
{
    char name[600];
    const char *text = container_metadata(&s->file[0], "lora_adapter_metadata");
    if (!text)
        return open_beside(p, err);
    snprintf(name, sizeof name, "%s: lora_adapter_metadata", p->path);
    TRY(json_parse(text, strlen(text), name, &p->json, err));
    p->bare = is_bare(p->json);
    return FLUX1_OK;
}

/* Some ways to begin a training take the pair's first product out of the weights, which then differ from the model's.
 * (PEFT: tuners/lora/layer.py) */
static flux1_status check_start(const adapter_peft *p, model_part part, flux1_error *err)
{
    static const char *const changing[] = {"pissa", "corda", "olora", "lora_ga", "loftq"};
    const char *how = json_string_value(value_of(p, part, "init_lora_weights"));
    for (size_t i = 0; how && i < sizeof changing / sizeof *changing; i++)
        if (strncasecmp(how, changing[i], strlen(changing[i])) == 0)
            return error_set(err, FLUX1_ERR_UNSUPPORTED,
                             "%s: it was trained on weights that PEFT had changed before (init_lora_weights is "
                             "\"%.40s\"), and the model's are others; save it again with save_pretrained's "
                             "path_initial_model_for_weight_conversion, which makes a plain LoRA of it",
                             p->path, how);
    return FLUX1_OK;
}

static flux1_status check_kind(const adapter_peft *p, model_part part, flux1_error *err)
{
    static const char *const applied[] = {"LORA", "LOHA", "LOKR", "OFT", "BOFT", "IA3"};
    const char *kind = json_string_value(value_of(p, part, "peft_type"));
    for (size_t i = 0; kind && i < sizeof applied / sizeof *applied; i++)
        if (strcmp(kind, applied[i]) == 0)
            kind = NULL;
    return !kind ? FLUX1_OK
                 : error_set(err, FLUX1_ERR_UNSUPPORTED,
                             "%s: it has PEFT's %.40s, and of its kinds flux1 applies LoRA, LoHa, LoKr, OFT, BOFT and "
                             "(IA)^3; merge it with merge_and_unload, and open the merged model",
                             p->path, kind);
}

flux1_status adapter_peft_open(const store *s, adapter_peft **out, flux1_error *err)
{
    adapter_peft *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p)
        return error_oom(err, sizeof *p, "an adapter's configuration");
    p->path = s->path;
    flux1_status st = open_json(s, p, err);
    for (int part = 0; st == FLUX1_OK && part < MODEL_PARTS; part++) {
        st = check_kind(p, (model_part)part, err);
        if (st == FLUX1_OK)
            st = check_start(p, (model_part)part, err);
        p->table[part][RANKS].json = value_of(p, (model_part)part, "rank_pattern");
        p->table[part][ALPHAS].json = value_of(p, (model_part)part, "alpha_pattern");
    }
    if (st == FLUX1_OK && json_is_object(p->json))
        *out = p;
    else
        adapter_peft_close(p);
    return st;
}

static void free_patterns(table *t)
{
    for (size_t i = 0; t->pattern && i < json_object_size(t->json); i++)
        pattern_free(t->pattern[i]);
    free(t->pattern);
    t->pattern = NULL;
}

void adapter_peft_close(adapter_peft *p)
{
    if (!p)
        return;
    for (int part = 0; part < MODEL_PARTS; part++)
        for (int i = 0; i < TABLES; i++)
            free_patterns(&p->table[part][i]);
    json_free(p->json);
    free(p);
}

/* ---- patterns ---- */

static flux1_status compile(const adapter_peft *p, table *t, flux1_error *err)
{
    const char *key;
    if (!(t->pattern = calloc(json_object_size(t->json) + 1, sizeof *t->pattern)))
        return error_oom(err, 0, "an adapter's configuration");
    for (size_t i = 0; json_object_at(t->json, i, &key); i++)
        if (pattern_compile(key, &t->pattern[i], err) != FLUX1_OK)
            return error_prefix(err, "%s: PEFT's rank_pattern or alpha_pattern", p->path);
    return FLUX1_OK;
}

/* The name that PEFT has for the entry's layer: without what it, and diffusers, put in front of it. */
static void layer_name(const adapter_peft *p, model_part part, const char *name, size_t length,
                       char out[2 * NAME_BYTES_MAX])
{
    const char *const before[] = {WRAPPER, p->bare ? NULL : part_prefixes[part]};
    for (int i = 0; i < 2; i++) {
        const size_t n = before[i] ? strlen(before[i]) : 0;
        if (n && n < length && memcmp(name, before[i], n) == 0)
            name += n, length -= n;
    }
    snprintf(out, 2 * NAME_BYTES_MAX, "%.*s", (int)length, name);
}

static flux1_status find_value(const adapter_peft *p, table *t, const char *name, const json_value **out,
                               flux1_error *err)
{
    const json_value *value;
    const char *key;
    *out = NULL;
    if (!json_is_object(t->json))
        return FLUX1_OK;
    if (!t->pattern)
        TRY(compile(p, t, err));
    for (size_t i = 0; !*out && (value = json_object_at(t->json, i, &key)); i++)
        if (pattern_matches(t->pattern[i], name))
            *out = value;
    return FLUX1_OK;
}

/* An entry's number in the configuration: by the table of patterns, or the one of all layers; *has: it has one. */
static flux1_status find_number(adapter_peft *p, model_part part, int which, const char *key, const adapter_change *c,
                                size_t base, bool *has, double *out, flux1_error *err)
{
    char name[2 * NAME_BYTES_MAX];
    const json_value *value;
    layer_name(p, part, c->head->name, base, name);
    TRY(find_value(p, &p->table[part][which], name, &value, err));
    if (!value)
        value = value_of(p, part, key);
    *has = json_is_number(value);
    if (*has)
        *out = json_number_value(value);
    else if (value && !json_is_null(value))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: PEFT's configuration has a %s for \"%.*s\" that is no number",
                         p->path, key, (int)base, c->head->name);
    return FLUX1_OK;
}

/* ---- kinds ---- */

/* LoKr of two whole factors has its rank in the configuration alone. */
static flux1_status apply_scale(adapter_peft *p, model_part part, size_t base, const adapter_change *c, double *scale,
                                flux1_error *err)
{
    const bool other = c->kind == ADAPTER_KIND_LOHA || c->kind == ADAPTER_KIND_LOKR;
    bool has_alpha, has_rank = c->rank > 0;
    double alpha = 0, rank = (double)c->rank;
    if (c->rank == 0 && !other)
        return FLUX1_OK;
    TRY(find_number(p, part, ALPHAS, other ? "alpha" : "lora_alpha", c, base, &has_alpha, &alpha, err));
    if (!has_rank)
        TRY(find_number(p, part, RANKS, "r", c, base, &has_rank, &rank, err));
    if (has_alpha && has_rank && rank > 0)
        *scale = alpha / (!other && json_is_true(value_of(p, part, "use_rslora")) ? sqrt(rank) : rank);
    return FLUX1_OK;
}

/* The series or the inverse, and COFT's limit of each block: eps / √blocks. (PEFT: tuners/oft/layer.py) */
static flux1_status apply_rotation(const adapter_peft *p, model_part part, adapter_rotation_form *f, flux1_error *err)
{
    const json_value *terms = value_of(p, part, "num_cayley_neumann_terms"), *eps = value_of(p, part, "eps"),
                     *series = value_of(p, part, "use_cayley_neumann");
    if (json_is(series, JSON_FALSE)) {
        f->terms = 0;
        f->skew = -f->skew;
    } else if (json_is_integer(terms)) {
        const int64_t n = json_integer_value(terms);
        if (n < 1 || n > ADAPTER_TERMS_MAX)
            return error_set(err, FLUX1_ERR_FORMAT,
                             "%s: PEFT's configuration has num_cayley_neumann_terms %lld; it should be 1 to %d",
                             p->path, (long long)n, ADAPTER_TERMS_MAX);
        f->terms = (int)n;
    }
    if (!json_is_true(value_of(p, part, "coft")))
        return FLUX1_OK;
    f->each = true;
    f->limit = (json_is_number(eps) ? json_number_value(eps) : 6e-5) / sqrt((double)f->blocks);
    return f->limit >= 0 && isfinite(f->limit)
               ? FLUX1_OK
               : error_set(err, FLUX1_ERR_FORMAT, "%s: PEFT's configuration has an eps that is no limit", p->path);
}

flux1_status adapter_peft_apply(adapter_peft *p, model_part part, size_t base, adapter_change *c, double *scale,
                                flux1_error *err)
{
    if (!p)
        return FLUX1_OK;
    return c->rotation.triangle ? apply_rotation(p, part, &c->rotation, err)
                                : apply_scale(p, part, base, c, scale, err);
}
