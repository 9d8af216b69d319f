#include "mesh/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* An address of either family, for the calls that take any. */
typedef union socket_name {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} socket_name;

bool socket_prepare(int fd)
{
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

bool socket_listen(int family, uint16_t *port, int *out)
{
    socket_name a = {0};
    socklen_t size = family == AF_INET ? sizeof a.v4 : sizeof a.v6;
    int fd = socket(family, SOCK_STREAM, 0), yes = 1;
    a.any.sa_family = (sa_family_t)family;
    if (fd < 0)
        return false;
    if (family == AF_INET)
        a.v4.sin_port = htons(*port);
    else
        a.v6.sin6_port = htons(*port);
    bool ok = (family == AF_INET || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes) == 0) &&
              socket_prepare(fd) && bind(fd, &a.any, size) == 0 && listen(fd, 128) == 0 &&
              getsockname(fd, &a.any, &size) == 0;
    if (!ok) {
        close(fd);
        return false;
    }
    *port = ntohs(family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    *out = fd;
    return true;
}

void socket_addresses(control_address *a)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0)
        return;
    for (struct ifaddrs *i = all; i && a->count < CONTROL_ADDRESSES; i = i->ifa_next) {
        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
            continue;
        if (i->ifa_addr->sa_family == AF_INET) {
            a->at[a->count].family = 4;
            memcpy(a->at[a->count++].bytes, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr, 4);
        } else if (i->ifa_addr->sa_family == AF_INET6) {
            const struct in6_addr *v6 = &((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr;
            if (IN6_IS_ADDR_LINKLOCAL(v6)) /* means nothing elsewhere */
                continue;
            a->at[a->count].family = 6;
            memcpy(a->at[a->count++].bytes, v6, 16);
        }
    }
    freeifaddrs(all);
}

int socket_connect(const control_address *a, int i)
{
    socket_name to = {0};
    bool four = a->at[i].family == 4;
    to.any.sa_family = four ? AF_INET : AF_INET6;
    if (four) {
        to.v4.sin_port = htons(a->port);
        memcpy(&to.v4.sin_addr, a->at[i].bytes, 4);
    } else {
        to.v6.sin6_port = htons(a->port);
        memcpy(&to.v6.sin6_addr, a->at[i].bytes, 16);
    }
    int fd = socket(to.any.sa_family, SOCK_STREAM, 0);
    if (fd < 0)
        return -1;
    if (socket_prepare(fd) && (connect(fd, &to.any, four ? sizeof to.v4 : sizeof to.v6) == 0 || errno == EINPROGRESS))
        return fd;
    close(fd);
    return -1;
}
