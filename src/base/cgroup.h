/* The control groups of this process (Linux), from its own up to the outermost visible one. Versions 1 and 2, also
 * mixed: a controller ("memory", "cpu") is looked up in its version 1 hierarchy first, then in version 2's. No
 * allocation. */
#ifndef FLUX1_BASE_CGROUP_H
#define FLUX1_BASE_CGROUP_H

#include "base/sysfile.h"

typedef struct cgroup {
    int version;             /* 1 or 2 */
    size_t mount;            /* length of the part of path that is the mount point */
    char path[SYSFILE_PATH]; /* the group's folder, for sysfile_… */
} cgroup;

/* This process's own group, from root/proc/self/cgroup and root/proc/self/mountinfo; root is "" except in tests. False
 * if there is none. In a container the path may exist only on the host: then the result is the mount's root, which is
 * the container's own group or one around it. */
bool cgroup_own(cgroup *group, const char *root, const char *controller);

/* Moves to the enclosing group; false if group is the mount's root. */
bool cgroup_outer(cgroup *group);

#endif
