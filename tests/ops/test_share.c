/* What a rank touches of its columns of a matrix: pages of the model's file that are mapped into the process (Rss of
 * /proc/self/smaps), and pages that were read from the disk (mincore, after the page cache was emptied of the file). */
#include "base/file_map.h"
#include "ops/cpu/stream.h"
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
    ok(ops_cpu_device.open(0, &r.d, &err));
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

/* Every value is used once. Between its block's begin and end. */
static void product_of_rows(rank *r, int64_t cols, int64_t rows, float *out)
{
    act x, y;
    float ones[COLS];
    for (int i = 0; i < COLS; i++)
        ones[i] = 1;
    size_t mark = ops_mark(r->o);
    ok(ops_create(r->o, ACT_LINEAR, shape_rows(1, 0, 1, cols), &x));
    ok(ops_create(r->o, ACT_LINEAR, shape_rows(1, 0, 1, rows), &y));
    ok(ops_upload(r->o, &(tensor){.type = DTYPE_F32, .dims = 1, .shape = {cols}, .data = ones}, x));
    ok(ops_product(r->o, x, r->w, &(epilogue){0}, y));
    ok(ops_download(r->o, y, &(tensor){.type = DTYPE_F32, .dims = 1, .shape = {rows}, .data = out}));
    ops_release(r->o, mark);
}

static void multiply_rows(rank *r, int64_t cols, int64_t rows, float *out)
{
    ok(ops_block_begin(r->o, r->b));
    product_of_rows(r, cols, rows, out);
    ok(ops_block_end(r->o, r->b));
}

static void multiply(rank *r, int tp, float out[ROWS]) { multiply_rows(r, COLS / tp, ROWS, out); }

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
    ok(r.d->kind->kept_adopt(r.d, key, &(ops_lent){form.bytes, form.size, true, nothing, NULL}, &loan, &err));
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

/* ---- a budget ---- */

enum { BLOCKS = 8, EACH = ROWS / BLOCKS };

typedef enum cut { WHOLE, BESIDE, HALVES } cut; /* rows; in two pieces of columns; their second half */

typedef struct blocks {
    rank r;
    block *b[BLOCKS];
    weight *w[BLOCKS];
    int64_t cols;
    const void *data; /* where they are read: the mapped file's */
} blocks;

static weight_recipe rows_of(const weight_recipe *whole, int i, cut how)
{
    weight_recipe rows = recipe_rows(whole, (int64_t)i * EACH, EACH), pieces;
    const weight_recipe left = recipe_cols(&rows, 0, COLS / 3), right = recipe_cols(&rows, COLS / 3, COLS - COLS / 3);
    ok(recipe_beside(&left, &right, &pieces, &err));
    return how == BESIDE ? pieces : how == HALVES ? recipe_cols(&rows, COLS / 2, COLS / 2) : rows;
}

/* The matrix in blocks of rows. */
static blocks open_blocks(size_t budget, cut how)
{
    blocks all = {.cols = how == HALVES ? COLS / 2 : COLS};
    ok(ops_cpu_device.open(0, &all.r.d, &err));
    ok(store_open_file(model_path, &all.r.s, &err));
    weight_recipe whole = recipe_whole(WEIGHT_LINEAR, store_find(all.r.s, "w"));
    all.data = store_find(all.r.s, "w")->view.data;
    ok(all.r.d->kind->create(&(ops_config){.arithmetic = DTYPE_F32, .threads = 2, .err = &err, .device = all.r.d},
                             &all.r.o));
    ok(ops_reserve(all.r.o, 8 << 20));
    for (int i = 0; i < BLOCKS; i++) {
        const weight_recipe rows = rows_of(&whole, i, how);
        ok(ops_block_create(all.r.o, "rows", &all.b[i]));
        ok(ops_prepare(all.r.o, all.b[i], &rows, NULL, &all.w[i]));
    }
    all.r.d->kind->weights_budget(all.r.o, budget);
    return all;
}

/* The reading thread gives back and maps pages while the kernel walks over them, so that a reading may count what was
 * never there at a time: the least of three. */
static size_t surely_mapped_in(const void *at)
{
    size_t least = SIZE_MAX;
    for (int i = 0; i < 3; i++) {
        const size_t now = mapped_in(at);
        least = now < least ? now : least;
    }
    return least;
}

/* One step: every block's product with ones. *most: bytes of the matrix that were in memory at a time. */
static void step_of(blocks *all, int64_t step, float out[ROWS], size_t *most)
{
    ok(ops_step_set(all->r.o, step));
    for (int i = 0; i < BLOCKS; i++) {
        rank one = {.o = all->r.o, .b = all->b[i], .w = all->w[i]};
        multiply_rows(&one, all->cols, EACH, out + i * EACH);
        const size_t now = surely_mapped_in(all->data);
        *most = now > *most ? now : *most;
    }
}

/* Blocks that are done leave, but for one: there is room for it beside the two that are used and read. So in three
 * steps 8 + 7 + 7 blocks of 3 MiB are read. */
static void weights_stay_within_their_budget_in(cut how)
{
    const size_t each = MATRIX / BLOCKS, slack = 256 << 10; /* the kernel maps pages around a fault */
    float want[ROWS], got[ROWS];
    size_t all_of_it = 0, most = 0;
    blocks plain = open_blocks(SIZE_MAX, how);
    step_of(&plain, 0, want, &all_of_it);
    close_rank(&plain.r);
    assert_true(all_of_it >= MATRIX - slack);
    blocks tight = open_blocks(3 * each, how);
    for (int64_t step = 0; step < 3; step++) {
        memset(got, 0xff, sizeof got);
        step_of(&tight, step, got, &most);
        assert_memory_equal(got, want, sizeof want);
    }
    print_message("of %zu bytes %zu were in memory at a time\n", MATRIX, most);
    assert_in_range(most, 2 * each - slack, 3 * each + slack);
    ops_rest(tight.r.o);
    assert_true(mapped_in(store_find(tight.r.s, "w")->view.data) < slack);
    ops_note note;
    assert_true(tight.r.d->kind->next_note(&note));
    if (!strstr(note.text, "memory: 66.0 MiB of weights were read"))
        fail_msg("%s", note.text);
    assert_false(tight.r.d->kind->next_note(&note));
    close_rank(&tight.r);
}

static void weights_stay_within_their_budget(void **state)
{
    (void)state;
    weights_stay_within_their_budget_in(WHOLE);
}

/* Their rows lie in the same pages. */
static void columns_beside_each_other_count_once(void **state)
{
    (void)state;
    weights_stay_within_their_budget_in(BESIDE);
}

/* Between two steps: what was there leaves at once where less may stay, and stays where more may, or all may as before.
 * Then it is as if there had been no other budget. */
static void a_budget_may_change(void **state)
{
    (void)state;
    static const size_t budgets[] = {5, 3, 4}; /* blocks */
    const size_t each = MATRIX / BLOCKS, slack = 256 << 10;
    float want[ROWS], got[ROWS];
    size_t most = 0;
    blocks all = open_blocks(SIZE_MAX, WHOLE);
    step_of(&all, 0, want, &most);
    all.r.d->kind->weights_budget(all.r.o, SIZE_MAX);
    assert_true(mapped_in(all.data) >= MATRIX - slack);
    for (int i = 0; i < 3; i++) {
        all.r.d->kind->weights_budget(all.r.o, budgets[i] * each);
        assert_in_range(mapped_in(all.data), i < 2 ? 0 : each - slack, i < 2 ? slack : 3 * each + slack);
        most = 0;
        for (int64_t step = 0; step < 3; step++) {
            memset(got, 0xff, sizeof got);
            step_of(&all, step, got, &most);
            assert_memory_equal(got, want, sizeof want);
        }
        assert_in_range(most, (budgets[i] - 1) * each - slack, budgets[i] * each + slack);
    }
    close_rank(&all.r);
}

/* Half of the blocks are begun beside the other half, as adapters' are. In the first step that is not known before it
 * happens; no step may take more for it. */
static void blocks_beside_others_stay_within_the_budget(void **state)
{
    (void)state;
    const size_t each = MATRIX / BLOCKS, slack = 256 << 10;
    float want[ROWS], got[EACH];
    size_t most = 0;
    blocks plain = open_blocks(SIZE_MAX, WHOLE);
    step_of(&plain, 0, want, &most);
    close_rank(&plain.r);
    blocks tight = open_blocks(4 * each, WHOLE);
    const void *data = store_find(tight.r.s, "w")->view.data;
    most = 0;
    for (int i = 0; i < 4 * BLOCKS / 2; i++) {
        const int a = i % (BLOCKS / 2), b = a + BLOCKS / 2;
        rank beside = {.o = tight.r.o, .b = tight.b[b], .w = tight.w[b]};
        if (a == 0)
            ok(ops_step_set(tight.r.o, i));
        ok(ops_block_begin(tight.r.o, tight.b[a]));
        ok(ops_block_begin(tight.r.o, tight.b[b]));
        product_of_rows(&beside, COLS, EACH, got);
        assert_memory_equal(got, want + b * EACH, sizeof got);
        const size_t now = surely_mapped_in(data);
        most = now > most ? now : most;
        ok(ops_block_end(tight.r.o, tight.b[b]));
        ok(ops_block_end(tight.r.o, tight.b[a]));
    }
    print_message("of %zu bytes %zu were in memory at a time\n", MATRIX, most);
    assert_in_range(most, 3 * each - slack, 4 * each + slack);
    close_rank(&tight.r);
}

/* In any order, and with blocks that are begun within others, the values are those of the file. */
static void blocks_may_come_in_any_order(void **state)
{
    (void)state;
    float want[ROWS], got[EACH];
    size_t most = 0;
    blocks plain = open_blocks(SIZE_MAX, WHOLE);
    step_of(&plain, 0, want, &most);
    close_rank(&plain.r);
    blocks tight = open_blocks(1, WHOLE); /* two at a time all the same */
    unsigned order = 1;
    for (int i = 0; i < 40; i++) {
        order = order * 1103515245 + 12345;
        const int a = (int)(order >> 16) % BLOCKS, b = (a + 1 + (int)(order >> 20) % (BLOCKS - 1)) % BLOCKS;
        rank inner = {.o = tight.r.o, .b = tight.b[b], .w = tight.w[b]};
        ok(ops_block_begin(tight.r.o, tight.b[a]));
        multiply_rows(&inner, COLS, EACH, got);
        assert_memory_equal(got, want + b * EACH, sizeof got);
        ok(ops_block_end(tight.r.o, tight.b[a]));
    }
    ops_rest(tight.r.o);
    close_rank(&tight.r);
}

/* The blocks' forms in one file, as the cache has them. */
static file_map write_forms(const blocks *all, size_t each)
{
    file_map map;
    uint64_t key[2];
    size_t bytes;
    void *form = malloc(each);
    FILE *f = fopen(form_path, "wb");
    assert_true(form && f);
    for (int i = 0; i < BLOCKS; i++) {
        all->r.d->kind->block_key(all->r.o, all->b[i], key, &bytes);
        assert_int_equal(bytes, each);
        ok(all->r.d->kind->block_export(all->r.o, all->b[i], form));
        assert_int_equal(fwrite(form, 1, each, f), each);
    }
    fclose(f);
    free(form);
    ok(file_map_open(form_path, &map, &err));
    return map;
}

/* A rank's columns that lie in a file of their own are read and given back as the model's own pages are, by the same
 * budget. */
static void lent_forms_stay_within_the_budget(void **state)
{
    (void)state;
    const size_t each = MATRIX / BLOCKS / 2, slack = 256 << 10;
    float want[ROWS], got[ROWS];
    size_t most = 0, bytes;
    uint64_t key[2];
    ops_loan *loan[BLOCKS];
    blocks strided = open_blocks(SIZE_MAX, HALVES);
    step_of(&strided, 0, want, &most);
    file_map form = write_forms(&strided, each);
    close_rank(&strided.r);
    blocks tight = open_blocks(3 * each, HALVES);
    for (int i = 0; i < BLOCKS; i++) {
        const ops_lent lent = {form.bytes + (size_t)i * each, each, true, nothing, NULL};
        tight.r.d->kind->block_key(tight.r.o, tight.b[i], key, &bytes);
        ok(tight.r.d->kind->kept_adopt(tight.r.d, key, &lent, &loan[i], &err));
    }
    most = 0;
    tight.data = form.bytes;
    for (int64_t step = 0; step < 3; step++) {
        memset(got, 0xff, sizeof got);
        step_of(&tight, step, got, &most);
        assert_memory_equal(got, want, sizeof want);
    }
    print_message("of %zu bytes %zu were in memory at a time\n", form.size, most);
    assert_in_range(most, 2 * each - slack, 3 * each + slack);
    ops_rest(tight.r.o);
    assert_true(mapped_in(form.bytes) < slack);
    for (int i = 0; i < BLOCKS; i++)
        tight.r.d->kind->kept_reclaim(tight.r.d, loan[i]);
    close_rank(&tight.r);
    file_map_close(&form);
}

/* ---- which blocks stay ---- */

/* Blocks of no memory. Each second one of a step is begun within the one before it, if `beside`. */
typedef struct steps {
    stream s;
    stream_block before, block[8]; /* that of another model, and those of the steps */
    int count;
    bool beside;
} steps;

/* The list has those that are begun within others behind all others, as a model's adapters are. */
static stream_block *at_place(steps *t, int i)
{
    const int from = t->beside && i % 2 ? t->count / 2 : 0;
    return &t->block[t->beside ? from + i / 2 : i % t->count];
}

static void open_steps(steps *t, unsigned random)
{
    size_t total = 0;
    *t = (steps){.count = 1 + (int)(random >> 8) % 8, .beside = random >> 16 & 1};
    t->count += t->beside && t->count % 2;
    t->before.bytes = random >> 17 & 1 ? 20 : 0;
    for (int i = 0; i < t->count; i++) {
        random = random * 1103515245 + 12345;
        t->block[i].bytes = 1 + (random >> 16) % 40;
        t->block[i].next = i + 1 < t->count ? &t->block[i + 1] : NULL;
        total += t->block[i].bytes;
    }
    t->before.next = t->block;
    random = random * 1103515245 + 12345;
    ok(stream_create(&t->s, NULL, &err));
    stream_take(&t->s, &t->before);
    stream_budget(&t->s, (random >> 16) % (total + t->before.bytes));
}

static void take_step(steps *t)
{
    stream_in_steps(&t->s);
    for (int i = 0; i < t->count; i++) {
        stream_begin(&t->s, at_place(t, i));
        if (t->beside && i % 2 == 0)
            continue;
        stream_end(&t->s, at_place(t, i));
        if (t->beside)
            stream_end(&t->s, at_place(t, i - 1));
    }
}

/* The most bytes of a step at a time: what stays, and of the rest what is held and what is begun next. */
static size_t most_of_step(const steps *all, bool none_stays)
{
    steps copy = *all, *t = &copy;
    size_t stay = 0, most = 0;
    for (int i = 0; i < t->count; i++) {
        t->block[i].stays &= !none_stays;
        stay += t->block[i].stays ? t->block[i].bytes : 0;
    }
    for (int i = 0; i < t->count; i++) {
        const stream_block *held[] = {at_place(t, i), t->beside && i % 2 ? at_place(t, i - 1) : NULL},
                           *next = at_place(t, (i + 1) % t->count);
        size_t pass = next == held[0] || next == held[1] || next->stays ? 0 : next->bytes;
        for (int k = 0; k < 2; k++)
            pass += held[k] && !held[k]->stays ? held[k]->bytes : 0;
        most = pass > most ? pass : most;
    }
    return stay + most;
}

/* Once the order is known: they fit beside those that pass (or take no more than if all passed), and not one more
 * would. */
static void as_many_blocks_stay_as_fit(void **state)
{
    (void)state;
    size_t stay = 0, leave = 0;
    for (unsigned random = 0; random < 400; random++) {
        steps t;
        open_steps(&t, random * 2654435761u);
        stream_begin(&t.s, &t.before);
        stream_end(&t.s, &t.before);
        for (int step = 0; step < 4; step++)
            take_step(&t);
        stream_destroy(&t.s);
        const size_t least = most_of_step(&t, true), room = t.s.budget > least ? t.s.budget : least;
        assert_false(t.before.stays);
        if (most_of_step(&t, false) > room)
            fail_msg("%u: %zu bytes instead of %zu are needed", random, most_of_step(&t, false), room);
        for (int i = 0; i < t.count; i++) {
            stay += t.block[i].stays;
            if (t.block[i].stays)
                continue;
            leave++;
            t.block[i].stays = true;
            if (most_of_step(&t, false) <= t.s.budget)
                fail_msg("%u: block %d may stay as well", random, i);
            t.block[i].stays = false;
        }
    }
    print_message("%zu blocks stay, %zu leave\n", stay, leave);
    assert_true(stay > 300 && leave > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_many_blocks_stay_as_fit),
                                       cmocka_unit_test(who_rests_holds_no_pages),
                                       cmocka_unit_test(made_up_weights_stay),
                                       cmocka_unit_test(a_rank_touches_its_own_columns_once_they_are_prepared),
                                       cmocka_unit_test(weights_stay_within_their_budget),
                                       cmocka_unit_test(a_budget_may_change),
                                       cmocka_unit_test(columns_beside_each_other_count_once),
                                       cmocka_unit_test(lent_forms_stay_within_the_budget),
                                       cmocka_unit_test(blocks_beside_others_stay_within_the_budget),
                                       cmocka_unit_test(blocks_may_come_in_any_order)};
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
