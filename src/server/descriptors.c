#include "server/descriptors.h"

#include <sys/resource.h>

#define ENOUGH 4096 /* each connection may send a file; a model has some files, the history a few */
#define OTHERS 64   /* files that are no connections */

void descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= ENOUGH)
        return;
    limit.rlim_cur = limit.rlim_max < ENOUGH ? limit.rlim_max : ENOUGH;
    setrlimit(RLIMIT_NOFILE, &limit);
}

unsigned descriptors_connections(unsigned wanted)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= (rlim_t)wanted + OTHERS)
        return wanted;
    return limit.rlim_cur > OTHERS ? (unsigned)(limit.rlim_cur - OTHERS) : 1;
}
