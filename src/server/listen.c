#include "server/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 511

/* What errno's own words do not say: what to do, or what is meant. */
static const char *reason_for(int number)
{
    switch (number) {
    case EADDRINUSE: return "another program listens there; end it or name another port with --port";
    case EADDRNOTAVAIL: return "this machine has no such address; name one of its own with --host";
    case EACCES: return "this user has no right to that port; ports from 1024 on are free for all";
    default: return strerror(number);
    }
}

static int open_socket(int family)
{
    const int s = socket(family, SOCK_STREAM, 0);
    if (s >= 0)
        fcntl(s, F_SETFD, FD_CLOEXEC);
    return s;
}

/* ---- TCP ---- */

static void describe(int s, const char *host, char *address, size_t room)
{
    struct sockaddr_storage a = {0};
    socklen_t length = sizeof a;
    int port = 0;
    if (getsockname(s, (struct sockaddr *)&a, &length) == 0)
        port = ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                             : ((struct sockaddr_in *)&a)->sin_port);
    snprintf(address, room, strchr(host, ':') ? "http://[%s]:%d" : "http://%s:%d", host, port);
}

static int listen_at(const struct addrinfo *a)
{
    const int on = 1, s = open_socket(a->ai_family);
    if (s < 0)
        return -1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(s, a->ai_addr, a->ai_addrlen) == 0 && listen(s, BACKLOG) == 0)
        return s;
    const int why = errno;
    close(s);
    errno = why;
    return -1;
}

flux1_status listen_tcp(const char *host, int port, int *descriptor, char *address, size_t room, flux1_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *all = NULL;
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    const int code = getaddrinfo(host, service, &hints, &all);
    if (code != 0)
        return error_set(err, FLUX1_ERR_IO, "host %s: %s", host, gai_strerror(code));
    int s = -1;
    errno = 0;
    for (struct addrinfo *a = all; a && s < 0; a = a->ai_next)
        s = listen_at(a);
    const int why = errno;
    freeaddrinfo(all);
    if (s < 0)
        return error_set(err, FLUX1_ERR_IO, "cannot listen on %s, port %d: %s", host, port, reason_for(why));
    describe(s, host, address, room);
    *descriptor = s;
    return FLUX1_OK;
}

/* ---- Unix ---- */

/* Whether a socket lies there that refuses connections. */
static bool is_left_over(const struct sockaddr_un *a)
{
    struct stat st;
    if (lstat(a->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    const int s = open_socket(AF_UNIX);
    const bool refused = s >= 0 && connect(s, (const struct sockaddr *)a, sizeof *a) != 0 && errno == ECONNREFUSED;
    if (s >= 0)
        close(s);
    return refused;
}

/* Why there can be no socket, with errno of bind or listen. */
static flux1_status socket_fault(const char *path, flux1_error *err)
{
    const int number = errno;
    struct stat info;
    if (number == EADDRINUSE && lstat(path, &info) == 0 && !S_ISSOCK(info.st_mode))
        return error_set(err, FLUX1_ERR_IO, "%s: exists and is not a socket; move it away or name another --socket",
                         path);
    if (number == EADDRINUSE)
        return error_set(err, FLUX1_ERR_IO,
                         "%s: another program listens on this socket; end it or name another --socket", path);
    if (number == ENOENT || number == ENOTDIR)
        return error_set(err, FLUX1_ERR_IO, "%s: the folder of this socket does not exist; make it first", path);
    return error_set(err, FLUX1_ERR_IO, "%s: cannot listen on this socket: %s", path, strerror(number));
}

flux1_status listen_unix(const char *path, int *descriptor, listen_file *file, char *address, size_t room,
                         flux1_error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path)
        return error_set(err, FLUX1_ERR_ARGUMENT, "%s: the path of a socket has at most %zu bytes", path,
                         sizeof a.sun_path - 1);
    strcpy(a.sun_path, path);
    if (is_left_over(&a))
        unlink(path);
    const int s = open_socket(AF_UNIX);
    if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) != 0 || listen(s, BACKLOG) != 0) {
        const flux1_status st = socket_fault(path, err);
        if (s >= 0)
            close(s);
        return st;
    }
    struct stat st;
    file->is_there = lstat(path, &st) == 0;
    if (file->is_there) {
        file->device = st.st_dev;
        file->inode = st.st_ino;
    }
    snprintf(address, room, "unix:%s", path);
    *descriptor = s;
    return FLUX1_OK;
}

void listen_remove(const char *path, listen_file *file)
{
    struct stat st;
    if (file->is_there && lstat(path, &st) == 0 && st.st_dev == file->device && st.st_ino == file->inode)
        unlink(path);
    file->is_there = false;
}
