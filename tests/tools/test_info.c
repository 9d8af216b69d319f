/* What `flux1 info` says a request takes is the sum over the ranks of a mesh: their work is that of one device, and
 * each holds its own share of the weights. */
#include "support/golden.h"

#include "base/json.h"
#include "flux1_tools.h"
#include "tools/machine_cpu.h"
#include "weights/small_cache.h"

#include <stdlib.h>

typedef struct takes {
    double flops, memory, weights, exchanged;
} takes;

enum { DENOISE = 2, DECODE, STAGES };
static const char *const NAMES[STAGES] = {"CLIP", "T5", "denoise", "decode"};

static double number_of(const json_value *stage, const char *key)
{
    const json_value *v = json_object_get(stage, key);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static void stages_on(const char *shape, const char *pipeline, const flux1_generate_params *p, takes out[STAGES])
{
    char *text, folder[512];
    json_value *json;
    flux1_error err = {0};
    snprintf(folder, sizeof folder, "%s/pipelines/%s", TEST_DATA, pipeline);
    flux1_context *c = context_on("cpu", shape, 2, FLUX1_DTYPE_F32);
    if (flux1_info_json(c, folder, p, 0, &text) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    assert_int_equal(json_parse(text, strlen(text), "info", &json, &err), FLUX1_OK);
    const json_value *list = json_object_get(json_object_get(json, "request"), "stages");
    for (int i = 0; i < STAGES; i++) {
        const json_value *s = json_array_get(list, (size_t)i);
        assert_string_equal(json_string_value(json_object_get(s, "stage")), NAMES[i]);
        out[i] = (takes){number_of(s, "flops"), number_of(s, "activation_bytes"), number_of(s, "weight_bytes"),
                         number_of(s, "exchanged_bytes")};
    }
    json_free(json);
    flux1_string_free(text);
    flux1_context_destroy(c);
}

static void near(double got, double want, const char *what, const char *shape)
{
    if (!(fabs(got - want) <= 1e-3 * want))
        fail_msg("%s on %s: %.4f times one device's, it should be %.4f", what, shape, got, want);
}

/* Weights of all ranks, in those of one device. tp cuts all but norms, embeddings and the ends; the blocks of the
 * denoiser are on every sp rank, its modulations are not; the decoder is whole on each rank. */
static void check_weights(int stage, double weights, double on_tp_alone, int sp, int ranks, const char *shape)
{
    double alike = ranks / sp == 1 ? 1 : on_tp_alone; /* of the ranks of one sp rank */
    if (stage == DECODE)
        near(weights, ranks, NAMES[stage], shape);
    else if (stage != DENOISE && ranks == 2)
        near(weights, on_tp_alone, NAMES[stage], shape);
    else if (stage == DENOISE && sp > 1)
        assert_true(weights > on_tp_alone && weights < sp * alike);
    else
        assert_true(weights > 1 && weights < ranks);
}

static void a_mesh_does_the_work_of_one_device(void **state)
{
    (void)state;
    static const char *const pipelines[] = {"schnell", "dev"}, *const shapes[] = {"1x2", "2x1", "2x2"};
    static const int sp[] = {1, 2, 2}, ranks[] = {2, 2, 4};
    for (int k = 0; k < 2; k++) {
        flux1_generate_params p;
        takes one[STAGES], all[STAGES];
        double tp[STAGES] = {0};
        flux1_generate_params_defaults(&p);
        p.width = 512;
        p.height = 256;
        p.steps = 2;
        p.max_sequence_length = 16;
        stages_on("1x1", pipelines[k], &p, one);
        for (int i = 0; i < STAGES; i++)
            assert_true(one[i].flops > 0 && one[i].memory > 0 && one[i].weights > 0 && one[i].exchanged == 0);
        for (int s = 0; s < 3; s++) {
            stages_on(shapes[s], pipelines[k], &p, all);
            for (int i = 0; i < STAGES; i++) {
                double flops = all[i].flops / one[i].flops, weights = all[i].weights / one[i].weights,
                       memory = all[i].memory / one[i].memory;
                near(flops, 1, NAMES[i], shapes[s]);
                if (sp[s] == 1)
                    tp[i] = weights;
                check_weights(i, weights, tp[i], sp[s], ranks[s], shapes[s]);
                assert_true(memory > 1 && memory <= ranks[s] && all[i].exchanged > 0);
            }
        }
    }
}

/* "Q4_0 22.8 %, Q8_0 22.1 %": falling, and 100 in all but for rounding. */
static void check_shares(const char *text)
{
    double sum = 0, last = 100;
    int types = 0;
    assert_non_null(strstr(text, "Q4_K "));
    for (const char *at = text; (at = strchr(at, ' ')); types++) {
        char *end;
        const double percent = strtod(at, &end);
        assert_true(percent <= last && strncmp(end, " %", 2) == 0);
        sum += last = percent;
        at = strchr(end, ',') ? strchr(end, ',') + 2 : end + 2;
    }
    assert_true(types == 8 && fabs(sum - 100) < 0.5);
}

/* A file of one part: told by its content, with what was found beside it and what is missing. Shares are percentages of
 * all parameters. */
static void a_single_file_is_described(void **state)
{
    (void)state;
    char *text;
    json_value *json;
    flux1_error err = {0};
    flux1_generate_params p;
    flux1_generate_params_defaults(&p);
    flux1_context *c = context_on("cpu", "", 1, FLUX1_DTYPE_F32);
    setenv("HF_HUB_CACHE", "/nowhere", 1); /* T5 is beside it, the others fit no shapes without a config */
    assert_int_equal(flux1_info_json(c, TEST_DATA "/files/gguf/flux1.gguf", &p, 0, &text), FLUX1_ERR_MODEL);
    assert_non_null(strstr(flux1_context_message(c), "are missing: clip, vae;"));
    assert_int_equal(json_parse(text, strlen(text), "info", &json, &err), FLUX1_OK);
    assert_non_null(strstr(json_string_value(json_object_get(json, "kind")), "FLUX.1 dev"));
    const json_value *list = json_object_get(json, "components"), *dit = json_array_get(list, 1);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_object_get(dit, "component")), "transformer");
    assert_string_equal(json_string_value(json_object_get(dit, "path")), TEST_DATA "/files/gguf/flux1.gguf");
    check_shares(json_string_value(json_object_get(dit, "dtypes")));
    list = json_object_get(json, "missing");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "component")), "vae");
    assert_non_null(strstr(json_string_value(json_object_get(json_array_get(list, 1), "get")), "flux1 pull "));
    list = json_object_get(json, "chosen");
    assert_int_equal(json_array_size(list), 1);
    assert_non_null(strstr(json_string_value(json_array_get(list, 0)), "/gguf/t5.gguf (found beside it"));
    json_free(json);
    flux1_string_free(text);
    flux1_context_destroy(c);
}

/* ---- adapters ---- */

#define LORAS TEST_DATA "/files/lora/"

/* What a step of 16 image tokens and 16 of a prompt takes on a device without rates, with these adapters; *json is the
 * description. */
static void takes_with(const char *pipeline, const flux1_adapter_file *adapters, int count, takes out[STAGES],
                       json_value **json)
{
    char *text, folder[512];
    snprintf(folder, sizeof folder, "%s/pipelines/%s", TEST_DATA, pipeline);
    const flux1_model_parts parts = {.size = sizeof parts, .model = folder};
    flux1_generate_params p;
    flux1_generate_params_defaults(&p);
    p.width = p.height = 64;
    p.max_sequence_length = 16;
    p.steps = 1;
    flux1_context *c = context_on("ref", "", 1, FLUX1_DTYPE_F32);
    if (flux1_info_parts_json(c, &parts, adapters, count, &p, 0, &text) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    assert_int_equal(json_parse(text, strlen(text), "info", json, NULL), FLUX1_OK);
    const json_value *list = json_object_get(json_object_get(*json, "request"), "stages");
    for (int i = 0; i < STAGES; i++) {
        const json_value *s = json_array_get(list, (size_t)i);
        out[i] = (takes){number_of(s, "flops"), number_of(s, "activation_bytes"), number_of(s, "weight_bytes"), 0};
    }
    flux1_string_free(text);
    flux1_context_destroy(c);
}

/* Rank 2 of the image's qkv (32 to 96, 16 rows), of a single block's qkv and MLP (32 to 96 and 128, 32 rows, which have
 * the 2 × 32 in common and count them twice), and of the last block's output (160 to 32, of which the image's 16 rows
 * are wanted): 2·2·(16·128 + 32·128 + 32·160 + 16·192) FLOP, and 2-byte values 128·2 + 160·2 + 128·2 + 192·2. In the
 * other file CLIP's last fc2 has rank 3, 64 to 32, of the one row that is pooled. */
static void a_request_is_planned_with_its_adapters(void **state)
{
    (void)state;
    const flux1_adapter_file kohya = {LORAS "kohya.safetensors", 0.5f}, text = {LORAS "golden/kohya.safetensors", 1};
    takes plain[STAGES], with[STAGES];
    json_value *json, *none;
    takes_with("schnell", NULL, 0, plain, &none);
    takes_with("schnell", &kohya, 1, with, &json);
    const json_value *one = json_array_get(json_object_get(json, "adapters"), 0);
    assert_null(json_object_get(none, "adapters"));
    assert_string_equal(json_string_value(json_object_get(one, "adapter")), kohya.path);
    assert_string_equal(json_string_value(json_object_get(one, "kinds")), "LoRA");
    assert_true(number_of(one, "applied") == 3 && number_of(one, "entries") == 3 && number_of(one, "scale") == 0.5);
    assert_true(with[DENOISE].flops - plain[DENOISE].flops == 4 * (16 * 128 + 32 * 128 + 32 * 160 + 16 * 192));
    assert_true(with[DENOISE].weights - plain[DENOISE].weights == 2 * (2 * 128 + 2 * 160 + 2 * 128 + 2 * 192));
    assert_true(with[0].flops == plain[0].flops && with[1].weights == plain[1].weights);
    json_free(json);
    json_free(none);
    takes_with("packed", NULL, 0, plain, &none);
    takes_with("packed", &text, 1, with, &json);
    assert_true(with[0].flops - plain[0].flops == 2 * 3 * (64 + 32));
    assert_true(with[0].weights - plain[0].weights == 2 * 3 * (64 + 32));
    json_free(json);
    json_free(none);
}

/* ---- the estimate ---- */

#define RATE 1e9 /* FLOP/s and bytes/s of everything */

static const machine_dtype F32 = {0, INT8_NONE}, BF16 = {1, INT8_NONE};

/* What a context finds of its machine: an entry as an earlier run leaves it, with round numbers; products in int8 are
 * four times as fast. Nothing is left to be measured, which takes minutes under sanitizers. */
static void keep_round_rates(flux1_context *c, machine_dtype type)
{
    static const char *const by_flops[] = {"product", "attention", "conv"};
    static const char *const by_bytes[] = {
        "add",         "euler",          "layer_norm",      "rms_norm",    "cast",
        "pack",        "unpack",         "copy_rows",       "activate",    "finite",
        "group_stats", "head_norm_rope", "attention_merge", "group_apply", "upsample"};
    machine m;
    assert_int_equal(machine_find("this-cpu", &m, &(flux1_error){0}), FLUX1_OK);
    for (size_t i = 0; i < sizeof by_flops / sizeof *by_flops; i++, m.rates++) {
        m.rate[m.rates].flops[type.exact] = RATE;
        snprintf(m.rate[m.rates].operation, MACHINE_OPERATION, "%s", by_flops[i]);
    }
    const char *const in_int8[] = {machine_product(type.int8), machine_attention(type.int8)};
    const int known = type.int8 == INT8_NONE ? 0 : type.int8 == INT8_ROTATED ? 2 : 1; /* int8 attends in floats */
    for (int i = 0; i < known; i++, m.rates++) {
        m.rate[m.rates].flops[type.exact] = 4 * RATE;
        snprintf(m.rate[m.rates].operation, MACHINE_OPERATION, "%s", in_int8[i]);
    }
    for (size_t i = 0; i < sizeof by_bytes / sizeof *by_bytes; i++, m.rates++) {
        m.rate[m.rates] = (machine_rate){.bytes = RATE};
        snprintf(m.rate[m.rates].operation, MACHINE_OPERATION, "%s", by_bytes[i]);
    }
    for (machine_exchange_kind k = 0; k < EXCHANGES; k++)
        m.exchange[k] = (machine_exchange){.seconds = 1e-6, .rate = RATE};
    m.peak[type.exact] = m.memory_rate = RATE;
    m.launch = 1e-7;
    machine_keep(c, type, &m);
}

typedef struct estimated {
    double memory, flops, seconds;
} estimated;

static json_value *request_of(const flux1_generate_params *p, flux1_context *c)
{
    char *text;
    json_value *json;
    if (flux1_info_json(c, TEST_DATA "/pipelines/schnell", p, 0, &text) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    assert_int_equal(json_parse(text, strlen(text), "info", &json, NULL), FLUX1_OK);
    flux1_string_free(text);
    return json;
}

/* The rows of the table, the last one for all; returns the seconds of a step. */
static double estimate_in(flux1_dtype type, const char *name, const flux1_generate_params *p, estimated out[STAGES + 1])
{
    char measured[64];
    flux1_context *c = context_on("cpu", "", 2, type);
    snprintf(measured, sizeof measured, "2 threads, %s (measured)", name);
    json_value *json = request_of(p, c);
    const json_value *request = json_object_get(json, "request"), *list = json_object_get(request, "estimate");
    const double step = number_of(request, "step_seconds");
    assert_non_null(strstr(json_string_value(json_object_get(request, "machine")), measured));
    assert_int_equal(json_array_size(list), STAGES + 1);
    for (int i = 0; i <= STAGES; i++) {
        const json_value *row = json_array_get(list, (size_t)i);
        assert_string_equal(json_string_value(json_object_get(row, "stage")), i < STAGES ? NAMES[i] : "all");
        out[i] = (estimated){number_of(row, "memory_bytes"), number_of(row, "flops"), number_of(row, "seconds")};
    }
    json_free(json);
    flux1_context_destroy(c);
    return step;
}

static double estimate_of(const flux1_generate_params *p, estimated out[STAGES + 1])
{
    return estimate_in(FLUX1_DTYPE_F32, "f32", p, out);
}

static flux1_generate_params small_request(int steps, int count)
{
    flux1_generate_params p;
    flux1_generate_params_defaults(&p);
    p.width = 512;
    p.height = 256;
    p.max_sequence_length = 16;
    p.steps = steps;
    p.count = count;
    return p;
}

/* At 1e9 FLOP/s, work takes a second a GFLOP, and passes over memory come on top. */
static void the_estimate_adds_up(void **state)
{
    (void)state;
    estimated one[STAGES + 1], more[STAGES + 1];
    flux1_generate_params p = small_request(2, 1);
    const double step = estimate_of(&p, one);
    estimated sum = {0};
    for (int i = 0; i < STAGES; i++) {
        assert_true(one[i].seconds >= one[i].flops / RATE && one[i].seconds < 3 * one[i].flops / RATE + 0.1);
        sum.flops += one[i].flops;
        sum.seconds += one[i].seconds;
        sum.memory = one[i].memory > sum.memory ? one[i].memory : sum.memory;
    }
    near(one[STAGES].seconds, sum.seconds, "seconds", "all");
    near(one[STAGES].flops, sum.flops, "work", "all");
    near(one[STAGES].memory, sum.memory, "memory", "all");
    p = small_request(5, 1);
    near(estimate_of(&p, more), step, "a step", "five steps");
    assert_float_equal(more[DENOISE].seconds, one[DENOISE].seconds + 3 * step, 1e-2 * step); /* one opening */
    p = small_request(2, 3);
    estimate_of(&p, more);
    assert_float_equal(more[DENOISE].seconds, one[DENOISE].seconds + 2 * 2 * step, 1e-3 * step);
    near(more[DECODE].seconds, 3 * one[DECODE].seconds, "decoding", "three pictures");
    near(more[0].seconds, one[0].seconds, "CLIP", "three pictures of one prompt");
}

/* The products of T5 and of the transformer's blocks go at int8's rate, with int8-fast attention too, everything else
 * at that of the arithmetic. */
static void int8_has_rates_of_its_own(void **state)
{
    (void)state;
    static const struct {
        flux1_dtype dtype;
        const char *name;
        int8_kind kind;
    } kinds[] = {{FLUX1_DTYPE_INT8, "int8", INT8_FINE}, {FLUX1_DTYPE_INT8_FAST, "int8-fast", INT8_ROTATED}};
    const bool bf16 = ops_cpu_multiplies_bf16();
    estimated exact[STAGES + 1], fast[STAGES + 1];
    flux1_generate_params p = small_request(1, 1);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
        keep_round_rates(c, (machine_dtype){bf16, INT8_NONE});
        keep_round_rates(c, (machine_dtype){bf16, kinds[k].kind});
        flux1_context_destroy(c);
        estimate_in(FLUX1_DTYPE_AUTO, bf16 ? "bf16" : "f32", &p, exact);
        estimate_in(kinds[k].dtype, kinds[k].name, &p, fast);
        near(fast[0].seconds, exact[0].seconds, "CLIP", kinds[k].name);
        near(fast[DECODE].seconds, exact[DECODE].seconds, "decoding", kinds[k].name);
        for (int i = 1; i <= DENOISE; i++)
            if (!(fast[i].seconds > 0.25 * exact[i].seconds && fast[i].seconds < 0.9 * exact[i].seconds))
                fail_msg("%s in %s: %g s, exact %g s", NAMES[i], kinds[k].name, fast[i].seconds, exact[i].seconds);
    }
}

/* Tiles overlap: their work is more, and so are their seconds. */
static void tiles_take_the_share_of_their_work(void **state)
{
    (void)state;
    estimated whole[STAGES + 1], tiles[STAGES + 1];
    flux1_generate_params p = small_request(1, 1);
    p.tiling = FLUX1_TILING_NO;
    estimate_of(&p, whole);
    p.tiling = FLUX1_TILING_YES;
    estimate_of(&p, tiles);
    assert_true(tiles[DECODE].flops > 1.01 * whole[DECODE].flops);
    near(tiles[DECODE].seconds / whole[DECODE].seconds, tiles[DECODE].flops / whole[DECODE].flops, "decoding", "tiles");
}

/* "fits" and "not_counted" on a host with that much memory; returns what denoising takes of it at most. */
static uint64_t on_host(uint64_t memory, bool fits, const char *says)
{
    flux1_generate_params p = small_request(1, 1);
    flux1_context_params params;
    flux1_context *c;
    p.width = p.height = 64; /* denoising takes more than decoding */
    flux1_context_params_defaults(&params);
    params.threads = 2;
    params.max_memory = memory;
    assert_int_equal(flux1_context_create(&params, &c), FLUX1_OK);
    json_value *json = request_of(&p, c);
    const json_value *request = json_object_get(json, "request");
    assert_int_equal(json_is_true(json_object_get(request, "fits")), fits);
    assert_non_null(strstr(json_string_value(json_object_get(request, "not_counted")), says));
    const double peak = number_of(json_array_get(json_object_get(request, "estimate"), DENOISE), "peak_bytes");
    json_free(json);
    flux1_context_destroy(c);
    return (uint64_t)peak;
}

/* A request is described also where it would be refused. A byte too few for all weights, and those that come before the
 * steps are read for each picture; a byte too few for those of the steps, and they are read again in every one. */
static void what_does_not_fit_is_told(void **state)
{
    (void)state;
    static const char again[] = "reading, in every step, what does not stay in the ";
    const uint64_t all = on_host((uint64_t)8 << 30, true, "reading the files, for the first picture"),
                   of_steps = on_host(all - 1, true, "reading the files, for each picture");
    on_host(all, true, "for the first picture");
    assert_true(of_steps < all - 1);
    on_host(of_steps, true, "for each picture");
    on_host(of_steps - 1, true, again);
    on_host(1 << 20, false, again);
}

static int64_t batch_in(uint64_t memory, int batch, bool *fits, uint64_t *need)
{
    flux1_generate_params p = small_request(1, 16);
    flux1_context_params params;
    flux1_context *c;
    p.width = p.height = 64; /* so small that several are computed together */
    p.batch = batch;
    flux1_context_params_defaults(&params);
    params.threads = 2;
    params.max_memory = memory;
    assert_int_equal(flux1_context_create(&params, &c), FLUX1_OK);
    json_value *json = request_of(&p, c);
    const json_value *request = json_object_get(json, "request");
    const int64_t together = json_integer_value(json_object_get(request, "batch"));
    *fits = json_is_true(json_object_get(request, "fits"));
    *need = (uint64_t)number_of(json_array_get(json_object_get(request, "estimate"), DENOISE), "memory_bytes");
    json_free(json);
    flux1_context_destroy(c);
    return together;
}

/* As a run would; a batch that was asked for stays. */
static void a_batch_is_as_large_as_fits(void **state)
{
    (void)state;
    bool fits;
    uint64_t need, less;
    const int64_t most = batch_in((uint64_t)8 << 30, 0, &fits, &need);
    assert_true(most > 2 && fits);
    assert_int_equal(batch_in(need, 0, &fits, &less), most);
    assert_true(fits && less == need);
    assert_int_equal(batch_in(need - 1, 0, &fits, &less), (most + 1) / 2);
    assert_true(fits && less < need);
    assert_int_equal(batch_in(need - 1, (int)most, &fits, &less), most);
    assert_true(!fits && less == need);
}

/* No seconds are better than made-up ones. */
static void a_device_without_rates_says_so(void **state)
{
    (void)state;
    flux1_generate_params p = small_request(1, 1);
    flux1_context *c = context_on("ref", "", 2, FLUX1_DTYPE_F32);
    json_value *json = request_of(&p, c);
    const json_value *request = json_object_get(json, "request");
    const json_value *row = json_array_get(json_object_get(request, "estimate"), STAGES);
    assert_non_null(strstr(json_string_value(json_object_get(request, "machine")), "not known: no rates of ref"));
    assert_true(json_is(json_object_get(row, "seconds"), JSON_NULL) && number_of(row, "flops") > 0);
    assert_true(json_is(json_object_get(request, "step_seconds"), JSON_NULL));
    json_free(json);
    flux1_context_destroy(c);
}

/* A damaged entry, one of another machine and one that was rough and is old do not count. */
static void what_is_kept_is_this_machine(void **state)
{
    (void)state;
    static const char *const others[] = {"", "0", "0\n{", "-1\n{}",
                                         "0\n{\"name\": \"two\", \"mesh\": [1, 1], \"chip\": \"this-cpu\"}"};
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    machine m = {0};
    char name[64], other[64], *entry, *text;
    size_t bytes;
    machine_kept_name(c, F32, name, sizeof name);
    machine_kept_name(c, BF16, other, sizeof other);
    assert_string_not_equal(name, other);
    assert_false(machine_recall(c, BF16, &m));
    assert_true(machine_recall(c, F32, &m));
    assert_true(m.peak[0] == RATE && !m.disturbed && m.rates == 18);
    m.disturbed = true;
    machine_keep(c, F32, &m);
    m = (machine){0};
    assert_true(machine_recall(c, F32, &m) && m.disturbed); /* until in ten minutes */
    assert_true(small_cache_get(name, 1 << 16, &entry, &bytes));
    text = strchr(entry, '\n') - 1;
    *text = '1'; /* in 1970, by what is left of the line */
    assert_int_equal(small_cache_put(name, text, strlen(text), NULL), FLUX1_OK);
    assert_false(machine_recall(c, F32, &m));
    *text = '0';
    char *about = strstr(text, "threads, f32");
    assert_non_null(about);
    *about = 'T'; /* another machine of the same hash */
    assert_int_equal(small_cache_put(name, text, strlen(text), NULL), FLUX1_OK);
    assert_false(machine_recall(c, F32, &m));
    free(entry);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(small_cache_put(name, others[i], strlen(others[i]), NULL), FLUX1_OK);
        assert_false(machine_recall(c, F32, &m));
    }
    flux1_context_destroy(c);
}

/* A cache folder of this test alone. */
static int own_cache(void **state)
{
    static char folder[] = "/tmp/flux1-info-XXXXXX";
    (void)state;
    if (!mkdtemp(folder) || setenv("XDG_CACHE_HOME", folder, 1))
        return -1;
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    keep_round_rates(c, F32);
    flux1_context_destroy(c);
    *state = folder;
    return 0;
}

static int remove_cache(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", (const char *)*state);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_single_file_is_described),     cmocka_unit_test(a_request_is_planned_with_its_adapters),
        cmocka_unit_test(the_estimate_adds_up),           cmocka_unit_test(tiles_take_the_share_of_their_work),
        cmocka_unit_test(what_does_not_fit_is_told),      cmocka_unit_test(a_batch_is_as_large_as_fits),
        cmocka_unit_test(a_device_without_rates_says_so), cmocka_unit_test(a_mesh_does_the_work_of_one_device),
        cmocka_unit_test(what_is_kept_is_this_machine), /* leaves an entry with other rates */
        cmocka_unit_test(int8_has_rates_of_its_own),    /* keeps its own */
    };
    return cmocka_run_group_tests(tests, own_cache, remove_cache);
}
