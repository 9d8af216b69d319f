/* Every allocation fails once: each run ends in a status, and nothing leaks (seen by the sanitizer). */
#include "support/failing.h"

#include "weights/store.h"

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
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_failed_allocation_is_a_status)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
