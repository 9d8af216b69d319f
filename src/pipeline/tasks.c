#include "pipeline/tasks.h"

typedef struct task_row {
    mesh_body *body;
} task_row;

static const task_row ROWS[TASKS] = {
#define ROW(name, body) {body},
    TASK_MAP(ROW)
#undef ROW
};

mesh_body *task_body(task t) { return ROWS[t].body; }

flux1_status task_run(flux1_context *c, session *s, task t, void *job)
{
    return mesh_run(s->mesh, ROWS[t].body, job, &c->error);
}
