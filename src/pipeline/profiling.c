#include "pipeline/profiling.h"

#include "mesh/processes.h"
#include "mesh/trace.h"
#include "pipeline/session.h"
#include "pipeline/team.h"

#include <stdlib.h>

typedef enum phase { PHASE_BEGIN, PHASE_COLLECT, PHASE_END, PHASES } phase;

/* Of this process's ranks. */
static flux1_status begin_here(flux1_context *c)
{
    cut mine = team_ranks(c);
    return profile_create(mesh_ranks(&c->mesh), (int)mine.begin, (int)mine.count, &c->profile, &c->error);
}

static void end_here(flux1_context *c)
{
    for (session *s = c->sessions; s; s = s->next)
        mesh_profile(s->mesh, NULL);
    profile_destroy(c->profile);
    c->profile = NULL;
}

/* ---- the leader ---- */

static flux1_status describe(parcel *p, phase *what, flux1_error *err)
{
    int number = (int)*what;
    TRY(parcel_int(p, "what becomes of a profile", 0, PHASES - 1, &number, err));
    *what = (phase)number;
    return FLUX1_OK;
}

static flux1_status order_phase(flux1_context *c, phase what)
{
    parcel *p = c->order;
    order kind = ORDER_PROFILE;
    uint64_t none = 0;
    parcel_begin(p);
    TRY(team_describe(p, &kind, &none, &c->error));
    TRY(describe(p, &what, &c->error));
    return team_send(c, p);
}

/* How the order went here; after a failure nobody waits for data of it. */
static flux1_status end_of_phase(flux1_context *c, flux1_status st)
{
    return st == FLUX1_OK ? team_agree(c, st) : team_give_up(c, st);
}

static flux1_status take_rank(flux1_context *c, int process, int rank, double offset)
{
    uint64_t size = 0;
    TRY(processes_bring(c->processes, process, &size, sizeof size, &c->error));
    if (size > profile_packed_most())
        return error_set(&c->error, FLUX1_ERR_COMM, "rank %d has a profile of %llu bytes: %zu is the most", rank,
                         (unsigned long long)size, profile_packed_most());
    void *packed = malloc(size + 1);
    if (!packed)
        return error_oom(&c->error, size, "a rank's profile");
    flux1_status st = processes_bring(c->processes, process, packed, size, &c->error);
    if (st == FLUX1_OK)
        st = profile_unpack(c->profile, rank, packed, size, offset, &c->error);
    free(packed);
    return st;
}

static flux1_status take_all(flux1_context *c)
{
    for (int i = 1; i < processes_count(c->processes); i++) {
        int first, count;
        double offset;
        TRY(processes_clock(c->processes, i, &offset, &c->error));
        processes_ranks(c->processes, i, mesh_ranks(&c->mesh), &first, &count);
        for (int r = first; r < first + count; r++)
            TRY(take_rank(c, i, r, offset));
    }
    return FLUX1_OK;
}

flux1_status profiling_begin(flux1_context *c)
{
    if (!team_leads(c))
        return begin_here(c);
    TRY(order_phase(c, PHASE_BEGIN));
    return end_of_phase(c, begin_here(c));
}

flux1_status profiling_write(flux1_context *c, const char *path)
{
    char sentence[900];
    if (team_leads(c)) {
        TRY(order_phase(c, PHASE_COLLECT));
        TRY(end_of_phase(c, take_all(c)));
    }
    TRY(trace_write(c->profile, &c->mesh, path, &c->error));
    trace_sentence(c->profile, sentence, sizeof sentence);
    context_log(c, FLUX1_LOG_INFO, "profile in %s: %s", path, sentence);
    return FLUX1_OK;
}

/* What can fail here is told by the next order; the message of what failed before stays. */
void profiling_end(flux1_context *c)
{
    if (!c->profile)
        return;
    const flux1_error before = c->error;
    if (team_leads(c) && order_phase(c, PHASE_END) == FLUX1_OK)
        team_agree(c, FLUX1_OK);
    end_here(c);
    c->error = before;
}

/* ---- processes that follow ---- */

static flux1_status bring_rank(flux1_context *c, int rank)
{
    int me = processes_index(c->processes);
    uint64_t size = profile_packed_bytes(c->profile, rank);
    void *packed = malloc(size);
    if (!packed)
        return error_oom(&c->error, size, "a rank's profile");
    profile_pack(c->profile, rank, packed);
    flux1_status st = processes_bring(c->processes, me, &size, sizeof size, &c->error);
    if (st == FLUX1_OK)
        st = processes_bring(c->processes, me, packed, size, &c->error);
    free(packed);
    return st;
}

static flux1_status bring_all(flux1_context *c)
{
    cut mine = team_ranks(c);
    if (!c->profile)
        return error_set(&c->error, FLUX1_ERR_COMM, "the leading process asks for a profile that it did not order");
    for (int64_t r = mine.begin; r < mine.begin + mine.count; r++)
        TRY(bring_rank(c, (int)r));
    return FLUX1_OK;
}

static flux1_status follow_phase(flux1_context *c, parcel *p)
{
    phase what = PHASE_END;
    TRY(describe(p, &what, &c->error));
    TRY(parcel_end(p, &c->error));
    if (what == PHASE_COLLECT)
        return bring_all(c);
    end_here(c);
    return what == PHASE_BEGIN ? begin_here(c) : FLUX1_OK;
}

void profiling_follow(flux1_context *c, parcel *p)
{
    if (end_of_phase(c, follow_phase(c, p)) != FLUX1_OK)
        end_here(c); /* the leader's call has failed */
}
