/* A step of a plan drawn over time, as SVG. */
#ifndef FLUX1_TOOLS_TIMELINE_H
#define FLUX1_TOOLS_TIMELINE_H

#include "tools/cost.h"

typedef struct timeline_span {
    cost_part part;
    bool hidden; /* an exchange behind computing */
    double begin, end;
    int block; /* index of its name; −1: none */
} timeline_span;

typedef struct timeline {
    timeline_span *span;
    size_t count, capacity;
    char (*block)[96]; /* names, in order of their first span */
    int blocks, block_capacity;
    double origin; /* of the clock when the step began */
    bool failed;   /* out of memory: timeline_write says so */
} timeline;

/* A cost_listener; user: a timeline. */
void timeline_hear(void *timeline, cost_part part, const char *operation, const char *block, double begin, double end);

/* FLUX1_ERR_ARGUMENT unless the name ends in .svg, FLUX1_ERR_IO where it cannot be written. */
flux1_status timeline_check(const char *path, flux1_error *err);

/* The file, under a temporary name until it is complete. */
flux1_status timeline_write(const timeline *t, const char *title, const char *path, flux1_error *err);
void timeline_free(timeline *t);

#endif
