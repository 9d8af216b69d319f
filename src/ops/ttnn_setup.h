/* What ttnn, Tenstorrent's library, needs beside the cards: a list of what is there, and of what is missing with the
 * way to get it. */
#ifndef FLUX1_OPS_TTNN_SETUP_H
#define FLUX1_OPS_TTNN_SETUP_H

#include "ops/cards.h"

#define TTNN_TESTED "0.81.1" /* the version that the worker was written and tested for */

enum { TTNN_TEXT = 4096 + 512 }; /* a path, and a sentence about it */

/* id, name */
#define TTNN_NEEDS(X)          \
    X(DRIVER, "kernel driver") \
    X(PAGES, "huge pages")     \
    X(PYTHON, "Python")        \
    X(LIBRARY, "ttnn")         \
    X(COMPILER, "SFPI compiler")

typedef enum ttnn_need {
#define TTNN_NEED_ENUM(id, name) TTNN_##id,
    TTNN_NEEDS(TTNN_NEED_ENUM)
#undef TTNN_NEED_ENUM
        TTNN_NEED_COUNT
} ttnn_need;

typedef struct ttnn_part {
    const char *name;
    char found[TTNN_TEXT];   /* version and place; "" where it is missing */
    char missing[TTNN_TEXT]; /* what to do; "": nothing */
} ttnn_part;

typedef struct ttnn_setup {
    ttnn_part part[TTNN_NEED_COUNT];
} ttnn_setup;

/* The Python is FLUX1_TTNN_PYTHON's (a path, or a name in PATH), else the first in PATH of python3, python3.12 and
 * python3.10 that has ttnn; each is started to ask it. `root` as in cards_find, in front of /opt too. */
void ttnn_setup_find(const char *root, const cards *c, ttnn_setup *out);

/* That Python alone: its path, and the version of its ttnn. FLUX1_ERR_DEVICE says which of the two is missing, and what
 * to do. */
typedef struct ttnn_python {
    char program[TTNN_TEXT], library[64];
} ttnn_python;
flux1_status ttnn_python_find(ttnn_python *out, flux1_error *err);

#endif
