/* Which of this backend's cuDNN graphs an H200 would take, asked of the real library without a GPU: the backend's own
 * descriptors (dnn.c), a device property from a JSON file in place of a handle. Plans are made (run-time compilation
 * included), nothing is run. Exit status 1: something was refused. libcuda.so.1 may be the toolkit's stub:
 *
 *   cc -std=c11 -D_DEFAULT_SOURCE -Iinclude -Isrc -isystem /usr/local/cuda/include bench/cuda/devless.c
 *      src/ops/cuda/{dnn,libraries,search}.c src/base/{builder,file,status,utf8}.c -o devless
 *   mkdir stub && ln -s /usr/local/cuda/lib64/stubs/libcuda.so stub/libcuda.so.1
 *   FLUX1_CUDA_LIBRARIES=stub ./devless bench/cuda/h200.json */
#include "base/file.h"
#include "ops/cuda/cuda.h"
#include "ops/cuda/dnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cuda_libraries *lib;
static cudnnBackendDescriptor_t property;
static int refused;

/* A convolution (`ready`) whose kernel is compiled at run time counts as refused: FLUX.1's first picture would wait. */
static void answer(const char *what, dnn_builder *b)
{
    size_t needed = 0;
    bool built = !b->failed;
    cudnnBackendDescriptor_t plan = dnn_finish(b, CUDA_WORKSPACE, &needed);
    char words[256] = "";
    if (!plan && (!b->compiled || b->ready)) {
        lib->cudnnGetLastErrorString(words, sizeof words);
        refused++;
    }
    printf("%-66s %s", what,
           plan          ? "taken"
           : b->compiled ? "taken (compiled; not loaded, there is no driver)\n"
           : built       ? "refused: "
                         : "descriptor refused: ");
    if (plan)
        printf(", workspace %zu\n", needed);
    else if (!b->compiled)
        printf("%.160s\n", words);
    if (plan)
        lib->cudnnBackendDestroyDescriptor(plan);
}

static void attention(int64_t tokens, int64_t heads, int64_t dim, int64_t ld_in, int64_t ld_out, bool stats)
{
    char what[128];
    dnn_attention_shape s = {.batch = 1,
                             .heads = heads,
                             .dim = dim,
                             .queries = tokens,
                             .keys = tokens,
                             .ld = {ld_in, ld_in, ld_in, ld_out},
                             .batch_stride = {tokens * ld_in, tokens * ld_in, tokens * ld_in, tokens * ld_out},
                             .stats = stats};
    dnn_builder b = {.lib = lib, .property = property};
    dnn_attention_graph(&b, &s);
    snprintf(what, sizeof what, "attention %lld x %lld x %lld, rows %lld -> %lld%s", (long long)tokens,
             (long long)heads, (long long)dim, (long long)ld_in, (long long)ld_out, stats ? ", with log-sum-exp" : "");
    answer(what, &b);
}

static void convolution(int64_t size, int64_t in, int64_t out, int64_t stride)
{
    char what[128];
    dnn_convolution_shape s = {.batch = 1,
                               .height = size,
                               .width = size,
                               .in = in,
                               .out_height = size / stride,
                               .out_width = size / stride,
                               .out = out,
                               .kernel = 3,
                               .stride = stride,
                               .in_ld = in,
                               .out_ld = out};
    dnn_builder b = {.lib = lib, .property = property, .ready = true};
    dnn_convolution_graph(&b, &s);
    snprintf(what, sizeof what, "convolution %lld^2, %lld -> %lld, stride %lld", (long long)size, (long long)in,
             (long long)out, (long long)stride);
    answer(what, &b);
}

/* cuBLASLt makes no plan without a GPU; but it says whether it knows the attributes that an e4m3 product is described
 * with (linear.c), in these sizes. */
static void product_attributes(void)
{
    const int32_t rows = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    const int8_t fast = 1;
    const void *pointer = NULL;
    const struct {
        const char *name;
        cublasLtMatmulDescAttributes_t attribute;
        const void *value;
        size_t bytes;
    } list[] = {{"A's scales by rows", CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &rows, sizeof rows},
                {"B's scales by rows", CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &rows, sizeof rows},
                {"A's scales", CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &pointer, sizeof pointer},
                {"B's scales", CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &pointer, sizeof pointer},
                {"fast sums", CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast}};
    cublasLtMatmulDesc_t product = NULL;
    if (!lib->blas ||
        lib->cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F) != CUBLAS_STATUS_SUCCESS) {
        printf("cuBLASLt: not found\n");
        return;
    }
    printf("cuBLASLt %zu\n", lib->cublasLtGetVersion());
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        bool taken = lib->cublasLtMatmulDescSetAttribute(product, list[i].attribute, list[i].value, list[i].bytes) ==
                     CUBLAS_STATUS_SUCCESS;
        printf("e4m3 product: %-52s %s\n", list[i].name, taken ? "taken" : "refused");
        refused += !taken;
    }
    lib->cublasLtMatmulDescDestroy(product);
}

static bool describe_device(const char *path)
{
    char *json;
    size_t size;
    flux1_error err = {0};
    if (file_read(path, 1 << 20, &json, &size, &err) != FLUX1_OK) {
        fprintf(stderr, "%s\n", err.message);
        return false;
    }
    bool good =
        lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &property) == CUDNN_STATUS_SUCCESS &&
        lib->cudnnBackendSetAttribute(property, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                      (int64_t)size, json) == CUDNN_STATUS_SUCCESS &&
        lib->cudnnBackendFinalize(property) == CUDNN_STATUS_SUCCESS;
    free(json);
    return good;
}

int main(int argc, char **argv)
{
    flux1_error err = {0};
    if (argc != 2 || cuda_libraries_load(&lib, &err) != FLUX1_OK || !lib->dnn || !describe_device(argv[1])) {
        fprintf(stderr, "usage: %s DEVICE.json   %s\n", argv[0], err.message);
        return 2;
    }
    printf("cuDNN %zu\n", lib->cudnnGetVersion());
    for (int stats = 0; stats < 2; stats++) {
        attention(4608, 24, 128, 9216, 3072, stats); /* a joint block: q, k, v windows of 9216 columns */
        attention(4608, 24, 128, 9216, 15360,
                  stats); /* a single block: into the first 3072 columns of attention | mlp */
        attention(4352, 24, 128, 9216, 15360, stats); /* schnell, 256 tokens of text */
        attention(1153, 12, 128, 4608, 1536, stats);  /* a rank's share, an odd number of tokens */
    }
    attention(16384, 1, 512, 1536, 512, false); /* the VAE's middle at 1024 squared */
    static const int64_t shapes[][3] = {{128, 16, 512},   {128, 512, 512},  {256, 512, 512},
                                        {512, 512, 512},  {512, 512, 256},  {512, 256, 256},
                                        {1024, 256, 256}, {1024, 256, 128}, {1024, 128, 128}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        convolution(shapes[i][0], shapes[i][1], shapes[i][2], 1);
    convolution(1024, 128, 3, 1); /* to the picture: three channels */
    convolution(1024, 3, 128, 1); /* and from it */
    for (int64_t size = 1024, channels = 128; size >= 256; size /= 2, channels *= 2)
        convolution(size, channels, channels, 2);
    product_attributes();
    printf("%d refused\n", refused);
    return refused > 0;
}
