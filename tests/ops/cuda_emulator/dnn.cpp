/* cuDNN's backend interface: descriptors keep what they are given; attention and convolutions with additions behind them are computed from that. */
#include "ops/cuda_emulator/device.h"
#include "ops/cuda_emulator/emulate.h"

#include <map>
#include <memory>
#include <vector>

namespace {

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
    emulator_counters.live_objects++;
    *d = r;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t destroy(cudnnBackendDescriptor_t d) { return emulator_counters.live_objects--, delete (ref *)d, CUDNN_STATUS_SUCCESS; }
cudnnStatus_t set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void *values)
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
    bool half, is_virtual;
    int64_t number;
};
tensor tensor_of(const ref &d)
{
    return {list<int64_t>(d, CUDNN_ATTR_TENSOR_DIMENSIONS), list<int64_t>(d, CUDNN_ATTR_TENSOR_STRIDES), one<int>(d, CUDNN_ATTR_TENSOR_DATA_TYPE) == CUDNN_DATA_BFLOAT16,
            one<char>(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0, one<int64_t>(d, CUDNN_ATTR_TENSOR_UNIQUE_ID)};
}
void check_tensor(const tensor &t, const void *p)
{
    int64_t last = 0;
    for (int i = 0; i < 4; i++)
        last += (t.dims[(size_t)i] - 1) * t.strides[(size_t)i];
    emulator_check(p, (size_t)(last + 1) * (t.half ? 2 : 4), "a tensor of cuDNN's");
    if ((uintptr_t)p % 16)
        emulate_fail("a tensor of cuDNN's is not at a multiple of 16 bytes, as its descriptor says");
}
int64_t at(const tensor &t, int64_t a, int64_t b, int64_t c, int64_t d) { return a * t.strides[0] + b * t.strides[1] + c * t.strides[2] + d * t.strides[3]; }

typedef std::map<int64_t, void *> data;

/* ---- operations ---- */

bool takes_attention(const ref &op)
{
    tensor q = tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC));
    int64_t dim = q.dims[3];
    return q.half && dim % 8 == 0 && (dim <= 256 || dim == 512) && q.strides[3] == 1;
}

void attend(const ref &op, const data &pointers)
{
    tensor q = tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC)), k = tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC));
    tensor v = tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC)), o = tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC));
    ref stats_part = part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC);
    const void *pq = pointers.at(q.number), *pk = pointers.at(k.number), *pv = pointers.at(v.number);
    void *po = pointers.at(o.number), *ps = stats_part ? pointers.at(tensor_of(stats_part).number) : nullptr;
    float scale = *(const float *)pointers.at(tensor_of(part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC)).number);
    check_tensor(q, pq), check_tensor(k, pk), check_tensor(v, pv), check_tensor(o, po);
    if (ps)
        check_tensor(tensor_of(stats_part), ps);
    int64_t keys = k.dims[2], dim = q.dims[3];
    std::vector<double> p((size_t)keys);
    for (int64_t b = 0; b < q.dims[0]; b++)
        for (int64_t h = 0; h < q.dims[1]; h++)
            for (int64_t i = 0; i < q.dims[2]; i++) {
                double top = -INFINITY, sum = 0;
                for (int64_t j = 0; j < keys; j++) {
                    double s = 0;
                    for (int64_t c = 0; c < dim; c++)
                        s += (double)emulator_load(pq, true, at(q, b, h, i, c)) * emulator_load(pk, true, at(k, b, h, j, c));
                    p[(size_t)j] = s * scale;
                    top = p[(size_t)j] > top || p[(size_t)j] != p[(size_t)j] ? p[(size_t)j] : top;
                }
                for (double &x : p)
                    sum += x = exp(x - top);
                for (int64_t c = 0; c < dim; c++) {
                    double s = 0;
                    for (int64_t j = 0; j < keys; j++)
                        s += p[(size_t)j] * emulator_load(pv, true, at(v, b, h, j, c));
                    emulator_store(po, true, at(o, b, h, i, c), (float)(s / sum));
                }
                if (ps)
                    ((float *)ps)[at(tensor_of(stats_part), b, h, i, 0)] = (float)(top + log(sum));
            }
    emulator_counters.sdpas++;
}

bool takes_convolution(const std::vector<ref> &ops)
{
    tensor x = tensor_of(part(ops[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X)), y = tensor_of(part(ops[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y));
    bool plain_only = y.dims[1] == 40; /* some engines fuse nothing */
    return x.half && x.dims[1] % 8 == 0 && y.dims[1] % 8 == 0 && x.strides[1] == 1 && (ops.size() == 1 || !plain_only);
}

/* The convolution's value at an output place. */
double convolved(const ref &op, const tensor &x, const void *px, const tensor &w, const void *pw, int64_t n, int64_t k, int64_t row, int64_t col)
{
    ref c = part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
    std::vector<int64_t> stride = list<int64_t>(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES), before = list<int64_t>(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    double sum = 0;
    for (int64_t i = 0; i < w.dims[2]; i++)
        for (int64_t j = 0; j < w.dims[3]; j++) {
            int64_t r = row * stride[0] + i - before[0], s = col * stride[1] + j - before[1];
            if (r < 0 || s < 0 || r >= x.dims[2] || s >= x.dims[3])
                continue;
            for (int64_t ch = 0; ch < x.dims[1]; ch++)
                sum += (double)emulator_load(px, x.half, at(x, n, ch, r, s)) * emulator_load(pw, w.half, at(w, k, ch, i, j));
        }
    return sum;
}

int64_t folded(int64_t i, int64_t dim) { return dim == 1 ? 0 : i; }

void convolve(const std::vector<ref> &ops, const data &pointers)
{
    const ref &op = ops[0];
    tensor x = tensor_of(part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X)), w = tensor_of(part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W));
    tensor y = tensor_of(part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y)), out = y;
    std::vector<tensor> added;
    for (size_t i = 1; i < ops.size(); i++) {
        added.push_back(tensor_of(part(ops[i], CUDNN_ATTR_OPERATION_POINTWISE_BDESC)));
        if (tensor_of(part(ops[i], CUDNN_ATTR_OPERATION_POINTWISE_XDESC)).number != out.number)
            emulate_fail("an addition that does not follow what is before it");
        out = tensor_of(part(ops[i], CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    }
    void *po = pointers.at(out.number);
    check_tensor(x, pointers.at(x.number)), check_tensor(w, pointers.at(w.number)), check_tensor(out, po);
    for (tensor &t : added)
        check_tensor(t, pointers.at(t.number));
    for (int64_t n = 0; n < y.dims[0]; n++)
        for (int64_t k = 0; k < y.dims[1]; k++)
            for (int64_t r = 0; r < y.dims[2]; r++)
                for (int64_t c = 0; c < y.dims[3]; c++) {
                    double v = convolved(op, x, pointers.at(x.number), w, pointers.at(w.number), n, k, r, c);
                    for (tensor &t : added)
                        v += emulator_load(pointers.at(t.number), t.half, at(t, folded(n, t.dims[0]), k, folded(r, t.dims[2]), folded(c, t.dims[3])));
                    emulator_store(po, out.half, at(out, n, k, r, c), (float)v);
                }
    emulator_counters.convs++;
}

bool takes(const std::vector<ref> &ops)
{
    if (ops.empty())
        return false;
    if (ops[0]->type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR)
        return ops.size() == 1 && takes_attention(ops[0]);
    return ops[0]->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR && takes_convolution(ops);
}

/* ---- heuristics, plans ---- */

cudnnStatus_t finalize(cudnnBackendDescriptor_t d)
{
    ref r = *(ref *)d;
    if (r->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR && r->values[CUDNN_ATTR_OPERATIONGRAPH_HANDLE].empty())
        return CUDNN_STATUS_BAD_PARAM;
    r->final = true;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t, int64_t room, int64_t *count, void *values)
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
    ref p = *(ref *)plan, v = *(ref *)pack, graph = part(part(p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG), CUDNN_ATTR_ENGINECFG_ENGINE);
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
    emulator_enqueue(stream, [=]() {
        (void)scale;
        attention ? attend(ops[0], all) : convolve(ops, all);
    });
    return CUDNN_STATUS_SUCCESS;
}

size_t version(void) { return 91900; }
const char *error_string(cudnnStatus_t) { return "an emulated failure"; }
void last_error(char *text, size_t room) { snprintf(text, room, "an emulated failure"); }
cudnnStatus_t open(cudnnHandle_t *h) { return emulator_counters.live_objects++, *h = (cudnnHandle_t) new CUstream *(new CUstream()), CUDNN_STATUS_SUCCESS; }
cudnnStatus_t close(cudnnHandle_t h)
{
    delete *(CUstream **)h;
    delete (CUstream **)h;
    emulator_counters.live_objects--;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t set_stream(cudnnHandle_t h, cudaStream_t s) { return **(CUstream **)h = (CUstream)s, CUDNN_STATUS_SUCCESS; }

} // namespace

void emulator_fill_dnn(cuda_libraries *t)
{
    t->cudnnGetVersion = version, t->cudnnGetErrorString = error_string, t->cudnnGetLastErrorString = last_error, t->cudnnCreate = open, t->cudnnDestroy = close;
    t->cudnnSetStream = set_stream, t->cudnnBackendCreateDescriptor = create, t->cudnnBackendDestroyDescriptor = destroy, t->cudnnBackendSetAttribute = set;
    t->cudnnBackendGetAttribute = get, t->cudnnBackendFinalize = finalize, t->cudnnBackendExecute = execute;
}
