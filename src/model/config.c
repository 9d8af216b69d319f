#include "model/config.h"

#include <string.h>

#define WIDTH_MAX (1 << 20)
#define COUNT_MAX 4096

/* A row an integer, required unless there is a value to fall back to. */
typedef struct int_row {
    const char *key;
    int64_t min, max;
    int64_t *out;
    int64_t fallback;
} int_row;

static flux1_status read_ints(const json_value *j, const char *name, const int_row *rows, size_t count,
                              flux1_error *err)
{
    if (!json_is_object(j))
        return error_set(err, FLUX1_ERR_FORMAT, "%s: it should be a JSON object", name);
    for (size_t i = 0; i < count; i++) {
        if (!rows[i].fallback)
            TRY(json_require(j, name, rows[i].key, err));
        *rows[i].out = rows[i].fallback;
        TRY(json_get_int(j, name, rows[i].key, rows[i].min, rows[i].max, rows[i].out, err));
    }
    return FLUX1_OK;
}

static flux1_status divides(const char *name, const char *what, int64_t whole, const char *by, int64_t part,
                            flux1_error *err)
{
    if (whole % part == 0)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_FORMAT, "%s: \"%s\" is %lld, which \"%s\" = %lld does not divide", name, what,
                     (long long)whole, by, (long long)part);
}

flux1_status clip_config_read(const json_value *j, const char *name, clip_config *c, flux1_error *err)
{
    /* CLIPConfig has the text encoder's inside, and there only what differs from CLIPTextConfig's defaults, the last
     * column */
    const json_value *nested = json_object_get(j, "text_config");
    const int_row rows[] = {
        {"vocab_size", 1, 1 << 24, &c->vocab, 49408},        {"max_position_embeddings", 1, 1 << 16, &c->positions, 77},
        {"hidden_size", 1, WIDTH_MAX, &c->hidden, 512},      {"num_hidden_layers", 1, COUNT_MAX, &c->layers, 12},
        {"num_attention_heads", 1, COUNT_MAX, &c->heads, 8}, {"intermediate_size", 1, WIDTH_MAX, &c->mlp, 2048},
    };
    j = json_is_object(nested) ? nested : j;
    *c = (clip_config){.eos = 49407, .eps = 1e-5};
    TRY(read_ints(j, name, rows, sizeof rows / sizeof rows[0], err));
    TRY(json_get_int(j, name, "eos_token_id", 0, INT32_MAX, &c->eos, err));
    TRY(json_get_real(j, name, "layer_norm_eps", &c->eps, err));
    const char *function = "quick_gelu";
    TRY(json_get_string(j, name, "hidden_act", &function, err));
    if (strcmp(function, "quick_gelu") == 0)
        c->act = ACTIVATION_QUICK_GELU;
    else if (strcmp(function, "gelu") == 0)
        c->act = ACTIVATION_GELU;
    else
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: \"hidden_act\" is \"%s\"; quick_gelu and gelu are supported",
                         name, function);
    return divides(name, "hidden_size", c->hidden, "num_attention_heads", c->heads, err);
}

flux1_status t5_config_read(const json_value *j, const char *name, t5_config *c, flux1_error *err)
{
    const int_row rows[] = {
        {"vocab_size", 1, 1 << 24, &c->vocab, 0},    {"d_model", 1, WIDTH_MAX, &c->d_model, 0},
        {"d_kv", 1, 1 << 14, &c->d_kv, 0},           {"d_ff", 1, WIDTH_MAX, &c->d_ff, 0},
        {"num_layers", 1, COUNT_MAX, &c->layers, 0}, {"num_heads", 1, COUNT_MAX, &c->heads, 0},
    };
    *c = (t5_config){.buckets = 32, .max_distance = 128, .eps = 1e-6};
    TRY(read_ints(j, name, rows, sizeof rows / sizeof rows[0], err));
    TRY(json_get_int(j, name, "relative_attention_num_buckets", 4, 1 << 16, &c->buckets, err));
    TRY(json_get_int(j, name, "relative_attention_max_distance", 2, 1 << 20, &c->max_distance, err));
    TRY(json_get_real(j, name, "layer_norm_epsilon", &c->eps, err));
    const char *projection = "gated-gelu";
    TRY(json_get_string(j, name, "feed_forward_proj", &projection, err));
    if (strcmp(projection, "gated-gelu") != 0)
        return error_set(err, FLUX1_ERR_UNSUPPORTED,
                         "%s: \"feed_forward_proj\" is \"%s\"; FLUX.1's text encoder has gated-gelu", name, projection);
    if (c->max_distance <= c->buckets / 4)
        return error_set(
            err, FLUX1_ERR_FORMAT,
            "%s: \"relative_attention_max_distance\" is %lld; with %lld buckets it should be more than %lld", name,
            (long long)c->max_distance, (long long)c->buckets, (long long)(c->buckets / 4));
    return FLUX1_OK;
}

const char *dit_kind(int64_t in_channels)
{
    return in_channels == 384   ? "FLUX.1 Fill (inpainting)"
           : in_channels == 128 ? "FLUX.1 Canny or Depth"
                                : "a model of another kind";
}

flux1_status dit_config_read(const json_value *j, const char *name, dit_config *c, flux1_error *err)
{
    const int_row rows[] = {
        {"num_layers", 0, COUNT_MAX, &c->layers, 0},
        {"num_single_layers", 0, COUNT_MAX, &c->single_layers, 0},
        {"attention_head_dim", 2, 1 << 12, &c->head_dim, 0},
        {"num_attention_heads", 1, COUNT_MAX, &c->heads, 0},
        {"joint_attention_dim", 1, WIDTH_MAX, &c->joint_dim, 0},
        {"pooled_projection_dim", 1, WIDTH_MAX, &c->pooled_dim, 0},
    };
    *c = (dit_config){.in_channels = 64, .axes = {16, 56, 56}, .axis_count = 3};
    int64_t patch = 1, sum = 0;
    TRY(read_ints(j, name, rows, sizeof rows / sizeof rows[0], err));
    TRY(json_get_int(j, name, "in_channels", 4, 1 << 16, &c->in_channels, err));
    c->out_channels = c->in_channels;
    TRY(json_get_int(j, name, "out_channels", 1, 1 << 16, &c->out_channels, err));
    TRY(json_get_bool(j, name, "guidance_embeds", &c->guidance, err));
    TRY(json_get_int(j, name, "patch_size", 1, 1 << 16, &patch, err));
    TRY(json_get_ints(j, name, "axes_dims_rope", 0, 1 << 12, c->axes, ROPE_AXES_MAX, &c->axis_count, err));
    if (patch != 1)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: \"patch_size\" is %lld; FLUX.1 has 1", name,
                         (long long)patch);
    if (c->out_channels != c->in_channels || c->in_channels % 4)
        return error_set(
            err, FLUX1_ERR_UNSUPPORTED,
            "%s: in_channels %lld and out_channels %lld: %s; text to image needs FLUX.1 schnell, dev or Krea", name,
            (long long)c->in_channels, (long long)c->out_channels, dit_kind(c->in_channels));
    if (c->axis_count != 3)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: \"axes_dims_rope\" has %zu entries; FLUX.1 has 3", name,
                         c->axis_count);
    for (size_t i = 0; i < c->axis_count; i++) {
        sum += c->axes[i];
        if (c->axes[i] % 2)
            return error_set(err, FLUX1_ERR_FORMAT,
                             "%s: \"axes_dims_rope\" has the odd entry %lld; each should be even", name,
                             (long long)c->axes[i]);
    }
    if (sum != c->head_dim)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: \"axes_dims_rope\" adds up to %lld, it should be attention_head_dim = %lld", name,
                         (long long)sum, (long long)c->head_dim);
    if (dit_hidden(c) > WIDTH_MAX)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: %lld heads of %lld are wider than any transformer", name,
                         (long long)c->heads, (long long)c->head_dim);
    return FLUX1_OK;
}

/* Every entry of a list of block types must be the one that FLUX.1's VAE has. */
static flux1_status check_block_types(const json_value *j, const char *name, const char *key, const char *type,
                                      flux1_error *err)
{
    const json_value *list = json_object_get(j, key), *entry;
    size_t i;
    for (i = 0; (entry = json_array_get(list, i)); i++)
        if (!json_is_string(entry) || strcmp(json_string_value(entry), type) != 0)
            return error_set(err, FLUX1_ERR_UNSUPPORTED,
                             "%s: \"%s\" has an entry other than %s, the one FLUX.1's VAE is made of", name, key, type);
    return FLUX1_OK;
}

flux1_status vae_config_read(const json_value *j, const char *name, vae_config *c, flux1_error *err)
{
    const int_row rows[] = {
        {"latent_channels", 1, 1 << 12, &c->latent_channels, 0},
        {"layers_per_block", 1, 64, &c->layers, 0},
        {"norm_num_groups", 1, 1 << 12, &c->groups, 0},
    };
    *c = (vae_config){.in_channels = 3,
                      .out_channels = 3,
                      .sample_size = 1024,
                      .scaling = 0.18215,
                      .mid_attention = true,
                      .quant_conv = true,
                      .post_quant_conv = true};
    size_t levels = 0;
    TRY(read_ints(j, name, rows, sizeof rows / sizeof rows[0], err));
    TRY(json_require(j, name, "block_out_channels", err));
    TRY(json_get_ints(j, name, "block_out_channels", 1, 1 << 14, c->channels, VAE_LEVELS_MAX, &levels, err));
    TRY(json_get_int(j, name, "in_channels", 1, 64, &c->in_channels, err));
    TRY(json_get_int(j, name, "out_channels", 1, 64, &c->out_channels, err));
    TRY(json_get_int(j, name, "sample_size", 1, 1 << 16, &c->sample_size, err));
    TRY(json_get_real(j, name, "scaling_factor", &c->scaling, err));
    TRY(json_get_real(j, name, "shift_factor", &c->shift, err));
    TRY(json_get_bool(j, name, "mid_block_add_attention", &c->mid_attention, err));
    TRY(json_get_bool(j, name, "use_quant_conv", &c->quant_conv, err));
    TRY(json_get_bool(j, name, "use_post_quant_conv", &c->post_quant_conv, err));
    TRY(check_block_types(j, name, "down_block_types", "DownEncoderBlock2D", err));
    TRY(check_block_types(j, name, "up_block_types", "UpDecoderBlock2D", err));
    if (levels == 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"block_out_channels\" is empty", name);
    c->levels = (int64_t)levels;
    if (c->in_channels != 3 || c->out_channels != 3)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: %lld channels in and %lld out; pictures have 3", name,
                         (long long)c->in_channels, (long long)c->out_channels);
    if (c->scaling == 0)
        return error_set(err, FLUX1_ERR_FORMAT, "%s: \"scaling_factor\" is 0", name);
    const char *function = "silu";
    TRY(json_get_string(j, name, "act_fn", &function, err));
    if (strcmp(function, "silu") != 0)
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "%s: \"act_fn\" is \"%s\"; FLUX.1's VAE has silu", name, function);
    for (size_t i = 0; i < levels; i++)
        TRY(divides(name, "block_out_channels", c->channels[i], "norm_num_groups", c->groups, err));
    return FLUX1_OK;
}
