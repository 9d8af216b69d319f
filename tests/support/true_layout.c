#include "support/true_layout.h"

#include "base/builder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { TENSORS = 2000, GGUF_ALIGNMENT = 32 };
enum { GGUF_F32 = 0, GGUF_Q4_0 = 2, GGUF_Q8_0 = 8 }; /* ggml's numbers */

typedef struct entry {
    char name[160];
    int64_t shape[4];
    int dims;
} entry;

typedef struct layout {
    entry *entry;
    const char *prefix;
    int count;
} layout;

/* Dimensions until a 0. */
static void add(layout *l, const int64_t *shape, const char *format, ...)
{
    assert_true(l->count < TENSORS);
    entry *e = &l->entry[l->count++];
    int used = snprintf(e->name, sizeof e->name, "%s", l->prefix);
    va_list ap;
    va_start(ap, format);
    used += vsnprintf(e->name + used, sizeof e->name - (size_t)used, format, ap);
    va_end(ap);
    assert_true(used < (int)sizeof e->name);
    for (e->dims = 0; shape[e->dims]; e->dims++)
        e->shape[e->dims] = shape[e->dims];
}

#define ADD(l, format, name, ...) add(l, (int64_t[]){__VA_ARGS__, 0}, format, name)

static void linear(layout *l, const char *name, int64_t out, int64_t in)
{
    ADD(l, "%s.weight", name, out, in);
    ADD(l, "%s.bias", name, out);
}

static void conv(layout *l, const char *name, int64_t out, int64_t in, int64_t kernel)
{
    ADD(l, "%s.weight", name, out, in, kernel, kernel);
    ADD(l, "%s.bias", name, out);
}

static void norm(layout *l, const char *name, int64_t n)
{
    ADD(l, "%s.weight", name, n);
    ADD(l, "%s.bias", name, n);
}

/* ---- transformer ---- */

enum { D = 3072, MLP = 4 * D };

static void double_block(layout *l, int i)
{
    static const char *const streams[] = {"img", "txt"};
    char name[100];
    for (int s = 0; s < 2; s++) {
        static const struct {
            const char *part;
            int64_t out, in;
        } parts[] = {
            {"mod.lin", 6 * D, D}, {"attn.qkv", 3 * D, D}, {"attn.proj", D, D}, {"mlp.0", MLP, D}, {"mlp.2", D, MLP}};
        for (int p = 0; p < 5; p++) {
            snprintf(name, sizeof name, "double_blocks.%d.%s_%s", i, streams[s], parts[p].part);
            linear(l, name, parts[p].out, parts[p].in);
        }
        snprintf(name, sizeof name, "double_blocks.%d.%s_attn.norm", i, streams[s]);
        ADD(l, "%s.query_norm.scale", name, 128);
        ADD(l, "%s.key_norm.scale", name, 128);
    }
}

static void single_block(layout *l, int i)
{
    char name[100];
    snprintf(name, sizeof name, "single_blocks.%d.modulation.lin", i), linear(l, name, 3 * D, D);
    snprintf(name, sizeof name, "single_blocks.%d.linear1", i), linear(l, name, 3 * D + MLP, D);
    snprintf(name, sizeof name, "single_blocks.%d.linear2", i), linear(l, name, D, D + MLP);
    snprintf(name, sizeof name, "single_blocks.%d.norm", i);
    ADD(l, "%s.query_norm.scale", name, 128);
    ADD(l, "%s.key_norm.scale", name, 128);
}

static int or_else(int n, int usual) { return n ? n : usual; }

static void transformer(layout *l, const true_layout *wanted)
{
    const int channels = or_else(wanted->in_channels, 64);
    l->prefix = "model.diffusion_model.";
    linear(l, "img_in", D, channels), linear(l, "txt_in", D, 4096);
    linear(l, "time_in.in_layer", D, 256), linear(l, "time_in.out_layer", D, D);
    linear(l, "vector_in.in_layer", D, 768), linear(l, "vector_in.out_layer", D, D);
    if (wanted->dev)
        linear(l, "guidance_in.in_layer", D, 256), linear(l, "guidance_in.out_layer", D, D);
    for (int i = 0; i < or_else(wanted->layers, 19); i++)
        double_block(l, i);
    for (int i = 0; i < or_else(wanted->single_layers, 38); i++)
        single_block(l, i);
    linear(l, "final_layer.linear", 64, D), linear(l, "final_layer.adaLN_modulation.1", 2 * D, D);
}

/* ---- VAE ---- */

static void resnet(layout *l, const char *base, int64_t in, int64_t out)
{
    char name[120];
    snprintf(name, sizeof name, "%s.norm1", base), norm(l, name, in);
    snprintf(name, sizeof name, "%s.conv1", base), conv(l, name, out, in, 3);
    snprintf(name, sizeof name, "%s.norm2", base), norm(l, name, out);
    snprintf(name, sizeof name, "%s.conv2", base), conv(l, name, out, out, 3);
    snprintf(name, sizeof name, "%s.nin_shortcut", base);
    if (in != out)
        conv(l, name, out, in, 1);
}

static void middle(layout *l, const char *side)
{
    static const char *const parts[] = {"q", "k", "v", "proj_out"};
    char name[100];
    for (int i = 1; i <= 2; i++)
        snprintf(name, sizeof name, "%s.mid.block_%d", side, i), resnet(l, name, 512, 512);
    snprintf(name, sizeof name, "%s.mid.attn_1.norm", side), norm(l, name, 512);
    for (int i = 0; i < 4; i++)
        snprintf(name, sizeof name, "%s.mid.attn_1.%s", side, parts[i]), conv(l, name, 512, 512, 1);
}

static void vae(layout *l)
{
    static const int64_t channels[] = {128, 256, 512, 512};
    char name[100];
    l->prefix = "vae.";
    conv(l, "encoder.conv_in", 128, 3, 3), conv(l, "decoder.conv_in", 512, 16, 3);
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 2; j++)
            snprintf(name, sizeof name, "encoder.down.%d.block.%d", i, j),
                resnet(l, name, j ? channels[i] : channels[i ? i - 1 : 0], channels[i]);
        for (int j = 0; j < 3; j++)
            snprintf(name, sizeof name, "decoder.up.%d.block.%d", i, j),
                resnet(l, name, j ? channels[i] : channels[i < 3 ? i + 1 : 3], channels[i]);
        snprintf(name, sizeof name, "encoder.down.%d.downsample.conv", i);
        if (i < 3)
            conv(l, name, channels[i], channels[i], 3);
        snprintf(name, sizeof name, "decoder.up.%d.upsample.conv", i);
        if (i > 0)
            conv(l, name, channels[i], channels[i], 3);
    }
    middle(l, "encoder"), middle(l, "decoder");
    norm(l, "encoder.norm_out", 512), conv(l, "encoder.conv_out", 32, 512, 3);
    norm(l, "decoder.norm_out", 128), conv(l, "decoder.conv_out", 3, 128, 3);
}

/* ---- text encoders ---- */

static void clip(layout *l)
{
    static const char *const attention[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    char name[100];
    l->prefix = "text_encoders.clip_l.transformer.";
    ADD(l, "%s.weight", "text_model.embeddings.token_embedding", 49408, 768);
    ADD(l, "%s.weight", "text_model.embeddings.position_embedding", 77, 768);
    for (int i = 0; i < 12; i++) {
        for (int k = 0; k < 4; k++)
            snprintf(name, sizeof name, "text_model.encoder.layers.%d.self_attn.%s", i, attention[k]),
                linear(l, name, 768, 768);
        for (int k = 1; k <= 2; k++)
            snprintf(name, sizeof name, "text_model.encoder.layers.%d.layer_norm%d", i, k), norm(l, name, 768);
        snprintf(name, sizeof name, "text_model.encoder.layers.%d.mlp.fc1", i), linear(l, name, 3072, 768);
        snprintf(name, sizeof name, "text_model.encoder.layers.%d.mlp.fc2", i), linear(l, name, 768, 3072);
    }
    norm(l, "text_model.final_layer_norm", 768);
    ADD(l, "%s", "text_projection.weight", 768, 768);
}

static void t5(layout *l, int layers)
{
    char name[100];
    l->prefix = "text_encoders.t5xxl.transformer.";
    ADD(l, "%s.weight", "shared", 32128, 4096);
    ADD(l, "%s.weight", "encoder.embed_tokens", 32128, 4096);
    ADD(l, "%s.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias", 32, 64);
    for (int i = 0; i < layers; i++) {
        for (int k = 0; k < 4; k++)
            snprintf(name, sizeof name, "encoder.block.%d.layer.0.SelfAttention.%c", i, "qkvo"[k]),
                ADD(l, "%s.weight", name, 4096, 4096);
        snprintf(name, sizeof name, "encoder.block.%d.layer.1.DenseReluDense", i);
        ADD(l, "%s.wi_0.weight", name, 10240, 4096);
        ADD(l, "%s.wi_1.weight", name, 10240, 4096);
        ADD(l, "%s.wo.weight", name, 4096, 10240);
        for (int k = 0; k < 2; k++)
            snprintf(name, sizeof name, "encoder.block.%d.layer.%d.layer_norm", i, k), ADD(l, "%s.weight", name, 4096);
    }
    ADD(l, "%s.weight", "encoder.final_layer_norm", 4096);
}

/* ---- files ---- */

static void number(builder *b, int bytes, uint64_t value)
{
    for (int i = 0; i < bytes; i++)
        builder_add_bytes(b, &(char){(char)(value >> (8 * i))}, 1);
}

static uint64_t elements(const entry *e)
{
    uint64_t count = 1;
    for (int i = 0; i < e->dims; i++)
        count *= (uint64_t)e->shape[i];
    return count;
}

static bool is_matrix(const entry *e) { return e->dims == 2 && elements(e) > 100000; }

static void add_shape(builder *json, const entry *e)
{
    for (int k = 0; k < e->dims; k++)
        builder_format(json, "%s%lld", k ? "," : "", (long long)e->shape[k]);
}

/* Its values begin at *end, which moves on. */
static void add_tensor(builder *json, const entry *e, const char *ending, const char *type, int bytes, uint64_t *end)
{
    const uint64_t begin = *end;
    *end += elements(e) * (uint64_t)bytes;
    builder_format(json, "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[", json->length ? "," : "{", e->name, ending, type);
    add_shape(json, e);
    builder_format(json, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin, (unsigned long long)*end);
}

static void add_beside(builder *json, const entry *e, const char *ending, const char *type, int bytes, uint64_t count,
                       uint64_t *end)
{
    entry beside = {.dims = 1, .shape = {(int64_t)count}};
    memcpy(beside.name, e->name, sizeof beside.name);
    add_tensor(json, &beside, ending, type, bytes, end);
}

enum { NF4_BLOCK = 64 };

/* What bitsandbytes says of a matrix: the only values that are no holes, so they come first. */
static void add_states(const layout *l, builder *json, builder *values, uint64_t *end)
{
    for (int i = 0; i < l->count; i++) {
        builder state = {0};
        if (!is_matrix(&l->entry[i]))
            continue;
        builder_format(&state, "{\"quant_type\":\"nf4\",\"blocksize\":%d,\"dtype\":\"bfloat16\",\"shape\":[",
                       NF4_BLOCK);
        add_shape(&state, &l->entry[i]);
        builder_add(&state, "]}");
        add_beside(json, &l->entry[i], ".quant_state.bitsandbytes__nf4", "U8", 1, state.length, end);
        builder_add_bytes(values, state.text, state.length);
        builder_free(&state);
    }
}

/* Four bits, and a float for each block. */
static void add_nf4(builder *json, const entry *e, uint64_t *end)
{
    add_beside(json, e, "", "U8", 1, elements(e) / 2, end);
    add_beside(json, e, ".quant_map", "F32", 4, 16, end);
    add_beside(json, e, ".absmax", "F32", 4, elements(e) / NF4_BLOCK, end);
}

/* Returns the bytes of the values; *first: those that are in `out`. */
static uint64_t safetensors_header(const layout *l, const true_layout *wanted, builder *out, size_t *first)
{
    builder json = {0}, values = {0};
    uint64_t end = 0;
    if (wanted->nf4)
        add_states(l, &json, &values, &end);
    for (int i = 0; i < l->count; i++) {
        const entry *e = &l->entry[i];
        if (wanted->nf4 && is_matrix(e))
            add_nf4(&json, e, &end);
        else if (wanted->bf16 || wanted->nf4)
            add_tensor(&json, e, "", "BF16", 2, &end);
        else
            add_tensor(&json, e, "", "F8_E4M3", 1, &end);
    }
    builder_add(&json, "}");
    while (json.length % 8)
        builder_add(&json, " ");
    number(out, 8, json.length);
    builder_add_bytes(out, json.text, json.length);
    builder_add_bytes(out, values.text, values.length);
    *first = values.length;
    builder_free(&json);
    builder_free(&values);
    return end;
}

/* Vectors and convolutions in float32, matrices packed. */
static uint64_t gguf_header(const layout *l, int packed, builder *out)
{
    uint64_t end = 0;
    builder_add_bytes(out, "GGUF", 4);
    number(out, 4, 3);
    number(out, 8, (uint64_t)l->count);
    number(out, 8, 0);
    for (int i = 0; i < l->count; i++) {
        const entry *e = &l->entry[i];
        const bool matrix = is_matrix(e);
        const uint64_t bytes = matrix ? elements(e) / 32 * (packed == GGUF_Q8_0 ? 34 : 18) : elements(e) * 4;
        number(out, 8, strlen(e->name));
        builder_add(out, e->name);
        number(out, 4, (uint64_t)e->dims);
        for (int k = e->dims; k > 0; k--)
            number(out, 8, (uint64_t)e->shape[k - 1]);
        number(out, 4, matrix ? (uint64_t)packed : GGUF_F32);
        number(out, 8, end);
        end += (bytes + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT;
    }
    while (out->length % GGUF_ALIGNMENT)
        number(out, 1, 0);
    return end;
}

int true_layout_write(const char *path, const true_layout *wanted)
{
    layout l = {.prefix = "", .entry = calloc(TENSORS, sizeof *l.entry)};
    builder header = {0};
    size_t first = 0;
    assert_non_null(l.entry);
    if (wanted->transformer)
        transformer(&l, wanted);
    if (wanted->vae)
        vae(&l);
    if (wanted->clip)
        clip(&l);
    if (wanted->t5)
        t5(&l, or_else(wanted->t5_layers, 24));
    l.prefix = "";
    if (wanted->extra)
        ADD(&l, "%s", wanted->extra, 1);
    const uint64_t bytes = wanted->packed_bits
                               ? gguf_header(&l, wanted->packed_bits == 8 ? GGUF_Q8_0 : GGUF_Q4_0, &header)
                               : safetensors_header(&l, wanted, &header, &first);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_false(header.failed);
    assert_int_equal(fwrite(header.text, 1, header.length, f), header.length);
    fflush(f);
    assert_int_equal(ftruncate(fileno(f), (off_t)(header.length - first + bytes)), 0);
    fclose(f);
    builder_free(&header);
    free(l.entry);
    return l.count;
}
