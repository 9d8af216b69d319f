#include "ops/ttnn_setup.h"

#include "base/child.h"
#include "base/file.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PYTHON_SECONDS = 30 };

#define COMPILER "compiler/bin/riscv-tt-elf-g++"
#define INSTALLED_SFPI "/opt/tenstorrent/sfpi"

/* Version, ttnn's version and folder, a line each; nothing of a module that lies in the working folder. A source tree
 * in PYTHONPATH has no version. */
static const char question[] = "import sys\n"
                               "sys.path[:] = [p for p in sys.path if p]\n"
                               "print('%d.%d.%d' % sys.version_info[:3])\n"
                               "if sys.version_info >= (3, 10):\n"
                               "    import importlib.metadata, importlib.util, os\n"
                               "    spec = importlib.util.find_spec('ttnn')\n"
                               "    if spec and spec.origin:\n"
                               "        try:\n"
                               "            print(importlib.metadata.version('ttnn'))\n"
                               "        except importlib.metadata.PackageNotFoundError:\n"
                               "            print('of unknown version')\n"
                               "        print(os.path.dirname(spec.origin))\n";

/* What a Python says of itself. */
typedef struct answer {
    char program[PATH_MAX];
    char version[32];
    char library[64];      /* ttnn's version; "": it has none */
    char folder[PATH_MAX]; /* and where */
    int minor;             /* of 3.minor; 0: none that counts */
} answer;

static void take_line(const char **at, char *out, size_t room)
{
    const size_t length = strcspn(*at, "\n");
    snprintf(out, room, "%.*s", (int)length, *at);
    *at += length + ((*at)[length] == '\n');
}

static flux1_status ask(const char *program, answer *out, flux1_error *err)
{
    char text[PATH_MAX + 128];
    char *const argv[] = {(char *)program, (char *)"-c", (char *)question, NULL};
    *out = (answer){0};
    snprintf(out->program, sizeof out->program, "%s", program);
    TRY(child_output(argv, PYTHON_SECONDS, text, sizeof text, err));
    const char *at = text;
    take_line(&at, out->version, sizeof out->version);
    take_line(&at, out->library, sizeof out->library);
    take_line(&at, out->folder, sizeof out->folder);
    if (sscanf(out->version, "3.%3d", &out->minor) != 1)
        return error_set(err, FLUX1_ERR_IO, "%s: is no Python 3", program);
    return FLUX1_OK;
}

/* The better one: with ttnn, then new enough, then first. */
static int worth(const answer *a) { return a->library[0] ? 2 : a->minor >= 10; }

/* The programs of this name in the folders of PATH that are named from the root, up to the first that has ttnn. */
static void ask_folders(const char *name, answer *best)
{
    const char *path = getenv("PATH");
    for (size_t length; path && *path && worth(best) < 2; path += length + (path[length] == ':')) {
        char program[PATH_MAX];
        answer one;
        length = strcspn(path, ":");
        if (*path != '/' || length + strlen(name) + 2 > sizeof program)
            continue;
        snprintf(program, sizeof program, "%.*s/%s", (int)length, path, name);
        if (access(program, X_OK) == 0 && ask(program, &one, NULL) == FLUX1_OK && worth(&one) > worth(best))
            *best = one;
    }
}

static void ask_path(answer *best)
{
    static const char *const names[] = {"python3", "python3.12", "python3.10"};
    for (size_t n = 0; n < sizeof names / sizeof *names && worth(best) < 2; n++)
        ask_folders(names[n], best);
}

static void tell(char out[TTNN_TEXT], const char *format, ...) __attribute__((format(printf, 2, 3)));

static void tell(char out[TTNN_TEXT], const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(out, TTNN_TEXT, format, ap);
    va_end(ap);
}

static void find_driver(const cards *c, ttnn_part *out)
{
    if (c->driver[0])
        tell(out->found, "tenstorrent %s", c->driver);
    else
        tell(out->missing, "sudo modprobe tenstorrent; if there is no such module, install the driver: "
                           "https://github.com/tenstorrent/tt-kmd");
}

static void find_pages(const cards *c, ttnn_part *out)
{
    const int needed = cards_need_huge_pages(c);
    if (needed == 0)
        tell(out->found, "not needed");
    else if (c->huge_pages >= (uint64_t)needed)
        tell(out->found, "%llu of 1 GiB for %d cards", (unsigned long long)c->huge_pages, needed);
    else
        tell(out->missing,
             "%d of 1 GiB (one a card), %llu are set aside: install tenstorrent-tools "
             "(github.com/tenstorrent/tt-system-tools), boot with hugepagesz=1G hugepages=%d, or switch the IOMMU on",
             needed, (unsigned long long)c->huge_pages, needed);
}

/* Asks the program at this path, or those of this name in PATH. */
static void ask_named(const char *named, ttnn_part *out, answer *a)
{
    flux1_error err = {0};
    if (!strchr(named, '/')) {
        ask_folders(named, a);
        if (a->minor == 0)
            tell(out->missing, "FLUX1_TTNN_PYTHON is %s: there is none of 3.10 or newer in PATH", named);
    } else if (ask(named, a, &err) != FLUX1_OK)
        tell(out->missing, "FLUX1_TTNN_PYTHON is %s", err.message);
    else if (a->minor < 10)
        tell(out->missing, "FLUX1_TTNN_PYTHON is %s, Python %s; 3.10 or 3.12 is needed", a->program, a->version);
}

/* Asks FLUX1_TTNN_PYTHON's, or those in PATH. */
static void find_python(ttnn_part *out, answer *a)
{
    const char *named = getenv("FLUX1_TTNN_PYTHON");
    *a = (answer){0};
    if (named && *named)
        ask_named(named, out, a);
    else
        ask_path(a);
    if (a->minor >= 10)
        tell(out->found, "%s (%s)", a->program, a->version);
    else if (!out->missing[0])
        tell(out->missing, "install Python 3.10 or 3.12, or name one in FLUX1_TTNN_PYTHON: there is none in PATH");
}

static void find_library(const answer *a, ttnn_part *out)
{
    const bool packaged = a->minor == 10 || a->minor == 12;
    if (a->library[0])
        tell(out->found, "%s in %s%s", a->library, a->folder,
             strcmp(a->library, TTNN_TESTED) == 0 ? "" : " (flux1 was tested with " TTNN_TESTED ")");
    else if (packaged)
        tell(out->missing, "%s -m pip install ttnn==" TTNN_TESTED, a->program);
    else
        tell(out->missing,
             "pip install ttnn==" TTNN_TESTED " with a Python 3.10 or 3.12, for which there are packages, and name "
             "it in FLUX1_TTNN_PYTHON");
}

static void find_compiler(const char *root, const answer *a, ttnn_part *out)
{
    char own[PATH_MAX + 16], installed[PATH_MAX];
    snprintf(own, sizeof own, "%s/runtime/sfpi", a->folder);
    snprintf(installed, sizeof installed, "%s" INSTALLED_SFPI, root);
    const char *place = a->folder[0] && file_exists_in(own, COMPILER) ? own
                        : file_exists_in(installed, COMPILER)         ? installed
                                                                      : NULL;
    if (place)
        tell(out->found, "%s", place);
    else
        tell(out->missing,
             "install the vendor's package sfpi: https://github.com/tenstorrent/sfpi/releases (the version "
             "is in ttnn's folder, tt_metal/sfpi-version)");
}

void ttnn_setup_find(const char *root, const cards *c, ttnn_setup *out)
{
    static const char *const names[] = {
#define TTNN_NEED_NAME(id, name) name,
        TTNN_NEEDS(TTNN_NEED_NAME)
#undef TTNN_NEED_NAME
    };
    answer a;
    memset(out, 0, sizeof *out);
    for (int i = 0; i < TTNN_NEED_COUNT; i++)
        out->part[i].name = names[i];
    find_driver(c, &out->part[TTNN_DRIVER]);
    find_pages(c, &out->part[TTNN_PAGES]);
    find_python(&out->part[TTNN_PYTHON], &a);
    find_library(&a, &out->part[TTNN_LIBRARY]);
    find_compiler(root, &a, &out->part[TTNN_COMPILER]);
}

flux1_status ttnn_python_find(ttnn_python *out, flux1_error *err)
{
    ttnn_part python = {0}, library = {0};
    answer a;
    find_python(&python, &a);
    if (python.missing[0])
        return error_set(err, FLUX1_ERR_DEVICE, "device ttnn needs a Python: %s", python.missing);
    find_library(&a, &library);
    if (library.missing[0])
        return error_set(err, FLUX1_ERR_DEVICE, "device ttnn: %s has no ttnn: %s", a.program, library.missing);
    snprintf(out->program, sizeof out->program, "%s", a.program);
    snprintf(out->library, sizeof out->library, "%s", a.library);
    return FLUX1_OK;
}
