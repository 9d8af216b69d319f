/* What `flux1 info` says a request takes is the sum over the ranks of a mesh: their work is that of one device, and
 * each holds its own share of the weights. */
#include "support/golden.h"

#include "base/json.h"
#include "flux1_tools.h"

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
    flux1_context *c = context_on("cpu", shape, 1, FLUX1_DTYPE_F32);
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
    assert_non_null(strstr(flux1_context_message(c), "--clip, --vae"));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_single_file_is_described),
        cmocka_unit_test(a_mesh_does_the_work_of_one_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
