/* A component's folder: single file or shards; every fault of it named at once. */
#include "weights/store.h"

#include "support/safetensors_build.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];
static const char *const stems[] = {"model", NULL};

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/flux1_store_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int clear_folder(void **state)
{
    (void)state;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.')
            unlink(path);
    }
    if (d)
        closedir(d);
    return 0;
}

static int remove_folder(void **state)
{
    clear_folder(state);
    return rmdir(folder);
}

static void put(const char *name, const void *bytes, size_t size)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

static void unlink_in(const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(unlink(path), 0);
}

static void put_tensors(const char *name, const char *header, size_t data_size)
{
    size_t size;
    unsigned char *bytes = safetensors_build(header, NULL, data_size, &size);
    put(name, bytes, size);
    free(bytes);
}

static void expect_fault(flux1_status status, const char *words, const char *more)
{
    store *s;
    flux1_error err = {0};
    assert_int_equal(store_open(folder, stems, NULL, &s, &err), status);
    assert_null(s);
    if (strncmp(err.message, folder, strlen(folder)) != 0 || !strstr(err.message, words) || !strstr(err.message, more))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", err.message, words, more);
}

#define SHARD_1                                                                                                        \
    "{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},\"extra\":{\"dtype\":\"U8\",\"shape\":[1],\"data_" \
    "offsets\":[3,4]}}"
#define SHARD_2 "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}"

static void put_index(const char *text) { put("model.safetensors.index.json", text, strlen(text)); }

static void single_file_is_opened_and_sorted(void **state)
{
    (void)state;
    store *s;
    put_tensors("model.safetensors", SHARD_1, 4);
    assert_int_equal(store_open(folder, (const char *const[]){"other", "model", NULL}, NULL, &s, NULL), FLUX1_OK);
    assert_int_equal(store_count(s), 2);
    assert_string_equal(store_at(s, 0)->name, "b");
    assert_string_equal(store_at(s, 1)->name, "extra");
    assert_int_equal(*(unsigned char *)store_find(s, "extra")->view.data, 3);
    assert_null(store_find(s, "none"));
    assert_string_equal(store_path(s), folder);
    store_close(s);
    store_close(NULL);
}

static void shards_are_one_store(void **state)
{
    (void)state;
    store *s;
    put_tensors("m1.safetensors", SHARD_1, 4);
    put_tensors("m2.safetensors", SHARD_2, 8);
    put_index("{\"metadata\":{\"total_size\":11},\"weight_map\":{\"b\":\"m1.safetensors\",\"a\":\"m2.safetensors\"}}");
    assert_int_equal(store_open(folder, stems, NULL, &s, NULL), FLUX1_OK);
    assert_int_equal(store_count(s), 2); /* what the index does not list is not part of the model */
    assert_string_equal(store_at(s, 0)->name, "a");
    assert_non_null(strstr(store_find(s, "a")->file, "m2.safetensors"));
    assert_int_equal(store_find(s, "a")->view.shape[1], 2);
    assert_int_equal(store_find(s, "b")->view.shape[0], 3);
    store_close(s);
}

static void faults_of_an_index_are_named(void **state)
{
    (void)state;
    put_tensors("m1.safetensors", SHARD_1, 4);
    put_index("{\"weight_map\":{\"b\":\"m1.safetensors\",\"a\":\"m2.safetensors\"}}");
    expect_fault(FLUX1_ERR_MODEL, "m2.safetensors is missing", "\"a\"");
    put_index("{\"weight_map\":{\"b\":\"m1.safetensors\",\"gone\":\"m1.safetensors\"}}");
    expect_fault(FLUX1_ERR_MODEL, "m1.safetensors", "\"gone\" is missing");
    put_index("{\"weight_map\":{\"b\":\"../m1.safetensors\"}}");
    expect_fault(FLUX1_ERR_FORMAT, "\"b\"", "\"../m1.safetensors\"");
    put_index("{\"weight_map\":{\"b\":\"..\"}}");
    expect_fault(FLUX1_ERR_FORMAT, "\"b\"", "not the name of a file");
    put_index("{\"weight_map\":{\"b\":\"/etc/passwd\"}}");
    expect_fault(FLUX1_ERR_FORMAT, "\"b\"", "not the name of a file");
    put_index("{\"weight_map\":{\"b\":\"\"}}");
    expect_fault(FLUX1_ERR_FORMAT, "\"b\"", "not the name of a file");
    put_index("{\"weight_map\":{\"b\":3}}");
    expect_fault(FLUX1_ERR_FORMAT, "index.json", "\"b\" should name a file");
    put_index("{\"weight_map\":[]}");
    expect_fault(FLUX1_ERR_FORMAT, "index.json", "\"weight_map\"");
    put_index("{}");
    expect_fault(FLUX1_ERR_FORMAT, "index.json", "\"weight_map\" is missing");
    put_index("{\"weight_map\":{\"b\":\"m1.safe");
    expect_fault(FLUX1_ERR_FORMAT, "index.json:1:", "JSON");
    put("m1.safetensors", "short", 5);
    put_index("{\"weight_map\":{\"b\":\"m1.safetensors\"}}");
    expect_fault(FLUX1_ERR_FORMAT, "m1.safetensors", "at least 8");
}

static void missing_folder_and_weights_are_named(void **state)
{
    (void)state;
    store *s;
    flux1_error err = {0};
    assert_int_equal(store_open("/nonexistent/transformer", stems, NULL, &s, &err), FLUX1_ERR_MODEL);
    assert_non_null(strstr(err.message, "/nonexistent/transformer: there is no such folder"));
    expect_fault(FLUX1_ERR_MODEL, "neither model.safetensors nor model.safetensors.index.json", "");
    put("model.safetensors", "", 0);
    expect_fault(FLUX1_ERR_FORMAT, "model.safetensors: the file is empty", "");
    assert_int_equal(store_open_file("/nonexistent.safetensors", &s, &err), FLUX1_ERR_IO);
    assert_null(s);
}

#define CLAIMS                                                                                                    \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},\"b\":{\"dtype\":\"F32\",\"shape\":[3],"  \
    "\"data_offsets\":[24,36]},"                                                                                  \
    "\"c\":{\"dtype\":\"F8_E8M0\",\"shape\":[2],\"data_offsets\":[36,38]},\"d.position_ids\":{\"dtype\":\"I64\"," \
    "\"shape\":[1],\"data_offsets\":[38,46]},"                                                                    \
    "\"e\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[46,47]}}"

static void all_faults_come_in_one_message(void **state)
{
    (void)state;
    store *s;
    const store_tensor *t;
    char path[128];
    flux1_error err = {0};
    put_tensors("model.safetensors", CLAIMS, 47);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(store_open_file(path, &s, NULL), FLUX1_OK);

    assert_int_equal(store_claim(s, "a", 2, (int64_t[]){2, 3}, &t, NULL), FLUX1_OK);
    assert_ptr_equal(t, store_find(s, "a"));
    assert_int_equal(store_check(s, false, NULL, &err), FLUX1_OK);
    for (int twice = 0; twice < 2; twice++) {
        assert_int_equal(store_claim(s, "b", 2, (int64_t[]){3, 1}, &t, NULL), FLUX1_OK);
        assert_null(t);
        assert_int_equal(store_claim(s, "gone", 1, (int64_t[]){3}, &t, NULL), FLUX1_OK);
        assert_null(t);
    }
    assert_int_equal(store_claim(s, "c", 1, (int64_t[]){2}, &t, NULL), FLUX1_OK);
    assert_null(t);

    assert_int_equal(store_check(s, true, (const char *const[]){"*position_ids", NULL}, &err), FLUX1_ERR_MODEL);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "1 tensor is missing: \"gone\""));
    assert_non_null(strstr(err.message, "tensor \"b\" has shape [3], the configuration asks for [3, 1]"));
    assert_non_null(strstr(err.message, "tensor \"c\" is F8_E8M0, which this version cannot compute with"));
    assert_non_null(strstr(err.message, "1 tensor that such a model does not have: \"e\""));
    assert_null(strstr(err.message, "position_ids"));
    assert_int_equal(store_check(s, false, NULL, &err), FLUX1_ERR_MODEL);
    assert_null(strstr(err.message, "\"e\""));
    store_close(s);
}

static void unclaimed_tensors_are_named_unless_ignored(void **state)
{
    (void)state;
    store *s;
    const store_tensor *t;
    flux1_error err = {0};
    put_tensors("model.safetensors", SHARD_1, 4);
    assert_int_equal(store_open(folder, stems, NULL, &s, NULL), FLUX1_OK);
    assert_int_equal(store_check(s, true, NULL, &err), FLUX1_ERR_MODEL);
    assert_non_null(strstr(err.message, "2 tensors that such a model does not have: \"b\", \"extra\""));
    assert_int_equal(store_check(s, true, (const char *const[]){"*tra", "b", NULL}, &err), FLUX1_OK);
    assert_int_equal(store_check(s, true, (const char *const[]){"*xextra", "xtra", "b", NULL}, &err), FLUX1_ERR_MODEL);
    assert_int_equal(store_claim(s, "b", 1, (int64_t[]){3}, &t, NULL),
                     FLUX1_OK); /* U8 does not decode: a fault, yet claimed */
    assert_int_equal(store_check(s, true, (const char *const[]){"extra", NULL}, &err), FLUX1_ERR_MODEL);
    assert_null(strstr(err.message, "does not have"));
    store_close(s);
}

static void many_names_are_counted(void **state)
{
    (void)state;
    store *s;
    const store_tensor *t;
    flux1_error err = {0};
    put_tensors("model.safetensors", "{}", 0);
    assert_int_equal(store_open(folder, stems, NULL, &s, NULL), FLUX1_OK);
    for (int i = 0; i < 1160; i++) {
        char name[64];
        snprintf(name, sizeof name, "transformer_blocks.%d.attn.to_q.weight", i);
        assert_int_equal(store_claim(s, name, 0, NULL, &t, NULL), FLUX1_OK);
    }
    assert_int_equal(store_check(s, false, NULL, &err), FLUX1_ERR_MODEL);
    assert_non_null(strstr(err.message, "1160 tensors are missing"));
    assert_non_null(strstr(err.message, "and 1144 more"));
    store_close(s);
}

static double deviation(const store_tensor *t, double *mean)
{
    int64_t n = tensor_elements(&t->view);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        float x;
        assert_int_equal(tensor_decode(&t->view, i, 1, &x, NULL), FLUX1_OK);
        sum += x;
        squares += (double)x * x;
    }
    *mean = sum / (double)n;
    return sqrt(squares / (double)n - *mean * *mean);
}

static void synthetic_weights_have_the_asked_shape_and_scale(void **state)
{
    (void)state;
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (int i = 0; i < 3; i++) {
        store *s;
        const store_tensor *w, *norm, *bias, *again;
        double mean;
        assert_int_equal(store_synthetic(types[i], true, &s, NULL), FLUX1_OK);
        assert_int_equal(store_claim(s, "blocks.0.to_q.weight", 2, (int64_t[]){500, 1024}, &w, NULL), FLUX1_OK);
        assert_int_equal(store_claim(s, "blocks.0.norm_q.weight", 1, (int64_t[]){4000}, &norm, NULL), FLUX1_OK);
        assert_int_equal(store_claim(s, "blocks.0.to_q.bias", 1, (int64_t[]){4000}, &bias, NULL), FLUX1_OK);
        assert_true(w->view.type == types[i] && w->view.shape[1] == 1024);
        double d = deviation(w, &mean);
        assert_true(fabs(d * 32 - 1) < 0.02 && fabs(mean) < 1e-3);
        d = deviation(norm, &mean);
        assert_true(fabs(d - 0.1) < 0.01 && fabs(mean - 1) < 0.01);
        d = deviation(bias, &mean);
        assert_true(fabs(d - 0.125) < 0.01 && fabs(mean) < 0.01);
        assert_int_equal(store_claim(s, "blocks.0.to_q.bias", 1, (int64_t[]){4000}, &again, NULL), FLUX1_OK);
        assert_ptr_equal(again, bias);
        assert_int_equal(store_claim(s, "blocks.1.to_q.weight", 2, (int64_t[]){500, 1024}, &again, NULL), FLUX1_OK);
        assert_ptr_not_equal(again->view.data, w->view.data);
        assert_int_equal(store_count(s), 4);
        assert_string_equal(store_at(s, 0)->name, "blocks.0.norm_q.weight");
        assert_int_equal(store_check(s, true, NULL, NULL), FLUX1_OK);
        store_close(s);
    }
}

/* The last element of the largest tensor lies in its buffer, also when larger ones come later. */
static void synthetic_buffers_grow_and_old_tensors_stay(void **state)
{
    (void)state;
    store *s;
    const store_tensor *t[4];
    float x;
    assert_int_equal(store_synthetic(DTYPE_BF16, true, &s, NULL), FLUX1_OK);
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%d", i);
        assert_int_equal(store_claim(s, name, 2, (int64_t[]){(int64_t)1000 << (2 * i), 1024}, &t[i], NULL), FLUX1_OK);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(tensor_decode(&t[i]->view, 0, 1, &x, NULL), FLUX1_OK);
        assert_int_equal(tensor_decode(&t[i]->view, tensor_elements(&t[i]->view) - 1, 1, &x, NULL), FLUX1_OK);
        assert_true(isfinite(x));
    }
    store_close(s);
}

static void a_plan_needs_no_memory(void **state)
{
    (void)state;
    store *s;
    const store_tensor *t;
    flux1_error err = {0};
    assert_int_equal(store_synthetic(DTYPE_BF16, false, &s, NULL), FLUX1_OK);
    assert_int_equal(store_claim(s, "w", 2, (int64_t[]){(int64_t)1 << 30, (int64_t)1 << 30}, &t, NULL), FLUX1_OK);
    assert_null(t->view.data);
    assert_int_equal(store_claim(s, "v", 2, (int64_t[]){(int64_t)1 << 40, (int64_t)1 << 40}, &t, &err),
                     FLUX1_ERR_LIMIT);
    assert_non_null(strstr(err.message, "\"v\""));
    assert_int_equal(store_claim(s, "w", 1, (int64_t[]){1}, &t, NULL), FLUX1_OK);
    assert_null(t);
    assert_int_equal(store_check(s, false, NULL, &err), FLUX1_ERR_MODEL);
    store_close(s);
    assert_int_equal(store_synthetic(DTYPE_I64, false, &s, &err), FLUX1_ERR_UNSUPPORTED);
}

/* Closed, opened again: the same bytes are known by file and offset, though every store has a number of its own. */
static void the_same_bytes_are_recognised(void **state)
{
    (void)state;
    store_tensor first[2];
    store *s;
    put_tensors("m1.safetensors", SHARD_1, 4);
    put_tensors("m2.safetensors", SHARD_2, 8);
    put_index("{\"weight_map\":{\"b\":\"m1.safetensors\",\"extra\":\"m1.safetensors\",\"a\":\"m2.safetensors\"}}");
    for (int round = 0; round < 3; round++) {
        assert_int_equal(store_open(folder, stems, NULL, &s, NULL), FLUX1_OK);
        const store_tensor *t[] = {store_find(s, "extra"), store_find(s, "a")};
        assert_int_equal(t[0]->offset, 8 + strlen(SHARD_1) + 3);
        assert_int_equal(t[1]->offset, 8 + strlen(SHARD_2));
        assert_true(file_identity_same(&t[0]->source, &store_find(s, "b")->source));
        assert_false(file_identity_same(&t[0]->source, &t[1]->source));
        for (int i = 0; round > 0 && i < 2; i++) {
            assert_true(t[i]->store != first[i].store);
            assert_int_equal(file_identity_same(&t[i]->source, &first[i].source), round == 1 || i == 1);
        }
        first[0] = *t[0];
        first[1] = *t[1];
        store_close(s);
        if (round == 1) /* the first shard comes anew: another file of the same bytes */
            put_tensors("new.safetensors", SHARD_1, 4);
        char from[200], to[200];
        snprintf(from, sizeof from, "%s/new.safetensors", folder);
        snprintf(to, sizeof to, "%s/m1.safetensors", folder);
        if (round == 1)
            assert_int_equal(rename(from, to), 0);
    }
}

/* Made-up tensors are nobody else's, and do not overlap though their bytes do. */
static void synthetic_tensors_have_an_identity_of_their_own(void **state)
{
    (void)state;
    store *s[2];
    const store_tensor *t[2][3];
    for (int k = 0; k < 2; k++) {
        assert_int_equal(store_synthetic(DTYPE_BF16, k == 0, &s[k], NULL), FLUX1_OK);
        for (int i = 0; i < 3; i++)
            assert_int_equal(
                store_claim(s[k], (const char *const[]){"b", "a", "c"}[i], 2, (int64_t[]){4, 8 << i}, &t[k][i], NULL),
                FLUX1_OK);
        for (int i = 1; i < 3; i++)
            assert_int_equal(t[k][i]->offset, t[k][i - 1]->offset + tensor_bytes(&t[k][i - 1]->view));
        assert_true(t[k][0]->source.device == FILE_DEVICE_NONE &&
                    file_identity_same(&t[k][0]->source, &t[k][2]->source));
    }
    assert_false(file_identity_same(&t[0][0]->source, &t[1][0]->source));
    store_close(s[0]);
    store_close(s[1]);
}

/* ---- which file ---- */

#define INDEX "{\"weight_map\":{\"b\":\"m1.safetensors\",\"a\":\"m2.safetensors\"}}"

/* The file that tensor "b" comes from, with a note or (NULL) none; `variant`: the one that is asked for. */
static void expect_file(const char *stem, const char *variant, const char *file, const char *note)
{
    store *s;
    flux1_error err = {0};
    if (store_open(folder, (const char *const[]){stem, NULL}, variant, &s, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    assert_string_equal(strrchr(store_find(s, "b")->file, '/') + 1, file);
    const char *told = store_note(s, STORE_NOTE_CHOICE);
    if (note ? !told || !strstr(told, note) : told != NULL)
        fail_msg("%s: %s", file, told ? told : "no note");
    store_close(s);
}

/* diffusers 0.39: _fetch_index_file first; transformers 4.57: SAFE_WEIGHTS_NAME first */
static void of_file_and_index_the_library_s_choice_counts(void **state)
{
    (void)state;
    put_tensors("m1.safetensors", SHARD_1, 4);
    put_tensors("m2.safetensors", SHARD_2, 8);
    put_index(INDEX);
    put_tensors("model.safetensors", SHARD_1, 4);
    expect_file("model", NULL, "model.safetensors", "model.safetensors.index.json beside it is not");
    put("diffusion_pytorch_model.safetensors.index.json", INDEX, strlen(INDEX));
    put_tensors("diffusion_pytorch_model.safetensors", SHARD_1, 4);
    expect_file("diffusion_pytorch_model", NULL, "m1.safetensors",
                "diffusion_pytorch_model.safetensors.index.json is used");
}

static void a_variant_is_taken_where_it_is_there(void **state)
{
    (void)state;
    store *s;
    put_tensors("model.safetensors", SHARD_1, 4);
    put_tensors("model.fp16.safetensors", SHARD_1, 4);
    expect_file("model", NULL, "model.safetensors", NULL);
    expect_file("model", "fp16", "model.fp16.safetensors", NULL);
    expect_file("model", "bf16", "model.safetensors", NULL);
    unlink_in("model.safetensors");
    assert_int_equal(store_open(folder, stems, NULL, &s, NULL), FLUX1_OK);
    assert_string_equal(store_variant(s), "fp16");
    assert_non_null(strstr(store_note(s, STORE_NOTE_CHOICE), "there are no plain weights"));
    store_close(s);
    put_tensors("model.bf16.safetensors", SHARD_1, 4);
    expect_fault(FLUX1_ERR_MODEL, "several variants (bf16, fp16)", "file_variant");
    assert_int_equal(store_open(folder, stems, "bf16", &s, NULL), FLUX1_OK);
    assert_string_equal(store_variant(s), "bf16");
    store_close(s);
}

static void an_index_may_have_a_variant(void **state)
{
    (void)state;
    store *s;
    put_tensors("m1.safetensors", SHARD_1, 4);
    put_tensors("m2.safetensors", SHARD_2, 8);
    put("model.safetensors.index.fp16.json", INDEX, strlen(INDEX));
    expect_file("model", "fp16", "m1.safetensors", NULL);
    assert_int_equal(store_open(folder, stems, NULL, &s, NULL), FLUX1_OK);
    assert_non_null(strstr(store_note(s, STORE_NOTE_CHOICE), "model.safetensors.index.fp16.json is used"));
    store_close(s);
}

static void other_contents_of_a_folder_are_named(void **state)
{
    (void)state;
    put("pytorch_model.bin", "PK", 2);
    expect_fault(FLUX1_ERR_MODEL, "a pickle (pytorch_model.bin)", "model.safetensors");
    put_tensors("model-00001-of-00002.safetensors", SHARD_1, 4);
    expect_fault(FLUX1_ERR_MODEL, "shards (model-00001-of-00002.safetensors)", "model.safetensors.index.json");
    put_index("<!DOCTYPE html>");
    expect_fault(FLUX1_ERR_FORMAT, "index.json: a web page", "");
    put_index("version https://git-lfs.github.com/spec/v1\n");
    expect_fault(FLUX1_ERR_FORMAT, "index.json: a Git LFS pointer", "");
}

static void a_file_that_was_cut_is_a_fault(void **state)
{
    (void)state;
    store *s;
    char path[200];
    flux1_error err = {0};
    put_tensors("model.safetensors", SHARD_1, 4);
    assert_int_equal(store_open(folder, stems, NULL, &s, NULL), FLUX1_OK);
    assert_int_equal(store_check_files(s, &err), FLUX1_OK);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(store_check_files(s, &err), FLUX1_ERR_IO);
    assert_non_null(strstr(err.message, "model.safetensors: it became shorter"));
    store_close(s);
}

static uint64_t sample_with(const char *file, const char *type, int changed)
{
    char header[400], path[200];
    size_t size;
    store *s;
    snprintf(
        header, sizeof header,
        "{\"a\":{\"dtype\":\"%s\",\"shape\":[20,10],\"data_offsets\":[0,200]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],"
        "\"data_offsets\":[200,201]},\"c\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[201,201]}}",
        type);
    unsigned char *bytes = safetensors_build(header, NULL, 201, &size);
    if (changed >= 0)
        bytes[size - 201 + (size_t)changed] ^= 1;
    put(file, bytes, size);
    free(bytes);
    snprintf(path, sizeof path, "%s/%s", folder, file);
    assert_int_equal(store_open_file(path, &s, NULL), FLUX1_OK);
    const uint64_t sample = store_sample(s);
    assert_true(sample == store_sample(s));
    store_close(s);
    return sample;
}

static void a_sample_tells_contents_apart(void **state)
{
    (void)state;
    const uint64_t one = sample_with("one.safetensors", "U8", -1);
    assert_true(sample_with("another.safetensors", "U8", -1) == one);
    assert_true(sample_with("one.safetensors", "U8", 100) != one); /* the middle of a */
    assert_true(sample_with("one.safetensors", "U8", 200) != one); /* all of b */
    assert_true(sample_with("one.safetensors", "I8", -1) != one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(single_file_is_opened_and_sorted, clear_folder),
        cmocka_unit_test_teardown(shards_are_one_store, clear_folder),
        cmocka_unit_test_teardown(faults_of_an_index_are_named, clear_folder),
        cmocka_unit_test_teardown(missing_folder_and_weights_are_named, clear_folder),
        cmocka_unit_test_teardown(all_faults_come_in_one_message, clear_folder),
        cmocka_unit_test_teardown(unclaimed_tensors_are_named_unless_ignored, clear_folder),
        cmocka_unit_test_teardown(many_names_are_counted, clear_folder),
        cmocka_unit_test_teardown(of_file_and_index_the_library_s_choice_counts, clear_folder),
        cmocka_unit_test_teardown(a_variant_is_taken_where_it_is_there, clear_folder),
        cmocka_unit_test_teardown(an_index_may_have_a_variant, clear_folder),
        cmocka_unit_test_teardown(other_contents_of_a_folder_are_named, clear_folder),
        cmocka_unit_test_teardown(a_file_that_was_cut_is_a_fault, clear_folder),
        cmocka_unit_test_teardown(a_sample_tells_contents_apart, clear_folder),
        cmocka_unit_test(synthetic_weights_have_the_asked_shape_and_scale),
        cmocka_unit_test(synthetic_buffers_grow_and_old_tensors_stay),
        cmocka_unit_test(a_plan_needs_no_memory),
        cmocka_unit_test_teardown(the_same_bytes_are_recognised, clear_folder),
        cmocka_unit_test(synthetic_tensors_have_an_identity_of_their_own),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
