/* A damaged folder is refused in one sentence that names what is wrong and where, and a damaged weight by the block
 * that it spoils. */
#include "support/damage.h"

#include <sys/stat.h>

static flux1_context *context;

/* Checks a failure: its status, every word of `named` (separated by |), and that it is one sentence on one line. */
static void expect(flux1_status got, flux1_status want, const char *named, const char *what)
{
    const char *message = flux1_context_message(context);
    char words[512], *rest = NULL;
    if (got != want)
        fail_msg("%s: %s, \"%s\"", what, flux1_status_name(got), message);
    snprintf(words, sizeof words, "%s", named);
    for (char *word = strtok_r(words, "|", &rest); word; word = strtok_r(NULL, "|", &rest))
        if (!strstr(message, word))
            fail_msg("%s: the message does not name \"%s\": \"%s\"", what, word, message);
    size_t length = strlen(message);
    if (!length || strchr(message, '\n') || message[length - 1] == '.' || strstr(message, ". "))
        fail_msg("%s: not one sentence: \"%s\"", what, message);
    printf("%s\n", message);
}

static void expect_refused(const copy *k, flux1_status want, const char *named, const char *what)
{
    flux1_model *m = NULL;
    flux1_status st = flux1_model_open(context, k->path, &m);
    assert_true(st == FLUX1_OK || m == NULL);
    expect(st, want, named, what);
    flux1_model_close(m);
}

/* ---- the folder ---- */

static void a_folder_that_is_not_there_is_refused(void **state)
{
    (void)state;
    flux1_model *m;
    expect(flux1_model_open(context, "/tmp/no such folder", &m), FLUX1_ERR_MODEL, "/tmp/no such folder|no such folder",
           "no folder");
    expect(flux1_model_open(context, TEST_DATA "/pipelines/schnell/model_index.json", &m), FLUX1_ERR_UNSUPPORTED,
           "model_index.json|a JSON file", "a file");
    expect(flux1_model_open(context, "", &m), FLUX1_ERR_ARGUMENT, "model", "nothing");
    expect(flux1_model_open(context, NULL, &m), FLUX1_ERR_ARGUMENT, "model", "NULL");
    expect(flux1_model_open(context, TEST_DATA "/tokenizers", &m), FLUX1_ERR_MODEL,
           "model_index.json|transformer/config.json|vae/config.json", "another folder");
}

static void each_missing_part_is_named(void **state)
{
    (void)state;
    static const char *const parts[][2] = {
        {"model_index.json", "model_index.json"},
        {"scheduler/scheduler_config.json", "scheduler/scheduler_config.json"},
        {"scheduler", "scheduler/scheduler_config.json"},
        {"text_encoder", "text_encoder/config.json"},
        {"text_encoder_2", "text_encoder_2/config.json"},
        {"transformer", "transformer/config.json"},
        {"vae", "vae/config.json"},
        {"vae/config.json", "vae/config.json"},
        {"tokenizer", "tokenizer"},
        {"tokenizer_2", "tokenizer_2"},
        {"tokenizer/vocab.json", "tokenizer"},
        {"tokenizer/merges.txt", "merges.txt"},
        {"tokenizer_2/tokenizer.json", "tokenizer_2"},
        {"text_encoder/model.safetensors", "text_encoder|model.safetensors"},
        {"text_encoder_2/model.safetensors", "text_encoder_2|model.safetensors"},
        {"transformer/diffusion_pytorch_model.safetensors", "transformer|diffusion_pytorch_model.safetensors"},
        {"vae/diffusion_pytorch_model.safetensors", "vae|diffusion_pytorch_model.safetensors"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        copy k = copy_of("schnell");
        copy_lose(&k, parts[i][0]);
        expect_refused(&k, FLUX1_ERR_MODEL, parts[i][1], parts[i][0]);
        copy_free(&k);
    }
    copy k = copy_of("schnell");
    copy_lose(&k, "vae");
    copy_lose(&k, "scheduler");
    copy_lose(&k, "tokenizer_2");
    expect_refused(&k, FLUX1_ERR_MODEL, "vae/config.json|scheduler/scheduler_config.json|tokenizer_2|are missing",
                   "three parts");
    copy_free(&k);
}

/* ---- configs ---- */

static void unreadable_json_is_refused(void **state)
{
    (void)state;
    static const char *const files[] = {"model_index.json",         "scheduler/scheduler_config.json",
                                        "text_encoder/config.json", "text_encoder_2/config.json",
                                        "transformer/config.json",  "vae/config.json"};
    copy k = copy_of("schnell");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        copy_cut(&k, files[i], 600);
        expect_refused(&k, FLUX1_ERR_FORMAT, files[i], "cut short");
        copy_cut(&k, files[i], 0);
        expect_refused(&k, FLUX1_ERR_FORMAT, files[i], "empty");
        copy_write(&k, files[i], "[1, 2]", 6);
        expect_refused(&k, FLUX1_ERR_FORMAT, files[i], "a list");
        copy_write(&k, files[i], "{\"a\":\"\xff\xfe\"}", 10);
        expect_refused(&k, FLUX1_ERR_FORMAT, files[i], "not UTF-8");
        size_t deep = 100000;
        char *nested = malloc(deep);
        assert_non_null(nested);
        memset(nested, '[', deep);
        copy_write(&k, files[i], nested, deep);
        expect_refused(&k, FLUX1_ERR_FORMAT, files[i], "too deep");
        free(nested);
        copy_lose(&k, files[i]);
        assert_int_equal(mkdir(copy_path(&k, files[i]), 0700), 0);
        expect_refused(&k, FLUX1_ERR_IO, files[i], "a folder in place of a file");
        copy_mend(&k, files[i]);
    }
    copy_free(&k);
}

typedef struct change {
    const char *file, *key, *value;
    flux1_status status;
    const char *named;
} change;

static void every_wrong_value_of_a_config_is_named(void **state)
{
    (void)state;
    static const change changes[] = {
        {"model_index.json", "_class_name", "\"FluxPriorReduxPipeline\"", FLUX1_ERR_UNSUPPORTED,
         "model_index.json|FluxPriorReduxPipeline"},
        {"model_index.json", "_class_name", "\"PixArtAlphaPipeline\"", FLUX1_ERR_UNSUPPORTED, "PixArtAlphaPipeline"},
        {"model_index.json", "_class_name", "7", FLUX1_ERR_FORMAT, "model_index.json|_class_name"},
        {"model_index.json", "_class_name", NULL, FLUX1_ERR_FORMAT, "model_index.json|_class_name"},
        {"scheduler/scheduler_config.json", "_class_name", "\"DDIMScheduler\"", FLUX1_ERR_UNSUPPORTED, "DDIMScheduler"},
        {"scheduler/scheduler_config.json", "use_karras_sigmas", "true", FLUX1_ERR_UNSUPPORTED, "use_karras_sigmas"},
        {"text_encoder/config.json", "hidden_act", "\"relu\"", FLUX1_ERR_UNSUPPORTED,
         "text_encoder/config.json|hidden_act|relu"},
        {"text_encoder/config.json", "hidden_size", "\"16\"", FLUX1_ERR_FORMAT, "text_encoder/config.json|hidden_size"},
        {"text_encoder/config.json", "hidden_size", "16.5", FLUX1_ERR_FORMAT, "text_encoder/config.json|hidden_size"},
        {"text_encoder/config.json", "hidden_size", "0", FLUX1_ERR_FORMAT, "text_encoder/config.json|hidden_size"},
        {"text_encoder/config.json", "hidden_size", "9223372036854775807", FLUX1_ERR_FORMAT,
         "text_encoder/config.json|hidden_size"},
        {"text_encoder/config.json", "hidden_size", NULL, FLUX1_ERR_MODEL, "hidden_size is 512"},
        {"text_encoder/config.json", "num_attention_heads", "3", FLUX1_ERR_FORMAT, "num_attention_heads"},
        {"text_encoder/config.json", "num_hidden_layers", "-1", FLUX1_ERR_FORMAT, "num_hidden_layers"},
        {"text_encoder/config.json", "max_position_embeddings", "20", FLUX1_ERR_MODEL, "20 positions"},
        {"text_encoder/config.json", "vocab_size", "100", FLUX1_ERR_MODEL, "tokenizer|100"},
        {"text_encoder_2/config.json", "vocab_size", "100", FLUX1_ERR_MODEL, "tokenizer_2|100"},
        {"text_encoder_2/config.json", "feed_forward_proj", "\"relu\"", FLUX1_ERR_UNSUPPORTED,
         "text_encoder_2/config.json|feed_forward_proj|relu"},
        {"text_encoder_2/config.json", "d_model", "24", FLUX1_ERR_MODEL,
         "text_encoder_2 d_model is 24|joint_attention_dim is 16"},
        {"text_encoder_2/config.json", "num_layers", "1e30", FLUX1_ERR_FORMAT, "num_layers"},
        {"text_encoder_2/config.json", "relative_attention_num_buckets", "2", FLUX1_ERR_FORMAT,
         "relative_attention_num_buckets"},
        {"text_encoder_2/config.json", "relative_attention_max_distance", "4", FLUX1_ERR_FORMAT,
         "relative_attention_max_distance"},
        {"transformer/config.json", "patch_size", "2", FLUX1_ERR_UNSUPPORTED, "patch_size"},
        {"transformer/config.json", "in_channels", "32", FLUX1_ERR_MODEL, "in_channels is 32"},
        {"transformer/config.json", "out_channels", "32", FLUX1_ERR_UNSUPPORTED, "out_channels 32"},
        {"transformer/config.json", "axes_dims_rope", "[4,6,7]", FLUX1_ERR_FORMAT, "axes_dims_rope"},
        {"transformer/config.json", "axes_dims_rope", "[4,6,8]", FLUX1_ERR_FORMAT, "axes_dims_rope|18"},
        {"transformer/config.json", "axes_dims_rope", "[8,8]", FLUX1_ERR_UNSUPPORTED, "axes_dims_rope"},
        {"transformer/config.json", "axes_dims_rope", "[1,1,1,1,1,1,1,1,1,1]", FLUX1_ERR_FORMAT, "axes_dims_rope"},
        {"transformer/config.json", "axes_dims_rope", "\"16\"", FLUX1_ERR_FORMAT, "axes_dims_rope"},
        {"transformer/config.json", "guidance_embeds", "1", FLUX1_ERR_FORMAT, "guidance_embeds"},
        {"transformer/config.json", "pooled_projection_dim", "768", FLUX1_ERR_MODEL,
         "pooled_projection_dim is 768|hidden_size is 16"},
        {"transformer/config.json", "num_layers", "4097", FLUX1_ERR_FORMAT, "num_layers"},
        {"vae/config.json", "act_fn", "\"gelu\"", FLUX1_ERR_UNSUPPORTED, "vae/config.json|act_fn|gelu"},
        {"vae/config.json", "latent_channels", "4", FLUX1_ERR_MODEL, "latent_channels is 16"},
        {"vae/config.json", "norm_num_groups", "3", FLUX1_ERR_FORMAT, "norm_num_groups"},
        {"vae/config.json", "block_out_channels", "[]", FLUX1_ERR_FORMAT, "block_out_channels"},
        {"vae/config.json", "block_out_channels", "[4,4,4,4,4,4,4,4,4]", FLUX1_ERR_FORMAT, "block_out_channels"},
        {"vae/config.json", "scaling_factor", "0", FLUX1_ERR_FORMAT, "scaling_factor"},
        {"vae/config.json", "in_channels", "4", FLUX1_ERR_UNSUPPORTED, "4 channels"},
        {"vae/config.json", "up_block_types", "[\"UpDecoderBlock2D\",\"AttnUpDecoderBlock2D\"]", FLUX1_ERR_UNSUPPORTED,
         "up_block_types"},
    };
    copy k = copy_of("schnell");
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        const change *c = &changes[i];
        char what[256];
        copy_set(&k, c->file, c->key, c->value);
        snprintf(what, sizeof what, "%s: %s = %s", c->file, c->key, c->value ? c->value : "nothing");
        expect_refused(&k, c->status, c->named, what);
        copy_mend(&k, c->file);
    }
    copy_free(&k);
}

/* ---- weights ---- */

#define CLIP "text_encoder/model.safetensors"
#define T5 "text_encoder_2/model.safetensors"
#define DIT "transformer/diffusion_pytorch_model.safetensors"
#define VAE "vae/diffusion_pytorch_model.safetensors"

static void rename_tensor(const copy *k, const char *file, const char *from, const char *to)
{
    tensors t = tensors_read(k, file);
    tensors_write(k, file, &t, from, to, false);
}

/* [a, b] becomes [b, a]: as many bytes, another shape. */
static void turn_tensor(const copy *k, const char *file, const char *name)
{
    tensors t = tensors_read(k, file);
    tensors_write(k, file, &t, name, name, true);
}

static void all_faults_of_all_components_are_in_one_message(void **state)
{
    (void)state;
    copy k = copy_of("schnell");
    rename_tensor(&k, CLIP, "text_model.encoder.layers.0.mlp.fc1.bias",
                  "text_model.encoder.layers.7.mlp.fc1.bias"); /* one missing, one extra */
    turn_tensor(&k, T5, "encoder.block.1.layer.1.DenseReluDense.wo.weight");
    rename_tensor(&k, DIT, "transformer_blocks.0.attn.to_out.0.bias", "lora.extra");
    turn_tensor(&k, DIT, "single_transformer_blocks.1.proj_out.weight");
    rename_tensor(&k, VAE, "encoder.conv_in.bias", "encoder.conv_inn.bias");
    expect_refused(&k, FLUX1_ERR_MODEL,
                   "text_model.encoder.layers.0.mlp.fc1.bias|text_model.encoder.layers.7.mlp.fc1.bias|encoder.block.1."
                   "layer.1.DenseReluDense.wo.weight|"
                   "transformer_blocks.0.attn.to_out.0.bias|lora.extra|single_transformer_blocks.1.proj_out.weight|"
                   "encoder.conv_in.bias|encoder.conv_inn.bias|"
                   "text_encoder|text_encoder_2|transformer|vae",
                   "faults everywhere");
    copy_free(&k);
}

static void cut_and_lost_weight_files_are_refused(void **state)
{
    (void)state;
    static const char *const files[] = {CLIP, T5, DIT, VAE};
    static const size_t keeps[] = {0, 1, 100, 500, 999};
    copy k = copy_of("schnell");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        for (size_t n = 0; n < sizeof keeps / sizeof keeps[0]; n++) {
            copy_cut(&k, files[i], keeps[n]);
            expect_refused(&k, FLUX1_ERR_FORMAT, files[i], "a cut file");
            copy_mend(&k, files[i]);
        }
    }
    copy_free(&k);
    k = copy_of("dev");
    copy_lose(&k, "transformer/diffusion_pytorch_model-00002-of-00003.safetensors");
    expect_refused(&k, FLUX1_ERR_MODEL, "transformer|diffusion_pytorch_model-00002-of-00003.safetensors",
                   "a missing shard");
    copy_mend(&k, "transformer/diffusion_pytorch_model-00002-of-00003.safetensors");
    copy_cut(&k, "text_encoder_2/model-00003-of-00003.safetensors", 700);
    expect_refused(&k, FLUX1_ERR_FORMAT, "text_encoder_2/model-00003-of-00003.safetensors", "a cut shard");
    copy_mend(&k, "text_encoder_2/model-00003-of-00003.safetensors");
    copy_cut(&k, "transformer/diffusion_pytorch_model.safetensors.index.json", 700);
    expect_refused(&k, FLUX1_ERR_FORMAT, "diffusion_pytorch_model.safetensors.index.json", "a cut index");
    copy_free(&k);
}

/* ---- NaN and infinity ---- */

typedef struct poison {
    const char *pipeline, *file, *tensor;
    const char *named; /* stage and block */
} poison;

static const poison POISONS[] = {
    {"schnell", CLIP, "text_model.encoder.layers.0.self_attn.q_proj.weight", "text_encoder (CLIP)|encoder.layers.0"},
    {"schnell", CLIP, "text_model.encoder.layers.1.mlp.fc2.weight", "text_encoder (CLIP)|encoder.layers.1"},
    {"schnell", CLIP, "text_model.encoder.layers.1.layer_norm2.weight", "text_encoder (CLIP)|encoder.layers.1"},
    {"schnell", CLIP, "text_model.embeddings.position_embedding.weight", "text_encoder (CLIP)|embeddings"},
    {"schnell", T5, "encoder.block.0.layer.0.SelfAttention.v.weight", "text_encoder_2 (T5)|encoder.block.0"},
    {"schnell", T5, "encoder.block.1.layer.1.DenseReluDense.wo.weight", "text_encoder_2 (T5)|encoder.block.1"},
    {"schnell", T5, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
     "text_encoder_2 (T5)|encoder.block.0"},
    {"schnell", T5, "encoder.final_layer_norm.weight", "text_encoder_2 (T5)|encoder.final_layer_norm"},
    {"schnell", DIT, "transformer_blocks.0.attn.to_q.weight", "transformer|transformer_blocks.0|step 1"},
    {"schnell", DIT, "transformer_blocks.0.attn.add_k_proj.bias", "transformer|transformer_blocks.0"},
    {"schnell", DIT, "transformer_blocks.0.ff.net.2.weight", "transformer|transformer_blocks.0"},
    {"schnell", DIT, "transformer_blocks.0.norm1.linear.bias", "transformer|transformer_blocks.0"},
    {"schnell", DIT, "single_transformer_blocks.0.attn.norm_k.weight", "transformer|single_transformer_blocks.0"},
    {"schnell", DIT, "single_transformer_blocks.1.proj_out.weight", "transformer|single_transformer_blocks.1"},
    {"schnell", DIT, "time_text_embed.timestep_embedder.linear_1.bias", "transformer|the embedders"},
    {"schnell", DIT, "context_embedder.weight", "transformer|the embedders"},
    {"schnell", DIT, "proj_out.bias", "transformer|proj_out"},
    {"schnell", VAE, "decoder.conv_in.weight", "vae|decoder.conv_in"},
    {"schnell", VAE, "decoder.mid_block.attentions.0.to_v.weight", "vae|decoder.mid_block"},
    {"schnell", VAE, "decoder.up_blocks.1.resnets.0.conv1.weight", "vae|decoder.up_blocks.1"},
    {"schnell", VAE, "decoder.up_blocks.3.resnets.2.norm2.weight", "vae|decoder.up_blocks.3"},
    {"schnell", VAE, "decoder.conv_out.bias", "vae|decoder.conv_out"},
    {"double", "transformer/diffusion_pytorch_model.safetensors", "transformer_blocks.1.attn.to_v.weight",
     "transformer|transformer_blocks.1"}, /* BF16 */
    {"single", DIT, "single_transformer_blocks.1.attn.to_v.weight",
     "transformer|single_transformer_blocks.1"}, /* F16 */
};

/* One request for a small picture. */
static void run_poisoned(const copy *k, const poison *p, bool nan, const char *shape, flux1_dtype type)
{
    char what[256];
    flux1_generate_params request;
    flux1_image *image = NULL;
    flux1_context *before = context;
    context = context_on("cpu", shape, 2, type);
    flux1_model *m = model_of(context, k->path);
    flux1_generate_params_defaults(&request);
    request.prompt = "a car";
    request.width = request.height = 32;
    request.steps = 2;
    snprintf(what, sizeof what, "%s, %s, %s on %s, %s", p->tensor, nan ? "NaN" : "infinity", shape, ops_cpu_isa(),
             type == FLUX1_DTYPE_F32 ? "f32" : "bf16");
    flux1_status st = flux1_generate(context, m, &request, &image);
    expect(st, FLUX1_ERR_NUMERIC, p->named, what);
    assert_null(image);
    flux1_model_close(m);
    flux1_context_destroy(context);
    context = before;
}

/* Whatever the instruction set, the arithmetic and the mesh: no clamp and no maximum on the way may swallow it. */
static void a_spoilt_weight_is_told_by_its_block(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof POISONS / sizeof POISONS[0]; i++) {
        const poison *p = &POISONS[i];
        copy k = copy_of(p->pipeline);
        for (int nan = 0; nan < 2; nan++) {
            copy_poison(&k, p->file, p->tensor, 0, nan);
            for (size_t s = 0; s < ISA_COUNT; s++)
                if (isa_choose(ISA_NAMES[s])) {
                    run_poisoned(&k, p, nan, "1x1", FLUX1_DTYPE_F32);
                    run_poisoned(&k, p, nan, "1x1", FLUX1_DTYPE_BF16);
                }
            isa_choose(NULL);
            run_poisoned(&k, p, nan, "2x2", FLUX1_DTYPE_F32);
        }
        copy_free(&k);
    }
}

static int make_context(void **state)
{
    (void)state;
    context = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    return 0;
}

static int destroy_context(void **state)
{
    (void)state;
    flux1_context_destroy(context);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_that_is_not_there_is_refused),
        cmocka_unit_test(each_missing_part_is_named),
        cmocka_unit_test(unreadable_json_is_refused),
        cmocka_unit_test(every_wrong_value_of_a_config_is_named),
        cmocka_unit_test(all_faults_of_all_components_are_in_one_message),
        cmocka_unit_test(cut_and_lost_weight_files_are_refused),
        cmocka_unit_test(a_spoilt_weight_is_told_by_its_block),
    };
    return cmocka_run_group_tests(tests, make_context, destroy_context);
}
