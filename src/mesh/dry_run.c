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

/* Where a rank is. */
typedef struct rank_place {
    cut here;    /* ranks of the same process */
    int threads; /* of all of them */
} rank_place;

static rank_place place_of(const mesh_config *c, const mesh_device *d, int rank)
{
    int first = 0, count = mesh_ranks(c), threads = d->config.threads, i = -1;
    if (d->processes) {
        do
            processes_ranks(d->processes, ++i, mesh_ranks(c), &first, &count);
        while (rank >= first + count);
        threads = processes_info(d->processes, i)->threads;
    } else if (d->together) {
        first = rank - rank % d->together;
        count = (int)i64_min(d->together, count - first);
    }
    return (rank_place){{first, count}, threads};
}

cut mesh_together(const mesh_config *c, const mesh_device *d, int rank) { return place_of(c, d, rank).here; }

/* Of the ranks first, first + step … (`size`), those in other processes. */
static int away(cut here, int first, int step, int size)
{
    int n = 0;
    for (int r = first; size-- > 0; r += step)
        n += r < here.begin || r >= here.begin + here.count;
    return n;
}

static flux1_status create_comms(mesh *m, cut here)
{
    int of_sp = away(here, m->tp_rank, m->tp, m->sp), of_tp = away(here, m->sp_rank * m->tp, 1, m->tp);
    TRY(comm_dry_create(m->o, "sp", m->sp, m->sp_rank, of_sp, &m->sp_comm));
    TRY(comm_dry_create(m->o, "tp", m->tp, m->tp_rank, of_tp, &m->tp_comm));
    return comm_dry_create(m->o, "all", m->ranks, m->rank, away(here, 0, 1, m->ranks), &m->all);
}

flux1_status mesh_dry_run(const mesh_config *c, const mesh_device *d, int rank, mesh_body *body, void *arg,
                          ops_count *count, flux1_error *err)
{
    flux1_status st;
    mesh m = {.err = err, .bfp8 = d->config.bfp8};
    mesh_set_rank(&m, c, rank);
    ops_config config = d->config;
    config.err = err;
    const rank_place place = place_of(c, d, rank);
    config.threads = (int)i64_max(1, place.threads / place.here.count);
    TRY_CLEANUP(ops_dry_create(&config, d->kind->sizing, &m.o));
    TRY_CLEANUP(create_comms(&m, place.here));
    TRY_CLEANUP(body(arg, &m));
    *count = *ops_dry_count(m.o);
cleanup:
    destroy_comms(&m);
    if (m.o)
        ops_destroy(m.o);
    return st;
}
