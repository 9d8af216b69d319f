#include "pipeline/team.h"

#include "mesh/processes.h"

cut team_ranks(const flux1_context *c)
{
    int first = 0, count = mesh_ranks(&c->mesh);
    if (c->processes)
        processes_ranks(c->processes, processes_index(c->processes), count, &first, &count);
    return (cut){first, count};
}

bool team_leads(const flux1_context *c) { return c->processes && processes_index(c->processes) == 0; }

flux1_status team_describe(parcel *p, order *kind, uint64_t *session, flux1_error *err)
{
    int number = (int)*kind;
    TRY(parcel_int(p, "the kind of an order", 0, ORDERS - 1, &number, err));
    *kind = (order)number;
    return parcel_u64(p, "a session's number", session, err);
}

flux1_status team_exchange(flux1_context *c, const parcel *p)
{
    for (int i = 0; i < p->bulks; i++)
        TRY(processes_broadcast(c->processes, p->bulk[i].data, p->bulk[i].bytes, &c->error));
    return FLUX1_OK;
}

flux1_status team_send(flux1_context *c, const parcel *p)
{
    TRY(processes_order(c->processes, p->bytes, p->size, &c->error));
    flux1_status st = team_exchange(c, p);
    return st == FLUX1_OK ? st : team_give_up(c, st);
}

flux1_status team_agree(flux1_context *c, flux1_status mine)
{
    const flux1_error here = c->error;
    error_clear(&c->error);
    return processes_agree(c->processes, mine, here.message, &c->error);
}

flux1_status team_give_up(flux1_context *c, flux1_status mine)
{
    processes_abort(c->processes);
    return team_agree(c, mine);
}
