#define _GNU_SOURCE /* memfd_create, pipe2, MADV_REMOVE */
#include "base/dialog.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

enum { GENTLE_SECONDS = 2, CLOSING_SECONDS = 20, FIRST_FREE = DIALOG_TARGETS_END, WORDS = 400 };

struct dialog {
    pid_t pid;                                           /* 0: not started, or reaped */
    int lines, memory, alive, log, theirs, script, held; /* descriptors of this process; -1: none */
    size_t room;                                         /* bytes of `memory` */
    void *mapped;
    char line[DIALOG_LINE], heard[DIALOG_LINE];
    size_t used;   /* of `heard`: what has come */
    size_t length; /* of the line that was taken from it */
};

/* ---- started ---- */

/* A descriptor that no child gets, beyond those that the program finds its own at; `fd` is closed. */
static int moved(int fd)
{
    const int to = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE);
    if (fd >= 0)
        close(fd);
    return to;
}

static bool open_ends(dialog *d)
{
    int pair[2], ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    d->lines = moved(pair[0]);
    d->theirs = moved(pair[1]);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    d->alive = moved(ends[0]);
    d->held = moved(ends[1]);
    d->memory = moved(memfd_create("flux1", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    d->log = moved(memfd_create("flux1-log", MFD_CLOEXEC));
    d->script = moved(memfd_create("flux1-script", MFD_CLOEXEC));
    return d->lines >= 0 && d->theirs >= 0 && d->alive >= 0 && d->held >= 0 && d->memory >= 0 && d->log >= 0 &&
           d->script >= 0 && fcntl(d->memory, F_ADD_SEALS, F_SEAL_SHRINK) == 0;
}

static bool write_all(int fd, const char *bytes, size_t count)
{
    while (count) {
        const ssize_t n = write(fd, bytes, count);
        if (n <= 0 && errno != EINTR)
            return false;
        bytes += n > 0 ? n : 0;
        count -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static int spawn(dialog *d, char *const argv[])
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none;
    int failed = posix_spawn_file_actions_init(&files);
    if (failed)
        return failed;
    if ((failed = posix_spawnattr_init(&how))) {
        posix_spawn_file_actions_destroy(&files);
        return failed;
    }
    const int from[] = {d->log, d->log, d->theirs, d->memory, d->alive, d->script};
    const int to[] = {STDOUT_FILENO, STDERR_FILENO, DIALOG_LINES, DIALOG_MEMORY, DIALOG_ALIVE, DIALOG_SCRIPT};
    sigemptyset(&none);
    failed = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    for (size_t i = 0; !failed && i < sizeof to / sizeof *to; i++)
        failed = posix_spawn_file_actions_adddup2(&files, from[i], to[i]);
    if (!failed)
        failed = posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    if (!failed)
        failed = posix_spawnattr_setsigmask(&how, &none);
    if (!failed)
        failed = posix_spawn(&d->pid, argv[0], &files, &how, argv, environ);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    return failed;
}

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

flux1_status dialog_start(char *const argv[], const void *script, size_t script_bytes, dialog **out, flux1_error *err)
{
    int failed = 0;
    dialog *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d)
        return error_oom(err, sizeof *d, "another program");
    d->lines = d->memory = d->alive = d->log = d->theirs = d->script = d->held = -1;
    if (!open_ends(d) || !write_all(d->script, script, script_bytes) || lseek(d->script, 0, SEEK_SET) != 0)
        failed = errno ? errno : EIO;
    else
        failed = spawn(d, argv);
    close_one(&d->theirs);
    close_one(&d->alive);
    close_one(&d->script);
    if (failed) {
        d->pid = 0;
        dialog_end(d, false);
        return error_set(err, FLUX1_ERR_IO, "%s: cannot be started: %s", argv[0], strerror(failed));
    }
    *out = d;
    return FLUX1_OK;
}

/* ---- ended ---- */

/* The last line that it has printed, without control characters, in `out`; "" if there is none. */
static void last_words(const dialog *d, char out[WORDS])
{
    char text[WORDS];
    struct stat about;
    size_t end = 0, begin;
    out[0] = '\0';
    if (fstat(d->log, &about) != 0 || about.st_size == 0)
        return;
    const off_t from = about.st_size > (off_t)sizeof text ? about.st_size - (off_t)sizeof text : 0;
    const ssize_t n = pread(d->log, text, sizeof text, from);
    for (end = n > 0 ? (size_t)n : 0; end && (text[end - 1] == '\n' || text[end - 1] == ' ');)
        end--;
    for (begin = end; begin && text[begin - 1] != '\n';)
        begin--;
    if (begin == 0 && from > 0) /* the end of a long line, from a whole character on */
        for (begin = end == WORDS; begin < end && ((unsigned char)text[begin] & 0xC0) == 0x80;)
            begin++;
    if (!utf8_valid(text + begin, end - begin))
        return;
    snprintf(out, WORDS, "%.*s", (int)(end - begin), text + begin);
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
}

/* It has closed its end: how it ended, as a sentence. */
static flux1_status ended(dialog *d, flux1_error *err)
{
    char words[WORDS], how[64] = "closed its lines";
    int status = 0;
    if (d->pid && child_wait(d->pid, clock_seconds() + GENTLE_SECONDS, &status)) {
        kill(-d->pid, SIGKILL); /* what it has left of its group */
        d->pid = 0;
        if (WIFSIGNALED(status))
            snprintf(how, sizeof how, "was ended by signal %d", WTERMSIG(status));
        else
            snprintf(how, sizeof how, "ended with status %d", WEXITSTATUS(status));
    }
    last_words(d, words);
    return error_set(err, FLUX1_ERR_IO, "%s%s%s%s", how, words[0] ? " (it said: " : "", words, words[0] ? ")" : "");
}

void dialog_end(dialog *d, bool gently)
{
    int status;
    if (!d)
        return;
    close_one(&d->lines);
    if (d->pid && !(gently && child_wait(d->pid, clock_seconds() + CLOSING_SECONDS, &status))) {
        kill(-d->pid, SIGKILL);
        kill(d->pid, SIGKILL);
        child_wait(d->pid, clock_seconds() + 10 * GENTLE_SECONDS, &status);
    } else if (d->pid)
        kill(-d->pid, SIGKILL);
    if (d->mapped)
        munmap(d->mapped, d->room);
    int *const all[] = {&d->memory, &d->alive, &d->log, &d->theirs, &d->script, &d->held};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        close_one(all[i]);
    free(d);
}

/* ---- lines ---- */

/* Until the socket is ready: > 0; 0: the time is over. */
static int wait_for(const dialog *d, short events, double until)
{
    for (;;) {
        const double left = until - clock_seconds();
        struct pollfd p = {.fd = d->lines, .events = events};
        if (left <= 0)
            return 0;
        const int ready = poll(&p, 1, left > 3600 ? 3600000 : (int)(left * 1000) + 1);
        if (ready > 0)
            return 1;
    }
}

flux1_status dialog_say(dialog *d, double seconds, flux1_error *err, const char *format, ...)
{
    const double until = clock_seconds() + seconds;
    va_list ap;
    va_start(ap, format);
    const int length = vsnprintf(d->line, sizeof d->line - 1, format, ap);
    va_end(ap);
    if (length < 0 || (size_t)length >= sizeof d->line - 1 || strchr(d->line, '\n'))
        return error_set(err, FLUX1_ERR_INTERNAL, "a line that cannot be said");
    d->line[length] = '\n';
    for (size_t sent = 0, all = (size_t)length + 1; sent < all;) {
        const ssize_t n = send(d->lines, d->line + sent, all - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            sent += (size_t)n;
        else if (n < 0 && errno == EAGAIN) {
            if (!wait_for(d, POLLOUT, until))
                return error_set(err, FLUX1_ERR_IO, "has taken nothing for %.0f s", seconds);
        } else if (n < 0 && errno != EINTR)
            return ended(d, err);
    }
    return FLUX1_OK;
}

/* The first line of what has come, moved to `line`; false if there is none yet. */
static bool take_line(dialog *d)
{
    char *end = memchr(d->heard, '\n', d->used);
    if (!end)
        return false;
    d->length = (size_t)(end - d->heard);
    memcpy(d->line, d->heard, d->length);
    d->line[d->length] = '\0';
    d->used -= d->length + 1;
    memmove(d->heard, end + 1, d->used);
    return true;
}

static flux1_status check_line(const dialog *d, flux1_error *err)
{
    bool good = utf8_valid(d->line, d->length);
    for (size_t i = 0; good && i < d->length; i++)
        good = (unsigned char)d->line[i] >= ' ';
    return good ? FLUX1_OK : error_set(err, FLUX1_ERR_FORMAT, "said what is no text");
}

flux1_status dialog_hear(dialog *d, double seconds, const char **line, flux1_error *err)
{
    const double until = clock_seconds() + seconds;
    *line = d->line;
    while (!take_line(d)) {
        if (d->used == sizeof d->heard)
            return error_set(err, FLUX1_ERR_FORMAT, "said a line of more than %d bytes", DIALOG_LINE);
        if (!wait_for(d, POLLIN, until))
            return error_set(err, FLUX1_ERR_LIMIT, "has said nothing for %.0f s", seconds);
        const ssize_t n = recv(d->lines, d->heard + d->used, sizeof d->heard - d->used, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return ended(d, err);
        d->used += n > 0 ? (size_t)n : 0;
    }
    return check_line(d, err);
}

flux1_status dialog_memory(dialog *d, size_t bytes, void **memory, flux1_error *err)
{
    if (bytes > d->room) {
        const size_t room = (bytes + 0xfffff) / 0x100000 * 0x100000;
        if (d->mapped)
            munmap(d->mapped, d->room);
        d->mapped = NULL;
        d->room = 0;
        if (room < bytes || ftruncate(d->memory, (off_t)room) != 0)
            return error_oom(err, bytes, "memory to share with another program");
        void *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, d->memory, 0);
        if (p == MAP_FAILED)
            return error_oom(err, bytes, "memory to share with another program");
        d->mapped = p;
        d->room = room;
    }
    *memory = d->mapped;
    return FLUX1_OK;
}

void dialog_memory_drop(dialog *d)
{
    if (d->mapped)
        madvise(d->mapped, d->room, MADV_REMOVE);
}
