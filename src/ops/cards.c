#include "ops/cards.h"

#include "base/file.h"
#include "base/listing.h"
#include "base/sysfile.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VENDOR 0x1e52
#define PCI_DEVICES "/sys/bus/pci/devices"
#define GIGABYTE_PAGES "/sys/kernel/mm/hugepages/hugepages-1048576kB"

static const struct chip_row {
    unsigned long number;
    card_chip chip;
    const char *name;
} chips[] = {
    {0xfaca, CARD_GRAYSKULL, "Grayskull"}, {0x401e, CARD_WORMHOLE, "Wormhole"}, {0xb140, CARD_BLACKHOLE, "Blackhole"}};

/* False for a path longer than any of these is. */
static bool path_of(char out[SYSFILE_PATH], const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool path_of(char out[SYSFILE_PATH], const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    const int length = vsnprintf(out, SYSFILE_PATH, format, ap);
    va_end(ap);
    return length >= 0 && length < SYSFILE_PATH;
}

/* The first line of a file, cut to the room there is; "" where there is none. */
static void read_text(const char *folder, const char *name, char *out, size_t room)
{
    sysfile f;
    out[0] = '\0';
    if (!sysfile_open(&f, folder, name))
        return;
    const char *line = sysfile_line(&f);
    snprintf(out, room, "%s", line ? line : "");
    sysfile_close(&f);
}

static unsigned long read_hexadecimal(const char *folder, const char *name)
{
    char text[CARD_TEXT];
    read_text(folder, name, text, sizeof text);
    return strtoul(text, NULL, 16);
}

/* The N of `folder`/tenstorrent/tenstorrent!N, which the driver makes; −1 if it does not. */
static flux1_status find_number(const char *folder, int *out, flux1_error *err)
{
    char path[SYSFILE_PATH];
    listing names = {0};
    flux1_error none = {0};
    *out = -1;
    if (!path_of(path, "%s/tenstorrent", folder) || listing_read(path, &names, &none) != FLUX1_OK)
        return error_pass_memory(&none, err);
    for (size_t i = 0; i < names.count; i++) {
        int number, end = 0;
        if (sscanf(names.name[i], "tenstorrent!%6d%n", &number, &end) == 1 && !names.name[i][end] && number >= 0)
            *out = number;
    }
    listing_free(&names);
    return FLUX1_OK;
}

static void describe_chip(const char *folder, card *c)
{
    const unsigned long number = read_hexadecimal(folder, "/device");
    c->chip = CARD_OTHER;
    snprintf(c->chip_name, sizeof c->chip_name, "0x%04lx", number);
    for (size_t i = 0; i < sizeof chips / sizeof *chips; i++)
        if (chips[i].number == number) {
            c->chip = chips[i].chip;
            snprintf(c->chip_name, sizeof c->chip_name, "%s", chips[i].name);
        }
    char domain[CARD_TEXT];
    read_text(folder, "/iommu_group/type", domain, sizeof domain);
    c->translated = strncmp(domain, "DMA", 3) == 0;
}

/* What the driver tells of it, and whether this user may open it. */
static void describe_node(const char *root, const char *folder, card *c)
{
    char path[SYSFILE_PATH], node[CARD_TEXT];
    if (!path_of(path, "%s/tenstorrent/tenstorrent!%d", folder, c->number))
        return;
    read_text(path, "/tt_card_type", c->board, sizeof c->board);
    read_text(path, "/tt_serial", c->serial, sizeof c->serial);
    read_text(path, "/tt_fw_bundle_ver", c->firmware, sizeof c->firmware);
    snprintf(node, sizeof node, "/dev/tenstorrent/%d", c->number);
    if (!path_of(path, "%s%s", root, node) || access(path, R_OK | W_OK) == 0)
        return;
    if (errno == ENOENT)
        snprintf(c->problem, sizeof c->problem,
                 "%s is not here: in a container it has to be passed on (docker run --device %s)", node, node);
    else
        snprintf(c->problem, sizeof c->problem, "%s may not be opened: %s", node, strerror(errno));
}

static flux1_status describe(const char *root, const char *folder, card *c, flux1_error *err)
{
    describe_chip(folder, c);
    TRY(find_number(folder, &c->number, err));
    if (c->number >= 0)
        describe_node(root, folder, c);
    else
        snprintf(c->problem, sizeof c->problem, "no driver has it");
    if (!c->problem[0] && c->chip != CARD_WORMHOLE && c->chip != CARD_BLACKHOLE)
        snprintf(c->problem, sizeof c->problem, "ttnn does not run on this chip; it does on Wormhole and Blackhole");
    return FLUX1_OK;
}

static flux1_status describe_all(const char *root, const listing *names, cards *out, flux1_error *err)
{
    char folder[SYSFILE_PATH];
    for (size_t i = 0; i < names->count && out->count < CARDS_MAX; i++) {
        if (!path_of(folder, "%s" PCI_DEVICES "/%s", root, names->name[i]) ||
            read_hexadecimal(folder, "/vendor") != VENDOR)
            continue;
        card *c = &out->card[out->count++];
        *c = (card){0};
        snprintf(c->bus, sizeof c->bus, "%s", names->name[i]);
        TRY(describe(root, folder, c, err));
    }
    return FLUX1_OK;
}

static void find_driver(const char *root, cards *out)
{
    char path[SYSFILE_PATH];
    if (!path_of(path, "%s/sys/module/tenstorrent", root))
        return;
    read_text(path, "/version", out->driver, sizeof out->driver);
    if (!out->driver[0] && file_is_directory(path))
        snprintf(out->driver, sizeof out->driver, "of unknown version");
    if (!path_of(path, "%s" GIGABYTE_PAGES, root) || !sysfile_only(path, "/nr_hugepages", &out->huge_pages))
        out->huge_pages = 0;
}

flux1_status cards_find(const char *root, cards *out, flux1_error *err)
{
    char path[SYSFILE_PATH];
    listing names = {0};
    flux1_error none = {0};
    memset(out, 0, sizeof *out);
    find_driver(root, out);
    if (!path_of(path, "%s" PCI_DEVICES, root) || listing_read(path, &names, &none) != FLUX1_OK)
        return error_pass_memory(&none, err);
    flux1_status st = describe_all(root, &names, out, err);
    listing_free(&names);
    return st;
}

int cards_need_huge_pages(const cards *c)
{
    int count = 0;
    for (int i = 0; i < c->count; i++)
        count += c->card[i].chip == CARD_WORMHOLE && !c->card[i].translated;
    return count;
}
