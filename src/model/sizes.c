#include "model/sizes.h"

#include <stdio.h>
#include <string.h>

#define WIDTH_MAX (1 << 20)
#define COUNT_MAX 4096
#define HEAD_MAX (1 << 12)

/* The dimensions of the tensor, which must have so many, each between 1 and WIDTH_MAX. */
static flux1_status shape_of(const store *s, const char *name, int dims, int64_t *shape, flux1_error *err)
{
    const store_tensor *t = store_find(s, name);
    char text[200];
    bool good = t && t->view.dims == dims;
    for (int i = 0; good && i < dims; i++) {
        shape[i] = t->view.shape[i];
        good = shape[i] > 0 && shape[i] <= WIDTH_MAX;
    }
    if (good)
        return FLUX1_OK;
    if (!t)
        return error_set(err, FLUX1_ERR_MODEL, "%s: tensor \"%s\" is missing", store_path(s), name);
    return error_set(err, FLUX1_ERR_MODEL, "%s: tensor \"%s\" has the shape %s, it should have %d dimensions", t->file,
                     name, tensor_shape_text(t->view.dims, t->view.shape, text, sizeof text), dims);
}

/* How many numbers, counted from 0, a format of tensors' names has. */
static int64_t count_of(const store *s, const char *format)
{
    char name[NAME_BYTES_MAX];
    int64_t n = 0;
    for (; n < COUNT_MAX; n++) {
        snprintf(name, sizeof name, format, (int)n);
        if (!store_find(s, name))
            break;
    }
    return n;
}

static flux1_status divides(const store *s, const char *what, int64_t whole, int64_t part, flux1_error *err)
{
    if (part > 0 && whole % part == 0)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_MODEL, "%s: %s: %lld is no multiple of %lld", store_path(s), what, (long long)whole,
                     (long long)part);
}

flux1_status clip_sizes(const store *s, clip_config *c, flux1_error *err)
{
    enum { HEAD = 64 };
    int64_t tokens[2], positions[2], mlp[2];
    *c = (clip_config){.eos = 2, .act = ACTIVATION_QUICK_GELU, .eps = 1e-5};
    TRY(shape_of(s, "text_model.embeddings.token_embedding.weight", 2, tokens, err));
    TRY(shape_of(s, "text_model.embeddings.position_embedding.weight", 2, positions, err));
    TRY(shape_of(s, "text_model.encoder.layers.0.mlp.fc1.weight", 2, mlp, err));
    TRY(divides(s, "CLIP's heads of 64", tokens[1], HEAD, err));
    c->vocab = tokens[0], c->hidden = tokens[1], c->positions = positions[0], c->mlp = mlp[0];
    c->heads = c->hidden / HEAD;
    c->layers = count_of(s, "text_model.encoder.layers.%d.layer_norm1.weight");
    return FLUX1_OK;
}

flux1_status t5_sizes(const store *s, t5_config *c, flux1_error *err)
{
    static const char bias[] = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
    int64_t tokens[2], q[2], ff[2], buckets[2];
    *c = (t5_config){.max_distance = 128, .eps = 1e-6};
    TRY(shape_of(s, store_find(s, "shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight", 2, tokens, err));
    TRY(shape_of(s, "encoder.block.0.layer.0.SelfAttention.q.weight", 2, q, err));
    TRY(shape_of(s, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 2, ff, err));
    TRY(shape_of(s, bias, 2, buckets, err));
    TRY(divides(s, "T5's heads", q[0], buckets[1], err));
    c->vocab = tokens[0], c->d_model = tokens[1], c->d_ff = ff[0];
    c->buckets = buckets[0], c->heads = buckets[1], c->d_kv = q[0] / buckets[1];
    c->layers = count_of(s, "encoder.block.%d.layer.0.layer_norm.weight");
    if (c->buckets < 4 || c->max_distance <= c->buckets / 4)
        return error_set(err, FLUX1_ERR_MODEL, "%s: tensor \"%s\" has %lld rows, FLUX.1's T5 has 32", store_path(s),
                         bias, (long long)c->buckets);
    return FLUX1_OK;
}

/* FLUX.1 gives an eighth of a head's channels to the first axis and shares the rest: 16, 56, 56 of 128. All are even.
 */
static flux1_status share_axes(const store *s, dit_config *c, flux1_error *err)
{
    for (int64_t first = (c->head_dim / 8 + 1) / 2 * 2; first < c->head_dim; first += 2)
        if ((c->head_dim - first) % 4 == 0) {
            c->axes[0] = first;
            c->axes[1] = c->axes[2] = (c->head_dim - first) / 2;
            c->axis_count = DIT_ID_AXES;
            return FLUX1_OK;
        }
    return error_set(err, FLUX1_ERR_UNSUPPORTED,
                     "%s: heads of %lld channels; FLUX.1 has 128 (other sizes need the folder's config.json)",
                     store_path(s), (long long)c->head_dim);
}

/* Transformers that need a picture beside the prompt. */
static flux1_status check_channels(const store *s, const dit_config *c, flux1_error *err)
{
    if (c->out_channels == c->in_channels && c->in_channels % 4 == 0)
        return FLUX1_OK;
    return error_set(err, FLUX1_ERR_UNSUPPORTED,
                     "%s: %lld channels in and %lld out: %s; text to image needs FLUX.1 schnell, dev or Krea",
                     store_path(s), (long long)c->in_channels, (long long)c->out_channels, dit_kind(c->in_channels));
}

flux1_status dit_sizes(const store *s, dit_config *c, flux1_error *err)
{
    int64_t in[2], out[2], joint[2], pooled[2], head;
    *c = (dit_config){.axis_count = 0};
    TRY(shape_of(s, "x_embedder.weight", 2, in, err));
    TRY(shape_of(s, "proj_out.weight", 2, out, err));
    TRY(shape_of(s, "context_embedder.weight", 2, joint, err));
    TRY(shape_of(s, "time_text_embed.text_embedder.linear_1.weight", 2, pooled, err));
    c->layers = count_of(s, "transformer_blocks.%d.attn.norm_q.weight");
    c->single_layers = count_of(s, "single_transformer_blocks.%d.attn.norm_q.weight");
    TRY(shape_of(
        s, c->layers ? "transformer_blocks.0.attn.norm_q.weight" : "single_transformer_blocks.0.attn.norm_q.weight", 1,
        &head, err));
    if (head > HEAD_MAX)
        return error_set(err, FLUX1_ERR_MODEL, "%s: heads of %lld channels; FLUX.1 has 128", store_path(s),
                         (long long)head);
    TRY(divides(s, "the transformer's heads", in[0], head, err));
    c->in_channels = in[1], c->out_channels = out[0], c->joint_dim = joint[1], c->pooled_dim = pooled[1];
    c->head_dim = head, c->heads = in[0] / head;
    c->guidance = store_find(s, "time_text_embed.guidance_embedder.linear_1.weight") != NULL;
    TRY(check_channels(s, c, err));
    return share_axes(s, c, err);
}

flux1_status vae_sizes(const store *s, vae_config *c, flux1_error *err)
{
    enum { GROUPS = 32 };
    char name[NAME_BYTES_MAX];
    int64_t in[4], out[4], conv[4];
    *c = (vae_config){.groups = GROUPS, .sample_size = 1024, .scaling = 0.3611, .shift = 0.1159};
    TRY(shape_of(s, "decoder.conv_in.weight", 4, in, err));
    TRY(shape_of(s, "decoder.conv_out.weight", 4, out, err));
    c->latent_channels = in[1];
    c->in_channels = c->out_channels = out[0];
    c->levels = count_of(s, "decoder.up_blocks.%d.resnets.0.conv1.weight");
    c->layers = count_of(s, "decoder.up_blocks.0.resnets.%d.conv1.weight") - 1;
    if (c->levels < 1 || c->levels > VAE_LEVELS_MAX || c->layers < 1 || c->out_channels != 3)
        return error_set(err, FLUX1_ERR_MODEL,
                         "%s: a decoder of %lld levels with %lld layers for %lld channels; FLUX.1's VAE has 4, 2 and 3",
                         store_path(s), (long long)c->levels, (long long)c->layers, (long long)c->out_channels);
    for (int64_t i = 0; i < c->levels; i++) {
        snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.0.conv2.weight", (int)(c->levels - 1 - i));
        TRY(shape_of(s, name, 4, conv, err));
        c->channels[i] = conv[0];
        TRY(divides(s, "the VAE's groups", c->channels[i], GROUPS, err));
    }
    c->mid_attention = store_find(s, "decoder.mid_block.attentions.0.to_q.weight") != NULL;
    c->quant_conv = store_find(s, "quant_conv.weight") != NULL;
    c->post_quant_conv = store_find(s, "post_quant_conv.weight") != NULL;
    return FLUX1_OK;
}
