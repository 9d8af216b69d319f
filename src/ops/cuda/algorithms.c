/* The entry of the cache begins with VERSION, which changes with what a line means or how an algorithm is chosen; an
 * entry of another is not known, and written anew. Then a line for each algorithm: "identity|shape|bytes in hex". Other
 * processes write it too: lines are added, not replaced. */
#include "ops/cuda/algorithms.h"

#include "base/builder.h"
#include "weights/small_cache.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REMEMBERED = 4096 };
#define ENTRY "cublaslt-algorithms.txt" /* weights/small_cache.h */
#define VERSION "flux1 algorithms 2\n"
#define FILE_MOST ((size_t)16 << 20)

typedef struct remembered {
    cuda_product_shape shape;
    cublasLtMatmulAlgo_t algorithm;
} remembered;

struct cuda_algorithms {
    remembered known[REMEMBERED];
    size_t count, saved; /* saved of them are in the file */
};

/* No padding: 7 × 8 + 4 × 4 bytes. */
bool cuda_product_same(const cuda_product_shape *a, const cuda_product_shape *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static bool is_of(const char *line, const char *identity)
{
    size_t n = strlen(identity);
    return strncmp(line, identity, n) == 0 && line[n] == '|';
}

static bool parse_hex(const char *text, unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++, text += 2) {
        unsigned byte;
        if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) || sscanf(text, "%2x", &byte) != 1)
            return false;
        bytes[i] = (unsigned char)byte;
    }
    return *text == '\n' || !*text;
}

static bool parse_line(const char *line, const char *identity, remembered *r)
{
    long long v[11];
    int used = 0;
    if (!is_of(line, identity))
        return false;
    line += strlen(identity) + 1;
    if (sscanf(line, "%lld %lld %lld %lld %lld %lld %lld %lld %lld %lld %lld|%n", &v[0], &v[1], &v[2], &v[3], &v[4],
               &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &used) != 11 ||
        !used)
        return false;
    r->shape = (cuda_product_shape){.m = v[0],
                                    .n = v[1],
                                    .k = v[2],
                                    .ld_in = v[3],
                                    .ld_w = v[4],
                                    .ld_out = v[5],
                                    .across = v[6],
                                    .type_in = (int32_t)v[7],
                                    .bf16_out = (int32_t)v[8],
                                    .tail = (int32_t)v[9],
                                    .align = (int32_t)v[10]};
    return parse_hex(line + used, (unsigned char *)&r->algorithm, sizeof r->algorithm);
}

/* The entry's lines, NULL if there are none of this version. text: to free. */
static char *lines_of_entry(char **text)
{
    size_t size;
    *text = NULL;
    return small_cache_get(ENTRY, FILE_MOST, text, &size) && strncmp(*text, VERSION, strlen(VERSION)) == 0
               ? *text + strlen(VERSION)
               : NULL;
}

/* Lines of this identity that can be read; a missing or damaged file is no more than unknown algorithms. */
static void recall(const cuda_device *d, struct cuda_algorithms *a)
{
    char *text, *line = lines_of_entry(&text);
    for (char *end; line && *line && a->count < REMEMBERED; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        a->count += parse_line(line, d->identity, &a->known[a->count]);
    }
    a->saved = a->count;
    free(text);
}

/* NULL without memory: nothing is known then. */
static cuda_algorithms *algorithms_of(cuda_device *d)
{
    if (!d->algorithms && (d->algorithms = calloc(1, sizeof *d->algorithms)))
        recall(d, d->algorithms);
    return d->algorithms;
}

const cublasLtMatmulAlgo_t *cuda_algorithm_find(cuda_device *d, const cuda_product_shape *shape)
{
    cuda_algorithms *a = algorithms_of(d);
    for (size_t i = a ? a->count : 0; i > 0; i--) /* what was noted last counts */
        if (cuda_product_same(&a->known[i - 1].shape, shape))
            return &a->known[i - 1].algorithm;
    return NULL;
}

void cuda_algorithm_note(cuda_device *d, const cuda_product_shape *shape, const cublasLtMatmulAlgo_t *algorithm)
{
    cuda_algorithms *a = algorithms_of(d);
    if (a && a->count < REMEMBERED)
        a->known[a->count++] = (remembered){*shape, *algorithm};
}

static void write_line(builder *b, const char *identity, const remembered *r)
{
    const cuda_product_shape *s = &r->shape;
    const unsigned char *bytes = (const unsigned char *)&r->algorithm;
    builder_format(b, "%s|%lld %lld %lld %lld %lld %lld %lld %d %d %d %d|", identity, (long long)s->m, (long long)s->n,
                   (long long)s->k, (long long)s->ld_in, (long long)s->ld_w, (long long)s->ld_out, (long long)s->across,
                   (int)s->type_in, (int)s->bf16_out, (int)s->tail, (int)s->align);
    for (size_t i = 0; i < sizeof r->algorithm; i++)
        builder_format(b, "%02x", bytes[i]);
    builder_add(b, "\n");
}

/* A line to leave out when the file is written anew: damaged, or of a shape that was searched for again. Other
 * identities' lines are none of ours. */
static bool is_stale(const char *line, const char *identity, const cuda_algorithms *a)
{
    remembered r;
    if (!is_of(line, identity))
        return false;
    if (!parse_line(line, identity, &r))
        return true;
    for (size_t i = a->saved; i < a->count; i++)
        if (cuda_product_same(&a->known[i].shape, &r.shape))
            return true;
    return false;
}

static void write_entry(const cuda_device *d, const cuda_algorithms *a)
{
    char *old, *text = NULL, *line = lines_of_entry(&old);
    builder b = {0};
    builder_add(&b, VERSION);
    for (char *end; line && (end = strchr(line, '\n')); line = end + 1)
        if (!is_stale(line, d->identity, a))
            builder_add_bytes(&b, line, (size_t)(end - line) + 1);
    for (size_t i = a->saved; i < a->count; i++)
        write_line(&b, d->identity, &a->known[i]);
    if (builder_take(&b, "algorithms", &text, NULL) == FLUX1_OK)
        small_cache_put(ENTRY, text, strlen(text), NULL); /* without it they are searched for again */
    free(text);
    free(old);
}

void cuda_algorithms_save(cuda_device *d)
{
    cuda_algorithms *a = d->algorithms;
    if (!a)
        return;
    if (a->count > a->saved)
        write_entry(d, a);
    a->saved = a->count;
}

void cuda_algorithms_free(cuda_device *d)
{
    free(d->algorithms);
    d->algorithms = NULL;
}
