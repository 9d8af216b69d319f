/* The cache of prepared weights: an entry is found whole and right, or not at all, whatever happens to its file, its
 * folder and the processes that write it. */
#include "weights/prepared.h"

#include "base/file.h"
#include "base/hash.h"
#include "support/failing.h"
#include "weights/store.h"

#include "support/safetensors_build.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __real_posix_fallocate(int fd, off_t begin, off_t bytes);
int __wrap_posix_fallocate(int fd, off_t begin, off_t bytes);

static bool die_before_rename;
static void (*behind_rename)(void);
static int interruptions; /* of posix_fallocate, that are to come */
static enum { LOCKS, LOCKS_OF_NFS, NO_LOCKS } locks;

int __wrap_rename(const char *from, const char *to)
{
    if (die_before_rename)
        raise(SIGKILL);
    const int result = __real_rename(from, to);
    if (behind_rename)
        behind_rename();
    return result;
}

/* NFS: flock(2), "an exclusive lock, the file must be opened for writing". */
int __wrap_flock(int fd, int operation)
{
    const bool exclusive = operation & LOCK_EX;
    errno = locks == NO_LOCKS ? ENOLCK : EBADF;
    if (locks == NO_LOCKS || (locks == LOCKS_OF_NFS && exclusive && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY))
        return -1;
    return __real_flock(fd, operation);
}

int __wrap_posix_fallocate(int fd, off_t begin, off_t bytes)
{
    return interruptions-- > 0 ? EINTR : __real_posix_fallocate(fd, begin, bytes);
}

enum { BLOCKS = 3, LARGEST = 9000 };
static const size_t sizes[BLOCKS] = {5, LARGEST, 4096};

static char root[64], folder[80];
static prepared_folder *cache;

static int begin(void **state)
{
    (void)state;
    flux1_error err;
    /* in memory where there is such a folder: many files are written through to the disk */
    snprintf(root, sizeof root, "%s/flux1_prepared_XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(root))
        return -1;
    snprintf(folder, sizeof folder, "%s/cache", root);
    unsetenv("FLUX1_CACHE_DIR");
    unsetenv("FLUX1_CACHE_SIZE");
    setenv("XDG_CACHE_HOME", root, 1);
    return prepared_open(folder, 0, true, &cache, &err);
}

static int end(void **state)
{
    (void)state;
    char command[200];
    prepared_close(cache);
    snprintf(command, sizeof command, "chmod -R u+w %s; rm -rf %s", root, root);
    return system(command);
}

/* Entry `name`: blocks with keys made of it. */
static void wanted(uint64_t name, prepared_block out[BLOCKS])
{
    for (uint64_t i = 0; i < BLOCKS; i++)
        out[i] = (prepared_block){.key = {name, i}, .bytes = sizes[i]};
}

static void contents(uint64_t name, size_t block, unsigned char *out)
{
    for (size_t i = 0; i < sizes[block]; i++)
        out[i] = (unsigned char)(name * 31 + block * 7 + i * i);
}

static bool add_all(prepared_writer *w, uint64_t name)
{
    unsigned char bytes[LARGEST];
    bool added = true;
    for (size_t i = 0; i < BLOCKS && added; i++) {
        contents(name, i, bytes);
        added = prepared_add(w, i, bytes);
    }
    return added;
}

static bool store_entry(prepared_folder *f, uint64_t name)
{
    prepared_block b[BLOCKS];
    bool there, busy;
    wanted(name, b);
    prepared_writer *w = prepared_begin(f, b, BLOCKS, "{\"part\": \"a test\"}", &there, &busy);
    if (!w)
        return false;
    add_all(w, name);
    return prepared_end(w, true);
}

/* Whether it is found; then it must be right. */
static bool found(prepared_folder *f, uint64_t name)
{
    prepared_block b[BLOCKS];
    unsigned char bytes[LARGEST];
    wanted(name, b);
    prepared_entry *e = prepared_find(f, b, BLOCKS, true);
    for (size_t i = 0; e && i < BLOCKS; i++) {
        contents(name, i, bytes);
        assert_int_equal((uintptr_t)prepared_data(e, i) % 4096, 0);
        assert_memory_equal(prepared_data(e, i), bytes, sizes[i]);
    }
    if (e)
        prepared_leave(e);
    return e != NULL;
}

static void expect_warning(const char *words)
{
    char *text = prepared_next_warning(cache);
    if (!text || !strstr(text, words))
        fail_msg("\"%s\" lacks \"%s\"", text ? text : "(no warning)", words);
    free(text);
    assert_null(prepared_next_warning(cache));
}

/* The cache's only file. */
static prepared_file only_file(void)
{
    prepared_file *all, one;
    size_t count;
    assert_int_equal(prepared_files(folder, &all, &count, NULL), FLUX1_OK);
    assert_int_equal(count, 1);
    one = all[0];
    free(all);
    return one;
}

static const char *name_of(uint64_t name)
{
    static char out[PREPARED_NAME];
    prepared_block b[BLOCKS];
    prepared_header h;
    wanted(name, b);
    assert_int_equal(prepared_header_make(b, BLOCKS, "", &h, NULL), FLUX1_OK);
    prepared_name(h.key, out);
    prepared_header_free(&h);
    return out;
}

static size_t files_there(void)
{
    prepared_file *all;
    size_t count;
    assert_int_equal(prepared_files(folder, &all, &count, NULL), FLUX1_OK);
    free(all);
    return count;
}

static const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* ---- finding ---- */

static void an_entry_is_found_by_all_of_its_keys_and_sizes(void **state)
{
    (void)state;
    prepared_block b[BLOCKS];
    assert_false(found(cache, 1));
    assert_int_equal(files_there(), 0); /* looking makes nothing */
    assert_true(store_entry(cache, 1));
    assert_true(found(cache, 1));
    assert_false(found(cache, 2));
    for (int what = 0; what < 4; what++) {
        wanted(1, b);
        switch (what) {
        case 0: b[1].key[0]++; break;
        case 1: b[2].key[1] ^= 1u << 31; break;
        case 2: b[0].bytes++; break;
        case 3: b[0] = b[1], b[1].key[1] = 0; break;
        }
        assert_null(prepared_find(cache, b, BLOCKS, true));
        wanted(1, b);
        assert_null(prepared_find(cache, b, BLOCKS - 1, true));
    }
    assert_null(prepared_next_warning(cache));
}

static void the_folder_is_the_callers_or_the_environments(void **state)
{
    (void)state;
    prepared_folder *f;
    flux1_error err = {0};
    assert_int_equal(prepared_open(NULL, 0, true, &f, &err), FLUX1_OK);
    assert_null(f);
    setenv("FLUX1_CACHE_DIR", "/elsewhere", 1);
    assert_int_equal(prepared_open("", 0, true, &f, &err), FLUX1_OK);
    assert_null(f);
    setenv("FLUX1_CACHE_SIZE", "1.5K", 1);
    assert_int_equal(prepared_open(NULL, 0, true, &f, &err), FLUX1_OK);
    assert_string_equal(f->path, "/elsewhere");
    assert_int_equal(f->limit, 1536);
    prepared_close(f);
    assert_int_equal(prepared_open(folder, 7, true, &f, &err), FLUX1_OK);
    assert_string_equal(f->path, folder);
    assert_int_equal(f->limit, 7);
    prepared_close(f);
    setenv("FLUX1_CACHE_SIZE", "much", 1);
    assert_int_equal(prepared_open(folder, 0, true, &f, &err), FLUX1_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "much"));
}

/* ---- damage ---- */

/* A bit of each of the file's regions, and every kind of cut: never wrong bytes, always a warning and a new entry. */
static void a_damaged_entry_is_removed_and_made_again(void **state)
{
    (void)state;
    static const long at[] = {0,   9,   17,  25,   41,   49,    57,    64,    80, 90,    96,          104,
                              185, 190, 300, 4096, 8192, 17191, 20480, 24575, -1, -4096, -24576 + 64, -24576};
    assert_true(store_entry(cache, 1));
    const prepared_file whole = only_file();
    assert_int_equal(whole.bytes, 4096 + 4096 + 3 * 4096 + 4096); /* header, 5, 9000 and 4096 bytes */
    for (int stop = 0; stop < 2; stop++) {
        const atomic_int cancel = stop;
        flux1_error err = {0};
        assert_int_equal(prepared_check(folder, whole.name, true, &cancel, NULL, &err),
                         stop ? FLUX1_ERR_CANCELLED : FLUX1_OK);
        assert_int_equal(prepared_check(folder, whole.name, false, &cancel, NULL, &err), FLUX1_OK);
    }
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        const char *path = path_of(whole.name);
        if (at[i] < 0) {
            assert_int_equal(truncate(path, (off_t)whole.bytes + at[i]), 0);
        } else {
            unsigned char byte;
            int fd = open(path, O_RDWR);
            assert_int_equal(pread(fd, &byte, 1, at[i]), 1);
            byte ^= 16;
            assert_int_equal(pwrite(fd, &byte, 1, at[i]), 1);
            close(fd);
        }
        flux1_error err = {0};
        assert_int_equal(prepared_check(folder, whole.name, true, NULL, NULL, &err), FLUX1_ERR_FORMAT);
        assert_non_null(strstr(err.message, whole.name));
        assert_false(found(cache, 1));
        expect_warning("made again");
        assert_int_equal(files_there(), 0);
        assert_true(store_entry(cache, 1));
        assert_true(found(cache, 1));
    }
}

/* Block by block: what is whole of a damaged entry is read; what is not is told when its user leaves it. */
static void blocks_are_read_one_by_one(void **state)
{
    (void)state;
    prepared_block b[BLOCKS];
    unsigned char got[LARGEST], expected[LARGEST];
    flux1_error err = {0};
    assert_true(store_entry(cache, 1));
    wanted(1, b);
    for (int damaged = 0; damaged < 2; damaged++) {
        if (damaged) {
            int fd = open(path_of(name_of(1)), O_RDWR);
            assert_int_equal(pwrite(fd, "!", 1, 8192 + LARGEST - 1), 1);
            close(fd);
        }
        prepared_entry *e = prepared_find(cache, b, BLOCKS, false);
        assert_non_null(e);
        for (size_t i = BLOCKS; i-- > 0;) {
            memset(got, 0xee, sizeof got);
            contents(1, i, expected);
            const flux1_status st = prepared_read(e, i, got, &err);
            assert_int_equal(st, damaged && i == 1 ? FLUX1_ERR_FORMAT : FLUX1_OK);
            if (st == FLUX1_OK)
                assert_memory_equal(got, expected, sizes[i]);
        }
        assert_null(prepared_next_warning(cache));
        if (damaged)
            prepared_discard(cache, e, &err);
        else
            prepared_leave(e);
    }
    expect_warning("the checksum of block 1 does not match; they are made again");
    assert_int_equal(files_there(), 0);
}

/* In any order; what is not all, or is not to be kept, is none. */
static void an_entry_is_written_in_any_order(void **state)
{
    (void)state;
    static const size_t order[BLOCKS] = {2, 0, 1};
    prepared_block b[BLOCKS];
    unsigned char bytes[LARGEST];
    bool there, busy;
    wanted(1, b);
    for (size_t count = 0; count <= BLOCKS + 1; count++) { /* the last time all, kept */
        prepared_writer *w = prepared_begin(cache, b, BLOCKS, "{}", &there, &busy);
        assert_non_null(w);
        for (size_t i = 0; i < count && i < BLOCKS; i++) {
            contents(1, order[i], bytes);
            assert_false(prepared_has(w, order[i]));
            assert_true(prepared_add(w, order[i], bytes));
            assert_true(prepared_has(w, order[i]));
        }
        assert_int_equal(prepared_end(w, count != BLOCKS), count > BLOCKS);
        assert_int_equal(files_there(), count > BLOCKS);
    }
    assert_true(found(cache, 1));
}

static void an_entry_with_bytes_behind_its_end_is_not_used(void **state)
{
    (void)state;
    assert_true(store_entry(cache, 1));
    assert_int_equal(truncate(path_of(name_of(1)), 30000), 0);
    assert_false(found(cache, 1));
    expect_warning("it has 30000 bytes instead of the 24576 that it should have");
}

/* It stays, is listed, and nothing waits for it or is stored under it. */
static void what_is_no_file_is_named_and_left(void **state)
{
    (void)state;
    char path[200];
    struct stat info;
    strcpy(path, path_of(name_of(1)));
    for (int what = 0; what < 3; what++) {
        flux1_error err = {0};
        assert_int_equal(what == 0   ? mkdir(path, 0700)
                         : what == 1 ? mkfifo(path, 0600)
                                     : symlink("/nonexistent", path),
                         0);
        assert_false(found(cache, 1));
        assert_false(store_entry(cache, 1));
        expect_warning(what == 0 ? "is a folder" : what == 1 ? "is no regular file" : "is a link");
        assert_true(only_file().stranger && !only_file().unfinished && only_file().bytes == 0);
        assert_int_equal(prepared_check(folder, name_of(1), true, NULL, NULL, &err), FLUX1_ERR_FORMAT);
        assert_non_null(strstr(err.message, path));
        assert_int_equal(prepared_remove(folder, name_of(1), &err), PREPARED_STUCK);
        assert_true(prepared_make_room(cache, 1));
        assert_int_equal(lstat(path, &info), 0);
        assert_int_equal(remove(path), 0);
    }
    assert_true(store_entry(cache, 1));
    assert_true(found(cache, 1));
    strcat(strcpy(path, path_of(name_of(2))), ".tmp");
    assert_int_equal(mkfifo(path, 0600), 0); /* where the next one would be written */
    assert_false(store_entry(cache, 2));
    expect_warning("is no regular file");
    assert_int_equal(remove(path), 0);
    assert_true(store_entry(cache, 2));
}

/* Entry 1 but for one number, or for its last block. How many blocks. */
static size_t vary(int what, prepared_block b[BLOCKS])
{
    wanted(1, b);
    switch (what) {
    case 0: b[1].key[0]++; break;
    case 1: b[2].key[1]++; break;
    case 2: b[0].bytes++; break;
    default: return BLOCKS - 1;
    }
    return BLOCKS;
}

static void another_entry_under_its_name_is_not_used(void **state)
{
    (void)state;
    static const unsigned char bytes[LARGEST];
    prepared_block b[BLOCKS];
    bool there, busy;
    char first[200];
    strcpy(first, path_of(name_of(1)));
    for (int what = 0; what < 4; what++) {
        const size_t count = vary(what, b);
        prepared_writer *w = prepared_begin(cache, b, count, "{}", &there, &busy);
        assert_non_null(w);
        for (size_t i = 0; i < count; i++)
            assert_true(prepared_add(w, i, bytes));
        assert_true(prepared_end(w, true));
        assert_int_equal(rename(path_of(only_file().name), first), 0);
        assert_false(found(cache, 1));
        expect_warning("renamed");
        assert_int_equal(files_there(), 0);
    }
    assert_true(store_entry(cache, 1));
    assert_int_equal(rename(first, path_of("x")), 0);
    assert_false(found(cache, 1));
    assert_true(file_exists(path_of("x"))); /* not ours */
}

static void files_of_other_names_are_not_ours(void **state)
{
    (void)state;
    static const char *const names[] = {
        "0123456789abcdef0123456789abcde.prepared", "0123456789abcdef0123456789abcdef0.prepared",
        "0123456789abcdef0123456789abcdeg.prepared", "0123456789abcdef0123456789abcdef.prepared.old",
        "0123456789abcdef0123456789abcdef"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const int fd = open(path_of(names[i]), O_WRONLY | O_CREAT, 0600);
        assert_true(fd >= 0);
        close(fd);
        if (files_there() != 0)
            fail_msg("%s", names[i]);
    }
}

/* Of many the first are kept; that nothing is stored any more is told once. */
static void warnings_are_bounded(void **state)
{
    (void)state;
    char expected[16], *text;
    for (int i = 0; i < 3 * PREPARED_WARNINGS; i++)
        prepared_warn(cache, "%d", i);
    for (int i = 0; i < PREPARED_WARNINGS; i++) {
        snprintf(expected, sizeof expected, "%d", i);
        assert_non_null(text = prepared_next_warning(cache));
        assert_string_equal(text, expected);
        free(text);
    }
    assert_null(prepared_next_warning(cache));
    prepared_stop(cache, "a disk");
    prepared_stop(cache, "another");
    expect_warning("a disk; prepared weights are not stored from here on");
    assert_true(prepared_is_full(cache));
}

/* ---- headers ---- */

enum { AT_FILE = 16, AT_COUNT = 40, AT_TEXT = 48, AT_SUM = 56, ROW = 40, AT_OFFSET = 16, AT_BYTES = 24 };

static void put_number(unsigned char *header, size_t at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        header[at + (size_t)i] = (unsigned char)(value >> 8 * i);
}

static flux1_status read_sealed(unsigned char header[PREPARED_ALIGN])
{
    prepared_header h;
    flux1_error err = {0};
    memset(header + AT_SUM, 0, 8);
    put_number(header, AT_SUM, hash_bytes(header, PREPARED_ALIGN));
    const flux1_status st = prepared_header_read(header, PREPARED_ALIGN, &h, &err);
    assert_true(st == FLUX1_OK || (err.status == st && !h.block && !h.description && h.count == 0));
    prepared_header_free(&h);
    return st;
}

/* Rows of offset and bytes, made as a writer of mischief would. */
static void put_rows(unsigned char header[PREPARED_ALIGN], uint64_t file, const uint64_t rows[][2], size_t count)
{
    put_number(header, AT_FILE, file);
    put_number(header, AT_COUNT, count);
    for (size_t i = 0; i < count; i++) {
        put_number(header, PREPARED_HEAD + i * ROW + AT_OFFSET, rows[i][0]);
        put_number(header, PREPARED_HEAD + i * ROW + AT_BYTES, rows[i][1]);
    }
}

/* The checksum is right, and one number cannot be; or all of them fit together but for 64 bits, which overflow. */
static void numbers_of_a_header_are_not_trusted(void **state)
{
    (void)state;
    enum { FIRST = PREPARED_HEAD, SECOND = FIRST + ROW, THIRD = SECOND + ROW, FILE_BYTES = 24576 };
    static const struct {
        size_t at;
        uint64_t value;
    } wrong[] = {{AT_FILE, FILE_BYTES - 1},
                 {AT_FILE, FILE_BYTES + 1},
                 {AT_FILE, UINT64_MAX},
                 {AT_COUNT, 0},
                 {AT_COUNT, BLOCKS - 1},
                 {AT_COUNT, BLOCKS + 1},
                 {AT_COUNT, (PREPARED_ALIGN - PREPARED_HEAD) / ROW + 1},
                 {AT_COUNT, (uint64_t)1 << 60},
                 {AT_TEXT, PREPARED_ALIGN - PREPARED_HEAD - BLOCKS * ROW + 1},
                 {AT_TEXT, UINT64_MAX},
                 {FIRST + AT_OFFSET, 0},
                 {FIRST + AT_OFFSET, PREPARED_ALIGN + 1},
                 {SECOND + AT_OFFSET, PREPARED_ALIGN},
                 {FIRST + AT_BYTES, PREPARED_ALIGN + 1},
                 {FIRST + AT_BYTES, UINT64_MAX},
                 {THIRD + AT_BYTES, 4095},
                 {THIRD + AT_BYTES, 4097}};
    const uint64_t quarter = (uint64_t)1 << 62, align = PREPARED_ALIGN,
                   back[][2] = {{align, 0 - align}, {0, FILE_BYTES}},
                   around[][2] = {{align, quarter},
                                  {align + quarter, quarter},
                                  {align + 2 * quarter, quarter},
                                  {align + 3 * quarter, quarter},
                                  {align, quarter - align}};
    prepared_block b[BLOCKS];
    prepared_header h;
    unsigned char good[PREPARED_ALIGN], bad[PREPARED_ALIGN];
    wanted(1, b);
    assert_int_equal(prepared_header_make(b, BLOCKS, "{}", &h, NULL), FLUX1_OK);
    assert_true(h.header_bytes == PREPARED_ALIGN && h.file_bytes == FILE_BYTES);
    prepared_header_write(&h, good);
    prepared_header_free(&h);
    assert_int_equal(read_sealed(good), FLUX1_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memcpy(bad, good, sizeof bad);
        put_number(bad, wrong[i].at, wrong[i].value);
        if (read_sealed(bad) != FLUX1_ERR_FORMAT)
            fail_msg("%llu at %zu is taken", (unsigned long long)wrong[i].value, wrong[i].at);
    }
    put_rows(bad, FILE_BYTES, back, 2);
    assert_int_equal(read_sealed(bad), FLUX1_ERR_FORMAT);
    put_rows(bad, quarter, around, 5);
    assert_int_equal(read_sealed(bad), FLUX1_ERR_FORMAT);
    memcpy(bad, good, sizeof bad);
    assert_int_equal(prepared_header_bytes(bad), PREPARED_ALIGN);
    static const uint64_t lengths[] = {0, PREPARED_ALIGN - 8, PREPARED_ALIGN + 64,
                                       (uint64_t)PREPARED_HEADER_MOST + PREPARED_ALIGN};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        put_number(bad, 8, lengths[i]);
        assert_int_equal(prepared_header_bytes(bad), 0);
    }
    assert_int_equal(prepared_header_read(good, 0, &h, NULL), FLUX1_ERR_FORMAT);
}

static void blocks_that_are_too_many_or_too_large_are_none(void **state)
{
    (void)state;
    prepared_header h;
    prepared_block two[] = {{.bytes = 1}, {.bytes = SIZE_MAX / 2 + 1}},
                   halves[] = {{.bytes = SIZE_MAX / 2}, {.bytes = 1}};
    enum { MOST = PREPARED_HEADER_MOST / 2 / ROW };
    char *text = calloc(1, PREPARED_HEADER_MOST / 4 + 2);
    prepared_block *many = calloc(MOST + 1, sizeof *many);
    assert_true(text && many);
    memset(text, 'x', PREPARED_HEADER_MOST / 4 + 1);
    assert_int_equal(prepared_header_make(two, 0, "", &h, NULL), FLUX1_ERR_LIMIT);
    assert_int_equal(prepared_header_make(two, 2, "", &h, NULL), FLUX1_ERR_LIMIT);
    assert_int_equal(prepared_header_make(halves, 2, "", &h, NULL), FLUX1_ERR_LIMIT);
    assert_int_equal(prepared_header_make(two, 1, text, &h, NULL), FLUX1_ERR_LIMIT);
    text[PREPARED_HEADER_MOST / 4] = '\0';
    assert_int_equal(prepared_header_make(two, 1, text, &h, NULL), FLUX1_OK);
    prepared_header_free(&h);
    assert_int_equal(prepared_header_make(many, MOST + 1, "", &h, NULL), FLUX1_ERR_LIMIT);
    assert_int_equal(prepared_header_make(many, MOST, "", &h, NULL), FLUX1_OK);
    prepared_header_free(&h);
    free(many);
    free(text);
}

/* ---- processes ---- */

static void a_killed_writer_leaves_nothing_that_is_found(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        die_before_rename = true;
        store_entry(cache, 1);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    char path[200];
    strcpy(path, path_of(only_file().name));
    assert_true(only_file().unfinished);
    assert_false(found(cache, 1));
    assert_true(store_entry(cache, 2)); /* another entry's writer tidies up, but for what may have begun just now */
    assert_int_equal(files_there(), 2);
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[2]){{0}}, 0), 0);
    assert_true(store_entry(cache, 3));
    assert_int_equal(files_there(), 2);
    assert_false(file_exists(path));
    assert_true(store_entry(cache, 1));
    assert_true(found(cache, 1) && found(cache, 2));
}

/* Ends the process where there is a warning. */
static void write_and_remove(uint64_t turn)
{
    found(cache, turn % 4);
    store_entry(cache, turn % 4);
    if (prepared_next_warning(cache))
        _exit(2);
    prepared_file *all = NULL;
    size_t count = 0;
    if (turn % 8 == 7 && prepared_files(folder, &all, &count, NULL) == FLUX1_OK)
        for (size_t i = 0; i < count; i++)
            prepared_remove(folder, all[i].name, NULL);
    free(all);
}

/* Killed at any moment, again and again: what is found is right. */
static void writers_killed_at_random_moments_do_no_harm(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (int round = 0; round < 40; round++) {
        pid_t child = fork();
        if (child == 0)
            for (uint64_t turn = 0;; turn++)
                write_and_remove(turn);
        seed = seed * 1103515245u + 12345u;
        nanosleep(&(struct timespec){.tv_nsec = 1000000 + (long)(seed >> 8) % 15000000}, NULL);
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status)); /* it never had a warning */
        for (uint64_t name = 0; name < 4; name++)
            found(cache, name);
        assert_null(prepared_next_warning(cache));
    }
    for (uint64_t name = 0; name < 4; name++)
        assert_true(found(cache, name) || store_entry(cache, name));
}

/* While one process writes, another neither waits nor writes. */
static void an_entry_is_written_by_one_process_at_a_time(void **state)
{
    (void)state;
    prepared_block b[BLOCKS];
    bool there, busy;
    int status, tell[2], go_on[2];
    char byte = 0, temporary[200];
    assert_int_equal(pipe(tell) | pipe(go_on), 0);
    wanted(1, b);
    pid_t child = fork();
    if (child == 0) {
        close(go_on[1]); /* so that it ends with a parent that fails */
        prepared_writer *w = prepared_begin(cache, b, BLOCKS, "{}", &there, &busy);
        bool good = w && write(tell[1], &byte, 1) == 1 && read(go_on[0], &byte, 1) == 1 && add_all(w, 1);
        _exit(good && prepared_end(w, true) ? 0 : 1);
    }
    assert_int_equal(read(tell[0], &byte, 1), 1);
    cache->limit = only_file().bytes; /* that entry alone: who waits for it counts it once */
    assert_null(prepared_begin(cache, b, BLOCKS, "{}", &there, &busy));
    assert_true(busy && !there && !prepared_is_full(cache));
    cache->limit = PREPARED_LIMIT;
    assert_true(snprintf(temporary, sizeof temporary, "%s.tmp", path_of(name_of(1))) < (int)sizeof temporary);
    const struct timespec long_ago = {.tv_sec = time(NULL) - 121};
    assert_int_equal(utimensat(AT_FDCWD, temporary, (struct timespec[2]){long_ago, long_ago}, 0), 0);
    assert_null(prepared_begin(cache, b, BLOCKS, "{}", &there, &busy));
    assert_false(busy || there); /* one that was stopped is not waited for */
    assert_false(found(cache, 1));
    assert_true(store_entry(cache, 2)); /* others are not in its way; nor is its file removed */
    assert_int_equal(write(go_on[1], &byte, 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_null(prepared_begin(cache, b, BLOCKS, "{}", &there, &busy));
    assert_true(there && !busy);
    assert_true(found(cache, 1) && found(cache, 2));
    assert_int_equal(files_there(), 2);
    assert_null(prepared_next_warning(cache));
    close(tell[0]), close(tell[1]), close(go_on[0]), close(go_on[1]);
}

static pthread_t finder;

static void *find_it(void *arg)
{
    bool *it = arg;
    *it = found(cache, 1);
    return NULL;
}

static bool is_found;

/* The writer still has the entry locked here, for a while. */
static void find_beside(void)
{
    assert_int_equal(pthread_create(&finder, NULL, find_it, &is_found), 0);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
}

static void who_finds_an_entry_that_is_just_finished_waits_for_its_lock(void **state)
{
    (void)state;
    behind_rename = find_beside;
    const bool stored = store_entry(cache, 1);
    behind_rename = NULL;
    assert_int_equal(pthread_join(finder, NULL), 0);
    assert_true(stored && is_found);
}

static void without_locks_nothing_is_stored_or_left(void **state)
{
    (void)state;
    locks = NO_LOCKS;
    const bool stored = store_entry(cache, 1);
    locks = LOCKS;
    assert_false(stored);
    expect_warning("cannot lock a file");
    assert_int_equal(files_there(), 0);
}

static void an_interrupted_call_is_made_again(void **state)
{
    (void)state;
    interruptions = 2;
    assert_true(store_entry(cache, 1));
    assert_true(found(cache, 1));
}

/* ---- space ---- */

static void entries_on_nfs_give_way(void **state)
{
    (void)state;
    assert_true(store_entry(cache, 1));
    cache->limit = only_file().bytes;
    locks = LOCKS_OF_NFS;
    const bool stored = store_entry(cache, 2), there = found(cache, 2);
    locks = LOCKS;
    assert_true(stored && there);
    assert_int_equal(files_there(), 1);
}

static void the_oldest_entry_goes_first_and_one_in_use_never(void **state)
{
    (void)state;
    prepared_block b[BLOCKS];
    assert_true(store_entry(cache, 1));
    const uint64_t each = only_file().bytes;
    cache->limit = 3 * each;
    assert_true(store_entry(cache, 2) && store_entry(cache, 3));
    for (uint64_t name = 1; name <= 3; name++) { /* 1 and 2 are two hours old, 3 one */
        const struct timespec then = {.tv_sec = time(NULL) - (name == 3 ? 3600 : 7200)};
        assert_int_equal(utimensat(AT_FDCWD, path_of(name_of(name)), (struct timespec[2]){then, then}, 0), 0);
    }
    wanted(1, b);
    prepared_entry *used = prepared_find(cache, b, BLOCKS, true);
    assert_non_null(used);
    assert_true(found(cache, 2)); /* used now */
    assert_true(store_entry(cache, 4));
    assert_true(found(cache, 2) && found(cache, 4));
    assert_false(found(cache, 3));
    cache->limit = each;
    assert_false(store_entry(cache, 5)); /* the one in use takes all there is */
    expect_warning("does not fit");
    assert_int_equal(files_there(), 1);
    assert_memory_equal(prepared_data(used, 0), "\x1f", 1); /* 31 */
    prepared_leave(used);
    assert_true(found(cache, 1));
    assert_false(store_entry(cache, 5)); /* that was said: nothing is stored any more */
    assert_null(prepared_next_warning(cache));
}

static void an_entry_beyond_the_limit_makes_nothing(void **state)
{
    (void)state;
    prepared_folder *saved = cache;
    flux1_error err;
    char unmade[sizeof folder + sizeof "/unmade"];
    snprintf(unmade, sizeof unmade, "%s/unmade", folder);
    setenv("FLUX1_CACHE_DIR", unmade, 1);
    assert_int_equal(prepared_open(NULL, 100, true, &cache, &err), FLUX1_OK);
    assert_false(store_entry(cache, 1));
    expect_warning("does not fit");
    assert_int_equal(access(unmade, F_OK), -1);
    prepared_close(cache);
    unsetenv("FLUX1_CACHE_DIR");
    cache = saved;
}

static void a_full_disk_is_a_warning(void **state)
{
    (void)state;
    if (mount("none", folder, "tmpfs", 0, "size=64k") != 0) {
        print_message("skipped: no permission to mount\n");
        skip();
    }
    assert_true(store_entry(cache, 1) && store_entry(cache, 2)); /* 24 KiB each */
    assert_false(store_entry(cache, 3));
    expect_warning("No space left");
    assert_int_equal(files_there(), 2);
    assert_true(found(cache, 1) && found(cache, 2));
    assert_int_equal(umount2(folder, MNT_DETACH), 0);
}

/* Of the environment's folder, which nobody may have asked for in this run; one that was asked for is refused. */
static void a_folder_that_cannot_be_made_is_a_warning_or_a_refusal(void **state)
{
    (void)state;
    static const char *const bad[] = {"/dev/null", "/proc/none/cache"};
    for (int i = 0; i < 2; i++) {
        prepared_folder *saved = cache, *refused;
        flux1_error err;
        assert_int_equal(prepared_open(bad[i], 0, true, &refused, &err), FLUX1_ERR_IO);
        assert_null(refused);
        assert_non_null(strstr(err.message, bad[i]));
        setenv("FLUX1_CACHE_DIR", bad[i], 1);
        assert_int_equal(prepared_open(NULL, 0, true, &cache, &err), FLUX1_OK);
        assert_false(found(cache, 1));
        assert_false(store_entry(cache, 1) || store_entry(cache, 2));
        expect_warning(bad[i]);
        prepared_close(cache);
        cache = saved;
    }
}

/* Ours alone; at once where it was asked for, else with the first entry. */
static void the_folder_is_made_with_those_above_it(void **state)
{
    (void)state;
    prepared_folder *f;
    flux1_error err;
    struct stat info;
    char path[120];
    for (int by_environment = 0; by_environment < 2; by_environment++) {
        snprintf(path, sizeof path, "%s/%d/of/them%s", root, by_environment, by_environment ? "" : "/");
        setenv("FLUX1_CACHE_DIR", path, 1);
        assert_int_equal(prepared_open(by_environment ? NULL : path, 0, true, &f, &err), FLUX1_OK);
        assert_int_equal(file_is_directory(path), !by_environment);
        assert_true(store_entry(f, 1));
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 0777, 0700);
        prepared_close(f);
    }
}

/* The one entry there, in a folder that the kernel lets nobody change; then in one like others. */
static void an_entry_that_cannot_be_removed_is_told_from_one_in_use(void **state)
{
    (void)state;
    flux1_error err = {0};
    prepared_block b[BLOCKS];
    assert_true(store_entry(cache, 1));
    const prepared_file file = only_file();
    if (mount(folder, folder, NULL, MS_BIND, NULL) == 0) {
        assert_int_equal(mount(NULL, folder, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
        const prepared_removal how = prepared_remove(folder, file.name, &err);
        assert_int_equal(umount2(folder, MNT_DETACH), 0);
        assert_int_equal(how, PREPARED_STUCK);
        assert_non_null(strstr(err.message, "Read-only file system"));
        assert_non_null(strstr(err.message, file.name));
    } else
        print_message("not tried read-only: no permission to mount\n");
    wanted(1, b);
    prepared_entry *used = prepared_find(cache, b, BLOCKS, true);
    assert_non_null(used);
    assert_int_equal(prepared_remove(folder, file.name, &err), PREPARED_IN_USE);
    prepared_leave(used);
    assert_int_equal(prepared_remove(folder, file.name, &err), PREPARED_REMOVED);
    assert_int_equal(prepared_remove(folder, file.name, &err), PREPARED_GONE);
}

/* ---- content ---- */

static void put_file(const char *path, unsigned char last)
{
    size_t size;
    unsigned char data[4] = {1, 2, 3, last};
    unsigned char *bytes =
        safetensors_build("{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", data, sizeof data, &size);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
    free(bytes);
}

/* cancel: not NULL and 1: what would read the file fails. */
static void hash_of(const char *path, const atomic_int *cancel, uint64_t hash[2])
{
    store *s;
    bool known;
    flux1_error err = {0};
    assert_int_equal(store_open_file(path, &s, &err), FLUX1_OK);
    const content_hash *c = store_at(s, 0)->content;
    assert_false(atomic_load(&c->known));
    if (store_hash(s, cancel, &known, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    assert_true(known && atomic_load(&c->known));
    memcpy(hash, c->hash, sizeof c->hash);
    store_close(s);
}

/* The number is xxh128sum's (xxhash 0.8.1). */
static void content_is_the_hash_of_all_bytes_and_is_noted(void **state)
{
    (void)state;
    uint64_t a[2], b[2], c[2];
    char one[100], two[100];
    struct stat info;
    snprintf(one, sizeof one, "%s/one", root);
    snprintf(two, sizeof two, "%s/two", root);
    put_file(one, 4), put_file(two, 4);
    hash_of(one, NULL, a), hash_of(two, NULL, b);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(a[1], 0x9cef05356b85212eu);
    assert_int_equal(a[0], 0x42989a287a053413u);
    put_file(two, 5);
    hash_of(two, NULL, c);
    assert_memory_not_equal(a, c, sizeof a);
    hash_of(two, &(atomic_int){1}, b);
    assert_memory_equal(b, c, sizeof b);
    /* changed in place, with the time set back: it is read again */
    assert_int_equal(stat(two, &info), 0);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* the clock of files is as coarse as 10 ms */
    int fd = open(two, O_WRONLY);
    assert_int_equal(pwrite(fd, "\6", 1, info.st_size - 1), 1);
    assert_int_equal(futimens(fd, (struct timespec[2]){info.st_atim, info.st_mtim}), 0);
    close(fd);
    hash_of(two, NULL, b);
    assert_memory_not_equal(b, c, sizeof b);
}

static void a_file_that_changes_is_not_hashed(void **state)
{
    (void)state;
    char path[100];
    store *s;
    bool known;
    flux1_error err = {0};
    snprintf(path, sizeof path, "%s/one", root);
    put_file(path, 4);
    assert_int_equal(store_open_file(path, &s, &err), FLUX1_OK);
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[2]){{0}}, 0), 0);
    assert_int_equal(store_hash(s, NULL, &known, &err), FLUX1_ERR_IO);
    assert_false(known);
    assert_non_null(strstr(err.message, "changed"));
    atomic_int cancel = 1;
    store_close(s);
    assert_int_equal(store_open_file(path, &s, &err), FLUX1_OK);
    assert_int_equal(store_hash(s, &cancel, &known, &err), FLUX1_ERR_CANCELLED);
    assert_int_equal(store_hash(s, NULL, &known, &err), FLUX1_OK);
    store_close(s);
}

/* ---- memory ---- */

static flux1_status open_and_close(void *unused, flux1_error *err)
{
    (void)unused;
    prepared_folder *f;
    flux1_status st = prepared_open(folder, 0, true, &f, err);
    if (st == FLUX1_OK)
        prepared_close(f);
    return st;
}

/* Reading and writing lack memory: as if there were no entry, and no file is left. */
static void each_failed_allocation_leaves_the_cache_as_it_was(void **state)
{
    (void)state;
    prepared_block b[BLOCKS];
    assert_int_equal(failing_each(open_and_close, NULL, 100), 2);
    failing_after(-1);
    assert_true(store_entry(cache, 1));
    long points = failing_asked();
    assert_true(points > 5);
    for (long i = 0; i < points; i++) {
        failing_after(i);
        bool stored = store_entry(cache, 2);
        failing_after(-1);
        assert_int_equal(files_there(), stored ? 2 : 1);
        assert_int_equal(found(cache, 2), stored);
        prepared_file *all;
        size_t count;
        assert_int_equal(prepared_files(folder, &all, &count, NULL), FLUX1_OK);
        for (size_t k = 0; k < count && stored; k++)
            prepared_remove(folder, all[k].name, NULL);
        free(all);
        assert_true(found(cache, 1) || store_entry(cache, 1));
    }
    wanted(1, b);
    for (long i = 0; i < 20; i++) {
        failing_after(i);
        prepared_entry *e = prepared_find(cache, b, BLOCKS, true);
        if (e)
            prepared_leave(e);
        failing_after(-1);
        assert_true(found(cache, 1));
    }
    assert_null(prepared_next_warning(cache));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(an_entry_is_found_by_all_of_its_keys_and_sizes),
        TEST(the_folder_is_the_callers_or_the_environments),
        TEST(a_damaged_entry_is_removed_and_made_again),
        TEST(blocks_are_read_one_by_one),
        TEST(an_entry_is_written_in_any_order),
        TEST(an_entry_with_bytes_behind_its_end_is_not_used),
        TEST(what_is_no_file_is_named_and_left),
        TEST(another_entry_under_its_name_is_not_used),
        TEST(files_of_other_names_are_not_ours),
        TEST(warnings_are_bounded),
        cmocka_unit_test(numbers_of_a_header_are_not_trusted),
        cmocka_unit_test(blocks_that_are_too_many_or_too_large_are_none),
        TEST(a_killed_writer_leaves_nothing_that_is_found),
        TEST(writers_killed_at_random_moments_do_no_harm),
        TEST(an_entry_is_written_by_one_process_at_a_time),
        TEST(who_finds_an_entry_that_is_just_finished_waits_for_its_lock),
        TEST(without_locks_nothing_is_stored_or_left),
        TEST(an_interrupted_call_is_made_again),
        TEST(entries_on_nfs_give_way),
        TEST(the_oldest_entry_goes_first_and_one_in_use_never),
        TEST(an_entry_beyond_the_limit_makes_nothing),
        TEST(a_full_disk_is_a_warning),
        TEST(a_folder_that_cannot_be_made_is_a_warning_or_a_refusal),
        TEST(the_folder_is_made_with_those_above_it),
        TEST(an_entry_that_cannot_be_removed_is_told_from_one_in_use),
        TEST(content_is_the_hash_of_all_bytes_and_is_noted),
        TEST(a_file_that_changes_is_not_hashed),
        TEST(each_failed_allocation_leaves_the_cache_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
