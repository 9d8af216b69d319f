/* cuBLASLt's functions: D = epilogue(Aᵀ·B) or A·B, column-major, as the backend asks for it. */
#include "ops/cuda_emulator/device.h"
#include "ops/cuda_emulator/emulate.h"

#include "base/half.h"

#include <vector>

namespace
{

struct product {
    cublasOperation_t transa = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;
    cudaDataType_t bias_type = CUDA_R_32F;
    int32_t scale_mode[2] = {CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F,
                             CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F}; /* of A, B */
    const float *scale[2] = {nullptr, nullptr};
};
struct layout {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
};
struct preference {
    uint32_t align[4] = {256, 256, 256, 256};
    size_t workspace = 0;
};

product *of(cublasLtMatmulDesc_t d) { return (product *)d; }
layout *of(cublasLtMatrixLayout_t d) { return (layout *)d; }

cublasStatus_t create(cublasLtHandle_t *h)
{
    return emulator_object(1), *h = (cublasLtHandle_t)1, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t destroy(cublasLtHandle_t) { return emulator_object(-1), CUBLAS_STATUS_SUCCESS; }
size_t blas_version = 130100;
cuda_emulator_refusals refusals = CUDA_EMULATOR_REFUSES_NONE;
size_t version(void) { return blas_version; }
const char *status_string(cublasStatus_t) { return "an emulated failure"; }

cublasStatus_t product_create(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    emulator_object(1);
    emulator_counters.plans++;
    *d = (cublasLtMatmulDesc_t) new product();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t product_destroy(cublasLtMatmulDesc_t d)
{
    return emulator_object(-1), delete of(d), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t product_set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t a, const void *value, size_t)
{
    product *p = of(d);
    switch (a) {
    case CUBLASLT_MATMUL_DESC_TRANSA: memcpy(&p->transa, value, sizeof p->transa); return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: memcpy(&p->epilogue, value, sizeof p->epilogue); return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: memcpy(&p->bias, value, sizeof p->bias); return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        memcpy(&p->bias_type, value, sizeof p->bias_type);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_A_SCALE_MODE:
        memcpy(&p->scale_mode[0], value, sizeof p->scale_mode[0]);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_B_SCALE_MODE:
        memcpy(&p->scale_mode[1], value, sizeof p->scale_mode[1]);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
        memcpy(&p->scale[0], value, sizeof p->scale[0]);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
        memcpy(&p->scale[1], value, sizeof p->scale[1]);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_FAST_ACCUM: return CUBLAS_STATUS_SUCCESS;
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}
cublasStatus_t layout_create(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld)
{
    if (ld < (int64_t)rows)
        return CUBLAS_STATUS_INVALID_VALUE;
    emulator_object(1);
    *l = (cublasLtMatrixLayout_t) new layout{type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t layout_destroy(cublasLtMatrixLayout_t l)
{
    return emulator_object(-1), delete of(l), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t preference_create(cublasLtMatmulPreference_t *p)
{
    return emulator_object(1), *p = (cublasLtMatmulPreference_t) new preference(), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t preference_destroy(cublasLtMatmulPreference_t p)
{
    return emulator_object(-1), delete (preference *)p, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t preference_set(cublasLtMatmulPreference_t handle, cublasLtMatmulPreferenceAttributes_t a,
                              const void *value, size_t)
{
    preference *p = (preference *)handle;
    if (a == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        memcpy(&p->workspace, value, sizeof p->workspace);
    else if (a >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES && a <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES)
        memcpy(&p->align[a - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, sizeof p->align[0]);
    else
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

bool bf16(const layout *l) { return l->type == CUDA_R_16BF; }
bool e4m3(const layout *l) { return l->type == CUDA_R_8F_E4M3; }
size_t element(const layout *l) { return e4m3(l) ? 1 : bf16(l) ? 2 : 4; }

/* e4m3: sizes in multiples of 16, both operands scaled in one way (by rows on Hopper only), a bf16 bias. */
bool takes_e4m3(const product *p, const layout *a, const layout *b, const layout *d)
{
    bool rows = p->scale_mode[0] == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F,
         biased = p->epilogue != CUBLASLT_EPILOGUE_DEFAULT;
    return a->rows % 16 == 0 && a->cols % 16 == 0 && a->ld % 16 == 0 && b->ld % 16 == 0 && d->ld % 16 == 0 &&
           p->scale[0] && p->scale[1] && emulator_capability >= 89 && p->scale_mode[0] == p->scale_mode[1] &&
           (!rows || (emulator_capability == 90 && blas_version >= 120900)) && (!biased || p->bias_type == CUDA_R_16BF);
}

/* What a strict library takes: operands of one type, rows and addresses at multiples of 4 bytes, biases of the result's
 * type. */
bool takes(const product *p, const layout *a, const layout *b, const layout *d)
{
    bool biased = p->epilogue != CUBLASLT_EPILOGUE_DEFAULT;
    if (e4m3(a) && !takes_e4m3(p, a, b, d))
        return false;
    const uint64_t inner = p->transa == CUBLAS_OP_T ? a->rows : a->cols,
                   outer = p->transa == CUBLAS_OP_T ? a->cols : a->rows;
    return (p->transa == CUBLAS_OP_T || !e4m3(a)) && a->type == b->type && inner > 0 && inner == b->rows &&
           outer == d->rows && b->cols == d->cols && (bf16(a) || e4m3(a) || !bf16(d)) &&
           (!bf16(a) || (a->ld % 2 == 0 && b->ld % 2 == 0)) && (!bf16(d) || d->ld % 2 == 0) &&
           (!biased || p->bias_type == d->type) && (p->epilogue != CUBLASLT_EPILOGUE_GELU_BIAS || bf16(d));
}

cublasStatus_t heuristic(cublasLtHandle_t, cublasLtMatmulDesc_t p, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                         cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t wish, int room,
                         cublasLtMatmulHeuristicResult_t found[], int *count)
{
    const preference *w = (const preference *)wish;
    bool good = takes(of(p), of(a), of(b), of(d)) && room > 0;
    for (int i = 0; i < 4; i++)
        good = good && w->align[i] >= (e4m3(of(a)) ? 16u : 4u);
    *count = good ? 1 : 0;
    if (!good)
        return emulator_counters.refused_matmuls++, CUBLAS_STATUS_NOT_SUPPORTED;
    found[0] = {};
    found[0].algo.data[0] = 42;
    for (int i = 0; i < 4; i++)
        found[0].algo.data[1 + i] = w->align[i]; /* of A, B, C, D: what this algorithm counts on */
    found[0].workspaceSize = 1024;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t check(cublasLtHandle_t, cublasLtMatmulDesc_t p, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                     cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algo,
                     cublasLtMatmulHeuristicResult_t *result)
{
    *result = {};
    return algo->data[0] == 42 && takes(of(p), of(a), of(b), of(d)) ? CUBLAS_STATUS_SUCCESS
                                                                    : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* Address and rows at the multiples that the algorithm was asked for with. */
void check_alignment(const void *p, const layout *l, uint64_t align, const char *what)
{
    if ((uintptr_t)p % align || (l->cols > 1 && (size_t)l->ld * element(l) % align))
        emulate_fail("%s: at %p, rows of %lld elements, but multiples of %llu bytes were promised", what, p,
                     (long long)l->ld, (unsigned long long)align);
}

std::vector<float> widened(const void *p, const layout *l, const char *what)
{
    emulator_check(p, ((size_t)(l->cols - 1) * (size_t)l->ld + l->rows) * element(l), what);
    std::vector<float> x(l->rows * l->cols);
    for (uint64_t c = 0; c < l->cols; c++)
        for (uint64_t r = 0; r < l->rows; r++)
            x[c * l->rows + r] = e4m3(l) ? e4m3_to_f32(((const uint8_t *)p)[c * (uint64_t)l->ld + r])
                                         : emulator_load(p, bf16(l), (int64_t)(c * (uint64_t)l->ld + r));
    return x;
}

std::vector<float> turned(const std::vector<float> &x, uint64_t rows, uint64_t cols)
{
    std::vector<float> y(x.size());
    for (uint64_t c = 0; c < cols; c++)
        for (uint64_t r = 0; r < rows; r++)
            y[r * cols + c] = x[c * rows + r];
    return y;
}

float gelu(float x) { return (float)(0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * (double)x * x * x)))); }

void multiply(const product p, const void *a, const layout la, const void *b, const layout lb, void *d, const layout ld)
{
    std::vector<float> x = widened(a, &la, "product, A"), y = widened(b, &lb, "product, B");
    if (p.transa == CUBLAS_OP_N)
        x = turned(x, la.rows, la.cols);
    bool biased = p.epilogue != CUBLASLT_EPILOGUE_DEFAULT,
         rows = p.scale_mode[0] == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    for (int i = 0; e4m3(&la) && i < 2; i++)
        emulator_check(p.scale[i], (rows ? (i ? lb.cols : la.cols) : 1) * sizeof(float), "product, scales");
    emulator_check(d, ((size_t)(ld.cols - 1) * (size_t)ld.ld + ld.rows) * (bf16(&ld) ? 2 : 4), "product, D");
    if (biased)
        emulator_check(p.bias, ld.rows * (bf16(&ld) ? 2 : 4), "product, bias");
    for (uint64_t j = 0; j < ld.cols; j++)
        for (uint64_t i = 0; i < ld.rows; i++) {
            double sum = emulator_dot(&x[i * lb.rows], &y[j * lb.rows], lb.rows);
            if (e4m3(&la))
                sum *= (double)p.scale[0][rows ? i : 0] * p.scale[1][rows ? j : 0];
            sum += biased ? emulator_load(p.bias, p.bias_type == CUDA_R_16BF, (int64_t)i) : 0;
            emulator_store(d, bf16(&ld), (int64_t)(j * (uint64_t)ld.ld + i),
                           p.epilogue == CUBLASLT_EPILOGUE_GELU_BIAS ? gelu((float)sum) : (float)sum);
        }
    emulator_counters.matmuls++;
}

cublasStatus_t matmul(cublasLtHandle_t, cublasLtMatmulDesc_t p, const void *alpha, const void *a,
                      cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                      const void *, cublasLtMatrixLayout_t, void *d, cublasLtMatrixLayout_t ld,
                      const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes, cudaStream_t stream)
{
    if (emulator_broken())
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (*(const float *)alpha != 1 || *(const float *)beta != 0 || !algo || algo->data[0] != 42 ||
        !takes(of(p), of(la), of(lb), of(ld)))
        return CUBLAS_STATUS_INVALID_VALUE;
    emulator_check(workspace, bytes, "product, workspace");
    check_alignment(a, of(la), algo->data[1], "product, A");
    check_alignment(b, of(lb), algo->data[2], "product, B");
    check_alignment(d, of(ld), algo->data[4], "product, D");
    for (int i = 0; i < 2; i++) /* as cuBLASLt 13.1 on an H100: offered by the heuristic, refused by the call */
        if (of(p)->scale_mode[i] == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F && (uintptr_t)of(p)->scale[i] % 16)
            return CUBLAS_STATUS_NOT_SUPPORTED;
    emulator_workspace(workspace, (CUstream)stream);
    if (refusals == CUDA_EMULATOR_REFUSES_ALL ||
        (refusals == CUDA_EMULATOR_REFUSES_TAILS && of(p)->epilogue != CUBLASLT_EPILOGUE_DEFAULT))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    product now = *of(p);
    layout x = *of(la), y = *of(lb), z = *of(ld);
    emulator_enqueue((CUstream)stream, [=]() { multiply(now, a, x, b, y, d, z); });
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace

double emulator_dot(const float *x, const float *y, size_t n)
{
    double sum[4] = {0, 0, 0, 0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++)
            sum[j] += (double)x[i + j] * y[i + j];
    for (; i < n; i++)
        sum[0] += (double)x[i] * y[i];
    return sum[0] + sum[1] + sum[2] + sum[3];
}

extern "C" void cuda_emulator_cublas(size_t version) { blas_version = version; }
extern "C" void cuda_emulator_refuse_products(cuda_emulator_refusals what) { refusals = what; }

void emulator_fill_blas(cuda_libraries *t)
{
    t->cublasLtCreate = create, t->cublasLtDestroy = destroy, t->cublasLtGetVersion = version,
    t->cublasLtGetStatusString = status_string, t->cublasLtMatmul = matmul;
    t->cublasLtMatmulAlgoGetHeuristic = heuristic, t->cublasLtMatmulAlgoCheck = check,
    t->cublasLtMatmulDescCreate = product_create, t->cublasLtMatmulDescDestroy = product_destroy;
    t->cublasLtMatmulDescSetAttribute = product_set, t->cublasLtMatrixLayoutCreate = layout_create,
    t->cublasLtMatrixLayoutDestroy = layout_destroy;
    t->cublasLtMatmulPreferenceCreate = preference_create, t->cublasLtMatmulPreferenceDestroy = preference_destroy,
    t->cublasLtMatmulPreferenceSetAttribute = preference_set;
}
