#include "ops/cuda/dnn.h"

#include <string.h>

static bool ok(dnn_builder *b, cudnnStatus_t s)
{
    b->failed = b->failed || s != CUDNN_STATUS_SUCCESS;
    return !b->failed;
}

static cudnnBackendDescriptor_t make(dnn_builder *b, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    if (b->made_count == DNN_DESCRIPTORS)
        b->failed = true;
    if (b->failed || !ok(b, b->lib->cudnnBackendCreateDescriptor(type, &d)))
        return NULL;
    return b->made[b->made_count++] = d;
}

static void set(dnn_builder *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (!b->failed)
        ok(b, b->lib->cudnnBackendSetAttribute(d, name, type, count, values));
}

static void set_descriptor(dnn_builder *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                           cudnnBackendDescriptor_t value)
{
    set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static cudnnBackendDescriptor_t finalised(dnn_builder *b, cudnnBackendDescriptor_t d)
{
    if (!b->failed)
        ok(b, b->lib->cudnnBackendFinalize(d));
    return b->failed ? NULL : d;
}

/* ---- tensors ---- */

typedef enum tensor_kind { TENSOR_DATA, TENSOR_SCALAR } tensor_kind;

static cudnnBackendDescriptor_t tensor_of(dnn_builder *b, int64_t number, cudnnDataType_t type, const int64_t *dims,
                                          const int64_t *strides, tensor_kind kind)
{
    const int64_t alignment = 16;
    const bool yes = true;
    cudnnBackendDescriptor_t t = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(b, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &number);
    set(b, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(b, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(b, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (kind == TENSOR_SCALAR)
        set(b, t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes);
    return finalised(b, t);
}

/* A tensor of up to four dimensions. Its number is what data is handed over under. */
static cudnnBackendDescriptor_t data_tensor(dnn_builder *b, int64_t number, cudnnDataType_t type, const int64_t dims[4],
                                            const int64_t strides[4])
{
    return tensor_of(b, number, type, dims, strides, TENSOR_DATA);
}

/* One float, read from the host when the plan runs. */
static cudnnBackendDescriptor_t scalar_tensor(dnn_builder *b, int64_t number)
{
    static const int64_t ones[4] = {1, 1, 1, 1};
    return tensor_of(b, number, CUDNN_DATA_FLOAT, ones, ones, TENSOR_SCALAR);
}

/* ---- operations ---- */

static void append(dnn_builder *b, cudnnBackendDescriptor_t operation)
{
    operation = finalised(b, operation);
    if (!b->failed)
        b->operation[b->operation_count++] = operation;
}

/* o = softmax(q·kᵀ·scale)·v; dims [batch, heads, rows, head size]; stats may be NULL: log-sum-exp, float32 [batch,
 * heads, rows, 1], dense. */
static void append_attention(dnn_builder *b, const cudnnBackendDescriptor_t qkvo[4], cudnnBackendDescriptor_t scale,
                             cudnnBackendDescriptor_t stats)
{
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, qkvo[0]);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, qkvo[1]);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, qkvo[2]);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, qkvo[3]);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    if (stats)
        set_descriptor(b, d, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, stats);
    append(b, d);
}

static cudnnBackendDescriptor_t convolution_of(dnn_builder *b, int64_t stride, int64_t before, int64_t behind)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dims = 2, strides[] = {stride, stride}, pre[] = {before, before}, post[] = {behind, behind},
                  dilations[] = {1, 1};
    cudnnBackendDescriptor_t c = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(b, c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(b, c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
    set(b, c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
    set(b, c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    set(b, c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pre);
    set(b, c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, post);
    return finalised(b, c);
}

/* y = conv(x, w); dims [n, channels, height, width] and [out, in, kernel, kernel]; zeros before and behind in both
 * directions. */
static void append_convolution(dnn_builder *b, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                               cudnnBackendDescriptor_t y, int64_t stride, int64_t before, int64_t behind)
{
    const float one = 1, zero = 0;
    cudnnBackendDescriptor_t c = convolution_of(b, stride, before, behind),
                             d = make(b, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, c);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    set(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    set(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    append(b, d);
}

/* ---- the backend's graphs ---- */

void dnn_attention_graph(dnn_builder *b, const dnn_attention_shape *s)
{
    cudnnBackendDescriptor_t t[4], stats = NULL;
    for (int i = 0; i < 4; i++) {
        const int64_t dims[4] = {s->batch, s->heads, i == 1 || i == 2 ? s->keys : s->queries, s->dim},
                      strides[4] = {s->batch_stride[i], s->dim, s->ld[i], 1};
        t[i] = data_tensor(b, DNN_Q + i, CUDNN_DATA_BFLOAT16, dims, strides);
    }
    if (s->stats) {
        const int64_t dims[4] = {s->batch, s->heads, s->queries, 1},
                      strides[4] = {s->heads * s->queries, s->queries, 1, 1};
        stats = data_tensor(b, DNN_STATS, CUDNN_DATA_FLOAT, dims, strides);
    }
    append_attention(b, t, scalar_tensor(b, DNN_SCALE), stats);
}

/* dims and strides of channels-last rows of `ld`. */
static void plane(int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t ld, int64_t dims[4],
                  int64_t strides[4])
{
    dims[0] = batch, dims[1] = channels, dims[2] = height, dims[3] = width;
    strides[0] = height * width * ld, strides[1] = 1, strides[2] = width * ld, strides[3] = ld;
}

void dnn_convolution_graph(dnn_builder *b, const dnn_convolution_shape *s)
{
    int64_t dims[4], strides[4], k = s->kernel;
    const int64_t filter[4] = {s->out, s->in, k, k}, filter_strides[4] = {k * k * s->in, 1, k * s->in, s->in};
    plane(s->batch, s->in, s->height, s->width, s->in_ld, dims, strides);
    cudnnBackendDescriptor_t x = data_tensor(b, DNN_X, CUDNN_DATA_BFLOAT16, dims, strides),
                             w = data_tensor(b, DNN_W, CUDNN_DATA_BFLOAT16, filter, filter_strides);
    plane(s->batch, s->out, s->out_height, s->out_width, s->out_ld, dims, strides);
    append_convolution(b, x, w, data_tensor(b, DNN_Y, CUDNN_DATA_BFLOAT16, dims, strides), s->stride,
                       s->stride == 1 ? k / 2 : 0, k / 2);
}

/* ---- plans ---- */

/* A plan of this configuration, if it is supported and small enough; NULL otherwise. */
static cudnnBackendDescriptor_t try_configuration(dnn_builder *b, cudnnBackendDescriptor_t configuration,
                                                  size_t workspace, size_t *needed)
{
    const cuda_libraries *lib = b->lib;
    cudnnBackendDescriptor_t plan = NULL;
    int64_t bytes = 0, count = 0;
    if (lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan) != CUDNN_STATUS_SUCCESS)
        return NULL;
    bool good = lib->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                              CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &configuration) == CUDNN_STATUS_SUCCESS;
    if (good && b->handle)
        good = lib->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1,
                                             &b->handle) == CUDNN_STATUS_SUCCESS;
    if (good && b->property)
        good = lib->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                             1, &b->property) == CUDNN_STATUS_SUCCESS;
    good = good && lib->cudnnBackendFinalize(plan) == CUDNN_STATUS_SUCCESS &&
           lib->cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                         &bytes) == CUDNN_STATUS_SUCCESS &&
           bytes >= 0 && (size_t)bytes <= workspace;
    if (!good && b->property) {
        char words[512] = "";
        lib->cudnnGetLastErrorString(words, sizeof words);
        b->compiled = b->compiled || strstr(words, "cuLibraryLoadData") != NULL;
    }
    if (!good) {
        lib->cudnnBackendDestroyDescriptor(plan);
        return NULL;
    }
    *needed = (size_t)bytes;
    return plan;
}

enum { CONFIGURATIONS = 16, NOTES = 16 };

/* Whether a configuration's engine says that it compiles at run time. */
static bool compiles(dnn_builder *b, cudnnBackendDescriptor_t configuration)
{
    cudnnBackendBehaviorNote_t note[NOTES];
    cudnnBackendDescriptor_t engine = NULL;
    int64_t count = 0;
    bool found = false;
    if (b->lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS)
        return false;
    if (b->lib->cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                         &count, &engine) == CUDNN_STATUS_SUCCESS &&
        b->lib->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, NOTES,
                                         &count, note) == CUDNN_STATUS_SUCCESS)
        for (int64_t i = 0; i < count && i < NOTES; i++)
            found = found || note[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    b->lib->cudnnBackendDestroyDescriptor(engine);
    return found;
}

/* The first of the heuristic's answers that makes a plan; where finished kernels are wanted, of their engines. */
static cudnnBackendDescriptor_t first_plan(dnn_builder *b, cudnnBackendDescriptor_t *answers, int64_t count, bool ready,
                                           size_t workspace, size_t *needed)
{
    cudnnBackendDescriptor_t plan = NULL;
    for (int64_t i = 0; i < count && !plan; i++)
        if (!ready || !compiles(b, answers[i]))
            plan = try_configuration(b, answers[i], workspace, needed);
    return plan;
}

static cudnnBackendDescriptor_t ask(dnn_builder *b, cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                                    bool ready, size_t workspace, size_t *needed)
{
    cudnnBackendDescriptor_t h = make(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), answers[CONFIGURATIONS] = {0},
                             plan = NULL;
    int64_t count = 0, got = 0;
    set_descriptor(b, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(b, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (b->property)
        set_descriptor(b, h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, b->property);
    if (b->failed || b->lib->cudnnBackendFinalize(h) != CUDNN_STATUS_SUCCESS ||
        b->lib->cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                                         NULL) != CUDNN_STATUS_SUCCESS)
        return NULL;
    count = count < CONFIGURATIONS ? count : CONFIGURATIONS;
    for (int64_t i = 0; i < count; i++)
        if (b->lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &answers[i]) !=
            CUDNN_STATUS_SUCCESS)
            count = i;
    if (count > 0 && b->lib->cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                                      count, &got, answers) == CUDNN_STATUS_SUCCESS)
        plan = first_plan(b, answers, got < count ? got : count, ready, workspace, needed);
    for (int64_t i = 0; i < CONFIGURATIONS; i++)
        if (answers[i])
            b->lib->cudnnBackendDestroyDescriptor(answers[i]);
    return plan;
}

cudnnBackendDescriptor_t dnn_finish(dnn_builder *b, size_t workspace, size_t *needed)
{
    cudnnBackendDescriptor_t graph = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR), plan = NULL;
    set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, b->operation_count, b->operation);
    if (b->handle)
        set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->handle);
    if (finalised(b, graph)) {
        for (int any = b->ready ? 0 : 1; any < 2 && !plan; any++) {
            plan = ask(b, graph, CUDNN_HEUR_MODE_A, !any, workspace, needed);
            if (!plan)
                plan = ask(b, graph, CUDNN_HEUR_MODE_FALLBACK, !any, workspace, needed);
        }
    }
    while (b->made_count > 0) /* the plan keeps what it needs */
        b->lib->cudnnBackendDestroyDescriptor(b->made[--b->made_count]);
    return plan;
}

bool dnn_run(const cuda_libraries *lib, cudnnHandle_t handle, cudnnBackendDescriptor_t plan, int count,
             const int64_t *numbers, void *const *pointers, void *workspace)
{
    cudnnBackendDescriptor_t pack = NULL;
    if (lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack) != CUDNN_STATUS_SUCCESS)
        return false;
    bool good = lib->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count,
                                              numbers) == CUDNN_STATUS_SUCCESS &&
                lib->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count,
                                              pointers) == CUDNN_STATUS_SUCCESS &&
                lib->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
                                              &workspace) == CUDNN_STATUS_SUCCESS &&
                lib->cudnnBackendFinalize(pack) == CUDNN_STATUS_SUCCESS &&
                lib->cudnnBackendExecute(handle, plan, pack) == CUDNN_STATUS_SUCCESS;
    lib->cudnnBackendDestroyDescriptor(pack);
    return good;
}
