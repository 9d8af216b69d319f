#include "cli/foreign.h"

#include "cli/names.h"

#include <stddef.h>

#define GUIDANCE "it is --guidance here (the distilled scale of dev); with a negative prompt, --true-cfg-scale"
#define STEPS "it is --steps here"
#define COUNT "it is --count here"
#define BATCH "it is --batch here (pictures computed together); how many there are is --count"
#define TRANSFORMER "it is --transformer here"
#define ADAPTER "it is --lora FILE[:SCALE] here; FLUX1_PATH names folders in which files are looked for"
#define SAMPLER "there is none: FLUX.1 is sampled with Euler steps on the model's own schedule"
#define OFFLOAD "there is none: what does not fit on the GPU is streamed by itself; --max-device-memory sets the limit"
#define IMAGE "there is none: flux1 makes pictures from text only"
#define STORED "there is none: flux1 convert --type writes a model in another type, --dtype is the arithmetic's"
#define OUTPUT "it is --output here"
#define DEVICE "it is --device here"

/* name, what to say */
#define FOREIGN_TABLE(X)                                                    \
    X("cfg", GUIDANCE)                                                      \
    X("cfg-scale", GUIDANCE)                                                \
    X("guidance-scale", GUIDANCE)                                           \
    X("num-inference-steps", STEPS)                                         \
    X("inference-steps", STEPS)                                             \
    X("num-steps", STEPS)                                                   \
    X("n-steps", STEPS)                                                     \
    X("ddim-steps", STEPS)                                                  \
    X("sample-steps", STEPS)                                                \
    X("batch-count", COUNT)                                                 \
    X("num-images", COUNT)                                                  \
    X("num-images-per-prompt", COUNT)                                       \
    X("n-iter", COUNT)                                                      \
    X("n-samples", COUNT)                                                   \
    X("num-samples", COUNT)                                                 \
    X("b", COUNT)                                                           \
    X("batch-size", BATCH)                                                  \
    X("t", "threads are --threads here")                                    \
    X("num-threads", "it is --threads here")                                \
    X("sampling-method", SAMPLER)                                           \
    X("sampler", SAMPLER)                                                   \
    X("sampler-name", SAMPLER)                                              \
    X("scheduler", SAMPLER)                                                 \
    X("schedule", SAMPLER)                                                  \
    X("eta", SAMPLER)                                                       \
    X("sigmas", SAMPLER)                                                    \
    X("diffusion-model", TRANSFORMER)                                       \
    X("unet", TRANSFORMER)                                                  \
    X("ckpt", "it is --model here")                                         \
    X("checkpoint", "it is --model here")                                   \
    X("model-path", "it is --model here")                                   \
    X("pretrained-model-name-or-path", "it is --model here")                \
    X("model-id", "it is --model here")                                     \
    X("clip-l", "it is --clip here")                                        \
    X("text-encoder", "it is --clip here")                                  \
    X("t5xxl", "it is --t5 here")                                           \
    X("text-encoder-2", "it is --t5 here")                                  \
    X("clip-g", "there is none: FLUX.1 has no second CLIP encoder")         \
    X("clip-skip", "there is none: FLUX.1 uses CLIP's pooled output only")  \
    X("vae-path", "it is --vae here")                                       \
    X("ae", "it is --vae here")                                             \
    X("tae", "there is none: --preview writes pictures during denoising")   \
    X("taesd", "there is none: --preview writes pictures during denoising") \
    X("lora-model-dir", ADAPTER)                                            \
    X("lora-path", ADAPTER)                                                 \
    X("lora-paths", ADAPTER)                                                \
    X("lora-scale", ADAPTER)                                                \
    X("lora-scales", ADAPTER)                                               \
    X("init-img", IMAGE)                                                    \
    X("init-image", IMAGE)                                                  \
    X("image-path", IMAGE)                                                  \
    X("i", IMAGE)                                                           \
    X("ref-image", IMAGE)                                                   \
    X("mask", IMAGE)                                                        \
    X("strength", IMAGE)                                                    \
    X("control-net", IMAGE)                                                 \
    X("control-image", IMAGE)                                               \
    X("upscale-model", IMAGE)                                               \
    X("quantize", STORED)                                                   \
    X("precision", "it is --dtype here")                                    \
    X("torch-dtype", "it is --dtype here")                                  \
    X("fp16", STORED)                                                       \
    X("bf16", "it is --dtype bf16 here")                                    \
    X("offload", OFFLOAD)                                                   \
    X("offload-to-cpu", OFFLOAD)                                            \
    X("cpu-offload", OFFLOAD)                                               \
    X("enable-model-cpu-offload", OFFLOAD)                                  \
    X("lowvram", OFFLOAD)                                                   \
    X("medvram", OFFLOAD)                                                   \
    X("low-ram", OFFLOAD)                                                   \
    X("clip-on-cpu", "it is --encoder-device host here")                    \
    X("vae-on-cpu", OFFLOAD)                                                \
    X("diffusion-fa", "there is none: attention is always computed so")     \
    X("flash-attn", "there is none: attention is always computed so")       \
    X("cuda", "it is --device cuda here")                                   \
    X("gpu", DEVICE)                                                        \
    X("gpu-id", DEVICE)                                                     \
    X("cpu", "it is --device cpu here")                                     \
    X("out", OUTPUT)                                                        \
    X("outfile", OUTPUT)                                                    \
    X("output-path", OUTPUT)                                                \
    X("save-path", OUTPUT)                                                  \
    X("neg", "it is --negative-prompt here")                                \
    X("neg-prompt", "it is --negative-prompt here")                         \
    X("negative", "it is --negative-prompt here")                           \
    X("from-file", "it is --prompts here")                                  \
    X("prompts-file", "it is --prompts here")                               \
    X("max-seq-len", "it is --max-sequence-length here")                    \
    X("resolution", "it is --width and --height here")                      \
    X("size", "it is --width and --height here")

static const struct foreign {
    const char *name, *text;
} table[] = {
#define ROW(name, text) {name, text},
    FOREIGN_TABLE(ROW)
#undef ROW
};

const char *foreign_option(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (names_equal(name, table[i].name))
            return table[i].text;
    return NULL;
}
