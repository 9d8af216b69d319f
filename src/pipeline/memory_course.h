/* What a process has in memory at the most over a request, and over later ones: a stage leaves something behind where
 * there is room, prepared weights and what it has touched of its arena. */
#ifndef FLUX1_PIPELINE_MEMORY_COURSE_H
#define FLUX1_PIPELINE_MEMORY_COURSE_H

#include "pipeline/memory.h"

/* beside: a plan at the same time; NULL: none. */
typedef struct memory_stage {
    const mesh_device *device;
    const stage_plan *plan, *beside;
} memory_stage;

enum { MEMORY_STAGES = 4 };

typedef struct memory_course {
    uint64_t first, later; /* bytes of the host's memory: of the first request, and of those behind it */
} memory_course;

/* Of `count` stages (MEMORY_STAGES at most) in their order; those on a device with memory of its own count with what is
 * compared with its limit. Ranks are in one process; of several processes nothing is known to stay. */
memory_course memory_over(const flux1_context *c, const memory_stage *stages, int count);

#endif
