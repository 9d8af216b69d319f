/* A rank's work on shapes alone: its dry backend, and communicators that tell what they would move. */
#include "mesh/mesh.h"

#include "base/checked.h"
#include "mesh/processes.h"

static void destroy_comms(mesh *m)
{
    comm **all[] = {&m->sp_comm, &m->tp_comm, &m->all};
    for (int i = 0; i < 3; i++) {
        if (*all[i])
            (*all[i])->fn->destroy(*all[i]);
        *all[i] = NULL;
    }
}

/* How many ranks share the threads of that rank's process. */
static int sharing(const mesh_device *d, const mesh *m)
{
    if (!d->processes)
        return m->ranks;
    int first, count = 0, i = 0;
    do
        processes_ranks(d->processes, i++, m->ranks, &first, &count);
    while (m->rank >= first + count);
    return count;
}

flux1_status mesh_dry_run(const mesh_config *c, const mesh_device *d, int rank, mesh_body *body, void *arg,
                          ops_count *count, flux1_error *err)
{
    flux1_status st;
    mesh m = {.err = err};
    mesh_set_rank(&m, c, rank);
    ops_config config = d->config;
    config.err = err;
    config.threads = (int)i64_max(1, config.threads / sharing(d, &m));
    TRY_CLEANUP(ops_dry_create(&config, d->kind->sizing, &m.o));
    TRY_CLEANUP(comm_dry_create(m.o, "sp", m.sp, m.sp_rank, &m.sp_comm));
    TRY_CLEANUP(comm_dry_create(m.o, "tp", m.tp, m.tp_rank, &m.tp_comm));
    TRY_CLEANUP(comm_dry_create(m.o, "all", m.ranks, m.rank, &m.all));
    TRY_CLEANUP(body(arg, &m));
    *count = *ops_dry_count(m.o);
cleanup:
    destroy_comms(&m);
    if (m.o)
        ops_destroy(m.o);
    return st;
}
