/* What ranks are asked to do: one row a body of a stage (stages.h). Stages call task_run, never mesh_run. */
#ifndef FLUX1_PIPELINE_TASKS_H
#define FLUX1_PIPELINE_TASKS_H

#include "pipeline/context.h"
#include "pipeline/stages.h"

/* name, body */
#define TASK_MAP(X)                        \
    X(CLIP, clip_body)                     \
    X(T5, t5_body)                         \
    X(DIT_OPEN, dit_open_body)             \
    X(DIT_START, dit_start_body)           \
    X(DIT_STEP, dit_step_body)             \
    X(DIT_STEP_END, dit_step_end_body)     \
    X(DIT_WHOLE_STEP, dit_whole_step_body) \
    X(DIT_LATENT, dit_latent_body)         \
    X(VAE_DECODE, vae_decode_body)         \
    X(VAE_ENCODE, vae_encode_body)

typedef enum task {
#define TASK_ENUM(name, body) TASK_##name,
    TASK_MAP(TASK_ENUM)
#undef TASK_ENUM
        TASKS
} task;

mesh_body *task_body(task t);

/* Runs the task on all ranks of the session: mesh_run. job: the body's. */
flux1_status task_run(flux1_context *c, session *s, task t, void *job);

#endif
