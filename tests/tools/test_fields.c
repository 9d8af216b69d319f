/* Members of the interface's structs with values that are not allowed, one at a time: each call refuses what it uses
 * with the member, the value and what is allowed, before any work, and takes what it does not use. */
#include "support/golden.h"

#include "flux1_tools.h"

static const char FOLDER[] = TEST_DATA "/pipelines/packed", LORA[] = TEST_DATA "/files/lora/golden/kohya.safetensors";

typedef enum field_kind { AS_INT, AS_UINT64, AS_FLOAT, AS_POINTER } field_kind;

/* A member, a value for it, and what a message says beside the member's name. uses: of flux1_generate_params, which of
 * the calls below use it. */
typedef struct field {
    const char *name;
    size_t at;
    field_kind kind;
    double number;
    const void *pointer;
    const char *says;
    unsigned uses;
} field;

#define FIELD(type, member, as, value, text, ...)                                                    \
    {                                                                                                \
        .name = #member, .at = offsetof(type, member), .kind = as, .number = value, .pointer = text, \
        .says = __VA_ARGS__                                                                          \
    }
#define INT(type, member, value, ...) FIELD(type, member, AS_INT, value, NULL, __VA_ARGS__)
#define REAL(type, member, value, ...) FIELD(type, member, AS_FLOAT, value, NULL, __VA_ARGS__)
#define TEXT(type, member, text, ...) FIELD(type, member, AS_POINTER, 0, text, __VA_ARGS__)
/* What every struct begins with: not set; of a version before the first. */
#define SIZE(type, value)                                                                                   \
    {                                                                                                       \
        .name = "", .at = offsetof(type, size), .kind = AS_UINT64, .number = value, .says = "", .uses = ~0U \
    }
#define SIZES(type) SIZE(type, 0), SIZE(type, offsetof(type, reserved) - 1)

static void set(const field *f, void *params)
{
    char *to = (char *)params + f->at;
    const int whole = f->kind == AS_INT ? (int)f->number : 0;
    const uint64_t large = f->kind == AS_UINT64 ? (uint64_t)f->number : 0;
    const float real = (float)f->number;
    switch (f->kind) {
    case AS_INT: memcpy(to, &whole, sizeof whole); break;
    case AS_UINT64: memcpy(to, &large, sizeof large); break;
    case AS_FLOAT: memcpy(to, &real, sizeof real); break;
    case AS_POINTER: memcpy(to, &f->pointer, sizeof f->pointer); break;
    }
}

static void refused(const field *f, const char *call, flux1_status st, const char *message)
{
    const bool expected = st == FLUX1_ERR_ARGUMENT || st == FLUX1_ERR_LIMIT || st == FLUX1_ERR_UNSUPPORTED;
    if (!expected || !message[0] || !strstr(message, f->name) || !strstr(message, f->says))
        fail_msg("%s, %s %g: %s \"%s\"; it should name it and say \"%s\"", call, f->name, f->number,
                 flux1_status_name(st), message, f->says);
}

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

/* ---- contexts ---- */

static void of_contexts(void **state)
{
    (void)state;
    typedef flux1_context_params type;
    static const field rows[] = {
        SIZES(type),
        TEXT(type, device, "none", "\"none\": not in this build, which has cpu"),
        TEXT(type, mesh, "2x", "2x"),
        TEXT(type, sp, "2", "FACTOR@AXIS"),
        TEXT(type, tp, "2@2", "2@2"),
        {"device", offsetof(type, encoder_device), AS_POINTER, 0, "none", "\"none\": not in this build, which has cpu",
         0},
        INT(type, threads, -1, "-1: it should be 1 to 4096, or 0"),
        INT(type, threads, 4097, "4097"),
        INT(type, dtype, -1, "-1: it should be one of flux1_dtype"),
        INT(type, dtype, 6, "6: it should be one of flux1_dtype"),
        INT(type, eager, -1, "-1: it should be 0, 1 or 2"),
        INT(type, eager, 3, "3"),
        INT(type, processes, -1, "-1: it should be 0 or 1"),
        INT(type, processes, 2, "2: it should be 0 or 1"),
        INT(type, device_weights, -1, "-1: it should be one of flux1_device_weights"),
        INT(type, device_weights, 3, "3"),
        INT(type, weight_rounding, -1, "-1: it should be one of flux1_rounding"),
        INT(type, weight_rounding, 2, "2"),
        INT(type, memory_of_process, -1, "-1: it should be 0 or 1"),
        INT(type, memory_of_process, 2, "2: it should be 0 or 1"),
        INT(type, plans_only, -1, "-1: it should be 0 or 1"),
        INT(type, plans_only, 2, "2: it should be 0 or 1"),
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        type p;
        flux1_context *c;
        flux1_context_params_defaults(&p);
        set(&rows[i], &p);
        const flux1_status st = flux1_context_create(&p, &c);
        refused(&rows[i], "flux1_context_create", st, flux1_context_message(c));
        flux1_context_destroy(c);
    }
}

/* ---- requests ---- */

typedef struct fixture {
    flux1_context *c;
    flux1_model *m;
    flux1_text *text; /* of "a", 8 tokens */
    flux1_adapter *adapter;
} fixture;

enum { ENCODE = 1, SAMPLE = 2, DECODE = 4 };

static flux1_status generate(const fixture *f, const flux1_generate_params *p)
{
    flux1_image *images = NULL;
    const flux1_status st = flux1_generate(f->c, f->m, p, &images);
    flux1_images_free(images, p->count);
    return st;
}

static flux1_status check(const fixture *f, const flux1_generate_params *p)
{
    return flux1_generate_check(f->c, f->m, p);
}

static flux1_status batch(const fixture *f, const flux1_generate_params *p)
{
    int together;
    return flux1_generate_batch(f->c, f->m, p, &together);
}

static flux1_status encode(const fixture *f, const flux1_generate_params *p)
{
    flux1_text *text;
    const flux1_status st = flux1_encode_text(f->c, f->m, p, &text);
    flux1_text_free(text);
    return st;
}

static flux1_status sample(const fixture *f, const flux1_generate_params *p)
{
    flux1_sampler *s;
    const flux1_status st = flux1_sampler_create(f->c, f->m, f->text, p, &s);
    flux1_sampler_free(s);
    return st;
}

static flux1_status decode(const fixture *f, const flux1_generate_params *p)
{
    static float values[64];
    flux1_image *images = NULL;
    const flux1_latents l = {.size = sizeof l, .values = values, .dims = 4, .shape = {1, 16, 2, 2}};
    const flux1_status st = flux1_decode(f->c, f->m, &l, p, &images);
    flux1_images_free(images, p->count);
    return st;
}

static const struct {
    const char *name;
    flux1_status (*make)(const fixture *f, const flux1_generate_params *p);
    unsigned bit; /* 0: it uses all */
} calls[] = {
    {"flux1_generate", generate, 0},       {"flux1_generate_check", check, 0},       {"flux1_generate_batch", batch, 0},
    {"flux1_encode_text", encode, ENCODE}, {"flux1_sampler_create", sample, SAMPLE}, {"flux1_decode", decode, DECODE},
};

static void plain_request(flux1_generate_params *p)
{
    flux1_generate_params_defaults(p);
    p->prompt = "a";
    p->width = p->height = 16;
    p->steps = 1;
    p->max_sequence_length = 8;
}

static void open_fixture(fixture *f)
{
    flux1_generate_params p;
    plain_request(&p);
    f->c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    f->m = model_of(f->c, FOLDER);
    assert_int_equal(flux1_encode_text(f->c, f->m, &p, &f->text), FLUX1_OK);
    if (flux1_adapter_open(f->c, f->m, LORA, &f->adapter) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(f->c));
}

static void close_fixture(fixture *f)
{
    flux1_adapter_close(f->adapter);
    flux1_text_free(f->text);
    flux1_model_close(f->m);
    flux1_context_destroy(f->c);
}

static void try_calls(const fixture *f, const field *row, const flux1_generate_params *p)
{
    for (size_t k = 0; k < COUNT(calls); k++) {
        const flux1_status st = calls[k].make(f, p);
        if (!calls[k].bit || (row->uses & calls[k].bit))
            refused(row, calls[k].name, st, flux1_context_message(f->c));
        else if (st != FLUX1_OK)
            fail_msg("%s does not use %s: %s", calls[k].name, row->name, flux1_context_message(f->c));
    }
}

static void of_requests(void **state)
{
    (void)state;
    typedef flux1_generate_params type;
    static const field rows[] = {
        SIZES(type),
        INT(type, width, -1, "-1: it should be a positive", SAMPLE | DECODE),
        INT(type, width, 65537, "65537: at most 65536", SAMPLE | DECODE),
        INT(type, height, -16, "-16", SAMPLE | DECODE),
        INT(type, height, INT32_MAX, "2147483647: at most 65536", SAMPLE | DECODE),
        INT(type, steps, 0, "0: it should be at least 1", SAMPLE),
        INT(type, steps, -2, "-2", SAMPLE),
        INT(type, steps, INT32_MAX, "2147483647: at most", SAMPLE),
        REAL(type, guidance, NAN, "nan: it should be a finite number", SAMPLE),
        REAL(type, guidance, INFINITY, "inf", SAMPLE),
        REAL(type, guidance, -INFINITY, "-inf", SAMPLE),
        INT(type, count, 0, "0: it should be at least 1", DECODE),
        INT(type, count, INT32_MIN, "-2147483648", DECODE),
        INT(type, count, INT32_MAX, "2147483647: at most", DECODE),
        INT(type, max_sequence_length, -1, "-1: it should be 1 to", ENCODE | SAMPLE),
        INT(type, max_sequence_length, 513, "513: at most", ENCODE | SAMPLE),
        INT(type, preview_every, -1, "-1: it should be a number of steps"),
        INT(type, tiling, -1, "-1: it should be one of flux1_tiling", SAMPLE | DECODE),
        INT(type, tiling, 4, "4", SAMPLE | DECODE),
        REAL(type, true_cfg_scale, NAN, "nan: it should be a finite", SAMPLE),
        REAL(type, true_cfg_scale, -INFINITY, "-inf", SAMPLE),
        INT(type, batch, -1, "-1: it should be a number of pictures"),
        INT(type, adapter_count, -1, "-1: it should be the length of adapters", ENCODE | SAMPLE),
        INT(type, adapter_count, 1, "1: it should be the length of adapters", ENCODE | SAMPLE),
        INT(type, rng, -1, "-1: it should be one of flux1_rng", SAMPLE),
        INT(type, rng, 2, "2", SAMPLE),
        INT(type, rng_threads, -1, "-1: it should be a GPU's", SAMPLE),
        INT(type, rng_threads, 255, "255", SAMPLE),
        INT(type, preview_kind, -1, "-1: it should be one of flux1_preview_kind"),
        INT(type, preview_kind, 2, "2"),
        REAL(type, step_cache, -0.5, "-0.5: it should be a threshold", SAMPLE),
        REAL(type, step_cache, NAN, "nan", SAMPLE),
    };
    fixture f;
    open_fixture(&f);
    for (size_t i = 0; i < COUNT(rows); i++) {
        type p;
        plain_request(&p);
        set(&rows[i], &p);
        try_calls(&f, &rows[i], &p);
    }
    close_fixture(&f);
}

/* No text of another model or prompt, no prompt but UTF-8, no adapter with a scale that is none. */
static void of_requests_that_point_elsewhere(void **state)
{
    (void)state;
    fixture f;
    flux1_generate_params p;
    open_fixture(&f);
    const flux1_adapter_use none[] = {{NULL, 1}}, nan[] = {{f.adapter, NAN}}, infinite[] = {{f.adapter, -INFINITY}},
                            many[17] = {{f.adapter, 1}}, *const uses[] = {none, nan, infinite, many};
    static const field rows[] = {{.name = "adapters[0]", .says = "opened for this model", .uses = ENCODE | SAMPLE},
                                 {.name = "adapters[0]", .says = "scale nan", .uses = ENCODE | SAMPLE},
                                 {.name = "adapters[0]", .says = "scale -inf", .uses = ENCODE | SAMPLE},
                                 {.name = "adapter_count", .says = "17: at most 16", .uses = ENCODE | SAMPLE}};
    for (int i = 0; i < 4; i++) {
        plain_request(&p);
        p.adapters = uses[i];
        p.adapter_count = i < 3 ? 1 : 17;
        try_calls(&f, &rows[i], &p);
    }
    static const field prompt = {.name = "prompt", .says = "UTF-8", .uses = ENCODE | SAMPLE},
                       text = {.name = "the text", .says = "another prompt"},
                       seed = {.name = "seed", .says = "18446744073709551615", .uses = DECODE};
    plain_request(&p);
    p.prompt = "\xC3(";
    try_calls(&f, &prompt, &p);
    plain_request(&p);
    p.text = f.text;
    p.max_sequence_length = 9;
    assert_int_equal(generate(&f, &p), FLUX1_ERR_ARGUMENT);
    refused(&text, "flux1_generate", FLUX1_ERR_ARGUMENT, flux1_context_message(f.c));
    plain_request(&p);
    p.dump = scratch_path("fields.both");
    char other[4096]; /* the same place in other words */
    const char *slash = strrchr(p.dump, '/');
    snprintf(other, sizeof other, "%.*s/./%s", (int)(slash - p.dump), p.dump, slash + 1);
    p.profile = other;
    assert_int_equal(generate(&f, &p), FLUX1_ERR_ARGUMENT);
    refused(&(field){.name = "dump and profile", .says = "both name"}, "flux1_generate", FLUX1_ERR_ARGUMENT,
            flux1_context_message(f.c));
    flux1_adapter *lora;
    assert_int_equal(flux1_adapter_open(f.c, f.m, "", &lora), FLUX1_ERR_ARGUMENT);
    assert_null(lora);
    plain_request(&p);
    p.seed = UINT64_MAX;
    p.count = 2;
    try_calls(&f, &seed, &p);
    close_fixture(&f);
}

static void of_latents(void **state)
{
    (void)state;
    typedef flux1_latents type;
    static float values[64];
    static const int64_t huge = INT64_MAX;
    static const field rows[] = {
        SIZES(type),
        TEXT(type, values, NULL, "is not set"),
        INT(type, dims, -1, "-1, it should be 4"),
        INT(type, dims, 5, "5, it should be 4"),
        INT(type, unscaled, 2, "2: it should be 0 or 1"),
        INT(type, width, -1, "-1, it should be a picture's"),
        INT(type, height, 65537, "65537, it should be a picture's"),
    };
    fixture f;
    flux1_generate_params p;
    const type good = {.size = sizeof good, .values = values, .dims = 4, .shape = {1, 16, 2, 2}};
    open_fixture(&f);
    plain_request(&p);
    for (size_t i = 0; i < COUNT(rows); i++) {
        type l = good;
        set(&rows[i], &l);
        p.latents = &l;
        refused(&rows[i], "flux1_generate_check", check(&f, &p), flux1_context_message(f.c));
    }
    for (int k = 0; k < 8; k++) {
        type l = good;
        l.shape[k % 4] = k < 4 ? huge : -1;
        p.latents = &l;
        refused(&(field){.name = "shape", .says = "this model's are"}, "flux1_generate_check", check(&f, &p),
                flux1_context_message(f.c));
    }
    p.latents = &good;
    assert_int_equal(check(&f, &p), FLUX1_OK);
    close_fixture(&f);
}

/* ---- pictures and models ---- */

static void of_pictures(void **state)
{
    (void)state;
    typedef flux1_write_params type;
    static const field rows[] = {
        {"size", offsetof(type, size), AS_UINT64, 0, NULL, "is not set", 0},
        INT(type, format, -1, "-1: it should be one of flux1_format"),
        INT(type, format, 4, "4"),
        INT(type, quality, -1, "-1: it should be 1 to 100, or 0"),
        INT(type, quality, 101, "101"),
        INT(type, plain, 2, "2: it should be 0 or 1"),
        INT(type, adapter_names, -1, "-1: it should be 0 or 1"),
    };
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    uint8_t pixels[12] = {0}, *bytes;
    size_t count;
    const flux1_image good = {.size = sizeof good, .width = 2, .height = 2, .pixels = pixels};
    for (size_t i = 0; i < COUNT(rows); i++) {
        type how;
        flux1_write_params_defaults(&how);
        set(&rows[i], &how);
        const flux1_status st = flux1_image_encode(c, &good, NULL, NULL, &how, &bytes, &count);
        refused(&rows[i], "flux1_image_encode", st, flux1_context_message(c));
    }
    for (int i = 0; i < 4; i++) {
        flux1_image bad = good;
        *(i & 1 ? &bad.width : &bad.height) = i & 2 ? INT32_MIN : 0;
        assert_int_equal(flux1_image_encode(c, &bad, NULL, NULL, NULL, &bytes, &count), FLUX1_ERR_ARGUMENT);
        assert_non_null(strstr(flux1_context_message(c), i & 2 ? "-2147483648" : "0"));
    }
    for (int format = FLUX1_FORMAT_PNG; format <= FLUX1_FORMAT_WEBP;
         format++) { /* a text that is not UTF-8 loses none */
        flux1_write_params how;
        flux1_write_params_defaults(&how);
        how.format = (flux1_format)format;
        how.parameters = how.json = "\xFF";
        const flux1_status st = flux1_image_encode(c, &good, NULL, NULL, &how, &bytes, &count);
        assert_true(st == FLUX1_OK || st == FLUX1_ERR_UNSUPPORTED);
        flux1_bytes_free(bytes);
    }
    assert_int_equal(flux1_format_check(c, FLUX1_FORMAT_PNG, -1, 2), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_format_check(c, FLUX1_FORMAT_PNG, 2, -1), FLUX1_ERR_ARGUMENT);
    flux1_context_destroy(c);
}

static void of_models(void **state)
{
    (void)state;
    typedef flux1_model_parts type;
    static char longest[300];
    static const field rows[] = {SIZES(type), TEXT(type, file_variant, "../fp16", "../fp16"),
                                 TEXT(type, file_variant, longest, "a variant's name")};
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_model *m;
    memset(longest, 'f', sizeof longest - 1);
    for (size_t i = 0; i < COUNT(rows); i++) {
        type parts = {.size = sizeof parts, .model = FOLDER};
        set(&rows[i], &parts);
        const flux1_status st = flux1_model_open_parts(c, &parts, &m);
        refused(&rows[i], "flux1_model_open_parts", st, flux1_context_message(c));
        assert_null(m);
    }
    flux1_context_destroy(c);
}

/* ---- tools ---- */

static void of_benches(void **state)
{
    (void)state;
    typedef flux1_bench_params type;
    static const field rows[] = {
        SIZES(type),
        TEXT(type, variant, NULL, "NULL"),
        TEXT(type, variant, "pro", "pro"),
        TEXT(type, stage, NULL, "NULL"),
        TEXT(type, stage, "unet", "\"unet\": it should be all"),
        INT(type, width, -1, "-1"),
        INT(type, height, 65537, "65537"),
        INT(type, steps, 0, "0: it should be at least 1"),
        INT(type, steps, -2, "-2"),
        INT(type, sequence_length, -1, ""),
        INT(type, repeats, -1, "-1: it should be 0 to"),
        INT(type, repeats, INT32_MAX, "2147483647"),
        INT(type, weights, 77, "77: it should be FLUX1_DTYPE_F32 or FLUX1_DTYPE_BF16"),
        INT(type, weights, -1, "-1"),
        INT(type, weights, FLUX1_DTYPE_INT8, "4"),
        INT(type, runs, -1, "-1: it should be 1 to"),
        INT(type, runs, INT32_MAX, "2147483647"),
        INT(type, clip_tokens, -1, "-1"),
        INT(type, clip_tokens, 78, "78"),
    };
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    for (size_t i = 0; i < COUNT(rows); i++) {
        type p;
        char *json;
        flux1_bench_params_defaults(&p);
        p.repeats = 0;
        p.path = strcmp(rows[i].name, "variant") == 0 ? NULL : FOLDER;
        set(&rows[i], &p);
        field row = rows[i];
        row.name = strcmp(row.name, "sequence_length") == 0 ? "max_sequence_length" : row.name;
        refused(&row, "flux1_bench_json", flux1_bench_json(c, &p, &json), flux1_context_message(c));
        assert_null(json);
    }
    flux1_context_destroy(c);
}

static void of_plans(void **state)
{
    (void)state;
    typedef flux1_plan_params type;
    static const field rows[] = {
        SIZES(type),
        TEXT(type, variant, NULL, "NULL"),
        TEXT(type, variant, "pro", "pro"),
        TEXT(type, machine, NULL, "NULL"),
        TEXT(type, machine, "none", "none"),
        TEXT(type, mesh, "2y", "2y"),
        TEXT(type, sp, "2", ""),
        TEXT(type, tp, "9@0", ""),
        INT(type, width, -1, "-1"),
        INT(type, height, 65537, "65537"),
        INT(type, steps, -1, "-1: it should be at least 1, or 0"),
        INT(type, steps, INT32_MAX, "2147483647"),
        INT(type, sequence_length, -1, ""),
        INT(type, dtype, 9, "9: it should be one of flux1_dtype"),
        INT(type, dtype, -1, "-1"),
        INT(type, describe, 2, "2: it should be 0 or 1"),
        TEXT(type, file_variant, "a/b", "a/b"),
    };
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    for (size_t i = 0; i < COUNT(rows); i++) {
        type p;
        char *json;
        flux1_plan_params_defaults(&p);
        p.machine = "wh-n300";
        set(&rows[i], &p);
        field row = rows[i];
        row.name = strcmp(row.name, "sequence_length") == 0 ? "max_sequence_length" : row.name;
        refused(&row, "flux1_plan_json", flux1_plan_json(c, &p, &json), flux1_context_message(c));
        assert_null(json);
    }
    flux1_context_destroy(c);
}

static void of_other_tools(void **state)
{
    (void)state;
    static const field doctor[] = {SIZES(flux1_doctor_params), TEXT(flux1_doctor_params, device, "cpu", "cuda or ttnn"),
                                   INT(flux1_doctor_params, model_asked, -1, "-1: it should be 0 or 1")},
                       pull[] = {SIZES(flux1_pull_params), TEXT(flux1_pull_params, repository, NULL, "NULL"),
                                 INT(flux1_pull_params, file_count, 1, "NULL")},
                       convert[] = {SIZES(flux1_convert_params),
                                    TEXT(flux1_convert_params, type, "q9", "q9"),
                                    TEXT(flux1_convert_params, part, "unet", "unet"),
                                    TEXT(flux1_convert_params, names, "x", "bfl or diffusers"),
                                    INT(flux1_convert_params, adapter_count, -1, "-1"),
                                    TEXT(flux1_convert_params, file_variant, "a/b", "a/b")};
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    char *json;
    for (size_t i = 0; i < COUNT(doctor); i++) {
        flux1_doctor_params p;
        flux1_doctor_params_defaults(&p);
        set(&doctor[i], &p);
        refused(&doctor[i], "flux1_doctor_json", flux1_doctor_json(c, &p, &json), flux1_context_message(c));
    }
    for (size_t i = 0; i < COUNT(pull); i++) {
        flux1_pull_params p;
        flux1_pull_params_defaults(&p);
        p.repository = "org/name";
        set(&pull[i], &p);
        field row = pull[i];
        row.name = strcmp(row.name, "file_count") == 0 ? "files" : row.name;
        refused(&row, "flux1_pull_json", flux1_pull_json(c, &p, &json), flux1_context_message(c));
    }
    const char *out = scratch_path("fields.safetensors");
    for (size_t i = 0; i < COUNT(convert) + 1; i++) {
        flux1_convert_params p;
        const flux1_adapter_file nan = {LORA, NAN};
        field row = {.name = "adapter 0", .says = "scale nan, it should be a finite number"};
        flux1_convert_params_defaults(&p);
        p.part = "transformer";
        if (i < COUNT(convert))
            set(&convert[i], &p);
        else {
            p.adapters = &nan;
            p.adapter_count = 1;
        }
        if (i < COUNT(convert))
            row = convert[i];
        if (strcmp(row.name, "adapter_count") == 0)
            row.name = "adapters";
        refused(&row, "flux1_convert", flux1_convert(c, FOLDER, out, &p, &json), flux1_context_message(c));
        assert_null(json);
        assert_false(is_there(out));
    }
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_contexts),
        cmocka_unit_test(of_requests),
        cmocka_unit_test(of_requests_that_point_elsewhere),
        cmocka_unit_test(of_latents),
        cmocka_unit_test(of_pictures),
        cmocka_unit_test(of_models),
        cmocka_unit_test(of_benches),
        cmocka_unit_test(of_plans),
        cmocka_unit_test(of_other_tools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
