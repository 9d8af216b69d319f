/* Tenstorrent's machines, as the worker (docs/tenstorrent.md) uses them: the mesh of their chips, the links between
 * neighbours, and the form of weights that leaves room for all of FLUX.1. Names are those of `flux1 plan`. */
#ifndef FLUX1_OPS_TTNN_MACHINES_H
#define FLUX1_OPS_TTNN_MACHINES_H

#include "ops/cards.h"
#include "tensor/tiles.h"

/* name, rows and columns of chips, links, form of weights, chip, board as the driver names it, boards on the PCI bus;
 * 0: cards do not tell that it is this machine */
#define TTNN_MACHINES(X)                                    \
    X("wh-n300", 1, 2, 1, TILE_BFP8, WORMHOLE, "n300", 1)   \
    X("wh-1x4", 1, 4, 1, TILE_BF16, WORMHOLE, "", 0)        \
    X("wh-t3k", 2, 4, 1, TILE_BF16, WORMHOLE, "n300", 4)    \
    X("wh-quietbox", 2, 4, 1, TILE_BF16, WORMHOLE, "", 0)   \
    X("wh-loudbox", 2, 4, 1, TILE_BF16, WORMHOLE, "", 0)    \
    X("wh-galaxy", 4, 8, 4, TILE_BF16, WORMHOLE, "", 0)     \
    X("bh-p300", 1, 2, 2, TILE_BF16, BLACKHOLE, "", 0)      \
    X("bh-quietbox2", 2, 2, 2, TILE_BF16, BLACKHOLE, "", 0) \
    X("bh-loudbox", 2, 4, 2, TILE_BF16, BLACKHOLE, "", 0)   \
    X("bh-galaxy", 4, 8, 2, TILE_BF16, BLACKHOLE, "", 0)

typedef struct ttnn_machine {
    const char *name, *device; /* "wh-n300", "ttnn:wh-n300" */
    int rows, cols, links;
    tile_format weights;
    card_chip chip;
    const char *board;
    int boards;
} ttnn_machine;

/* By name. NULL or "": the one that these cards are. FLUX1_ERR_UNSUPPORTED lists the names, and what was found. */
flux1_status ttnn_machine_find(const char *name, const cards *found, const ttnn_machine **out, flux1_error *err);

#endif
