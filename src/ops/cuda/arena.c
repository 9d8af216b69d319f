/* The arena: offsets into one piece of device memory. The handles' heads lie on the host, in chunks that are kept. */
#include "ops/cuda/cuda.h"

#include "ops/layout.h"

#include <stdlib.h>

enum { HEADERS = 256 }; /* a chunk */

typedef struct cuda_headers {
    cuda_buffer buffer[HEADERS];
    int used;
    struct cuda_headers *below; /* older */
    struct cuda_headers *above; /* emptied by a release, kept for the next creates */
} cuda_headers;

static void free_headers(cuda_ops *o)
{
    cuda_headers *h = o->headers;
    while (h && h->above)
        h = h->above;
    for (cuda_headers *next; h; h = next) {
        next = h->below;
        free(h);
    }
    o->headers = NULL;
}

static flux1_status new_header(cuda_ops *o, cuda_buffer **out)
{
    cuda_headers *h = o->headers;
    if (!h || h->used == HEADERS) {
        cuda_headers *top = h ? h->above : NULL;
        if (!top) {
            if (!(top = calloc(1, sizeof *top)))
                return error_oom(o->head.err, sizeof *top, "activations");
            top->below = h;
            if (h)
                h->above = top;
        }
        top->used = 0;
        o->headers = h = top;
    }
    *out = &h->buffer[h->used++];
    return FLUX1_OK;
}

/* Where the scales of its rows in e4m3 begin in an activation; 0 for one that is never kept so. */
static size_t scales_begin(bool bf16, bool fp8, act_role role, const act_shape *s)
{
    return bf16 && fp8 && role == ACT_LINEAR ? layout_bytes(bf16, role, s, CUDA_ALIGN) : 0;
}

/* At least one unit, so that every handle has a place of its own. */
size_t cuda_act_bytes(bool bf16, bool fp8, act_role role, const act_shape *s)
{
    const act_shape scales = {.batch = s->batch, .rows = {s->rows[0], s->rows[1]}, .cols = 1};
    size_t bytes = layout_bytes(bf16, role, s, CUDA_ALIGN);
    if (scales_begin(bf16, fp8, role, s) && !size_add(bytes, layout_bytes(false, role, &scales, CUDA_ALIGN), &bytes))
        return SIZE_MAX;
    return bytes ? bytes : CUDA_ALIGN;
}

flux1_status cuda_arena_take(cuda_ops *o, size_t bytes, size_t *offset)
{
    bytes = bytes > SIZE_MAX - CUDA_ALIGN ? SIZE_MAX : size_round_up(bytes ? bytes : 1, CUDA_ALIGN);
    if (bytes > o->arena_size - o->arena_used)
        return error_set(o->head.err, FLUX1_ERR_INTERNAL,
                         "the GPU's arena of %zu bytes has %zu left, %zu are needed: the dry run was wrong",
                         o->arena_size, o->arena_size - o->arena_used, bytes);
    *offset = o->arena_used;
    o->arena_used += bytes;
    if (o->arena_peak < o->arena_used)
        o->arena_peak = o->arena_used;
    if (o->branches.top < o->arena_used)
        o->branches.top = o->arena_used;
    return FLUX1_OK;
}

flux1_status cuda_scratch(cuda_ops *o, size_t bytes, CUdeviceptr *out)
{
    size_t offset = 0;
    TRY(cuda_arena_take(o, bytes, &offset));
    *out = o->arena + offset;
    return FLUX1_OK;
}

flux1_status cuda_create(ops *base, act_role role, act_shape shape, act *out)
{
    cuda_ops *o = cuda_self(base);
    cuda_buffer *b = NULL;
    size_t offset = 0, scales = scales_begin(o->bf16, o->fp8, role, &shape);
    TRY(cuda_arena_take(o, cuda_act_bytes(o->bf16, o->fp8, role, &shape), &offset));
    TRY(new_header(o, &b));
    *b = (cuda_buffer){.head = {.shape = shape, .role = role},
                       .data = o->arena + offset,
                       .offset = offset,
                       .bf16 = layout_bf16(o->bf16, role),
                       .scales = scales ? o->arena + offset + scales : 0};
    *out = act_whole(&b->head);
    return FLUX1_OK;
}

size_t cuda_mark(ops *o) { return cuda_self(o)->arena_used; }

void cuda_release(ops *base, size_t mark)
{
    cuda_ops *o = cuda_self(base);
    o->arena_used = mark;
    for (cuda_headers *h = o->headers; h; h = h->below) {
        o->headers = h;
        while (h->used > 0 && h->buffer[h->used - 1].offset >= mark)
            h->used--;
        if (h->used > 0)
            break;
    }
}

static void free_arena(cuda_ops *o)
{
    cuda_device_release(o->device, o->arena);
    if (o->mirror)
        o->lib->cuMemFreeHost(o->mirror);
    o->arena = 0;
    o->mirror = NULL;
    o->arena_size = 0;
}

flux1_status cuda_arena_reserve(cuda_ops *o, size_t bytes)
{
    bytes = size_round_up(bytes, CUDA_ALIGN);
    cuda_release(&o->head, 0);
    if (bytes <= o->arena_size)
        return FLUX1_OK;
    free_arena(o);
    TRY(cuda_device_allocate(o->device, bytes, "this stage's activations", &o->arena, o->head.err));
    o->arena_size = bytes;
    return FLUX1_OK;
}

void cuda_arena_free(cuda_ops *o)
{
    free_arena(o);
    free_headers(o);
}
