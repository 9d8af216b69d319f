/* Cards and what they need, on machines made of files in a temporary folder. */
#define _GNU_SOURCE
#include "ops/ttnn_machines.h"
#include "ops/ttnn_setup.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char root[64], *path_before;
static flux1_error err;

static void put(const char *name, const char *text)
{
    char path[512], folder[512];
    snprintf(path, sizeof path, "%s%s", root, name);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    assert_int_equal(folder_make(folder, 0777, &err), FLUX1_OK);
    if (file_write(path, text, strlen(text), &err) != FLUX1_OK)
        fail_msg("%s", err.message);
}

static void put_program(const char *name, const char *text)
{
    char path[512];
    put(name, text);
    snprintf(path, sizeof path, "%s%s", root, name);
    assert_int_equal(chmod(path, 0755), 0);
}

static int begin(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/flux1-cards-XXXXXX");
    err = (flux1_error){0};
    unsetenv("FLUX1_TTNN_PYTHON");
    path_before = strdup(getenv("PATH"));
    return mkdtemp(root) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    char command[96];
    setenv("PATH", path_before, 1);
    free(path_before);
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static cards found(void)
{
    static cards c;
    if (cards_find(root, &c, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return c;
}

#define PCI "/sys/bus/pci/devices/"

static void put_card(const char *bus, const char *device)
{
    char name[128];
    snprintf(name, sizeof name, PCI "%s/vendor", bus);
    put(name, "0x1e52\n");
    snprintf(name, sizeof name, PCI "%s/device", bus);
    put(name, device);
}

static void a_machine_without_cards_has_none(void **state)
{
    (void)state;
    assert_int_equal(found().count, 0); /* no PCI bus */
    put(PCI "0000:00:02.0/vendor", "0x10de\n");
    put(PCI "0000:00:02.0/device", "0x401e\n");
    put(PCI "0000:00:03.0/device", "0x401e\n"); /* no vendor */
    assert_int_equal(found().count, 0);
    assert_string_equal(found().driver, "");
}

/* An n300 and a p150 with the driver, a Grayskull, and one without a driver. */
static void cards_are_described_as_the_driver_does(void **state)
{
    (void)state;
    put_card("0000:01:00.0", "0x401e\n");
    put(PCI "0000:01:00.0/tenstorrent/tenstorrent!0/tt_card_type", "n300\n");
    put(PCI "0000:01:00.0/tenstorrent/tenstorrent!0/tt_serial", "0100014511703027\n");
    put(PCI "0000:01:00.0/tenstorrent/tenstorrent!0/tt_fw_bundle_ver", "18.4.0.0\n");
    put_card("0000:21:00.0", "0xb140\n");
    put(PCI "0000:21:00.0/tenstorrent/tenstorrent!13/dev", "1:2\n"); /* old firmware: no telemetry */
    put(PCI "0000:21:00.0/iommu_group/type", "DMA-FQ\n");
    put_card("0000:41:00.0", "0x401e\n");
    put_card("0000:61:00.0", "0xfaca\n");
    put(PCI "0000:61:00.0/tenstorrent/tenstorrent!2/dev", "1:2\n");
    put("/dev/tenstorrent/0", "");
    put("/dev/tenstorrent/2", "");
    put("/sys/module/tenstorrent/version", "2.4.0\n");
    put("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "1\n");
    const cards c = found();
    assert_int_equal(c.count, 4);
    assert_string_equal(c.driver, "2.4.0");
    assert_string_equal(c.card[0].bus, "0000:01:00.0");
    assert_string_equal(c.card[0].chip_name, "Wormhole");
    assert_string_equal(c.card[0].board, "n300");
    assert_string_equal(c.card[0].serial, "0100014511703027");
    assert_string_equal(c.card[0].firmware, "18.4.0.0");
    assert_string_equal(c.card[0].problem, "");
    assert_int_equal(c.card[0].number, 0);
    assert_int_equal(c.card[1].number, 13);
    assert_string_equal(c.card[1].board, "");
    assert_true(c.card[1].translated);
    assert_non_null(strstr(c.card[1].problem, "/dev/tenstorrent/13 is not here"));
    assert_string_equal(c.card[2].problem, "no driver has it");
    assert_string_equal(c.card[3].chip_name, "Grayskull");
    assert_non_null(strstr(c.card[3].problem, "does not run on this chip"));
    assert_int_equal(cards_need_huge_pages(&c), 2);
    assert_int_equal(c.huge_pages, 1);
}

static void strange_files_are_ignored(void **state)
{
    (void)state;
    char longest[300];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    put_card("0000:01:00.0", "0xbeef\n");
    put(PCI "0000:01:00.0/tenstorrent/tenstorrent!4294967296/dev", "");
    put(PCI "0000:01:00.0/tenstorrent/tenstorrent!x/dev", "");
    put(PCI "0000:01:00.0/tenstorrent/tenstorrent!3x/dev", "");
    put("/sys/module/tenstorrent/version", longest);
    put("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "many\n");
    const cards c = found();
    assert_int_equal(c.count, 1);
    assert_string_equal(c.card[0].chip_name, "0xbeef");
    assert_int_equal(c.card[0].number, -1);
    assert_int_equal(strlen(c.driver), CARD_TEXT - 1);
    assert_int_equal(c.huge_pages, 0);
}

/* ---- what is missing ---- */

static const ttnn_part *part(ttnn_need which)
{
    static ttnn_setup s;
    const cards c = found();
    ttnn_setup_find(root, &c, &s);
    return &s.part[which];
}

static void name_python(const char *script)
{
    char path[128];
    put_program("/py", script);
    snprintf(path, sizeof path, "%s/py", root);
    setenv("FLUX1_TTNN_PYTHON", path, 1);
}

#define EXPECT_FOUND(which, text)                            \
    do {                                                     \
        assert_string_equal(part(which)->missing, "");       \
        assert_non_null(strstr(part(which)->found, (text))); \
    } while (0)
#define EXPECT_MISSING(which, text)                            \
    do {                                                       \
        assert_string_equal(part(which)->found, "");           \
        assert_non_null(strstr(part(which)->missing, (text))); \
    } while (0)

static void what_is_there_is_named_with_its_version(void **state)
{
    (void)state;
    char script[256];
    put("/sys/module/tenstorrent/version", "2.4.0\n");
    put("/opt/tenstorrent/sfpi/compiler/bin/riscv-tt-elf-g++", "");
    snprintf(script, sizeof script, "#!/bin/sh\nprintf '3.12.1\\n0.81.1\\n%s/site/ttnn\\n'\n", root);
    name_python(script);
    EXPECT_FOUND(TTNN_DRIVER, "tenstorrent 2.4.0");
    EXPECT_FOUND(TTNN_PAGES, "not needed");
    EXPECT_FOUND(TTNN_PYTHON, "/py (3.12.1)");
    EXPECT_FOUND(TTNN_LIBRARY, "0.81.1 in ");
    assert_null(strstr(part(TTNN_LIBRARY)->found, "tested"));
    EXPECT_FOUND(TTNN_COMPILER, "/opt/tenstorrent/sfpi");
    put("/site/ttnn/runtime/sfpi/compiler/bin/riscv-tt-elf-g++", "");
    EXPECT_FOUND(TTNN_COMPILER, "/site/ttnn/runtime/sfpi");
    name_python("#!/bin/sh\nprintf '3.13.0\\n0.99.0\\n/x/ttnn\\n'\n");
    EXPECT_FOUND(TTNN_LIBRARY, "0.99.0 in /x/ttnn (flux1 was tested with 0.81.1)");
}

static void what_is_missing_comes_with_a_remedy(void **state)
{
    (void)state;
    put_card("0000:01:00.0", "0x401e\n");
    setenv("FLUX1_TTNN_PYTHON", "/nowhere/python", 1);
    EXPECT_MISSING(TTNN_DRIVER, "sudo modprobe tenstorrent");
    EXPECT_MISSING(TTNN_PAGES, "1 of 1 GiB (one a card), 0 are set aside");
    EXPECT_MISSING(TTNN_PYTHON, "FLUX1_TTNN_PYTHON is /nowhere/python: cannot be started: No such file");
    EXPECT_MISSING(TTNN_COMPILER, "sfpi/releases");
    name_python("#!/bin/sh\nprintf '3.9.2\\n'\n");
    EXPECT_MISSING(TTNN_PYTHON, "Python 3.9.2; 3.10 or 3.12 is needed");
    name_python("#!/bin/sh\nprintf '3.10.13\\n'\n");
    EXPECT_FOUND(TTNN_PYTHON, "3.10.13");
    EXPECT_MISSING(TTNN_LIBRARY, "/py -m pip install ttnn==0.81.1");
    name_python("#!/bin/sh\nprintf '3.11.2\\n'\n");
    EXPECT_MISSING(TTNN_LIBRARY, "with a Python 3.10 or 3.12");
    name_python("#!/bin/sh\nprintf 'Hello\\n'\n");
    EXPECT_MISSING(TTNN_PYTHON, "is no Python 3");
    name_python("#!/bin/sh\nexit 7\n");
    EXPECT_MISSING(TTNN_PYTHON, "ended with status 7");
    name_python("#!/bin/sh\nkill -9 $$\n");
    EXPECT_MISSING(TTNN_PYTHON, "ended by signal 9");
}

/* The first one lacks ttnn, the second one has it. */
static void the_python_with_ttnn_is_taken_from_path(void **state)
{
    (void)state;
    char path[256];
    put_program("/a/python3", "#!/bin/sh\nprintf '3.11.2\\n'\n");
    put_program("/b/python3.12", "#!/bin/sh\nprintf '3.12.0\\n0.81.1\\n/b/ttnn\\n'\n");
    put_program("/c/python3", "#!/bin/sh\nexit 1\n");
    snprintf(path, sizeof path, "relative::%s/c:%s/a:%s/b", root, root, root);
    setenv("PATH", path, 1);
    const ttnn_part python = *part(TTNN_PYTHON);
    unlink(strcat(strcpy(path, root), "/b/python3.12"));
    const ttnn_part other = *part(TTNN_PYTHON);
    setenv("PATH", "", 1);
    const ttnn_part none = *part(TTNN_PYTHON);
    assert_non_null(strstr(python.found, "/b/python3.12 (3.12.0)"));
    assert_non_null(strstr(other.found, "/a/python3 (3.11.2)"));
    assert_non_null(strstr(none.missing, "there is none in PATH"));
}

static void set_path(const char *first, const char *second)
{
    char path[256];
    snprintf(path, sizeof path, "%s%s:%s%s", root, first, root, second);
    setenv("PATH", path, 1);
}

/* Neither a worse one behind it nor the next name is started. */
static void behind_the_first_with_ttnn_none_is_asked(void **state)
{
    (void)state;
    char script[256], asked[128];
    snprintf(asked, sizeof asked, "%s/asked", root);
    snprintf(script, sizeof script, "#!/bin/sh\n: >%s\nprintf '3.12.0\\n0.81.1\\n/b/ttnn\\n'\n", asked);
    put_program("/a/python3", "#!/bin/sh\nprintf '3.12.0\\n0.81.1\\n/a/ttnn\\n'\n");
    put_program("/b/python3", script);
    put_program("/a/python3.12", script);
    set_path("/a", "/b");
    EXPECT_FOUND(TTNN_LIBRARY, "in /a/ttnn");
    assert_false(file_exists(asked));
}

static void a_python_may_be_named_without_its_folder(void **state)
{
    (void)state;
    put_program("/b/snake", "#!/bin/sh\nprintf '3.12.7\\n0.81.1\\n/b/ttnn\\n'\n");
    put_program("/b/old", "#!/bin/sh\nprintf '3.9.2\\n'\n");
    set_path("/a", "/b");
    setenv("FLUX1_TTNN_PYTHON", "snake", 1);
    EXPECT_FOUND(TTNN_PYTHON, "/b/snake (3.12.7)");
    EXPECT_FOUND(TTNN_LIBRARY, "in /b/ttnn");
    setenv("FLUX1_TTNN_PYTHON", "old", 1);
    EXPECT_MISSING(TTNN_PYTHON, "FLUX1_TTNN_PYTHON is old: there is none of 3.10 or newer in PATH");
    setenv("FLUX1_TTNN_PYTHON", "adder", 1);
    EXPECT_MISSING(TTNN_PYTHON, "FLUX1_TTNN_PYTHON is adder: there is none of 3.10 or newer in PATH");
}

static void a_long_path_is_told_whole(void **state)
{
    (void)state;
    char folder[1200] = "", script[1400];
    while (strlen(folder) < 1100)
        strcat(folder, "/a-rather-long-name");
    snprintf(script, sizeof script, "#!/bin/sh\nprintf '3.12.1\\n0.81.1\\n%s/ttnn\\n'\n", folder);
    name_python(script);
    strcat(folder, "/ttnn");
    EXPECT_FOUND(TTNN_LIBRARY, folder);
}

/* A real Python is asked, which finds ttnn as a source tree. */
static void a_source_tree_has_no_version(void **state)
{
    (void)state;
    if (system("python3 -c \"import sys, importlib.metadata as m; sys.exit(sys.version_info < (3, 10) or "
               "any(d.name == 'ttnn' for d in m.distributions()))\" 2>/dev/null") != 0)
        skip();
    put("/site/ttnn/__init__.py", "");
    char site[128];
    snprintf(site, sizeof site, "%s/site", root);
    setenv("PYTHONPATH", site, 1);
    setenv("FLUX1_TTNN_PYTHON", "python3", 1);
    const ttnn_part library = *part(TTNN_LIBRARY);
    unsetenv("PYTHONPATH");
    assert_string_equal(library.missing, "");
    assert_ptr_equal(strstr(library.found, "of unknown version in "), library.found);
    assert_non_null(strstr(library.found, "/site/ttnn (flux1 was tested with "));
}

/* One n300 or four are known by themselves; of others the user says what they are. */
static void cards_decide_which_machine_it_is(void **state)
{
    const ttnn_machine *m;
    cards found = {.count = 1, .card = {{.chip = CARD_WORMHOLE, .board = "n300"}}};
    (void)state;
    assert_int_equal(ttnn_machine_find("", &found, &m, &err), FLUX1_OK);
    assert_string_equal(m->device, "ttnn:wh-n300");
    assert_int_equal(m->weights, TILE_BFP8);
    found.count = 4;
    for (int i = 1; i < 4; i++)
        found.card[i] = found.card[0];
    assert_int_equal(ttnn_machine_find(NULL, &found, &m, &err), FLUX1_OK);
    assert_string_equal(m->name, "wh-t3k");
    snprintf(found.card[3].board, sizeof found.card[3].board, "n150");
    assert_int_equal(ttnn_machine_find(NULL, &found, &m, &err), FLUX1_ERR_UNSUPPORTED);
    assert_null(m);
    assert_non_null(strstr(err.message, "4 cards of board \"n300\""));
    found.count = 0;
    assert_int_equal(ttnn_machine_find(NULL, &found, &m, &err), FLUX1_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "no card was found"));
    assert_int_equal(ttnn_machine_find("bh-galaxy", &found, &m, &err), FLUX1_OK);
    assert_int_equal(m->rows * m->cols, 32);
    assert_int_equal(ttnn_machine_find("wh-n30", &found, &m, &err), FLUX1_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "machines are wh-n300, "));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(cards_decide_which_machine_it_is),
        TEST(a_machine_without_cards_has_none),
        TEST(cards_are_described_as_the_driver_does),
        TEST(strange_files_are_ignored),
        TEST(what_is_there_is_named_with_its_version),
        TEST(what_is_missing_comes_with_a_remedy),
        TEST(the_python_with_ttnn_is_taken_from_path),
        TEST(behind_the_first_with_ttnn_none_is_asked),
        TEST(a_python_may_be_named_without_its_folder),
        TEST(a_long_path_is_told_whole),
        TEST(a_source_tree_has_no_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
