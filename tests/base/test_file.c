/* A name appears only when the file is whole; what cannot be read or written is said in one sentence. */
#include "base/file_map.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64], target[96];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/flux1_file_XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(target, sizeof target, "%s/out.bin", folder);
    return 0;
}

static void clear_folder(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.' && unlink(path) != 0)
            rmdir(path);
    }
    if (d)
        closedir(d);
}

static int remove_folder(void **state)
{
    (void)state;
    clear_folder();
    return rmdir(folder);
}

static int entries(void)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void assert_content(const char *path, const char *text)
{
    char *bytes;
    size_t size;
    assert_int_equal(file_read(path, 1 << 20, &bytes, &size, NULL), FLUX1_OK);
    assert_string_equal(bytes, text);
    assert_int_equal(size, strlen(text));
    free(bytes);
}

static void committed_file_replaces_the_old_one(void **state)
{
    (void)state;
    clear_folder();
    put(target, "old");
    file_writer w;
    assert_int_equal(file_begin(target, &w, NULL), FLUX1_OK);
    fputs("new", w.stream);
    assert_content(target, "old");
    assert_int_equal(entries(), 2);
    assert_int_equal(file_commit(&w, NULL), FLUX1_OK);
    assert_content(target, "new");
    assert_int_equal(entries(), 1);
    assert_null(w.stream);
}

static void abandoned_file_leaves_nothing(void **state)
{
    (void)state;
    clear_folder();
    file_writer w;
    assert_int_equal(file_begin(target, &w, NULL), FLUX1_OK);
    fputs("half", w.stream);
    file_abandon(&w);
    file_abandon(&w); /* harmless on a zeroed one */
    assert_int_equal(entries(), 0);
}

static void mode_follows_the_umask(void **state)
{
    (void)state;
    clear_folder();
    mode_t before = umask(027);
    file_writer w;
    struct stat info;
    assert_int_equal(file_begin(target, &w, NULL), FLUX1_OK);
    assert_int_equal(file_commit(&w, NULL), FLUX1_OK);
    umask(before);
    assert_int_equal(stat(target, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
}

/* SIGKILL in the middle: the target is as it was. */
static void killed_writer_leaves_the_target_unchanged(void **state)
{
    (void)state;
    clear_folder();
    put(target, "old");
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        file_writer w;
        if (file_begin(target, &w, NULL) != FLUX1_OK)
            _exit(1);
        for (int i = 0; i < 100000; i++)
            fputs("0123456789", w.stream);
        fflush(w.stream);
        (void)!write(ready[1], "x", 1);
        for (;;)
            pause();
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(ready[0]);
    close(ready[1]);
    assert_content(target, "old");
}

/* A disk that fills up, played by RLIMIT_FSIZE: the write fails after some bytes, as it does with ENOSPC. */
static void full_disk_is_a_status_and_leaves_nothing(void **state)
{
    (void)state;
    clear_folder();
    put(target, "old");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit limit = {10000, 10000};
        file_writer w;
        flux1_error err = {0};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        if (file_begin(target, &w, &err) != FLUX1_OK)
            _exit(1);
        for (int i = 0; i < 10000; i++)
            fputs("0123456789", w.stream);
        if (file_commit(&w, &err) != FLUX1_ERR_IO || !strstr(err.message, target) ||
            !strstr(err.message, "cannot write"))
            _exit(2);
        _exit(w.stream || w.path ? 3 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_content(target, "old");
    assert_int_equal(entries(), 1);
}

/* Whoever has to tell a disk without room from others asks for errno: of more than the stream's buffer, and of less. */
static void a_failed_write_has_its_number(void **state)
{
    (void)state;
    clear_folder();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static const char bytes[100000];
        struct rlimit limit = {10, 10};
        flux1_error err = {0};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        for (size_t size = 100; size <= sizeof bytes; size *= 1000) {
            err.number = 0;
            if (file_write(target, bytes, size, &err) != FLUX1_ERR_IO || err.number != EFBIG ||
                !strstr(err.message, "cannot write"))
                _exit(1);
            error_prefix(&err, "a job");
            error_append(&err, "; make room");
            if (err.number != EFBIG)
                _exit(2);
            error_set(&err, FLUX1_ERR_IO, "something else");
            if (err.number != 0)
                _exit(3);
        }
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(entries(), 0);
}

/* A write that failed in the middle is remembered, though there is room again at the end. */
static void a_hole_in_the_file_is_not_committed(void **state)
{
    (void)state;
    clear_folder();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit narrow = {10000, RLIM_INFINITY}, wide = {RLIM_INFINITY, RLIM_INFINITY};
        file_writer w;
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &narrow) != 0 || file_begin(target, &w, NULL) != FLUX1_OK)
            _exit(1);
        for (int i = 0; i < 10000; i++)
            fputs("0123456789", w.stream);
        setrlimit(RLIMIT_FSIZE, &wide);
        _exit(file_commit(&w, NULL) == FLUX1_ERR_IO ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(entries(), 0);
}

static void expect_refusal(const char *path, const char *words)
{
    file_writer w;
    flux1_error err = {0};
    assert_int_not_equal(file_begin(path, &w, &err), FLUX1_OK);
    assert_null(w.stream);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" lacks \"%s\"", err.message, words);
}

static void unusable_targets_are_explained(void **state)
{
    (void)state;
    char path[200], words[200];
    clear_folder();
    expect_refusal(folder, "is a folder");
    snprintf(path, sizeof path, "%s/none/x.png", folder);
    snprintf(words, sizeof words, "the folder %s/none does not exist", folder);
    expect_refusal(path, words);
    snprintf(path, sizeof path, "%s/none/", folder);
    expect_refusal(path, "name a file in it");
    put(target, "");
    snprintf(path, sizeof path, "%s/x.png", target);
    expect_refusal(path, "is not a folder");
    expect_refusal("/dev/null", "not a regular file");
    expect_refusal("", "empty");
    assert_int_equal(access("/dev/null", W_OK), 0);
}

static void expect_no_folder(const char *place, const char *name, const char *words)
{
    flux1_error err = {0};
    char path[200];
    snprintf(path, sizeof path, "%s%s", place, name);
    assert_int_equal(folder_make(path, 0700, &err), FLUX1_ERR_IO);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" lacks \"%s\"", err.message, words);
}

static void a_folder_that_cannot_be_made_is_explained(void **state)
{
    (void)state;
    char link_path[128], made[200];
    struct stat info;
    clear_folder();
    put(target, "");
    snprintf(link_path, sizeof link_path, "%s/link", folder);
    assert_int_equal(symlink("/nowhere/at/all", link_path), 0);
    expect_no_folder(target, "", "out.bin: exists and is not a folder; move it away or name another folder");
    expect_no_folder(target, "/x/y/", "out.bin: exists and is not a folder");
    expect_no_folder(link_path, "/x", "link: a link to /nowhere/at/all, which is not there");
    expect_no_folder("/proc", "/self/x", "/proc/self/x: no folder can be made there");
    snprintf(made, sizeof made, "%s/a/b//", folder);
    assert_int_equal(folder_make(made, 0700, NULL), FLUX1_OK);
    assert_int_equal(stat(made, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_int_equal(rmdir(made), 0);
}

static void a_temporary_folder_is_private_and_its_place_is_named(void **state)
{
    (void)state;
    flux1_error err = {0};
    char path[200], small[16], words[200];
    struct stat info;
    clear_folder();
    setenv("TMPDIR", folder, 1);
    assert_int_equal(folder_make_temporary("test", path, sizeof path, &err), FLUX1_OK);
    assert_memory_equal(path, folder, strlen(folder));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_int_equal(folder_make_temporary("test", small, sizeof small, &err), FLUX1_ERR_IO);
    snprintf(path, sizeof path, "%s/none", folder);
    snprintf(words, sizeof words,
             "%s/none: cannot make a temporary folder there: No such file or directory; let TMPDIR", folder);
    setenv("TMPDIR", path, 1);
    assert_int_equal(folder_make_temporary("test", path, sizeof path, &err), FLUX1_ERR_IO);
    assert_string_equal(path, "");
    assert_non_null(strstr(err.message, words));
    unsetenv("TMPDIR");
}

static void a_link_stays_a_link(void **state)
{
    (void)state;
    char link_path[128];
    struct stat info;
    clear_folder();
    put(target, "old");
    snprintf(link_path, sizeof link_path, "%s/link", folder);
    assert_int_equal(symlink(target, link_path), 0);
    file_writer w;
    assert_int_equal(file_begin(link_path, &w, NULL), FLUX1_OK);
    fputs("new", w.stream);
    assert_int_equal(file_commit(&w, NULL), FLUX1_OK);
    assert_content(target, "new");
    assert_int_equal(lstat(link_path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
}

static flux1_status write_text(const char *path, const char *text)
{
    file_writer w;
    flux1_status st = file_begin(path, &w, NULL);
    if (st != FLUX1_OK)
        return st;
    fputs(text, w.stream);
    return file_commit(&w, NULL);
}

static void a_link_to_nothing_stays_a_link(void **state)
{
    (void)state;
    char first[128], second[128];
    struct stat info;
    clear_folder();
    snprintf(first, sizeof first, "%s/first", folder);
    snprintf(second, sizeof second, "%s/second", folder);
    assert_int_equal(symlink("second", first), 0); /* relative to its own folder */
    assert_int_equal(symlink(target, second), 0);
    assert_int_equal(write_text(first, "new"), FLUX1_OK);
    assert_content(target, "new");
    assert_int_equal(lstat(first, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(entries(), 3);
    assert_int_equal(unlink(second), 0);
    assert_int_equal(symlink(first, second), 0); /* a circle */
    assert_int_equal(write_text(first, "x"), FLUX1_ERR_IO);
}

static void a_name_may_be_as_long_as_the_file_system_allows(void **state)
{
    (void)state;
    char path[400];
    clear_folder();
    int n = snprintf(path, sizeof path, "%s/", folder);
    memset(path + n, 'n', 256);
    path[n + 255] = '\0';
    assert_int_equal(write_text(path, "new"), FLUX1_OK);
    assert_content(path, "new");
    path[n + 255] = 'n';
    path[n + 256] = '\0';
    expect_refusal(path, "name too long"); /* before the work */
    assert_int_equal(entries(), 1);
}

/* Runs what needs rights that a test may lack in a child; 77: it lacks them. */
static void in_a_child(int (*body)(void))
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(body());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* The target is one of another user, in his folder. */
static int write_as_another_user(void)
{
    struct stat before, after;
    if (geteuid() != 0 || chown(folder, 1, (gid_t)-1) != 0 || chown(target, 2, (gid_t)-1) != 0 ||
        stat(target, &before) != 0 || setgid(3) != 0 || setuid(3) != 0)
        return 77;
    if (write_text(target, "new") != FLUX1_OK || stat(target, &after) != 0 || after.st_ino != before.st_ino)
        return 1;
    return after.st_size == 3 ? 0 : 2;
}

static void in_a_sticky_folder_the_content_is_replaced(void **state)
{
    (void)state;
    clear_folder();
    put(target, "old and longer");
    assert_int_equal(chmod(target, 0666), 0);
    assert_int_equal(chmod(folder, 01777), 0);
    in_a_child(write_as_another_user);
    assert_content(target, "new");
    assert_int_equal(entries(), 1);
}

static void without_permission_in_the_folder_the_content_is_replaced(void **state)
{
    (void)state;
    clear_folder();
    put(target, "old and longer");
    assert_int_equal(chmod(target, 0666), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    in_a_child(write_as_another_user);
    assert_content(target, "new");
    assert_int_equal(entries(), 1);
}

static int refuse_as_another_user(void)
{
    file_writer w;
    if (geteuid() != 0 || chown(folder, 1, (gid_t)-1) != 0 || setgid(3) != 0 || setuid(3) != 0)
        return 77;
    return file_begin(target, &w, NULL) == FLUX1_ERR_IO && !w.stream ? 0 : 1;
}

static void what_can_not_be_written_in_place_is_known_at_the_beginning(void **state)
{
    (void)state;
    clear_folder();
    put(target, "old");
    assert_int_equal(chmod(target, 0644), 0);
    assert_int_equal(chmod(folder, 01777), 0);
    in_a_child(refuse_as_another_user);
    assert_content(target, "old");
    assert_int_equal(entries(), 1);
}

/* By the program: the calls are not POSIX. */
static int write_to_a_mount(void)
{
    char command[600];
    snprintf(command, sizeof command, "mount --bind '%s' '%s' 2>/dev/null", target, target);
    if (geteuid() != 0 || system(command) != 0)
        return 77;
    const flux1_status st = write_text(target, "new");
    snprintf(command, sizeof command, "umount '%s'", target);
    if (system(command) != 0)
        return 1;
    return st == FLUX1_OK ? 0 : 2;
}

static void a_mounted_file_keeps_its_place(void **state)
{
    (void)state;
    clear_folder();
    put(target, "old and longer");
    in_a_child(write_to_a_mount);
    assert_content(target, "new");
    assert_int_equal(entries(), 1);
}

/* The folder as it is where a file system is mounted read-only. */
static int write_to_a_read_only_mount(void)
{
    char command[800];
    flux1_error err = {0};
    snprintf(command, sizeof command,
             "mount --bind '%s' '%s' 2>/dev/null && { mount -o remount,bind,ro '%s' || { umount '%s'; false; }; }",
             folder, folder, folder, folder);
    if (geteuid() != 0 || system(command) != 0)
        return 77;
    const flux1_status st = file_check_writable(target, &err);
    snprintf(command, sizeof command, "umount '%s'", folder);
    if (system(command) != 0)
        return 1;
    return st == FLUX1_ERR_IO && strstr(err.message, "read-only") && !strstr(err.message, "permission") ? 0 : 2;
}

static void a_read_only_file_system_is_called_that(void **state)
{
    (void)state;
    clear_folder();
    in_a_child(write_to_a_read_only_mount);
    put(target, "old"); /* which is there: its content cannot be replaced either */
    in_a_child(write_to_a_read_only_mount);
    assert_content(target, "old");
}

static void mapping_shows_the_bytes(void **state)
{
    (void)state;
    file_map map;
    clear_folder();
    put(target, "abc");
    assert_int_equal(file_map_open(target, &map, NULL), FLUX1_OK);
    assert_int_equal(map.size, 3);
    assert_memory_equal(map.bytes, "abc", 3);
    file_map_will_need(map.bytes + 1, 2);
    file_map_close(&map);
    assert_null(map.bytes);
    put(target, "");
    assert_int_equal(file_map_open(target, &map, NULL), FLUX1_OK);
    assert_null(map.bytes);
    assert_int_equal(map.size, 0);
    file_map_close(&map);
}

static void unreadable_files_are_explained(void **state)
{
    (void)state;
    char *bytes, fifo[128];
    size_t size;
    file_map map;
    flux1_error err = {0};
    clear_folder();
    assert_int_equal(file_map_open(target, &map, &err), FLUX1_ERR_IO);
    assert_non_null(strstr(err.message, "out.bin: cannot open: No such file"));
    assert_int_equal(file_map_open(folder, &map, &err), FLUX1_ERR_IO);
    assert_non_null(strstr(err.message, "is a folder"));
    snprintf(fifo, sizeof fifo, "%s/fifo", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(file_read(fifo, 100, &bytes, &size, &err), FLUX1_ERR_IO); /* and does not hang */
    put(target, "12345");
    assert_int_equal(file_read(target, 4, &bytes, &size, &err), FLUX1_ERR_LIMIT);
    assert_null(bytes);
    assert_non_null(strstr(err.message, "5 bytes, at most 4"));
}

static void paths_are_joined_with_one_slash(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *joined = path_join(cases[i][0], cases[i][1]);
        assert_string_equal(joined, cases[i][2]);
        free(joined);
    }
    assert_true(file_exists(folder) && file_is_directory(folder));
    assert_false(file_exists("/nonexistent") || file_is_directory(target));
}

static file_identity identity_of(const char *path)
{
    file_map map;
    assert_int_equal(file_map_open(path, &map, NULL), FLUX1_OK);
    file_identity identity = map.identity;
    file_map_close(&map);
    return identity;
}

/* Other content of the same size, with the time of modification put back. */
static void changed_in_place_it_is_another(const struct timespec times[2])
{
    put(target, "bytes");
    assert_int_equal(utimensat(AT_FDCWD, target, times, 0), 0);
    const file_identity first = identity_of(target);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* the clock of files is as coarse as 10 ms */
    FILE *f = fopen(target, "r+b");
    assert_true(f && fputs("other", f) >= 0 && fclose(f) == 0);
    assert_int_equal(utimensat(AT_FDCWD, target, times, 0), 0);
    const file_identity again = identity_of(target);
    assert_true(again.inode == first.inode && again.size == first.size && again.seconds == first.seconds &&
                again.nanoseconds == first.nanoseconds);
    assert_false(file_identity_same(&first, &again));
}

/* Another name is the same file; a copy, other content of the same size, and a time one nanosecond later are not. */
static void a_file_is_known_again(void **state)
{
    (void)state;
    char other[128];
    struct timespec times[2] = {{.tv_sec = 1000000000, .tv_nsec = 1}, {.tv_sec = 1000000000, .tv_nsec = 1}};
    clear_folder();
    put(target, "bytes");
    changed_in_place_it_is_another(times);
    put(target, "bytes");
    assert_int_equal(utimensat(AT_FDCWD, target, times, 0), 0);
    file_identity first = identity_of(target), again = identity_of(target);
    assert_true(file_identity_same(&first, &again));
    assert_true(first.size == 5 && first.seconds == 1000000000 && first.nanoseconds == 1);
    snprintf(other, sizeof other, "%s/other", folder);
    assert_int_equal(link(target, other), 0);
    first = identity_of(target), again = identity_of(other);
    assert_true(file_identity_same(&first, &again));
    times[1].tv_nsec = 2;
    assert_int_equal(utimensat(AT_FDCWD, target, times, 0), 0);
    again = identity_of(target);
    assert_false(file_identity_same(&first, &again));
    put(target, "other");
    file_identity written = identity_of(target);
    assert_false(file_identity_same(&first, &written) || file_identity_same(&again, &written));
    unlink(other);
    put(other, "other");
    assert_int_equal(utimensat(AT_FDCWD, other,
                               (struct timespec[]){{.tv_nsec = UTIME_OMIT},
                                                   {.tv_sec = written.seconds, .tv_nsec = written.nanoseconds}},
                               0),
                     0);
    again = identity_of(other);
    assert_false(file_identity_same(&again, &written));
    put(other, "");
    assert_int_equal(identity_of(other).size, 0);
}

static void expect_found(const char *name, flux1_status status, bool wanted, const char *words)
{
    char path[200];
    bool there = !wanted;
    flux1_error err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(file_find(path, &there, &err), status);
    if (status == FLUX1_OK)
        assert_int_equal(there, wanted);
    else if (!strstr(err.message, words))
        fail_msg("%s: %s", name, err.message);
}

static void make_link(const char *to, const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(symlink(to, path), 0);
}

static void what_cannot_be_looked_at_is_not_missing(void **state)
{
    (void)state;
    char closed[200];
    clear_folder();
    expect_found("none", FLUX1_OK, false, "");
    expect_found("none/at/all", FLUX1_OK, false, "");
    make_link("gone", "dangling");
    make_link("round", "round");
    expect_found("dangling", FLUX1_ERR_IO, false, "dangling: a link to gone, which is not there");
    expect_found("dangling/config.json", FLUX1_ERR_IO, false, "dangling: a link to gone");
    expect_found("round/x", FLUX1_ERR_IO, false, "symbolic links");
    make_link(folder, "whole");
    expect_found("whole", FLUX1_OK, true, "");
    expect_found("whole/none", FLUX1_OK, false, "");
    snprintf(closed, sizeof closed, "%s/closed", folder);
    assert_int_equal(mkdir(closed, 0), 0);
    chmod(folder, 0755);
    const bool root = geteuid() == 0;
    if (root) /* root may enter it */
        assert_int_equal(seteuid(65534), 0);
    expect_found("closed", FLUX1_OK, true, "");
    expect_found("closed/x", FLUX1_ERR_IO, false, "closed/x: cannot open: Permission denied");
    if (root)
        assert_int_equal(seteuid(0), 0);
    clear_folder();
}

static void assert_place(const char *name, const char *expected)
{
    char path[200], wanted[300], *root = realpath(folder, NULL);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(wanted, sizeof wanted, "%s/%s", root, expected);
    char *place = file_place(path);
    assert_non_null(place);
    assert_string_equal(place, wanted);
    free(place);
    free(root);
}

static void spellings_of_a_file_have_one_place(void **state)
{
    (void)state;
    char link[200], folder_link[200];
    snprintf(link, sizeof link, "%s/link", folder);
    snprintf(folder_link, sizeof folder_link, "%s/here", folder);
    assert_int_equal(symlink("./later", link), 0); /* to nothing yet */
    assert_int_equal(symlink(folder, folder_link), 0);
    assert_place("a", "a");
    assert_place(".//./a", "a");
    assert_place("here/here/a", "a");
    assert_place("link", "later");
    assert_place("here/link", "later");
    assert_place("not/./there//a", "not/there/a");
    assert_place("here/not/a", "not/a");
    char *place = file_place("/a"), *below_file = file_place("/dev/null/a");
    assert_string_equal(place, "/a");
    assert_null(below_file);
    free(place);
    clear_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(committed_file_replaces_the_old_one),
        cmocka_unit_test(spellings_of_a_file_have_one_place),
        cmocka_unit_test(abandoned_file_leaves_nothing),
        cmocka_unit_test(mode_follows_the_umask),
        cmocka_unit_test(killed_writer_leaves_the_target_unchanged),
        cmocka_unit_test(full_disk_is_a_status_and_leaves_nothing),
        cmocka_unit_test(a_failed_write_has_its_number),
        cmocka_unit_test(a_hole_in_the_file_is_not_committed),
        cmocka_unit_test(unusable_targets_are_explained),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_explained),
        cmocka_unit_test(a_temporary_folder_is_private_and_its_place_is_named),
        cmocka_unit_test(a_link_stays_a_link),
        cmocka_unit_test(a_link_to_nothing_stays_a_link),
        cmocka_unit_test(a_name_may_be_as_long_as_the_file_system_allows),
        cmocka_unit_test(in_a_sticky_folder_the_content_is_replaced),
        cmocka_unit_test(without_permission_in_the_folder_the_content_is_replaced),
        cmocka_unit_test(what_can_not_be_written_in_place_is_known_at_the_beginning),
        cmocka_unit_test(a_mounted_file_keeps_its_place),
        cmocka_unit_test(a_read_only_file_system_is_called_that),
        cmocka_unit_test(mapping_shows_the_bytes),
        cmocka_unit_test(unreadable_files_are_explained),
        cmocka_unit_test(a_file_is_known_again),
        cmocka_unit_test(what_cannot_be_looked_at_is_not_missing),
        cmocka_unit_test(paths_are_joined_with_one_slash),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
