/* flux1_convert: converted parts give the oracle's pictures, every pair of forms keeps values, merged adapters are the
 * formula's, rules and bad input. */
#include "support/golden_runs.h"

#include "base/builder.h"
#include "base/file.h"
#include "flux1_tools.h"
#include "pipeline/folder.h"

#define FILES TEST_DATA "/files/"
#define PACKED TEST_DATA "/pipelines/packed"
#define SCHNELL TEST_DATA "/pipelines/schnell"

static flux1_context *context;

static int open_context(void **state)
{
    (void)state;
    context = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    return 0;
}

static int close_context(void **state)
{
    (void)state;
    flux1_context_destroy(context);
    return 0;
}

/* Another path in each call. */
static char *fresh(const char *ending)
{
    static char path[8][256];
    static unsigned next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "/tmp/flux1-convert-%d-%u.%s", (int)getpid(), next, ending);
    return p;
}

static flux1_convert_params params(const char *type, const char *part)
{
    flux1_convert_params p;
    flux1_convert_params_defaults(&p);
    p.type = type;
    p.part = part;
    return p;
}

static char *convert_with(const char *in, const char *ending, const flux1_convert_params *p)
{
    char *out = fresh(ending), *json = NULL;
    if (flux1_convert(context, in, out, p, &json) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(context));
    assert_non_null(strstr(json, "bits_per_parameter"));
    flux1_string_free(json);
    return out;
}

static char *convert(const char *in, const char *ending, const char *type, const char *part)
{
    const flux1_convert_params p = params(type, part);
    return convert_with(in, ending, &p);
}

static store *part_of(const char *path, model_part part)
{
    store *s;
    flux1_error err = {0};
    if (store_open_part(path, part, &s, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return s;
}

static void values_of(const store *s, const char *name, float *out)
{
    flux1_error err = {0};
    const store_tensor *t = store_find(s, name);
    if (!t)
        fail_msg("%s lacks %s", store_path(s), name);
    const int64_t half = tensor_elements(&t->view) / 2;
    const store_tensor *low = t->half[0] ? t->half[0] : t;
    assert_int_equal(tensor_decode(&low->view, 0, t->half[0] ? half : tensor_elements(&t->view), out, &err), FLUX1_OK);
    if (t->half[1])
        assert_int_equal(tensor_decode(&t->half[1]->view, 0, half, out + half, &err), FLUX1_OK);
}

/* The same tensors with the same values. */
static void expect_same(const char *a, const char *b, model_part part)
{
    store *x = part_of(a, part), *y = part_of(b, part);
    assert_int_equal(store_count(x), store_count(y));
    for (size_t i = 0; i < store_count(x); i++) {
        const store_tensor *t = store_at(x, i);
        const size_t n = (size_t)tensor_elements(&t->view);
        float *p = malloc(n * sizeof *p), *q = malloc(n * sizeof *q);
        values_of(x, t->name, p);
        values_of(y, t->name, q);
        if (memcmp(p, q, n * sizeof *p) != 0)
            fail_msg("%s and %s differ in %s", a, b, t->name);
        free(p);
        free(q);
    }
    store_close(x);
    store_close(y);
}

static void check_picture(const char *form, const model_paths *paths)
{
    golden g;
    struct flux1_model *m = NULL;
    flux1_error err = {0};
    if (folder_open_parts(paths, &m, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    golden_open("files", form, &g);
    run_case(context, m, &g, form);
    golden_close(&g);
    flux1_model_close(m);
}

/* The oracle quantised by the same rules, with the gguf package and torch. */
static void pictures_are_the_oracle_s(void **state)
{
    (void)state;
    static const struct {
        const char *type, *ending;
    } rows[] = {{"q4_0", "gguf"}, {"fp8_scaled", "safetensors"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *dit = convert(PACKED, rows[i].ending, rows[i].type, "transformer"),
             *t5 = convert(PACKED, rows[i].ending, rows[i].type, "t5"),
             *clip = convert(PACKED, rows[i].ending, rows[i].type, "clip"),
             *vae = convert(PACKED, rows[i].ending, rows[i].type, "vae");
        const model_paths paths = {
            .model = PACKED,
            .part = {[COMPONENT_CLIP] = clip, [COMPONENT_T5] = t5, [COMPONENT_DIT] = dit, [COMPONENT_VAE] = vae}};
        check_picture(rows[i].type, &paths);
        unlink(dit), unlink(t5), unlink(clip), unlink(vae);
    }
}

/* What files and folders hold, decoded to f32 in a file of either format, gives the picture of the form. */
static void every_form_converts_to_its_picture(void **state)
{
    (void)state;
    static const struct {
        const char *form, *dit, *t5, *part;
    } rows[] = {
        {"comfy", FILES "comfy/flux1-fp8.safetensors", FILES "comfy/flux1-fp8.safetensors", "transformer"},
        {"scaled", FILES "scaled/flux1.safetensors", NULL, NULL},
        {"gguf", FILES "gguf/flux1.gguf", FILES "gguf/t5.gguf", NULL},
        {"bnb", FILES "bnb/transformer", FILES "bnb/text_encoder_2", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int format = 0; format < 2; format++) {
            const char *ending = format ? "gguf" : "safetensors";
            char *dit = convert(rows[i].dit, ending, "f32", rows[i].part),
                 *t5 = rows[i].t5 ? convert(rows[i].t5, ending, "f32", "t5") : NULL;
            const bool comfy = i == 0, packed_clip = i == 2;
            const model_paths paths = {.model = PACKED,
                                       .part = {[COMPONENT_CLIP] = comfy         ? FILES "comfy/flux1-fp8.safetensors"
                                                                   : packed_clip ? FILES "gguf/clip.gguf"
                                                                                 : NULL,
                                                [COMPONENT_VAE] = comfy ? FILES "comfy/flux1-fp8.safetensors" : NULL,
                                                [COMPONENT_T5] = t5,
                                                [COMPONENT_DIT] = dit}};
            check_picture(rows[i].form, &paths);
            unlink(dit);
            if (t5)
                unlink(t5);
        }
}

/* Between names and formats nothing changes: the stored bytes are taken over. */
static void keep_changes_no_value(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        model_part part;
    } rows[] = {{FILES "gguf/flux1.gguf", MODEL_TRANSFORMER},
                {FILES "gguf/t5.gguf", MODEL_T5},
                {FILES "bfl/flux1.safetensors", MODEL_TRANSFORMER},
                {FILES "bfl/ae.safetensors", MODEL_VAE},
                {FILES "bfl/clip_l.safetensors", MODEL_CLIP}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        flux1_convert_params p = params("keep", NULL);
        char *as_gguf = convert_with(rows[i].path, "gguf", &p), *bfl = convert(as_gguf, "safetensors", "f32", NULL);
        p.type = "f32";
        p.names = "diffusers";
        char *ours = convert_with(rows[i].path, "safetensors", &p);
        expect_same(rows[i].path, as_gguf, rows[i].part);
        expect_same(rows[i].path, bfl, rows[i].part);
        expect_same(bfl, ours, rows[i].part);
        unlink(as_gguf), unlink(bfl), unlink(ours);
    }
}

/* The scales of fp8 are kept where one is enough for a fused weight. */
static void scaled_fp8_is_kept(void **state)
{
    (void)state;
    char *once = convert(PACKED, "safetensors", "fp8_scaled", "transformer"),
         *again = convert(once, "safetensors", "keep", NULL);
    expect_same(once, again, MODEL_TRANSFORMER);
    store *s = part_of(again, MODEL_TRANSFORMER);
    assert_int_equal(store_find(s, "transformer_blocks.0.attn.to_k.weight")->view.type, DTYPE_F8_E4M3);
    assert_int_equal(store_find(s, "x_embedder.weight")->view.type, DTYPE_BF16);
    store_close(s);
    unlink(once), unlink(again);
}

/* ---- adapters ---- */

/* W + strength · alpha/rank · up·down for rows of the fused tensor; alpha 4, rank 2 (tools/oracle/lora_files.py). */
static void check_merged(const store *plain, const store *merged, const store *lora, const char *key, const char *name,
                         int64_t first, double strength)
{
    char down_name[128], up_name[128];
    const tensor *w = &store_find(plain, name)->view;
    const int64_t rows = w->shape[0], cols = w->shape[1];
    float *a = malloc((size_t)(rows * cols) * 4), *b = malloc((size_t)(rows * cols) * 4), down[2 * 160], up[224 * 2];
    snprintf(down_name, sizeof down_name, "%s.lora_down.weight", key);
    snprintf(up_name, sizeof up_name, "%s.lora_up.weight", key);
    values_of(plain, name, a);
    values_of(merged, name, b);
    values_of(lora, down_name, down);
    values_of(lora, up_name, up);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            double want = a[r * cols + c];
            for (int k = 0; k < 2; k++)
                want += strength * 2 * (double)up[(first + r) * 2 + k] * (double)down[k * cols + c];
            if (!(fabs(b[r * cols + c] - want) <= 1e-6 * (1 + fabs(want))))
                fail_msg("%s [%d, %d] is %g, it should be %g", name, (int)r, (int)c, (double)b[r * cols + c], want);
        }
    free(a);
    free(b);
}

static void adapters_are_merged(void **state)
{
    (void)state;
    const flux1_adapter_file twice[] = {{FILES "lora/kohya.safetensors", 1}, {FILES "lora/kohya.safetensors", -1.75f}};
    flux1_convert_params p = params("f32", "transformer");
    store *lora;
    for (int names = 0; names < 2; names++) {
        p.names = names ? "diffusers" : "bfl";
        p.adapter_count = 0;
        char *plain_path = convert_with(SCHNELL, "safetensors", &p);
        p.adapters = twice;
        p.adapter_count = 2;
        char *merged_path = convert_with(SCHNELL, "safetensors", &p);
        store *plain = part_of(plain_path, MODEL_TRANSFORMER), *merged = part_of(merged_path, MODEL_TRANSFORMER);
        assert_int_equal(store_open_file(twice[0].path, &lora, NULL), FLUX1_OK);
        check_merged(plain, merged, lora, "lora_unet_double_blocks_0_img_attn_qkv",
                     "transformer_blocks.0.attn.to_v.weight", 64, -0.75);
        check_merged(plain, merged, lora, "lora_unet_single_blocks_0_linear1",
                     "single_transformer_blocks.0.proj_mlp.weight", 96, -0.75);
        check_merged(plain, merged, lora, "lora_unet_single_blocks_1_linear2",
                     "single_transformer_blocks.1.proj_out.weight", 0, -0.75);
        assert_string_equal(container_metadata(store_file(merged, 0), "flux1.merged_lora"),
                            "kohya.safetensors:1, kohya.safetensors:-1.75");
        store_close(plain), store_close(merged), store_close(lora);
        unlink(plain_path), unlink(merged_path);
    }
}

/* ---- types and metadata ---- */

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static dtype type_of(const char *path, model_part part, const char *name)
{
    store *s = part_of(path, part);
    const store_tensor *t = store_find(s, name);
    assert_non_null(t);
    const dtype type = t->view.type;
    store_close(s);
    return type;
}

static void rules_choose_types(void **state)
{
    (void)state;
    char *rules = fresh("rules");
    flux1_convert_params p = params("q8_0", "transformer");
    write_text(rules,
               "# first fit counts\n\n img_in.* f16 # behind it too\r\n*.img_mlp.?.weight Q5_1\ndouble_blocks.* q4_1");
    p.rules = rules;
    char *out = convert_with(PACKED, "gguf", &p);
    assert_int_equal(type_of(out, MODEL_TRANSFORMER, "x_embedder.weight"), DTYPE_F16);
    assert_int_equal(type_of(out, MODEL_TRANSFORMER, "x_embedder.bias"), DTYPE_F16);
    assert_int_equal(type_of(out, MODEL_TRANSFORMER, "transformer_blocks.0.ff.net.2.weight"), DTYPE_Q5_1);
    assert_int_equal(type_of(out, MODEL_TRANSFORMER, "transformer_blocks.0.attn.to_q.weight"), DTYPE_Q4_1);
    assert_int_equal(type_of(out, MODEL_TRANSFORMER, "transformer_blocks.0.attn.to_q.bias"), DTYPE_F32);
    assert_int_equal(type_of(out, MODEL_TRANSFORMER, "single_transformer_blocks.0.proj_out.weight"), DTYPE_Q8_0);
    assert_int_equal(type_of(out, MODEL_TRANSFORMER, "context_embedder.weight"), DTYPE_BF16);
    unlink(out);
    unlink(rules);
}

/* Rows of 256 elements take K types, others the next type of 32, or stay. */
static void rows_that_are_no_blocks_get_smaller_ones(void **state)
{
    (void)state;
    char *out = convert(PACKED, "gguf", "q4_k", "transformer");
    assert_int_equal(type_of(out, MODEL_TRANSFORMER, "transformer_blocks.0.ff.net.2.weight"), DTYPE_Q4_K);
    assert_int_equal(type_of(out, MODEL_TRANSFORMER, "transformer_blocks.0.attn.to_q.weight"), DTYPE_Q5_0);
    unlink(out);
    out = convert(TEST_DATA "/pipelines/mixed", "gguf", "q4_k", "transformer");
    assert_int_equal(type_of(out, MODEL_TRANSFORMER, "transformer_blocks.0.attn.norm_q.weight"), DTYPE_F32);
    unlink(out);
}

static flux1_status take_text(void *arg, const char *key, size_t key_length, const char *text, size_t length)
{
    builder_format(arg, "%.*s=%.*s;", (int)key_length, key, (int)length, text);
    return FLUX1_OK;
}

static void metadata_is_taken_over(void **state)
{
    (void)state;
    char *card = fresh("safetensors"), *as_gguf, *text;
    static const char header[] = "{\"__metadata__\":{\"format\":\"np\",\"modelspec.license\":\"own\",\"x\":\"y z\"},"
                                 "\"decoder.conv_in.weight\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}";
    const unsigned char length[8] = {sizeof header - 1};
    FILE *f = fopen(card, "wb");
    fwrite(length, 1, 8, f);
    fwrite(header, 1, sizeof header - 1, f);
    fwrite("\0\1\2\3", 1, 4, f);
    fclose(f);
    as_gguf = convert(card, "gguf", "keep", NULL);
    store *s = part_of(as_gguf, MODEL_VAE);
    builder b = {0};
    assert_int_equal(container_texts(store_file(s, 0), take_text, &b), FLUX1_OK);
    assert_int_equal(builder_take(&b, "texts", &text, NULL), FLUX1_OK);
    assert_string_equal(text, "general.architecture=vae;general.license=own;modelspec.license=own;x=y z;");
    free(text);
    store_close(s);
    unlink(as_gguf), unlink(card);
}

/* ---- refusals ---- */

static void expect_refused(const char *in, const char *out, const flux1_convert_params *p, flux1_status status,
                           const char *words)
{
    char *json = (char *)1;
    assert_int_equal(flux1_convert(context, in, out, p, &json), status);
    assert_null(json);
    if (!strstr(flux1_context_message(context), words))
        fail_msg("\"%s\" lacks \"%s\"", flux1_context_message(context), words);
}

static void bad_rules_are_named_by_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } rows[] = {{"* q8_0\n*.bias\n", "line 2: a type is missing"},
                {"\n\n* q9_0", "line 3: unknown type \"q9_0\"; it should be one of keep, f32"},
                {"* q8_0 f16", "line 1: there is more than a pattern and a type"},
                {"* fp8", "line 1: GGUF has no type fp8; write a .safetensors file"},
                {"# nothing\n", "there is no rule in it"}};
    char *rules = fresh("rules"), *out = fresh("gguf");
    flux1_convert_params p = params("q8_0", "transformer");
    p.rules = rules;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        write_text(rules, rows[i].text);
        expect_refused(PACKED, out, &p, FLUX1_ERR_FORMAT, rows[i].words);
    }
    unlink(rules);
    expect_refused(PACKED, out, &p, FLUX1_ERR_IO, rules);
    assert_false(file_exists(out));
}

static void what_cannot_be_done_is_said(void **state)
{
    (void)state;
    char *out = fresh("gguf"), *safe = fresh("safetensors");
    flux1_convert_params p = params("q8_0", "transformer");
    expect_refused(PACKED, safe, &p, FLUX1_ERR_ARGUMENT, "safetensors has no type q8_0");
    expect_refused(PACKED, "/tmp/x.ckpt", &p, FLUX1_ERR_ARGUMENT, "should end in .gguf or .safetensors");
    expect_refused("/nowhere", out, &p, FLUX1_ERR_IO, "no such file");
    expect_refused(PACKED, "/nowhere/x.gguf", &p, FLUX1_ERR_IO, "does not exist");
    p.part = NULL;
    expect_refused(PACKED, out, &p, FLUX1_ERR_ARGUMENT, "say which one");
    expect_refused(FILES "comfy/flux1-fp8.safetensors", out, &p, FLUX1_ERR_ARGUMENT, "several parts (clip, t5,");
    expect_refused(PACKED "/tokenizer", out, &p, FLUX1_ERR_MODEL, "without weights of FLUX.1");
    p.part = "unet";
    expect_refused(PACKED, out, &p, FLUX1_ERR_ARGUMENT, "should be transformer, t5, clip or vae");
    p.part = "vae";
    expect_refused(FILES "bfl/flux1.safetensors", out, &p, FLUX1_ERR_MODEL, "holds no VAE");
    expect_refused(FILES "bnb/transformer", out, &p, FLUX1_ERR_MODEL, "holds the transformer, not the vae");
    p.part = "transformer";
    p.names = "diffusers";
    expect_refused(PACKED, out, &p, FLUX1_ERR_ARGUMENT, "names \"diffusers\"");
    p.names = "sd";
    expect_refused(PACKED, out, &p, FLUX1_ERR_ARGUMENT, "should be bfl or diffusers");
    p = params("fp8", NULL);
    expect_refused(FILES "bfl/flux1.safetensors", out, &p, FLUX1_ERR_ARGUMENT, "GGUF has no type fp8");
    p = params("bf16", NULL);
    p.adapters = (flux1_adapter_file[]){{FILES "lora/sd.safetensors", 1}};
    p.adapter_count = 1;
    expect_refused(FILES "bfl/flux1.safetensors", out, &p, FLUX1_ERR_MODEL, "nothing in it is for FLUX.1");
    assert_false(file_exists(out) || file_exists(safe));
}

/* The source is safe, also under another name. */
static void the_source_is_not_overwritten(void **state)
{
    (void)state;
    char *copy = convert(PACKED, "gguf", "q8_0", "transformer"), *link = fresh("gguf");
    flux1_convert_params p = params("q4_0", NULL);
    expect_refused(copy, copy, &p, FLUX1_ERR_ARGUMENT, "is read for the conversion");
    assert_int_equal(symlink(copy, link), 0);
    expect_refused(copy, link, &p, FLUX1_ERR_ARGUMENT, "is read for the conversion");
    unlink(link), unlink(copy);
}

static int files_like(const char *path)
{
    char command[512];
    snprintf(command, sizeof command, "ls %s* 2>/dev/null | wc -l", path);
    FILE *f = popen(command, "r");
    int n = -1;
    assert_int_equal(fscanf(f, "%d", &n), 1);
    pclose(f);
    return n;
}

static void cancel_at_once(void *user, double done)
{
    (void)done;
    flux1_cancel(user);
}

static void nothing_is_left_of_a_cancelled_call(void **state)
{
    (void)state;
    char *out = fresh("gguf");
    flux1_convert_params p = params("q8_0", "transformer");
    p.progress = cancel_at_once;
    p.progress_user = context;
    expect_refused(PACKED, out, &p, FLUX1_ERR_CANCELLED, "cancelled");
    assert_int_equal(files_like(out), 0);
}

/* A value that the type cannot hold, and one that is none. */
static void values_beyond_a_type_are_refused(void **state)
{
    (void)state;
    static const char header[] =
        "{\"decoder.conv_in.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}";
    const unsigned char length[8] = {sizeof header - 1};
    char *in = fresh("safetensors"), *out = fresh("gguf");
    for (int i = 0; i < 2; i++) {
        const float values[2] = {1, i ? NAN : 70000};
        FILE *f = fopen(in, "wb");
        fwrite(length, 1, 8, f);
        fwrite(header, 1, sizeof header - 1, f);
        fwrite(values, 1, sizeof values, f);
        fclose(f);
        const flux1_convert_params p = params("f16", NULL);
        expect_refused(in, out, &p, i ? FLUX1_ERR_NUMERIC : FLUX1_ERR_LIMIT,
                       i ? "NaN or infinity in tensor \"decoder.conv_in.weight\""
                         : "has the value 70000, but F16 holds");
        assert_int_equal(files_like(out), 0);
    }
    unlink(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_the_oracle_s),
        cmocka_unit_test(every_form_converts_to_its_picture),
        cmocka_unit_test(keep_changes_no_value),
        cmocka_unit_test(scaled_fp8_is_kept),
        cmocka_unit_test(adapters_are_merged),
        cmocka_unit_test(rules_choose_types),
        cmocka_unit_test(rows_that_are_no_blocks_get_smaller_ones),
        cmocka_unit_test(metadata_is_taken_over),
        cmocka_unit_test(bad_rules_are_named_by_line),
        cmocka_unit_test(what_cannot_be_done_is_said),
        cmocka_unit_test(the_source_is_not_overwritten),
        cmocka_unit_test(nothing_is_left_of_a_cancelled_call),
        cmocka_unit_test(values_beyond_a_type_are_refused),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
