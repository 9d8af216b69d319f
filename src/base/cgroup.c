/* Formats: cgroups(7), proc_pid_mountinfo(5), and the kernel's Documentation/admin-guide/cgroup-v2.rst. */
#include "base/cgroup.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Whether a word is in a list with commas, "cpu" in "rw,cpu,cpuacct". */
static bool list_has(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (; *list; list += strcspn(list, ","), list += *list == ',')
        if (strcspn(list, ",") == length && memcmp(list, word, length) == 0)
            return true;
    return false;
}

/* Cuts the next field off; "" behind the last. */
static char *next_field(char **rest, char separator)
{
    char *field = *rest, *end = strchr(field, separator);
    *rest = end ? end + 1 : field + strlen(field);
    if (end)
        *end = '\0';
    return field;
}

/* The path of this process's group in the controller's hierarchy of version 1, or in that of version 2. Lines are
 * "4:memory:/path" and "0::/path". */
static bool own_path(const char *root, const char *controller, int version, char path[SYSFILE_PATH])
{
    sysfile f;
    bool found = false;
    if (!sysfile_open(&f, root, "/proc/self/cgroup"))
        return false;
    for (char *line; !found && (line = sysfile_line(&f));) {
        const char *id = next_field(&line, ':'), *controllers = next_field(&line, ':');
        bool fits = version == 1 ? list_has(controllers, controller) : strcmp(id, "0") == 0 && !*controllers;
        found = fits && line[0] == '/' && strlen(line) < SYSFILE_PATH;
        if (found)
            strcpy(path, line);
    }
    sysfile_close(&f);
    return found;
}

/* Mountinfo writes blank, tab, newline and backslash in paths as \040 etc. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        unsigned code;
        if (from[0] == '\\' && strspn(from + 1, "01234567") >= 3 && sscanf(from + 1, "%3o", &code) == 1 && code < 256) {
            *to = (char)code;
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

typedef struct mount {
    char *root; /* the folder of the hierarchy that is mounted */
    char *point;
} mount;

/* Reads "36 35 98:0 /root /mount/point rw,noatime master:1 - cgroup source rw,memory"; false if the line is another
 * mount than the one of this version and, in version 1, controller. */
static bool mount_of_line(char *line, const char *controller, int version, mount *out)
{
    for (int i = 0; i < 3; i++) /* mount, parent, device */
        next_field(&line, ' ');
    out->root = next_field(&line, ' ');
    out->point = next_field(&line, ' ');
    while (*line && strcmp(next_field(&line, ' '), "-") != 0) /* options, optional fields */
        ;
    const char *type = next_field(&line, ' ');
    next_field(&line, ' ');
    const char *options = next_field(&line, ' ');
    if (strcmp(type, version == 1 ? "cgroup" : "cgroup2") != 0 || (version == 1 && !list_has(options, controller)))
        return false;
    unescape(out->root);
    unescape(out->point);
    return out->root[0] == '/' && out->point[0] == '/';
}

/* The part of path below the folder `top`, "" or with a slash in front; NULL if it is elsewhere or goes up. */
static const char *below(const char *path, const char *top)
{
    size_t length = strcmp(top, "/") == 0 ? 0 : strlen(top);
    if (strncmp(path, top, length) != 0 || (path[length] && path[length] != '/'))
        return NULL;
    const char *rest = path + length;
    for (const char *up = rest; (up = strstr(up, "/..")); up += 3)
        if (up[3] == '/' || !up[3])
            return NULL;
    return strcmp(rest, "/") == 0 ? "" : rest;
}

/* Takes a folder for the group if there is one of that name. */
static bool take_folder(cgroup *group, const char *root, const char *point, const char *rest)
{
    struct stat info;
    char path[SYSFILE_PATH];
    int length = snprintf(path, sizeof path, "%s%s%s", root, strcmp(point, "/") == 0 ? "" : point, rest);
    if (length < 0 || (size_t)length >= sizeof path || stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return false;
    memcpy(group->path, path, (size_t)length + 1);
    group->mount = (size_t)length - strlen(rest);
    return true;
}

/* Of several mounts of the hierarchy the first that shows the group's path, otherwise the root of the first. */
static bool find_folder(cgroup *group, const char *root, const char *controller, const char *path)
{
    sysfile f;
    bool any = false, shown = false;
    if (!sysfile_open(&f, root, "/proc/self/mountinfo"))
        return false;
    for (char *line; !shown && (line = sysfile_line(&f));) {
        mount m;
        if (!mount_of_line(line, controller, group->version, &m))
            continue;
        const char *rest = below(path, m.root);
        shown = rest && take_folder(group, root, m.point, rest);
        any = shown || any || take_folder(group, root, m.point, "");
    }
    sysfile_close(&f);
    return any;
}

bool cgroup_own(cgroup *group, const char *root, const char *controller)
{
    char path[SYSFILE_PATH];
    for (group->version = 1; group->version <= 2; group->version++)
        if (own_path(root, controller, group->version, path) && find_folder(group, root, controller, path))
            return true;
    return false;
}

bool cgroup_outer(cgroup *group)
{
    if (strlen(group->path) <= group->mount)
        return false;
    *strrchr(group->path, '/') = '\0';
    return true;
}
