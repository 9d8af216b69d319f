/* Weights without a file: claims are cut from a few shared buffers of random values, one for each scale that occurs
 * (powers of two nearest to the root of the row length), so that 24 GB of matrices take the memory of the largest ones.
 * Values: sums of four uniforms, near enough to normal for a benchmark. */
#include "weights/store_base.h"

#include "base/checked.h"
#include "base/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SCALES 24         /* values have standard deviation 2^-scale */
#define SCALE_NORM SCALES /* 1 + 0.1x: norm weights */
#define SCALE_VECTOR 3    /* other vectors: biases */
#define PERIOD 1000003    /* elements after which a buffer repeats: a prime, so that no two rows are equal */
#define ALIGNMENT ((size_t)64)
#define BUFFER_LEAST ((size_t)32 << 20)

typedef struct buffer {
    unsigned char *bytes;
    size_t size;
    int scale;
} buffer;

typedef struct synthetic {
    dtype type;
    bool with_data;
    buffer *buffer;
    size_t count, capacity;
    uint64_t claimed; /* bytes of all tensors so far: where the next one is said to begin */
} synthetic;

/* ---- values ---- */

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t mix(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

/* Mean 0, variance 1 (four uniforms on [0, 65535]: variance 4·(2^32 - 1)/12). */
static float near_normal(uint64_t *state)
{
    uint64_t z = mix(state);
    int32_t sum =
        (int32_t)(z & 0xffff) + (int32_t)(z >> 16 & 0xffff) + (int32_t)(z >> 32 & 0xffff) + (int32_t)(z >> 48);
    return (float)(sum - 131070) * (1.0f / 37837.0f);
}

static void fill(const buffer *b, dtype type)
{
    size_t width = (size_t)dtype_describe(type)->block_bytes, total = b->size / width,
           first = total < PERIOD ? total : PERIOD;
    uint64_t state = (uint64_t)b->scale + 1;
    float factor = b->scale == SCALE_NORM ? 0.1f : ldexpf(1.0f, -b->scale),
          offset = b->scale == SCALE_NORM ? 1.0f : 0.0f;
    for (size_t i = 0; i < first; i++) {
        float x = offset + factor * near_normal(&state);
        uint16_t half = type == DTYPE_BF16 ? bf16_from_f32(x) : f16_from_f32(x);
        memcpy(b->bytes + i * width, type == DTYPE_F32 ? (const void *)&x : (const void *)&half, width);
    }
    for (size_t done = first * width; done < b->size;) { /* doubled; a whole number of periods until the last piece */
        size_t n = done < b->size - done ? done : b->size - done;
        memcpy(b->bytes + done, b->bytes, n);
        done += n;
    }
}

/* A buffer of the scale with at least `bytes`; a new one if none is large enough. */
static flux1_status buffer_for(synthetic *y, int scale, size_t bytes, const buffer **out, flux1_error *err)
{
    for (size_t i = 0; i < y->count; i++)
        if (y->buffer[i].scale == scale && y->buffer[i].size >= bytes) {
            *out = &y->buffer[i];
            return FLUX1_OK;
        }
    void *list = y->buffer;
    TRY(grow(&list, &y->capacity, y->count, sizeof *y->buffer, err));
    y->buffer = list;
    /* an eighth more, so that tensors of the largest size can begin at different places too */
    size_t size = bytes;
    if (!size_add(bytes, bytes / 8 + ALIGNMENT, &size) || size > PTRDIFF_MAX)
        return error_oom(err, bytes, "synthetic weights");
    if (scale != SCALE_NORM && scale != SCALE_VECTOR && size < BUFFER_LEAST)
        size = BUFFER_LEAST;
    size = size_round_up(size, 4096);
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return error_oom(err, size, "synthetic weights");
    buffer *b = &y->buffer[y->count++];
    *b = (buffer){.bytes = mapped, .size = size, .scale = scale};
    fill(b, y->type);
    mprotect(mapped, size, PROT_READ); /* as a mapped file would be */
    *out = b;
    return FLUX1_OK;
}

static int scale_of(const char *name, int dims, const int64_t *shape)
{
    size_t length = strlen(name), ending = strlen(".weight");
    if (dims < 2)
        return strstr(name, "norm") && length >= ending && strcmp(name + length - ending, ".weight") == 0
                   ? SCALE_NORM
                   : SCALE_VECTOR;
    double cols = 1;
    for (int i = 1; i < dims; i++)
        cols *= (double)shape[i];
    int scale = (int)lround(0.5 * log2(cols > 1 ? cols : 1));
    return scale < SCALES ? scale : SCALES - 1;
}

/* Different tensors begin at different places: by their names. */
static size_t place_of(const char *name, size_t room)
{
    uint64_t hash = 1469598103934665603ull;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 1099511628211ull;
    return (size_t)(hash % (room / ALIGNMENT + 1)) * ALIGNMENT;
}

/* Dimensions, and the bytes they come to. */
static flux1_status make_view(const synthetic *y, const char *name, int dims, const int64_t *shape, tensor *view,
                              size_t *bytes, flux1_error *err)
{
    int64_t elements = 1;
    bool fits = dims >= 0 && dims <= TENSOR_DIMS;
    *view = (tensor){.type = y->type};
    for (int i = 0; fits && i < dims; i++) {
        view->shape[i] = shape[i];
        fits = shape[i] >= 0 && i64_mul(elements, shape[i], &elements);
    }
    if (!fits || !size_mul((size_t)elements, (size_t)dtype_describe(y->type)->block_bytes, bytes))
        return error_set(err, FLUX1_ERR_LIMIT, "tensor \"%s\" would have more elements than can be counted", name);
    view->dims = dims;
    return FLUX1_OK;
}

static flux1_status synthetic_add(store *s, const char *name, size_t position, int dims, const int64_t *shape,
                                  store_item **out, flux1_error *err)
{
    synthetic *y = s->made;
    tensor view;
    size_t bytes = 0;
    TRY(make_view(y, name, dims, shape, &view, &bytes, err));
    if (y->with_data) {
        const buffer *b = NULL;
        TRY(buffer_for(y, scale_of(name, dims, shape), bytes, &b, err));
        view.data = b->bytes + place_of(name, b->size - bytes);
    }
    void *list = s->item;
    TRY(grow(&list, &s->capacity, s->count, sizeof *s->item, err));
    s->item = list;
    store_item *item = calloc(1, sizeof *item);
    char *copy = strdup(name);
    if (!item || !copy) {
        free(item);
        free(copy);
        return error_oom(err, sizeof *item + strlen(name) + 1, "synthetic weights");
    }
    item->tensor = (store_tensor){.name = copy,
                                  .file = s->path,
                                  .view = view,
                                  .store = s->number,
                                  .source = {.device = FILE_DEVICE_NONE, .inode = s->number},
                                  .offset = y->claimed};
    y->claimed += bytes;
    memmove(s->item + position + 1, s->item + position, (s->count - position) * sizeof *s->item);
    s->item[position] = item;
    s->count++;
    *out = item;
    return FLUX1_OK;
}

/* ---- the store ---- */

static void synthetic_free(store *s)
{
    synthetic *y = s->made;
    for (size_t i = 0; i < s->count; i++) {
        free((void *)(uintptr_t)s->item[i]->tensor.name);
        free(s->item[i]);
    }
    for (size_t i = 0; y && i < y->count; i++)
        munmap(y->buffer[i].bytes, y->buffer[i].size);
    if (y)
        free(y->buffer);
    free(y);
}

flux1_status store_synthetic(dtype type, bool with_data, store **out, flux1_error *err)
{
    static const store_maker maker = {synthetic_add, synthetic_free};
    store *s;
    *out = NULL;
    if (type != DTYPE_F32 && type != DTYPE_F16 && type != DTYPE_BF16)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "synthetic weights can be F32, F16 or BF16, not %s",
                         dtype_describe(type)->name);
    TRY(store_create("synthetic weights", &s, err));
    synthetic *y = calloc(1, sizeof *y);
    if (!y) {
        store_close(s);
        return error_oom(err, sizeof *y, "synthetic weights");
    }
    *y = (synthetic){.type = type, .with_data = with_data};
    s->maker = &maker;
    s->made = y;
    *out = s;
    return FLUX1_OK;
}
