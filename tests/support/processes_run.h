/* Tests that mpirun has started several times. */
#ifndef FLUX1_TESTS_SUPPORT_PROCESSES_RUN_H
#define FLUX1_TESTS_SUPPORT_PROCESSES_RUN_H

#include "mesh/mesh.h"
#include "mesh/processes.h"

/* What this process tells of itself; FLUX1_TEST_HOST: another name for its host. */
process_info processes_self(const char *version);

/* Joins the processes, or exits with 1 after the sentence. Only the leader prints to stdout from then on; a follower's
 * goes to stderr if it fails. */
processes *processes_start(const char *version);

/* An order without content: the leader gives it, the others take it. */
void processes_begin(processes *p);

/* A test of the mesh that may run on several processes: those over which it spreads its ranks, NULL for this one alone.
 */
extern processes *test_processes;

/* mesh_run as an order of its own. */
flux1_status run_order(mesh_session *s, mesh_body *body, void *arg, flux1_error *err);

/* Whether a mesh has a rank for each of them. */
bool enough_ranks(const mesh_config *c);

/* Ends the processes and the program; `failed`: what cmocka says. */
void processes_exit(processes *p, int failed);

#endif
