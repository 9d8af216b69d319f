/* flux1: FLUX.1 text-to-image, the stable public interface.
 *
 * A context is one run's memory, queue, threads and last message; a model is an opened pipeline folder, immutable,
 * shared by any number of contexts. Every call returns a status; the sentence that goes with it is
 * flux1_context_message(). The library never exits, aborts or prints. Calls on one context come from one thread at a
 * time; flux1_cancel() alone may come from any thread or a signal handler. Every params struct starts from its
 * _defaults() function: later versions add members in the reserved space. */
#ifndef FLUX1_H
#define FLUX1_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(FLUX1_NO_EXPORT)
#define FLUX1_API __attribute__((visibility("default")))
#else
#define FLUX1_API
#endif

#define FLUX1_VERSION_MAJOR 0
#define FLUX1_VERSION_MINOR 1
#define FLUX1_VERSION_PATCH 0

/* One row a status: name, value, what it means. Values never change. */
#define FLUX1_STATUS_MAP(X)                                                       \
    X(OK, 0, "success")                                                           \
    X(ERR_ARGUMENT, 1, "an argument or a combination of arguments is not usable") \
    X(ERR_MEMORY, 2, "out of memory")                                             \
    X(ERR_IO, 3, "a file could not be read or written")                           \
    X(ERR_FORMAT, 4, "a file is not what it should be")                           \
    X(ERR_MODEL, 5, "the model folder is incomplete or does not fit together")    \
    X(ERR_UNSUPPORTED, 6, "valid, but this build or device cannot do it")         \
    X(ERR_CANCELLED, 7, "cancelled on request")                                   \
    X(ERR_NUMERIC, 8, "a computation gave NaN or infinity")                       \
    X(ERR_COMM, 9, "a rank of the mesh failed or is gone")                        \
    X(ERR_LIMIT, 10, "the request is larger than a limit allows")                 \
    X(ERR_INTERNAL, 11, "a defect in flux1")                                      \
    X(ERR_DEVICE, 12, "a device failed")

typedef enum flux1_status {
#define FLUX1_STATUS_ENUM(name, value, text) FLUX1_##name = value,
    FLUX1_STATUS_MAP(FLUX1_STATUS_ENUM)
#undef FLUX1_STATUS_ENUM
} flux1_status;

typedef struct flux1_context flux1_context;
typedef struct flux1_model flux1_model;

FLUX1_API const char *flux1_version(void);                    /* "0.1.0" */
FLUX1_API const char *flux1_status_name(flux1_status status); /* "FLUX1_ERR_IO" */
FLUX1_API const char *flux1_status_text(flux1_status status); /* what it means, in a few words */

/* ---- context
 * ---------------------------------------------------------------------------------------------------------------- */

/* What activations are stored and multiplied in; sums are float32, weights stay as the file has them. FP8: bf16, but
 * the transformer's blocks, where nearly all the work is, multiply e4m3 with a scale a row (or, where the hardware
 * scales no rows, one in all) and add as the hardware does: their weights take half the memory (all of FLUX.1's
 * transformer 15 GB instead of 24: modulations stay as they are), on GPUs of compute capability 8.9 or later; the
 * picture differs from bf16's in detail. */
typedef enum flux1_dtype {
    FLUX1_DTYPE_AUTO = 0,
    FLUX1_DTYPE_F32 = 1,
    FLUX1_DTYPE_BF16 = 2,
    FLUX1_DTYPE_FP8 = 3
} flux1_dtype;

typedef enum flux1_log_level { FLUX1_LOG_INFO = 0, FLUX1_LOG_WARNING = 1 } flux1_log_level;

typedef struct flux1_context_params {
    size_t size;        /* set by the defaults function; tells the library which version of the struct this is */
    const char *device; /* "cpu" (default); "cuda" or "cuda:N", the N-th GPU; or "ref": the slow plain-C definition */
    const char *mesh; /* "RxC", such as "2x4"; NULL or "": one device. On a CPU the ranks are threads of this process */
    const char *sp, *tp; /* "FACTOR@AXIS", such as "2@0" and "4@1"; NULL: sp takes axis 0 and tp axis 1 */
    int threads;         /* in all; 0: as many as there are physical cores */
    flux1_dtype dtype;   /* AUTO: bf16 where the hardware multiplies it, else f32. FP8: device cuda, or ref */
    uint64_t max_memory; /* bytes that activations may take before a request is refused; 0: what the machine (or the
                            GPU) has */
    void (*log)(void *user, flux1_log_level level,
                const char *message); /* one line, no newline, on the thread that called; may be NULL */
    void *log_user;
    const char
        *encoder_device; /* of the text encoders: as device, or "host" for the CPU; NULL or "": the same as device */
    int eager;           /* 1: a GPU's steps are not recorded and replayed as a graph */
    uint64_t reserved[14];
} flux1_context_params;

FLUX1_API void flux1_context_params_defaults(flux1_context_params *params);

/* *out is set even on failure (unless memory is gone: then NULL), so that its message can be read; destroy it in any
 * case. params may be NULL. */
FLUX1_API flux1_status flux1_context_create(const flux1_context_params *params, flux1_context **out);
FLUX1_API void flux1_context_destroy(flux1_context *context); /* NULL is fine */

/* The sentence that goes with the last call's status; "" after success. Valid until the next call on this context. */
FLUX1_API const char *flux1_context_message(const flux1_context *context);

/* Asks the call running on this context to stop; it returns FLUX1_ERR_CANCELLED soon. With no call running it does
 * nothing. Safe in a signal handler. */
FLUX1_API void flux1_cancel(flux1_context *context);

/* ---- model
 * ------------------------------------------------------------------------------------------------------------------ */

/* Opens a pipeline folder as Hugging Face lays it out: model_index.json, scheduler/, text_encoder/, text_encoder_2/,
 * tokenizer/, tokenizer_2/, transformer/, vae/. Files are mapped, not read; every tensor's name and shape is checked
 * here. The context is used for messages only and is not kept. */
FLUX1_API flux1_status flux1_model_open(flux1_context *context, const char *path, flux1_model **out);
FLUX1_API void flux1_model_close(flux1_model *model); /* after the last context is done with it; NULL is fine */

/* What the folder says; the defaults of a request come from here. */
typedef struct flux1_model_info {
    size_t size;
    int guidance;           /* 1: the transformer has a guidance embedding (dev) */
    int default_steps;      /* 28 with guidance, otherwise 4 */
    float default_guidance; /* 3.5; unused without guidance */
    int default_width, default_height;
    int default_sequence_length, max_sequence_length; /* T5 tokens */
    int size_multiple;                                /* width and height are multiples of this */
    uint64_t reserved[16];
} flux1_model_info;
FLUX1_API flux1_status flux1_model_get_info(const flux1_model *model,
                                            flux1_model_info *info); /* info->size must be set */

/* ---- text to image
 * ---------------------------------------------------------------------------------------------------------- */

typedef enum flux1_stage {
    FLUX1_STAGE_LOAD = 0,
    FLUX1_STAGE_TEXT = 1,
    FLUX1_STAGE_DENOISE = 2,
    FLUX1_STAGE_DECODE = 3
} flux1_stage;

typedef struct flux1_image {
    int width, height;
    uint64_t seed;
    uint8_t *pixels; /* RGB, 3·width·height bytes, rows from the top */
} flux1_image;

typedef struct flux1_progress {
    size_t size;
    flux1_stage stage;
    const char *stage_name;     /* "load", "text encoders", "denoise", "decode" */
    int image, images;          /* from 0 */
    int step, steps;            /* finished steps while denoising; 0, 0 elsewhere */
    double stage_fraction;      /* 0 to 1 */
    double fraction;            /* of the whole request, by arithmetic (FLOPs) */
    double seconds;             /* since the request began */
    double seconds_left;        /* estimate; negative while not known */
    const flux1_image *preview; /* the picture as the model expects it now, after every preview_every steps; otherwise
                                   NULL. Valid during the call */
    uint64_t reserved[8];
} flux1_progress;

/* Called on the caller's thread. A return value other than 0 cancels. */
typedef int flux1_progress_fn(void *user, const flux1_progress *progress);

/* Decoding a picture larger than the VAE's sample_size in overlapping tiles takes the memory of one tile; tones may
 * differ slightly between tiles. AUTO: where the whole picture would take more memory than max_memory allows. */
typedef enum flux1_tiling { FLUX1_TILING_AUTO = 0, FLUX1_TILING_YES = 1, FLUX1_TILING_NO = 2 } flux1_tiling;

typedef struct flux1_text flux1_text; /* an encoded prompt: usable with any number of requests and samplers of the same
                                         model, also on other contexts */

typedef struct flux1_generate_params {
    size_t size;
    const char *prompt;      /* UTF-8 */
    int width, height;       /* 0: the model's default; rounded down to size_multiple, and logged */
    int steps;               /* -1: the model's default; otherwise at least 1 */
    float guidance;          /* negative: the model's default; ignored (and logged) without a guidance embedding */
    uint64_t seed;           /* image i uses seed + i */
    int count;               /* images, default 1 */
    int max_sequence_length; /* T5 tokens; 0: the model's default */
    int preview_every;       /* steps; 0: no previews */
    flux1_progress_fn *progress;
    void *progress_user;
    const char *dump;       /* path of a safetensors file for the stages' tensors; NULL: none */
    flux1_tiling tiling;    /* of the VAE */
    const flux1_text *text; /* flux1_generate: `prompt`, encoded before (flux1_encode_text with the same model, prompt
                             * and max_sequence_length), on this context or on another one beside the request in front;
                             * NULL: it is encoded here */
    uint64_t reserved[14];
} flux1_generate_params;

FLUX1_API void flux1_generate_params_defaults(flux1_generate_params *params);

/* One request, whole: *images is an array of params->count images, freed by flux1_images_free. */
FLUX1_API flux1_status flux1_generate(flux1_context *context, const flux1_model *model,
                                      const flux1_generate_params *params, flux1_image **images);
FLUX1_API void flux1_images_free(flux1_image *images, int count);

/* PNG with the request in text chunks: "parameters" (A1111's line) and "flux1" (JSON). The name appears only when the
 * file is whole. params and model as they were given to flux1_generate; both may be NULL: then no text is written. */
FLUX1_API flux1_status flux1_image_write_png(flux1_context *context, const flux1_image *image, const flux1_model *model,
                                             const flux1_generate_params *params, const char *path);

/* ---- the same in stages
 * ------------------------------------------------------------------------------------------------------ */

typedef struct flux1_sampler flux1_sampler; /* one picture on its way through the steps; belongs to its context */

FLUX1_API flux1_status flux1_encode_text(flux1_context *context, const flux1_model *model,
                                         const flux1_generate_params *params, flux1_text **out);
FLUX1_API void flux1_text_free(flux1_text *text);

FLUX1_API flux1_status flux1_sampler_create(flux1_context *context, const flux1_model *model, const flux1_text *text,
                                            const flux1_generate_params *params, flux1_sampler **out);
FLUX1_API flux1_status flux1_sampler_step(flux1_sampler *sampler, int *steps_left); /* one Euler step */
/* The packed latent [tokens, channels], float32; valid until the next call on the sampler. */
FLUX1_API flux1_status flux1_sampler_latents(flux1_sampler *sampler, const float **latents, int64_t *tokens,
                                             int64_t *channels);
FLUX1_API flux1_status flux1_sampler_decode(
    flux1_sampler *sampler, flux1_image **image); /* of the latent as it is now; flux1_images_free(image, 1) */
FLUX1_API void flux1_sampler_free(flux1_sampler *sampler);

#ifdef __cplusplus
}
#endif
#endif
