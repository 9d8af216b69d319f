/* The headers of both formats: what gguf.c and safetensors.c read. */
#include "weights/tensor_file.h"

#include "base/checked.h"
#include "base/json_write.h"

#include <stdlib.h>
#include <string.h>

static flux1_status too_large(flux1_error *err)
{
    return error_set(err, FLUX1_ERR_LIMIT, "the file would have more bytes than can be counted");
}

/* ---- GGUF, version 3 ---- */

#define GGUF_ALIGNMENT 32
enum { GGUF_U32 = 4, GGUF_F32 = 6, GGUF_STRING = 8 };

static void put_u32(builder *b, uint32_t v)
{
    const char bytes[4] = {(char)v, (char)(v >> 8), (char)(v >> 16), (char)(v >> 24)};
    builder_add_bytes(b, bytes, sizeof bytes);
}

static void put_u64(builder *b, uint64_t v)
{
    put_u32(b, (uint32_t)v);
    put_u32(b, (uint32_t)(v >> 32));
}

static void put_text(builder *b, const char *text)
{
    put_u64(b, strlen(text));
    builder_add(b, text);
}

static void put_fact(builder *b, const file_fact *fact)
{
    uint32_t bits = fact->number;
    put_text(b, fact->key);
    if (fact->text) {
        put_u32(b, GGUF_STRING);
        put_text(b, fact->text);
        return;
    }
    if (fact->is_real)
        memcpy(&bits, &fact->real, sizeof bits);
    put_u32(b, fact->is_real ? GGUF_F32 : GGUF_U32);
    put_u32(b, bits);
}

static void put_info(builder *b, const file_tensor *t)
{
    put_text(b, t->name);
    put_u32(b, (uint32_t)t->dims);
    for (int i = t->dims - 1; i >= 0; i--)
        put_u64(b, (uint64_t)t->shape[i]);
    put_u32(b, (uint32_t)dtype_describe(t->type)->ggml);
    put_u64(b, t->offset);
}

flux1_status tensor_file_gguf(tensor_file *f, builder *header, flux1_error *err)
{
    size_t end = 0;
    for (size_t i = 0; i < f->count; i++) {
        f->tensor[i].offset = end;
        if (!size_add(end, f->tensor[i].bytes, &end) || end > INT64_MAX / 2)
            return too_large(err);
        end = size_round_up(end, GGUF_ALIGNMENT);
    }
    builder_add(header, "GGUF");
    put_u32(header, 3);
    put_u64(header, f->count);
    put_u64(header, f->facts);
    for (size_t i = 0; i < f->facts; i++)
        put_fact(header, &f->fact[i]);
    for (size_t i = 0; i < f->count; i++)
        put_info(header, &f->tensor[i]);
    if (header->failed)
        return error_oom(err, 0, "the file's header");
    const size_t start = size_round_up(header->length, GGUF_ALIGNMENT);
    for (size_t i = 0; i < f->count; i++)
        f->tensor[i].offset += start;
    f->bytes = start + end;
    return FLUX1_OK;
}

/* ---- safetensors ---- */

/* By the size of an element, the largest first, so that each tensor is aligned; else in the order of adding. */
static int by_element(const void *a, const void *b)
{
    const file_tensor *const *x = a, *const *y = b;
    const int p = dtype_describe((*x)->type)->block_bytes, q = dtype_describe((*y)->type)->block_bytes;
    return p != q ? (p < q) - (p > q) : (*x > *y) - (*x < *y);
}

static flux1_status place(tensor_file *f, file_tensor **order, flux1_error *err)
{
    size_t end = 0;
    for (size_t i = 0; i < f->count; i++)
        order[i] = &f->tensor[i];
    qsort(order, f->count, sizeof *order, by_element);
    for (size_t i = 0; i < f->count; i++) {
        order[i]->offset = end;
        if (!size_add(end, order[i]->bytes, &end) || end > INT64_MAX / 2)
            return too_large(err);
    }
    f->bytes = end;
    return FLUX1_OK;
}

static void put_metadata(json_writer *w, const tensor_file *f)
{
    json_begin_object(w, "__metadata__");
    for (size_t i = 0; i < f->facts; i++)
        json_put_string(w, f->fact[i].key, f->fact[i].text);
    json_end_object(w);
}

static void put_entry(json_writer *w, const file_tensor *t)
{
    json_begin_object(w, t->name);
    json_put_string(w, "dtype", dtype_describe(t->type)->name);
    json_begin_array(w, "shape");
    for (int k = 0; k < t->dims; k++)
        json_put_integer(w, NULL, t->shape[k]);
    json_end_array(w);
    json_begin_array(w, "data_offsets");
    json_put_unsigned(w, NULL, t->offset);
    json_put_unsigned(w, NULL, t->offset + t->bytes);
    json_end_array(w);
    json_end_object(w);
}

flux1_status tensor_file_safetensors(tensor_file *f, builder *header, flux1_error *err)
{
    json_writer w = {.style = JSON_COMPACT};
    file_tensor **order = calloc(f->count + 1, sizeof *order);
    char *text = NULL;
    if (!order)
        return error_oom(err, f->count * sizeof *order, "the file's header");
    flux1_status st = place(f, order, err);
    json_begin_object(&w, NULL);
    put_metadata(&w, f);
    for (size_t i = 0; i < f->count; i++)
        put_entry(&w, order[i]);
    json_end_object(&w);
    while (!w.text.failed && w.text.length % 8)
        builder_add(&w.text, " ");
    const size_t length = w.text.length;
    if (st == FLUX1_OK)
        st = json_take(&w, "the file's header", &text, err);
    else
        json_abandon(&w);
    free(order);
    TRY(st);
    put_u64(header, length);
    builder_add_bytes(header, text, length);
    free(text);
    if (header->failed)
        return error_oom(err, length, "the file's header");
    for (size_t i = 0; i < f->count; i++)
        f->tensor[i].offset += header->length;
    f->bytes += header->length;
    return FLUX1_OK;
}
