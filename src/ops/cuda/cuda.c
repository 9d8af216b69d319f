/* The CUDA backend: memory, order, capture, launches. */
#include "ops/cuda/cuda.h"

#include "ops/layout.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ops_table cuda_table_of_functions = {.name = "cuda",
#define ROW(ret, name, args, call) .name = cuda_##name,
                                                  OPS_PRIMITIVES(ROW)
/* one composite has a launch of its own */
#define cuda_linear composite_linear
#define cuda_mlp composite_mlp
#define cuda_group_norm composite_group_norm
                                                      OPS_COMPOSITES(ROW)
#undef ROW
};

/* ---- errors ---- */

flux1_status cuda_check(const ops *o, CUresult r, const char *what)
{
    if (r == CUDA_SUCCESS)
        return FLUX1_OK;
    const char *text = NULL;
    ((const cuda_ops *)o)->lib->cuGetErrorString(r, &text);
    return error_set(o->err, r == CUDA_ERROR_OUT_OF_MEMORY ? FLUX1_ERR_MEMORY : FLUX1_ERR_UNSUPPORTED,
                     "device cuda: %s: %s", what, text ? text : "unknown error");
}

flux1_status cuda_begin(const ops *o, const char *operation, const weight *w)
{
    if (o->cancel && atomic_load_explicit(o->cancel, memory_order_relaxed))
        return error_set(o->err, FLUX1_ERR_CANCELLED, "cancelled");
    if (w && !w->owner->held)
        return error_set(o->err, FLUX1_ERR_INTERNAL, "%s uses a weight of block \"%s\" outside its bracket", operation,
                         w->owner->name);
    return cuda_device_current(((const cuda_ops *)o)->device, o->err);
}

flux1_status cuda_fits(const ops *o, bool ok, const char *operation)
{
    return ok ? FLUX1_OK : error_set(o->err, FLUX1_ERR_INTERNAL, "%s: shapes do not fit", operation);
}

/* ---- life ---- */

static flux1_status allocate_all(cuda_ops *o, flux1_error *err)
{
    TRY(cuda_device_allocate(o->device, CUDA_WORKSPACE, "the libraries' workspace", &o->workspace, err));
    TRY(cuda_device_allocate(o->device, CUDA_BOUNCE, "the copies' buffer", &o->bounce, err));
    TRY(cuda_device_allocate(o->device, CUDA_SLOTS * sizeof(int32_t), "the checks' flags", &o->flags, err));
    TRY(cuda_device_allocate(o->device, sizeof(int32_t), "the step counter", &o->step, err));
    TRY(cuda_check(
        &o->head,
        o->lib->cuMemHostAlloc((void **)&o->host_flags, (1 + OPS_STEPS_AHEAD) * CUDA_SLOTS * sizeof(int32_t), 0),
        "cannot take pinned memory"));
    for (int i = 0; i < OPS_STEPS_AHEAD; i++)
        TRY(cuda_check(&o->head, o->lib->cuEventCreate(&o->ended[i], CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC),
                       "cannot make an event"));
    TRY(cuda_check(&o->head, o->lib->cuMemsetD8Async(o->flags, 0, CUDA_SLOTS * sizeof(int32_t), o->stream),
                   "cannot clear the flags"));
    return cuda_check(&o->head, o->lib->cuMemsetD32Async(o->step, 0, 1, o->stream), "cannot set the step");
}

flux1_status ops_cuda_create(const ops_config *c, ops **out)
{
    cuda_ops *o = calloc(1, sizeof *o);
    if (!o)
        return error_oom(c->err, sizeof *o, "the CUDA backend");
    o->head = (ops){.fn = &cuda_table_of_functions, .err = c->err, .cancel = c->cancel};
    o->device = (cuda_device *)c->device;
    o->lib = cuda_device_libraries(o->device);
    o->bf16 = c->arithmetic == DTYPE_BF16;
    o->fp8 = c->fp8 != FP8_NO;
    o->scales_rows = c->fp8 == FP8_ROWS && cuda_device_scales_rows(o->device);
    o->capture.off = c->eager;
    flux1_status st = cuda_device_current(o->device, c->err);
    if (st == FLUX1_OK)
        st = cuda_check(&o->head, o->lib->cuStreamCreate(&o->stream, CU_STREAM_NON_BLOCKING), "cannot make a stream");
    if (st == FLUX1_OK)
        st = allocate_all(o, c->err);
    if (st == FLUX1_OK)
        st = cuda_blocks_create(o, c->threads);
    if (st != FLUX1_OK) {
        cuda_destroy(&o->head);
        return st;
    }
    *out = &o->head;
    return FLUX1_OK;
}

/* A recording that an error or a cancel broke off. */
static void drop_recording(cuda_ops *o)
{
    CUgraph graph = NULL;
    if (!o->capture.recording)
        return;
    o->capture.recording = false;
    o->lib->cuStreamEndCapture(o->stream, &graph);
    if (graph)
        o->lib->cuGraphDestroy(graph);
}

static void free_arena(cuda_ops *o)
{
    cuda_device_release(o->device, o->arena);
    if (o->mirror)
        o->lib->cuMemFreeHost(o->mirror);
    o->arena = 0;
    o->mirror = NULL;
    o->arena_used = o->arena_size = 0;
}

void cuda_destroy(ops *base)
{
    if (!base)
        return;
    cuda_ops *o = cuda_self(base);
    if (cuda_device_current(o->device, NULL) == FLUX1_OK && o->stream) {
        drop_recording(o);
        o->lib->cuStreamSynchronize(o->stream);
    }
    if (o->capture.graph)
        o->lib->cuGraphExecDestroy(o->capture.graph);
    cuda_linear_free(o);
    cuda_dnn_free(o);
    cuda_blocks_free(o);
    free_arena(o);
    cuda_headers_free(o);
    cuda_device_release(o->device, o->workspace);
    cuda_device_release(o->device, o->bounce);
    cuda_device_release(o->device, o->flags);
    cuda_device_release(o->device, o->step);
    if (o->host_flags)
        o->lib->cuMemFreeHost(o->host_flags);
    for (int i = 0; i < OPS_STEPS_AHEAD; i++)
        if (o->ended[i])
            o->lib->cuEventDestroy(o->ended[i]);
    if (o->stream)
        o->lib->cuStreamDestroy(o->stream);
    free(o);
}

/* ---- the arena: offsets into one piece of device memory; the handles' heads lie on the host in chunks that are kept
 * ---- */

enum { HEADERS = 256 }; /* a chunk */

typedef struct cuda_headers {
    cuda_buffer buffer[HEADERS];
    int used;
    struct cuda_headers *below; /* older */
    struct cuda_headers *above; /* emptied by a release, kept for the next creates */
} cuda_headers;

void cuda_headers_free(cuda_ops *o)
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

/* At least one unit, so that every handle has a place of its own. */
static size_t data_bytes(bool bf16, act_role role, const act_shape *s)
{
    size_t bytes = layout_bytes(bf16, role, s, CUDA_ALIGN);
    return bytes ? bytes : CUDA_ALIGN;
}

static size_t act_bytes(const ops_config *c, act_role role, const act_shape *s)
{
    return data_bytes(c->arithmetic == DTYPE_BF16, role, s);
}

static size_t scratch_bytes(const ops_config *c, ops_work work, int64_t m, int64_t n, int64_t k, int64_t heads)
{
    switch (work) {
    case WORK_LINEAR: return cuda_linear_scratch(c, m, n, k);
    case WORK_ATTENTION: return cuda_attention_scratch(c, m, heads, k);
    case WORK_CONV: return cuda_conv_scratch(c, m, n, k);
    }
    return 0;
}

const ops_sizing ops_cuda_sizing = {.act_bytes = act_bytes,
                                    .scratch = scratch_bytes,
                                    .spare = OPS_CUDA_SPARE,
                                    .unit = CUDA_ALIGN,
                                    .weight_bytes = cuda_weight_bytes};

flux1_status cuda_reserve(ops *base, size_t bytes)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_device_current(o->device, base->err));
    free_arena(o);
    bytes = size_round_up(bytes, CUDA_ALIGN);
    TRY(cuda_device_allocate(o->device, bytes, "this stage's activations", &o->arena, base->err));
    o->arena_size = bytes;
    return FLUX1_OK;
}

static flux1_status take(cuda_ops *o, size_t bytes, size_t *offset)
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
    return FLUX1_OK;
}

flux1_status cuda_scratch(cuda_ops *o, size_t bytes, CUdeviceptr *out)
{
    size_t offset = 0;
    TRY(take(o, bytes, &offset));
    *out = o->arena + offset;
    return FLUX1_OK;
}

flux1_status cuda_create(ops *base, act_role role, act_shape shape, act *out)
{
    cuda_ops *o = cuda_self(base);
    cuda_buffer *b = NULL;
    size_t offset = 0;
    TRY(take(o, data_bytes(o->bf16, role, &shape), &offset));
    TRY(new_header(o, &b));
    *b = (cuda_buffer){.head = {.shape = shape, .role = role},
                       .data = o->arena + offset,
                       .offset = offset,
                       .bf16 = layout_bf16(o->bf16, role)};
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

flux1_status cuda_exchange(ops *base, size_t bytes, void **out)
{
    cuda_ops *o = cuda_self(base);
    size_t offset = 0;
    TRY(take(o, bytes, &offset));
    if (o->linked) {
        *out = (void *)(uintptr_t)(o->arena + offset);
        return FLUX1_OK;
    }
    if (!o->mirror) {
        TRY(cuda_begin(base, "exchange", NULL));
        TRY(cuda_check(base, o->lib->cuMemHostAlloc(&o->mirror, o->arena_size, 0),
                       "cannot take pinned memory for what the ranks exchange"));
    }
    o->capture.off = true; /* the bytes pass through the host, which a graph's replay does not */
    *out = (char *)o->mirror + offset;
    return FLUX1_OK;
}

/* ---- views ---- */

cuda_view cuda_view_of(act a)
{
    if (!act_present(a))
        return (cuda_view){0};
    const cuda_buffer *f = (const cuda_buffer *)a.buffer;
    const act_shape *s = &f->head.shape;
    size_t element = f->bf16 ? 2 : 4;
    cuda_view v = {.ld = s->cols,
                   .batch_stride = (s->rows[0] + s->rows[1]) * s->cols,
                   .rows = act_rows(a),
                   .cols = a.cols,
                   .bf16 = f->bf16};
    v.data = (void *)(uintptr_t)(f->data + (CUdeviceptr)(act_first_row(a) * s->cols + a.col) * element);
    v.wide = cuda_is_wide(&v);
    return v;
}

cuda_view cuda_dense_view(CUdeviceptr p, int64_t rows, int64_t cols, bool bf16)
{
    cuda_view v = {.data = (void *)(uintptr_t)p,
                   .ld = cols,
                   .batch_stride = rows * cols,
                   .rows = rows,
                   .cols = cols,
                   .bf16 = bf16};
    v.wide = cuda_is_wide(&v);
    return v;
}

int cuda_is_wide(const cuda_view *v)
{
    size_t element = v->bf16 ? 2 : 4;
    return (uintptr_t)v->data % 16 == 0 && (size_t)v->ld * element % 16 == 0 &&
           (size_t)v->batch_stride * element % 16 == 0 && v->cols % 8 == 0;
}

cuda_table_view cuda_table_of(const cuda_ops *o, act t, int64_t batch)
{
    if (!act_present(t))
        return (cuda_table_view){0};
    cuda_view v = cuda_view_of(t);
    return (cuda_table_view){.data = v.data, .ld = v.ld, .batch = batch, .step = (const int32_t *)(uintptr_t)o->step};
}

/* ---- launches ---- */

flux1_status cuda_launch_on(cuda_ops *o, CUstream stream, cuda_kernel k, int64_t grid_x, int64_t grid_y, int64_t grid_z,
                            int threads, const void *args)
{
    static const char *const names[] = {
#define NAME(name, type) "cannot launch the kernel " #name,
        CUDA_KERNELS(NAME)
#undef NAME
    };
    if (grid_x <= 0 || grid_y <= 0 || grid_z <= 0)
        return FLUX1_OK;
    if (grid_x > INT32_MAX || grid_y > 65535 || grid_z > 65535)
        return error_set(o->head.err, FLUX1_ERR_LIMIT, "%s: more blocks than a GPU takes; ask for a smaller picture",
                         names[k]);
    void *parameters[] = {(void *)(uintptr_t)args};
    return cuda_check(&o->head,
                      o->lib->cuLaunchKernel(cuda_device_kernel(o->device, k), (unsigned)grid_x, (unsigned)grid_y,
                                             (unsigned)grid_z, (unsigned)threads, 1, 1, 0, stream, parameters, NULL),
                      names[k]);
}

flux1_status cuda_launch(cuda_ops *o, cuda_kernel k, int64_t grid_x, int64_t grid_y, int64_t grid_z, int threads,
                         const void *args)
{
    return cuda_launch_on(o, o->stream, k, grid_x, grid_y, grid_z, threads, args);
}

flux1_status cuda_launch_elements(cuda_ops *o, cuda_kernel k, cuda_element_args *a)
{
    enum { ELEMENTS_A_THREAD = 8, BLOCKS_A_PROCESSOR = 16 };
    const cuda_view *v = a->out.data ? &a->out : &a->in;
    int64_t elements = a->batch * v->rows * v->cols;
    int64_t blocks = i64_min(i64_ceil_div(elements, ELEMENTS_A_THREAD * CUDA_ROW_THREADS),
                             (int64_t)cuda_device_multiprocessors(o->device) * BLOCKS_A_PROCESSOR);
    return elements ? cuda_launch(o, k, blocks, 1, 1, CUDA_ROW_THREADS, a) : FLUX1_OK;
}

/* ---- host tensors, copies ---- */

static flux1_status copy_views(cuda_ops *o, const cuda_view *in, int64_t first, const cuda_view *out, int64_t batch)
{
    cuda_element_args a = {.in = *in, .out = *out, .first = first, .batch = batch};
    return cuda_launch_elements(o, CUDA_KERNEL_copy, &a);
}

static cuda_view row_range(cuda_view v, int64_t batch, int64_t first, int64_t rows)
{
    v.data = (char *)v.data + (size_t)(batch * v.batch_stride + first * v.ld) * (v.bf16 ? 2 : 4);
    v.rows = rows;
    v.wide = cuda_is_wide(&v);
    return v;
}

typedef enum direction { TO_DEVICE, TO_HOST } direction;

/* Part of a line of columns at a time where one row is larger than the buffer, otherwise as many rows as fit. */
static flux1_status move_rows(cuda_ops *o, direction way, float *host, const cuda_view *v, int64_t batch, int64_t first,
                              int64_t rows)
{
    cuda_view far = row_range(*v, batch, first, rows), near = cuda_dense_view(o->bounce, rows, v->cols, false);
    size_t bytes = (size_t)(rows * v->cols) * sizeof(float);
    if (way == TO_DEVICE) {
        TRY(cuda_check(&o->head, o->lib->cuMemcpyHtoDAsync(o->bounce, host, bytes, o->stream),
                       "cannot copy to the GPU"));
        return copy_views(o, &near, 0, &far, 1);
    }
    TRY(copy_views(o, &far, 0, &near, 1));
    TRY(cuda_check(&o->head, o->lib->cuMemcpyDtoHAsync(host, o->bounce, bytes, o->stream), "cannot copy from the GPU"));
    return cuda_check(&o->head, o->lib->cuStreamSynchronize(o->stream), "the GPU reports a failure");
}

static flux1_status move_host(ops *base, direction way, const tensor *host, act a, const char *operation)
{
    cuda_ops *o = cuda_self(base);
    dtype type = a.buffer->role == ACT_IDS ? DTYPE_I32 : DTYPE_F32;
    TRY(cuda_begin(base, operation, NULL));
    TRY(cuda_fits(base, host->type == type && tensor_elements(host) == act_batch(a) * act_rows(a) * a.cols, operation));
    cuda_view v = cuda_view_of(a);
    if (v.rows == 0 || v.cols == 0)
        return FLUX1_OK;
    int64_t most = (int64_t)(CUDA_BOUNCE / sizeof(float)) / v.cols;
    TRY(cuda_fits(base, most > 0, operation));
    for (int64_t b = 0; b < act_batch(a); b++)
        for (int64_t r = 0; r < v.rows; r += most)
            TRY(move_rows(o, way, (float *)host->data + (b * v.rows + r) * v.cols, &v, b, r,
                          i64_min(most, v.rows - r)));
    return FLUX1_OK;
}

flux1_status cuda_upload(ops *o, const tensor *host, act out) { return move_host(o, TO_DEVICE, host, out, "upload"); }
flux1_status cuda_download(ops *o, act in, tensor *host) { return move_host(o, TO_HOST, host, in, "download"); }

flux1_status cuda_copy_rows(ops *o, act in, int64_t first, act out)
{
    cuda_view from = cuda_view_of(in), to = cuda_view_of(out);
    TRY(cuda_begin(o, "copy_rows", NULL));
    TRY(cuda_fits(o,
                  in.cols == out.cols && act_batch(in) == act_batch(out) && first >= 0 &&
                      first + act_rows(out) <= act_rows(in),
                  "copy_rows"));
    return copy_views(cuda_self(o), &from, first, &to, act_batch(out));
}

flux1_status cuda_cast(ops *o, act in, act out) { return cuda_copy_rows(o, in, 0, out); }

/* ---- what ranks exchange: packed on the device; where no link moves it from there, at the mirror's own offset, then
 * copied to the host ---- */

size_t cuda_pack_bytes(ops *o, act a, int64_t rows)
{
    (void)o;
    return (size_t)(act_batch(a) * rows * a.cols) * (((const cuda_buffer *)a.buffer)->bf16 ? 2 : 4);
}

static CUdeviceptr behind(const cuda_ops *o, const void *bytes)
{
    return o->linked ? (CUdeviceptr)(uintptr_t)bytes
                     : o->arena + (CUdeviceptr)((const char *)bytes - (const char *)o->mirror);
}

flux1_status cuda_pack(ops *base, act in, int64_t first, int64_t rows, void *bytes)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "pack", NULL));
    TRY(cuda_fits(base, first >= 0 && first + rows <= act_rows(in), "pack"));
    cuda_view from = cuda_view_of(in), to = cuda_dense_view(behind(o, bytes), rows, in.cols, from.bf16);
    TRY(copy_views(o, &from, first, &to, act_batch(in)));
    if (o->linked)
        return FLUX1_OK;
    TRY(cuda_check(base, o->lib->cuMemcpyDtoHAsync(bytes, behind(o, bytes), cuda_pack_bytes(base, in, rows), o->stream),
                   "cannot copy from the GPU"));
    return cuda_check(base, o->lib->cuStreamSynchronize(o->stream), "the GPU reports a failure");
}

flux1_status cuda_unpack(ops *base, const void *bytes, act out, int64_t first, int64_t rows)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "unpack", NULL));
    TRY(cuda_fits(base, first >= 0 && first + rows <= act_rows(out), "unpack"));
    cuda_view to = row_range(cuda_view_of(out), 0, first, rows),
              from = cuda_dense_view(behind(o, bytes), rows, out.cols, to.bf16);
    if (o->linked)
        return copy_views(o, &from, 0, &to, act_batch(out));
    TRY(cuda_check(base,
                   o->lib->cuMemcpyHtoDAsync(behind(o, bytes), bytes, cuda_pack_bytes(base, out, rows), o->stream),
                   "cannot copy to the GPU"));
    TRY(copy_views(o, &from, 0, &to, act_batch(out)));
    return cuda_check(base, o->lib->cuStreamSynchronize(o->stream),
                      "the GPU reports a failure"); /* the host memory is the caller's again */
}

/* ---- order ---- */

flux1_status cuda_step_set(ops *base, int64_t step)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "step_set", NULL));
    return cuda_check(base, o->lib->cuMemsetD32Async(o->step, (unsigned)step, 1, o->stream), "cannot set the step");
}

flux1_status cuda_sync(ops *base)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "sync", NULL));
    return cuda_check(base, o->lib->cuStreamSynchronize(o->stream), "the GPU reports a failure");
}

flux1_status cuda_step_replay(ops *base, uint64_t recording, bool *done)
{
    cuda_ops *o = cuda_self(base);
    cuda_capture *c = &o->capture;
    *done = false;
    TRY(cuda_begin(base, "step_replay", NULL));
    drop_recording(o);
    if (c->number != recording) {
        if (c->graph)
            o->lib->cuGraphExecDestroy(c->graph);
        c->graph = NULL;
        c->warm = false;
        c->number = recording;
    }
    if (c->off || !c->warm)
        return FLUX1_OK;
    if (c->graph) {
        *done = true;
        return cuda_check(base, o->lib->cuGraphLaunch(c->graph, o->stream), "cannot replay a step");
    }
    TRY(cuda_check(base, o->lib->cuStreamBeginCapture(o->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
                   "cannot record a step"));
    c->recording = true;
    return FLUX1_OK;
}

flux1_status cuda_step_record(ops *base)
{
    cuda_ops *o = cuda_self(base);
    cuda_capture *c = &o->capture;
    c->warm = true;
    if (!c->recording)
        return FLUX1_OK;
    CUgraph graph = NULL;
    c->recording = false;
    TRY(cuda_check(base, o->lib->cuStreamEndCapture(o->stream, &graph), "cannot record a step"));
    flux1_status st =
        cuda_check(base, o->lib->cuGraphInstantiate(&c->graph, graph, 0), "cannot make a graph of a step");
    o->lib->cuGraphDestroy(graph);
    return st == FLUX1_OK ? cuda_check(base, o->lib->cuGraphLaunch(c->graph, o->stream), "cannot replay a step") : st;
}

void cuda_step_unwind(ops *base, size_t mark)
{
    cuda_ops *o = cuda_self(base);
    if (cuda_device_current(o->device, NULL) != FLUX1_OK)
        return;
    drop_recording(o);
    cuda_blocks_unwind(o);
    cuda_release(base, mark);
}

/* ---- checks ---- */

flux1_status cuda_finite(ops *base, act a, int slot)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "finite", NULL));
    TRY(cuda_fits(base, slot >= 0 && slot < CUDA_SLOTS, "finite"));
    cuda_element_args j = {.in = cuda_view_of(a), .batch = act_batch(a), .flag = (int32_t *)(uintptr_t)o->flags + slot};
    return cuda_launch_elements(o, CUDA_KERNEL_finite, &j);
}

/* The flags into one of the host's rows, and none of them on the device any more. */
static flux1_status take_flags(cuda_ops *o, int row)
{
    int32_t *to = o->host_flags + (size_t)row * CUDA_SLOTS;
    TRY(cuda_check(&o->head, o->lib->cuMemcpyDtoHAsync(to, o->flags, CUDA_SLOTS * sizeof *to, o->stream),
                   "cannot copy from the GPU"));
    return cuda_check(&o->head, o->lib->cuMemsetD8Async(o->flags, 0, CUDA_SLOTS * sizeof *to, o->stream),
                      "cannot clear the flags");
}

static int lowest_flag(const cuda_ops *o, int row)
{
    const int32_t *flags = o->host_flags + (size_t)row * CUDA_SLOTS;
    for (int i = 0; i < CUDA_SLOTS; i++)
        if (flags[i])
            return i;
    return -1;
}

flux1_status cuda_finite_first(ops *base, int *slot)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "finite_first", NULL));
    TRY(take_flags(o, 0));
    TRY(cuda_check(base, o->lib->cuStreamSynchronize(o->stream), "the GPU reports a failure"));
    *slot = lowest_flag(o, 0);
    return FLUX1_OK;
}

static int row_of(int64_t step) { return 1 + (int)(step % OPS_STEPS_AHEAD); }

flux1_status cuda_step_end(ops *base, int64_t step)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "step_end", NULL));
    TRY(take_flags(o, row_of(step)));
    return cuda_check(base, o->lib->cuEventRecord(o->ended[row_of(step) - 1], o->stream), "cannot mark a step's end");
}

flux1_status cuda_step_wait(ops *base, int64_t step, int *slot)
{
    cuda_ops *o = cuda_self(base);
    TRY(cuda_begin(base, "step_wait", NULL));
    TRY(cuda_check(base, o->lib->cuEventSynchronize(o->ended[row_of(step) - 1]), "the GPU reports a failure"));
    *slot = lowest_flag(o, row_of(step));
    return FLUX1_OK;
}
