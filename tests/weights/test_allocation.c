/* Every allocation fails once (ours through the linker's --wrap, jansson's through its hook): each run ends in a
 * status, and nothing leaks (seen by the sanitizer). */
#include "base/file.h"
#include "base/json.h"
#include "base/pool.h"
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

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);

static int fuse = -1; /* allocations until one fails; negative: never */

static int fails(void) { return fuse >= 0 && fuse-- == 0; }
void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *old, size_t size) { return fails() ? NULL : __real_realloc(old, size); }
char *__wrap_strdup(const char *text) { return fails() ? NULL : __real_strdup(text); }

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
    json_set_alloc_funcs(__wrap_malloc, free);
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

static flux1_status open_and_claim(flux1_error *err)
{
    store *s = NULL;
    const store_tensor *t;
    flux1_status st = store_open(folder, (const char *const[]){"model", NULL}, &s, err);
    if (st == FLUX1_OK)
        st = store_claim(s, "a", 2, (int64_t[]){2, 1}, &t, err);
    if (st == FLUX1_OK)
        st = store_claim(s, "gone", 1, (int64_t[]){2}, &t, err);
    store_close(s);
    return st;
}

static flux1_status claim_synthetic(flux1_error *err)
{
    store *s = NULL;
    const store_tensor *t;
    flux1_status st = store_synthetic(DTYPE_BF16, true, &s, err);
    if (st == FLUX1_OK)
        st = store_claim(s, "a", 1, (int64_t[]){64}, &t, err);
    store_close(s);
    return st;
}

static flux1_status start_pool(flux1_error *err)
{
    pool *p;
    flux1_status st = pool_create(3, &p, err);
    pool_destroy(p);
    return st;
}

static flux1_status write_file(flux1_error *err)
{
    char path[128];
    file_writer w;
    snprintf(path, sizeof path, "%s/m2", folder);
    flux1_status st = file_begin(path, &w, err);
    file_abandon(&w);
    return st;
}

static void each_failed_allocation_is_a_status(void **state)
{
    (void)state;
    flux1_status (*const runs[])(flux1_error *) = {open_and_claim, claim_synthetic, start_pool, write_file};
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        int points = 0;
        for (;; points++) {
            flux1_error err = {0};
            fuse = points;
            flux1_status st = runs[r](&err);
            int burnt = fuse < 0;
            fuse = -1;
            if (!burnt)
                break;
            if (st != FLUX1_ERR_MEMORY)
                fail_msg("run %zu, allocation %d: status %s, \"%s\"", r, points, status_name(st), err.message);
            assert_true(err.message[0] != '\0');
        }
        assert_true(points >= 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_failed_allocation_is_a_status)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
