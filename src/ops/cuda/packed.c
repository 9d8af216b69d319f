/* Weights that stay packed on the GPU: which ones can, how their bytes lie there, and their values in front of a
 * product. Pieces of a recipe lie one behind the other, each as rows of whole blocks, and behind each the factors of
 * its scale as float32. */
#include "ops/cuda/cuda.h"

#include "base/checked.h"
#include "tensor/scale.h"

#include <string.h>

static const int32_t TYPES[DTYPE_COUNT] = {
#define ROW(name) [DTYPE_##name] = CUDA_PACKED_##name,
    CUDA_PACKED_TYPES(ROW)
#undef ROW
};

static bool is_plain(dtype t) { return t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16; }

/* ---- how they lie ---- */

static size_t line_bytes(const recipe_piece *p)
{
    const dtype_info *type = dtype_describe(p->source->view.type);
    return (size_t)(p->cols / type->block_elements) * (size_t)type->block_bytes;
}

/* Factors of a line, and lines of them. */
static int64_t factor_cols(const recipe_piece *p)
{
    const tensor_scale *s = p->source->view.scale;
    return s && s->kind == SCALE_CODES ? p->cols / s->block : 1;
}
static int64_t factor_lines(const recipe_piece *p)
{
    const tensor_scale *s = p->source->view.scale;
    return !s ? 0 : s->kind == SCALE_FACTOR ? 1 : p->rows;
}

cuda_lines cuda_packed_lines(const cuda_weight *w, int piece, bool factors)
{
    const recipe_piece *p = &w->recipe.piece[piece];
    return factors ? (cuda_lines){.at = w->factors_at[piece],
                                  .count = factor_lines(p),
                                  .bytes = (size_t)factor_cols(p) * sizeof(float)}
                   : (cuda_lines){.at = w->piece_at[piece], .count = p->rows, .bytes = line_bytes(p)};
}

void cuda_packed_line(const recipe_piece *p, bool factors, int64_t line, unsigned char *out)
{
    const tensor *t = &p->source->view;
    const dtype_info *type = dtype_describe(t->type);
    const int64_t first = (p->source_row + line) * tensor_row_elements(&p->source->view) + p->source_col;
    if (!factors) {
        memcpy(out, (const unsigned char *)t->data + (size_t)(first / type->block_elements) * (size_t)type->block_bytes,
               line_bytes(p));
        return;
    }
    for (int64_t i = 0; i < factor_cols(p); i++) {
        int64_t run;
        ((float *)(void *)out)[i] = tensor_scale_factor(t->scale, first + i * t->scale->block, &run);
    }
}

size_t cuda_packed_place(const weight_recipe *r, cuda_weight *w)
{
    size_t end = w ? w->at : 0, begin = end;
    for (int i = 0; i < r->count; i++) {
        const recipe_piece *p = &r->piece[i];
        const size_t values = size_round_up((size_t)p->rows * line_bytes(p), CUDA_ALIGN);
        if (w)
            w->piece_at[i] = end, w->factors_at[i] = end + values;
        end += values + size_round_up((size_t)factor_lines(p) * (size_t)factor_cols(p) * sizeof(float), CUDA_ALIGN);
    }
    return end - begin;
}

/* ---- which can ---- */

static bool scale_packs(const tensor_scale *s, int64_t ld, const recipe_piece *p)
{
    if (!s || s->kind == SCALE_FACTOR)
        return true;
    if (s->kind == SCALE_ROWS)
        return s->row == ld && s->first % ld == 0;
    return s->block % 8 == 0 && ld % s->block == 0 && s->first % s->block == 0 && p->source_col % s->block == 0 &&
           p->cols % s->block == 0 && is_plain(s->rounded);
}

/* Rows of whole blocks, whose values come in eights at multiples of eight. */
static bool piece_packs(const recipe_piece *p)
{
    const tensor *t = &p->source->view;
    const int64_t ld = tensor_row_elements(&p->source->view), unit = dtype_describe(t->type)->block_elements;
    return TYPES[t->type] != CUDA_PACKED_NONE && tensor_decodes(t) && p->cols > 0 && p->cols % 8 == 0 &&
           p->col % 8 == 0 && ld % unit == 0 && p->source_col % unit == 0 && p->cols % unit == 0 &&
           scale_packs(t->scale, ld, p);
}

bool cuda_packs(const weight_recipe *r, size_t plain_bytes)
{
    bool packed = false;
    if ((r->role != WEIGHT_LINEAR && r->role != WEIGHT_QKV) || r->cols % 8 != 0)
        return false;
    for (int i = 0; i < r->count; i++) {
        if (!piece_packs(&r->piece[i]))
            return false;
        packed = packed || !is_plain(r->piece[i].source->view.type);
    }
    return packed && cuda_packed_place(r, NULL) < plain_bytes;
}

/* ---- their values ---- */

static int32_t scale_of(const tensor_scale *s)
{
    return !s                        ? CUDA_SCALE_NONE
           : s->kind == SCALE_FACTOR ? CUDA_SCALE_FACTOR
           : s->kind == SCALE_ROWS   ? CUDA_SCALE_ROWS
                                     : CUDA_SCALE_CODES;
}

/* Rows [first, first + count) of a piece to their places in `out`, whose first row is row `base` of the weight. */
static flux1_status decode_piece(cuda_ops *o, const cuda_weight *w, int i, int64_t first, int64_t count,
                                 const cuda_view *out, int64_t base)
{
    enum { ELEMENTS_A_THREAD = 8, BLOCKS_A_PROCESSOR = 16 };
    const recipe_piece *p = &w->recipe.piece[i];
    const tensor_scale *s = p->source->view.scale;
    const int64_t each = s && s->kind != SCALE_FACTOR ? factor_cols(p) : 0; /* factors a row */
    cuda_decode_args a = {.from =
                              (const uint8_t *)(uintptr_t)w->memory + w->piece_at[i] + (size_t)first * line_bytes(p),
                          .factors = (const float *)(uintptr_t)(w->memory + w->factors_at[i]) + first * each,
                          .out = *out,
                          .type = TYPES[p->source->view.type],
                          .scale = scale_of(s)};
    a.out.data = (char *)out->data + (size_t)((p->row + first - base) * out->ld + p->col) * (out->bf16 ? 2 : 4);
    a.out.rows = count;
    a.out.cols = p->cols;
    if (s) {
        a.run = s->block;
        a.rounded = TYPES[s->rounded];
        a.constant = s->constant;
        memcpy(a.code, s->code, sizeof a.code);
    }
    int64_t blocks = i64_min(i64_ceil_div(count * p->cols, ELEMENTS_A_THREAD * CUDA_ROW_THREADS),
                             (int64_t)o->device->multiprocessors * BLOCKS_A_PROCESSOR);
    return cuda_launch(o, CUDA_KERNEL_decode, blocks, 1, 1, CUDA_ROW_THREADS, &a);
}

flux1_status cuda_packed_decode(cuda_ops *o, const cuda_weight *w, int64_t first, int64_t count, const cuda_view *out)
{
    for (int i = 0; i < w->recipe.count; i++) {
        const recipe_piece *p = &w->recipe.piece[i];
        const int64_t begin = i64_max(first, p->row), end = i64_min(first + count, p->row + p->rows);
        if (begin < end)
            TRY(decode_piece(o, w, i, begin - p->row, end - begin, out, first));
    }
    return FLUX1_OK;
}

/* ---- where they go ---- */

/* A row at least; whole tiles of the products, where there are several slabs. */
int64_t cuda_packed_rows(const cuda_ops *o, const cuda_weight *w)
{
    enum { TILE = 256 };
    const size_t row = (size_t)w->head.cols * (w->bf16 ? 2 : 4);
    const int64_t fit = (int64_t)(o->decoded_most / row);
    return fit >= w->head.rows ? w->head.rows : i64_max(1, fit >= TILE ? fit / TILE * TILE : fit);
}

size_t cuda_packed_values(const cuda_ops *o, const cuda_weight *w)
{
    return w->packed ? (size_t)(cuda_packed_rows(o, w) * w->head.cols) * (w->bf16 ? 2 : 4) : 0;
}

flux1_status cuda_packed_room(cuda_ops *o, size_t bytes)
{
    TRY(cuda_check(&o->head, o->lib->cuStreamSynchronize(o->stream), "the GPU reports a failure"));
    cuda_device_release(o->device, o->decoded);
    o->decoded = 0;
    o->decoded_bytes = 0;
    TRY(cuda_device_allocate(o->device, bytes, "a weight's values", &o->decoded, o->head.err));
    o->decoded_bytes = bytes;
    return FLUX1_OK;
}
