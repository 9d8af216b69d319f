/* What a process may use, told by trees of files laid out as kernels do: each test writes /proc and control groups
 * below a folder of its own. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "base/limits.h"
#include "base/cgroup.h"
#include "base/pool.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define NO_LIMIT_V1 "9223372036854771712\n" /* 2^63 - 4096 */

static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/flux1_limits_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info, (void)type, (void)walk;
    return remove(path);
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes root/path and the folders on the way; NULL text makes a folder. */
static void lay(const char *path, const char *text)
{
    char name[4096];
    size_t start = strlen(root);
    snprintf(name, sizeof name, "%s%s", root, path);
    for (char *slash = name + start + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        mkdir(name, 0755);
    }
    if (!text) {
        mkdir(name, 0755);
        return;
    }
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* A group's file, "" for the folder itself. */
static void lay_in(const char *group, const char *name, const char *text)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", group, name);
    lay(path, text);
}

#define OTHER_MOUNTS                                                  \
    "22 27 0:21 / /proc rw,relatime - proc proc rw\n"                 \
    "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors\n" \
    "23 27 0:22 / /sys rw,relatime - sysfs sysfs rw\n"

static const char v2_mount[] =
    OTHER_MOUNTS "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

static const char v1_mounts[] =
    OTHER_MOUNTS "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
                 "33 31 0:31 / /sys/fs/cgroup/cpuset rw shared:7 - cgroup cgroup rw,cpuset\n"
                 "34 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:8 - cgroup cgroup rw,cpu,cpuacct\n"
                 "35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 master:2 - cgroup cgroup rw,memory\n"
                 "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

static void lay_machine(const char *mounts, const char *groups)
{
    lay("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n");
    lay("/proc/self/mountinfo", mounts);
    lay("/proc/self/cgroup", groups);
}

static void assert_memory(uint64_t bytes) { assert_true(limits_memory_at(root) == bytes); }
static void assert_cores(uint64_t cores) { assert_true(limits_cpu_quota_at(root) == cores); }

static void lay_v2(const char *group, const char *max, const char *current, const char *stat)
{
    lay_in(group, "memory.max", max);
    lay_in(group, "memory.current", current);
    lay_in(group, "memory.stat", stat);
}

static void lay_v1(const char *group, const char *limit, const char *usage, const char *stat)
{
    lay_in(group, "memory.limit_in_bytes", limit);
    lay_in(group, "memory.usage_in_bytes", usage);
    lay_in(group, "memory.stat", stat);
}

static void without_groups_it_is_what_the_machine_has_available(void **state)
{
    (void)state;
    lay("/proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\nSwapFree: 99999999 kB\n");
    assert_memory(8192 * MIB);
    assert_cores(0);
}

static void without_meminfo_it_is_what_is_built_in(void **state)
{
    (void)state;
    static const char *const bad[] = {
        NULL,
        "",
        "MemTotal: 4 kB\nMemFree: 4 kB\n",
        "MemAvailable:\n",
        "MemAvailable: -4 kB\n",
        "MemAvailable: 4 MB\n",
        "MemAvailable: 4kB\n",
        "MemAvailable: 0x4 kB\n",
        "MemAvailable: 18446744073709551616 kB\n",
        "MemAvailable: 18014398509481984 kB\n", /* 2^54: in bytes 2^64 */
        "MemAvailableNot: 4 kB\n",
    };
    uint64_t built_in = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (bad[i])
            lay("/proc/meminfo", bad[i]);
        assert_memory(built_in);
    }
}

static void a_limit_of_version_2_counts_less_what_cannot_be_reclaimed(void **state)
{
    (void)state;
    lay_machine(v2_mount, "0::/user/app\n");
    /* 200 - (120 - 30 - 20) MiB */
    lay_v2("/sys/fs/cgroup/user/app", "209715200\n", "125829120\n",
           "anon 73400320\nfile 52428800\ninactive_anon 7\ninactive_file 31457280\nactive_file 20971520\nslab 1\n");
    lay("/sys/fs/cgroup/user/app/memory.high", "1048576\n");
    assert_memory(130 * MIB);
}

/* In version 1 inactive_file is the group's alone while usage counts the groups below. */
static void a_limit_of_version_1_counts_less_what_cannot_be_reclaimed(void **state)
{
    (void)state;
    lay_machine(v1_mounts,
                "9:cpuset:/\n4:memory:/docker/1f\n2:cpu,cpuacct:/docker/1f\n1:name=systemd:/docker/1f\n0::/\n");
    lay_v1("/sys/fs/cgroup/memory/docker/1f", "209715200\n", "125829120\n",
           "inactive_file 4096\nactive_file 0\ntotal_inactive_file 31457280\ntotal_active_file 20971520\n");
    lay_v1("/sys/fs/cgroup/memory/docker", NO_LIMIT_V1, "9000000000\n", "total_inactive_file 0\n");
    lay_v1("/sys/fs/cgroup/memory", NO_LIMIT_V1, "10000000000\n", "total_inactive_file 0\n");
    lay_v1("/sys/fs/cgroup/cpuset/docker/1f", "4096\n", "0\n", ""); /* not that hierarchy's to say */
    assert_memory(130 * MIB);
}

static void a_hybrid_machine_is_asked_where_the_controller_is(void **state)
{
    (void)state;
    lay_machine(v1_mounts, "4:cpuset:/a\n2:cpu,cpuacct:/a\n0::/b\n"); /* memory: version 2, cpu: version 1 */
    lay_v2("/sys/fs/cgroup/unified/b", "104857600\n", "0\n", "");
    lay_v1("/sys/fs/cgroup/memory/b", "1048576\n", "0\n", "");
    lay("/sys/fs/cgroup/unified/b/cpu.max", "100000 100000\n");
    lay("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "300000\n");
    lay("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    assert_memory(100 * MIB);
    assert_cores(3);
    lay("/proc/self/cgroup", "5:memory:/b\n0::/b\n");
    assert_memory(MIB);
    assert_cores(1);
}

static void an_outer_group_may_be_the_tighter_one(void **state)
{
    (void)state;
    lay_machine(v2_mount, "0::/a/b/c\n");
    lay_v2("/sys/fs/cgroup/a/b/c", "max\n", "1048576\n", "");
    lay_v2("/sys/fs/cgroup/a/b", "1073741824\n", "0\n", "");
    lay_v2("/sys/fs/cgroup/a", "536870912\n", "268435456\n", "inactive_file 1048576\nactive_file 0\n");
    lay("/sys/fs/cgroup/a/b/c/cpu.max", "800000 100000\n");
    lay("/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    assert_memory(257 * MIB);
    assert_cores(3);
    lay_v2("/sys/fs/cgroup", "104857600\n", "0\n", ""); /* the mount's root, which is a group in a container */
    lay("/sys/fs/cgroup/cpu.max", "50000 100000\n");
    lay("/sys/fs/memory.max", "4096\n"); /* above the mount there is none */
    assert_memory(100 * MIB);
    assert_cores(1);
}

static void no_limit_is_no_limit(void **state)
{
    (void)state;
    lay_machine(v2_mount, "0::/a\n");
    lay_v2("/sys/fs/cgroup/a", "max\n", "9000000000\n", "");
    lay("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
    assert_memory(8192 * MIB);
    assert_cores(0);
    lay_machine(v1_mounts, "4:memory:/\n3:cpu,cpuacct:/\n");
    lay("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    lay("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    static const char *const none[] = {NO_LIMIT_V1, "9223372036854710272\n" /* 64 KiB pages */, "9223372036854775807\n",
                                       "18446744073709551615\n"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        lay_v1("/sys/fs/cgroup/memory", none[i], "18446744073709551615\n", "");
        assert_memory(8192 * MIB);
        assert_cores(0);
    }
}

static void a_limit_that_is_reached_leaves_nothing(void **state)
{
    (void)state;
    lay_machine(v2_mount, "0::/a\n");
    lay_v2("/sys/fs/cgroup/a", "1048576\n", "1048577\n", "");
    assert_memory(0);
    lay_v2("/sys/fs/cgroup/a", "0\n", "0\n", "");
    assert_memory(0);
    lay_v2("/sys/fs/cgroup/a", "1048576\n", "1048577\n", "inactive_file 1048576\nactive_file 2\n"); /* more than used */
    assert_memory(MIB);
    lay_v2("/sys/fs/cgroup/a", "1048576\n", "1048576\n", /* a number that cannot be is not counted */
           "inactive_file 10\nactive_file 18446744073709551615\n");
    assert_memory(10);
}

/* A container whose /proc/self/cgroup shows the host's path while only its own group is mounted. */
static void a_path_that_is_not_mounted_is_the_mounts_root(void **state)
{
    (void)state;
    static const char *const paths[] = {"0::/kubepods/pod3/c1\n", "0::/../../c1\n", "0::/x/../b\n", "0::/\n"};
    lay_v2("/sys/fs/cgroup", "104857600\n", "0\n", "");
    lay_v2("/sys/fs/b", "4096\n", "0\n", "");
    lay_v2("/sys/fs/cgroup/b", "4096\n", "0\n", "");
    lay("/sys/fs/cgroup/x", NULL);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        lay_machine(v2_mount, paths[i]);
        assert_memory(100 * MIB);
    }
}

static void a_mount_of_a_part_of_the_hierarchy_shows_what_is_below_it(void **state)
{
    (void)state;
    lay_machine("36 31 0:32 /docker/1 /cg/short rw - cgroup cgroup rw,memory\n"
                "35 31 0:32 /docker/1f /cg/mem rw - cgroup cgroup rw,memory\n",
                "4:memory:/docker/1f/inner\n");
    lay_v1("/cg/mem/inner", "104857600\n", "0\n", "");
    lay_v1("/cg/mem/docker/1f/inner", "4096\n", "0\n", "");
    lay_v1("/cg/shortf/inner", "4096\n", "0\n", "");
    lay_v1("/cg/short/inner", "4096\n", "0\n", "");
    assert_memory(100 * MIB);
    lay_v1("/cg/mem", "52428800\n", "0\n", "");
    assert_memory(50 * MIB);
    lay("/proc/self/cgroup", "4:memory:/docker/1f\n");
    assert_memory(50 * MIB);
}

static void the_mount_that_shows_the_group_is_taken(void **state)
{
    (void)state;
    lay_machine("35 31 0:32 /other /cg/other rw - cgroup2 cgroup2 rw\n"
                "36 31 0:32 / /cg/gone rw - cgroup2 cgroup2 rw\n"
                "36 31 0:32 / /cg/file rw - cgroup2 cgroup2 rw\n"
                "37 31 0:32 / /cg/all\\040of\\134it rw shared:1 propagate_from:2 - cgroup2 none rw\n",
                "0::/a:b\n"); /* a colon may be part of the path */
    lay_v2("/cg/other", "4096\n", "0\n", "");
    lay("/cg/file/a:b", "");
    lay_v2("/cg/all of\\it/a:b", "104857600\n", "0\n", "");
    assert_memory(100 * MIB);
    lay("/proc/self/cgroup", "0::/not/mounted\n"); /* then the first there is */
    assert_memory(4096);
}

static void what_is_no_number_is_no_limit(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "\n",
        "-1\n",
        "-4096\n",
        "+4096\n",
        "4096 4096\n",
        "4096\n4096\n",
        "4096k\n",
        "0x1000\n",
        "184467440737095520256\n", /* 10 * 2^64 + 4096 */

        "4096.5\n",
        "18446744073709551616\n",
        "99999999999999999999999999999999\n",
        "maximum\n",
        "\xff\xfe\n",
        "4e3\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lay_machine(v2_mount, "0::/a\n");
        lay_v2("/sys/fs/cgroup/a", bad[i], "0\n", "");
        assert_memory(8192 * MIB);
        lay_machine(v1_mounts, "4:memory:/a\n");
        lay_v1("/sys/fs/cgroup/memory/a", bad[i], "0\n", "");
        assert_memory(8192 * MIB);
    }
}

/* Without the usage the limit itself is known; without the statistics nothing is known to be reclaimable. */
static void a_bad_usage_leaves_the_limit(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "-5\n", "x\n", "18446744073709551616\n"};
    lay_machine(v2_mount, "0::/a\n");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lay_v2("/sys/fs/cgroup/a", "104857600\n", bad[i], "inactive_file 5\n");
        assert_memory(100 * MIB);
    }
    static const char *const statistics[] = {"",
                                             "inactive_file\n",
                                             "inactive_file -1\n",
                                             "active_file 1 2\n",
                                             "inactive_file 18446744073709551616\n",
                                             "active_file2\n",
                                             "garbage"};
    for (size_t i = 0; i < sizeof statistics / sizeof *statistics; i++) {
        lay_v2("/sys/fs/cgroup/a", "104857600\n", "1048576\n", statistics[i]);
        assert_memory(99 * MIB);
    }
    lay("/sys/fs/cgroup/b/memory.max", "104857600\n"); /* and where the files are missing */
    lay("/proc/self/cgroup", "0::/b\n");
    assert_memory(100 * MIB);
    lay("/sys/fs/cgroup/b/memory.current/not_a_file", "");
    assert_memory(100 * MIB);
}

static void groups_that_cannot_be_found_are_no_limit(void **state)
{
    (void)state;
    static const char *const groups[] = {"",           "0::\n",      "0::a\n",        "garbage\n", "::/a\n",
                                         "4:memory\n", "4:mem:/a\n", "0:name=x:/a\n", "0\n"};
    static const char *const mounts[] = {
        "",
        "garbage\n",
        "31 23 0:28 / /sys/fs/cgroup rw\n",
        "31 23 0:28 / /sys/fs/cgroup rw -\n",
        "31 23 0:28 / /sys/fs/cgroup rw cgroup2 cgroup2 rw\n",
        "31 23 0:28 / /nowhere rw - cgroup2 cgroup2 rw\n",
        "31 23 0:28 / sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs cgroup2 rw\n",
    };
    char slash[sizeof root + 1];
    snprintf(slash, sizeof slash, "%s/", root); /* a mount point without its slash would be found below this one */
    lay_v2("/sys/fs/cgroup/a", "4096\n", "0\n", "");
    lay_v2("/sys/fs/cgroup", "4096\n", "0\n", "");
    lay("/sys/fs/cgroup/a/cpu.max", "100000 100000\n");
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        lay_machine(v2_mount, groups[i]);
        assert_memory(8192 * MIB);
        assert_cores(0);
    }
    for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++) {
        lay_machine(mounts[i], "0::/a\n");
        assert_memory(8192 * MIB);
        assert_true(limits_memory_at(slash) == 8192 * MIB);
        assert_cores(0);
    }
}

static void part_of_a_core_counts_as_one(void **state)
{
    (void)state;
    static const struct {
        const char *max;
        uint64_t cores;
    } rows[] = {
        {"1000 100000\n", 1},
        {"100000 100000\n", 1},
        {"100001 100000\n", 2},
        {"200000 100000", 2},
        {"max 100000\n", 0},
        {"0 100000\n", 0},
        {"100000 0\n", 0},
        {"100000\n", 0},
        {"-100000 100000\n", 0},
        {"100000 -1\n", 0},
        {"100000 x\n", 0},
        {"100000 100000 1\n", 0},
        {"\n", 0},
        {"", 0},
        {"18446744073709551615 1\n", UINT64_MAX},
        {"18446744073709551616 1\n", 0},
        {"18446744073709551615 2\n", (uint64_t)1 << 63},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lay_machine(v2_mount, "0::/a\n");
        lay("/sys/fs/cgroup/a/cpu.max", rows[i].max);
        assert_cores(rows[i].cores);
    }
}

static void a_bad_quota_hides_no_other(void **state)
{
    (void)state;
    static const char *const bad[] = {"max 100000\n", "0 100000\n", "100000 0\n", "x\n"};
    lay_machine(v2_mount, "0::/a/b/c\n");
    lay("/sys/fs/cgroup/a/b/cpu.max", "200000 100000\n");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lay("/sys/fs/cgroup/a/cpu.max", bad[i]);
        lay("/sys/fs/cgroup/a/b/c/cpu.max", bad[i]);
        assert_cores(2);
    }
}

static void a_quota_of_version_1_needs_both_files(void **state)
{
    (void)state;
    lay_machine(v1_mounts, "4:memory:/\n3:cpuset:/x\n2:cpu,cpuacct:/a/b\n0::/\n");
    lay("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
    lay("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
    lay("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "150000\n");
    assert_cores(0);
    lay("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    assert_cores(2);
    lay("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "50000\n");
    assert_cores(1);
}

/* RLIMIT_AS 1 GiB less VmSize 300 MiB; RLIMIT_DATA 512 MiB less VmData 100 MiB. The soft limits hold while the question
 * is asked, which takes no memory. */
static void a_limit_of_the_process_counts_less_what_it_has(void **state)
{
    (void)state;
    static const struct {
        int resource;
        uint64_t limit, left;
    } rows[] = {{RLIMIT_AS, 1024 * MIB, 724 * MIB}, {RLIMIT_DATA, 512 * MIB, 412 * MIB}, {RLIMIT_DATA, 100 * MIB, 0}};
    lay_machine(v2_mount, "0::/a\n");
    lay("/proc/self/status",
        "Name:\tcat\nVmPeak:\t  409600 kB\nVmSize:\t  307200 kB\nVmData:\t  102400 kB\nVmStk:\t 8 kB\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct rlimit before, now;
        assert_int_equal(getrlimit(rows[i].resource, &before), 0);
        now = before;
        now.rlim_cur = rows[i].limit;
        int set = setrlimit(rows[i].resource, &now);
        uint64_t left = limits_memory_at(root);
        setrlimit(rows[i].resource, &before);
        assert_int_equal(set, 0);
        assert_true(left == rows[i].left);
    }
    assert_memory(8192 * MIB);
}

/* A mount of many layers has a line that is longer than any buffer; the next one is read all the same. */
static void a_long_line_is_left_out(void **state)
{
    (void)state;
    enum { LONG = 3 * SYSFILE_LINE + 17 };
    static const char layers[] = "28 27 0:40 / / rw - overlay overlay rw,lowerdir=";
    static const char bait[] = "31 23 0:28 / /bait rw - cgroup2 cgroup2 rw";
    char *mounts = malloc(LONG + sizeof v2_mount);
    assert_non_null(mounts);
    for (int length = SYSFILE_LINE - 2; length <= LONG; length += length < SYSFILE_LINE + 2 ? 1 : 997) {
        memset(mounts, 'x', (size_t)length);
        memcpy(mounts, layers, strlen(layers));
        memcpy(mounts + length - strlen(bait), bait, strlen(bait)); /* its end looks like a line of its own */
        mounts[length] = '\n';
        strcpy(mounts + length + 1, v2_mount);
        lay_machine(mounts, "0::/a\n");
        lay_v2("/sys/fs/cgroup/a", "104857600\n", "0\n", "");
        lay_v2("/bait/a", "4096\n", "0\n", "");
        assert_memory(100 * MIB);
        strcpy(mounts, v2_mount); /* and at the end of the file, read on since this mount does not show the group */
        memset(mounts + strlen(mounts), 'x', (size_t)length);
        memcpy(mounts + strlen(v2_mount), layers, strlen(layers));
        strcpy(mounts + length - strlen(bait), bait);
        lay_machine(mounts, "0::/b\n");
        lay_v2("/sys/fs/cgroup", "104857600\n", "0\n", "");
        lay_v2("/bait/b", "4096\n", "0\n", "");
        assert_memory(100 * MIB);
    }
    free(mounts);
}

static void a_path_that_is_too_long_is_the_mounts_root(void **state)
{
    (void)state;
    char groups[SYSFILE_PATH + 64];
    for (size_t length = SYSFILE_PATH - 40; length < SYSFILE_PATH + 8; length++) {
        memset(groups, 'g', sizeof groups);
        memcpy(groups, "0::/", 4);
        strcpy(groups + 3 + length, "\n");
        lay_machine(v2_mount, groups);
        lay_v2("/sys/fs/cgroup", "104857600\n", "0\n", "");
        assert_memory(length < SYSFILE_PATH ? 100 * MIB : 8192 * MIB);
    }
}

static void this_machine_has_memory(void **state)
{
    (void)state;
    uint64_t bytes = limits_memory();
    assert_true(bytes > MIB && bytes <= (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
    uint64_t quota = limits_cpu_quota();
    assert_true(quota == 0 || (uint64_t)cpu_physical_cores() <= quota);
}

#define IN_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_ROOT(without_groups_it_is_what_the_machine_has_available),
        IN_ROOT(without_meminfo_it_is_what_is_built_in),
        IN_ROOT(a_limit_of_version_2_counts_less_what_cannot_be_reclaimed),
        IN_ROOT(a_limit_of_version_1_counts_less_what_cannot_be_reclaimed),
        IN_ROOT(a_hybrid_machine_is_asked_where_the_controller_is),
        IN_ROOT(an_outer_group_may_be_the_tighter_one),
        IN_ROOT(no_limit_is_no_limit),
        IN_ROOT(a_limit_that_is_reached_leaves_nothing),
        IN_ROOT(a_path_that_is_not_mounted_is_the_mounts_root),
        IN_ROOT(a_mount_of_a_part_of_the_hierarchy_shows_what_is_below_it),
        IN_ROOT(the_mount_that_shows_the_group_is_taken),
        IN_ROOT(what_is_no_number_is_no_limit),
        IN_ROOT(a_bad_usage_leaves_the_limit),
        IN_ROOT(groups_that_cannot_be_found_are_no_limit),
        IN_ROOT(part_of_a_core_counts_as_one),
        IN_ROOT(a_bad_quota_hides_no_other),
        IN_ROOT(a_quota_of_version_1_needs_both_files),
        IN_ROOT(a_limit_of_the_process_counts_less_what_it_has),
        IN_ROOT(a_long_line_is_left_out),
        IN_ROOT(a_path_that_is_too_long_is_the_mounts_root),
        cmocka_unit_test(this_machine_has_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
