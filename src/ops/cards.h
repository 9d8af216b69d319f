/* Tenstorrent's cards in this machine, as the PCI bus and the vendor's kernel driver (tt-kmd, docs/sysfs-attributes.md)
 * describe them. Nothing is opened. */
#ifndef FLUX1_OPS_CARDS_H
#define FLUX1_OPS_CARDS_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { CARDS_MAX = 64, CARD_TEXT = 48 };

typedef enum card_chip { CARD_OTHER, CARD_GRAYSKULL, CARD_WORMHOLE, CARD_BLACKHOLE } card_chip;

/* A chip on the PCI bus; an n300's second one is behind it. "" where the driver does not tell. */
typedef struct card {
    char bus[CARD_TEXT]; /* "0000:01:00.0" */
    card_chip chip;
    char chip_name[CARD_TEXT]; /* "Wormhole", or of others PCI's number, "0xfeed" */
    int number;                /* of /dev/tenstorrent/N; -1: no driver has it */
    char board[CARD_TEXT];     /* "n300" */
    char serial[CARD_TEXT];
    char firmware[CARD_TEXT]; /* of the bundle: "18.4.0.0" */
    bool translated;          /* the IOMMU translates its addresses: it needs no huge pages */
    char problem[256];        /* why it cannot be used; "": nothing is known */
} card;

typedef struct cards {
    int count;
    card card[CARDS_MAX];   /* in the order of `bus` */
    char driver[CARD_TEXT]; /* version of the loaded driver; "": none */
    uint64_t huge_pages;    /* of 1 GiB, that the machine has set aside */
} cards;

/* `root` is put in front of /sys and /dev: "" but in tests. A machine without a PCI bus has no cards.
 * FLUX1_ERR_MEMORY. */
flux1_status cards_find(const char *root, cards *out, flux1_error *err);

/* Cards that the CPU reaches through huge pages, of 1 GiB each: Wormholes whose addresses are not translated. */
int cards_need_huge_pages(const cards *c);

#endif
