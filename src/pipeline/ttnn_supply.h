/* What the worker asks for: weights in the form in which cards hold them, and inputs. */
#ifndef FLUX1_PIPELINE_TTNN_SUPPLY_H
#define FLUX1_PIPELINE_TTNN_SUPPLY_H

#include "mesh/script_play.h"
#include "pipeline/ttnn_disk.h"
#include "pipeline/ttnn_worker.h"

typedef struct ttnn_supplies {
    const ttnn_program *program;
    const script_sources *from;
    pool *workers; /* that pack them */
    ttnn_disk disk;
    double bytes, from_disk; /* of weights that were given; of them, those that were packed before */
} ttnn_supplies;

/* A ttnn_supply's give; user: ttnn_supplies. FLUX1_ERR_FORMAT for what the worker may not ask. */
flux1_status ttnn_supplies_give(void *user, ttnn_worker *w, const char *what, const char *keys,
                                char answer[TTNN_ANSWER], flux1_error *err);

#endif
