#include "weights/adapter_read.h"

#include "base/file.h"
#include "weights/store_base.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- PEFT's configuration: in the metadata, as diffusers writes it, or beside the file, as PEFT does ---- */

#define PEFT_FILE "adapter_model.safetensors"
#define PEFT_CONFIG "adapter_config.json"

typedef struct peft {
    json_value *json; /* NULL: the file has none */
    bool beside;      /* keys without the part's name in front */
} peft;

static flux1_status peft_open_beside(const char *path, peft *out, flux1_error *err)
{
    const char *slash = strrchr(path, '/');
    const size_t folder = slash ? (size_t)(slash - path) + 1 : 0;
    if (strcmp(path + folder, PEFT_FILE) != 0)
        return FLUX1_OK;
    char *config = malloc(folder + sizeof PEFT_CONFIG);
    if (!config)
        return error_oom(err, folder + sizeof PEFT_CONFIG, "a path");
    memcpy(config, path, folder);
    memcpy(config + folder, PEFT_CONFIG, sizeof PEFT_CONFIG);
    const flux1_status st = file_exists(config) ? json_parse_file(config, &out->json, err) : FLUX1_OK;
    out->beside = true;
    free(config);
    return st;
}

static flux1_status peft_open(const adapter_file *f, peft *out, flux1_error *err)
{
    char name[600];
    const char *text = container_metadata(&f->store->file[0], "lora_adapter_metadata");
    *out = (peft){0};
    if (!text)
        return peft_open_beside(f->store->path, out, err);
    snprintf(name, sizeof name, "%s: lora_adapter_metadata", f->store->path);
    return json_parse(text, strlen(text), name, &out->json, err);
}

static const json_value *peft_value(const peft *p, model_part part, const char *key)
{
    static const char *const prefixes[MODEL_PARTS] = {
        [MODEL_CLIP] = "text_encoder.", [MODEL_T5] = "text_encoder_2.", [MODEL_TRANSFORMER] = "transformer."};
    char full[80];
    snprintf(full, sizeof full, "%s%s", prefixes[part] && !p->beside ? prefixes[part] : "", key);
    return json_object_get(p->json, full);
}

/* Of a pattern's table the value with the longest key that the layer's name in the file ends with, at a dot. */
static const json_value *peft_pattern(const json_value *patterns, const char *name, size_t length)
{
    const json_value *value, *best = NULL;
    const char *key;
    size_t longest = 0;
    for (size_t i = 0; json_is_object(patterns) && (value = json_object_at(patterns, i, &key)); i++) {
        const size_t n = strlen(key);
        if (n > length || n <= longest || memcmp(name + length - n, key, n) != 0 ||
            (n < length && name[length - n - 1] != '.'))
            continue;
        best = value;
        longest = n;
    }
    return best;
}

/* An entry's number in the configuration: by the table of patterns, or the one of all layers; *has: it has one. */
static flux1_status peft_number(const adapter_file *f, const peft *p, model_part part, const char *const keys[2],
                                const store_tensor *head, size_t base, bool *has, double *out, flux1_error *err)
{
    const json_value *value = peft_pattern(peft_value(p, part, keys[0]), head->name, base);
    if (!value)
        value = peft_value(p, part, keys[1]);
    *has = json_is_number(value);
    if (*has)
        *out = json_number_value(value);
    else if (value && !json_is_null(value))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: PEFT's configuration has a %s for \"%.*s\" that is no number",
                         f->store->path, keys[1], (int)base, head->name);
    return FLUX1_OK;
}

/* *scale stays as it is where the configuration has none. LoKr of two whole factors has its rank there alone. */
static flux1_status peft_scale(const adapter_file *f, const peft *p, model_part part, const adapter_change *c,
                               size_t base, double *scale, flux1_error *err)
{
    static const char *const lora[] = {"alpha_pattern", "lora_alpha"}, *const lycoris[] = {"alpha_pattern", "alpha"},
                             *const ranks[] = {"rank_pattern", "r"};
    const bool other = c->kind == ADAPTER_KIND_LOHA || c->kind == ADAPTER_KIND_LOKR;
    bool has_alpha, has_rank = c->rank > 0;
    double alpha = 0, rank = (double)c->rank;
    if (!json_is_object(p->json) || (c->rank == 0 && !other))
        return FLUX1_OK;
    TRY(peft_number(f, p, part, other ? lycoris : lora, c->head, base, &has_alpha, &alpha, err));
    if (!has_rank)
        TRY(peft_number(f, p, part, ranks, c->head, base, &has_rank, &rank, err));
    if (has_alpha && has_rank && rank > 0)
        *scale = alpha / (!other && json_is_true(peft_value(p, part, "use_rslora")) ? sqrt(rank) : rank);
    return FLUX1_OK;
}

/* Some ways to begin a training take the pair's first product out of the weights, which then differ from the model's.
 * (PEFT: tuners/lora/layer.py) */
static flux1_status peft_check_start(const adapter_file *f, const peft *p, flux1_error *err)
{
    static const char *const changing[] = {"pissa", "corda", "olora", "loftq"};
    for (int part = 0; part < MODEL_PARTS; part++) {
        const char *how = json_string_value(peft_value(p, (model_part)part, "init_lora_weights"));
        for (size_t i = 0; how && i < sizeof changing / sizeof *changing; i++)
            if (strncasecmp(how, changing[i], strlen(changing[i])) == 0)
                return error_set(err, FLUX1_ERR_UNSUPPORTED,
                                 "%s: it was trained on weights that PEFT had changed before (init_lora_weights is "
                                 "\"%.40s\"), and the model's are others; save it again with save_pretrained's "
                                 "path_initial_model_for_weight_conversion, which makes a plain LoRA of it",
                                 f->store->path, how);
    }
    return FLUX1_OK;
}

/* ---- terms ---- */

void adapter_add_stray(adapter_file *f, const char *name)
{
    const size_t used = strlen(f->strays);
    if (f->stray_count++ < ADAPTER_STRAYS_NAMED)
        snprintf(f->strays + used, sizeof f->strays - used, "%s%s", used ? ", " : "", name);
}

/* One number, of whatever type: trainers write alphas as whole numbers too. */
static bool read_one(const tensor *t, float *out)
{
    static const dtype whole[] = {DTYPE_I64, DTYPE_I32, DTYPE_I16, DTYPE_I8};
    const size_t bytes = (size_t)dtype_describe(t->type)->block_bytes;
    const unsigned char *byte = t->data;
    if (tensor_elements(t) != 1)
        return false;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        if (t->type != whole[i])
            continue;
        uint64_t n = byte[bytes - 1] & 0x80 ? UINT64_MAX : 0;
        for (size_t k = bytes; k-- > 0;)
            n = n << 8 | byte[k];
        *out = (float)(int64_t)n;
        return true;
    }
    return tensor_decodes(t) && tensor_decode(t, 0, 1, out, NULL) == FLUX1_OK;
}

static flux1_status read_alpha(const adapter_file *f, const char *base, size_t length, int64_t rank, double *scale,
                               flux1_error *err)
{
    char name[NAME_BYTES_MAX + 8];
    float alpha;
    snprintf(name, sizeof name, "%.*s.alpha", (int)length, base);
    const store_tensor *t = store_find(f->store, name);
    if (!t)
        return FLUX1_OK;
    if (!read_one(&t->view, &alpha))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" should be one number", t->file, name);
    if (!isfinite(alpha))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" is NaN or infinite; fetch the file again", t->file,
                         name);
    *scale = (double)alpha / (double)rank;
    return FLUX1_OK;
}

/* Rows [first, first + count) of a tensor of single elements. */
static store_tensor some_rows(const store_tensor *t, int64_t first, int64_t count)
{
    store_tensor out = *t;
    const size_t skip = (size_t)(first * t->view.shape[1]) * (size_t)dtype_describe(t->view.type)->block_bytes;
    out.view.data = (unsigned char *)t->view.data + skip;
    out.view.shape[0] = count;
    out.offset += skip;
    return out;
}

/* What runs beside the layer: the pair, and its rows of `up`. */
static void take_pair(adapter_term *t, const adapter_change *c)
{
    t->down = c->x.b;
    t->scale = c->scale;
    t->up = some_rows(c->x.a, t->first, t->rows);
    if (t->swapped) {
        t->half[0] = some_rows(c->x.a, t->first + t->rows / 2, t->rows / 2);
        t->half[1] = some_rows(c->x.a, t->first, t->rows / 2);
    }
}

static flux1_status add_term(adapter_file *f, const adapter_change *c, const adapter_targets *to, int i,
                             flux1_error *err)
{
    const name_row *row = to->row[i];
    const bool swapped = row && row->form == NAME_SWAPPED;
    const int equal = row && row->of > 1 ? row->of : swapped ? 2 : 1;
    if (c->rows % equal)
        return error_set(err, FLUX1_ERR_MODEL,
                         "%s: tensor \"%s\" is for %" PRId64 " rows; they should be %d equal parts", c->head->file,
                         c->head->name, c->rows, equal);
    TRY(grow((void **)&f->term, &f->room, f->count, sizeof *f->term, err));
    adapter_term *t = &f->term[f->count];
    *t = (adapter_term){.part = to->part,
                        .order = to->order,
                        .place = c->of_bias                 ? ADAPTER_BIAS
                                 : adapter_change_beside(c) ? ADAPTER_BESIDE
                                                            : ADAPTER_WEIGHT,
                        .change = f->changes - 1,
                        .first = row ? c->rows / row->of * row->first : 0,
                        .rows = row ? c->rows / row->of * row->count : c->rows,
                        .swapped = swapped};
    if (t->place == ADAPTER_BESIDE)
        take_pair(t, c);
    if (!(t->target = strdup(to->name[i])))
        return error_oom(err, 0, "a LoRA's layers");
    f->count++;
    return FLUX1_OK;
}

static flux1_status add_change(adapter_file *f, const adapter_change *c, const adapter_targets *to, flux1_error *err)
{
    TRY(grow((void **)&f->change, &f->change_room, f->changes, sizeof *f->change, err));
    f->change[f->changes++] = *c;
    for (int i = 0; i < to->count; i++)
        TRY(add_term(f, c, to, i, err));
    return FLUX1_OK;
}

/* The bias of a pair is an entry for the layer's bias, with the pair's scale. */
static flux1_status add_bias(adapter_file *f, const adapter_change *c, const adapter_targets *to, flux1_error *err)
{
    adapter_change bias = {.head = c->bias,
                           .kind = c->kind,
                           .x = {.a = c->bias, .rows = c->rows, .cols = 1},
                           .rows = c->rows,
                           .cols = 1,
                           .scale = c->scale,
                           .of_bias = true};
    return c->bias ? add_change(f, &bias, to, err) : FLUX1_OK;
}

static flux1_status add_entry(adapter_file *f, adapter_change *c, const adapter_key *key, const peft *p,
                              flux1_error *err)
{
    adapter_targets to;
    double scale = 1;
    f->pairs++;
    adapter_targets_find(c->head->name, key->base, &to);
    if (to.count == 0) {
        adapter_add_stray(f, c->head->name);
        return FLUX1_OK;
    }
    TRY(peft_scale(f, p, to.part, c, key->base, &scale, err));
    if (c->rank)
        TRY(read_alpha(f, c->head->name, key->base, c->rank, &scale, err));
    c->scale = (float)scale;
    if (!isfinite(c->scale))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the alpha of \"%.*s\" makes no finite factor", f->store->path,
                         (int)key->base, c->head->name);
    TRY(add_change(f, c, &to, err));
    return add_bias(f, c, &to, err);
}

flux1_status adapter_refuse_control(const char *path, flux1_error *err)
{
    return error_set(err, FLUX1_ERR_UNSUPPORTED,
                     "%s: a control LoRA (canny or depth), which needs a control picture; flux1 takes none yet", path);
}

static bool is_control(const store *s)
{
    static const char *const signs[][2] = {
        {"img_in.lora_A.weight", "single_blocks.0.norm.key_norm.scale"},
        {"diffusion_model.img_in.lora_A.weight", "diffusion_model.single_blocks.0.norm.key_norm.set_weight"},
        {"diffusion_model.img_in.lora_A.weight", "diffusion_model.single_blocks.0.norm.key_norm.scale.set_weight"},
        {"diffusion_model.img_in.lora_down.weight", "diffusion_model.img_in.reshape_weight"},
        {"diffusion_model.img_in.lora_up.weight", "diffusion_model.single_blocks.0.norm.key_norm.scale.set_weight"}};
    bool found = false;
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        found = found || (store_find(s, signs[i][0]) && store_find(s, signs[i][1]));
    return found;
}

static flux1_status add_all(adapter_file *f, const peft *p, flux1_error *err)
{
    const store *s = f->store;
    for (size_t i = 0; i < store_count(s); i++) {
        const store_tensor *t = store_at(s, i);
        const adapter_key key = adapter_key_read(t->name);
        adapter_change c;
        bool leads;
        if (key.role == ADAPTER_OTHER)
            return error_set(err, FLUX1_ERR_UNSUPPORTED,
                             "%s: it has %s (tensor \"%s\"); flux1 applies LoRA, DoRA, LoHa, LoKr, and differences of "
                             "weights, biases and norms",
                             s->path, key.kind, t->name);
        TRY(adapter_change_read(s, t, &key, &leads, &c, err));
        if (leads)
            TRY(add_entry(f, &c, &key, p, err));
        else if (key.role == ADAPTER_NONE || (key.role == ADAPTER_ALPHA && !adapter_change_led(s, t->name, key.base)))
            adapter_add_stray(f, t->name);
    }
    return FLUX1_OK;
}

flux1_status adapter_read(adapter_file *f, flux1_error *err)
{
    peft p;
    if (is_control(f->store))
        return adapter_refuse_control(f->store->path, err);
    TRY(peft_open(f, &p, err));
    flux1_status st = peft_check_start(f, &p, err);
    if (st == FLUX1_OK)
        st = add_all(f, &p, err);
    json_free(p.json);
    return st;
}
