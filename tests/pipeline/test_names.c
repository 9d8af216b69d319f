/* Folders of other writers: the names and configs that diffusers and transformers map, and what they ignore. Each is
 * the schnell pipeline with one part written differently, and draws its golden. */
#include "support/damage.h"
#include "support/golden_runs.h"

#include "pipeline/folder.h"

#define CLIP "text_encoder/model.safetensors"
#define T5 "text_encoder_2/model.safetensors"
#define VAE "vae/diffusion_pytorch_model.safetensors"

enum { CHANGES = 5, CONFIG_ROOM = 4096 };

typedef struct change {
    const char *from, *to;
} change;

static char *replace_all(const char *text, const change *c)
{
    const size_t longer = strlen(c->to) > strlen(c->from) ? strlen(c->to) - strlen(c->from) : 0;
    size_t count = 0;
    for (const char *p = text; (p = strstr(p, c->from)); p += strlen(c->from))
        count++;
    assert_true(count > 0);
    char *out = malloc(strlen(text) + count * longer + 1), *to = out;
    assert_non_null(out);
    for (const char *p; (p = strstr(text, c->from)); text = p + strlen(c->from)) {
        memcpy(to, text, (size_t)(p - text));
        to += p - text;
        to = stpcpy(to, c->to);
    }
    strcpy(to, text);
    return out;
}

/* Writes a safetensors file again, its header with every text changed. */
static void rewrite_header(const copy *k, const char *part, const change *changes)
{
    tensors t = tensors_read(k, part);
    char *header = calloc(1, t.data - 8 + 1);
    assert_non_null(header);
    memcpy(header, t.bytes + 8, t.data - 8);
    for (size_t i = 0; i < CHANGES && changes[i].from; i++) {
        char *next = replace_all(header, &changes[i]);
        free(header);
        header = next;
    }
    const uint64_t length = strlen(header);
    unsigned char *file = malloc(8 + length + t.size - t.data);
    assert_non_null(file);
    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length, t.bytes + t.data, t.size - t.data);
    copy_write(k, part, file, 8 + length + t.size - t.data);
    free(file);
    free(header);
    json_free(t.header);
    free(t.bytes);
}

/* `ignored`: what the note about unused tensors says; NULL: there is none. */
static void check_draws(const copy *k, const char *what, const char *ignored)
{
    golden g;
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, k->path);
    golden_open("schnell", "car", &g);
    run_case(c, m, &g, what);
    if (!ignored != !m->unused || (ignored && !strstr(m->unused, ignored)))
        fail_msg("%s: the note is \"%s\"", what, m->unused ? m->unused : "");
    golden_close(&g);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

static void names_of_other_writers_are_mapped(void **state)
{
    (void)state;
    static const struct {
        const char *what, *part, *ignored;
        change changes[CHANGES];
    } cases[] = {
        {"CLIP without text_model.", CLIP, NULL, {{"\"text_model.", "\""}}},
        {"CLIP behind clip.", CLIP, NULL, {{"\"text_model.", "\"clip.text_model."}}},
        {"T5's embedding in the encoder", T5, NULL, {{"\"shared.", "\"encoder.embed_tokens."}}},
        {"T5 behind transformer.",
         T5,
         NULL,
         {{"\"shared.", "\"transformer.shared."}, {"\"encoder.", "\"transformer.encoder."}}},
        {"the VAE's old attention",
         VAE,
         NULL,
         {{".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}}},
        {"the VAE's old attention as convolutions",
         VAE,
         NULL,
         {{".to_q.", ".query."},
          {".to_k.", ".key."},
          {".to_v.", ".value."},
          {".to_out.0.", ".proj_attn."},
          {"[8,8]", "[8,8,1,1]"}}},
        {"a VAE without encoder",
         VAE,
         "tensors that such a model does not have: \"loss.conv_in",
         {{"\"encoder.", "\"loss."}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        copy k = copy_of("schnell");
        rewrite_header(&k, cases[i].part, cases[i].changes);
        check_draws(&k, cases[i].what, cases[i].ignored);
        copy_free(&k);
    }
}

/* CLIPModel's config has the text encoder's inside. */
static void nest_config(const copy *k)
{
    char text[CONFIG_ROOM], nested[CONFIG_ROOM + 64];
    FILE *f = fopen(copy_path(k, "text_encoder/config.json"), "rb");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    const int length = snprintf(
        nested, sizeof nested, "{\"model_type\": \"clip\", \"hidden_size\": 3, \"text_config\": %s, \"x\": NaN}", text);
    copy_write(k, "text_encoder/config.json", nested, (size_t)length);
}

static void configs_are_read_as_the_oracle_reads_them(void **state)
{
    (void)state;
    copy k = copy_of("schnell");
    copy_set(&k, "text_encoder/config.json", "max_position_embeddings", NULL); /* 77 by default */
    copy_set(&k, "text_encoder/config.json", "initializer_range", "-Infinity");
    copy_set(&k, "model_index.json", "_class_name", "\"FluxKontextPipeline\"");
    copy_set(&k, "transformer/config.json", "out_channels", "null");
    check_draws(&k, "defaults, numbers of Python, another FLUX pipeline", NULL);
    nest_config(&k);
    check_draws(&k, "a nested text_config", NULL);
    copy_free(&k);
}

/* The built-in tokenizers are for FLUX.1's vocabularies: umT5's is another one, though larger. */
static void another_vocabulary_needs_its_own_tokenizers(void **state)
{
    (void)state;
    char part[COMPONENTS][128];
    model_paths paths = {0};
    struct flux1_model *m = NULL;
    flux1_error err = {0};
    copy k = copy_of("schnell");
    copy_set(&k, "text_encoder/config.json", "vocab_size", "49408");
    copy_set(&k, "text_encoder_2/config.json", "vocab_size", "256384");
    for (int c = 0; c < COMPONENTS; c++) {
        snprintf(part[c], sizeof part[c], "%s/%s", k.path, component_folder((component)c));
        paths.part[c] = part[c];
    }
    assert_int_equal(folder_open_parts(&paths, &m, &err), FLUX1_ERR_MODEL);
    assert_null(m);
    if (!strstr(err.message, "the built-in one for T5 has 32100 entries, the embedding table 256384"))
        fail_msg("%s", err.message);
    copy_free(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_other_writers_are_mapped),
        cmocka_unit_test(configs_are_read_as_the_oracle_reads_them),
        cmocka_unit_test(another_vocabulary_needs_its_own_tokenizers),
    };
    return cmocka_run_group_tests_name("pipeline: other writers' names", tests, NULL, NULL);
}
