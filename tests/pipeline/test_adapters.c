/* Adapters beside the weights give the picture of the merged weights: files of each family are made here, and the same
 * products, by the formula, are added to a copy of the transformer. */
#include "support/golden_runs.h"
#include "support/safetensors_build.h"

#include "weights/safetensors.h"

#include <stdlib.h>

enum { HIDDEN = 32, MLP = 4 * HIDDEN, RANK = 3, TEXT = 16, PIXELS = 64 };

/* One pair: its key, and which rows of which of the model's tensors it changes, up to three in a row. */
typedef struct pair {
    const char *key;
    int out, in, parts;
    const char *target[4];
    bool swapped; /* its rows' halves are the other way round */
} pair;

typedef struct family {
    const char *name, *down, *up, *alpha; /* endings; alpha NULL: none */
    pair pair[6];
} family;

#define BLOCK "transformer_blocks.0."
#define SINGLE "single_transformer_blocks.0."

static const family families[] = {
    {"kohya",
     ".lora_down.weight",
     ".lora_up.weight",
     ".alpha",
     {{"lora_unet_double_blocks_0_img_attn_qkv",
       3 * HIDDEN,
       HIDDEN,
       3,
       {BLOCK "attn.to_q", BLOCK "attn.to_k", BLOCK "attn.to_v"},
       0},
      {"lora_unet_double_blocks_0_txt_mlp_2", HIDDEN, MLP, 1, {BLOCK "ff_context.net.2"}, 0},
      {"lora_unet_single_blocks_0_linear1",
       3 * HIDDEN + MLP,
       HIDDEN,
       4,
       {SINGLE "attn.to_q", SINGLE "attn.to_k", SINGLE "attn.to_v", SINGLE "proj_mlp"},
       0},
      {"lora_unet_single_blocks_0_linear2", HIDDEN, HIDDEN + MLP, 1, {SINGLE "proj_out"}, 0},
      {"lora_unet_double_blocks_0_img_mod_lin", 6 * HIDDEN, HIDDEN, 1, {BLOCK "norm1.linear"}, 0},
      {"lora_unet_final_layer_adaLN_modulation_1", 2 * HIDDEN, HIDDEN, 1, {"norm_out.linear"}, 1}}},
    {"PEFT",
     ".lora_A.weight",
     ".lora_B.weight",
     NULL,
     {{"transformer." BLOCK "attn.to_k", HIDDEN, HIDDEN, 1, {BLOCK "attn.to_k"}, 0},
      {"transformer." BLOCK "attn.to_v", HIDDEN, HIDDEN, 1, {BLOCK "attn.to_v"}, 0},
      {"transformer." BLOCK "attn.to_add_out", HIDDEN, HIDDEN, 1, {BLOCK "attn.to_add_out"}, 0},
      {"transformer." SINGLE "proj_mlp", MLP, HIDDEN, 1, {SINGLE "proj_mlp"}, 0},
      {"transformer." SINGLE "proj_out", HIDDEN, HIDDEN + MLP, 1, {SINGLE "proj_out"}, 0},
      {"transformer.x_embedder", HIDDEN, PIXELS, 1, {"x_embedder"}, 0}}},
    {"OneTrainer",
     ".lora_down.weight",
     ".lora_up.weight",
     ".alpha",
     {{"lora_transformer_transformer_blocks_0_attn_to_out_0", HIDDEN, HIDDEN, 1, {BLOCK "attn.to_out.0"}, 0},
      {"lora_transformer_transformer_blocks_0_ff_net_0_proj", MLP, HIDDEN, 1, {BLOCK "ff.net.0.proj"}, 0},
      {"lora_transformer_context_embedder", HIDDEN, TEXT, 1, {"context_embedder"}, 0},
      {"lora_transformer_time_text_embed_timestep_embedder_linear_2",
       HIDDEN,
       HIDDEN,
       1,
       {"time_text_embed.timestep_embedder.linear_2"},
       0},
      {"lora_transformer_proj_out", PIXELS, HIDDEN, 1, {"proj_out"}, 0}}},
    {"XLabs",
     ".down.weight",
     ".up.weight",
     NULL,
     {{"double_blocks.0.processor.qkv_lora1",
       3 * HIDDEN,
       HIDDEN,
       3,
       {BLOCK "attn.to_q", BLOCK "attn.to_k", BLOCK "attn.to_v"},
       0},
      {"double_blocks.0.processor.proj_lora2", HIDDEN, HIDDEN, 1, {BLOCK "attn.to_add_out"}, 0},
      {"single_blocks.0.processor.qkv_lora",
       3 * HIDDEN,
       HIDDEN,
       3,
       {SINGLE "attn.to_q", SINGLE "attn.to_k", SINGLE "attn.to_v"},
       0}}},
    {"ComfyUI",
     ".lora_A.weight",
     ".lora_B.weight",
     ".alpha",
     {{"diffusion_model.double_blocks.0.txt_attn.qkv",
       3 * HIDDEN,
       HIDDEN,
       3,
       {BLOCK "attn.add_q_proj", BLOCK "attn.add_k_proj", BLOCK "attn.add_v_proj"},
       0},
      {"diffusion_model.single_blocks.0.modulation.lin", 3 * HIDDEN, HIDDEN, 1, {SINGLE "norm.linear"}, 0}}},
    {"fal",
     ".lora_A.weight",
     ".lora_B.weight",
     NULL,
     {{"base_model.model.double_blocks.0.img_attn.proj", HIDDEN, HIDDEN, 1, {BLOCK "attn.to_out.0"}, 0}}},
    {"DiffSynth",
     ".lora_A.default.weight",
     ".lora_B.default.weight",
     NULL,
     {{BLOCK "attn.to_q", HIDDEN, HIDDEN, 1, {BLOCK "attn.to_q"}, 0},
      {BLOCK "ff.net.0.proj", MLP, HIDDEN, 1, {BLOCK "ff.net.0.proj"}, 0},
      {"proj_out", PIXELS, HIDDEN, 1, {"proj_out"}, 0}}},
};

static char folder[] = "/tmp/flux1_adapters_XXXXXX";
static const char weights[] = "diffusion_pytorch_model.safetensors";

static const char *in_folder(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static unsigned char *read_whole(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, f), *size);
    fclose(f);
    return bytes;
}

static void write_whole(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

/* Made up, the same each time. */
static float value(int seed, int i) { return (float)((seed * 7919 + i * 104729) % 2003 - 1001) / 4000; }

/* ---- the merged copy ---- */

/* Adds scale · up[first + row]·down to the rows of `<target>.weight`; returns their number. */
static int merge_into(unsigned char *bytes, size_t size, const pair *p, int seed, const char *target, int first,
                      float scale)
{
    safetensors s = {0};
    flux1_error err = {0};
    char name[200];
    snprintf(name, sizeof name, "%s.weight", target);
    assert_int_equal(safetensors_parse(bytes, size, "copy", &s, &err), FLUX1_OK);
    const safetensors_entry *e = safetensors_find(&s, name);
    assert_non_null(e);
    assert_int_equal(e->view.type, DTYPE_F32);
    assert_int_equal(e->view.shape[1], p->in);
    const int rows = (int)e->view.shape[0];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < p->in; c++) {
            float w, sum = 0;
            const int up_row = p->swapped ? (first + r + p->out / 2) % p->out : first + r;
            for (int k = 0; k < RANK; k++)
                sum += value(seed + 1, up_row * RANK + k) * value(seed, k * p->in + c);
            unsigned char *at = (unsigned char *)e->view.data + 4 * ((size_t)r * (size_t)p->in + (size_t)c);
            memcpy(&w, at, 4);
            w += scale * sum;
            memcpy(at, &w, 4);
        }
    safetensors_free(&s);
    return rows;
}

static void make_copy(const char *pipeline, const family *f, float scale)
{
    char path[600];
    size_t size;
    snprintf(path, sizeof path, "%s/transformer/%s", pipeline, weights);
    unsigned char *bytes = read_whole(path, &size);
    for (int i = 0; i < 6 && f->pair[i].key; i++) {
        const pair *p = &f->pair[i];
        int first = 0;
        for (int k = 0; k < p->parts; k++)
            first += merge_into(bytes, size, p, 10 * i, p->target[k], first, scale * (f->alpha ? 2.0f / RANK : 1));
        assert_int_equal(first, p->out);
    }
    write_whole(in_folder(weights), bytes, size);
    free(bytes);
    snprintf(path, sizeof path, "%s/transformer/config.json", pipeline);
    bytes = read_whole(path, &size);
    write_whole(in_folder("config.json"), bytes, size);
    free(bytes);
}

/* ---- the file of adapters ---- */

typedef struct maker {
    char header[16384];
    size_t used, bytes;
    float data[1 << 16];
} maker;

static void put(maker *m, const char *key, const char *ending, const char *shape, int seed, int count)
{
    m->used += (size_t)snprintf(m->header + m->used, sizeof m->header - m->used,
                                "%s\"%s%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                                m->used > 1 ? "," : "", key, ending, shape, m->bytes, m->bytes + 4 * (size_t)count);
    for (int i = 0; i < count; i++)
        m->data[m->bytes / 4 + (size_t)i] = seed < 0 ? 2 : value(seed, i);
    m->bytes += 4 * (size_t)count;
}

static maker *begin_file(void)
{
    static maker m;
    m.used = (size_t)snprintf(m.header, sizeof m.header, "{");
    m.bytes = 0;
    return &m;
}

static void end_file(maker *m, const char *path)
{
    size_t size;
    snprintf(m->header + m->used, sizeof m->header - m->used, "}");
    unsigned char *bytes = safetensors_build(m->header, m->data, m->bytes, &size);
    write_whole(path, bytes, size);
    free(bytes);
}

static void make_file(const family *f, const char *path)
{
    maker *m = begin_file();
    char shape[64];
    for (int i = 0; i < 6 && f->pair[i].key; i++) {
        const pair *p = &f->pair[i];
        snprintf(shape, sizeof shape, "[%d,%d]", RANK, p->in);
        put(m, p->key, f->down, shape, 10 * i, RANK * p->in);
        snprintf(shape, sizeof shape, "[%d,%d]", p->out, RANK);
        put(m, p->key, f->up, shape, 10 * i + 1, p->out * RANK);
        if (f->alpha)
            put(m, p->key, f->alpha, "[]", -1, 1);
    }
    end_file(m, path);
}

/* ---- pictures ---- */

static flux1_image *picture(flux1_context *c, flux1_model *m, const golden *g, const flux1_adapter_use *uses, int count)
{
    flux1_image *image;
    flux1_generate_params p = g->params;
    p.width = p.height = 32;
    p.dump = NULL;
    p.adapters = uses;
    p.adapter_count = count;
    if (flux1_generate(c, m, &p, &image) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    return image;
}

static int farthest(const flux1_image *a, const flux1_image *b)
{
    int most = 0;
    for (int i = 0; i < a->width * a->height * 3; i++) {
        const int d = abs(a->pixels[i] - b->pixels[i]);
        most = d > most ? d : most;
    }
    return most;
}

/* With the adapter, with it at 0, and with it again: the last one has nothing of the one before. */
static void compare(flux1_context *c, const golden *g, const family *f, const flux1_image *plain)
{
    const float scale = 0.75f;
    flux1_model *model = model_of(c, g->folder), *merged;
    flux1_adapter *a;
    char file[300];
    snprintf(file, sizeof file, "%s/lora.safetensors", folder);
    make_file(f, file);
    make_copy(g->folder, f, scale);
    if (flux1_adapter_open(c, model, file, &a) != FLUX1_OK)
        fail_msg("%s: %s", f->name, flux1_context_message(c));
    flux1_model_parts parts = {.size = sizeof parts, .model = g->folder, .transformer = folder};
    if (flux1_model_open_parts(c, &parts, &merged) != FLUX1_OK)
        fail_msg("%s: %s", f->name, flux1_context_message(c));
    flux1_image *want = picture(c, merged, g, NULL, 0);
    flux1_image *got = picture(c, model, g, &(flux1_adapter_use){a, scale}, 1);
    flux1_image *none = picture(c, model, g, &(flux1_adapter_use){a, 0}, 1);
    flux1_image *halves = picture(c, model, g, (flux1_adapter_use[]){{a, scale / 2}, {a, scale / 2}}, 2);
    flux1_adapter_close(a);
    flux1_image *without = picture(c, model, g, NULL, 0);
    if (farthest(got, want) > 1 || farthest(halves, want) > 1 || farthest(none, plain) > 0 ||
        farthest(without, plain) > 0)
        fail_msg("%s: %d from the merged picture, halves %d, at 0 %d, after it %d", f->name, farthest(got, want),
                 farthest(halves, want), farthest(none, plain), farthest(without, plain));
    if (farthest(want, plain) < 4)
        fail_msg("%s: the adapter changes too little to be seen", f->name);
    flux1_images_free(want, 1), flux1_images_free(got, 1), flux1_images_free(none, 1);
    flux1_images_free(halves, 1), flux1_images_free(without, 1);
    flux1_model_close(merged);
    flux1_model_close(model);
}

static void every_family_is_the_merged_picture(void **state)
{
    (void)state;
    static const char *const places[][2] = {
        {"ref", "1x1"}, {TEST_DEVICE, "1x1"}, {TEST_DEVICE, "1x2"}, {TEST_DEVICE, "2x2"}};
    golden g;
    golden_open("schnell", "car", &g);
    g.params.count = 1;
    g.params.steps = 2;
    for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
        flux1_context *c = context_on(places[k][0], places[k][1], 1, FLUX1_DTYPE_F32);
        flux1_model *m = model_of(c, g.folder);
        flux1_image *plain = picture(c, m, &g, NULL, 0);
        for (size_t i = 0; i < sizeof families / sizeof *families; i++)
            compare(c, &g, &families[i], plain);
        flux1_images_free(plain, 1);
        flux1_model_close(m);
        flux1_context_destroy(c);
    }
    golden_close(&g);
}

/* ---- what does not apply ---- */

static void keep_warning(void *user, flux1_log_level level, const char *message)
{
    if (level == FLUX1_LOG_WARNING)
        strcat(user, message);
}

/* One pair that applies, `missing` for layers that the model does not have, and `strange` keys that belong to none. */
static void make_partial_file(const char *path, int missing, int strange)
{
    maker *m = begin_file();
    char key[80], shape[64];
    snprintf(shape, sizeof shape, "[1,%d]", HIDDEN);
    for (int i = 0; i <= missing; i++) {
        snprintf(key, sizeof key, "transformer.transformer_blocks.%d.attn.to_k", i ? 90 + i : 0);
        put(m, key, ".lora_A.weight", shape, 0, HIDDEN);
        snprintf(shape, sizeof shape, "[%d,1]", HIDDEN);
        put(m, key, ".lora_B.weight", shape, 1, HIDDEN);
        snprintf(shape, sizeof shape, "[1,%d]", HIDDEN);
    }
    for (int i = 0; i < strange; i++) {
        snprintf(key, sizeof key, "strange.%d", i);
        put(m, key, "", "[1]", 2, 1);
    }
    end_file(m, path);
}

static void what_does_not_apply_is_a_warning(void **state)
{
    (void)state;
    static const struct {
        int missing, strange;
        const char *warning;
    } rows[] = {
        {0, 0, NULL},
        {1, 0, "1 of 2 entries apply; keys left out: transformer.transformer_blocks.91.attn.to_k.lora_A.weight"},
        {0, 5, "1 of 1 entries apply; keys left out: strange.0, strange.1, strange.2, strange.3, strange.4"},
        {0, 6, "1 of 1 entries apply; keys left out: strange.0, strange.1, strange.2, strange.3, strange.4, …"}};
    char path[300], expected[900];
    snprintf(path, sizeof path, "%s/partial.safetensors", folder);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char said[4096] = "";
        flux1_context_params cp = {.size = sizeof cp, .device = "ref", .log = keep_warning, .log_user = said};
        flux1_context *c;
        flux1_adapter *a;
        assert_int_equal(flux1_context_create(&cp, &c), FLUX1_OK);
        flux1_model *m = model_of(c, TEST_DATA "/pipelines/schnell");
        make_partial_file(path, rows[i].missing, rows[i].strange);
        said[0] = '\0';
        if (flux1_adapter_open(c, m, path, &a) != FLUX1_OK)
            fail_msg("%s", flux1_context_message(c));
        snprintf(expected, sizeof expected, "%s: %s", path, rows[i].warning ? rows[i].warning : "");
        assert_string_equal(said, rows[i].warning ? expected : "");
        flux1_adapter_close(a);
        flux1_model_close(m);
        flux1_context_destroy(c);
    }
}

static int begin(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_family_is_the_merged_picture),
                                       cmocka_unit_test(what_does_not_apply_is_a_warning)};
    return cmocka_run_group_tests(tests, begin, end);
}
