/* flux1: FLUX.1 text-to-image, the stable public interface.
 *
 * A context is one run's memory, queue, threads and last message. A model is an opened pipeline folder, immutable and
 * shared by any number of contexts. Every call returns a status; flux1_context_message() returns the sentence that goes
 * with it. The library never exits, aborts or prints. NULL for a handle, a params struct or a result's address is
 * FLUX1_ERR_ARGUMENT unless stated otherwise; functions that return no status ignore it.
 *
 * Threads: calls on one context (and on what belongs to it, such as samplers) come from one thread at a time. Only
 * flux1_cancel() and flux1_cancel_token_cancel() may be called from any thread or a signal handler. A callback may call
 * the library with other contexts; with the one whose call it belongs to only flux1_cancel().
 * Lifetimes: strings in params (prompt, device, …) are copied or used within the call that takes them. A model must
 * outlive the calls that use it and the samplers made with it. A flux1_text may outlive its model; other models refuse
 * it. A sampler belongs to its context, which may do anything else between the sampler's calls; free it before the
 * context.
 *
 * Initialise every params struct with its _defaults() function: later versions add members in the reserved space. A
 * call checks the members that it uses, and no others, before any work, and names the one that is not allowed. */
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

/* One row per status: name, value, meaning. Values never change. */
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

/* For callers that do not compile this header (ctypes, cffi): bytes of a struct of that name, such as
 * "flux1_generate_params", of this header or flux1_tools.h, in this version of the library; 0: there is none. A buffer
 * of that size may be given to the struct's _defaults function; where there is none, its first member is set to the
 * size. Enumerators are ints, and no macro is needed for any call. */
FLUX1_API size_t flux1_struct_size(const char *name);

/* ---- context ---- */

/* The type in which activations are stored and multiplied; sums are float32, and weights stay as the file has them.
 * FP8: as BF16, but the transformer's blocks, where nearly all the work is, multiply e4m3 with one scale per row (or
 * per operand, if the hardware cannot scale rows) and add as the hardware does. Their weights take half the memory (all
 * of FLUX.1's transformer 15 GB instead of 24, since modulations stay as they are). Needs a GPU of compute
 * capability 8.9 or later, or device "ref"; pictures differ from BF16's in detail.
 * INT8: as AUTO, but the transformer's blocks and T5's multiply int8 with a scale for every 32 values, and add exactly.
 * Weights that a file has as int8 or GGUF's Q8_0 are multiplied as they are; floats are quantised when the model is
 * built, and take 9 bits then. On a CPU, or device "ref".
 * INT8_FAST: as INT8, with a scale for every 256 values, which an orthogonal matrix turns first so that none of them
 * stands out. A product is off by 0.8 to 1.0 % whatever its input is like, by 1.0 to 1.4 % with AVX2 alone (INT8: 0.8
 * to 1.3 %), and faster (measured with AVX2, VNNI and AMX: docs/performance.md). All weights are quantised when the
 * model is built, also those that a file has packed, and take 8 bits. The transformer's attention is in int8 too,
 * except with AMX, where it stays in bf16 or float32. */
typedef enum flux1_dtype {
    FLUX1_DTYPE_AUTO = 0,
    FLUX1_DTYPE_F32 = 1,
    FLUX1_DTYPE_BF16 = 2,
    FLUX1_DTYPE_FP8 = 3,
    FLUX1_DTYPE_INT8 = 4,
    FLUX1_DTYPE_INT8_FAST = 5
} flux1_dtype;

/* How weights that a file has packed (GGUF's types, fp8, bitsandbytes) lie in the memory of a GPU: as the file has
 * them, decoded in front of every product, which costs a few milliseconds a step; or decoded once, when they come.
 * Pictures are the same. AUTO: decoded where all of a model's weights fit beside the activations, otherwise packed. */
typedef enum flux1_device_weights {
    FLUX1_DEVICE_WEIGHTS_AUTO = 0,
    FLUX1_DEVICE_WEIGHTS_PACKED = 1,
    FLUX1_DEVICE_WEIGHTS_DECODED = 2
} flux1_device_weights;

/* What the matrices of the transformer and T5 are rounded to before anything else: bfp8 are the values that
 * Tenstorrent's cards would have (16 share an exponent, each has a sign and 7 bits), to see on any device what pictures
 * lose by it. */
typedef enum flux1_rounding { FLUX1_ROUNDING_NONE = 0, FLUX1_ROUNDING_BFP8 = 1 } flux1_rounding;

/* DETAIL: what a user who did not ask for it need not see. */
typedef enum flux1_log_level { FLUX1_LOG_INFO = 0, FLUX1_LOG_WARNING = 1, FLUX1_LOG_DETAIL = 2 } flux1_log_level;

typedef struct flux1_context_params {
    size_t size; /* set by the defaults function: the version of the struct */
    /* "cpu" (default); "cuda" or "cuda:N", the N-th GPU; "ttnn" or "ttnn:MACHINE", Tenstorrent's cards by a worker
     * process (docs/tenstorrent.md); or "ref", the slow plain-C definition */
    const char *device;
    /* "RxC", such as "2x4", or with the axes of sp and tp, "2x4sp1tp0"; NULL or "": one device. On a CPU the ranks are
     * threads (or processes) */
    const char *mesh;
    const char *sp, *tp; /* "FACTOR@AXIS", such as "2@0" and "4@1"; NULL: sp takes axis 0 and tp axis 1 */
    /* Of all ranks together; with `processes`, of this process's. 0: the number of physical cores, shared by the
     * processes of this host */
    int threads;
    flux1_dtype dtype; /* AUTO: bf16 if the hardware multiplies it, otherwise f32 */
    /* Bytes of host memory that a request may take: activations, prepared weights, pages of mapped files, its encoded
     * prompts and what is kept of earlier ones. Weights that do not fit are read in every step, while others compute,
     * and a picture that cannot be decoded whole is decoded in parts (flux1_tiling). Samplers that are open on the
     * context count. A request that needs more even so is refused before any work (FLUX1_ERR_LIMIT); the message names
     * options that would do. 0: what the machine and this process's control groups have available. */
    uint64_t max_memory;
    /* One line, no newline, on the thread that called; may be NULL. */
    void (*log)(void *user, flux1_log_level level, const char *message);
    void *log_user;
    /* Of the text encoders: as device, or "host" for the CPU, which on a mesh is the first rank's alone. NULL or "":
     * same as device */
    const char *encoder_device;
    /* 0: a step's calls are recorded once and replayed, on a GPU as a graph. 1: they are made anew each time. 2:
     * recorded, and on a GPU the prompt's half of a block runs beside the image's; the picture is the same, and a GPU
     * that power limits is no faster */
    int eager;
    /* As max_memory, for the devices' own memory, of all ranks together. 0: what they have. Not used if the device
     * computes in host memory. */
    uint64_t max_device_memory;
    /* A folder for prepared weights, so that another process need not prepare them again: blocks whose form on this
     * device and rank is not the file's, gigabytes on a GPU. Made here, with the folders above it, if it is not there
     * (FLUX1_ERR_IO where that fails); FLUX1_CACHE_DIR's when something is to be stored. Entries are found by the
     * content of the model's files, which costs one reading of each file once. On a CPU they are streamed from there
     * within max_memory. NULL: the folder that FLUX1_CACHE_DIR names; "" (or neither): nothing is stored. What goes
     * wrong in it later is logged as a warning, and weights are prepared as without it, or refused if max_memory has no
     * room. */
    const char *cache;
    /* Bytes of all its entries together; the ones that were used longest ago are removed to stay below. 0: what
     * FLUX1_CACHE_SIZE says (80G, 512M), else 100 GiB. */
    uint64_t cache_size;
    /* 1: this program is one of several that a launcher (mpirun, srun) has started, with equal parameters; they share
     * the mesh's ranks, at least one each (more are threads). flux1_context_create waits for all of them. The first
     * process (flux1_context_info.process 0) then uses the context as always; the others call flux1_context_follow.
     * One such context per program, ever: MPI starts only once in a process. max_memory is then each host's. */
    int processes;
    flux1_device_weights device_weights;
    flux1_rounding weight_rounding;
    /* 1: max_memory is that of the whole process: what this has in memory when the context is created (its code,
     * libraries, the caller's data, models that are open; and 2 MiB for code that runs later) counts too, beside what
     * requests take; with `processes`, once for each process of the host, whose sum is compared with max_memory. Where
     * max_memory is not given, it is what is free and what the process has. 0: what requests take alone, and models
     * that are opened later */
    int memory_of_process;
    /* 1: the context is for plans and descriptions (flux1_tools.h), which store nothing: `cache` counts in them, and is
     * not made here */
    int plans_only;
    uint64_t reserved[8];
} flux1_context_params;

FLUX1_API void flux1_context_params_defaults(flux1_context_params *params);

/* *out is set even on failure, so that its message can be read (NULL only if memory ran out); destroy it in any case.
 * params may be NULL: the defaults. */
FLUX1_API flux1_status flux1_context_create(const flux1_context_params *params, flux1_context **out);
FLUX1_API void flux1_context_destroy(flux1_context *context); /* NULL is fine */

/* The sentence for the last call's status; "" after success. Valid until the next call on this context. NULL is fine.
 */
FLUX1_API const char *flux1_context_message(const flux1_context *context);

/* Where a context computes. */
typedef struct flux1_context_info {
    size_t size;             /* set by the caller */
    const char *device;      /* the first rank's: "cpu", "cuda:0". Valid as long as the context */
    const char *device_name; /* "avx2", "NVIDIA H200" */
    const char *dtype; /* "f32", "bf16", "fp8", "int8" or "int8-fast", with " with bfp8 weights": what is in use */
    int ranks, threads;
    int runs_ahead;                         /* 1: the device works while the host does something else */
    int encoders_apart;                     /* 1: the text encoders have a device of their own */
    uint64_t max_memory, max_device_memory; /* the limits in use; max_device_memory 0: it computes in host memory */
    int process, processes;                 /* which of how many; 0 of 1 */
    /* prompts that the text encoders ran for; that had been encoded before on this context, with the same model and
     * adapters, and were found in its memory; and the bytes that these take there now */
    uint64_t texts_encoded, texts_reused, text_bytes;
    uint64_t reserved[4];
} flux1_context_info;
/* FLUX1_ERR_COMM if a process of the mesh is gone: then nothing works on this context any more. */
FLUX1_API flux1_status flux1_context_get_info(flux1_context *context, flux1_context_info *info);

/* In all processes but the first (flux1_context_params.processes): carries out what the first one's calls ask of this
 * process, until that one destroys its context (FLUX1_OK), or a process is gone (FLUX1_ERR_COMM; the message is ""
 * where another process tells it: the first, or if that is gone one of the others). Models are opened at the first
 * process's paths. */
FLUX1_API flux1_status flux1_context_follow(flux1_context *context);

/* Asks the call running on this context to stop; it returns FLUX1_ERR_CANCELLED soon. With no call running it does
 * nothing (see flux1_cancel_token). Safe in a signal handler. */
FLUX1_API void flux1_cancel(flux1_context *context);

/* A token cancels a request even if it is cancelled before the call begins. A request that has the token ends with
 * FLUX1_ERR_CANCELLED once the token is cancelled; the token stays cancelled until it is reset. Give it to one request
 * at a time; it must outlive the request. _create returns NULL if memory runs out. */
typedef struct flux1_cancel_token flux1_cancel_token;
FLUX1_API flux1_cancel_token *flux1_cancel_token_create(void);
FLUX1_API void flux1_cancel_token_cancel(flux1_cancel_token *token); /* from any thread, or a signal handler */
FLUX1_API void flux1_cancel_token_reset(flux1_cancel_token *token);
FLUX1_API void flux1_cancel_token_destroy(flux1_cancel_token *token); /* NULL is fine */

/* ---- model ---- */

/* Opens a model: a pipeline folder in Hugging Face's layout (model_index.json, scheduler/, text_encoder/,
 * text_encoder_2/, tokenizer/, tokenizer_2/, transformer/, vae/), a file of weights, a folder of such files, or a
 * repository in Hugging Face's cache: org/name, org/name@revision, org/name/file; a file or folder of that name wins.
 * Parts that a file lacks are looked for by content: beside it (also in ComfyUI's layout of folders), in the folders
 * that FLUX1_PATH names, and in the cache; each choice is logged. Files are mapped, not read (but where the
 * file system maps none, which is logged); every tensor's name and shape is checked here. A file that becomes shorter
 * while it is mapped is no bus error but FLUX1_ERR_IO from the call that needs it: while a model is open the library
 * handles SIGBUS, and passes on what does not concern its files to the handler that was there before. The context is
 * used for messages only and is not kept. */
FLUX1_API flux1_status flux1_model_open(flux1_context *context, const char *path, flux1_model **out);

/* Where the parts of a model come from. NULL: from `model`. */
typedef struct flux1_model_parts {
    size_t size;       /* set by the caller */
    const char *model; /* as in flux1_model_open; NULL: parts are named below */
    /* a file (safetensors or GGUF, with the names of diffusers, BFL, ComfyUI or llama.cpp), a folder with config.json
     * and weights, or org/name */
    const char *transformer, *clip, *t5, *vae;
    /* a folder with tokenizer/ and tokenizer_2/. NULL: the one of `model`, where it is a folder; otherwise FLUX.1's
     * own, which the library contains */
    const char *tokenizers;
    /* of weights that lie in a folder in several variants, "fp16" (model.fp16.safetensors): taken where a folder has
     * it. NULL: the plain ones, or the only variant there is */
    const char *file_variant;
    uint64_t reserved[15]; /* zero */
} flux1_model_parts;

/* The same for a model of parts from several places. Sizes come from config.json where there is one, otherwise from the
 * tensors. */
FLUX1_API flux1_status flux1_model_open_parts(flux1_context *context, const flux1_model_parts *parts,
                                              flux1_model **out);
FLUX1_API void flux1_model_close(flux1_model *model); /* after the last call that uses it; NULL is fine */

/* What the folder says. A request's defaults come from here. */
typedef struct flux1_model_info {
    size_t size;
    int guidance;           /* 1: the transformer has a guidance embedding (dev) */
    int default_steps;      /* 28 with guidance, otherwise 4 */
    float default_guidance; /* 3.5; unused without guidance */
    int default_width, default_height;
    int default_sequence_length, max_sequence_length; /* T5 tokens */
    int size_multiple;                                /* width and height are multiples of this */
    const char *name;                                 /* org/name, or the last part of its path; the model's */
    const char *variant;                              /* "dev" with guidance, otherwise "schnell" */
    /* Of its parts, in the order text_encoder (CLIP), text_encoder_2 (T5), transformer, vae: the type that most of its
     * parameters are stored in, "BF16", "Q4_K" and so on; and bytes of all its tensors in the files */
    const char *part_dtype[4];
    uint64_t part_bytes[4];
    uint64_t reserved[6];
} flux1_model_info;
FLUX1_API flux1_status flux1_model_get_info(const flux1_model *model,
                                            flux1_model_info *info); /* info->size must be set */

/* ---- adapters (LoRA) ---- */

/* An opened file of adapters, in the naming of any of the usual trainers, for the transformer and the text encoders.
 * Plain low-rank ones run beside the model's weights: requests with others, or other scales, prepare nothing of the
 * model again. The other kinds (DoRA, LoHa, LoKr, OFT, BOFT, GLoRA, (IA)^3, differences of weights, biases and norms)
 * are merged: where they or their scales change, the blocks that they touch are prepared again. */
typedef struct flux1_adapter flux1_adapter;

/* What does not apply is logged. FLUX1_ERR_MODEL: none of them, or a shape is not this model's. FLUX1_ERR_UNSUPPORTED:
 * an adapter of another kind (control LoRA, VeRA, …). Close it after the last call that uses it, before the
 * model. */
FLUX1_API flux1_status flux1_adapter_open(flux1_context *context, const flux1_model *model, const char *path,
                                          flux1_adapter **out);
FLUX1_API void flux1_adapter_close(flux1_adapter *adapter); /* NULL is fine */

typedef struct flux1_adapter_info {
    size_t size;
    int pairs, applied;     /* in the file; of them for layers that the model has */
    int rank_min, rank_max; /* of these; 0: none has a rank */
    const char *kinds;      /* of these, such as "LoRA" or "DoRA, norms"; the adapter's */
    uint64_t reserved[7];
} flux1_adapter_info;
FLUX1_API flux1_status flux1_adapter_get_info(const flux1_adapter *adapter,
                                              flux1_adapter_info *info); /* info->size must be set */

/* W + scale · (what the file makes of W − W); of a low-rank one this is W + scale · alpha / rank · up·down. */
typedef struct flux1_adapter_use {
    flux1_adapter *adapter;
    float scale;
} flux1_adapter_use;

/* ---- text to image ---- */

typedef enum flux1_stage {
    FLUX1_STAGE_LOAD = 0,
    FLUX1_STAGE_TEXT = 1,
    FLUX1_STAGE_DENOISE = 2,
    FLUX1_STAGE_DECODE = 3
} flux1_stage;

typedef struct flux1_image {
    size_t size; /* of this struct, set by the library, or by a caller who has one written */
    int width, height;
    uint64_t seed;
    uint8_t *pixels;  /* RGB, 3·width·height bytes, rows from the top */
    int request;      /* flux1_generate_many: whose picture it is; otherwise 0 */
    int index;        /* among the pictures of its request, from 0 */
    int steps_reused; /* passes through the transformer that the step cache made short; 0 without it */
    int passes;       /* … of how many: one a step, two with true CFG. 0: the library does not say (flux1_sampler) */
    /* What made it, for its metadata: "f32", "cpu" and the mesh's rows and columns. NULL and 0: those of the context
     * that writes it */
    const char *dtype, *device;
    int mesh[2];
    uint64_t reserved[2];
} flux1_image;

typedef struct flux1_progress {
    size_t size;
    flux1_stage stage;
    const char *stage_name;     /* "load", "text encoders", "denoise", "decode" */
    int image, images;          /* the current picture, from 0; of how many */
    int step, steps;            /* finished steps while denoising, from the first one's beginning on; 0, 0 before and
                                   elsewhere */
    double stage_fraction;      /* 0 to 1; of each text encoder in turn */
    double fraction;            /* of the whole request, by FLOPs */
    double seconds;             /* since the request began */
    double seconds_left;        /* estimate; negative while unknown */
    const flux1_image *preview; /* every preview_every steps, and after the last one: the picture that the model expects
                                   now, in the picture's size (see flux1_preview_kind). Otherwise NULL. Valid during the
                                   call */
    uint64_t reserved[8];
} flux1_progress;

/* Called on the caller's thread. A return value other than 0 cancels. */
typedef int flux1_progress_fn(void *user, const flux1_progress *progress);

/* Called on the caller's thread for each finished picture, as soon as it is decoded. The picture is valid during the
 * call. A return value other than 0 cancels the rest. */
typedef int flux1_image_fn(void *user, const flux1_image *image);

/* How a picture is decoded that would take more memory than allowed. In bands of rows: the same picture up to rounding,
 * in about a third of the memory and a tenth more time. In overlapping tiles of the VAE's sample_size, as diffusers
 * does it: the memory of one tile, or of bands of it where that is too much; tones may differ slightly between tiles.
 * AUTO: whole if it fits, else in bands where the device computes in the host's memory, else in tiles. YES: always in
 * tiles, if it is larger than one. NO: AUTO without tiles. BANDS: always in bands. */
typedef enum flux1_tiling {
    FLUX1_TILING_AUTO = 0,
    FLUX1_TILING_YES = 1,
    FLUX1_TILING_NO = 2,
    FLUX1_TILING_BANDS = 3
} flux1_tiling;

/* Whose random numbers the noise of a seed is made of: torch's on a CPU, or on a CUDA device (Philox). What a GPU draws
 * depends on how many threads it can have resident (multiprocessors times threads of each), which is rng_threads:
 *     RTX 3090 125952, RTX 4090 196608, A100 221184, RTX 5090 261120, H100 and H200 270336
 * Noise of no more numbers than that is the same on all GPUs; a picture of 1024×1024 takes 262144. Noise is float32:
 * a pipeline in bfloat16 rounds it. */
typedef enum flux1_rng { FLUX1_RNG_CPU = 0, FLUX1_RNG_CUDA = 1 } flux1_rng;

/* Latents of one picture or several: noise to begin with, or what the VAE is to decode. The values are float32, as the
 * transformer has them; scaled, in diffusers' words. */
typedef struct flux1_latents {
    size_t size; /* set by the caller */
    const float *values;
    int dims;          /* 3: packed, [pictures, tokens, channels]; 4: [pictures, channels, rows, columns] */
    int unscaled;      /* 1: as the VAE takes them, x / scaling_factor + shift_factor */
    int64_t shape[4];  /* FLUX.1, 1024×768: [1, 3072, 64] or [1, 16, 96, 128] */
    int width, height; /* of the pictures, where a file says so; otherwise 0 */
    uint64_t reserved[6];
} flux1_latents;

/* Called on the caller's thread for each picture that was denoised, but could not be decoded (not after a cancel).
 * image: its seed, size, request and index, without pixels. latents: packed, of this picture. Both are valid during
 * the call. */
typedef void flux1_undecoded_fn(void *user, const flux1_image *image, const flux1_latents *latents);

/* How previews are made. RGB: a linear estimate of each latent cell's colour, smoothly enlarged. It is fitted to the
 * model's VAE by decoding five small latents (16 cells a side) before the first request with previews, and kept by the
 * identity of the VAE's files in $XDG_CACHE_HOME/flux1; how far it is off is logged (FLUX1_LOG_DETAIL). VAE: what the
 * VAE makes of the latent, which takes as long, and as much memory beside the denoiser, as decoding the picture; the
 * one after the last step is the picture itself, once it is decoded. */
typedef enum flux1_preview_kind { FLUX1_PREVIEW_RGB = 0, FLUX1_PREVIEW_VAE = 1 } flux1_preview_kind;

/* An encoded prompt: usable with any number of requests and samplers of the same model, also on other contexts. */
typedef struct flux1_text flux1_text;

typedef struct flux1_generate_params {
    size_t size;
    const char *prompt;      /* UTF-8; NULL: empty, which is logged */
    int width, height;       /* 0: the model's default; rounded down to size_multiple, and logged */
    int steps;               /* -1: the model's default; otherwise at least 1 */
    float guidance;          /* negative: the model's default; ignored (and logged) if it has no guidance embedding */
    uint64_t seed;           /* picture i uses seed + i, which is at most 2^64 − 1 */
    int count;               /* pictures; default 1 */
    int max_sequence_length; /* T5 tokens; 0: the model's default */
    int preview_every;       /* steps; 0: no previews. Needs `progress` */
    flux1_progress_fn *progress;
    void *progress_user;
    const char *dump;    /* path of a safetensors file for the stages' tensors; NULL: none */
    flux1_tiling tiling; /* of the VAE */
    /* `prompt`, already encoded (flux1_encode_text with the same model, prompt and max_sequence_length), on this
     * context or another one. NULL: it is encoded here. */
    const flux1_text *text;
    /* True CFG, as in diffusers' FluxPipeline: what the picture should not show. NULL: none; "" is a negative prompt.
     * It has an effect with true_cfg_scale > 1, and then a step takes twice the time. */
    const char *negative_prompt;
    const flux1_text *negative_text; /* negative_prompt, already encoded; NULL: it is encoded if needed */
    float true_cfg_scale;            /* default 1: off. velocity = negative + scale · (positive − negative) */
    int batch;             /* pictures computed together; 0: chosen by size, device and memory. The pictures are the
                            * same, but for rounding */
    flux1_image_fn *image; /* NULL: pictures come at the end only */
    void *image_user;
    flux1_cancel_token *cancel; /* may be NULL */
    /* Path of a Chrome trace (JSON, for chrome://tracing or ui.perfetto.dev): what each rank of the mesh computed and
     * exchanged, and when. The share of exchange that was hidden behind compute is logged. Written when the request has
     * succeeded; a place that cannot be written is refused before any work, as of `dump`. NULL: none. */
    const char *profile;
    const flux1_adapter_use *adapters; /* at most 16; their terms add up. NULL: none */
    int adapter_count;
    flux1_rng rng;   /* of the noise */
    int rng_threads; /* with FLUX1_RNG_CUDA: of the GPU, see flux1_rng; at least 256. 0: an H100's, 270336 */
    /* The noise to begin with, in place of the seed's: `count` of them. width and height may be 0 where the latents say
     * them. NULL: none */
    const flux1_latents *latents;
    flux1_undecoded_fn *undecoded; /* with image_user; NULL: none */
    flux1_preview_kind preview_kind;
    /* First-block cache (as in ParaAttention and diffusers' FirstBlockCacheConfig): where the first block changes the
     * image by nearly what it did in the last step that was computed whole, what the other blocks added then is added
     * again and they do not run. The threshold, Σ|change − change then| ÷ Σ|change then|; of several pictures computed
     * together the largest counts, so without a `batch` each is computed alone. 0, the default: off. The picture
     * differs; 0.05 to 0.2 are usual, with many steps. */
    float step_cache;
    uint64_t reserved[1];
} flux1_generate_params;

FLUX1_API void flux1_generate_params_defaults(flux1_generate_params *params);

/* Runs one request. *images is an array of params->count pictures; free it with flux1_images_free. images may be NULL
 * if params->image is given: then no picture is kept after its call. After a failure *images is NULL; pictures finished
 * before it have been passed to params->image. */
FLUX1_API flux1_status flux1_generate(flux1_context *context, const flux1_model *model,
                                      const flux1_generate_params *params, flux1_image **images);

/* Whether flux1_generate would begin: everything that it refuses before any work, the memory of every stage among it,
 * and logs then. Computes nothing. */
FLUX1_API flux1_status flux1_generate_check(flux1_context *context, const flux1_model *model,
                                            const flux1_generate_params *params);

/* The same, and how many of params->count pictures would be computed together: as many as pay by their size, which a
 * GPU says otherwise than a CPU, or with params->batch at most that many; fewer, at least 1, where the memory does not
 * hold them. So a caller that has several requests of one kind may know whether to put them into one call. */
FLUX1_API flux1_status flux1_generate_batch(flux1_context *context, const flux1_model *model,
                                            const flux1_generate_params *params, int *batch);

/* Runs n requests, in batches. Prompt, negative prompt (and their encoded texts), seed, count, guidance, rng,
 * rng_threads, latents, cancel and preview_every may differ. Size, steps, max_sequence_length, true_cfg_scale (and
 * whether there is a negative prompt), step_cache, tiling, batch and adapters must be the same. progress, preview_kind,
 * image, undecoded, dump and profile are taken from the first request; pictures say whose they are
 * (flux1_image.request), previews too. A request without `cancel` or preview_every has the first one's. One that is
 * cancelled alone gets no more pictures, neither decoded nor handed out, and the others go on; FLUX1_ERR_CANCELLED
 * where all are. *images: all pictures, request by request, without pixels where theirs was cancelled before they were
 * finished; free with flux1_images_free(images, their number). A dump has zeros where nothing was computed for pictures
 * of a cancelled request, and no metadata of them. */
FLUX1_API flux1_status flux1_generate_many(flux1_context *context, const flux1_model *model,
                                           const flux1_generate_params *const *params, int n, flux1_image **images);
FLUX1_API void flux1_images_free(flux1_image *images, int count);

/* Decodes latents that are done: params->count pictures, as flux1_generate would. Of params are used: width, height
 * (packed latents need them, unless they say their own), seed, count, tiling, progress, image, undecoded and cancel,
 * and no others. */
FLUX1_API flux1_status flux1_decode(flux1_context *context, const flux1_model *model, const flux1_latents *latents,
                                    const flux1_generate_params *params, flux1_image **images);

/* Writes the latents of one picture as a safetensors file, with what made it in the metadata: texts "flux1" (JSON) and
 * "parameters", as in a picture, and the paths of the model and its parts. image, params, model: what was denoised. */
FLUX1_API flux1_status flux1_latents_write(flux1_context *context, const flux1_latents *latents,
                                           const flux1_image *image, const flux1_model *model,
                                           const flux1_generate_params *params, const char *path);

/* A file of latents: one that flux1_latents_write or params->dump has made, diffusers' or ComfyUI's; or any safetensors
 * file with one tensor, [pictures, channels, rows, columns] or packed. */
typedef struct flux1_latents_file flux1_latents_file;
/* initial: 1: noise to begin with is looked for (of a dump the first latents, otherwise the last). FLUX1_ERR_IO;
 * FLUX1_ERR_FORMAT: no latents, or not of that shape and type; FLUX1_ERR_NUMERIC: NaN or infinity in them;
 * FLUX1_ERR_LIMIT: the context's max_memory has no room for the values. */
FLUX1_API flux1_status flux1_latents_open(flux1_context *context, const char *path, int initial,
                                          flux1_latents_file **out);
/* Valid until flux1_latents_close. NULL for NULL. */
FLUX1_API const flux1_latents *flux1_latents_of(const flux1_latents_file *file);
/* A text of the file's metadata about picture `index`: "flux1", "parameters"; of all: "model", "transformer", "clip",
 * "t5", "vae", "tokenizers", "file_variant". NULL: it has none. */
FLUX1_API const char *flux1_latents_text(const flux1_latents_file *file, int index, const char *key);
FLUX1_API void flux1_latents_close(flux1_latents_file *file); /* NULL is fine */

/* Writes a PNG with the request in text chunks: "parameters" (A1111's format) and "flux1" (JSON). The name appears only
 * when the file is complete. params and model: as given to flux1_generate; both may be NULL: then no text is written.
 */
FLUX1_API flux1_status flux1_image_write_png(flux1_context *context, const flux1_image *image, const flux1_model *model,
                                             const flux1_generate_params *params, const char *path);

typedef enum flux1_format {
    FLUX1_FORMAT_AUTO = 0, /* by the ending of the file's name: .jpg, .jpeg, .webp, otherwise PNG; but see
                              flux1_format_is_unwritten */
    FLUX1_FORMAT_PNG = 1,
    FLUX1_FORMAT_JPEG = 2,
    FLUX1_FORMAT_WEBP = 3
} flux1_format;

typedef struct flux1_write_params {
    size_t size;
    flux1_format format;
    int quality; /* of JPEG and WebP, 1 to 100 (WebP: lossless); 0: 90 */
    int plain;   /* 1: without the request and any other metadata */
    /* Texts "parameters" and "flux1" in place of those that params and model would give (of latents from a file); NULL:
     * those; "": none. In all formats each byte that is not UTF-8 becomes U+FFFD: no picture is lost by its text */
    const char *parameters, *json;
    int adapter_names; /* 1: adapters by their files' names alone, for pictures that others get; 0: by their paths */
    /* In "parameters", in place of the request's prompt: as it was written, with its tags of adapters,
     * "<lora:NAME:0.8>". NULL or "": the request's prompt, with a tag for each adapter behind it */
    const char *prompt;
    uint64_t reserved[2];
} flux1_write_params;
FLUX1_API void flux1_write_params_defaults(flux1_write_params *params);

/* As flux1_image_write_png, in any format. JPEG and WebP carry "parameters" as EXIF's UserComment and the JSON in XMP,
 * and each format has IPTC's mark of a generated picture; a JPEG has no room for a text of 64 KiB and is written
 * without it. how may be NULL. FLUX1_ERR_UNSUPPORTED: this build lacks the format's library; FLUX1_ERR_LIMIT: the
 * picture is too large for the format. */
FLUX1_API flux1_status flux1_image_write(flux1_context *context, const flux1_image *image, const flux1_model *model,
                                         const flux1_generate_params *params, const flux1_write_params *how,
                                         const char *path);
/* The same into memory; AUTO is PNG. Free *bytes with flux1_bytes_free. */
FLUX1_API flux1_status flux1_image_encode(flux1_context *context, const flux1_image *image, const flux1_model *model,
                                          const flux1_generate_params *params, const flux1_write_params *how,
                                          uint8_t **bytes, size_t *byte_count);
FLUX1_API void flux1_bytes_free(uint8_t *bytes); /* NULL is fine */

/* What the ending of a name says (".jpeg": FLUX1_FORMAT_JPEG); AUTO if it is none of them. */
FLUX1_API flux1_format flux1_format_of(const char *path);
/* 1: the name ends as pictures do that flux1 does not write (.gif, .bmp, .tif, .tiff, .avif, .jxl, .ppm, .heic):
 * flux1_image_write refuses it with AUTO (FLUX1_ERR_ARGUMENT). */
FLUX1_API int flux1_format_is_unwritten(const char *path);
/* Whether this build writes that format; a sentence in the context's message if not. width, height: 0, or a picture's.
 */
FLUX1_API flux1_status flux1_format_check(flux1_context *context, flux1_format format, int width, int height);

/* ---- the same in stages ---- */

/* One picture between its steps. It belongs to its context and holds memory of its own there until it is freed. */
typedef struct flux1_sampler flux1_sampler;

/* Encodes params->prompt with both encoders. Of params are used: prompt, max_sequence_length, adapters, progress and
 * cancel, and no others. */
FLUX1_API flux1_status flux1_encode_text(flux1_context *context, const flux1_model *model,
                                         const flux1_generate_params *params, flux1_text **out);
FLUX1_API void flux1_text_free(flux1_text *text);

/* text: params->prompt, encoded with the same max_sequence_length; not used after this call. Nothing of params is kept
 * except `cancel`. count (it is one picture), text, batch, dump, profile, image, undecoded, progress and previews are
 * not used. params->negative_prompt is encoded here if it has an effect and params->negative_text is not given. */
FLUX1_API flux1_status flux1_sampler_create(flux1_context *context, const flux1_model *model, const flux1_text *text,
                                            const flux1_generate_params *params, flux1_sampler **out);
/* One Euler step. After a failure or a cancel the sampler is as before: the step can be made again. steps_left may be
 * NULL. */
FLUX1_API flux1_status flux1_sampler_step(flux1_sampler *sampler, int *steps_left);
/* The packed latent [tokens, channels], float32; valid until the next call on the sampler. tokens and channels may be
 * NULL. */
FLUX1_API flux1_status flux1_sampler_latents(flux1_sampler *sampler, const float **latents, int64_t *tokens,
                                             int64_t *channels);
/* Decodes the current latent. Free the picture with flux1_images_free(image, 1). */
FLUX1_API flux1_status flux1_sampler_decode(flux1_sampler *sampler, flux1_image **image);
FLUX1_API void flux1_sampler_free(flux1_sampler *sampler); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
