/* The search for scales of GGUF's K types, compiled for each instruction set; the results are the same. */
#ifndef FLUX1_TENSOR_ENCODE_SEARCH_H
#define FLUX1_TENSOR_ENCODE_SEARCH_H

/* value = scale·level - minimum; both at least 0 */
typedef struct encode_fit {
    float scale, minimum;
} encode_fit;

typedef struct encode_search {
    /* For n values (16 or 32) and levels 0 to `top`. */
    encode_fit (*span)(const float *x, int n, float top);
    /* For 16 values and levels -top to top - 1: the scale, of either sign. */
    float (*signed_scale)(const float *x, float top);
} encode_search;

extern const encode_search encode_search_portable;
#if defined(__x86_64__)
extern const encode_search encode_search_avx2;
#endif

const encode_search *encode_search_best(void);

#endif
