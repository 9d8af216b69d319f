/* Orders between the processes of a mesh (mesh/processes.h). The first process leads: before it does something to a
 * session, it sends an order, and the others do the same to theirs (follow.c). In a context of one process nothing is
 * sent. Every order ends with an agreement in all processes, so that one that fails anywhere fails everywhere. */
#ifndef FLUX1_PIPELINE_TEAM_H
#define FLUX1_PIPELINE_TEAM_H

#include "pipeline/context.h"
#include "pipeline/parcel.h"

typedef enum order {
    ORDER_TAKE,    /* session, device, model: the session is opened if it is new, the model too */
    ORDER_RESERVE, /* session, arena bytes of all ranks */
    ORDER_RUN,     /* session, task, what the task reads (tasks.h) */
    ORDER_GIVE,    /* session: what a batch left there is dropped */
    ORDER_PROFILE, /* no session; what becomes of the call's profile (profiling.h) */
    ORDERS
} order;

/* The mesh's ranks that are in this process. */
cut team_ranks(const flux1_context *c);

/* Whether there are processes to send orders to. */
bool team_leads(const flux1_context *c);

/* An order to session `number`, in both directions: what follows is described after it. */
flux1_status team_describe(parcel *p, order *kind, uint64_t *session, flux1_error *err);

/* Leader: sends the order and its large data. After a failure there is nothing to agree about. */
flux1_status team_send(flux1_context *c, const parcel *p);

/* Large data of the order, in all processes. */
flux1_status team_exchange(flux1_context *c, const parcel *p);

/* How the order went, everywhere: `mine` with the context's message is how it went here; the context's message becomes
 * the common one. */
flux1_status team_agree(flux1_context *c, flux1_status mine);

/* The same where this process cannot take part in the order's exchange of data: nobody waits for it. */
flux1_status team_give_up(flux1_context *c, flux1_status mine);

#endif
