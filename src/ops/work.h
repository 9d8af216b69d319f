/* What a call takes, from its arguments alone: work_<entry>(o, …) has the entry's own arguments and gives its event
 * (ops.h) without `arena`; for entries that return a status. What they give back (an activation, a weight) is read, so
 * the call comes first. The dry run's events are these, and a profile's (profile.h). o->cell must be set. */
#ifndef FLUX1_OPS_WORK_H
#define FLUX1_OPS_WORK_H

#include "ops/ops.h"

#define OPS_DECLARE_WORK_void(name, args)
#define OPS_DECLARE_WORK_size_t(name, args)
#define OPS_DECLARE_WORK_flux1_status(name, args) ops_event work_##name args;
#define OPS_DECLARE_WORK(ret, name, args, call) OPS_DECLARE_WORK_##ret(name, args)
OPS_PRIMITIVES(OPS_DECLARE_WORK)
OPS_COMPOSITES(OPS_DECLARE_WORK)
#undef OPS_DECLARE_WORK

/* Bytes of a value of each role, for o->cell. */
void work_cells(const ops_config *c, const ops_sizing *sizing, size_t cell[ACT_ROLES]);

#endif
