/* Files that are mapped: what is gone reads as zeros and is a status, not a bus error; what cannot be mapped is read.
 * The linker's --wrap plays a file system without mmap, and notes which pages are given back. */
#include "base/file_map.h"
#include "base/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char file[64], other[64];
static int map_fault; /* errno of a mapping of a file; 0: it works */

void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fd < 0 || !map_fault)
        return __real_mmap(at, size, protection, flags, fd, offset);
    errno = map_fault;
    return MAP_FAILED;
}

static struct {
    unsigned char *at;
    size_t size;
} given_back[8];
static size_t times_given_back;

int __real_madvise(void *at, size_t size, int advice);
int __wrap_madvise(void *at, size_t size, int advice);

int __wrap_madvise(void *at, size_t size, int advice)
{
    if (advice == MADV_DONTNEED && times_given_back < sizeof given_back / sizeof *given_back) {
        given_back[times_given_back].at = at;
        given_back[times_given_back++].size = size;
    }
    return __real_madvise(at, size, advice);
}

#define PAGES 8

static size_t page(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* PAGES pages and a half, of ones. */
static void make(char path[64])
{
    strcpy(path, "/tmp/flux1_map_XXXXXX");
    const int fd = mkstemp(path);
    const size_t size = PAGES * page() + page() / 2;
    unsigned char *ones = malloc(size);
    memset(ones, 1, size);
    assert_int_equal(write(fd, ones, size), (ssize_t)size);
    free(ones);
    close(fd);
}

static int make_files(void **state)
{
    (void)state;
    map_fault = 0;
    make(file);
    make(other);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    unlink(file);
    unlink(other);
    return 0;
}

static file_map open_map(const char *path)
{
    file_map m;
    flux1_error err = {0};
    if (file_map_open(path, &m, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return m;
}

typedef struct reading {
    const file_map *map;
    atomic_size_t sum;
} reading;

static void read_page(void *arg, int64_t index, int worker)
{
    (void)worker;
    reading *r = arg;
    for (size_t i = (size_t)index * page(); i < ((size_t)index + 1) * page() && i < r->map->size; i++)
        atomic_fetch_add(&r->sum, ((const volatile unsigned char *)r->map->bytes)[i]);
}

/* The sum of all bytes, read by several threads. */
static size_t sum_of(const file_map *m)
{
    pool *p;
    reading r = {.map = m};
    assert_int_equal(pool_create(4, &p, NULL), FLUX1_OK);
    pool_run(p, (int64_t)((m->size + page() - 1) / page()), read_page, &r);
    pool_destroy(p);
    return r.sum;
}

static void what_is_gone_is_zeros_and_a_status(void **state)
{
    (void)state;
    flux1_error err = {0};
    file_map a = open_map(file), twin = open_map(file), b = open_map(other);
    assert_int_equal(sum_of(&a), a.size);
    assert_int_equal(file_map_check(&a, file, &err), FLUX1_OK);
    assert_int_equal(truncate(file, (off_t)(2 * page())), 0);
    assert_int_equal(sum_of(&a), 2 * page());
    assert_int_equal(file_map_check(&a, file, &err), FLUX1_ERR_IO);
    assert_non_null(strstr(err.message, file));
    assert_non_null(strstr(err.message, "became shorter"));
    /* the file is whole again, but not what was made of it meanwhile; nor what another mapping's user made */
    assert_int_equal(truncate(file, (off_t)a.size), 0);
    assert_int_equal(file_map_check(&a, file, &err), FLUX1_ERR_IO);
    assert_int_equal(file_map_check(&twin, file, &err), FLUX1_ERR_IO);
    assert_int_equal(file_map_check(&b, other, &err), FLUX1_OK);
    assert_int_equal(sum_of(&b), b.size);
    file_map_close(&a);
    file_map_close(&twin);
    file_map_close(&b);
}

/* The caller of a pool waits until one of its threads, which take no other signals, has read the page. */
static void read_in_a_thread(void *arg, int64_t index, int worker)
{
    reading *r = arg;
    (void)index;
    if (worker == 0)
        while (atomic_load(&r->sum) == 0)
            usleep(1000);
    else
        atomic_fetch_add(&r->sum, 1 + (size_t)((const volatile unsigned char *)r->map->bytes)[0]);
}

static void threads_of_a_pool_meet_it_too(void **state)
{
    (void)state;
    pool *p;
    file_map a = open_map(file);
    reading r = {.map = &a};
    assert_int_equal(truncate(file, 0), 0);
    assert_int_equal(pool_create(2, &p, NULL), FLUX1_OK);
    pool_run(p, 2, read_in_a_thread, &r);
    pool_destroy(p);
    assert_int_equal(r.sum, 1);
    file_map_close(&a);
}

/* There is no bus error within the last page. */
static void a_cut_within_the_last_page_is_noticed(void **state)
{
    (void)state;
    flux1_error err = {0};
    file_map a = open_map(file);
    assert_int_equal(truncate(file, (off_t)a.size - 1), 0);
    assert_int_equal(file_map_check(&a, file, &err), FLUX1_ERR_IO);
    assert_int_equal(rename(other, file), 0); /* another file of that name: the mapped one was whole to the end */
    assert_int_equal(file_map_check(&a, file, &err), FLUX1_OK);
    file_map_close(&a);
}

static sigjmp_buf back;

static void application_handler(int number)
{
    (void)number;
    siglongjmp(back, 1);
}

static void (*handler_now(void))(int)
{
    struct sigaction now;
    sigaction(SIGBUS, NULL, &now);
    return now.sa_handler;
}

static volatile unsigned char seen;

static void the_application_s_handler_has_its_own_errors(void **state)
{
    (void)state;
    struct sigaction mine = {.sa_handler = application_handler}, before;
    sigaction(SIGBUS, &mine, &before);
    file_map a = open_map(file), b = open_map(other);
    assert_ptr_not_equal(handler_now(), application_handler);
    const int fd = open(file, O_RDONLY);
    const volatile unsigned char *own = mmap(NULL, page(), PROT_READ, MAP_PRIVATE, fd, 0);
    assert_int_equal(truncate(file, 0), 0);
    volatile bool caught = false;
    if (sigsetjmp(back, 1) == 0)
        seen = own[0];
    else
        caught = true;
    assert_true(caught);
    munmap((void *)(uintptr_t)own, page());
    close(fd);
    file_map_close(&a);
    assert_ptr_not_equal(handler_now(), application_handler);
    file_map_close(&b);
    assert_ptr_equal(handler_now(), application_handler); /* with the last mapping */
    sigaction(SIGBUS, &before, NULL);
}

static void without_a_handler_others_errors_end_the_process(void **state)
{
    (void)state;
    int status;
    const pid_t child = fork();
    if (child == 0) {
        struct sigaction none = {.sa_handler = SIG_DFL};
        sigaction(SIGBUS, &none, NULL);
        file_map a;
        if (file_map_open(file, &a, NULL) == FLUX1_OK)
            raise(SIGBUS);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

static void many_files_are_guarded(void **state)
{
    (void)state;
    enum { MANY = 150 };
    static file_map maps[MANY];
    for (int i = 0; i < MANY; i++)
        maps[i] = open_map(i == MANY - 1 ? file : other);
    assert_int_equal(truncate(file, 0), 0);
    assert_int_equal(sum_of(&maps[MANY - 1]), 0);
    assert_int_equal(file_map_check(&maps[0], other, NULL), FLUX1_OK);
    for (int i = 0; i < MANY; i++)
        file_map_close(&maps[i]);
}

static void expect_given_back(size_t i, const unsigned char *from, const unsigned char *to)
{
    assert_in_range(i, 0, times_given_back - 1);
    assert_ptr_equal(given_back[i].at, from);
    assert_int_equal(given_back[i].size, to - from);
}

/* With the 64 KiB around each, which neighbours share, in whatever order they come. */
static void what_meets_is_given_back_at_once(void **state)
{
    (void)state;
    enum { AROUND = 64 << 10 };
    assert_int_equal(truncate(file, 16 * AROUND), 0);
    file_map a = open_map(file);
    const unsigned char *const end = a.bytes + a.size;
    const unsigned char *first = (const unsigned char *)(((uintptr_t)a.bytes + AROUND) & ~(uintptr_t)(AROUND - 1));
    file_map_range before = {0};
    times_given_back = 0;
    file_map_gathered(&before);
    file_map_gather(&before, NULL, 5);
    assert_int_equal(times_given_back, 0);
    file_map_gather(&before, first + 4 * AROUND + 7, 1);
    file_map_gather(&before, first + 4 * AROUND + 9, AROUND); /* to the end of the next */
    file_map_gather(&before, first + 3 * AROUND, 100);        /* in front */
    file_map_gather(&before, first + 4 * AROUND + 300, 5);    /* within */
    assert_int_equal(times_given_back, 0);
    file_map_gather(&before, first + 7 * AROUND, AROUND); /* apart */
    file_map_gather(&before, first + 1 * AROUND, 2);      /* and apart, in front */
    file_map_gather(&before, end - 3, 3);
    file_map_gathered(&before);
    assert_int_equal(times_given_back, 4);
    expect_given_back(0, first + 3 * AROUND, first + 6 * AROUND);
    expect_given_back(1, first + 7 * AROUND, first + 8 * AROUND);
    expect_given_back(2, first + 1 * AROUND, first + 2 * AROUND);
    const uintptr_t last = ((uintptr_t)end - 1) & ~(uintptr_t)(AROUND - 1);
    expect_given_back(3, (const unsigned char *)last, end);
    assert_int_equal(before.begin, before.end);
    file_map_wont_need(a.bytes, a.size);
    expect_given_back(4, a.bytes, end);
    assert_int_equal(sum_of(&a), PAGES * page() + page() / 2); /* and found again */
    file_map_close(&a);
}

static void what_cannot_be_mapped_is_read(void **state)
{
    (void)state;
    static const int faults[] = {ENODEV, EACCES, EINVAL, EOPNOTSUPP, EPERM, EAGAIN};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        map_fault = faults[i];
        file_map a = open_map(file);
        assert_true(a.in_memory);
        assert_int_equal(sum_of(&a), a.size);
        file_map_will_need(a.bytes, a.size);
        file_map_wont_need(a.bytes, a.size);
        assert_int_equal(sum_of(&a), a.size); /* still */
        assert_int_equal(truncate(other, 0), 0);
        assert_int_equal(file_map_check(&a, file, NULL), FLUX1_OK);
        file_map_close(&a);
    }
    flux1_error err = {0};
    file_map a;
    map_fault = ENOMEM;
    assert_int_equal(file_map_open(file, &a, &err), FLUX1_ERR_MEMORY);
    map_fault = 0;
    a = open_map(file);
    assert_false(a.in_memory);
    file_map_close(&a);
}

static void a_file_larger_than_memory_cannot_be_read(void **state)
{
    (void)state;
    flux1_error err = {0};
    file_map a;
    map_fault = ENODEV;
    assert_int_equal(truncate(file, (off_t)1 << 42), 0); /* 4 TiB of holes */
    assert_int_equal(file_map_open(file, &a, &err), FLUX1_ERR_LIMIT);
    assert_non_null(strstr(err.message, "4.00 TiB"));
    assert_null(a.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_files, remove_files)
        TEST(what_is_gone_is_zeros_and_a_status),
        TEST(threads_of_a_pool_meet_it_too),
        TEST(a_cut_within_the_last_page_is_noticed),
        TEST(the_application_s_handler_has_its_own_errors),
        TEST(without_a_handler_others_errors_end_the_process),
        TEST(many_files_are_guarded),
        TEST(what_meets_is_given_back_at_once),
        TEST(what_cannot_be_mapped_is_read),
        TEST(a_file_larger_than_memory_cannot_be_read),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
