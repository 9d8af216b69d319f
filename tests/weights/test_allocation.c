/* Every allocation fails once: each run ends in a status, and nothing leaks (seen by the sanitizer). */
#include "support/failing.h"

#include "weights/adapter_merge.h"

#include "support/safetensors_build.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

static void put(const char *name, const void *bytes, size_t size)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

static int make_folder(void **state)
{
    (void)state;
    size_t size;
    unsigned char *bytes = safetensors_build(
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]}}", NULL,
        8, &size);
    const char *index = "{\"metadata\":[1,2.5,true,null,\"\\n\"],\"weight_map\":{\"a\":\"m1.safetensors\"}}";
    strcpy(folder, "/tmp/flux1_alloc_XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    put("m1.safetensors", bytes, size);
    put("model.safetensors.index.json", index, strlen(index));
    free(bytes);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char path[200];
    snprintf(path, sizeof path, "%s/m1.safetensors", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    unlink(path);
    return rmdir(folder);
}

static flux1_status open_and_claim(void *unused, flux1_error *err)
{
    (void)unused;
    store *s = NULL;
    const store_tensor *t;
    flux1_status st = store_open(folder, (const char *const[]){"model", NULL}, NULL, &s, err);
    if (st == FLUX1_OK)
        st = store_claim(s, "a", 2, (int64_t[]){2, 1}, &t, err);
    if (st == FLUX1_OK)
        st = store_claim(s, "gone", 1, (int64_t[]){2}, &t, err);
    store_close(s);
    return st;
}

static flux1_status claim_synthetic(void *unused, flux1_error *err)
{
    (void)unused;
    store *s = NULL;
    const store_tensor *t;
    flux1_status st = store_synthetic(DTYPE_BF16, true, &s, err);
    if (st == FLUX1_OK)
        st = store_claim(s, "a", 1, (int64_t[]){64}, &t, err);
    store_close(s);
    return st;
}

/* Prefixes, shares, halves, scales of three kinds. */
static flux1_status open_single(void *file, flux1_error *err)
{
    store *s = NULL;
    flux1_status st = store_open_part(file, MODEL_TRANSFORMER, &s, err);
    store_close(s);
    return st;
}

static flux1_status open_folder(void *path, flux1_error *err)
{
    store *s = NULL;
    flux1_status st = store_open(path, (const char *const[]){"diffusion_pytorch_model", NULL}, NULL, &s, err);
    store_close(s);
    return st;
}

/* The file's adapters in each of the layers, which are opened once. */
static flux1_status merge_all(void *file, flux1_error *err)
{
    static store *model;
    const store *stores[MODEL_PARTS] = {[MODEL_TRANSFORMER] = model};
    float values[1024];
    adapter_file *f = NULL;
    if (!model)
        return store_open_file(TEST_DATA "/files/lora/relative/model.safetensors", &model, err);
    if (!file) {
        store_close(model);
        model = NULL;
        return FLUX1_OK;
    }
    flux1_status st = adapter_open(file, stores, &f, err);
    for (size_t i = 0; st == FLUX1_OK && i < store_count(model); i++) {
        const store_tensor *base = store_at(model, i);
        adapter_merged *m = NULL;
        st = adapter_merge(&(adapter_use){f, 1}, 1, MODEL_TRANSFORMER, base, ADAPTER_MERGE_ALL, &m, err);
        if (m)
            st = tensor_decode(&adapter_merged_tensor(m)->view, 0, tensor_elements(&base->view), values, err);
        adapter_merged_free(m);
    }
    adapter_close(f);
    return st;
}

#define RELATIVE(name) TEST_DATA "/files/lora/relative/" name ".safetensors"

static void so_is_each_of_adapters(void **state)
{
    (void)state;
    assert_int_equal(merge_all(NULL, NULL), FLUX1_OK); /* opens the model */
    assert_true(failing_each(merge_all, RELATIVE("oft"), 200) >= 50);
    assert_true(failing_each(merge_all, RELATIVE("boft"), 200) >= 50);
    assert_true(failing_each(merge_all, RELATIVE("dokr"), 200) >= 50);
    assert_true(failing_each(merge_all, RELATIVE("glora"), 200) >= 50);
    assert_true(failing_each(merge_all, RELATIVE("ia3_peft"), 200) >= 30);
    assert_true(failing_each(merge_all, RELATIVE("oft_terms_6"), 200) >= 30);
    assert_int_equal(merge_all(NULL, NULL), FLUX1_OK);
}

static void each_failed_allocation_is_a_status(void **state)
{
    (void)state;
    assert_true(failing_each(open_and_claim, NULL, 1000) >= 10);
    assert_true(failing_each(claim_synthetic, NULL, 1000) >= 2);
    assert_true(failing_each(open_single, TEST_DATA "/files/comfy/flux1-fp8.safetensors", 60) >= 100);
    assert_true(failing_each(open_single, TEST_DATA "/files/scaled/flux1.safetensors", 60) >= 100);
    assert_true(failing_each(open_single, TEST_DATA "/files/gguf/flux1.gguf", 60) >= 50);
    assert_true(failing_each(open_folder, TEST_DATA "/files/bnb/transformer", 60) >= 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_failed_allocation_is_a_status),
                                       cmocka_unit_test(so_is_each_of_adapters)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
