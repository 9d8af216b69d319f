/* The command line's one table of commands and options. The parser, --help, the man page and the shells' completions
 * all come out of it. */
#ifndef FLUX1_CLI_OPTIONS_H
#define FLUX1_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* id, name, what follows the options (NULL: nothing), one line of help */
#define COMMAND_TABLE(X)                                                                                         \
    X(GENERATE, "generate", NULL, "make pictures from a prompt")                                                 \
    X(DECODE, "decode", "FILE", "make pictures of saved latents: what a failed run left, or any other")          \
    X(TOKENIZE, "tokenize", NULL, "show the token ids that the text encoders get")                               \
    X(INFO, "info", "PATH", "describe a model: contents, memory, work and time; or print what made a picture")   \
    X(BENCH, "bench", "[A.json B.json]", "time the stages at full size, against this machine's measured peak")   \
    X(PLAN, "plan", NULL, "predict time, exchange and memory on a machine, for each way to use its mesh")        \
    X(RUN_PLAN, "run-plan", "FILE", "make the calls that plan --record has written, on device ref or ttnn")      \
    X(TRIAL, "trial", NULL, "make the calls of small recordings on given values (docs/recording.md)")            \
    X(CACHE, "cache", "list|verify|clear|size", "list, check, remove or add up the prepared weights of --cache") \
    X(PULL, "pull", "ORG/NAME[@REVISION]", "fetch a model from the Hugging Face hub into its cache")             \
    X(CONVERT, "convert", "IN OUT", "write a part of a model as a GGUF or safetensors file, in another type")    \
    X(SERVE, "serve", NULL, "serve pictures over HTTP: a page, and the interfaces of OpenAI and others")         \
    X(DOCTOR, "doctor", "[cuda|ttnn]", "check devices, memory, model, folders and disk, and say what to do")

typedef enum command {
#define COMMAND_ENUM(id, name, operand, help) COMMAND_##id,
    COMMAND_TABLE(COMMAND_ENUM)
#undef COMMAND_ENUM
        COMMAND_COUNT
} command;

/* Sets of commands, for the table's column "in". */
#define IN_GENERATE (1u << COMMAND_GENERATE)
#define IN_DECODE (1u << COMMAND_DECODE)
#define IN_TOKENIZE (1u << COMMAND_TOKENIZE)
#define IN_INFO (1u << COMMAND_INFO)
#define IN_BENCH (1u << COMMAND_BENCH)
#define IN_PLAN (1u << COMMAND_PLAN)
#define IN_RUN_PLAN (1u << COMMAND_RUN_PLAN)
#define IN_TRIAL (1u << COMMAND_TRIAL)
#define IN_CACHE (1u << COMMAND_CACHE)
#define IN_PULL (1u << COMMAND_PULL)
#define IN_CONVERT (1u << COMMAND_CONVERT)
#define IN_SERVE (1u << COMMAND_SERVE)
#define IN_DOCTOR (1u << COMMAND_DOCTOR)
#define IN_ALL (IN_GENERATE | IN_TOKENIZE | IN_INFO | IN_BENCH | IN_PLAN)
#define IN_EVERY (IN_ALL | IN_CACHE | IN_PULL | IN_CONVERT | IN_DECODE | IN_RUN_PLAN | IN_DOCTOR)
#define IN_HELPED (IN_EVERY | IN_SERVE | IN_TRIAL)
#define IN_WHOLE (IN_GENERATE | IN_INFO | IN_BENCH | IN_SERVE) /* all stages of a model */
#define IN_RUNS (IN_WHOLE | IN_DECODE)
#define IN_PICTURES (IN_GENERATE | IN_DECODE | IN_RUN_PLAN)
#define IN_PROCESSES (IN_GENERATE | IN_BENCH) /* over several processes */

typedef enum option_kind {
    OPTION_FLAG,   /* no argument */
    OPTION_TEXT,   /* any text */
    OPTION_TEXTS,  /* the same, any number of times */
    OPTION_FILE,   /* text, completed as a file */
    OPTION_FILES,  /* the same, any number of times */
    OPTION_FOLDER, /* text, completed as a folder */
    OPTION_WHOLE,  /* a whole number from lowest to highest */
    OPTION_REAL,   /* a finite number from lowest to highest */
    OPTION_SEED,   /* 0 to 2^64 - 1 */
    OPTION_BYTES,  /* a number of bytes: 512M, 8G */
    OPTION_CACHE,  /* of steps: off, or fb: and a number above lowest, to highest */
    OPTION_CHOICE, /* one of the argument column's words, separated by | */
    OPTION_DEVICE  /* the same, and :N after a word with [:N], N from lowest to highest, where that is not 0; a name of
                      letters, digits and - after one with [:NAME] */
} option_kind;

#define WHOLE_MAX 2147483647

/* id, long name, short name or 0, kind, argument, lowest, highest, in, help */
#define OPTION_TABLE(X)                                                                                                \
    X(MODEL, "model", 'm', FILE, "PATH", 0, 0, IN_ALL | IN_DECODE | IN_SERVE | IN_RUN_PLAN | IN_DOCTOR,                \
      "pipeline folder in diffusers' layout, a file of weights (parts that it lacks are looked for beside it and in "  \
      "FLUX1_PATH), or org/name[@revision] in Hugging Face's cache (default: FLUX1_MODEL from the environment, else "  \
      "the mini model; bench, plan: synthetic weights; run-plan: the recording's)")                                    \
    X(TRANSFORMER, "transformer", 0, FILE, "FILE", 0, 0, IN_RUNS | IN_TOKENIZE | IN_RUN_PLAN,                          \
      "transformer from FILE (safetensors or GGUF; also a folder with config.json) instead of the model's")            \
    X(CLIP, "clip", 0, FILE, "FILE", 0, 0, IN_RUNS | IN_RUN_PLAN, "the same for the CLIP text encoder")                \
    X(T5, "t5", 0, FILE, "FILE", 0, 0, IN_RUNS | IN_RUN_PLAN, "the same for the T5 text encoder")                      \
    X(VAE, "vae", 0, FILE, "FILE", 0, 0, IN_RUNS | IN_RUN_PLAN, "the same for the VAE")                                \
    X(TOKENIZERS, "tokenizers", 0, FOLDER, "DIR", 0, 0, IN_RUNS | IN_TOKENIZE | IN_RUN_PLAN,                           \
      "folder with tokenizer and tokenizer_2 (default: the model's; files of weights get FLUX.1's own, built in)")     \
    X(LORA, "lora", 0, FILES, "FILE[:SCALE]", 0, 0, IN_GENERATE | IN_INFO | IN_CONVERT,                                \
      "add the adapter (LoRA, DoRA, LoHa, LoKr, …) in FILE, times SCALE (default: 1); up to 16 times, and they add " \
      "up. FILE may also be the name of one in a folder loras beside the model or in FLUX1_PATH, or org/name. "        \
      "info: plan with it; convert: merge it into the weights")                                                        \
    X(TYPE, "type", 0, CHOICE,                                                                                         \
      "keep|f32|f16|bf16|fp8|fp8_e4m3|fp8_e5m2|fp8_scaled|fp8_e5m2_scaled|"                                            \
      "q8_0|q4_0|q4_1|q5_0|q5_1|q2_k|q3_k|q4_k|q5_k|q6_k",                                                             \
      0, 0, IN_CONVERT,                                                                                                \
      "type of the weights. fp8: e4m3, _scaled: with a scale for each weight; these in .safetensors files, q… in "   \
      ".gguf files. Small tensors, and the first and last layers, stay as they are with fp8 and q… (default: keep)")   \
    X(RULES, "rules", 0, FILE, "FILE", 0, 0, IN_CONVERT,                                                               \
      "types for single tensors: lines \"PATTERN TYPE\" (*.bias f32); the first pattern that matches the name "        \
      "counts")                                                                                                        \
    X(PART, "part", 0, CHOICE, "transformer|t5|clip|vae", 0, 0, IN_CONVERT, "which part, where IN holds several")      \
    X(NAMES, "names", 0, CHOICE, "bfl|diffusers", 0, 0, IN_CONVERT,                                                    \
      "names of the tensors of transformer and VAE in .safetensors files (default: bfl, which ComfyUI reads)")         \
    X(PROMPT, "prompt", 'p', TEXT, "TEXT", 0, 0, IN_GENERATE | IN_TOKENIZE | IN_RUN_PLAN, "what the picture shows")    \
    X(PROMPT_FILE, "prompt-file", 0, FILE, "FILE", 0, 0, IN_GENERATE | IN_TOKENIZE | IN_RUN_PLAN,                      \
      "read the prompt from FILE, which may be a pipe; -: from standard input. UTF-8; a byte order mark and the "      \
      "newline at the end do not count")                                                                               \
    X(PROMPTS, "prompts", 0, FILE, "FILE", 0, 0, IN_GENERATE,                                                          \
      "a picture (or --count) for each line of FILE that is not empty; -: from standard input. A line that fails "     \
      "does not stop the rest")                                                                                        \
    X(ALLOW_EMPTY, "allow-empty", 0, FLAG, NULL, 0, 0, IN_GENERATE | IN_RUN_PLAN,                                      \
      "accept an empty prompt, which is otherwise refused")                                                            \
    X(OUTPUT, "output", 'o', FILE, "FILE", 0, 0, IN_PICTURES,                                                          \
      "picture to write; an existing file is replaced. -: to standard output. Several pictures become FILE-1.png, "    \
      "FILE-2.png and so on, or %d or %03d in FILE stands for the number, which goes on over all lines of "            \
      "--prompts (default: a new name made from prompt and seed)")                                                     \
    X(OUTPUT_DIR, "output-dir", 0, FOLDER, "DIR", 0, 0, IN_PICTURES,                                                   \
      "folder for pictures whose name does not begin with /; created if it does not exist (default: the working "      \
      "folder)")                                                                                                       \
    X(FORMAT, "format", 0, CHOICE, "png|jpeg|webp", 0, 0, IN_PICTURES,                                                 \
      "format of the pictures (default: by the ending of --output, else png)")                                         \
    X(QUALITY, "quality", 0, WHOLE, "N", 1, 100, IN_PICTURES,                                                          \
      "quality of JPEG and WebP; a WebP of 100 is lossless (default: 90)")                                             \
    X(NO_METADATA, "no-metadata", 0, FLAG, NULL, 0, 0, IN_PICTURES,                                                    \
      "write pictures without prompt, settings and the mark of generated pictures")                                    \
    X(FROM, "from", 0, FILE, "PICTURE", 0, 0, IN_GENERATE,                                                             \
      "repeat PICTURE (PNG, JPEG or WebP of flux1, AUTOMATIC1111 or Forge, PNG of ComfyUI): its prompt, seed, size "   \
      "and settings count where no option gives others; name the model with --model")                                  \
    X(WIDTH, "width", 'W', WHOLE, "PIXELS", 1, 65536, IN_RUNS | IN_PLAN,                                               \
      "width of the picture (default: the model's; decode: the latents')")                                             \
    X(HEIGHT, "height", 'H', WHOLE, "PIXELS", 1, 65536, IN_RUNS | IN_PLAN,                                             \
      "height of the picture (default: the model's; decode: the latents')")                                            \
    X(STEPS, "steps", 's', WHOLE, "N", 1, 10000, IN_WHOLE | IN_PLAN,                                                   \
      "denoising steps (default: the model's, 4 for schnell, 28 for dev; bench: 1)")                                   \
    X(GUIDANCE, "guidance", 'g', REAL, "SCALE", 0, 1000, IN_GENERATE | IN_SERVE | IN_RUN_PLAN,                         \
      "guidance scale; only for models with a guidance embedding, such as dev (default: 3.5; run-plan: the "           \
      "recording's)")                                                                                                  \
    X(SEED, "seed", 'S', SEED, "N", 0, 0, IN_GENERATE | IN_RUN_PLAN,                                                   \
      "seed of the noise; picture i of --count uses N + i. -1: random (default: random, and printed)")                 \
    X(RNG, "rng", 0, DEVICE, "cpu|cuda[:N]", 256, WHOLE_MAX, IN_GENERATE,                                              \
      "which generator of torch a seed is for: a CPU's, or that of a GPU with N resident threads: RTX 3090 125952, "   \
      "RTX 4090 196608, A100 221184, RTX 5090 261120, H100 and H200 270336, which is the default. Noise of no more "   \
      "than N numbers is the same on all GPUs; 1024x1024 takes 262144 (default: cpu)")                                 \
    X(LATENTS, "latents", 0, FILE, "FILE", 0, 0, IN_GENERATE,                                                          \
      "start from the noise in FILE instead of the seed's: a safetensors file with a tensor of shape [pictures, "      \
      "16, H/8, W/8], or packed [pictures, tokens, 64]; of a file that --dump wrote, its noise")                       \
    X(COUNT, "count", 'n', WHOLE, "N", 1, 10000, IN_GENERATE | IN_INFO, "number of pictures (default: 1)")             \
    X(BATCH, "batch", 0, WHOLE, "N", 1, 10000, IN_GENERATE | IN_INFO | IN_SERVE,                                       \
      "number of pictures computed together, which changes them by rounding alone, but by more with --step-cache: "    \
      "these skip the same steps; serve: at most so many, of one request or of several that wait (default: chosen by " \
      "size, device and memory; with --step-cache 1)")                                                                 \
    X(NEGATIVE_PROMPT, "negative-prompt", 0, TEXT, "TEXT", 0, 0, IN_GENERATE,                                          \
      "what the picture should not show; takes effect with --true-cfg-scale above 1")                                  \
    X(TRUE_CFG_SCALE, "true-cfg-scale", 0, REAL, "SCALE", 0, 1000, IN_GENERATE,                                        \
      "true classifier-free guidance with the negative prompt; doubles the time of a step (default: 1, off)")          \
    X(STEP_CACHE, "step-cache", 0, CACHE, "fb:THRESHOLD", 0, 100, IN_GENERATE,                                         \
      "first-block cache: in a step where the transformer's first block changes little since the last full step, "     \
      "skip the other blocks and add what they added then. Faster, but another picture; fb:0.05 to fb:0.2 with 20 "    \
      "or more steps (default: off)")                                                                                  \
    X(STEP_CACHE_CHECK, "step-cache-check", 0, FLAG, NULL, 0, 0, IN_GENERATE,                                          \
      "with --step-cache: make each picture without it first, and print how much the two differ")                      \
    X(MAX_SEQUENCE_LENGTH, "max-sequence-length", 0, WHOLE, "TOKENS", 1, 65536, IN_ALL | IN_SERVE,                     \
      "length of the T5 prompt in tokens (default: the model's; bench: 256)")                                          \
    X(PREVIEW, "preview", 0, FILE, "FILE", 0, 0, IN_GENERATE,                                                          \
      "write previews of the picture to FILE during denoising, in the format of its ending (default: PNG); several "   \
      "pictures get one file each, named as by --output")                                                              \
    X(PREVIEW_EVERY, "preview-every", 0, WHOLE, "N", 1, 10000, IN_GENERATE,                                            \
      "steps between previews (default: 1); the last step is always shown")                                            \
    X(PREVIEW_KIND, "preview-kind", 0, CHOICE, "rgb|vae", 0, 0, IN_GENERATE,                                           \
      "how previews are made. rgb: a linear estimate, at 1024x1024 in 0.01 s and 0.02 s for a JPEG, 0.5 s for a "      \
      "PNG; it is fitted to a VAE once. vae: by the VAE; each takes as long, and as much memory, as decoding the "     \
      "picture (default: rgb)")                                                                                        \
    X(DUMP, "dump", 0, FILE, "FILE", 0, 0, IN_GENERATE,                                                                \
      "write every stage's tensors to FILE (safetensors, with diffusers' names)")                                      \
    X(PROFILE, "profile", 0, FILE, "FILE", 0, 0, IN_GENERATE | IN_BENCH,                                               \
      "write what each rank computes and exchanges, and when, to FILE (Chrome trace: chrome://tracing, "               \
      "ui.perfetto.dev), and print how much of the exchange is hidden behind compute")                                 \
    X(JSONL, "jsonl", 0, FLAG, NULL, 0, 0, IN_GENERATE | IN_TOKENIZE,                                                  \
      "read one JSON object {\"prompt\": TEXT} per line from standard input, and answer each with one on standard "    \
      "output. generate: a request per line, with optional keys id, output, width, height, steps, guidance, seed, "    \
      "rng, latents, count, batch, negative_prompt, true_cfg_scale, step_cache, max_sequence_length, vae_tiling, "     \
      "lora, allow_empty; the man page describes the answers. tokenize: writes a line {\"clip\": [ids], \"t5\": "      \
      "[ids]} for each")                                                                                               \
    X(DEVICES, "devices", 0, FLAG, NULL, 0, 0, IN_INFO,                                                                \
      "list the devices that this machine has and this build supports, instead of a model")                            \
    X(VERIFY, "verify", 0, FLAG, NULL, 0, 0, IN_INFO, "read all weights and list tensors with NaN or infinity")        \
    X(VARIANT, "variant", 0, CHOICE, "schnell|dev", 0, 0, IN_BENCH | IN_PLAN,                                          \
      "model whose sizes synthetic weights have (default: schnell)")                                                   \
    X(STAGE, "stage", 0, CHOICE, "all|clip|t5|dit|vae", 0, 0, IN_BENCH, "what to time (default: all)")                 \
    X(CLIP_TOKENS, "clip-tokens", 0, WHOLE, "TOKENS", 0, 65536, IN_BENCH,                                              \
      "length of the prompt as CLIP sees it, beginning and end included; rows behind it are left out where that is "   \
      "free (default: 0: the most, usually 77; a prompt of a dozen words has about 17)")                               \
    X(REPEATS, "repeats", 0, WHOLE, "N", 0, 1000, IN_BENCH,                                                            \
      "timed runs of each stage, whose median is reported. 0: plan only (default: 3)")                                 \
    X(RUNS, "runs", 0, WHOLE, "N", 1, 1000, IN_BENCH,                                                                  \
      "time N whole pipelines instead, after two that are not timed: mean, deviation, minimum and maximum of "         \
      "encoders, each step, VAE and total")                                                                            \
    X(WEIGHTS, "weights", 0, CHOICE, "bf16|f32", 0, 0, IN_BENCH, "dtype of synthetic weights (default: bf16)")         \
    X(COMPARE, "compare", 0, FLAG, NULL, 0, 0, IN_BENCH,                                                               \
      "time nothing; compare A.json with B.json, which bench --json has printed: ratios, and which differences are "   \
      "above the noise")                                                                                               \
    X(EVENTS, "events", 0, FILE, "FILE", 0, 0, IN_BENCH,                                                               \
      "write the planned operations and collectives to FILE, one JSON object per line")                                \
    X(MACHINE, "machine", 0, FILE, "NAME|FILE", 0, 0, IN_PLAN,                                                         \
      "machine to plan for: wh-t3k, wh-galaxy, h200 and others (an unknown name lists them), or a JSON file, see "     \
      "docs/planner.md (default: this-cpu, measured)")                                                                 \
    X(DESCRIBE, "describe", 0, FLAG, NULL, 0, 0, IN_PLAN,                                                              \
      "print the machine as JSON, to edit and pass to --machine, and plan nothing")                                    \
    X(TIMELINE, "timeline", 0, FILE, "FILE", 0, 0, IN_PLAN, "draw one step of the best plan to FILE (SVG)")            \
    X(RECORD, "record", 0, FILE, "FILE", 0, 0, IN_PLAN,                                                                \
      "write all calls of the best plan to FILE, a recording for run-plan (docs/recording.md)")                        \
    X(DTYPE, "dtype", 0, CHOICE, "auto|f32|bf16|fp8|int8|int8-fast", 0, 0, IN_RUNS | IN_PLAN,                          \
      "arithmetic. fp8: as bf16, but the transformer's large matrix products in e4m3, on GPUs that support it; "       \
      "int8: as auto, but those products and T5's in int8, on a CPU; int8-fast: the same with fewer scales, and "      \
      "without AMX the transformer's attention in int8 too (default: auto)")                                           \
    X(DEVICE, "device", 0, DEVICE, "cpu|cuda[:N]|ttnn[:MACHINE]|ref", 0, 0, IN_RUNS | IN_RUN_PLAN | IN_TRIAL,          \
      "device to compute on. cuda:N: the N-th GPU; ttnn:MACHINE: Tenstorrent's cards (docs/tenstorrent.md), such "     \
      "as ttnn:wh-n300; ref: the slow reference implementation (default: cpu; run-plan, trial: ref, and the only "     \
      "other one is ttnn)")                                                                                            \
    X(ENCODER_DEVICE, "encoder-device", 0, DEVICE, "host|cpu|cuda[:N]|ref", 0, 0, IN_WHOLE,                            \
      "device of the text encoders. host: the CPU, on a mesh the first rank's alone (default: --device)")              \
    X(CAPTURE, "capture", 0, CHOICE, "yes|no|branches", 0, 0, IN_WHOLE | IN_TRIAL,                                     \
      "record the calls of a denoising step once and replay them, on a GPU as a graph. branches: the same, and on "    \
      "a GPU the prompt's half of a block runs beside the image's (default: yes)")                                     \
    X(THREADS, "threads", 0, WHOLE, "N", 1, 4096, IN_RUNS | IN_PLAN | IN_CONVERT,                                      \
      "number of threads of each process (default: one per physical core of the host, divided among its processes)")   \
    X(MESH, "mesh", 0, TEXT, "RxC", 0, 0, IN_RUNS | IN_PLAN | IN_TRIAL,                                                \
      "mesh of devices, such as 2x4, or with the axes of sp and tp, such as 4x8sp1tp0; on a CPU its ranks are "        \
      "threads (default: one device)")                                                                                 \
    X(SP, "sp", 0, TEXT, "FACTOR@AXIS", 0, 0, IN_RUNS | IN_PLAN | IN_TRIAL,                                            \
      "sequence parallel: FACTOR ranks along AXIS of the mesh share the tokens (default: all of axis 0)")              \
    X(TP, "tp", 0, TEXT, "FACTOR@AXIS", 0, 0, IN_RUNS | IN_PLAN | IN_TRIAL,                                            \
      "tensor parallel: FACTOR ranks along AXIS of the mesh share heads and features (default: all of axis 1)")        \
    X(LAUNCH, "launch", 0, FLAG, NULL, 0, 0, IN_PROCESSES,                                                             \
      "start the mesh's ranks as processes with mpirun (Open MPI) instead of threads")                                 \
    X(HOSTFILE, "hostfile", 0, FILE, "FILE", 0, 0, IN_PROCESSES,                                                       \
      "hosts for --launch, one a line (host slots=8); all have flux1 and the model at the same paths, and are "        \
      "reached by ssh without a password")                                                                             \
    X(PROCESSES, "processes", 0, WHOLE, "N", 1, 1024, IN_PROCESSES,                                                    \
      "number of processes for --launch, which share the mesh's ranks (default: one a rank)")                          \
    X(MAX_MEMORY, "max-memory", 0, BYTES, "SIZE", 0, 0, IN_RUNS | IN_RUN_PLAN,                                         \
      "take no more of the host's memory than SIZE, such as 8G or 512M: weights that do not fit are read in every "    \
      "step, and a request that still needs more is refused (default: what is available)")                             \
    X(MAX_DEVICE_MEMORY, "max-device-memory", 0, BYTES, "SIZE", 0, 0, IN_RUNS,                                         \
      "the same for the memory of GPUs, all ranks together (default: what they have)")                                 \
    X(DEVICE_WEIGHTS, "device-weights", 0, CHOICE, "auto|packed|decoded", 0, 0, IN_RUNS,                               \
      "how quantised weights lie in a GPU's memory. packed: as in the file, decoded before every product; decoded: "   \
      "once, when they are loaded; the picture is the same (default: auto: decoded if they fit)")                      \
    X(ROUND_WEIGHTS, "round-weights", 0, CHOICE, "bfp8", 0, 0, IN_RUNS | IN_TRIAL,                                     \
      "round the transformer's and T5's matrices to the values that they would have in bfp8 on Tenstorrent's "         \
      "cards, to see what that costs in pictures")                                                                     \
    X(VAE_TILING, "vae-tiling", 0, CHOICE, "auto|yes|no|bands", 0, 0, IN_GENERATE | IN_DECODE | IN_INFO | IN_SERVE,    \
      "how large pictures are decoded in less memory. yes: in overlapping tiles; bands: in bands of rows, which "      \
      "give the same picture up to rounding (a byte may differ by 1); no: not in tiles (default: auto: whole if it "   \
      "fits, else in bands, else in tiles)")                                                                           \
    X(CACHE, "cache", 0, FOLDER, "DIR", 0, 0, IN_GENERATE | IN_BENCH | IN_CACHE | IN_SERVE | IN_DOCTOR | IN_INFO,      \
      "keep weights in DIR, in the form that the device or rank needs, for the next run; a new model's files are "     \
      "read once more for it. On a CPU they are streamed from DIR under --max-memory; without DIR all weights that "   \
      "int8 and int8-fast make of floats must fit (default: FLUX1_CACHE_DIR from the environment, else nothing is "    \
      "kept)")                                                                                                         \
    X(CACHE_SIZE, "cache-size", 0, BYTES, "SIZE", 0, 0, IN_GENERATE | IN_BENCH | IN_SERVE,                             \
      "most that the folder of --cache or FLUX1_CACHE_DIR may hold, which must be given; to store another, the "       \
      "least recently used are removed (default: FLUX1_CACHE_SIZE, else 100G)")                                        \
    X(FILE, "file", 0, TEXTS, "PATTERN", 0, 0, IN_PULL,                                                                \
      "fetch what matches PATTERN, such as '*Q4_0.gguf' or vae/, instead of what a pipeline needs; may be given up "   \
      "to 64 times")                                                                                                   \
    X(FILE_VARIANT, "file-variant", 0, TEXT, "NAME", 0, 0,                                                             \
      IN_ALL | IN_DECODE | IN_CONVERT | IN_PULL | IN_SERVE | IN_RUN_PLAN,                                              \
      "variant of weights to take where a folder has several, such as fp16 (model.fp16.safetensors) (default: the "    \
      "plain ones, or the only variant there is)")                                                                     \
    X(CACHE_DIR, "cache-dir", 0, FOLDER, "DIR", 0, 0, IN_PULL,                                                         \
      "cache to fetch into (default: HF_HUB_CACHE or HF_HOME/hub from the environment, else "                          \
      "~/.cache/huggingface/hub)")                                                                                     \
    X(HOST, "host", 0, TEXT, "ADDRESS", 0, 0, IN_SERVE,                                                                \
      "address or name to listen on; 0.0.0.0: on all addresses, then set --api-key too (default: 127.0.0.1)")          \
    X(PORT, "port", 0, WHOLE, "N", 0, 65535, IN_SERVE, "port to listen on; 0: any that is free (default: 8080)")       \
    X(SOCKET, "socket", 0, FILE, "PATH", 0, 0, IN_SERVE, "listen on a Unix socket at PATH instead")                    \
    X(API_KEY, "api-key", 0, TEXTS, "KEY", 0, 0, IN_SERVE,                                                             \
      "serve only requests that have KEY, as Authorization: Bearer, as the password of Basic, or in api-key; may be "  \
      "given several times. The page and /health are open")                                                            \
    X(API_KEY_FILE, "api-key-file", 0, FILE, "FILE", 0, 0, IN_SERVE, "the same for each line of FILE")                 \
    X(ALLOW_HOST, "allow-host", 0, TEXT, "NAME[,NAME]", 0, 0, IN_SERVE,                                                \
      "names under which browsers may reach the server, such as a proxy's, and hosts of other pages that may use it "  \
      "from a browser (CORS); *: any (default: addresses, localhost and --host)")                                      \
    X(WORKERS, "workers", 0, TEXT, "DEVICE[,DEVICE]", 0, 0, IN_SERVE,                                                  \
      "make pictures on all these devices at once, one job on each, such as cuda:0,cuda:1 (default: on one, "          \
      "--device)")                                                                                                     \
    X(MAX_PIXELS, "max-pixels", 0, WHOLE, "N", 1, WHOLE_MAX, IN_SERVE,                                                 \
      "refuse pictures of more than N pixels, width times height (default: no limit but the memory)")                  \
    X(QUEUE, "queue", 0, WHOLE, "N", 1, 10000, IN_SERVE,                                                               \
      "jobs that may wait; further ones are answered with 429 (default: 16)")                                          \
    X(JOBS, "jobs", 0, FOLDER, "DIR", 0, 0, IN_SERVE,                                                                  \
      "keep pictures and the list of jobs in DIR (default: a temporary folder, which is removed at the end)")          \
    X(JOBS_SIZE, "jobs-size", 0, BYTES, "SIZE", 0, 0, IN_SERVE,                                                        \
      "most bytes that pictures and jobs may take; the oldest are removed first (default: 10G with --jobs, else "      \
      "1G)")                                                                                                           \
    X(LORAS, "loras", 0, FOLDER, "DIR", 0, 0, IN_SERVE,                                                                \
      "folder of adapters that requests may name; it may change while the server runs (default: none)")                \
    X(MODELS, "models", 0, FOLDER, "DIR", 0, 0, IN_SERVE,                                                              \
      "folder of pipelines that requests may name beside --model; one of them is open at a time (default: none)")      \
    X(DRAIN, "drain", 0, WHOLE, "SECONDS", 0, 86400, IN_SERVE,                                                         \
      "seconds that running jobs have to finish after a signal to stop (default: 30)")                                 \
    X(ACCESS_LOG, "access-log", 0, FILE, "FILE", 0, 0, IN_SERVE,                                                       \
      "append a line of JSON for each request to FILE; -: standard output")                                            \
    X(JSON, "json", 0, FLAG, NULL, 0, 0, IN_EVERY, "print the result as JSON")                                         \
    X(QUIET, "quiet", 'q', FLAG, NULL, 0, 0, IN_HELPED, "print no progress and no notes on standard error")            \
    X(VERBOSE, "verbose", 'v', FLAG, NULL, 0, 0, IN_GENERATE,                                                          \
      "print what was chosen: device, kernels, dtype, mesh, memory")                                                   \
    X(HELP, "help", 'h', FLAG, NULL, 0, 0, IN_HELPED, "show this help")

typedef enum option_id {
#define OPTION_ENUM(id, name, letter, kind, argument, lowest, highest, in, help) OPT_##id,
    OPTION_TABLE(OPTION_ENUM)
#undef OPTION_ENUM
        OPTION_COUNT
} option_id;

typedef struct option_row {
    const char *name;
    char letter;
    option_kind kind;
    const char *argument;
    double lowest, highest;
    unsigned in;
    const char *help;
} option_row;

typedef struct command_row {
    const char *name;
    const char *operand;
    const char *help;
} command_row;

extern const option_row option_rows[OPTION_COUNT];
extern const command_row command_rows[COMMAND_COUNT];

#define LORA_MAX 16
#define PATTERN_MAX 64
#define API_KEY_MAX 64

/* What the command line says about one option. */
typedef struct option_value {
    bool given;
    const char *text; /* as written */
    int64_t whole;
    double real;
    uint64_t seed; /* OPTION_SEED and OPTION_BYTES */
} option_value;

typedef struct options {
    command command;
    option_value values[OPTION_COUNT];
    const char *operand;        /* NULL: none given */
    const char *operand_2;      /* of a command that takes two */
    const char *lora[LORA_MAX]; /* of OPTION_FILES there is one */
    int loras;
    const char *pattern[PATTERN_MAX]; /* --file */
    int patterns;
    const char *key[API_KEY_MAX]; /* --api-key */
    int keys;
    bool shares; /* --max-memory is a share of what the process leaves, not of the whole process */
} options;

/* argv[0] is the command's name. On a mistake prints one sentence and returns false: exit status 2. */
bool options_parse(command cmd, int argc, char **argv, options *out);

/* The option of this long name, '_' being as good as '-'; -1 if there is none. */
int option_named(const char *name);
/* One more --lora. Prints an error if it is empty or one too many. */
bool options_add_lora(options *o, const char *text);
/* Gives option `id` the value that `text` says, in place of the one it has; text must outlive *o. On a mistake
 * prints an error and returns false. */
bool options_replace(options *o, option_id id, const char *text);

#endif
