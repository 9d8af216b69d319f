/* FLUX.1's true layouts as files of holes: all names and shapes, no values. */
#ifndef TESTS_SUPPORT_TRUE_LAYOUT_H
#define TESTS_SUPPORT_TRUE_LAYOUT_H

#include <stdbool.h>

/* Which parts, by Comfy's prefixes: an all-in-one file in fp8, in bf16, or packed. */
typedef struct true_layout {
    bool transformer, dev, vae, clip, t5;
    bool bf16;
    bool nf4;        /* matrices in bitsandbytes' 4 bits, the rest in bf16 */
    int packed_bits; /* 8 or 4: a GGUF file, matrices in Q8_0 or Q4_0, the rest in float32; 0: safetensors */
    int in_channels; /* 64; 128 and 384 in files that take a picture */
    int layers, single_layers, t5_layers; /* 0: all of them */
    const char *extra;                    /* name of one more tensor, NULL: none */
} true_layout;

/* Writes the file, a sparse one, and returns its number of tensors. */
int true_layout_write(const char *path, const true_layout *l);

#endif
