/* cuDNN's backend interface: descriptors keep what they are given; attention and convolutions are computed from
 * that. */
#include "ops/cuda_emulator/device.h"
#include "ops/cuda_emulator/emulate.h"

#include <map>
#include <memory>
#include <vector>

namespace
{

struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool final = false;
    std::map<int, std::vector<char>> values;
    std::map<int, std::vector<std::shared_ptr<descriptor>>> parts;
};
typedef std::shared_ptr<descriptor> ref;

size_t size_of(cudnnBackendAttributeType_t t)
{
    switch (t) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR: return 8;
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR: return 1;
    default: return 4; /* enums, float */
    }
}

cudnnStatus_t create(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d)
{
    ref *r = new ref(new descriptor());
    (*r)->type = type;
    emulator_object(1);
    *d = r;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t destroy(cudnnBackendDescriptor_t d) { return emulator_object(-1), delete (ref *)d, CUDNN_STATUS_SUCCESS; }
cudnnStatus_t set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                  int64_t count, const void *values)
{
    descriptor *t = ((ref *)d)->get();
    if (t->final)
        return CUDNN_STATUS_NOT_INITIALIZED;
    if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        t->values[name].assign((const char *)values, (const char *)values + (size_t)count * size_of(type));
        return CUDNN_STATUS_SUCCESS;
    }
    for (int64_t i = 0; i < count; i++) {
        ref part = *((ref *const *)values)[i];
        if (!part->final)
            return CUDNN_STATUS_BAD_PARAM;
        t->parts[name].push_back(part);
    }
    return CUDNN_STATUS_SUCCESS;
}

template <typename T> std::vector<T> list(const ref &d, int name)
{
    const std::vector<char> &v = d->values[name];
    std::vector<T> x(v.size() / sizeof(T));
    if (!v.empty())
        memcpy(x.data(), v.data(), v.size());
    return x;
}
template <typename T> T one(const ref &d, int name)
{
    std::vector<T> x = list<T>(d, name);
    return x.empty() ? T() : x[0];
}
ref part(const ref &d, int name) { return d->parts[name].empty() ? nullptr : d->parts[name][0]; }

/* ---- tensors ---- */

struct tensor {
    std::vector<int64_t> dims, strides;
    bool bf16, is_virtual;
    int64_t number;
};
tensor tensor_of(const ref &d)
{
    if (!d)
        emulate_fail("a tensor of an operation is missing");
    return {list<int64_t>(d, CUDNN_ATTR_TENSOR_DIMENSIONS), list<int64_t>(d, CUDNN_ATTR_TENSOR_STRIDES),
            one<int>(d, CUDNN_ATTR_TENSOR_DATA_TYPE) == CUDNN_DATA_BFLOAT16,
            one<char>(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0, one<int64_t>(d, CUDNN_ATTR_TENSOR_UNIQUE_ID)};
}
void check_tensor(const tensor &t, const void *p)
{
    int64_t last = 0;
    for (int i = 0; i < 4; i++)
        last += (t.dims[(size_t)i] - 1) * t.strides[(size_t)i];
    emulator_check(p, (size_t)(last + 1) * (t.bf16 ? 2 : 4), "a tensor of cuDNN's");
    if ((uintptr_t)p % 16)
        emulate_fail("a tensor of cuDNN's is not at a multiple of 16 bytes, as its descriptor says");
}
int64_t at(const tensor &t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return a * t.strides[0] + b * t.strides[1] + c * t.strides[2] + d * t.strides[3];
}

typedef std::map<int64_t, void *> data;

/* ---- operations ---- */

bool takes_attention(const ref &op)
{
    tensor q = tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC));
    int64_t dim = q.dims[3];
    return q.bf16 && dim % 8 == 0 && (dim <= 256 || dim == 512) && q.strides[3] == 1;
}

/* The rows of a head, dense. */
std::vector<float> rows_of(const tensor &t, const void *p, int64_t b, int64_t h)
{
    std::vector<float> x;
    for (int64_t i = 0; i < t.dims[2]; i++)
        for (int64_t c = 0; c < t.dims[3]; c++)
            x.push_back(emulator_load(p, t.bf16, at(t, b, h, i, c)));
    return x;
}

void attend(const ref &op, const data &pointers)
{
    tensor q = tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC)),
           k = tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC));
    tensor v = tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC)),
           o = tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC));
    ref stats_part = part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC);
    const void *pq = pointers.at(q.number), *pk = pointers.at(k.number), *pv = pointers.at(v.number);
    void *po = pointers.at(o.number), *ps = stats_part ? pointers.at(tensor_of(stats_part).number) : nullptr;
    float scale = *(const float *)pointers.at(tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC)).number);
    check_tensor(q, pq), check_tensor(k, pk), check_tensor(v, pv), check_tensor(o, po);
    tensor stats = o;
    if (ps)
        check_tensor(stats = tensor_of(stats_part), ps);
    int64_t keys = k.dims[2], dim = q.dims[3];
    std::vector<double> p((size_t)keys);
    for (int64_t b = 0; b < q.dims[0]; b++)
        for (int64_t h = 0; h < q.dims[1]; h++) {
            std::vector<float> fq = rows_of(q, pq, b, h), fk = rows_of(k, pk, b, h), fv = rows_of(v, pv, b, h);
            for (int64_t i = 0; i < q.dims[2]; i++) {
                double top = -INFINITY, sum = 0;
                for (int64_t j = 0; j < keys; j++) {
                    p[(size_t)j] = emulator_dot(&fq[(size_t)(i * dim)], &fk[(size_t)(j * dim)], (size_t)dim) * scale;
                    top = p[(size_t)j] > top || p[(size_t)j] != p[(size_t)j] ? p[(size_t)j] : top;
                }
                for (double &x : p)
                    sum += x = exp(x - top);
                std::vector<double> y((size_t)dim);
                for (int64_t j = 0; j < keys; j++)
                    for (int64_t c = 0; c < dim; c++)
                        y[(size_t)c] += p[(size_t)j] * fv[(size_t)(j * dim + c)];
                for (int64_t c = 0; c < dim; c++)
                    emulator_store(po, true, at(o, b, h, i, c), (float)(y[(size_t)c] / sum));
                if (ps)
                    ((float *)ps)[at(stats, b, h, i, 0)] = (float)(top + log(sum));
            }
        }
    emulator_counters.sdpas++;
}

bool takes_convolution(const ref &op)
{
    tensor x = tensor_of(part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X)),
           y = tensor_of(part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y));
    return x.bf16 && x.dims[1] % 8 == 0 && y.dims[1] % 8 == 0 && x.strides[1] == 1;
}

/* What lies under the filter at an output place, as (row, column, channel). */
void patch(const tensor &x, const void *px, const tensor &w, int64_t n, int64_t top, int64_t left,
           std::vector<float> &to)
{
    size_t k = 0;
    for (int64_t r = top; r < top + w.dims[2]; r++)
        for (int64_t s = left; s < left + w.dims[3]; s++)
            for (int64_t ch = 0; ch < x.dims[1]; ch++, k++)
                to[k] = r < 0 || s < 0 || r >= x.dims[2] || s >= x.dims[3]
                            ? 0
                            : emulator_load(px, x.bf16, at(x, n, ch, r, s));
}

std::vector<float> filters(const tensor &w, const void *pw)
{
    std::vector<float> f;
    for (int64_t k = 0; k < w.dims[0]; k++)
        for (int64_t i = 0; i < w.dims[2]; i++)
            for (int64_t j = 0; j < w.dims[3]; j++)
                for (int64_t ch = 0; ch < w.dims[1]; ch++)
                    f.push_back(emulator_load(pw, w.bf16, at(w, k, ch, i, j)));
    return f;
}

/* Strides and paddings that give the output its size. */
void check_convolution(const tensor &x, const tensor &w, const tensor &y, const std::vector<int64_t> &stride,
                       const std::vector<int64_t> &before, const std::vector<int64_t> &behind)
{
    for (size_t i = 0; i < 2; i++)
        if ((x.dims[2 + i] + before[i] + behind[i] - w.dims[2 + i]) / stride[i] + 1 != y.dims[2 + i])
            emulate_fail("a convolution's output has %lld places where its paddings and stride make %lld",
                         (long long)y.dims[2 + i],
                         (long long)((x.dims[2 + i] + before[i] + behind[i] - w.dims[2 + i]) / stride[i] + 1));
    if (x.dims[1] != w.dims[1] || y.dims[1] != w.dims[0] || x.dims[0] != y.dims[0])
        emulate_fail("a convolution's operands do not fit");
}

void convolve(const ref &op, const data &pointers)
{
    tensor x = tensor_of(part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X)),
           w = tensor_of(part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W));
    tensor y = tensor_of(part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y));
    void *to = pointers.at(y.number);
    check_tensor(x, pointers.at(x.number)), check_tensor(w, pointers.at(w.number)), check_tensor(y, to);
    ref c = part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
    std::vector<int64_t> stride = list<int64_t>(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
                         before = list<int64_t>(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    check_convolution(x, w, y, stride, before, list<int64_t>(c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS));
    std::vector<float> f = filters(w, pointers.at(w.number)), under(f.size() / (size_t)w.dims[0]);
    for (int64_t n = 0; n < y.dims[0]; n++)
        for (int64_t row = 0; row < y.dims[2]; row++)
            for (int64_t col = 0; col < y.dims[3]; col++) {
                patch(x, pointers.at(x.number), w, n, row * stride[0] - before[0], col * stride[1] - before[1], under);
                for (int64_t k = 0; k < y.dims[1]; k++)
                    emulator_store(to, y.bf16, at(y, n, k, row, col),
                                   (float)emulator_dot(under.data(), &f[(size_t)k * under.size()], under.size()));
            }
    emulator_counters.convs++;
}

bool takes(const std::vector<ref> &ops)
{
    if (ops.size() != 1)
        return false;
    if (ops[0]->type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR)
        return takes_attention(ops[0]);
    return ops[0]->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR && takes_convolution(ops[0]);
}

/* ---- heuristics, plans ---- */

cudnnStatus_t finalize(cudnnBackendDescriptor_t d)
{
    ref r = *(ref *)d;
    if (r->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR && r->values[CUDNN_ATTR_OPERATIONGRAPH_HANDLE].empty())
        return CUDNN_STATUS_BAD_PARAM;
    r->final = true;
    emulator_counters.plans += r->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t,
                  int64_t room, int64_t *count, void *values)
{
    ref r = *(ref *)d;
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        int64_t bytes = 4096;
        *count = 1;
        memcpy(values, &bytes, sizeof bytes);
        return CUDNN_STATUS_SUCCESS;
    }
    if (name != CUDNN_ATTR_ENGINEHEUR_RESULTS)
        return CUDNN_STATUS_NOT_SUPPORTED;
    ref graph = part(r, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    *count = takes(graph->parts[CUDNN_ATTR_OPERATIONGRAPH_OPS]) ? 1 : 0;
    emulator_counters.refused_graphs += !*count;
    if (room > 0 && *count) {
        ref cfg = **(ref **)values;
        cfg->parts[CUDNN_ATTR_ENGINECFG_ENGINE] = {graph};
        cfg->final = true;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    if (emulator_broken())
        return CUDNN_STATUS_EXECUTION_FAILED;
    ref p = *(ref *)plan, v = *(ref *)pack,
        graph = part(part(p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG), CUDNN_ATTR_ENGINECFG_ENGINE);
    std::vector<int64_t> numbers = list<int64_t>(v, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    std::vector<void *> pointers = list<void *>(v, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    emulator_check(one<void *>(v, CUDNN_ATTR_VARIANT_PACK_WORKSPACE), 4096, "cuDNN's workspace");
    data all;
    for (size_t i = 0; i < numbers.size(); i++)
        all[numbers[i]] = pointers[i];
    std::vector<ref> ops = graph->parts[CUDNN_ATTR_OPERATIONGRAPH_OPS];
    bool attention = ops[0]->type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR;
    std::shared_ptr<float> scale;
    if (attention) { /* a value of the host's is read now, not when a graph is replayed */
        int64_t number = tensor_of(part(ops[0], CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC)).number;
        scale = std::make_shared<float>(*(const float *)all.at(number));
        all[number] = scale.get();
    }
    CUstream stream = **(CUstream **)handle;
    emulator_workspace(one<void *>(v, CUDNN_ATTR_VARIANT_PACK_WORKSPACE), stream);
    emulator_enqueue(stream, [=]() {
        (void)scale;
        attention ? attend(ops[0], all) : convolve(ops[0], all);
    });
    return CUDNN_STATUS_SUCCESS;
}

size_t version(void) { return 91900; }
const char *error_string(cudnnStatus_t) { return "an emulated failure"; }
void last_error(char *text, size_t room) { snprintf(text, room, "an emulated failure"); }
cudnnStatus_t open(cudnnHandle_t *h)
{
    return emulator_object(1), *h = (cudnnHandle_t) new CUstream *(new CUstream()), CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t close(cudnnHandle_t h)
{
    delete *(CUstream **)h;
    delete (CUstream **)h;
    emulator_object(-1);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t set_stream(cudnnHandle_t h, cudaStream_t s)
{
    return **(CUstream **)h = (CUstream)s, CUDNN_STATUS_SUCCESS;
}

} // namespace

void emulator_fill_dnn(cuda_libraries *t)
{
    t->cudnnGetVersion = version, t->cudnnGetErrorString = error_string, t->cudnnGetLastErrorString = last_error,
    t->cudnnCreate = open, t->cudnnDestroy = close;
    t->cudnnSetStream = set_stream, t->cudnnBackendCreateDescriptor = create,
    t->cudnnBackendDestroyDescriptor = destroy, t->cudnnBackendSetAttribute = set;
    t->cudnnBackendGetAttribute = get, t->cudnnBackendFinalize = finalize, t->cudnnBackendExecute = execute;
}
