/* flux1's tools: what the command line offers besides generating pictures. The ABI is not stable. */
#ifndef FLUX1_TOOLS_H
#define FLUX1_TOOLS_H

#include "flux1.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Token ids of a prompt, as the pipeline makes them; t5_length 0: the model's default. prompt may be NULL with 0 bytes.
 * clip and t5 are malloc'd: free with flux1_tokens_free. */
typedef struct flux1_tokens {
    int32_t *clip, *t5;
    int clip_count, t5_count;         /* padded lengths */
    int clip_truncated, t5_truncated; /* 1: the prompt was longer */
} flux1_tokens;
FLUX1_API flux1_status flux1_tokenize(flux1_context *context, const char *model_folder, const char *prompt,
                                      size_t prompt_bytes, int t5_length, flux1_tokens *out);
FLUX1_API void flux1_tokens_free(flux1_tokens *tokens); /* NULL is fine */

/* A tokenizer pair kept open for many prompts (flux1 tokenize --jsonl). */
typedef struct flux1_tokenizer flux1_tokenizer;
FLUX1_API flux1_status flux1_tokenizer_open(flux1_context *context, const char *model_folder, flux1_tokenizer **out);
FLUX1_API flux1_status flux1_tokenizer_run(flux1_context *context, const flux1_tokenizer *tokenizer, const char *prompt,
                                           size_t prompt_bytes, int t5_length, flux1_tokens *out);
FLUX1_API void flux1_tokenizer_close(flux1_tokenizer *tokenizer);

/* A JSON text that describes a folder: parts, what is missing, sizes, dtypes, parameters, bytes, and the memory and
 * FLOPs that the given request takes. With verify, every weight is read and tensors with NaN or infinity are named.
 * *json is set even if something is missing (the status says so); free it with flux1_string_free. */
FLUX1_API flux1_status flux1_info_json(flux1_context *context, const char *path, const flux1_generate_params *request,
                                       int verify, char **json);

/* A JSON list of the devices that a context can use here: the CPU with its instruction set, GPUs with memory,
 * capability and library versions, and the reason if there are none. */
FLUX1_API flux1_status flux1_devices_json(flux1_context *context, char **json);

/* Runs stages at a model's true size with synthetic weights (variant "schnell" or "dev"; stage "all", "clip", "t5",
 * "dit", "vae"), or of a folder's own configs (path not NULL; its weights are used). JSON: seconds a stage, FLOP/s,
 * share of the machine's measured peak, bytes; FLOPs and bytes are sums over all ranks.
 * The file of events has a JSON object a line: first what is planned, then what each rank's operations, collectives,
 * weights and memory take, in order: {"stage", "rank", "event" (compute, collective, weights, memory, order),
 * "operation", "block", "batch", "m", "n", "k", "heads", "flops", "bytes_in", "bytes_out", "bytes_weights",
 * "bytes_moved", "ranks", "overlaps", "arena"}, without the members that mean nothing for it. "dit step" stands for one
 * of the steps, all of which are alike.
 * With runs > 0 whole pipelines are timed instead (stage and repeats are not used), and the JSON has "warm_ups",
 * "runs", "steps_per_second", "images_per_second" and "events": mean, deviation (of the sample), minimum and maximum
 * seconds of clip_encoding, t5_encoding, encoder (both), denoising, denoising_step_0 and so on, vae, total. */
typedef struct flux1_bench_params {
    size_t size;
    const char *variant; /* "schnell" */
    const char *stage;   /* "all" */
    const char *path;    /* NULL: synthetic weights */
    int width, height;   /* 256 */
    int steps;           /* 1 */
    int sequence_length; /* 256 */
    int repeats;         /* 3: the median is reported; 0: the stages are planned, nothing is computed */
    flux1_dtype weights; /* dtype of synthetic weights: BF16 */
    const char *events;  /* path of a file for the plan's events, written before anything runs; NULL: none */
    int runs;            /* whole pipelines, timed after two that are not; 0: the stages alone, see below */
    const char *profile; /* path of a Chrome trace of everything that is timed (flux1_generate_params); NULL: none. The
                            JSON then has "profile": {"file", "exchange_seconds", "hidden_share", "ring_seconds",
                            "ring_hidden_share", "steps": [{"step", …}]} */
    uint64_t reserved[5];
} flux1_bench_params;
FLUX1_API void flux1_bench_params_defaults(flux1_bench_params *params);
FLUX1_API flux1_status flux1_bench_json(flux1_context *context, const flux1_bench_params *params, char **json);

FLUX1_API void flux1_string_free(char *text);

#ifdef __cplusplus
}
#endif
#endif
