/* flux1's tools: what the command line offers besides generating pictures. The ABI is not stable. */
#ifndef FLUX1_TOOLS_H
#define FLUX1_TOOLS_H

#include "flux1.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A file of an adapter that a tool opens itself, as flux1_adapter_open finds it; at most so many. */
#define FLUX1_ADAPTER_FILES_MAX 16
typedef struct flux1_adapter_file {
    const char *path;
    float scale;
} flux1_adapter_file;

/* Token ids of a prompt, as the pipeline makes them. model: a pipeline folder, or one with tokenizer/ and tokenizer_2/
 * alone, or a file of weights (FLUX.1's own tokenizers, which are compiled in). t5_length 0: the model's default.
 * prompt may be NULL with 0 bytes. clip and t5 are malloc'd: free with flux1_tokens_free. */
typedef struct flux1_tokens {
    int32_t *clip, *t5;
    int clip_count, t5_count;         /* padded lengths */
    int clip_truncated, t5_truncated; /* 1: the prompt was longer */
} flux1_tokens;
FLUX1_API flux1_status flux1_tokenize(flux1_context *context, const char *model, const char *prompt,
                                      size_t prompt_bytes, int t5_length, flux1_tokens *out);
FLUX1_API void flux1_tokens_free(flux1_tokens *tokens); /* NULL is fine */

/* A tokenizer pair kept open for many prompts (flux1 tokenize --jsonl). */
typedef struct flux1_tokenizer flux1_tokenizer;
FLUX1_API flux1_status flux1_tokenizer_open(flux1_context *context, const char *model, flux1_tokenizer **out);
/* The same for a model as flux1_model_open_parts finds it; clip, t5 and vae are not looked at. */
FLUX1_API flux1_status flux1_tokenizer_open_parts(flux1_context *context, const flux1_model_parts *parts,
                                                  flux1_tokenizer **out);
FLUX1_API flux1_status flux1_tokenizer_run(flux1_context *context, const flux1_tokenizer *tokenizer, const char *prompt,
                                           size_t prompt_bytes, int t5_length, flux1_tokens *out);
FLUX1_API void flux1_tokenizer_close(flux1_tokenizer *tokenizer);

/* A JSON text that describes a folder: parts, what is missing, sizes, dtypes, parameters, bytes, and "request": what
 * the given request takes. Its "estimate" is a list of {"stage", "memory_bytes", "peak_bytes", "flops", "seconds"}
 * for CLIP, T5, denoise, decode and all (pictures; one prompt is encoded once); memory_bytes is what it cannot do
 * without, peak_bytes what it will have with the mapped weights that max_memory leaves room for; seconds are null where
 * "machine" says why they are not known. They are of this machine with the context's device, threads and dtype: its CPU
 * is measured for a second or two and the rates kept in flux1's cache folder. "not_counted" says what the seconds leave
 * out, "fits" is about memory. With verify, every value of every file is read, tensors with NaN or infinity are named
 * (FLUX1_ERR_NUMERIC), and "unknown_tensors" lists those that FLUX.1 does not have, which a picture does not use. *json
 * is set even if something is missing (the status says so); free it with flux1_string_free. */
FLUX1_API flux1_status flux1_info_json(flux1_context *context, const char *path, const flux1_generate_params *request,
                                       int verify, char **json);

/* The same of a model as flux1_model_open_parts finds it: "chosen" has a line for each part that was looked for, and
 * "missing" says how to get what is nowhere. The request is planned with these adapters, which "adapters" lists:
 * {"adapter" (the file), "kinds", "applied" of "entries", "rank_min", "rank_max", "scale"}; NULL with adapter_count 0.
 */
FLUX1_API flux1_status flux1_info_parts_json(flux1_context *context, const flux1_model_parts *parts,
                                             const flux1_adapter_file *adapters, int adapter_count,
                                             const flux1_generate_params *request, int verify, char **json);

/* A JSON list of the devices that a context can use here: the CPU with its instruction set, GPUs with memory
 * and capability, and the reason if there are none; which files and versions of NVIDIA's libraries are used, or why
 * one is missing; and Tenstorrent's cards ("Tenstorrent cards", or "no tenstorrent") with "what they need", found or
 * missing. A Python is started to ask for the last. */
FLUX1_API flux1_status flux1_devices_json(flux1_context *context, char **json);

/* Whether this machine can make pictures, and what to do where it can't: {"checks": [{"check", "state", "found",
 * "remedy"}], "wrong": how many of them are}. A state is "ok", "note" (missing, or not working, but not asked for) or
 * "wrong". Checked are the processor, memory, GPUs, Tenstorrent's cards with what they need, a model (it is opened and
 * its default picture planned), the folder of prepared weights, and disks. FLUX1_OK whatever is wrong. Free *json with
 * flux1_string_free. */
typedef struct flux1_doctor_params {
    size_t size;
    const char *device; /* "cuda" or "ttnn": it is asked for; NULL: none is */
    const char *model;  /* as in flux1_model_open; NULL: none is looked at */
    int model_asked;    /* 0: `model` is what is taken where none is named, and need not work */
    const char *cache;  /* folder of prepared weights, asked for; NULL: the one that FLUX1_CACHE_DIR names */
    uint64_t reserved[8];
} flux1_doctor_params;
FLUX1_API void flux1_doctor_params_defaults(flux1_doctor_params *params);
FLUX1_API flux1_status flux1_doctor_json(flux1_context *context, const flux1_doctor_params *params, char **json);

/* The cache of prepared weights (flux1_context_params.cache) in `folder`; NULL: the one that FLUX1_CACHE_DIR names.
 * JSON, free it with flux1_string_free: {"folder", "entries", "bytes", "files"}, files: the one that was used longest
 * ago first, with "file", "bytes", "used" (when: "2026-11-25T23:45:35Z"), and what its header says. Other files in the
 * folder are left alone. LIST names also what cannot be read as an entry ("problem"). VERIFY: the same, with all bytes
 * read and compared with their checksums; FLUX1_ERR_FORMAT, naming the first damaged file, where one does not match;
 * *json is set all the same. CLEAR removes all entries but those in use by a process ("in use": their number), and
 * lists what was removed; FLUX1_ERR_IO with the first reason where some cannot be ("not removed": their number); *json
 * is set all the same. SIZE: without "files". */
typedef enum flux1_cache_action {
    FLUX1_CACHE_LIST = 0,
    FLUX1_CACHE_VERIFY = 1,
    FLUX1_CACHE_CLEAR = 2,
    FLUX1_CACHE_SIZE = 3
} flux1_cache_action;
FLUX1_API flux1_status flux1_cache_json(flux1_context *context, const char *folder, flux1_cache_action action,
                                        char **json);

/* Runs stages at a model's true size with synthetic weights (variant "schnell" or "dev"; stage "all", "clip", "t5",
 * "dit", "vae"), or of a folder's own configs (path not NULL; its weights are used). JSON: the setup ("version", "cpu",
 * "load_average" of the machine's last minute, "threads", sizes, and, where they are not the defaults, "capture",
 * "device_weights", "encoder_device", "max_memory", "max_device_memory"), "peak_flops_per_second" measured in the same
 * run for "peak_type" (f32, or bf16 where the processor multiplies it; with dtype int8 "peak_int8_flops_per_second"
 * too; 0 on GPUs and with several processes), and a row for each stage: "seconds" (the median of the repeats),
 * "seconds_min", "seconds_max", "seconds_mad" (the median distance from the median), "processor_seconds" (of all
 * threads), FLOP/s, the share of the peak (each call's of its own type's) and "processor_share_of_peak" (in processor
 * time), bytes, and of an encoder "rows", the tokens that it computes; FLOPs and
 * bytes are sums over all ranks. With several repeats one before them is not counted. "kernels" says where the time
 * goes: {"stage", "kernel" (an operation), "shape", "type", "calls" of one run, "seconds", "seconds_min",
 * "seconds_max", "seconds_mad", "share_of_stage", "flops", "flops_per_second", "share_of_peak", "processor_seconds" and
 * "processor_share_of_peak" (null with several ranks), "bytes_per_second"}, longest first; a shape is rows x outputs x
 * inputs, of attention queries x keys x head size * heads, with "N * " before it for a batch; times are a rank's mean.
 * "other" is what no call took. There are none on devices that run ahead and with several processes.
 *
 * The file of events has a JSON object a line: first what is planned, then what each
 * rank's operations, collectives, weights and memory take, in order: {"stage", "rank", "event" (compute, collective,
 * weights, memory, order), "operation", "block", "batch", "m", "n", "k", "heads", "flops", "bytes_in", "bytes_out",
 * "bytes_weights", "bytes_moved", "ranks", "axis", "overlaps", "arena"}, without the members that mean nothing for it.
 * "dit step" stands for one of the steps, all of which are alike.
 *
 * With runs > 0 whole pipelines are timed instead
 * (stage and repeats are not used), and the JSON has "warm_ups", "runs", "steps_per_second", "images_per_second" and
 * "events": mean, deviation (of the sample), minimum and maximum seconds of clip_encoding, t5_encoding, encoder (both),
 * denoising, denoising_step_0 and so on, vae, total. */
typedef struct flux1_bench_params {
    size_t size;
    const char *variant; /* "schnell" */
    const char *stage;   /* "all" */
    const char *path;    /* NULL: synthetic weights */
    int width, height;   /* 256 */
    int steps;           /* 1 */
    int sequence_length; /* 256 */
    int repeats;         /* 3: the median is reported; 0: the stages are planned, nothing is computed */
    flux1_dtype weights; /* of synthetic weights: F32 or BF16, the default */
    const char *events;  /* path of a file for the plan's events, written before anything runs; NULL: none */
    int runs;            /* whole pipelines, timed after two that are not; 0: the stages alone, see below */
    const char *profile; /* path of a Chrome trace of everything that is timed (flux1_generate_params); NULL: none. The
                            JSON then has "profile": {"file", "exchange_seconds", "hidden_share", "ring_seconds",
                            "ring_hidden_share", "steps": [{"step", …}]}. A place that cannot be written is refused
                            before anything runs; where writing fails at the end, *json is set, without "profile" */
    const flux1_model_parts *parts; /* in place of `path`, as in flux1_model_open_parts; NULL: that */
    /* A stage ("t5", "dit step") was timed, its median; or one of the `runs` ("run 2 of 5"). On the caller's thread;
     * may be NULL. */
    void (*timed)(void *user, const char *stage, double seconds);
    void *timed_user;
    int clip_tokens; /* of the prompt as CLIP sees it, beginning and end included; 0: the most, usually 77. Where they
                        can be left out, rows behind the prompt are not computed: "rows" of stage clip */
    uint64_t reserved[1];
} flux1_bench_params;
FLUX1_API void flux1_bench_params_defaults(flux1_bench_params *params);
FLUX1_API flux1_status flux1_bench_json(flux1_context *context, const flux1_bench_params *params, char **json);

/* Two such reports, files a and b, row by row: {"a", "b", "setups_differ": [{"what", "a", "b"}] (version, CPU, threads,
 * sizes: ratios then mean something else), "rows": [{"stage", "kernel", "shape", "type", "a_seconds", "b_seconds",
 * "ratio" (b / a), "ratio_min", "ratio_max" (of the extreme runs), "verdict"}], "not_compared": [{…, "a_seconds",
 * "b_seconds", "why"}] (a time is 0, so that there is no ratio), "only_in_a", "only_in_b"}. A verdict is
 * "b is faster" or "b is slower" where the medians differ by more than 1 % and by more than three times both median
 * distances together, and, with fewer than 8 runs, the ranges of runs do not touch; else "within noise", or "not known:
 * one run". Reports of `runs` are compared by mean and deviation. FLUX1_ERR_ARGUMENT: one file twice, or no row is in
 * both; FLUX1_ERR_FORMAT: not such reports. */
FLUX1_API flux1_status flux1_bench_compare_json(flux1_context *context, const char *a, const char *b, char **json);

/* Plans a picture on a machine that need not be here, by the dry run of the stages that would run: a JSON list with an
 * object for each legal way to use the machine's mesh, best first (ways that do not fit its memory come last):
 * {"machine", "about", "mesh", "sp", "tp", "ranks", "width", "height", "steps", "max_sequence_length", "dtype",
 * "total_seconds", "bound" (what takes most of it), "moved_bytes" (sent by one rank), "hidden_bytes" (of those, while
 * it computes), "memory_bytes" (of one rank; of a machine in tiles with the weights of all stages),
 * "memory_limit_bytes", "fits", "stages": [{"stage", "times", "seconds" (all times together; the stages' add up to
 * total_seconds), "seconds_each", "bound", "moved_bytes", "hidden_bytes", "moved_bytes_all_ranks", "memory_bytes",
 * "seconds_of": {what time goes to}}]}. Weights are taken to be where they are used: it is the second picture's time.
 * docs/planner.md describes machines. */
typedef struct flux1_plan_params {
    size_t size;
    const char *variant;  /* "schnell" or "dev": true sizes, no files needed */
    const char *path;     /* a pipeline folder in place of a variant; NULL: none */
    const char *machine;  /* "this-cpu"; a built-in machine's name, or a JSON file */
    const char *mesh;     /* "2x4" in place of the machine's own; "2x4sp1tp0": this way alone; NULL: that */
    const char *sp, *tp;  /* "2@0", "4@1": only ways with this factor on this axis; NULL: all */
    int width, height;    /* 0: 1024, or the folder's */
    int steps;            /* 0: the model's */
    int sequence_length;  /* 0: the model's */
    flux1_dtype dtype;    /* of the arithmetic; AUTO: the machine's */
    const char *timeline; /* path of an SVG of one step of the best way; NULL: none. Where it or the recording could be
                             begun but not be written, *json is set all the same */
    int describe;         /* 1: *json is the machine, as measured or built in, in a file's format; nothing is planned */
    const char *file_variant; /* as in flux1_model_parts */
    const char *record;       /* path of a recording of the best way (docs/recording.md); NULL: none */
    uint64_t reserved[5];
} flux1_plan_params;
FLUX1_API void flux1_plan_params_defaults(flux1_plan_params *params);
FLUX1_API flux1_status flux1_plan_json(flux1_context *context, const flux1_plan_params *params, char **json);

/* A recording, which flux1_plan_json has written: {"file", "model" (as it was named; missing: none was), "variant",
 * "width", "height", "steps", "max_sequence_length", "guidance", "mesh", "sp", "tp", "calls": {stage: lines}}.
 * FLUX1_ERR_FORMAT says which line is wrong, FLUX1_ERR_UNSUPPORTED that another version wrote it. */
FLUX1_API flux1_status flux1_recording_json(flux1_context *context, const char *path, char **json);

/* Makes its calls on the context's device, for a prompt, seed and guidance (below 0: the recording's); on "ref" the
 * picture is flux1_generate's bit by bit. The context's mesh has the recording's sp and tp. Of params size, steps and
 * max_sequence_length are the recording's; what it cannot have (adapters, a step cache, true CFG, previews, several
 * pictures, the context's weight_rounding) is FLUX1_ERR_UNSUPPORTED. Every call is checked before the first is made:
 * FLUX1_ERR_FORMAT. images as in flux1_generate. */
FLUX1_API flux1_status flux1_recording_run(flux1_context *context, const flux1_model *model, const char *path,
                                           const flux1_generate_params *params, flux1_image **images);

/* Makes the calls of a small recording, of one part, on given values: the tensors of weights, the inputs by their names
 * (float32 matrices), and `output`, whose shape is the result's, are those of the safetensors file `values`. out: a
 * safetensors file of the result after each step, `after.1` …. On cards the last step is then made `times` more (0 to
 * 1000): *seconds (may be NULL) is the median of their times, 0 elsewhere. The device is "ref" or "ttnn"; otherwise
 * FLUX1_ERR_UNSUPPORTED. FLUX1_ERR_FORMAT and FLUX1_ERR_MODEL say what is wrong with the files. */
FLUX1_API flux1_status flux1_recording_try(flux1_context *context, const char *path, const char *values,
                                           const char *out, int times, double *seconds);

/* What made a picture (PNG, JPEG, WebP): {"file", "format", "width", "height", "request": {"prompt", "seed", …, named
 * as the command line's options}, "others": {what flux1 has no place for}, "parameters": the web UI's text}. request is
 * missing where the picture says nothing, others where it is flux1's. Of ComfyUI's PNGs ("program") the graph is read:
 * "not_found" says what is not in it, "ignored" by which inputs it made a part of the steps only. "problem", which may
 * stand beside a request, says what of all this is there and cannot be read, why, and what to do. Free *json with
 * flux1_string_free. FLUX1_ERR_IO; FLUX1_ERR_FORMAT: no picture, or a broken one. */
FLUX1_API flux1_status flux1_picture_json(flux1_context *context, const char *path, char **json);
/* 1: the file begins like one of these pictures. */
FLUX1_API int flux1_is_picture(const char *path);

/* Fetches a repository of the Hugging Face hub into the hub's cache on disk, where every program that uses
 * huggingface_hub finds it. What is there already is not fetched again; a file that was begun is continued. Checksums
 * are compared before a file counts as there, and the snapshot shows it only when all chosen files are there. The token
 * is the one in HF_TOKEN or in the hub's file; HF_ENDPOINT, HF_HUB_CACHE, HF_HOME and the environment's proxies are
 * heeded. JSON, free it with flux1_string_free: {"repository", "revision", "commit", "folder" (the snapshot: a model's
 * folder), "files", "bytes" (chosen), "blobs_fetched", "bytes_received" (now)}. flux1_cancel stops it,
 * FLUX1_ERR_CANCELLED; FLUX1_ERR_IO: network, disk, or the hub refuses; FLUX1_ERR_FORMAT: a wrong checksum, or an
 * answer that is none of the hub's; FLUX1_ERR_LIMIT: no room on the disk; FLUX1_ERR_UNSUPPORTED: there is no libcurl.
 */
typedef struct flux1_pull_progress {
    size_t files, files_done;
    uint64_t bytes;          /* of all chosen files; 0: not known yet */
    uint64_t bytes_present;  /* of those, on disk */
    uint64_t bytes_received; /* by this call */
    const char *file;        /* one that is being fetched; NULL: none */
} flux1_pull_progress;
typedef struct flux1_pull_params {
    size_t size;
    const char *repository;   /* "org/name", or "org/name@revision" with a branch, tag or commit */
    const char *variant;      /* of weights in several variants: "fp16"; NULL: the plain ones, or the only one */
    const char *const *files; /* patterns of paths such as "*Q4_0.gguf" or "vae/"; none: what a pipeline needs */
    size_t file_count;
    const char *cache_folder; /* NULL: the environment's, else ~/.cache/huggingface/hub */
    void (*progress)(void *user, const flux1_pull_progress *now); /* on the caller's thread, about ten times a second */
    void *user;
    uint64_t reserved[8];
} flux1_pull_params;
FLUX1_API void flux1_pull_params_defaults(flux1_pull_params *params);
FLUX1_API flux1_status flux1_pull_json(flux1_context *context, const flux1_pull_params *params, char **json);

/* Writes one part of a model as a single file: `out` ends in .gguf or .safetensors. `in`: a file that flux1 opens (also
 * a quantised one, whose values are decoded first), a part's folder in diffusers' layout, or a pipeline folder. The
 * file appears when it is complete and replaces one of that name, but never `in`; a failed or cancelled call leaves
 * nothing. Metadata (texts) are taken over. A GGUF file has the names and types of city96's converter (transformer) and
 * llama.cpp (T5). docs/convert.md describes types and rules.
 * *json: {"file", "part", "format", "bytes", "tensors", "parameters", "bits_per_parameter", "types": [{"type",
 * "tensors", "parameters"}]}; free it with flux1_string_free. FLUX1_ERR_NUMERIC for a source with NaN or infinity. */
typedef struct flux1_convert_params {
    size_t size;
    const char *type;                   /* "keep": as stored, where the format has that type */
    const char *rules;                  /* path of a file of rules, a type for some tensors; NULL: none */
    const char *part;                   /* "transformer", "t5", "clip" or "vae"; NULL: the only one there is */
    const char *names;                  /* of safetensors of transformer and VAE: "bfl" or "diffusers"; NULL: "bfl" */
    const flux1_adapter_file *adapters; /* low-rank adapters that are merged into the weights, in fp32 */
    int adapter_count;
    void (*progress)(void *user, double done); /* 0 to 1, on the caller's thread; may be NULL */
    void *progress_user;
    const char *file_variant; /* as in flux1_model_parts, where `in` is a folder */
    uint64_t reserved[5];
} flux1_convert_params;
FLUX1_API void flux1_convert_params_defaults(flux1_convert_params *params);
FLUX1_API flux1_status flux1_convert(flux1_context *context, const char *in, const char *out,
                                     const flux1_convert_params *params, char **json);

FLUX1_API void flux1_string_free(char *text);

#ifdef __cplusplus
}
#endif
#endif
