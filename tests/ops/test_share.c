/* What a rank touches of its columns of a matrix: pages of the model's file that are mapped into the process (Rss of
 * /proc/self/smaps), and pages that were read from the disk (mincore, after the page cache was emptied of the file). */
#include "base/file_map.h"
#include "ops/device.h"
#include "weights/store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { ROWS = 1024, COLS = 12288, PAGE = 4096 };
static const size_t MATRIX = (size_t)ROWS * COLS * 2;

static flux1_error err;
static char model_path[64], form_path[64];

static void ok(flux1_status st)
{
    if (st != FLUX1_OK)
        fail_msg("%s", err.message);
}

/* ---- what is touched ---- */

/* Bytes of the mapping that `at` lies in that this process has mapped in. */
static size_t mapped_in(const void *at)
{
    char line[512];
    uint64_t from = 0, to = 0, kib = 0;
    size_t bytes = 0;
    FILE *f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2)
            continue;
        if ((uintptr_t)at >= from && (uintptr_t)at < to && sscanf(line, "Rss: %" SCNu64 " kB", &kib) == 1)
            bytes += (size_t)kib << 10;
    }
    fclose(f);
    return bytes;
}

/* Bytes of a file that are in the page cache. */
static size_t cached(const char *path)
{
    file_map map;
    ok(file_map_open(path, &map, &err));
    size_t pages = (map.size + PAGE - 1) / PAGE, count = 0;
    unsigned char *there = malloc(pages);
    assert_non_null(there);
    assert_int_equal(mincore((void *)(uintptr_t)map.bytes, map.size, there), 0);
    for (size_t i = 0; i < pages; i++)
        count += there[i] & 1;
    free(there);
    file_map_close(&map);
    return count * PAGE;
}

/* False where the file system keeps its files in memory. */
static bool empty_page_cache(const char *path)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return cached(path) < MATRIX / 16;
}

/* ---- a rank ---- */

typedef struct rank {
    ops_device *d;
    store *s;
    ops *o;
    block *b;
    weight *w;
} rank;

static rank open_rank(int tp)
{
    rank r;
    ok(ops_device_open("cpu", &r.d, &err));
    ok(store_open_file(model_path, &r.s, &err));
    weight_recipe whole = recipe_whole(WEIGHT_LINEAR, store_find(r.s, "w"));
    weight_recipe slice = recipe_cols(&whole, COLS / tp, COLS / tp); /* the second rank's */
    ok(r.d->kind->create(&(ops_config){.arithmetic = DTYPE_F32, .threads = 1, .err = &err, .device = r.d}, &r.o));
    ok(ops_reserve(r.o, 8 << 20));
    ok(ops_block_create(r.o, "matrix", &r.b));
    ok(ops_prepare(r.o, r.b, &slice, NULL, &r.w));
    return r;
}

static void close_rank(rank *r)
{
    ops_destroy(r->o);
    store_close(r->s);
    ops_device_close(r->d);
}

/* Every value is used once. */
static void multiply(rank *r, int tp, float out[ROWS])
{
    act x, y;
    float ones[COLS];
    for (int i = 0; i < COLS; i++)
        ones[i] = 1;
    size_t mark = ops_mark(r->o);
    ok(ops_create(r->o, ACT_LINEAR, shape_rows(1, 0, 1, COLS / tp), &x));
    ok(ops_create(r->o, ACT_LINEAR, shape_rows(1, 0, 1, ROWS), &y));
    ok(ops_upload(r->o, &(tensor){.type = DTYPE_F32, .dims = 1, .shape = {COLS / tp}, .data = ones}, x));
    ok(ops_block_begin(r->o, r->b));
    ok(ops_product(r->o, x, r->w, &(epilogue){0}, y));
    ok(ops_block_end(r->o, r->b));
    ok(ops_download(r->o, y, &(tensor){.type = DTYPE_F32, .dims = 1, .shape = {ROWS}, .data = out}));
    ops_release(r->o, mark);
}

static void nothing(void *owner) { (void)owner; }

/* The rank's form in a file of its own, as the cache has it. */
static file_map make_form(int tp, uint64_t key[2])
{
    file_map map;
    size_t bytes;
    rank r = open_rank(tp);
    r.d->kind->block_key(r.o, r.b, key, &bytes);
    assert_int_equal(bytes, MATRIX / (size_t)tp);
    void *form = malloc(bytes);
    assert_non_null(form);
    ok(r.d->kind->block_export(r.o, r.b, form));
    assert_true(mapped_in(store_find(r.s, "w")->view.data) < MATRIX / 16); /* packed, and given back */
    FILE *f = fopen(form_path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(form, 1, bytes, f), bytes);
    fclose(f);
    free(form);
    close_rank(&r);
    ok(file_map_open(form_path, &map, &err));
    return map;
}

/* ---- the test ---- */

static double share(size_t bytes) { return (double)bytes / (double)MATRIX; }

static void measure(int tp)
{
    uint64_t key[2];
    float plain[ROWS], packed[ROWS];
    ops_loan *loan;
    bool disk = empty_page_cache(model_path);
    rank r = open_rank(tp);
    multiply(&r, tp, plain);
    const size_t strided = mapped_in(store_find(r.s, "w")->view.data), read = cached(model_path);
    close_rank(&r);
    file_map form = make_form(tp, key);
    disk = empty_page_cache(model_path) && disk;
    r = open_rank(tp);
    ok(r.d->kind->kept_adopt(r.d, key, &(ops_lent){form.bytes, form.size, nothing, NULL}, &loan, &err));
    multiply(&r, tp, packed);
    const size_t of_model = mapped_in(store_find(r.s, "w")->view.data), of_form = mapped_in(form.bytes),
                 read_again = cached(model_path);
    r.d->kind->kept_reclaim(r.d, loan);
    close_rank(&r);
    const size_t own = form.size;
    file_map_close(&form);
    assert_memory_equal(plain, packed, sizeof plain);
    print_message("1/%d of the columns: strided, %.2f of the matrix mapped in, %.2f read; packed, %.2f and %.2f\n", tp,
                  share(strided), share(read), share(of_model + of_form), share(read_again + own));
    assert_true(share(of_form) <= 1.0 / tp + 0.01);
    assert_true(share(of_model) < 0.05);
    assert_true(!disk || read_again < read / 2); /* the header, and what the kernel reads ahead of it */
}

static void make_model(void)
{
    char header[200];
    unsigned char length[8] = {0};
    unsigned char *data = malloc(MATRIX);
    FILE *f = fopen(model_path, "wb");
    assert_true(data && f);
    length[0] = (unsigned char)snprintf(header, sizeof header,
                                        "{\"w\":{\"dtype\":\"BF16\",\"shape\":[%d,%d],\"data_offsets\":[0,%zu]}}", ROWS,
                                        COLS, MATRIX);
    for (size_t i = 0; i < MATRIX; i += 2)
        data[i] = (unsigned char)(i * i >> 7), data[i + 1] = 0x3f;
    assert_int_equal(fwrite(length, 1, 8, f), 8);
    assert_int_equal(fwrite(header, 1, length[0], f), length[0]);
    assert_int_equal(fwrite(data, 1, MATRIX, f), MATRIX);
    fclose(f);
    free(data);
}

static int make_files(void **state)
{
    (void)state;
    snprintf(model_path, sizeof model_path, "/tmp/flux1-share-%ld", (long)getpid());
    snprintf(form_path, sizeof form_path, "/tmp/flux1-share-form-%ld", (long)getpid());
    make_model();
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    unlink(model_path);
    unlink(form_path);
    return 0;
}

static void a_rank_touches_its_own_columns_once_they_are_prepared(void **state)
{
    (void)state;
    for (int tp = 2; tp <= 8; tp *= 2)
        measure(tp);
}

/* A stage that is over leaves no pages of its weights in the process, and can be run again. */
static void who_rests_holds_no_pages(void **state)
{
    (void)state;
    float before[ROWS], after[ROWS];
    rank r = open_rank(2);
    const void *data = store_find(r.s, "w")->view.data;
    multiply(&r, 2, before);
    assert_true(mapped_in(data) > MATRIX / 16 * 15);
    ops_rest(r.o);
    assert_true(mapped_in(data) < MATRIX / 16);
    multiply(&r, 2, after);
    assert_memory_equal(before, after, sizeof before);
    close_rank(&r);
}

/* Memory that no file is behind would come back as zeros. */
static void made_up_weights_stay(void **state)
{
    (void)state;
    const store_tensor *t;
    ops *o;
    block *b;
    weight *w;
    store *s;
    ok(store_synthetic(DTYPE_F32, true, &s, &err));
    ok(store_claim(s, "made.up.weight", 2, (int64_t[]){128, 256}, &t, &err));
    ok(ops_cpu_create(&(ops_config){.arithmetic = DTYPE_F32, .threads = 1, .err = &err}, &o));
    ok(ops_block_create(o, "made up", &b));
    const weight_recipe whole = recipe_whole(WEIGHT_LINEAR, t);
    ok(ops_prepare(o, b, &whole, NULL, &w));
    float kept[128 * 256];
    memcpy(kept, t->view.data, sizeof kept);
    ops_rest(o);
    assert_memory_equal(kept, t->view.data, sizeof kept);
    ops_destroy(o);
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(who_rests_holds_no_pages),
                                       cmocka_unit_test(made_up_weights_stay),
                                       cmocka_unit_test(a_rank_touches_its_own_columns_once_they_are_prepared)};
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
