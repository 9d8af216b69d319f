#include "weights/adapter_read.h"

#include "weights/adapter_peft.h"
#include "weights/store_base.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- terms ---- */

void adapter_add_stray(adapter_file *f, const char *name)
{
    const size_t used = strlen(f->strays);
    if (f->stray_count++ < ADAPTER_STRAYS_NAMED)
        snprintf(f->strays + used, sizeof f->strays - used, "%s%s", used ? ", " : "", name);
}

static flux1_status read_alpha(const adapter_file *f, const char *base, size_t length, bool *has, double *out,
                               flux1_error *err)
{
    char name[NAME_BYTES_MAX + 8];
    float alpha;
    snprintf(name, sizeof name, "%.*s.alpha", (int)length, base);
    const store_tensor *t = store_find(f->store, name);
    *has = t != NULL;
    if (!t)
        return FLUX1_OK;
    if (!adapter_number(&t->view, &alpha))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" should be one number", t->file, name);
    if (!isfinite(alpha))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" is NaN or infinite; fetch the file again", t->file,
                         name);
    *out = (double)alpha;
    return FLUX1_OK;
}

/* The alpha of a pair is divided by its rank. OFT's, of LyCORIS and kohya, is a limit for each of the rows that are
 * rotated; 0 is none in LyCORIS. */
static flux1_status apply_alpha(const adapter_file *f, size_t base, adapter_change *c, double *scale, flux1_error *err)
{
    bool has;
    double alpha = 0;
    if (!c->rank && !c->rotation.of_rows)
        return FLUX1_OK;
    TRY(read_alpha(f, c->head->name, base, &has, &alpha, err));
    if (!has)
        return FLUX1_OK;
    if (c->rank) {
        *scale = alpha / (double)c->rank;
        return FLUX1_OK;
    }
    if (alpha < 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: the alpha of \"%.*s\" is negative; of OFT it is a limit",
                         f->store->path, (int)base, c->head->name);
    const bool limited = alpha > 0 || adapter_key_read(c->head->name).role == ADAPTER_OFT_PARTS;
    c->rotation.limit = limited ? alpha * (double)c->rows : -1;
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

/* The bias of a pair is an entry for the layer's bias, with the pair's scale. PEFT's (IA)^3 scales outputs, so the bias
 * too. */
static flux1_status add_bias(adapter_file *f, const adapter_change *c, const adapter_targets *to, flux1_error *err)
{
    adapter_change bias = {.head = c->bias,
                           .kind = c->kind,
                           .x = {.a = c->bias, .rows = c->rows, .cols = 1},
                           .rows = c->rows,
                           .cols = 1,
                           .scale = c->scale,
                           .of_bias = true,
                           .companion = true};
    if (c->bias)
        return add_change(f, &bias, to, err);
    if (c->form != ADAPTER_SCALED || c->factors_by_column || c->factors_from != 0)
        return FLUX1_OK;
    bias = *c;
    bias.cols = 1;
    bias.of_bias = bias.companion = true;
    return add_change(f, &bias, to, err);
}

/* kohya's OFT has the parts of a fused layer apart: they are for one of its layers each. */
static flux1_status take_part(const adapter_file *f, const char *name, adapter_targets *to, flux1_error *err)
{
    const int part = adapter_part_number(name);
    if (part >= to->count)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" is for part %d of a layer, which has %d",
                         f->store->path, name, part + 1, to->count);
    if (to->count > 1)
        to->row[0] = NULL;
    memmove(to->name[0], to->name[part], sizeof to->name[0]);
    to->count = 1;
    return FLUX1_OK;
}

static flux1_status add_entry(adapter_file *f, adapter_change *c, const adapter_key *key, adapter_peft *p,
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
    if (key->role == ADAPTER_OFT_PARTS)
        TRY(take_part(f, c->head->name, &to, err));
    TRY(adapter_peft_apply(p, to.part, key->base, c, &scale, err));
    TRY(apply_alpha(f, key->base, c, &scale, err));
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

/* What stands in a file alone by a layer's name replaces the layer in PEFT's files alone (modules_to_save, trained
 * biases); in others nobody says what it is. */
static adapter_key read_key(const store *s, const char *name, const adapter_peft *p)
{
    adapter_key key = adapter_key_read(name);
    if (key.role == ADAPTER_IA3_WEIGHT && !adapter_change_led(s, name, &key))
        key.role = ADAPTER_VALUE;
    if ((key.role == ADAPTER_VALUE || key.role == ADAPTER_VALUE_BIAS) && !p && !adapter_key_wrapped(name))
        key.role = ADAPTER_NONE;
    return key;
}

static flux1_status add_all(adapter_file *f, adapter_peft *p, flux1_error *err)
{
    const store *s = f->store;
    for (size_t i = 0; i < store_count(s); i++) {
        const store_tensor *t = store_at(s, i);
        const adapter_key key = read_key(s, t->name, p);
        adapter_change c;
        bool leads;
        if (key.role == ADAPTER_OTHER)
            return error_set(
                err, FLUX1_ERR_UNSUPPORTED,
                "%s: it has %s (tensor \"%s\"); flux1 applies LoRA, DoRA, LoHa, LoKr, OFT, BOFT, GLoRA, "
                "(IA)^3, and differences of weights, biases and norms; merge it with the program that made "
                "it, and open the merged model",
                s->path, key.kind, t->name);
        TRY(adapter_change_read(s, t, &key, &leads, &c, err));
        if (leads)
            TRY(add_entry(f, &c, &key, p, err));
        else if (key.role == ADAPTER_NONE || (key.role == ADAPTER_ALPHA && !adapter_change_led(s, t->name, &key)))
            adapter_add_stray(f, t->name);
    }
    return FLUX1_OK;
}

flux1_status adapter_read(adapter_file *f, flux1_error *err)
{
    adapter_peft *p;
    if (is_control(f->store))
        return adapter_refuse_control(f->store->path, err);
    TRY(adapter_peft_open(f->store, &p, err));
    const flux1_status st = add_all(f, p, err);
    adapter_peft_close(p);
    return st;
}
