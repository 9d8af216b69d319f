/* Pictures with prepared weights on disk: the same bit for bit with a cold cache, a warm one and none, whatever happens
 * to the cache. */
#include "support/damage.h"
#include "support/failing.h"
#include "support/golden.h"

#include "base/file.h"
#include "weights/prepared_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static char root[64], folder[80];
static char log_text[4096];

static int begin(void **state)
{
    (void)state;
    /* in memory where there is such a folder: many files are written through to the disk */
    snprintf(root, sizeof root, "%s/flux1_prepared_XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(root))
        return -1;
    snprintf(folder, sizeof folder, "%s/cache", root);
    log_text[0] = '\0';
    return setenv("XDG_CACHE_HOME", root, 1);
}

static int end(void **state)
{
    (void)state;
    char command[120];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void remember(void *user, flux1_log_level level, const char *message)
{
    (void)user;
    size_t n = strlen(log_text);
    if (level == FLUX1_LOG_WARNING && !strstr(message, "they share that one")) /* the emulated machine has one GPU */
        snprintf(log_text + n, sizeof log_text - n, "%s\n", message);
}

static flux1_context *context_with(const char *cache, const char *shape, flux1_dtype arithmetic, uint64_t size)
{
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.device = TEST_DEVICE;
    p.mesh = shape;
    p.threads = 1;
    p.dtype = arithmetic;
    p.cache = cache;
    p.cache_size = size;
    p.log = remember;
    return context_of(&p);
}

static const char *const shapes[] = {"1x1", "1x2", "2x2"};
enum { SHAPES = 3 };

/* A picture of 32×32 in one step. */
typedef struct picture {
    uint8_t pixels[3 * 32 * 32];
} picture;

static flux1_status try_picture(const char *model, const char *cache, const char *shape, flux1_dtype arithmetic,
                                uint64_t size, picture *out)
{
    flux1_image *image = NULL;
    flux1_generate_params p;
    flux1_generate_params_defaults(&p);
    p.prompt = "a red car";
    p.width = p.height = 32;
    p.steps = 1;
    p.seed = 3;
    flux1_context *c = context_with(cache, shape, arithmetic, size);
    flux1_model *m = model_of(c, model);
    flux1_status st = flux1_generate(c, m, &p, &image);
    if (st == FLUX1_OK) {
        assert_int_equal(image->width * image->height, 32 * 32);
        memcpy(out->pixels, image->pixels, sizeof out->pixels);
    }
    flux1_images_free(image, 1);
    flux1_model_close(m);
    flux1_context_destroy(c);
    return st;
}

static picture picture_of(const char *model, const char *cache, const char *shape)
{
    picture p;
    assert_int_equal(try_picture(model, cache, shape, FLUX1_DTYPE_F32, 0, &p), FLUX1_OK);
    return p;
}

/* The entries, by name: equal lists mean that nothing was stored. */
typedef struct entries {
    size_t count, unfinished;
    uint64_t hash, bytes, largest; /* of names and inodes */
    char first[PREPARED_NAME];     /* the largest one's name */
} entries;

static entries entries_there(void)
{
    prepared_file *all;
    entries e = {0};
    if (prepared_files(folder, &all, &e.count, NULL) != FLUX1_OK)
        return e;
    for (size_t i = 0; i < e.count; i++) {
        char path[200];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", folder, all[i].name);
        assert_int_equal(stat(path, &info), 0);
        uint64_t h = (uint64_t)info.st_ino * 31;
        for (const char *c = all[i].name; *c; c++)
            h = h * 131 + (unsigned char)*c;
        e.hash += h;
        e.bytes += all[i].bytes;
        e.unfinished += all[i].unfinished;
        if (all[i].bytes > e.largest) {
            e.largest = all[i].bytes;
            memcpy(e.first, all[i].name, sizeof e.first);
        }
    }
    free(all);
    return e;
}

static void expect_same(const picture *a, const picture *b, const char *what)
{
    if (memcmp(a, b, sizeof *a) != 0)
        fail_msg("%s: another picture", what);
}

static const char *schnell(void) { return TEST_DATA "/pipelines/schnell"; }

/* ---- hits and misses ---- */

static void a_cold_and_a_warm_cache_give_the_picture_of_none(void **state)
{
    (void)state;
    size_t count = 0;
    for (int i = 0; i < SHAPES; i++) {
        picture none = picture_of(schnell(), "", shapes[i]), cold = picture_of(schnell(), folder, shapes[i]);
        entries before = entries_there();
        picture warm = picture_of(schnell(), folder, shapes[i]);
        entries after = entries_there();
        expect_same(&none, &cold, "cold");
        expect_same(&none, &warm, "warm");
        assert_true(before.count > count);
        assert_int_equal(before.unfinished, 0);
        assert_true(before.hash == after.hash && before.count == after.count);
        /* rows of the sp axis have the same weights: 2x2 needs nothing that 1x2 has not stored */
        assert_true(i != 1 || before.count >= count + 4);
        count = i == 1 ? 0 : before.count;
    }
    assert_string_equal(log_text, "");
}

/* A file of its own in place of the link. */
static void copy_bytes(const copy *k, const char *part)
{
    char *bytes;
    size_t size;
    assert_int_equal(file_read(copy_path(k, part), 1 << 20, &bytes, &size, NULL), FLUX1_OK);
    copy_write(k, part, bytes, size);
    free(bytes);
}

/* What the form does not depend on finds the entry, what it depends on does not. */
static void entries_are_found_by_content_and_form(void **state)
{
    (void)state;
    copy k = copy_of("schnell");
    picture first = picture_of(k.path, folder, "1x1");
    entries before = entries_there();
    copy other = copy_of("schnell"); /* another folder */
    copy_bytes(&other, "transformer/diffusion_pytorch_model.safetensors");
    picture same = picture_of(other.path, folder, "1x1");
    assert_true(entries_there().hash == before.hash);
    expect_same(&first, &same, "a copy");
    const struct {
        flux1_dtype arithmetic;
        const char *shape;
    } forms[] = {{FLUX1_DTYPE_BF16, "1x1"}, {FLUX1_DTYPE_F32, "1x2"}};
    for (int i = strcmp(TEST_DEVICE, "cpu") == 0; i < 2; i++) { /* the CPU's forms are the same for all arithmetic */
        before = entries_there();
        assert_int_equal(try_picture(k.path, folder, forms[i].shape, forms[i].arithmetic, 0, &same), FLUX1_OK);
        assert_true(entries_there().count > before.count);
    }
    before = entries_there();
    tensors t = tensors_read(&other, "transformer/diffusion_pytorch_model.safetensors");
    t.bytes[t.data + 5] ^= 0x40; /* a weight changes */
    tensors_write(&other, "transformer/diffusion_pytorch_model.safetensors", &t, NULL, NULL, false);
    picture stale = picture_of(other.path, folder, "1x1"), fresh = picture_of(other.path, "", "1x1");
    expect_same(&stale, &fresh, "a changed model");
    assert_int_equal(entries_there().count, before.count + 1); /* the transformer's alone */
    copy_free(&other);
    copy_free(&k);
    assert_string_equal(log_text, "");
}

/* ---- damage ---- */

static void damage(const char *name, off_t at)
{
    char path[200];
    unsigned char byte;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void damaged_entries_are_rebuilt_with_a_warning(void **state)
{
    (void)state;
    picture none = picture_of(schnell(), "", "1x2"), p = picture_of(schnell(), folder, "1x2");
    const entries whole = entries_there();
    const off_t at[] = {3, 60, 70, 4096, (off_t)whole.largest - 1};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        log_text[0] = '\0';
        damage(whole.first, at[i]);
        p = picture_of(schnell(), folder, "1x2");
        expect_same(&none, &p, "a damaged entry");
        assert_non_null(strstr(log_text, whole.first));
        assert_non_null(strstr(log_text, "made again"));
        assert_int_equal(entries_there().count, whole.count);
    }
    log_text[0] = '\0';
    p = picture_of(schnell(), folder, "1x2");
    assert_string_equal(log_text, "");
}

/* ---- processes and disks ---- */

static pid_t start(void)
{
    pid_t child = fork();
    if (child == 0) {
        picture p;
        _exit(try_picture(schnell(), folder, "1x1", FLUX1_DTYPE_F32, 0, &p) == FLUX1_OK && !log_text[0] ? 0 : 1);
    }
    return child;
}

/* Four start with an empty cache. */
static void processes_at_once_share_the_work_or_go_without(void **state)
{
    (void)state;
    pid_t child[4];
    picture none = picture_of(schnell(), "", "1x1");
    for (int i = 0; i < 4; i++)
        child[i] = start();
    for (int i = 0; i < 4; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    entries before = entries_there();
    assert_true(before.count >= 4 && before.unfinished == 0);
    picture p = picture_of(schnell(), folder, "1x1");
    expect_same(&none, &p, "after four processes");
    assert_true(entries_there().hash == before.hash);
}

/* Has the lock of whoever writes an entry, and puts it there after a while. */
static pid_t start_writer(const char *temporary, const char *from, const char *to)
{
    int tell[2];
    char byte = 0;
    assert_int_equal(pipe(tell), 0);
    const pid_t child = fork();
    if (child == 0) {
        const int fd = open(temporary, O_RDWR | O_CREAT, 0600);
        const bool good = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && write(tell[1], &byte, 1) == 1;
        nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL); /* a picture that did not wait would be there */
        _exit(good && rename(from, to) == 0 && unlink(temporary) == 0 ? 0 : 1);
    }
    close(tell[1]);
    assert_int_equal(read(tell[0], &byte, 1), 1);
    close(tell[0]);
    return child;
}

/* In the host's memory the plan counts on forms in files: that of another rank or process is not made once more. */
static void an_entry_that_another_writes_is_waited_for(void **state)
{
    (void)state;
    char path[200], temporary[200], kept[200];
    int status;
    if (strcmp(TEST_DEVICE, "cpu") != 0)
        skip();
    picture first = picture_of(schnell(), folder, "1x1");
    const entries whole = entries_there();
    snprintf(path, sizeof path, "%s/%s", folder, whole.first);
    snprintf(temporary, sizeof temporary, "%s/%s.tmp", folder, whole.first);
    snprintf(kept, sizeof kept, "%s/kept", root);
    assert_int_equal(rename(path, kept), 0);
    const pid_t child = start_writer(temporary, kept, path);
    picture p = picture_of(schnell(), folder, "1x1");
    const entries after = entries_there();
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(after.hash == whole.hash && after.unfinished == 0); /* the file that the other has put there */
    expect_same(&first, &p, "another's entry");
    assert_string_equal(log_text, "");
}

static void a_builder_killed_at_any_moment_leaves_a_cache_that_works(void **state)
{
    (void)state;
    unsigned seed = 7;
    picture none = picture_of(schnell(), "", "1x1");
    for (int i = 0; i < (strcmp(TEST_DEVICE, "cpu") == 0 ? 12 : 3); i++) {
        int status;
        pid_t child = start();
        seed = seed * 1103515245u + 12345u;
        nanosleep(&(struct timespec){.tv_nsec = (long)(seed >> 8) % 40000000}, NULL);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
    }
    picture p = picture_of(schnell(), folder, "1x1");
    expect_same(&none, &p, "after kills");
    assert_string_equal(log_text, "");
    assert_int_equal(entries_there().unfinished, 0);
}

static void a_full_disk_or_a_limit_is_one_warning_and_a_picture(void **state)
{
    (void)state;
    picture none = picture_of(schnell(), "", "1x1"), p;
    assert_int_equal(try_picture(schnell(), folder, "1x1", FLUX1_DTYPE_F32, 5000, &p), FLUX1_OK);
    expect_same(&none, &p, "a small limit");
    assert_non_null(strstr(log_text, "not stored"));
    assert_null(strchr(strchr(log_text, '\n') + 1, '\n'));
    if ((mkdir(folder, 0700) != 0 && errno != EEXIST) || mount("none", folder, "tmpfs", 0, "size=12k") != 0) {
        print_message("skipped: no permission to mount\n");
        return;
    }
    log_text[0] = '\0';
    p = picture_of(schnell(), folder, "1x1");
    expect_same(&none, &p, "a full disk");
    assert_non_null(strstr(log_text, "No space left"));
    assert_null(strchr(strchr(log_text, '\n') + 1, '\n'));
    assert_int_equal(entries_there().unfinished, 0);
    assert_int_equal(umount2(folder, MNT_DETACH), 0);
}

/* Requests of one context use what was adopted, also after a rest and after another model. */
static void requests_that_follow_use_it_too(void **state)
{
    (void)state;
    flux1_image *image[4] = {0};
    flux1_generate_params p;
    flux1_generate_params_defaults(&p);
    p.width = p.height = 32;
    p.steps = 1;
    p.seed = 5;
    flux1_context *c = context_with(folder, "1x2", FLUX1_DTYPE_F32, 0);
    flux1_model *a = pipeline_of(c, "schnell"), *b = pipeline_of(c, "dev");
    for (int i = 0; i < 4; i++)
        if (flux1_generate(c, i == 2 ? b : a, &p, &image[i]) != FLUX1_OK)
            fail_msg("%s", flux1_context_message(c));
    assert_memory_equal(image[0]->pixels, image[1]->pixels, 3 * 32 * 32);
    assert_memory_equal(image[0]->pixels, image[3]->pixels, 3 * 32 * 32);
    for (int i = 0; i < 4; i++)
        flux1_images_free(image[i], 1);
    flux1_model_close(a);
    flux1_model_close(b);
    flux1_context_destroy(c);
    assert_string_equal(log_text, "");
}

/* ---- memory ---- */

static long allocations; /* of the last disturbed picture */

/* A context that may fail; its message is not of interest. */
static flux1_status disturbed_picture(const flux1_model *m, long allocation, picture *out)
{
    flux1_image *image = NULL;
    flux1_generate_params p;
    flux1_context_params with;
    flux1_context *c;
    flux1_generate_params_defaults(&p);
    p.prompt = "a red car";
    p.width = p.height = 32;
    p.steps = 1;
    p.seed = 3;
    flux1_context_params_defaults(&with);
    with.device = TEST_DEVICE;
    with.threads = 1;
    with.dtype = FLUX1_DTYPE_F32;
    with.cache = folder;
    failing_after(allocation);
    flux1_status st = flux1_context_create(&with, &c);
    if (st == FLUX1_OK)
        st = flux1_generate(c, m, &p, &image);
    if (st == FLUX1_OK)
        memcpy(out->pixels, image->pixels, sizeof out->pixels);
    flux1_images_free(image, 1);
    flux1_context_destroy(c);
    allocations = failing_asked();
    failing_after(-1);
    return st;
}

/* Each of the allocations fails once, with an empty cache and a filled one: no memory, or the same picture. */
static void lack_of_memory_ends_the_run_or_goes_without_the_cache(void **state)
{
    (void)state;
    const long tries = strcmp(TEST_DEVICE, "cpu") == 0 ? 80 : 15;
    picture none = picture_of(schnell(), "", "1x1"), p;
    flux1_context *c = context_with("", "1x1", FLUX1_DTYPE_F32, 0);
    char command[120];
    for (int warm = 0; warm < 2; warm++) {
        flux1_model *m = model_of(c, schnell());
        assert_int_equal(disturbed_picture(m, -1, &p), FLUX1_OK);
        flux1_model_close(m);
        const long points = allocations;
        assert_true(points > 100);
        for (long i = 0; i < tries; i++) {
            snprintf(command, sizeof command, "rm -rf %s", folder);
            assert_int_equal(warm ? 0 : system(command), 0);
            m = model_of(c, schnell());
            flux1_status st = disturbed_picture(m, i * points / tries, &p);
            flux1_model_close(m);
            assert_true(st == FLUX1_OK || st == FLUX1_ERR_MEMORY);
            if (st == FLUX1_OK)
                expect_same(&none, &p, "after an allocation that failed");
            assert_int_equal(entries_there().unfinished, 0);
        }
    }
    flux1_context_destroy(c);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_cold_and_a_warm_cache_give_the_picture_of_none),
        TEST(entries_are_found_by_content_and_form),
        TEST(damaged_entries_are_rebuilt_with_a_warning),
        TEST(processes_at_once_share_the_work_or_go_without),
        TEST(an_entry_that_another_writes_is_waited_for),
        TEST(a_builder_killed_at_any_moment_leaves_a_cache_that_works),
        TEST(a_full_disk_or_a_limit_is_one_warning_and_a_picture),
        TEST(requests_that_follow_use_it_too),
        TEST(lack_of_memory_ends_the_run_or_goes_without_the_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
