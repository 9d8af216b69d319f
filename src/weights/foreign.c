#include "weights/foreign.h"

#include "base/stand_in.h"
#include "weights/safetensors.h"

#include <string.h>
#include <strings.h>

#define SAFE "fetch the safetensors or GGUF file of the same model"

#define PICTURE ", not weights or latents (safetensors, GGUF)"
#define OTHER_PICTURE PICTURE "; of pictures PNG, JPEG and WebP are read"

typedef struct beginning {
    const char *bytes;
    size_t length;
    const char *sentence;
    size_t at; /* where the bytes stand, blanks in front left out */
} beginning;

#define STANDS(at, text, sentence)          \
    {                                       \
        text, sizeof text - 1, sentence, at \
    }
#define BEGINS(text, sentence) STANDS(0, text, sentence)

static const beginning beginnings[] = {
    BEGINS("PK\3\4",
           "a pickle (.ckpt, .pt or .bin, a zip archive), which could run any program when it is loaded; " SAFE),
    BEGINS("\x80\2", "a pickle (.ckpt, .pt or .bin), which could run any program when it is loaded; " SAFE),
    BEGINS("\x80\3", "a pickle (.ckpt, .pt or .bin), which could run any program when it is loaded; " SAFE),
    BEGINS("\x80\4", "a pickle (.ckpt, .pt or .bin), which could run any program when it is loaded; " SAFE),
    BEGINS("{", "a JSON file, not weights; name the .safetensors or .gguf file"),
    BEGINS("lmgg", "a file of ggml's formats before GGUF; fetch a GGUF file"),
    BEGINS("fmgg", "a file of ggml's formats before GGUF; fetch a GGUF file"),
    BEGINS("tjgg", "a file of ggml's formats before GGUF; fetch a GGUF file"),
    BEGINS("\x89HDF\r\n", "an HDF5 file; " SAFE),
    BEGINS("\x89PNG\r\n", "a picture (PNG)" PICTURE),
    BEGINS("\xFF\xD8\xFF", "a picture (JPEG)" PICTURE),
    STANDS(8, "WEBP", "a picture (WebP)" PICTURE),
    BEGINS("GIF8", "a picture (GIF)" OTHER_PICTURE),
    STANDS(4, "ftyp", "a picture (AVIF or HEIC) or a video" OTHER_PICTURE),
    BEGINS("%PDF", "a PDF, not weights or latents (safetensors, GGUF)"),
};

const char *foreign_file(const unsigned char *bytes, size_t size)
{
    size_t at = 0;
    if (safetensors_like(bytes, size))
        return NULL;
    const char *other = stand_in_named(bytes, size);
    if (other)
        return other;
    while (at < size && strchr(" \t\r\n", bytes[at]) && bytes[at])
        at++;
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
        const beginning *b = &beginnings[i];
        if (size - at >= b->at + b->length && strncasecmp((const char *)bytes + at + b->at, b->bytes, b->length) == 0)
            return b->sentence;
    }
    return NULL;
}

/* ---- packed forms ---- */

#define PLAIN "fetch a bf16, fp8 or GGUF file of the same model"

static const struct {
    const char *ending, *sentence;
} endings[] = {
    {".wscales", "belongs to Nunchaku's packed layout (svdq), which only its own kernels read; " PLAIN},
    {".smooth_factor", "belongs to Nunchaku's packed layout (svdq), which only its own kernels read; " PLAIN},
    {".smooth_orig", "belongs to Nunchaku's packed layout (svdq), which only its own kernels read; " PLAIN},
    {".qweight", "belongs to a packed layout (Nunchaku, AWQ or GPTQ) that flux1 does not read; " PLAIN},
    {".biases", "belongs to a model that MLX has quantised (mflux), which flux1 does not read; " PLAIN},
    {".qzeros", "belongs to a packed layout (AWQ or GPTQ) that flux1 does not read; " PLAIN},
    {".weight_scale_2", "belongs to the 4-bit type nvfp4, which flux1 does not read; " PLAIN},
    {".weight._data", "belongs to a model that quanto has quantised, which flux1 does not read; " PLAIN},
    {".weight._scale", "belongs to a model that quanto has quantised, which flux1 does not read; " PLAIN},
    {":qdata", "belongs to a model that torchao has quantised, which flux1 does not read; " PLAIN},
    {"weight_qdata", "belongs to a model that torchao has quantised, which flux1 does not read; " PLAIN},
    {"weight_int_data", "belongs to a model that torchao has quantised, which flux1 does not read; " PLAIN},
};

const char *foreign_tensor(const char *name)
{
    const size_t length = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const size_t n = strlen(endings[i].ending);
        if (length >= n && strcmp(name + length - n, endings[i].ending) == 0)
            return endings[i].sentence;
    }
    return NULL;
}
