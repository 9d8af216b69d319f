/* Adapters whose difference is made of the weight too, what replaces weights, and DoRA over LoHa and LoKr, against
 * LyCORIS and PEFT (tools/oracle/relative_goldens.py), at odd sizes: whole tensors, single elements and column ranges,
 * at any strength, from several threads. */
#include "base/pool.h"
#include "weights/adapter_merge.h"

#include "support/safetensors_build.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define FILES TEST_DATA "/files/lora/relative/"
#define GOLDENS TEST_DATA "/goldens/relative/"
enum { ELEMENTS_MAX = 1024 };

static const struct {
    const char *name, *kinds;
    size_t entries;
} cases[] = {{"oft", "OFT", 4},
             {"oft_wide", "OFT", 2},
             {"oft_kohya", "OFT", 8},
             {"boft", "BOFT", 6},
             {"glora", "GLoRA", 3},
             {"ia3", "(IA)^3", 3},
             {"oft_peft", "OFT", 4},
             {"oft_exact", "OFT", 3},
             {"oft_terms_1", "OFT", 1},
             {"oft_terms_2", "OFT", 1},
             {"oft_terms_3", "OFT", 1},
             {"oft_terms_6", "OFT", 1},
             {"boft_peft", "BOFT", 4},
             {"ia3_peft", "(IA)^3", 2},
             {"doha", "LoHa", 5},
             {"dokr", "LoKr", 4},
             {"whole_peft", "whole weights", 4},
             {"bias_peft", "whole weights", 1}};
enum { CASES = sizeof cases / sizeof *cases };

static store *model;

static store *open_store(const char *folder, const char *name)
{
    char path[300];
    store *s;
    flux1_error err = {0};
    snprintf(path, sizeof path, "%s%s.safetensors", folder, name);
    if (store_open_file(path, &s, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return s;
}

static int begin(void **state)
{
    (void)state;
    model = open_store(FILES, "model");
    return 0;
}

static int end(void **state)
{
    (void)state;
    store_close(model);
    return 0;
}

static adapter_file *open_case(const char *name)
{
    const store *stores[MODEL_PARTS] = {[MODEL_TRANSFORMER] = model};
    char path[300];
    adapter_file *f;
    flux1_error err = {0};
    snprintf(path, sizeof path, FILES "%s.safetensors", name);
    if (adapter_open(path, stores, &f, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return f;
}

static adapter_merged *merge(const adapter_use *uses, int count, const char *name)
{
    adapter_merged *m;
    flux1_error err = {0};
    const store_tensor *base = store_find(model, name);
    assert_non_null(base);
    assert_int_equal(adapter_merge(uses, count, MODEL_TRANSFORMER, base, ADAPTER_MERGE_ALL, &m, &err), FLUX1_OK);
    assert_non_null(m);
    return m;
}

static void decode(const tensor *t, int64_t first, int64_t count, float *out)
{
    flux1_error err = {0};
    assert_true(count <= ELEMENTS_MAX);
    if (tensor_decode(t, first, count, out, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
}

/* The tensor of this name with the adapters, in ranges of `step` elements. */
static int64_t values(const adapter_use *uses, int count, const char *name, int64_t step, float *out)
{
    adapter_merged *m = merge(uses, count, name);
    const tensor *v = &adapter_merged_tensor(m)->view;
    const int64_t n = tensor_elements(v);
    for (int64_t i = 0; i < n; i += step)
        decode(v, i, n - i < step ? n - i : step, out + i);
    adapter_merged_free(m);
    return n;
}

static void expect_near(const char *name, const store_tensor *golden, int64_t step, const float *got, int64_t count)
{
    float want[ELEMENTS_MAX];
    assert_int_equal(tensor_elements(&golden->view), count);
    decode(&golden->view, 0, count, want);
    for (int64_t i = 0; i < count; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-5f))
            fail_msg("%s: %s: element %d by %d: %g, not %g", name, golden->name, (int)i, (int)step, (double)got[i],
                     (double)want[i]);
}

static void every_weight_is_the_oracle_s(void **state)
{
    (void)state;
    static const int64_t steps[] = {ELEMENTS_MAX, 1, 7, 30};
    float got[ELEMENTS_MAX];
    for (size_t i = 0; i < CASES; i++) {
        adapter_file *f = open_case(cases[i].name);
        store *golden = open_store(GOLDENS, cases[i].name);
        assert_int_equal(f->pairs, cases[i].entries);
        assert_int_equal(f->applied, cases[i].entries);
        assert_string_equal(f->strays, "");
        for (int k = 0; k < ADAPTER_KINDS; k++)
            if (f->kinds & 1u << k)
                assert_string_equal(adapter_kind_name((adapter_kind)k), cases[i].kinds);
        assert_int_equal(f->count, store_count(golden));
        for (size_t k = 0; k < store_count(golden); k++)
            for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
                const store_tensor *t = store_at(golden, k);
                const int64_t n = values(&(adapter_use){f, 1}, 1, t->name, steps[s], got);
                expect_near(cases[i].name, t, steps[s], got, n);
            }
        store_close(golden);
        adapter_close(f);
    }
}

/* W + Σ strength · (W′ − W), each of the model's own W. */
static void strengths_go_from_the_weight_to_what_is_made_of_it(void **state)
{
    (void)state;
    float base[ELEMENTS_MAX], first[ELEMENTS_MAX], second[ELEMENTS_MAX], got[ELEMENTS_MAX];
    const char *name = "proj_out.weight";
    for (size_t i = 0; i + 1 < CASES; i++) {
        adapter_file *f = open_case(cases[i].name), *g = open_case(cases[i + 1].name);
        if (adapter_find(f, MODEL_TRANSFORMER, "proj_out", ADAPTER_WEIGHT) &&
            adapter_find(g, MODEL_TRANSFORMER, "proj_out", ADAPTER_WEIGHT)) {
            const adapter_use both[] = {{f, 0.75f}, {g, -0.5f}};
            decode(&store_find(model, name)->view, 0, 14 * 12, base);
            values(&(adapter_use){f, 1}, 1, name, ELEMENTS_MAX, first);
            values(&(adapter_use){g, 1}, 1, name, ELEMENTS_MAX, second);
            values(both, 2, name, ELEMENTS_MAX, got);
            for (int k = 0; k < 14 * 12; k++)
                assert_true(fabsf(got[k] - (base[k] + 0.75f * (first[k] - base[k]) - 0.5f * (second[k] - base[k]))) <=
                            2e-5f);
        }
        adapter_close(f);
        adapter_close(g);
    }
}

/* What is not in the tensors (a configuration, strengths) is in the key of what was computed. */
static void keys_tell_configurations_and_strengths_apart(void **state)
{
    (void)state;
    static const char *const names[] = {"oft_exact", "oft_terms_1", "oft_terms_2", "oft_terms_3", "oft_terms_6"};
    uint64_t seen[2 * sizeof names / sizeof *names];
    size_t count = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        adapter_file *f = open_case(names[i]);
        for (int k = 0; k < 2; k++) {
            adapter_merged *m = merge(&(adapter_use){f, k ? 0.5f : 1}, 1, "proj_out.weight");
            seen[count++] = adapter_merged_tensor(m)->computed_from->hash;
            for (size_t j = 0; j + 1 < count; j++)
                assert_true(seen[j] != seen[count - 1]);
            adapter_merged_free(m);
        }
        adapter_close(f);
    }
}

/* A row that is made of rows of other layers names them among what it is computed from. */
static void rows_of_other_layers_are_sources(void **state)
{
    (void)state;
    adapter_file *f = open_case("oft");
    adapter_merged *m = merge(&(adapter_use){f, 1}, 1, "transformer_blocks.0.attn.to_q.weight");
    const store_sources *from = adapter_merged_tensor(m)->computed_from;
    size_t found = 0;
    for (size_t i = 0; i < from->count; i++)
        found += from->tensor[i] == store_find(model, "transformer_blocks.0.attn.to_k.weight");
    assert_int_equal(found, 1);
    adapter_merged_free(m);
    adapter_close(f);
}

/* Another entry takes the rows of to_k away: diffusers' spelling counts (test_adapter.c). */
static void rows_that_are_rotated_together_stay_together(void **state)
{
    (void)state;
    static const char header[] =
        "{\"lora_unet_double_blocks_0_img_attn_qkv.oft_blocks\":{\"dtype\":\"F16\",\"shape\":[4,9,9],"
        "\"data_offsets\":[0,648]},\"transformer.transformer_blocks.0.attn.to_k.oft_blocks\":{\"dtype\":\"F16\","
        "\"shape\":[3,4,4],\"data_offsets\":[648,744]}}";
    static const unsigned char zeros[744];
    const store *stores[MODEL_PARTS] = {[MODEL_TRANSFORMER] = model};
    char path[] = "/tmp/flux1_relative_XXXXXX";
    adapter_file *f;
    flux1_error err = {0};
    size_t size;
    unsigned char *bytes = safetensors_build(header, zeros, sizeof zeros, &size);
    const int file = mkstemp(path);
    assert_true(file >= 0 && write(file, bytes, size) == (ssize_t)size);
    close(file);
    assert_int_equal(adapter_open(path, stores, &f, &err), FLUX1_ERR_FORMAT);
    assert_non_null(strstr(err.message, "rotates 36 rows together, and another entry changes some of them"));
    unlink(path);
    free(bytes);
}

typedef struct shared {
    const tensor *view;
    float *out; /* several times the tensor */
} shared;

static void decode_row(void *user, int64_t index, int worker)
{
    const shared *s = user;
    const int64_t rows = s->view->shape[0], cols = s->view->shape[1];
    (void)worker;
    assert_int_equal(tensor_decode(s->view, index % rows * cols, cols, s->out + index * cols, NULL), FLUX1_OK);
}

/* A rotation is dropped once all was computed with it, also while other threads begin again. */
static void threads_share_a_rotation(void **state)
{
    (void)state;
    enum { TIMES = 50 };
    adapter_file *f = open_case("boft");
    pool *p;
    flux1_error err = {0};
    float once[ELEMENTS_MAX], *all = malloc(TIMES * ELEMENTS_MAX * sizeof *all);
    assert_non_null(all);
    assert_int_equal(pool_create(4, &p, &err), FLUX1_OK);
    const int64_t n = values(&(adapter_use){f, 1}, 1, "proj_out.weight", ELEMENTS_MAX, once);
    adapter_merged *m = merge(&(adapter_use){f, 1}, 1, "proj_out.weight");
    pool_run(p, TIMES * 14, decode_row, &(shared){&adapter_merged_tensor(m)->view, all});
    for (int i = 0; i < TIMES; i++)
        assert_memory_equal(all + i * n, once, (size_t)n * sizeof *once);
    adapter_merged_free(m);
    pool_destroy(p);
    free(all);
    adapter_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_weight_is_the_oracle_s),
                                       cmocka_unit_test(strengths_go_from_the_weight_to_what_is_made_of_it),
                                       cmocka_unit_test(keys_tell_configurations_and_strengths_apart),
                                       cmocka_unit_test(rows_of_other_layers_are_sources),
                                       cmocka_unit_test(rows_that_are_rotated_together_stay_together),
                                       cmocka_unit_test(threads_share_a_rotation)};
    return cmocka_run_group_tests(tests, begin, end);
}
