/* flux1: FLUX.1 text-to-image, the stable public interface.
 *
 * A context is one run's memory, queue, threads and last message; a model is an opened pipeline folder, immutable,
 * shared by any number of contexts. Every call returns a status; the sentence that goes with it is
 * flux1_context_message(). The library never exits, aborts or prints. NULL for a handle, a params struct or a result's
 * address is FLUX1_ERR_ARGUMENT where nothing else is said, and nothing happens where a function returns none.
 *
 * Threads: calls on one context (and on what belongs to it, such as samplers) come from one thread at a time;
 * flux1_cancel() and flux1_cancel_token_cancel() alone may come from any thread or a signal handler.
 * Lifetimes: texts in params (prompt, device, …) are copied or used within the call that takes them. A model outlives
 * the calls that use it and the samplers made with it; a flux1_text may outlive its model (and is then refused by every
 * other one). A sampler belongs to its context, which may do anything else between the sampler's calls; free it
 * before the context.
 *
 * Every params struct starts from its _defaults() function: later versions add members in the reserved space. */
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

/* ---- context ---- */

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
    size_t size;         /* set by the defaults function; tells the library which version of the struct this is */
    const char *device;  /* "cpu" (default); "cuda" or "cuda:N", the N-th GPU; or "ref": the slow plain-C definition */
    const char *mesh;    /* "RxC", such as "2x4"; NULL or "": one device. On a CPU the ranks are threads */
    const char *sp, *tp; /* "FACTOR@AXIS", such as "2@0" and "4@1"; NULL: sp takes axis 0 and tp axis 1 */
    int threads;         /* in all; 0: as many as there are physical cores */
    flux1_dtype dtype;   /* AUTO: bf16 where the hardware multiplies it, else f32. FP8: device cuda, or ref */
    /* Bytes of the host's memory that a request may take; more is refused before any work. Activations, prepared
     * weights and those pages of the mapped files that must be there at the same time count. 0: what is available (of
     * the machine, or of the control group that this process is in). */
    uint64_t max_memory;
    /* One line, no newline, on the thread that called; may be NULL. */
    void (*log)(void *user, flux1_log_level level, const char *message);
    void *log_user;
    const char *encoder_device; /* of the text encoders: as device, or "host" for the CPU; NULL or "": as device */
    int eager;                  /* 1: a step's calls are not recorded on a GPU and replayed as a graph */
    /* The same of the devices' own memory, of all ranks together; 0: what they have. Unused where the device is the
     * host. */
    uint64_t max_device_memory;
    uint64_t reserved[13];
} flux1_context_params;

FLUX1_API void flux1_context_params_defaults(flux1_context_params *params);

/* *out is set even on failure (unless memory is gone: then NULL), so that its message can be read; destroy it in any
 * case. params may be NULL. */
FLUX1_API flux1_status flux1_context_create(const flux1_context_params *params, flux1_context **out);
FLUX1_API void flux1_context_destroy(flux1_context *context); /* NULL is fine */

/* The sentence that goes with the last call's status; "" after success. Valid until the next call on this context. */
FLUX1_API const char *flux1_context_message(const flux1_context *context);

/* Where a context computes. */
typedef struct flux1_context_info {
    size_t size;             /* set by the caller */
    const char *device;      /* "cpu", "cuda:0": the first rank's. Valid as long as the context */
    const char *device_name; /* "avx2", "NVIDIA H200" */
    const char *dtype;       /* "f32", "bf16", "fp8": what dtype came to */
    int ranks, threads;
    int runs_ahead;                         /* 1: the device works while the host does something else */
    int encoders_apart;                     /* 1: the text encoders have a device of their own */
    uint64_t max_memory, max_device_memory; /* the limits in force; max_device_memory 0: the device is the host */
    uint64_t reserved[8];
} flux1_context_info;
FLUX1_API flux1_status flux1_context_get_info(flux1_context *context, flux1_context_info *info);

/* Asks the call running on this context to stop; it returns FLUX1_ERR_CANCELLED soon. With no call running it does
 * nothing (see flux1_cancel_token). Safe in a signal handler. */
FLUX1_API void flux1_cancel(flux1_context *context);

/* A wish to stop that is not lost when it comes before the call that it is meant for: a request that has this token
 * ends with FLUX1_ERR_CANCELLED once the token is cancelled, now or later, until it is reset. Give it to one request at
 * a time; it outlives the request. NULL where memory is gone. */
typedef struct flux1_cancel_token flux1_cancel_token;
FLUX1_API flux1_cancel_token *flux1_cancel_token_create(void);
FLUX1_API void flux1_cancel_token_cancel(flux1_cancel_token *token); /* from any thread, or a signal handler */
FLUX1_API void flux1_cancel_token_reset(flux1_cancel_token *token);
FLUX1_API void flux1_cancel_token_destroy(flux1_cancel_token *token); /* NULL is fine */

/* ---- model ---- */

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

/* ---- text to image ---- */

typedef enum flux1_stage {
    FLUX1_STAGE_LOAD = 0,
    FLUX1_STAGE_TEXT = 1,
    FLUX1_STAGE_DENOISE = 2,
    FLUX1_STAGE_DECODE = 3
} flux1_stage;

typedef struct flux1_image {
    size_t size; /* of this struct, set by the library */
    int width, height;
    uint64_t seed;
    uint8_t *pixels; /* RGB, 3·width·height bytes, rows from the top */
    int request;     /* flux1_generate_many: whose picture it is; otherwise 0 */
    int index;       /* among the pictures of its request, from 0 */
    uint64_t reserved[6];
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

/* A picture is finished. Called on the caller's thread as soon as it is decoded, before the next one; the picture is
 * valid during the call. A return value other than 0 cancels what is left. */
typedef int flux1_image_fn(void *user, const flux1_image *image);

/* Decoding a picture larger than the VAE's sample_size in overlapping tiles takes the memory of one tile; tones may
 * differ slightly between tiles. AUTO: where the whole picture would take more memory than max_memory allows. */
typedef enum flux1_tiling { FLUX1_TILING_AUTO = 0, FLUX1_TILING_YES = 1, FLUX1_TILING_NO = 2 } flux1_tiling;

typedef struct flux1_text flux1_text; /* an encoded prompt: usable with any number of requests and samplers of the same
                                         model, also on other contexts */

typedef struct flux1_generate_params {
    size_t size;
    const char *prompt;      /* UTF-8; NULL: empty */
    int width, height;       /* 0: the model's default; rounded down to size_multiple, and logged */
    int steps;               /* -1: the model's default; otherwise at least 1 */
    float guidance;          /* negative: the model's default; ignored (and logged) without a guidance embedding */
    uint64_t seed;           /* image i uses seed + i; the last one's is at most 2^64 − 1 */
    int count;               /* images, default 1 */
    int max_sequence_length; /* T5 tokens; 0: the model's default */
    int preview_every;       /* steps; 0: no previews */
    flux1_progress_fn *progress;
    void *progress_user;
    const char *dump;       /* path of a safetensors file for the stages' tensors; NULL: none */
    flux1_tiling tiling;    /* of the VAE */
    const flux1_text *text; /* `prompt`, encoded before (flux1_encode_text with the same model, prompt and
                             * max_sequence_length), on this context or on another one; NULL: it is encoded here */
    const char
        *negative_prompt; /* true CFG, as diffusers' FluxPipeline has it: what the picture should not show. NULL: none;
                           * "" is one. Takes effect with true_cfg_scale > 1, and then twice the time */
    const flux1_text *negative_text; /* negative_prompt, encoded before; NULL: it is encoded where it is needed */
    float true_cfg_scale;            /* default 1: off. velocity = negative + scale · (positive − negative) */
    int batch;             /* pictures computed together; 0: chosen by size and memory. The pictures are the same,
                            * but for rounding */
    flux1_image_fn *image; /* NULL: pictures come at the end only */
    void *image_user;
    flux1_cancel_token *cancel; /* may be NULL */
    uint64_t reserved[8];
} flux1_generate_params;

FLUX1_API void flux1_generate_params_defaults(flux1_generate_params *params);

/* One request, whole: *images is an array of params->count images, freed by flux1_images_free. images may be NULL where
 * params->image is given: then no picture is kept behind its call. After a failure *images is NULL; what was finished
 * before has been handed to params->image. */
FLUX1_API flux1_status flux1_generate(flux1_context *context, const flux1_model *model,
                                      const flux1_generate_params *params, flux1_image **images);

/* n requests in one go, in batches: prompt, negative prompt, seed, count and guidance may differ; size, steps,
 * max_sequence_length, true_cfg_scale (and whether there is a negative prompt), batch and tiling are the same, and
 * progress, preview_every, image, cancel and dump are the first one's. *images: all pictures, request by request;
 * flux1_images_free(images, their number). */
FLUX1_API flux1_status flux1_generate_many(flux1_context *context, const flux1_model *model,
                                           const flux1_generate_params *const *params, int n, flux1_image **images);
FLUX1_API void flux1_images_free(flux1_image *images, int count);

/* PNG with the request in text chunks: "parameters" (A1111's line) and "flux1" (JSON). The name appears only when the
 * file is whole. params and model as they were given to flux1_generate; both may be NULL: then no text is written. */
FLUX1_API flux1_status flux1_image_write_png(flux1_context *context, const flux1_image *image, const flux1_model *model,
                                             const flux1_generate_params *params, const char *path);

/* ---- the same in stages ---- */

/* One picture on its way through the steps; belongs to its context, and holds memory of its own there until it is
 * freed. */
typedef struct flux1_sampler flux1_sampler;

/* params->prompt in both encoders. */
FLUX1_API flux1_status flux1_encode_text(flux1_context *context, const flux1_model *model,
                                         const flux1_generate_params *params, flux1_text **out);
FLUX1_API void flux1_text_free(flux1_text *text);

/* text: params->prompt, encoded with the same max_sequence_length. Nothing of params is kept; count, text, dump, image
 * and progress are not used. params->negative_prompt, where it counts, is encoded here unless params->negative_text is
 * given. */
FLUX1_API flux1_status flux1_sampler_create(flux1_context *context, const flux1_model *model, const flux1_text *text,
                                            const flux1_generate_params *params, flux1_sampler **out);
/* One Euler step. A step that failed or was cancelled has not happened: it can be made again. steps_left may be NULL.
 */
FLUX1_API flux1_status flux1_sampler_step(flux1_sampler *sampler, int *steps_left);
/* The packed latent [tokens, channels], float32; valid until the next call on the sampler. tokens and channels may be
 * NULL. */
FLUX1_API flux1_status flux1_sampler_latents(flux1_sampler *sampler, const float **latents, int64_t *tokens,
                                             int64_t *channels);
FLUX1_API flux1_status flux1_sampler_decode(
    flux1_sampler *sampler, flux1_image **image);          /* of the latent as it is now; flux1_images_free(image, 1) */
FLUX1_API void flux1_sampler_free(flux1_sampler *sampler); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
