#define _GNU_SOURCE /* pipe2 */
#include "base/child.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int start(char *const argv[], int output, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    int failed = posix_spawn_file_actions_init(&files);
    if (failed)
        return failed;
    failed = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!failed)
        failed = posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    if (!failed)
        failed = posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (!failed)
        failed = posix_spawn(pid, argv[0], &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    return failed;
}

/* Until the other end is closed: true. False when the time is over. */
static bool read_all(int input, double until, char *out, size_t room)
{
    size_t used = 0;
    char dropped[256];
    for (;;) {
        const double left = until - clock_seconds();
        struct pollfd p = {.fd = input, .events = POLLIN};
        if (left <= 0)
            return false;
        if (poll(&p, 1, (int)(left * 1000) + 1) <= 0)
            continue; /* the time, or a signal */
        const bool full = used + 1 >= room;
        const ssize_t n = read(input, full ? dropped : out + used, full ? sizeof dropped : room - 1 - used);
        if (n == 0 || (n < 0 && errno != EINTR))
            return true;
        used += full || n < 0 ? 0 : (size_t)n;
        out[used] = '\0';
    }
}

bool child_wait(pid_t pid, double until, int *status)
{
    for (;;) {
        const pid_t ended = waitpid(pid, status, WNOHANG);
        if (ended == pid)
            return true;
        if (ended < 0 && errno != EINTR) { /* this process lets the system forget its children: no status */
            *status = 0;
            return true;
        }
        if (clock_seconds() >= until)
            return false;
        poll(NULL, 0, 5);
    }
}

flux1_status child_output(char *const argv[], int seconds, char *out, size_t room, flux1_error *err)
{
    int ends[2], status = 0;
    pid_t pid;
    const double until = clock_seconds() + seconds;
    out[0] = '\0';
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set(err, FLUX1_ERR_IO, "%s: no pipe to it: %s", argv[0], strerror(errno));
    const int failed = start(argv, ends[1], &pid);
    close(ends[1]);
    const bool ended = !failed && read_all(ends[0], until, out, room) && child_wait(pid, until, &status);
    close(ends[0]);
    if (failed)
        return error_set(err, FLUX1_ERR_IO, "%s: cannot be started: %s", argv[0], strerror(failed));
    if (!ended) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        return error_set(err, FLUX1_ERR_IO, "%s: no answer within %d s", argv[0], seconds);
    }
    if (WIFSIGNALED(status))
        return error_set(err, FLUX1_ERR_IO, "%s: ended by signal %d", argv[0], WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        return error_set(err, FLUX1_ERR_IO, "%s: ended with status %d", argv[0], WEXITSTATUS(status));
    return FLUX1_OK;
}
