#include "weights/adapter_names.h"

#include <stdio.h>
#include <string.h>

/* ---- endings ---- */

static const struct {
    const char *down, *up;
} pairs[] = {{".lora_down.weight", ".lora_up.weight"},
             {".lora_A.weight", ".lora_B.weight"},
             {".lora_A.default.weight", ".lora_B.default.weight"},
             {".lora.down.weight", ".lora.up.weight"},
             {"_lora.down.weight", "_lora.up.weight"},
             {".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"},
             {".down.weight", ".up.weight"}};

static const struct {
    const char *ending;
    adapter_role role;
} parts[] = {{".alpha", ADAPTER_ALPHA},
             {".lora_mid.weight", ADAPTER_MID},
             {".lora_B.bias", ADAPTER_UP_BIAS},
             {".lora_B.default.bias", ADAPTER_UP_BIAS},
             {".lora_up.bias", ADAPTER_UP_BIAS},
             {".lora.up.bias", ADAPTER_UP_BIAS},
             {".dora_scale", ADAPTER_MAGNITUDE},
             {".lora_magnitude_vector", ADAPTER_MAGNITUDE},
             {".lora_magnitude_vector.weight", ADAPTER_MAGNITUDE},
             {".lora_magnitude_vector.default.weight", ADAPTER_MAGNITUDE},
             {".hada_w1_a", ADAPTER_HADA_1A},
             {".hada_w1_b", ADAPTER_HADA_1B},
             {".hada_w2_a", ADAPTER_HADA_2A},
             {".hada_w2_b", ADAPTER_HADA_2B},
             {".hada_t1", ADAPTER_HADA_T1},
             {".hada_t2", ADAPTER_HADA_T2},
             {".lokr_w1", ADAPTER_LOKR_1},
             {".lokr_w1_a", ADAPTER_LOKR_1A},
             {".lokr_w1_b", ADAPTER_LOKR_1B},
             {".lokr_w2", ADAPTER_LOKR_2},
             {".lokr_w2_a", ADAPTER_LOKR_2A},
             {".lokr_w2_b", ADAPTER_LOKR_2B},
             {".lokr_t2", ADAPTER_LOKR_T2},
             {".oft_blocks", ADAPTER_OFT_BLOCKS},
             {".oft_blocks.0", ADAPTER_OFT_PARTS},
             {".oft_blocks.1", ADAPTER_OFT_PARTS},
             {".oft_blocks.2", ADAPTER_OFT_PARTS},
             {".oft_blocks.3", ADAPTER_OFT_PARTS},
             {".rescale", ADAPTER_OFT_RESCALE},
             {".oft_R.weight", ADAPTER_OFT_TRIANGLE},
             {".boft_R", ADAPTER_BOFT_BLOCKS},
             {".boft_s", ADAPTER_BOFT_SCALE},
             {".a1.weight", ADAPTER_GLORA_A1},
             {".a2.weight", ADAPTER_GLORA_A2},
             {".b1.weight", ADAPTER_GLORA_B1},
             {".b2.weight", ADAPTER_GLORA_B2},
             {".on_input", ADAPTER_IA3_PLACE},
             {".ia3_l", ADAPTER_IA3_VECTOR},
             {".diff", ADAPTER_DIFF},
             {".diff_b", ADAPTER_DIFF_BIAS},
             {".w_norm", ADAPTER_NORM},
             {".b_norm", ADAPTER_NORM_BIAS},
             {".base_layer.bias", ADAPTER_VALUE_BIAS}};

static const struct {
    const char *ending, *kind;
} others[] = {{".wd_for_diff", "DoRA of the difference alone"},
              {".set_weight", "replaced weights"},
              {".reshape_weight", "reshaped weights"},
              {".bm.weight", "GLoRA with a core"},
              {".oft_diag", "OFT in an old form of LyCORIS"},
              {".oft_r", "OFT of PEFT before 0.14"},
              {".oft_R.scaled_oft", "scaled OFT of OneTrainer"},
              {".oft_R.clipped_oft", "clipped OFT of OneTrainer"},
              {".oft_R.cans_oft", "OFT of OneTrainer by another iteration (CANS)"},
              {".initial_norm", "OFT with lengths of rows"},
              {".dora_log_multiplier", "OFT with lengths of rows"},
              {".lambda_layer", "T-LoRA"},
              {".lora_diag", "KaSA"},
              {".vera_lambda_b", "VeRA"},
              {".vera_lambda_d", "VeRA"}};

static bool ends(const char *name, size_t length, const char *ending)
{
    const size_t n = strlen(ending);
    return n < length && memcmp(name + length - n, ending, n) == 0;
}

#define PLAIN ".weight" /* behind any other ending of this kind */
#define PLAIN_BIAS ".bias"

int adapter_part_number(const char *name) { return name[strlen(name) - 1] - '0'; }

adapter_key adapter_key_read(const char *name)
{
    const size_t length = strlen(name);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (ends(name, length, pairs[i].down))
            return (adapter_key){ADAPTER_DOWN, length - strlen(pairs[i].down), pairs[i].up, NULL};
        if (ends(name, length, pairs[i].up))
            return (adapter_key){ADAPTER_UP, length - strlen(pairs[i].up), pairs[i].down, NULL};
    }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (ends(name, length, parts[i].ending))
            return (adapter_key){parts[i].role, length - strlen(parts[i].ending), NULL, NULL};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (ends(name, length, others[i].ending))
            return (adapter_key){ADAPTER_OTHER, length - strlen(others[i].ending), NULL, others[i].kind};
    if (ends(name, length, PLAIN))
        return (adapter_key){ADAPTER_IA3_WEIGHT, length - strlen(PLAIN), NULL, NULL};
    if (ends(name, length, PLAIN_BIAS))
        return (adapter_key){ADAPTER_VALUE_BIAS, length - strlen(PLAIN_BIAS), NULL, NULL};
    return (adapter_key){ADAPTER_NONE, length, NULL, NULL};
}

const char *adapter_ending(adapter_role role, size_t index)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].role == role && index-- == 0)
            return parts[i].ending;
    return NULL;
}

const char *adapter_down_ending(size_t index)
{
    return index < sizeof pairs / sizeof *pairs ? pairs[index].down : NULL;
}

/* ---- layers ---- */

#define WRAPPER "base_model.model." /* PEFT's, in front of any other */

bool adapter_key_wrapped(const char *name) { return strncmp(name, WRAPPER, strlen(WRAPPER)) == 0; }

/* In front of a layer's name; flat: with "_" for each "." of it. The empty one last. Where a file has a layer in two
 * spellings, diffusers takes "transformer." before all others, and "lora_transformer_" before "lora_unet_". */
static const struct {
    const char *text;
    model_part part;
    bool flat;
    int order;
} prefixes[] = {{"lora_unet_", MODEL_TRANSFORMER, true, 2},
                {"lora_transformer_", MODEL_TRANSFORMER, true, 1},
                {"lycoris_", MODEL_TRANSFORMER, true, 2},
                {"oft_unet_", MODEL_TRANSFORMER, true, 2}, /* kohya's OFT */
                {"lora_te1_", MODEL_CLIP, true, 2},
                {"lora_te_", MODEL_CLIP, true, 2},
                {"lora_te2_", MODEL_T5, true, 2}, /* OneTrainer's; SDXL's second CLIP has no layers of T5's names */
                {"lora_te3_", MODEL_T5, true, 2},
                {"lora_unet_model_diffusion_model_", MODEL_TRANSFORMER, true, 2}, /* kohya's, of an all-in-one file */
                {"lora_te1.", MODEL_CLIP, false, 2},                              /* ai-toolkit's */
                {"lora_te2.", MODEL_T5, false, 2},
                {"text_encoders.clip_l.transformer.", MODEL_CLIP, false, 0},
                {"text_encoders.t5xxl.transformer.", MODEL_T5, false, 0},
                {"clip_l.transformer.", MODEL_CLIP, false, 0}, /* ComfyUI's own names */
                {"t5xxl.transformer.", MODEL_T5, false, 0},
                {"clip_l.", MODEL_CLIP, false, 0}, /* OneTrainer's OMI format; t5xxl.: ComfyUI's */
                {"t5xxl.", MODEL_T5, false, 0},
                {"t5.", MODEL_T5, false, 0},
                {"text_encoder_2.", MODEL_T5, false, 0},
                {"text_encoder.", MODEL_CLIP, false, 0},
                {"transformer.", MODEL_TRANSFORMER, false, 0},
                {"diffusion_model.", MODEL_TRANSFORMER, false, 0},
                {"model.diffusion_model.", MODEL_TRANSFORMER, false, 0},
                {"unet.", MODEL_TRANSFORMER, false, 0},
                {"", MODEL_TRANSFORMER, false, 0}};

/* XLabs' processors of attention: 1 is the image's, 2 the prompt's. A single block's takes rows of linear1, and the
 * whole of linear2. (x-flux: src/flux/modules/layers.py) */
static const name_row xlabs[] = {
    {"double_blocks.#.processor.qkv_lora1", "transformer_blocks.#.attn.to_q", 0, 1, 3, NAME_PLAIN},
    {"double_blocks.#.processor.qkv_lora1", "transformer_blocks.#.attn.to_k", 1, 1, 3, NAME_PLAIN},
    {"double_blocks.#.processor.qkv_lora1", "transformer_blocks.#.attn.to_v", 2, 1, 3, NAME_PLAIN},
    {"double_blocks.#.processor.qkv_lora2", "transformer_blocks.#.attn.add_q_proj", 0, 1, 3, NAME_PLAIN},
    {"double_blocks.#.processor.qkv_lora2", "transformer_blocks.#.attn.add_k_proj", 1, 1, 3, NAME_PLAIN},
    {"double_blocks.#.processor.qkv_lora2", "transformer_blocks.#.attn.add_v_proj", 2, 1, 3, NAME_PLAIN},
    {"double_blocks.#.processor.proj_lora1", "transformer_blocks.#.attn.to_out.0", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.processor.proj_lora2", "transformer_blocks.#.attn.to_add_out", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.processor.qkv", "single_transformer_blocks.#.attn.to_q", 0, 1, 3, NAME_PLAIN},
    {"single_blocks.#.processor.qkv", "single_transformer_blocks.#.attn.to_k", 1, 1, 3, NAME_PLAIN},
    {"single_blocks.#.processor.qkv", "single_transformer_blocks.#.attn.to_v", 2, 1, 3, NAME_PLAIN},
    {"single_blocks.#.processor.proj", "single_transformer_blocks.#.proj_out", 0, 1, 1, NAME_PLAIN},
};

/* OMI, OneTrainer's other format: BFL's names, with the parts of fused layers numbered.
 * (OneTrainer: modules/util/convert/lora/convert_flux_lora.py) */
static const name_row omi[] = {
    {"double_blocks.#.img_attn.qkv.0", "transformer_blocks.#.attn.to_q", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.img_attn.qkv.1", "transformer_blocks.#.attn.to_k", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.img_attn.qkv.2", "transformer_blocks.#.attn.to_v", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.txt_attn.qkv.0", "transformer_blocks.#.attn.add_q_proj", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.txt_attn.qkv.1", "transformer_blocks.#.attn.add_k_proj", 0, 1, 1, NAME_PLAIN},
    {"double_blocks.#.txt_attn.qkv.2", "transformer_blocks.#.attn.add_v_proj", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.linear1.0", "single_transformer_blocks.#.attn.to_q", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.linear1.1", "single_transformer_blocks.#.attn.to_k", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.linear1.2", "single_transformer_blocks.#.attn.to_v", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.linear1.3", "single_transformer_blocks.#.proj_mlp", 0, 1, 1, NAME_PLAIN},
    {"img_in.proj", "x_embedder", 0, 1, 1, NAME_PLAIN},
};

/* DiffSynth-Studio's own: `a` is the image's, `b` the prompt's. Their modules are cut and ordered as Black Forest
 * Labs'. (DiffSynth-Studio: models/lora.py, FluxLoRAConverter) */
static const name_row diffsynth[] = {
    {"blocks.#.norm1_a.linear", "transformer_blocks.#.norm1.linear", 0, 1, 1, NAME_PLAIN},
    {"blocks.#.norm1_b.linear", "transformer_blocks.#.norm1_context.linear", 0, 1, 1, NAME_PLAIN},
    {"blocks.#.attn.a_to_qkv", "transformer_blocks.#.attn.to_q", 0, 1, 3, NAME_PLAIN},
    {"blocks.#.attn.a_to_qkv", "transformer_blocks.#.attn.to_k", 1, 1, 3, NAME_PLAIN},
    {"blocks.#.attn.a_to_qkv", "transformer_blocks.#.attn.to_v", 2, 1, 3, NAME_PLAIN},
    {"blocks.#.attn.b_to_qkv", "transformer_blocks.#.attn.add_q_proj", 0, 1, 3, NAME_PLAIN},
    {"blocks.#.attn.b_to_qkv", "transformer_blocks.#.attn.add_k_proj", 1, 1, 3, NAME_PLAIN},
    {"blocks.#.attn.b_to_qkv", "transformer_blocks.#.attn.add_v_proj", 2, 1, 3, NAME_PLAIN},
    {"blocks.#.attn.a_to_out", "transformer_blocks.#.attn.to_out.0", 0, 1, 1, NAME_PLAIN},
    {"blocks.#.attn.b_to_out", "transformer_blocks.#.attn.to_add_out", 0, 1, 1, NAME_PLAIN},
    {"blocks.#.ff_a.0", "transformer_blocks.#.ff.net.0.proj", 0, 1, 1, NAME_PLAIN},
    {"blocks.#.ff_a.2", "transformer_blocks.#.ff.net.2", 0, 1, 1, NAME_PLAIN},
    {"blocks.#.ff_b.0", "transformer_blocks.#.ff_context.net.0.proj", 0, 1, 1, NAME_PLAIN},
    {"blocks.#.ff_b.2", "transformer_blocks.#.ff_context.net.2", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.norm.linear", "single_transformer_blocks.#.norm.linear", 0, 1, 1, NAME_PLAIN},
    {"single_blocks.#.to_qkv_mlp", "single_transformer_blocks.#.attn.to_q", 0, 1, 7, NAME_PLAIN},
    {"single_blocks.#.to_qkv_mlp", "single_transformer_blocks.#.attn.to_k", 1, 1, 7, NAME_PLAIN},
    {"single_blocks.#.to_qkv_mlp", "single_transformer_blocks.#.attn.to_v", 2, 1, 7, NAME_PLAIN},
    {"single_blocks.#.to_qkv_mlp", "single_transformer_blocks.#.proj_mlp", 3, 4, 7, NAME_PLAIN},
    {"single_blocks.#.proj_out", "single_transformer_blocks.#.proj_out", 0, 1, 1, NAME_PLAIN},
};

static void add_translated(const name_row *row, size_t rows, bool flat, const char *layer, adapter_targets *out)
{
    for (size_t i = 0; i < rows && out->count < ADAPTER_TARGETS_MAX; i++)
        if (row[i].form != NAME_TALL && row[i].form != NAME_WIDE &&
            name_translates(row[i].from, row[i].to, flat, layer, out->name[out->count]))
            out->row[out->count++] = &row[i];
}

/* By diffusers' own name. */
static void add_own(const name_map *map, bool flat, const char *layer, adapter_targets *out)
{
    for (size_t i = 0; i < map->rows && out->count == 0; i++)
        if (name_translates(map->row[i].to, map->row[i].to, flat, layer, out->name[0]))
            out->row[out->count++] = NULL;
}

/* "….query_norm.scale" is a tensor, not a layer, in BFL's names. */
static void cut_weight(adapter_targets *out)
{
    for (int i = 0; i < out->count; i++) {
        const size_t n = strlen(out->name[i]);
        if (ends(out->name[i], n, ".weight"))
            out->name[i][n - strlen(".weight")] = '\0';
    }
}

void adapter_targets_find(const char *base, size_t length, adapter_targets *out)
{
    char name[NAME_BYTES_MAX];
    out->count = 0;
    const size_t wrapped = length >= strlen(WRAPPER) && adapter_key_wrapped(base) ? strlen(WRAPPER) : 0;
    base += wrapped;
    length -= wrapped;
    if (length >= sizeof name)
        return;
    memcpy(name, base, length);
    name[length] = '\0';
    for (size_t i = 0; out->count == 0 && i < sizeof prefixes / sizeof *prefixes; i++) {
        const size_t n = strlen(prefixes[i].text);
        if (strncmp(name, prefixes[i].text, n) != 0)
            continue;
        const name_map *map = name_map_of(out->part = prefixes[i].part);
        out->order = prefixes[i].order;
        add_own(map, prefixes[i].flat, name + n, out);
        if (out->count == 0)
            add_translated(map->row, map->rows, prefixes[i].flat, name + n, out);
        if (out->count == 0 && out->part == MODEL_TRANSFORMER) {
            add_translated(xlabs, sizeof xlabs / sizeof *xlabs, prefixes[i].flat, name + n, out);
            add_translated(omi, sizeof omi / sizeof *omi, prefixes[i].flat, name + n, out);
            add_translated(diffsynth, sizeof diffsynth / sizeof *diffsynth, prefixes[i].flat, name + n, out);
        }
    }
    cut_weight(out);
}

/* ---- other models ---- */

/* alike: it has layers of FLUX.1's names and shapes as well. */
static const struct {
    const char *in, *model;
    bool alike;
} strangers[] = {{"down_blocks", "Stable Diffusion (SD 1, SD 2 or SDXL)", false},
                 {"up_blocks", "Stable Diffusion (SD 1, SD 2 or SDXL)", false},
                 {"input_blocks", "Stable Diffusion (SD 1, SD 2 or SDXL)", false},
                 {"output_blocks", "Stable Diffusion (SD 1, SD 2 or SDXL)", false},
                 {"joint_blocks", "Stable Diffusion 3", false},
                 {"to_qkv_mlp_proj", "FLUX.2", false},
                 {"double_stream_modulation", "FLUX.2", false},
                 {"single_stream_modulation", "FLUX.2", false},
                 {"img_mlp_fc1", "HunyuanVideo", true},
                 {"img_mlp.fc1", "HunyuanVideo", true},
                 {"img_mod_linear", "HunyuanVideo", true},
                 {"img_mod.linear", "HunyuanVideo", true},
                 {"individual_token_refiner", "HunyuanVideo", true}};

const char *adapter_stranger(const char *name, bool alike)
{
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        if ((strangers[i].alike || !alike) && strstr(name, strangers[i].in))
            return strangers[i].model;
    return NULL;
}
