/* An opened model, from a pipeline folder or from files: configs, tokenizers, mapped weights. Immutable once open. */
#ifndef FLUX1_PIPELINE_FOLDER_H
#define FLUX1_PIPELINE_FOLDER_H

#include "base/weight_name.h"
#include "model/config.h"
#include "pipeline/projection.h"
#include "pipeline/scheduler.h"
#include "pipeline/trained.h"
#include "text/text.h"
#include "weights/store.h"

/* One row a component with weights: index, folder, file stem. */
#define COMPONENT_MAP(X)                             \
    X(CLIP, "text_encoder", "model")                 \
    X(T5, "text_encoder_2", "model")                 \
    X(DIT, "transformer", "diffusion_pytorch_model") \
    X(VAE, "vae", "diffusion_pytorch_model")

typedef enum component {
#define COMPONENT_ENUM(name, folder, stem) COMPONENT_##name,
    COMPONENT_MAP(COMPONENT_ENUM)
#undef COMPONENT_ENUM
        COMPONENTS
} component;

const char *component_folder(component c);
const char *component_stem(component c); /* of its files of weights */
model_part component_part(component c);  /* in a single file */

/* Only a transformer with a guidance embedding (dev) has it. */
#define GUIDANCE_TENSOR "time_text_embed.guidance_embedder.linear_1.weight"

enum { FOLDER_PATH_MAX = 4096 };

/* Where a model's parts come from; NULL where nothing is named. */
typedef struct model_paths {
    const char *model;            /* a pipeline folder, or a file that holds one part or several */
    const char *part[COMPONENTS]; /* a file, or a folder with config.json and weights: instead of the model's */
    const char *tokenizers;       /* a folder with tokenizer/ and tokenizer_2/: instead of the model's */
    const char *variant;          /* of weights in folders; NULL: the plain ones, or the only one there is */
    const char *name;             /* what the user calls the model; NULL: the last part of its path */
} model_paths;

/* How another process opens the same model. */
typedef struct model_source {
    uint64_t number; /* in the process that it comes from: no two models there have the same */
    bool synthetic;
    dtype weights;               /* of a synthetic model */
    uint64_t sizes;              /* stands for what of the configs and tensors must be equal in all processes */
    char model[FOLDER_PATH_MAX]; /* the paths; empty where nothing is named. Of a synthetic model: its variant */
    char part[COMPONENTS][FOLDER_PATH_MAX];
    char tokenizers[FOLDER_PATH_MAX];
    char variant[WEIGHT_VARIANT_MAX];
} model_source;

struct flux1_model {
    char *path; /* for messages: the first that is named; of a synthetic model: its variant */
    char *name; /* what the user calls it; NULL: the last part of the path */
    model_source source;
    uint64_t opened; /* bytes that the process took more when it was opened: vocabularies, names */
    clip_config clip;
    t5_config t5;
    dit_config dit;
    vae_config vae;
    scheduler_config scheduler;
    store *store[COMPONENTS];
    projection_place *projection; /* of the VAE, for previews */
    clip_tokenizer *clip_tokens;  /* NULL for synthetic models */
    t5_tokenizer *t5_tokens;
    char *tokenizers; /* their folder; NULL: they are compiled in */
    char *unused;     /* a sentence about tensors that no stage asks for; NULL: there are none */
    int clip_length;
    int t5_length, t5_length_max;
    trained_sizes trained; /* flux1.json of a pipeline folder */
};

#define T5_LENGTH_MAX 512 /* diffusers' limit */

uint64_t folder_last_number(void); /* source.number of the newest model of this process; 0: there was none */

/* A model of FLUX.1's true size with synthetic weights of `weights`: variant "schnell" or "dev". No tokenizers. */
flux1_status folder_synthetic(const char *variant, dtype weights, bool with_data, struct flux1_model **out,
                              flux1_error *err);

/* A model of a folder, or of parts from several places: checks that all are there, reads the configs, opens tokenizers
 * and stores, and checks every tensor's name and shape against the configs. Sizes come from a config.json where there
 * is one (the part's own, or the one that the folder `model` has for it), otherwise from the shapes of tensors
 * (model/sizes.h); what the variant settles, from whether the transformer has a guidance embedding. */
flux1_status folder_open_parts(const model_paths *paths, struct flux1_model **out, flux1_error *err);

/* Names of tensors that repeat another one or are no weights; no part claims all of them. NULL-terminated, as
 * store_check ignores them. */
extern const char *const folder_twins[];

/* FLUX1_ERR_IO if a file of this part has become shorter, or could not be read, since it was opened: what was computed
 * with it is to be given up. From any thread. */
flux1_status folder_check_files(const struct flux1_model *m, component c, flux1_error *err);

void folder_close(struct flux1_model *m);

/* What the user calls it, else the last part of its path. */
const char *folder_name(const struct flux1_model *m);

/* FLUX1_ERR_MODEL if what is there has other sizes, or other content (content_of; 0: that is not asked). */
flux1_status folder_open_source(const model_source *source, uint64_t content, struct flux1_model **out,
                                flux1_error *err);

/* Only the tokenizers of a folder: path/tokenizer and path/tokenizer_2. path NULL: those that are compiled in. */
flux1_status folder_open_tokenizers(const char *path, clip_tokenizer **clip_out, t5_tokenizer **t5_out,
                                    flux1_error *err);

/* T5 tokens if the request does not say: the tokenizer's length, at most 512; for a model without guidance (schnell) at
 * most 256, its training length. */
int folder_default_length(int tokenizer_length, bool guidance);

/* Width and height are multiples of this many pixels: two latent cells. */
static inline int64_t folder_size_multiple(const struct flux1_model *m) { return 2 * vae_scale(&m->vae); }

#endif
