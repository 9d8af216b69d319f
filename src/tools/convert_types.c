/* Which type each tensor gets: a rule's, else the type of --type, with the exceptions of the usual converters
 * (city96's ComfyUI-GGUF: tools/convert.py and its patch of llama-quantize): small tensors, and the first and last
 * layers, stay as they are. */
#include "tools/convert.h"

#include "tensor/encode.h"
#include "tensor/scale.h"

#include <fnmatch.h>
#include <string.h>

#define SMALL 1024 /* elements */

/* Tensors that packed types would harm, by our names. */
static const struct {
    model_part part;
    const char *pattern;
} kept_high[] = {
    {MODEL_TRANSFORMER, "x_embedder.*"},
    {MODEL_TRANSFORMER, "context_embedder.*"},
    {MODEL_TRANSFORMER, "time_text_embed.*"},
    {MODEL_TRANSFORMER, "norm_out.*"},
    {MODEL_TRANSFORMER, "proj_out.*"},
    {MODEL_T5, "shared.*"},
    {MODEL_T5, "*.relative_attention_bias.*"},
    {MODEL_CLIP, "*_embedding.*"},
    {MODEL_VAE, "*"},
};

static bool is_high(const convert_job *j, const convert_tensor *t)
{
    bool high = t->dims < 2 || t->rows * t->cols <= SMALL;
    for (size_t i = 0; !high && i < sizeof kept_high / sizeof *kept_high; i++)
        high = kept_high[i].part == j->part && fnmatch(kept_high[i].pattern, t->slice[0].item->name, 0) == 0;
    return high;
}

/* ---- what the source has ---- */

/* The factor of a scaled fp8 weight; false for what is anything else. */
static bool has_factor(const tensor *v, float *factor)
{
    if (!v->scale || v->scale->kind != SCALE_FACTOR || (v->type != DTYPE_F8_E4M3 && v->type != DTYPE_F8_E5M2))
        return false;
    return tensor_decode(&v->scale->factor, 0, 1, factor, NULL) == FLUX1_OK;
}

/* All slices have one stored type and, where they are scaled, one factor. */
static bool is_uniform(const convert_tensor *t, bool *scaled, float *factor)
{
    const tensor *one = &t->slice[0].item->view;
    float own = 1;
    *factor = 1;
    *scaled = one->scale != NULL;
    if (*scaled && !has_factor(one, factor))
        return false;
    for (int i = 1; i < t->slices; i++) {
        const tensor *v = &t->slice[i].item->view;
        if (v->type != one->type || (v->scale != NULL) != *scaled ||
            (*scaled && (!has_factor(v, &own) || own != *factor)))
            return false;
    }
    return true;
}

static bool fits(const convert_tensor *t, dtype type)
{
    const int64_t size = dtype_describe(type)->block_elements;
    return size == 1 || (t->dims >= 2 && t->shape[t->dims - 1] % size == 0);
}

/* ---- the choice ---- */

static void set_type(convert_tensor *t, dtype type, bool scaled)
{
    t->type = type;
    t->scaled = scaled;
}

static void set_high(const convert_job *j, convert_tensor *t)
{
    bool scaled;
    float factor;
    const dtype stored = t->slice[0].item->view.type;
    const bool uniform = is_uniform(t, &scaled, &factor);
    const bool is_float = stored == DTYPE_F32 || stored == DTYPE_F16 || stored == DTYPE_BF16;
    if ((j->is_gguf && (t->dims < 2 || t->rows * t->cols <= SMALL)) || stored == DTYPE_F64)
        set_type(t, DTYPE_F32, false);
    else
        set_type(t, uniform && is_float ? stored : DTYPE_BF16, false);
}

/* As stored, where the format has the type and the values can be taken over or encoded again. */
static void set_kept(const convert_job *j, convert_tensor *t)
{
    bool scaled;
    float factor;
    const dtype stored = t->slice[0].item->view.type;
    const dtype_info *info = dtype_describe(stored);
    const bool uniform = is_uniform(t, &scaled, &factor);
    const bool written = (j->is_gguf ? info->ggml >= 0 && !scaled : info->in_safetensors) && fits(t, stored) &&
                         (dtype_encoder_of(stored, NULL) || (!t->merged && !info->needs_scale));
    if (uniform && written && stored != DTYPE_F64)
        set_type(t, stored, scaled);
    else
        set_high(j, t);
}

/* Types for rows that are not whole blocks: llama.cpp's choice, of 32 elements instead of 256. */
static dtype smaller_blocks(dtype type)
{
    switch (type) {
    case DTYPE_Q2_K:
    case DTYPE_Q3_K: return DTYPE_Q4_0;
    case DTYPE_Q4_K: return DTYPE_Q5_0;
    case DTYPE_Q5_K: return DTYPE_Q5_1;
    case DTYPE_Q6_K: return DTYPE_Q8_0;
    default: return type;
    }
}

static void set_wanted(convert_job *j, convert_tensor *t, const convert_type *wanted)
{
    const char *ending = strrchr(t->name, '.');
    const dtype smaller = smaller_blocks(wanted->type);
    const bool can_scale = t->dims >= 2 && ending && strcmp(ending, ".weight") == 0;
    if (wanted->scaled && !can_scale)
        set_high(j, t);
    else if (fits(t, wanted->type))
        set_type(t, wanted->type, wanted->scaled);
    else {
        j->fallen++;
        if (fits(t, smaller))
            set_type(t, smaller, false);
        else
            set_high(j, t);
    }
}

static void choose(convert_job *j, convert_tensor *t)
{
    convert_rule *rule = convert_rules_find(&j->rules, t->name, t->slice[0].item->name);
    const convert_type *wanted = rule ? rule->type : j->type;
    const bool packed =
        dtype_describe(wanted->type)->block_bytes == 1 || dtype_describe(wanted->type)->block_elements > 1;
    if (rule)
        rule->used = true;
    if (wanted == &convert_types[CONVERT_KEEP])
        set_kept(j, t);
    else if (!rule && packed && is_high(j, t))
        set_high(j, t);
    else if (!rule && j->is_gguf && t->dims < 2)
        set_type(t, DTYPE_F32, false);
    else
        set_wanted(j, t, wanted);
}

/* Whether stored bytes are what is to be written. */
static void settle_copy(convert_tensor *t)
{
    bool scaled;
    float factor = 1;
    t->copied = !t->merged && is_uniform(t, &scaled, &factor) && t->slice[0].item->view.type == t->type &&
                scaled == t->scaled && fits(t, t->type);
    t->scale = factor;
}

/* Where an adapter changes a slice's item, the merged one is read in its place. */
static flux1_status merge(const convert_job *j, const adapter_use *uses, convert_tensor *t)
{
    for (int i = 0; i < t->slices; i++) {
        TRY(adapter_merge(uses, j->adapters, j->part, t->slice[i].item, ADAPTER_MERGE_ALL, &t->with[i], j->err));
        for (int p = 0; t->with[i] && p < t->from.count; p++)
            if (t->from.piece[p].source == t->slice[i].item)
                t->from.piece[p].source = adapter_merged_tensor(t->with[i]);
        t->merged = t->merged || t->with[i];
    }
    return FLUX1_OK;
}

flux1_status convert_choose_types(convert_job *j)
{
    adapter_use uses[FLUX1_ADAPTER_FILES_MAX];
    for (int i = 0; i < j->adapters; i++)
        uses[i] = (adapter_use){.file = j->adapter[i], .scale = j->strength[i]};
    for (size_t i = 0; i < j->count; i++) {
        convert_tensor *t = &j->tensor[i];
        TRY(merge(j, uses, t));
        choose(j, t);
        settle_copy(t);
    }
    for (size_t i = 0; i < j->rules.count; i++)
        if (!j->rules.rule[i].used)
            context_log(j->context, FLUX1_LOG_WARNING, "the rule \"%s\" in line %d matches no tensor",
                        j->rules.rule[i].pattern, j->rules.rule[i].line);
    if (j->fallen)
        context_log(j->context, FLUX1_LOG_WARNING,
                    "%zu tensors have rows that are not whole blocks of %s; they get a type of smaller blocks, or stay "
                    "as they are",
                    j->fallen, j->type->name);
    return FLUX1_OK;
}
