#include "weights/scales.h"

#include "base/ending.h"
#include "base/file_map.h"
#include "base/json.h"
#include "tensor/scale.h"
#include "weights/foreign.h"
#include "weights/scales_bnb.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PLAIN "fetch a bf16, fp8 or GGUF file of the same model"

static bool is_fp8(const tensor *t) { return t->type == DTYPE_F8_E4M3 || t->type == DTYPE_F8_E5M2; }

/* ---- ComfyUI's formats ---- */

/* Those whose weights are value · scale. */
static const struct {
    const char *name;
    dtype type;
} formats[] = {{"float8_e4m3fn", DTYPE_F8_E4M3}, {"float8_e5m2", DTYPE_F8_E5M2}, {"int8_tensorwise", DTYPE_I8}};

/* The object that describes a layer: {"format": …}. */
static flux1_status check_format(const json_value *j, const char *name, flux1_error *err)
{
    const char *format = NULL;
    const json_value *rotated = json_object_get(j, "convrot");
    if (!json_is_object(j))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: it should be a JSON object", name);
    TRY(json_require(j, name, "format", err));
    TRY(json_get_string(j, name, "format", &format, err));
    if (rotated && !json_is(rotated, JSON_NULL) && !json_is(rotated, JSON_FALSE))
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "%s: rotated int8 weights (convrot), which flux1 does not read; " PLAIN, name);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(format, formats[i].name) == 0)
            return FLUX1_OK;
    return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: weights of the format %s, which flux1 does not read; " PLAIN,
                     name, format);
}

static flux1_status check_note(const store_raw *note, flux1_error *err)
{
    char name[600];
    json_value *json = NULL;
    const tensor *t = &note->tensor.view;
    snprintf(name, sizeof name, "%s: tensor \"%s\"", note->tensor.file, note->tensor.name);
    if (t->type != DTYPE_U8)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: it should be JSON in bytes (U8)", name);
    TRY(json_parse(t->data, tensor_bytes(t), name, &json, err));
    flux1_status st = check_format(json, name, err);
    json_free(json);
    return st;
}

/* A weight that is said to be scaled, and is in 8 bits, has its scale beside it: without, it would be taken hundreds of
 * times too large. */
static flux1_status check_present(const store *s, const char *base, size_t length, const char *said_by,
                                  flux1_error *err)
{
    const store_raw *w = store_raw_find(s, base, length, ".weight");
    if (!w || (!is_fp8(&w->tensor.view) && w->tensor.view.type != DTYPE_I8) ||
        store_raw_find(s, base, length, ".weight_scale") || store_raw_find(s, base, length, ".scale_weight"))
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_FORMAT,
                     "%s: the scale of tensor \"%s\" is missing (%s says that it has one); fetch the file again",
                     w->tensor.file, w->tensor.name, said_by);
}

static flux1_status check_layers(const store *s, const json_value *layers, const char *where, flux1_error *err)
{
    const char *key;
    const json_value *layer;
    char name[1200];
    for (size_t i = 0; (layer = json_object_at(layers, i, &key)); i++) {
        snprintf(name, sizeof name, "%s: \"%s\"", where, key);
        TRY(check_format(layer, name, err));
        TRY(check_present(s, key, strlen(key), "_quantization_metadata", err));
    }
    return FLUX1_OK;
}

static flux1_status check_metadata(const store *s, const container *c, flux1_error *err)
{
    char name[600];
    json_value *json = NULL;
    const char *text = container_metadata(c, "_quantization_metadata");
    if (!text)
        return FLUX1_OK;
    snprintf(name, sizeof name, "%s: _quantization_metadata", c->path);
    TRY(json_parse(text, strlen(text), name, &json, err));
    flux1_status st = check_layers(s, json_object_get(json, "layers"), name, err);
    json_free(json);
    return st;
}

/* ---- a weight and what lies beside it ---- */

/* Whether `count` values of a weight in fp8 or int8 from `first` on are all 0; fp8 has a negative one. */
static bool are_zero(const tensor *w, int64_t first, int64_t count)
{
    const unsigned char *x = (const unsigned char *)w->data + first;
    const unsigned bits = is_fp8(w) ? 0x7F : 0xFF;
    for (int64_t i = 0; i < count; i++)
        if (x[i] & bits)
            return false;
    return true;
}

/* A scale is what the largest value was divided by: finite, and positive; 0 where all of its `part` values of the
 * weight are. */
static flux1_status check_scale(const store_raw *r, float x, const store_raw *w, int64_t first, int64_t part,
                                flux1_error *err)
{
    if ((isfinite(x) && x > 0) || (x == 0 && are_zero(&w->tensor.view, first, part)))
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_FORMAT, "%s: the scale \"%s\" is %s; fetch the file again", r->tensor.file,
                     r->tensor.name,
                     !isfinite(x) ? "NaN or infinite"
                     : x == 0     ? "0, but its weight is not"
                                  : "negative");
}

/* `part`: how many values of the weight have one scale. */
static flux1_status check_scales(const store_raw *r, const store_raw *w, int64_t part, flux1_error *err)
{
    const tensor *t = &r->tensor.view;
    const int64_t count = tensor_elements(t);
    float x[256];
    for (int64_t i = 0; i < count; i += 256) {
        const int64_t n = count - i < 256 ? count - i : 256;
        TRY(tensor_decode(t, i, n, x, err));
        for (int64_t k = 0; k < n; k++)
            TRY(check_scale(r, x[k], w, (i + k) * part, part, err));
    }
    return FLUX1_OK;
}

/* `by` holds one scale, or one for each row of `w`. */
static flux1_status attach_factor(store *s, store_raw *w, store_raw *by, flux1_error *err)
{
    tensor *v = &w->tensor.view;
    const int64_t count = tensor_elements(&by->tensor.view), rows = v->dims ? v->shape[0] : 1;
    const dtype_info *info = dtype_describe(by->tensor.view.type);
    void *memory;
    if (!is_fp8(v) && v->type != DTYPE_I8)
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "%s: tensor \"%s\" is %s and has a scale (\"%s\"), a form that flux1 "
                         "does not read; " PLAIN,
                         w->tensor.file, w->tensor.name, dtype_describe(v->type)->name, by->tensor.name);
    if ((count != 1 && count != rows) || !tensor_decodes(&by->tensor.view) || info->block_elements != 1)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: the scale \"%s\" should be one float, or one for each of the %lld rows of \"%s\"",
                         w->tensor.file, by->tensor.name, (long long)rows, w->tensor.name);
    TRY(check_scales(by, w, count ? tensor_elements(v) / count : 0, err));
    TRY(store_keep(s, sizeof(tensor_scale), &memory, err));
    tensor_scale *scale = memory;
    *scale = (tensor_scale){.kind = count == 1 ? SCALE_FACTOR : SCALE_ROWS,
                            .factor = by->tensor.view,
                            .constant = 1,
                            .row = rows ? tensor_elements(v) / rows : 0};
    v->scale = scale;
    return FLUX1_OK;
}

static flux1_status attach_comfy(store *s, store_raw *w, size_t base, flux1_error *err)
{
    static const char *const notes[] = {".scale_input", ".input_scale", ".comfy_quant"};
    const char *name = w->tensor.name;
    store_raw *old = store_raw_find(s, name, base, ".scale_weight"),
              *by = store_raw_find(s, name, base, ".weight_scale");
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        store_raw *note = store_raw_find(s, name, base, notes[i]);
        if (!note)
            continue;
        note->beside = true;
        if (strcmp(notes[i], ".comfy_quant") == 0) {
            TRY(check_note(note, err));
            TRY(check_present(s, name, base, note->tensor.name, err));
        }
    }
    if (old && by)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\" has two scales, \"%s\" and \"%s\"", w->tensor.file,
                         name, old->tensor.name, by->tensor.name);
    by = by ? by : old;
    if (!by)
        return FLUX1_OK;
    by->beside = true;
    return attach_factor(s, w, by, err);
}

#define MARKER "scaled_fp8"

static bool is_marker(const store_raw *r)
{
    return strcmp(r->tensor.name, MARKER) == 0 || ends_in(r->tensor.name, "." MARKER);
}

/* The marker that lies in the weight's file under a prefix of its name; NULL: there is none. */
static const store_raw *marker_of(const store *s, const store_tensor *w)
{
    for (size_t n = 0; w->name[n]; n++) {
        if (n > 0 && w->name[n - 1] != '.')
            continue;
        const store_raw *marker = store_raw_find(s, w->name, n, MARKER);
        if (marker && marker->tensor.file == w->file)
            return marker;
    }
    return NULL;
}

/* A scale makes the largest value of a weight the largest of its type, 448 or 57344; a weight as it is does not come
 * near half of that. */
static bool has_scaled_values(const tensor *w)
{
    const unsigned char *x = w->data, half = w->type == DTYPE_F8_E4M3 ? 0x76 : 0x77;
    const size_t bytes = tensor_bytes(w);
    size_t i = 0;
    while (i < bytes && (x[i] & 0x7F) < half)
        i++;
    file_map_wont_need(x, i); /* what was read would otherwise stay beside the weights that plans count */
    return i < bytes;
}

/* ComfyUI takes a matrix in fp8 without a scale as it is, also behind a marker, and files have such beside scaled ones.
 * One whose scale was lost is told by its values. */
static flux1_status check_marked(const store *s, const store_raw *r, flux1_error *err)
{
    const store_tensor *w = &r->tensor;
    if (!is_fp8(&w->view) || w->view.scale || w->view.dims != 2 || name_is_table(w->name))
        return FLUX1_OK;
    const store_raw *marker = marker_of(s, w);
    if (!marker || !has_scaled_values(&w->view))
        return FLUX1_OK;
    return check_present(s, w->name, strlen(w->name) - strlen(".weight"), marker->tensor.name, err);
}

static flux1_status attach(store *s, store_raw *w, flux1_error *err)
{
    bool found = false;
    const size_t base = strlen(w->tensor.name) - strlen(".weight");
    TRY(scales_bnb(s, w, base, &found, err));
    return found ? FLUX1_OK : attach_comfy(s, w, base, err);
}

flux1_status scales_attach(store *s, flux1_error *err)
{
    for (size_t i = 0; i < s->raw_count; i++) {
        const char *foreign = foreign_tensor(s->raw[i].tensor.name);
        if (foreign)
            return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: tensor \"%s\" %s", s->raw[i].tensor.file,
                             s->raw[i].tensor.name, foreign);
    }
    for (size_t i = 0; i < s->file_count; i++)
        TRY(check_metadata(s, &s->file[i], err));
    for (size_t i = 0; i < s->raw_count; i++) {
        store_raw *r = &s->raw[i];
        if (ends_in(r->tensor.name, ".weight")) {
            TRY(attach(s, r, err));
            TRY(check_marked(s, r, err));
        } else if (is_marker(r))
            r->beside = true;
    }
    return FLUX1_OK;
}
