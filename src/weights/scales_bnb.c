#include "weights/scales_bnb.h"

#include "base/checked.h"
#include "base/json.h"
#include "tensor/scale.h"

#include <stdio.h>
#include <string.h>

#define BLOCK_MAX (1 << 20)

static flux1_status bad(const store_raw *w, flux1_error *err, const char *what)
{
    return error_set(err, FLUX1_ERR_FORMAT, "%s: tensor \"%s\": %s", w->tensor.file, w->tensor.name, what);
}

/* The tensor beside, which must have this type and at least so many elements. */
static flux1_status beside(store *s, const store_raw *w, const char *ending, dtype type, int64_t least, tensor *out,
                           flux1_error *err)
{
    store_raw *r = store_raw_find(s, w->tensor.name, strlen(w->tensor.name), ending);
    if (!r || r->tensor.view.type != type || tensor_elements(&r->tensor.view) < least)
        return error_set(
            err, FLUX1_ERR_FORMAT,
            "%s: tensor \"%s\" is packed by bitsandbytes, but \"%s%s\" beside it is %s; fetch the file again",
            w->tensor.file, w->tensor.name, w->tensor.name, ending, r ? "of another size or type" : "missing");
    r->beside = true;
    *out = r->tensor.view;
    return FLUX1_OK;
}

/* ---- 4 bits ---- */

typedef struct quant_state {
    int64_t block, nested_block;
    double nested_offset;
    size_t dims;
    int64_t shape[TENSOR_DIMS];
    dtype rounded;
} quant_state;

static flux1_status read_dtype(const json_value *j, const char *name, dtype *out, flux1_error *err)
{
    static const struct {
        const char *name;
        dtype type;
    } known[] = {{"float32", DTYPE_F32}, {"float16", DTYPE_F16}, {"bfloat16", DTYPE_BF16}};
    const char *text = "";
    TRY(json_get_string(j, name, "dtype", &text, err));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(text, known[i].name) == 0) {
            *out = known[i].type;
            return FLUX1_OK;
        }
    return error_set(err, FLUX1_ERR_FORMAT, "%s: \"dtype\" is \"%s\"; it should be float32, float16 or bfloat16", name,
                     text);
}

static flux1_status read_state(const json_value *j, const char *name, quant_state *q, flux1_error *err)
{
    *q = (quant_state){0};
    if (!json_is_object(j))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: it should be a JSON object", name);
    TRY(json_require(j, name, "blocksize", err));
    TRY(json_require(j, name, "shape", err));
    TRY(json_get_int(j, name, "blocksize", 2, BLOCK_MAX, &q->block, err));
    TRY(json_get_ints(j, name, "shape", 0, INT64_MAX, q->shape, TENSOR_DIMS, &q->dims, err));
    TRY(json_get_int(j, name, "nested_blocksize", 1, BLOCK_MAX, &q->nested_block, err));
    TRY(json_get_real(j, name, "nested_offset", &q->nested_offset, err));
    return read_dtype(j, name, &q->rounded, err);
}

/* The weight's own shape and type, which the file's [bytes, 1] of U8 hides. */
static flux1_status unpack(store_raw *w, const quant_state *q, flux1_error *err)
{
    tensor t = {.type = DTYPE_BNB4, .dims = (int)q->dims, .data = w->tensor.view.data};
    int64_t elements;
    size_t bytes;
    memcpy(t.shape, q->shape, q->dims * sizeof *q->shape);
    if (!tensor_size(t.type, t.dims, t.shape, &elements, &bytes) || bytes != tensor_bytes(&w->tensor.view))
        return bad(w, err, "its quant_state has a shape that does not fit the packed bytes");
    w->tensor.view = t;
    return FLUX1_OK;
}

static flux1_status attach_codes(store *s, store_raw *w, const quant_state *q, flux1_error *err)
{
    void *memory;
    tensor map;
    TRY(unpack(w, q, err));
    TRY(store_keep(s, sizeof(tensor_scale), &memory, err));
    tensor_scale *scale = memory;
    const int64_t blocks = i64_ceil_div(tensor_elements(&w->tensor.view), q->block);
    *scale = (tensor_scale){.kind = SCALE_CODES, .block = q->block, .rounded = q->rounded};
    TRY(beside(s, w, ".quant_map", DTYPE_F32, 16, &map, err));
    TRY(tensor_decode(&map, 0, 16, scale->code, err));
    if (q->nested_block) {
        scale->nested_block = q->nested_block;
        scale->nested_offset = (float)q->nested_offset;
        TRY(beside(s, w, ".absmax", DTYPE_U8, blocks, &scale->absmax, err));
        TRY(beside(s, w, ".nested_quant_map", DTYPE_F32, 256, &scale->nested_code, err));
        TRY(beside(s, w, ".nested_absmax", DTYPE_F32, i64_ceil_div(blocks, q->nested_block), &scale->nested_absmax,
                   err));
    } else {
        TRY(beside(s, w, ".absmax", DTYPE_F32, blocks, &scale->absmax, err));
    }
    w->tensor.view.scale = scale;
    return FLUX1_OK;
}

static flux1_status four_bits(store *s, store_raw *w, store_raw *state, flux1_error *err)
{
    json_value *json = NULL;
    quant_state q;
    char name[600];
    const tensor *t = &state->tensor.view;
    snprintf(name, sizeof name, "%s: tensor \"%s\"", state->tensor.file, state->tensor.name);
    state->beside = true;
    if (t->type != DTYPE_U8)
        return bad(state, err, "it should be JSON in bytes (U8)");
    TRY(json_parse(t->data, tensor_bytes(t), name, &json, err));
    flux1_status st = read_state(json, name, &q, err);
    json_free(json);
    return st == FLUX1_OK ? attach_codes(s, w, &q, err) : st;
}

/* ---- int8 ---- */

/* X.SCB: the largest magnitude of each row, which 127 stands for. */
static flux1_status eight_bits(store *s, store_raw *w, store_raw *scb, size_t base, flux1_error *err)
{
    void *memory;
    const tensor *t = &w->tensor.view;
    store_raw *format = store_raw_find(s, w->tensor.name, base, ".weight_format");
    scb->beside = true;
    if (format) {
        const tensor *f = &format->tensor.view;
        format->beside = true;
        if (f->type != DTYPE_U8 || tensor_elements(f) != 1 || *(const unsigned char *)f->data != 0)
            return error_set(
                err, FLUX1_ERR_UNSUPPORTED,
                "%s: tensor \"%s\" is int8 in bitsandbytes' layout for a GPU's kernels; fetch a bf16, fp8 or "
                "GGUF file of the same model",
                w->tensor.file, w->tensor.name);
    }
    if (t->type != DTYPE_I8 || t->dims != 2 || scb->tensor.view.type != DTYPE_F32 ||
        tensor_elements(&scb->tensor.view) != t->shape[0])
        return bad(w, err, "SCB beside it should hold one float for each row of an int8 matrix");
    TRY(store_keep(s, sizeof(tensor_scale), &memory, err));
    tensor_scale *scale = memory;
    *scale = (tensor_scale){
        .kind = SCALE_ROWS, .factor = scb->tensor.view, .constant = 7.874015718698502e-3f, .row = t->shape[1]};
    w->tensor.view.scale = scale;
    return FLUX1_OK;
}

flux1_status scales_bnb(store *s, store_raw *w, size_t base, bool *found, flux1_error *err)
{
    const char *name = w->tensor.name;
    const size_t length = strlen(name);
    store_raw *state = store_raw_find(s, name, length, ".quant_state.bitsandbytes__nf4");
    store_raw *scb = store_raw_find(s, name, base, ".SCB");
    if (!state)
        state = store_raw_find(s, name, length, ".quant_state.bitsandbytes__fp4");
    *found = state || scb;
    return state ? four_bits(s, w, state, err) : scb ? eight_bits(s, w, scb, base, err) : FLUX1_OK;
}
