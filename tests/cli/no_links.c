/* For LD_PRELOAD: a file system without symbolic links and locks, as exFAT is. */
#include <errno.h>
#include <sys/file.h>
#include <unistd.h>

#define SEEN __attribute__((visibility("default")))

SEEN int symlink(const char *target, const char *path)
{
    (void)target, (void)path;
    errno = EPERM;
    return -1;
}

SEEN int flock(int descriptor, int operation)
{
    (void)descriptor, (void)operation;
    errno = ENOSYS;
    return -1;
}
