/* A file of weights that becomes shorter while the model is open: a sentence and a status, no bus error and no picture
 * of zeros, from the call that needs it. */
#include "support/damage.h"
#include "support/golden_runs.h"

#include "base/file.h"
#include "base/listing.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

static atomic_bool maps_nothing; /* the linker's --wrap plays a file system without mmap */

void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fd < 0 || !maps_nothing)
        return __real_mmap(at, size, protection, flags, fd, offset);
    errno = ENODEV;
    return MAP_FAILED;
}

static const char *const files[] = {"text_encoder/model.safetensors", "text_encoder_2/model.safetensors",
                                    "transformer/diffusion_pytorch_model.safetensors",
                                    "vae/diffusion_pytorch_model.safetensors"};
enum { FILES = sizeof files / sizeof *files };

/* With a new prompt each time: one that the context has encoded before needs no encoder. */
static flux1_status draw(flux1_context *c, const flux1_model *m)
{
    static int drawn;
    char prompt[32];
    flux1_image *images = NULL;
    flux1_generate_params p;
    flux1_generate_params_defaults(&p);
    snprintf(prompt, sizeof prompt, "red fox %d", drawn++);
    p.prompt = prompt;
    p.width = p.height = 32;
    p.steps = 2;
    const flux1_status st = flux1_generate(c, m, &p, &images);
    flux1_images_free(images, 1);
    return st;
}

static void expect_cut(flux1_context *c, flux1_status st, const char *file)
{
    const char *message = flux1_context_message(c);
    if (st != FLUX1_ERR_IO || !strstr(message, file) || !strstr(message, "became shorter"))
        fail_msg("%s: %s, \"%s\"", file, flux1_status_name(st), message);
}

/* Real copies of all files of weights. */
static copy own_copy(void)
{
    copy k = copy_of("schnell");
    for (int i = 0; i < FILES; i++)
        copy_cut(&k, files[i], 1000);
    return k;
}

/* The file has `keep` of 1000 parts of its bytes left. */
static void shorten(const copy *k, const char *file, long long keep)
{
    struct stat info;
    assert_int_equal(stat(copy_path(k, file), &info), 0);
    assert_int_equal(truncate(copy_path(k, file), (off_t)(info.st_size * keep / 1000)), 0);
}

static void check_each_file(const char *shape, bool drawn_before, long long keep)
{
    for (int i = 0; i < FILES; i++) {
        copy k = own_copy();
        flux1_context *c = context_on("cpu", shape, 2, FLUX1_DTYPE_F32);
        flux1_model *m = model_of(c, k.path);
        if (drawn_before)
            assert_int_equal(draw(c, m), FLUX1_OK);
        shorten(&k, files[i], keep);
        expect_cut(c, draw(c, m), files[i]);
        expect_cut(c, draw(c, m), files[i]);
        flux1_model_close(m);
        flux1_context_destroy(c);
        copy_free(&k);
    }
}

static void each_part_is_noticed_before_its_first_use(void **state)
{
    (void)state;
    check_each_file("", false, 0);
    check_each_file("", false, 500);
}

static void each_part_is_noticed_in_the_next_picture(void **state)
{
    (void)state;
    check_each_file("", true, 300);
    check_each_file("", true, 999); /* within the last page, or not far from it */
}

static void ranks_of_a_mesh_notice_it(void **state)
{
    (void)state;
    check_each_file("2x2", false, 300);
}

static int cut_at_the_first_step(void *user, const flux1_progress *now)
{
    if (now->stage == FLUX1_STAGE_DENOISE && now->step >= 1)
        shorten(user, files[2], 0);
    return 0;
}

static void a_cut_between_steps_is_noticed(void **state)
{
    (void)state;
    copy k = own_copy();
    flux1_image *images = NULL;
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, k.path);
    flux1_generate_params p;
    flux1_generate_params_defaults(&p);
    p.prompt = "a red fox";
    p.width = p.height = 32;
    p.steps = 4;
    p.progress = cut_at_the_first_step;
    p.progress_user = &k;
    expect_cut(c, flux1_generate(c, m, &p, &images), files[2]);
    assert_null(images);
    flux1_model_close(m);

    /* the context goes on with another model */
    m = pipeline_of(c, "schnell");
    assert_int_equal(draw(c, m), FLUX1_OK);
    flux1_model_close(m);
    flux1_context_destroy(c);
    copy_free(&k);
}

/* What has the cache's ending is cut to half of it. Returns how many files were. */
static int cut_entries(const char *folder)
{
    listing l;
    int count = 0;
    assert_int_equal(listing_read(folder, &l, NULL), FLUX1_OK);
    for (size_t i = 0; i < l.count; i++) {
        struct stat info;
        char *path = path_join(folder, l.name[i]);
        assert_int_equal(stat(path, &info), 0);
        if (S_ISREG(info.st_mode) && info.st_size > 0) {
            assert_int_equal(truncate(path, info.st_size / 2), 0);
            count++;
        }
        free(path);
    }
    listing_free(&l);
    return count;
}

static void remove_folder(const char *folder)
{
    listing l;
    assert_int_equal(listing_read(folder, &l, NULL), FLUX1_OK);
    for (size_t i = 0; i < l.count; i++) {
        char *path = path_join(folder, l.name[i]);
        unlink(path);
        free(path);
    }
    listing_free(&l);
    rmdir(folder);
}

static void prepared_weights_are_noticed_and_made_again(void **state)
{
    (void)state;
    char folder[] = "/tmp/flux1-cut-cache-XXXXXX";
    assert_non_null(mkdtemp(folder));
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.cache = folder;
    flux1_context *c = context_of(&p);
    flux1_model *m = pipeline_of(c, "schnell");
    assert_int_equal(draw(c, m), FLUX1_OK);
    assert_true(cut_entries(folder) > 0);
    assert_int_equal(draw(c, m), FLUX1_ERR_IO);
    const char *message = flux1_context_message(c);
    if (!strstr(message, folder) || !strstr(message, "these prepared weights became shorter"))
        fail_msg("%s", message);
    flux1_model_close(m);
    m = pipeline_of(c, "schnell");
    assert_int_equal(draw(c, m), FLUX1_OK);
    flux1_model_close(m);
    flux1_context_destroy(c);
    remove_folder(folder);
}

static void note_reading(void *user, flux1_log_level level, const char *message)
{
    int *told = user;
    (void)level;
    *told += strstr(message, "does not map files; 1 file (") != NULL && strstr(message, "was read into memory") != NULL;
}

static void without_mmap_files_are_read(void **state)
{
    (void)state;
    golden g;
    int told = 0;
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.dtype = FLUX1_DTYPE_F32;
    p.log = note_reading;
    p.log_user = &told;
    flux1_context *c = context_of(&p);
    golden_open("schnell", "car", &g);
    maps_nothing = true;
    flux1_model *m = pipeline_of(c, "schnell");
    assert_int_equal(told, FILES);
    run_case(c, m, &g, "without mmap");
    maps_nothing = false;
    golden_close(&g);
    flux1_model_close(m);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_is_noticed_before_its_first_use),
        cmocka_unit_test(each_part_is_noticed_in_the_next_picture),
        cmocka_unit_test(ranks_of_a_mesh_notice_it),
        cmocka_unit_test(a_cut_between_steps_is_noticed),
        cmocka_unit_test(prepared_weights_are_noticed_and_made_again),
        cmocka_unit_test(without_mmap_files_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
