/* Single files that are bad or something else: a sentence each. Names and scales by hand. */
#include "weights/recipe.h"

#include "support/safetensors_build.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char path[] = "/tmp/flux1_single_XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void put(const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

/* A header being written: tensors one after the other, their bytes in `data`. */
static char header[8192];
static unsigned char data[8192];
static size_t header_used, data_used;

static void begin(const char *metadata)
{
    header_used = (size_t)snprintf(header, sizeof header, "{%s", metadata);
    data_used = 0;
}

static void add(const char *name, const char *type, const char *shape, const void *bytes, size_t size)
{
    const char *comma = header[header_used - 1] == '{' ? "" : ",";
    header_used += (size_t)snprintf(header + header_used, sizeof header - header_used,
                                    "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", comma, name,
                                    type, shape, data_used, data_used + size);
    if (bytes)
        memcpy(data + data_used, bytes, size);
    else
        memset(data + data_used, 0x38, size); /* fp8: 1 */
    data_used += size;
}

static void add_float(const char *name, const char *shape, float value)
{
    add(name, "F32", shape, &value, sizeof value);
}

static void finish(void)
{
    size_t size;
    snprintf(header + header_used, sizeof header - header_used, "}");
    unsigned char *bytes = safetensors_build(header, data, data_used, &size);
    put(bytes, size);
    free(bytes);
}

static void expect(flux1_status status, const char *words, const char *more)
{
    store *s;
    flux1_error err = {0};
    assert_int_equal(store_open_part(path, MODEL_TRANSFORMER, &s, &err), status);
    assert_null(s);
    if (strncmp(err.message, path, strlen(path)) != 0 || !strstr(err.message, words) || !strstr(err.message, more))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", err.message, words, more);
}

static store *open_part(model_part part)
{
    store *s;
    flux1_error err = {0};
    if (store_open_part(path, part, &s, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return s;
}

static float value_of(store *s, const char *name, int64_t row)
{
    float x;
    flux1_error err;
    const store_tensor *t = store_find(s, name);
    assert_non_null(t);
    const weight_recipe r = recipe_whole(WEIGHT_LINEAR, t);
    if (recipe_decode(&r, row, 0, 1, &x, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return x;
}

static void other_files_are_named_as_what_they_are(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *what, *instead;
    } cases[] = {
        {"PK\3\4archive/data.pkl", 20, "pickle", "fetch the safetensors or GGUF"},
        {"\x80\2}q\0(X\6\0\0\0", 11, "pickle", "fetch the safetensors or GGUF"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00", 54, "Git LFS pointer", "git lfs pull"},
        {"\n<!DOCTYPE html><html>", 22, "web page", "fetch it again"},
        {"{\"architectures\": [\"x\"]}", 24, "JSON file", ".safetensors"},
        {"lmggsomething", 13, "before GGUF", "GGUF"},
        {"\x89PNG\r\n\x1A\n", 8, "a picture (PNG)", "not weights or latents"},
        {"\xFF\xD8\xFF\xE0\0\x10JFIF", 10, "a picture (JPEG)", "not weights or latents"},
        {"RIFF\0\1\2\3WEBP", 12, "a picture (WebP)", "not weights or latents"},
        {"GIF89a\1\0", 8, "a picture (GIF)", "of pictures PNG, JPEG and WebP are read"},
        {"\0\0\0\x1C"
         "ftypavif",
         12, "a picture (AVIF", "of pictures PNG, JPEG and WebP are read"},
        {"%PDF-1.7", 8, "a PDF", "not weights or latents"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put(cases[i].bytes, cases[i].size);
        expect(FLUX1_ERR_UNSUPPORTED, cases[i].what, cases[i].instead);
    }
    put("", 0);
    expect(FLUX1_ERR_FORMAT, "the file is empty", "fetch it again");
    put("\0\0\0\0\0\0\0\0\0\0", 10);
    expect(FLUX1_ERR_FORMAT, "neither a safetensors nor a GGUF file", "");
}

/* Its length, 123, is the byte '{'. */
static void a_header_of_123_bytes_is_no_json_file(void **state)
{
    (void)state;
    begin("");
    add("img_in.weight", "F32", "[1,1]", NULL, 4);
    while (header_used < 122)
        header[header_used++] = ' ';
    finish();
    store_close(open_part(MODEL_TRANSFORMER));
}

static void other_models_are_named(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"model.diffusion_model.input_blocks.0.0.weight", "Stable Diffusion"},
                                           {"model.diffusion_model.label_emb.0.0.weight", "Stable Diffusion XL"},
                                           {"double_stream_modulation_img.lin.weight", "FLUX.2"}};
    for (size_t i = 0; i < 3; i++) {
        begin("");
        add(cases[i][0], "F32", "[1]", NULL, 4);
        finish();
        expect(FLUX1_ERR_MODEL, cases[i][1], "not of FLUX.1");
    }
    static const char *const alike[][2] = {{"distilled_guidance_layer.in_proj.weight", "Chroma"},
                                           {"controlnet_x_embedder.weight", "ControlNet"},
                                           {"txt_norm.weight", "Qwen-Image"},
                                           {"txt_in.individual_token_refiner.blocks.0.norm1.weight", "HunyuanVideo"},
                                           {"cap_embedder.1.weight", "Z-Image"},
                                           {"context_refiner.0.attn.to_q.weight", "Lumina 2"},
                                           {"time_embed.timestep_embedder.linear_1.weight", "LongCat-Image"},
                                           {"context_embedder_norm.weight", "Ovis-Image"},
                                           {"time_mod_proj.weight", "Krea 2"},
                                           {"double_stream_modulation_img.lin.weight", "FLUX.2"}};
    for (size_t i = 0; i < sizeof alike / sizeof *alike; i++) { /* beside tensors that FLUX.1 has too */
        begin("");
        add("double_blocks.0.img_attn.qkv.weight", "F32", "[3,1]", NULL, 12);
        add(alike[i][0], "F32", "[1]", NULL, 4);
        finish();
        expect(FLUX1_ERR_MODEL, alike[i][1], "not of FLUX.1");
    }
    begin("");
    finish();
    expect(FLUX1_ERR_MODEL, "no tensor", "");
}

static void packed_layouts_are_named(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"transformer_blocks.0.qkv_proj.wscales", "Nunchaku"},
                                           {"proj_out.qweight", "AWQ"},
                                           {"img_in.weight_scale_2", "nvfp4"},
                                           {"proj_out.weight._data", "quanto"},
                                           {"proj_out.biases", "MLX"},
                                           {"proj_out.weight:qdata", "torchao"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int known = 0; known < 2; known++) {
            begin("");
            add(cases[i][0], "F32", "[1]", NULL, 4);
            if (known)
                add("img_in.weight", "F32", "[1,1]", NULL, 4);
            finish();
            expect(FLUX1_ERR_UNSUPPORTED, cases[i][1], "fetch a bf16, fp8 or GGUF");
        }
}

static void formats_that_are_not_read_are_named(void **state)
{
    (void)state;
    static const char nvfp4[] = "{\"format\":\"nvfp4\"}",
                      rotated[] = "{\"format\":\"int8_tensorwise\",\"convrot\":true}", nothing[] = "{}",
                      broken[] = "{\"format\"";
    static const struct {
        const char *json;
        flux1_status status;
        const char *words;
    } cases[] = {{nvfp4, FLUX1_ERR_UNSUPPORTED, "format nvfp4"},
                 {rotated, FLUX1_ERR_UNSUPPORTED, "convrot"},
                 {nothing, FLUX1_ERR_FORMAT, "\"format\" is missing"},
                 {broken, FLUX1_ERR_FORMAT, "comfy_quant"}};
    for (size_t i = 0; i < 4; i++) {
        char shape[24], metadata[300];
        snprintf(shape, sizeof shape, "[%zu]", strlen(cases[i].json));
        begin("");
        add("img_in.weight", "F8_E4M3", "[1,1]", NULL, 1);
        add("img_in.comfy_quant", "U8", shape, cases[i].json, strlen(cases[i].json));
        finish();
        expect(cases[i].status, cases[i].words, "img_in");
        if (i > 1)
            continue;
        snprintf(metadata, sizeof metadata,
                 "\"__metadata__\":{\"_quantization_metadata\":\"{\\\"layers\\\":{\\\"img_in\\\":%s}}\"}",
                 i ? "{\\\"format\\\":\\\"int8_tensorwise\\\",\\\"convrot\\\":true}"
                   : "{\\\"format\\\":\\\"nvfp4\\\"}");
        begin(metadata);
        add("img_in.weight", "F8_E4M3", "[1,1]", NULL, 1);
        finish();
        expect(FLUX1_ERR_UNSUPPORTED, cases[i].words, "_quantization_metadata: \"img_in\"");
    }
}

static void scales_are_checked(void **state)
{
    (void)state;
    const float bad[] = {INFINITY, NAN};
    for (int i = 0; i < 2; i++) {
        begin("");
        add("img_in.weight", "F8_E4M3", "[2,1]", NULL, 2);
        add_float("img_in.scale_weight", "[]", bad[i]);
        finish();
        expect(FLUX1_ERR_FORMAT, "img_in.scale_weight", "NaN or infinite");
    }
    begin("");
    add("img_in.weight", "F8_E4M3", "[3,1]", NULL, 3);
    add("img_in.weight_scale", "F32", "[2]", NULL, 8);
    finish();
    expect(FLUX1_ERR_FORMAT, "img_in.weight_scale", "3 rows");
    begin("");
    add("img_in.weight", "BF16", "[2,1]", NULL, 4);
    add_float("img_in.weight_scale", "[]", 1);
    finish();
    expect(FLUX1_ERR_UNSUPPORTED, "is BF16 and has a scale", "fetch");
    begin("");
    add("img_in.weight", "F8_E4M3", "[2,1]", NULL, 2);
    add_float("img_in.weight_scale", "[]", 1);
    add_float("img_in.scale_weight", "[]", 1);
    finish();
    expect(FLUX1_ERR_FORMAT, "two scales", "");
    begin("");
    add("img_in.weight", "F8_E4M3", "[2,16]", NULL, 32);
    add("img_in.weight_scale", "I8", "[2]", NULL, 2); /* numbers that want a scale themselves */
    finish();
    expect(FLUX1_ERR_FORMAT, "img_in.weight_scale", "one float");
}

/* More rows than are looked at together: each scale is compared with its own row. */
static void every_row_s_scale_is_checked(void **state)
{
    (void)state;
    enum { ROWS = 600 };
    static const int of_zeros[] = {0, 255, 256, 300, ROWS - 1};
    static float scales[ROWS];
    static signed char numbers[2 * ROWS];
    for (int wrong = -1; wrong < 5; wrong++) {
        for (int i = 0; i < ROWS; i++)
            scales[i] = numbers[2 * i] = numbers[2 * i + 1] = 1;
        for (int i = 0; i < 5; i++) {
            scales[of_zeros[i]] = numbers[2 * of_zeros[i]] = 0;
            numbers[2 * of_zeros[i] + 1] = i == wrong;
        }
        begin("");
        add("img_in.weight", "I8", "[600,2]", numbers, sizeof numbers);
        add("img_in.weight_scale", "F32", "[600]", scales, sizeof scales);
        finish();
        if (wrong >= 0)
            expect(FLUX1_ERR_FORMAT, "img_in.weight_scale", "is 0, but its weight is not");
        else
            store_close(open_part(MODEL_TRANSFORMER));
    }
}

/* No rows and no scales, one value with its own. */
static void scales_of_nothing_and_of_one_value_are_read(void **state)
{
    (void)state;
    begin("");
    add("img_in.weight", "F8_E4M3", "[0,2]", NULL, 0);
    add("img_in.weight_scale", "F32", "[0]", NULL, 0);
    add("txt_in.weight", "F8_E4M3", "[]", NULL, 1);
    add_float("txt_in.weight_scale", "[]", 3);
    finish();
    store *s = open_part(MODEL_TRANSFORMER);
    assert_true(value_of(s, "context_embedder.weight", 0) == 3);
    store_close(s);
}

/* What ComfyUI writes beside a weight is no tensor of the model; "convrot" may be there and say no. */
static void notes_beside_a_weight_are_read(void **state)
{
    (void)state;
    static const char *const notes[] = {"{\"format\":\"int8_tensorwise\",\"convrot\":null}",
                                        "{\"format\":\"int8_tensorwise\",\"convrot\":false}",
                                        "{\"format\":\"float8_e5m2\"}"};
    for (int i = 0; i < 3; i++) {
        char shape[24];
        snprintf(shape, sizeof shape, "[%zu]", strlen(notes[i]));
        begin("");
        add("img_in.weight", "I8", "[2,1]", NULL, 2);
        add_float("img_in.weight_scale", "[]", 0.5f);
        add_float("img_in.scale_input", "[]", 1);
        add_float("img_in.input_scale", "[]", 1);
        add("img_in.comfy_quant", "U8", shape, notes[i], strlen(notes[i]));
        finish();
        store *s = open_part(MODEL_TRANSFORMER);
        assert_int_equal(store_count(s), 1);
        assert_true(value_of(s, "x_embedder.weight", 1) == 28); /* 0x38 / 2 */
        store_close(s);
    }
    begin("");
    add("img_in.weight", "I8", "[2,1]", NULL, 2);
    add_float("img_in.comfy_quant", "[]", 1);
    finish();
    expect(FLUX1_ERR_FORMAT, "img_in.comfy_quant", "JSON in bytes");
    begin("");
    add("img_in.weight", "I8", "[2,1]", NULL, 2);
    add("img_in.comfy_quant", "U8", "[3]", "[1]", 3);
    finish();
    expect(FLUX1_ERR_FORMAT, "img_in.comfy_quant", "JSON object");
    /* layers that are not there, or not in 8 bits */
    begin("\"__metadata__\":{\"_quantization_metadata\":\"{\\\"layers\\\":{\\\"txt_in\\\":"
          "{\\\"format\\\":\\\"float8_e4m3fn\\\"},\\\"img_in\\\":{\\\"format\\\":\\\"float8_e4m3fn\\\"}}}\"}");
    add("img_in.weight", "BF16", "[2,1]", NULL, 4);
    finish();
    store_close(open_part(MODEL_TRANSFORMER));
}

static void scales_are_positive_or_of_zeros(void **state)
{
    (void)state;
    static const unsigned char zeros[] = {0, 0x80}, ones[] = {0x38, 0x38};
    const float half[] = {0.5f, 0}, less[] = {0.5f, -0.5f};
    begin("");
    add("img_in.weight", "F8_E4M3", "[2,1]", ones, 2);
    add_float("img_in.scale_weight", "[]", 0);
    finish();
    expect(FLUX1_ERR_FORMAT, "img_in.scale_weight", "is 0, but its weight is not");
    begin("");
    add("img_in.weight", "F8_E4M3", "[2,1]", zeros, 2);
    add_float("img_in.scale_weight", "[]", 0);
    finish();
    store_close(open_part(MODEL_TRANSFORMER));
    begin("");
    add("img_in.weight", "I8", "[2,1]", (const unsigned char[]){1, 0}, 2);
    add("img_in.weight_scale", "F32", "[2]", half, sizeof half);
    finish();
    store_close(open_part(MODEL_TRANSFORMER));
    begin("");
    add("img_in.weight", "I8", "[2,1]", (const unsigned char[]){1, 0x80}, 2);
    add("img_in.weight_scale", "F32", "[2]", half, sizeof half);
    finish();
    expect(FLUX1_ERR_FORMAT, "img_in.weight_scale", "is 0, but its weight is not");
    begin("");
    add("img_in.weight", "F8_E4M3", "[2,1]", ones, 2);
    add("img_in.weight_scale", "F32", "[2]", less, sizeof less);
    finish();
    expect(FLUX1_ERR_FORMAT, "img_in.weight_scale", "negative");
    begin("");
    add("img_in.weight", "F8_E4M3", "[2,1]", zeros, 2);
    add("img_in.weight_scale", "F32", "[2]", less, sizeof less);
    finish();
    expect(FLUX1_ERR_FORMAT, "img_in.weight_scale", "negative");
}

/* More rows than are looked at at a time. */
static void each_of_many_scales_is_checked(void **state)
{
    (void)state;
    enum { ROWS = 300, AT = 290 };
    static float scales[ROWS];
    static unsigned char values[ROWS];
    for (int i = 0; i < ROWS; i++)
        scales[i] = (float)i + 1, values[i] = 1;
    for (int bad = 2; bad >= 0; bad--) {
        scales[AT] = bad == 2 ? NAN : 0;
        values[AT] = bad == 1;
        begin("");
        add("img_in.weight", "I8", "[300,1]", values, sizeof values);
        add("img_in.weight_scale", "F32", "[300]", scales, sizeof scales);
        finish();
        if (bad)
            expect(FLUX1_ERR_FORMAT, "img_in.weight_scale", bad == 1 ? "is 0, but its weight is not" : "NaN");
    }
    store *s = open_part(MODEL_TRANSFORMER);
    assert_true(value_of(s, "x_embedder.weight", AT) == 0 && value_of(s, "x_embedder.weight", ROWS - 1) == ROWS);
    store_close(s);
}

static void a_missing_scale_is_found(void **state)
{
    (void)state;
    static const unsigned char scaled[] = {0x10, 0xF7}; /* 2^-5, -240: as large as a weight itself is not */
    static const char fp8[] = "{\"format\": \"float8_e4m3fn\"}";
    begin("");
    add("scaled_fp8", "F8_E4M3", "[0]", NULL, 0);
    add("img_in.weight", "F8_E4M3", "[2,1]", NULL, 2);
    add("txt_in.weight", "F8_E4M3", "[2,1]", scaled, 2);
    add_float("img_in.scale_weight", "[]", 1);
    finish();
    expect(FLUX1_ERR_FORMAT, "the scale of tensor \"txt_in.weight\" is missing (scaled_fp8 says", "");
    begin("");
    add("img_in.weight", "F8_E4M3", "[2,1]", NULL, 2);
    add("img_in.comfy_quant", "U8", "[27]", fp8, sizeof fp8 - 1);
    finish();
    expect(FLUX1_ERR_FORMAT, "the scale of tensor \"img_in.weight\" is missing (img_in.comfy_quant says", "");
    begin("");
    add("img_in.weight", "F8_E4M3", "[2,1]", NULL, 2);
    add("img_in.comfy_quant", "U8", "[27]", fp8, sizeof fp8 - 1);
    add_float("img_in.scale_weight", "[]", 1); /* is one by its older name */
    finish();
    store_close(open_part(MODEL_TRANSFORMER));
    begin("");
    add("img_in.weight", "I8", "[2,1]", NULL, 2);
    add("img_in.comfy_quant", "U8", "[29]", "{\"format\": \"int8_tensorwise\"}", 29);
    finish();
    expect(FLUX1_ERR_FORMAT, "the scale of tensor \"img_in.weight\" is missing (img_in.comfy_quant says", "");
    begin("\"__metadata__\":{\"_quantization_metadata\":\"{\\\"layers\\\":{\\\"img_in\\\":"
          "{\\\"format\\\":\\\"float8_e4m3fn\\\"}}}\"}");
    add("img_in.weight", "F8_E4M3", "[2,1]", NULL, 2);
    finish();
    expect(FLUX1_ERR_FORMAT, "the scale of tensor \"img_in.weight\" is missing (_quantization_metadata says", "");
}

/* Half of the largest value of either type tells it, with any sign; a matrix's, not a vector's. */
static void the_values_of_a_lost_scale_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *type, *shape;
        unsigned char value[2];
        bool lost;
    } cases[] = {{"F8_E4M3", "[2,1]", {0x75, 0}, false}, {"F8_E4M3", "[2,1]", {0x76, 0}, true},
                 {"F8_E4M3", "[2,1]", {0, 0xF6}, true},  {"F8_E4M3", "[2]", {0x76, 0x76}, false},
                 {"F8_E5M2", "[2,1]", {0x76, 0}, false}, {"F8_E5M2", "[2,1]", {0, 0x77}, true},
                 {"F8_E5M2", "[2,1]", {0xF7, 0}, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin("");
        add("scaled_fp8", "F8_E4M3", "[0]", NULL, 0);
        add("img_in.weight", cases[i].type, cases[i].shape, cases[i].value, 2);
        finish();
        if (cases[i].lost)
            expect(FLUX1_ERR_FORMAT, "the scale of tensor \"img_in.weight\" is missing", "scaled_fp8 says");
        else
            store_close(open_part(MODEL_TRANSFORMER));
    }
}

/* As ComfyUI does: values as they are, other types and vectors, embeddings, other parts of the file. */
static void what_has_no_scale_beside_a_marker_is_taken_as_it_is(void **state)
{
    (void)state;
    static const unsigned char plain[] = {0x10, 0xF5}, large[] = {0x10, 0x7E}; /* -208; 448 */
    begin("");
    add("model.diffusion_model.scaled_fp8", "F8_E4M3", "[0]", NULL, 0);
    add("model.diffusion_model.img_in.weight", "F8_E4M3", "[2,1]", plain, 2);
    add("model.diffusion_model.txt_in.weight", "F8_E4M3", "[2]", large, 2);
    add("model.diffusion_model.shared.weight", "F8_E4M3", "[2,1]", large, 2);
    add("text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight", "F8_E4M3", "[2,1]", large, 2);
    finish();
    store *s = open_part(MODEL_TRANSFORMER);
    assert_true(value_of(s, "x_embedder.weight", 1) == -208);
    store_close(s);
}

/* int8 without a scale opens, so that it can be described, and is refused when claimed. */
static void int8_needs_its_scale(void **state)
{
    (void)state;
    flux1_error err;
    const store_tensor *t;
    begin("");
    add("img_in.weight", "I8", "[2,1]", NULL, 2);
    finish();
    store *s = open_part(MODEL_TRANSFORMER);
    assert_int_equal(store_claim(s, "x_embedder.weight", 2, (int64_t[]){2, 1}, &t, &err), FLUX1_OK);
    assert_null(t);
    assert_int_equal(store_check(s, true, NULL, &err), FLUX1_ERR_MODEL);
    assert_non_null(strstr(err.message, "tensor \"x_embedder.weight\" (\"img_in.weight\" in the file) is I8"));
    store_close(s);
}

/* q, k and v of one row each; a scale per row goes with them. */
static void shares_of_a_fused_tensor_keep_their_scales(void **state)
{
    (void)state;
    static const float scales[] = {2, 3, 5};
    for (size_t cols = 1; cols <= 2; cols++) {
        begin("");
        add("double_blocks.0.img_attn.qkv.weight", "F8_E4M3", cols == 1 ? "[3,1]" : "[3,2]", NULL, 3 * cols);
        add("double_blocks.0.img_attn.qkv.weight_scale", "F32", "[3,1]", scales, sizeof scales);
        finish();
        store *s = open_part(MODEL_TRANSFORMER);
        assert_int_equal(store_count(s), 3);
        assert_true(value_of(s, "transformer_blocks.0.attn.to_q.weight", 0) == 2);
        assert_true(value_of(s, "transformer_blocks.0.attn.to_k.weight", 0) == 3);
        assert_true(value_of(s, "transformer_blocks.0.attn.to_v.weight", 0) == 5);
        const store_tensor *v = store_find(s, "transformer_blocks.0.attn.to_v.weight");
        assert_string_equal(v->stored_as, "double_blocks.0.img_attn.qkv.weight");
        const store_tensor *q = store_find(s, "transformer_blocks.0.attn.to_q.weight");
        assert_true(q->offset > 8); /* behind the header */
        assert_int_equal(v->offset - q->offset, 2 * cols);
        store_close(s);
    }
}

static void halves_are_exchanged(void **state)
{
    (void)state;
    static const float rows[] = {1, 2, 3, 4};
    begin("");
    add("img_in.weight", "F32", "[1,1]", NULL, 4);
    add("final_layer.adaLN_modulation.1.bias", "F32", "[4]", rows, sizeof rows);
    finish();
    store *s = open_part(MODEL_TRANSFORMER);
    for (int i = 0; i < 4; i++)
        assert_true(value_of(s, "norm_out.linear.bias", i) == rows[(i + 2) % 4]);
    const weight_recipe whole = recipe_whole(WEIGHT_VECTOR, store_find(s, "norm_out.linear.bias")),
                        middle = recipe_rows(&whole, 1, 2);
    float x;
    assert_int_equal(recipe_decode(&middle, 1, 0, 1, &x, NULL), FLUX1_OK);
    assert_true(x == 1);
    store_close(s);
}

static void what_does_not_divide_is_refused(void **state)
{
    (void)state;
    begin("");
    add("img_in.weight", "F32", "[1,1]", NULL, 4);
    add("single_blocks.0.linear1.weight", "F32", "[8,1]", NULL, 32);
    finish();
    expect(FLUX1_ERR_MODEL, "single_blocks.0.linear1.weight", "7 equal parts");
    begin("");
    add("img_in.weight", "F32", "[1,1]", NULL, 4);
    add("final_layer.adaLN_modulation.1.bias", "F32", "[3]", NULL, 12);
    finish();
    expect(FLUX1_ERR_MODEL, "final_layer.adaLN_modulation.1.bias", "two halves");
}

static void two_names_for_one_tensor_are_refused(void **state)
{
    (void)state;
    begin("");
    add("img_in.weight", "F32", "[1,1]", NULL, 4);
    add("x_embedder.weight", "F32", "[1,1]", NULL, 4);
    finish();
    expect(FLUX1_ERR_MODEL, "\"img_in.weight\"", "are both \"x_embedder.weight\"");
}

/* Under another prefix, or under none that a part has. */
static void strays_are_counted(void **state)
{
    (void)state;
    store_contents c;
    begin("");
    add("model.diffusion_model.img_in.weight", "F32", "[1,1]", NULL, 4);
    add("model.diffusion_model.unheard_of", "F32", "[1]", NULL, 4);
    add("vae.decoder.conv_in.weight", "F32", "[1,1,1,1]", NULL, 4);
    add("text_encoders.clip_l.logit_scale", "F32", "[]", NULL, 4);
    add("alphas_cumprod", "F32", "[1]", NULL, 4);
    finish();
    assert_int_equal(store_look(path, &c, NULL), FLUX1_OK);
    assert_int_equal(c.strays, 1);
    assert_string_equal(c.stray, "alphas_cumprod");
    store *s = open_part(MODEL_TRANSFORMER);
    flux1_error err;
    const store_tensor *t;
    assert_int_equal(store_claim(s, "x_embedder.weight", 2, (int64_t[]){1, 1}, &t, &err), FLUX1_OK);
    assert_int_equal(store_check(s, true, NULL, &err), FLUX1_ERR_MODEL);
    assert_non_null(strstr(err.message, "1 tensor that such a model does not have: \"unheard_of\""));
    store_close(s);
}

static void clips_of_both_namings_are_told_by_shape(void **state)
{
    (void)state;
    for (int swapped = 0; swapped < 2; swapped++) {
        const char *tall = swapped ? "t.blk.0.ffn_up" : "t.blk.0.ffn_down",
                   *wide = swapped ? "t.blk.0.ffn_down" : "t.blk.0.ffn_up";
        char name[64];
        begin("");
        add("t.token_embd.weight", "F32", "[1,1]", NULL, 4);
        snprintf(name, sizeof name, "%s.weight", tall), add(name, "F32", "[4,1]", NULL, 16);
        snprintf(name, sizeof name, "%s.bias", tall), add(name, "F32", "[4]", NULL, 16);
        snprintf(name, sizeof name, "%s.weight", wide), add(name, "F32", "[1,4]", NULL, 16);
        snprintf(name, sizeof name, "%s.bias", wide), add(name, "F32", "[1]", NULL, 4);
        finish();
        store *s = open_part(MODEL_CLIP);
        assert_int_equal(store_find(s, "text_model.encoder.layers.0.mlp.fc1.weight")->view.shape[0], 4);
        assert_int_equal(store_find(s, "text_model.encoder.layers.0.mlp.fc1.bias")->view.shape[0], 4);
        assert_int_equal(store_find(s, "text_model.encoder.layers.0.mlp.fc2.bias")->view.shape[0], 1);
        store_close(s);
    }
}

/* Without a matrix beside it nothing tells which of the two a bias is of. */
static void a_bias_alone_is_of_neither(void **state)
{
    (void)state;
    begin("");
    add("t.token_embd.weight", "F32", "[1,1]", NULL, 4);
    add("t.blk.0.ffn_up.bias", "F32", "[4]", NULL, 16);
    add("t.blk.1.ffn_up.weight", "F32", "[4]", NULL, 16);
    add("t.blk.1.ffn_up.bias", "F32", "[4]", NULL, 16);
    finish();
    store *s = open_part(MODEL_CLIP);
    assert_int_equal(store_count(s), 4);
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "text_model.encoder.layers.%d.mlp.fc%d.bias", i / 2, 1 + i % 2);
        assert_null(store_find(s, name));
    }
    store_close(s);
}

static const char four_bits[] = "{\"quant_type\":\"nf4\",\"blocksize\":64,\"dtype\":\"bfloat16\",\"shape\":[2,2]}";

static void put_bnb(const char *json, const char *absmax, size_t absmax_bytes)
{
    char shape[24];
    snprintf(shape, sizeof shape, "[%zu]", strlen(json));
    begin("");
    add("x_embedder.weight", "U8", "[2,1]", NULL, 2);
    add("x_embedder.weight.quant_map", "F32", "[16]", NULL, 64);
    add("x_embedder.weight.absmax", "F32", absmax, NULL, absmax_bytes);
    add("x_embedder.weight.quant_state.bitsandbytes__nf4", "U8", shape, json, strlen(json));
    finish();
}

/* What lies beside it is none of the model's. */
static void expect_one_tensor(void)
{
    store *s = open_part(MODEL_TRANSFORMER);
    assert_int_equal(store_count(s), 1);
    store_close(s);
}

/* In rows, whatever a format of this shape says. */
static void put_int8(const char *format, size_t format_bytes, const char *shape)
{
    begin("");
    add("x_embedder.weight", "I8", shape, NULL, 4);
    add("x_embedder.SCB", "F32", strcmp(shape, "[4]") == 0 ? "[4]" : "[2]", NULL, strcmp(shape, "[4]") == 0 ? 16 : 8);
    add("x_embedder.weight_format", "U8", format, "\0", format_bytes);
    finish();
}

static void bitsandbytes_notes_are_checked(void **state)
{
    (void)state;
    put_bnb(four_bits, "[1]", 4);
    expect_one_tensor();
    put_bnb("{\"blocksize\":64,\"dtype\":\"float16\",\"shape\":[1,2,2]}", "[1]", 4);
    expect_one_tensor();
    put_bnb("{\"dtype\":\"float16\",\"shape\":[2,2]}", "[1]", 4);
    expect(FLUX1_ERR_FORMAT, "\"blocksize\" is missing", "quant_state");
    put_bnb("{\"blocksize\":64,\"dtype\":\"float16\"}", "[1]", 4);
    expect(FLUX1_ERR_FORMAT, "\"shape\" is missing", "quant_state");
    put_bnb(four_bits, "[0]", 0);
    expect(FLUX1_ERR_FORMAT, "x_embedder.weight.absmax", "another size or type");
    put_bnb("{\"blocksize\":64,\"dtype\":\"bfloat16\",\"shape\":[2,4]}", "[1]", 4);
    expect(FLUX1_ERR_FORMAT, "x_embedder.weight", "does not fit the packed bytes");
    put_bnb("{\"blocksize\":0,\"dtype\":\"bfloat16\",\"shape\":[2,2]}", "[1]", 4);
    expect(FLUX1_ERR_FORMAT, "\"blocksize\"", "quant_state");
    put_bnb("{\"blocksize\":64,\"dtype\":\"int8\",\"shape\":[2,2]}", "[1]", 4);
    expect(FLUX1_ERR_FORMAT, "\"dtype\" is \"int8\"", "");
    put_bnb("{\"blocksize\":64,\"dtype\":\"bfloat16\",\"shape\":[2,2],\"nested_blocksize\":256}", "[1]", 4);
    expect(FLUX1_ERR_FORMAT, "x_embedder.weight.absmax", "another size or type");
    put_bnb("[1]", "[1]", 4);
    expect(FLUX1_ERR_FORMAT, "JSON object", "");
    /* four values are a block of three and one of one; blocks of one value have no use for codes */
    put_bnb("{\"blocksize\":3,\"dtype\":\"float16\",\"shape\":[4]}", "[1]", 4);
    expect(FLUX1_ERR_FORMAT, "x_embedder.weight.absmax", "another size or type");
    put_bnb("{\"blocksize\":2,\"dtype\":\"float16\",\"shape\":[4]}", "[2]", 8);
    store_close(open_part(MODEL_TRANSFORMER));
    put_bnb("{\"blocksize\":1,\"dtype\":\"float16\",\"shape\":[4]}", "[4]", 16);
    expect(FLUX1_ERR_FORMAT, "\"blocksize\"", "quant_state");
    begin("");
    add("x_embedder.weight", "I8", "[2,2]", NULL, 4);
    add("x_embedder.SCB", "F32", "[3]", NULL, 12);
    finish();
    expect(FLUX1_ERR_FORMAT, "x_embedder.weight", "SCB");
    begin("");
    add("x_embedder.weight", "I8", "[2,2]", NULL, 4);
    add("x_embedder.SCB", "F32", "[2]", NULL, 8);
    add("x_embedder.weight_format", "U8", "[]", "\2", 1);
    finish();
    expect(FLUX1_ERR_UNSUPPORTED, "layout for a GPU", "fetch");
    put_int8("[0]", 0, "[2,2]");
    expect(FLUX1_ERR_UNSUPPORTED, "layout for a GPU", "fetch");
    put_int8("[]", 1, "[4]");
    expect(FLUX1_ERR_FORMAT, "x_embedder.weight", "SCB");
    put_int8("[]", 1, "[2,2]");
    expect_one_tensor();
    for (int wrong = 0; wrong < 3; wrong++) { /* a code too few, no absmax, a state in floats */
        begin("");
        add("x_embedder.weight", "U8", "[2,1]", NULL, 2);
        add("x_embedder.weight.quant_map", "F32", wrong == 0 ? "[15]" : "[16]", NULL, wrong == 0 ? 60 : 64);
        if (wrong != 1)
            add("x_embedder.weight.absmax", "F32", "[1]", NULL, 4);
        if (wrong == 2)
            add("x_embedder.weight.quant_state.bitsandbytes__nf4", "F32", "[17]", four_bits, 68);
        else
            add("x_embedder.weight.quant_state.bitsandbytes__nf4", "U8", "[68]", four_bits, 68);
        finish();
        expect(FLUX1_ERR_FORMAT,
               (const char *[]){"weight.quant_map\"", "weight.absmax\"", "quant_state.bitsandbytes__nf4\""}[wrong],
               (const char *[]){"another size or type", "is missing", "JSON in bytes"}[wrong]);
    }
}

/* Absmax in 8 bits: as many numbers as blocks, all codes that a number can name, and an absmax of each block of them.
 */
static void nested_scales_are_counted(void **state)
{
    (void)state;
    static const char json[] = "{\"blocksize\":2,\"dtype\":\"float16\",\"shape\":[2,2],\"nested_blocksize\":1,"
                               "\"nested_offset\":0.5}";
    static const struct {
        const char *absmax, *codes, *nested, *refused;
        size_t absmax_bytes, codes_bytes, nested_bytes;
    } cases[] = {{"[2]", "[256]", "[2]", NULL, 2, 1024, 8},
                 {"[1]", "[256]", "[2]", ".absmax", 1, 1024, 8},
                 {"[2]", "[255]", "[2]", ".nested_quant_map", 2, 1020, 8},
                 {"[2]", "[256]", "[1]", ".nested_absmax", 2, 1024, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char shape[24];
        snprintf(shape, sizeof shape, "[%zu]", strlen(json));
        begin("");
        add("x_embedder.weight", "U8", "[2,1]", NULL, 2);
        add("x_embedder.weight.quant_map", "F32", "[16]", NULL, 64);
        add("x_embedder.weight.absmax", "U8", cases[i].absmax, NULL, cases[i].absmax_bytes);
        add("x_embedder.weight.nested_quant_map", "F32", cases[i].codes, NULL, cases[i].codes_bytes);
        add("x_embedder.weight.nested_absmax", "F32", cases[i].nested, NULL, cases[i].nested_bytes);
        add("x_embedder.weight.quant_state.bitsandbytes__fp4", "U8", shape, json, strlen(json));
        finish();
        if (cases[i].refused)
            expect(FLUX1_ERR_FORMAT, cases[i].refused, "another size or type");
        else
            store_close(open_part(MODEL_TRANSFORMER));
    }
}

/* Two rows of one value share a byte, and the file has the halves the other way round. */
static void rows_within_a_byte_are_refused(void **state)
{
    (void)state;
    static const char json[] = "{\"blocksize\":64,\"dtype\":\"float16\",\"shape\":[2,1]}";
    char shape[24];
    snprintf(shape, sizeof shape, "[%zu]", strlen(json));
    begin("");
    add("img_in.weight", "F32", "[1,1]", NULL, 4);
    add("final_layer.adaLN_modulation.1.weight", "U8", "[1,1]", NULL, 1);
    add("final_layer.adaLN_modulation.1.weight.quant_map", "F32", "[16]", NULL, 64);
    add("final_layer.adaLN_modulation.1.weight.absmax", "F32", "[1]", NULL, 4);
    add("final_layer.adaLN_modulation.1.weight.quant_state.bitsandbytes__nf4", "U8", shape, json, strlen(json));
    finish();
    expect(FLUX1_ERR_UNSUPPORTED, "final_layer.adaLN_modulation.1.weight", "do not end with its rows");
}

/* A third, rounded to each type that a weight may have been saved from. */
static void values_of_4_bits_are_of_the_type_they_were(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        float value;
    } cases[] = {{"float32", 0x1.555556p-2f}, {"float16", 0x1.554p-2f}, {"bfloat16", 0x1.56p-2f}};
    float map[16] = {0}, absmax = 1;
    map[3] = 0x1.555556p-2f;
    for (size_t i = 0; i < 3; i++) {
        char json[100], shape[24];
        snprintf(json, sizeof json, "{\"blocksize\":4,\"dtype\":\"%s\",\"shape\":[4]}", cases[i].type);
        snprintf(shape, sizeof shape, "[%zu]", strlen(json));
        begin("");
        add("x_embedder.weight", "U8", "[2,1]", NULL, 2); /* 3 and 8, twice */
        add("x_embedder.weight.quant_map", "F32", "[16]", map, sizeof map);
        add("x_embedder.weight.absmax", "F32", "[1]", &absmax, sizeof absmax);
        add("x_embedder.weight.quant_state.bitsandbytes__nf4", "U8", shape, json, strlen(json));
        finish();
        store *s = open_part(MODEL_TRANSFORMER);
        assert_true(value_of(s, "x_embedder.weight", 0) == cases[i].value);
        store_close(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_files_are_named_as_what_they_are),
        cmocka_unit_test(a_header_of_123_bytes_is_no_json_file),
        cmocka_unit_test(other_models_are_named),
        cmocka_unit_test(packed_layouts_are_named),
        cmocka_unit_test(formats_that_are_not_read_are_named),
        cmocka_unit_test(scales_are_checked),
        cmocka_unit_test(every_row_s_scale_is_checked),
        cmocka_unit_test(scales_of_nothing_and_of_one_value_are_read),
        cmocka_unit_test(notes_beside_a_weight_are_read),
        cmocka_unit_test(scales_are_positive_or_of_zeros),
        cmocka_unit_test(each_of_many_scales_is_checked),
        cmocka_unit_test(a_missing_scale_is_found),
        cmocka_unit_test(the_values_of_a_lost_scale_are_told),
        cmocka_unit_test(what_has_no_scale_beside_a_marker_is_taken_as_it_is),
        cmocka_unit_test(int8_needs_its_scale),
        cmocka_unit_test(shares_of_a_fused_tensor_keep_their_scales),
        cmocka_unit_test(halves_are_exchanged),
        cmocka_unit_test(what_does_not_divide_is_refused),
        cmocka_unit_test(two_names_for_one_tensor_are_refused),
        cmocka_unit_test(strays_are_counted),
        cmocka_unit_test(clips_of_both_namings_are_told_by_shape),
        cmocka_unit_test(a_bias_alone_is_of_neither),
        cmocka_unit_test(bitsandbytes_notes_are_checked),
        cmocka_unit_test(nested_scales_are_counted),
        cmocka_unit_test(rows_within_a_byte_are_refused),
        cmocka_unit_test(values_of_4_bits_are_of_the_type_they_were),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
