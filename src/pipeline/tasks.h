/* What ranks are asked to do: one row a body of a stage (stages.h), with what the other processes of the mesh must be
 * told of the job. Stages call task_run, never mesh_run. */
#ifndef FLUX1_PIPELINE_TASKS_H
#define FLUX1_PIPELINE_TASKS_H

#include "pipeline/context.h"
#include "pipeline/parcel.h"
#include "pipeline/stages.h"

/* The jobs of a session in a process that follows. */
typedef struct task_jobs {
    text_job text;
    dit_job dit;
    vae_job vae;
} task_jobs;

/* name, body, what describes the job in a parcel, which of task_jobs it is */
#define TASK_MAP(X)                                            \
    X(CLIP, clip_body, describe_clip, text)                    \
    X(T5, t5_body, describe_t5, text)                          \
    X(DIT_OPEN, dit_open_body, describe_open, dit)             \
    X(DIT_START, dit_start_body, describe_start, dit)          \
    X(DIT_STEP, dit_step_body, describe_step, dit)             \
    X(DIT_STEP_END, dit_step_end_body, describe_step, dit)     \
    X(DIT_WHOLE_STEP, dit_whole_step_body, describe_step, dit) \
    X(DIT_LATENT, dit_latent_body, describe_latent, dit)       \
    X(VAE_DECODE, vae_decode_body, describe_decode, vae)       \
    X(VAE_ENCODE, vae_encode_body, describe_encode, vae)

typedef enum task {
#define TASK_ENUM(name, body, describe, job) TASK_##name,
    TASK_MAP(TASK_ENUM)
#undef TASK_ENUM
        TASKS
} task;

mesh_body *task_body(task t);

/* Runs the task on all ranks of the session, in all processes: mesh_run. job: the body's. */
flux1_status task_run(flux1_context *c, session *s, task t, void *job);

/* The same of this process's ranks, where the order has been received. FLUX1_ERR_IO if a file of the weights that the
 * task uses has become shorter since it was opened. */
flux1_status task_run_here(const session *s, task t, void *job, flux1_error *err);

/* In a process that follows: reads from an order which task it is and the job, whose members are then set as the task
 * reads them; its results are NULL, they are the leading process's. The job's model must be there. *job: which one. */
flux1_status task_receive(parcel *p, const struct flux1_model *m, task_jobs *jobs, task *t, void **job,
                          flux1_error *err);

#endif
