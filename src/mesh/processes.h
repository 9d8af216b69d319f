/* The processes of a mesh that spans several: one program that mpirun or Slurm started several times, on one host or on
 * many. Process 0 leads: it reads requests, plans, prints, and sends orders. The others follow: they carry out orders,
 * one after the other, and print nothing. The mesh's ranks are spread over the processes in order, as evenly as it
 * goes; those of one process are its threads.
 *
 * Two channels join the processes. Bulk data (collectives, broadcasts) goes over MPI, by a plug-in that is opened only
 * here (wire.h). Orders, failures and heartbeats go over connections of our own between the leader and each follower,
 * watched by a thread: so a process that is killed is noticed at once, a host that is silent after PROCESSES_SILENCE
 * seconds, also while kernels run or MPI waits. */
#ifndef FLUX1_MESH_PROCESSES_H
#define FLUX1_MESH_PROCESSES_H

#include "base/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROCESSES_SILENCE = 20, PROCESSES_HEARTBEAT = 2 }; /* seconds */

typedef struct processes processes;

/* Whether a launcher (Open MPI's mpirun, srun) started this program as one of several. From the environment alone. */
bool processes_launched(void);

typedef struct process_info {
    char host[64];
    int pid;
    char version[255]; /* of flux1, and of what the processes must have in common */
    uint64_t memory;   /* bytes of the host's memory that the process may use */
    int cores;         /* of the host */
    int threads;       /* of all the process's ranks together; told as 0: its share of the cores */
    int on_host;       /* number of processes on the same host, itself included */
} process_info;

/* Joins the processes; waits for all of them. mine: what this process tells of itself (on_host is filled in).
 * FLUX1_ERR_UNSUPPORTED if the plug-in or MPI is missing; FLUX1_ERR_COMM if processes of different versions meet, or
 * one does not answer: the sentence names the process and its host. */
flux1_status processes_open(const process_info *mine, processes **out, flux1_error *err);

/* The end: followers get no more orders; the leader waits until they have come here too. A follower comes here when
 * processes_next has told it that there are no more; before, it counts as failed. After a failure that cannot be
 * mended it does not wait for anybody, and MPI is left as it is: such a program should leave by _exit, since what MPI
 * does at exit may wait for a process that is gone. NULL is fine. */
void processes_close(processes *p);

/* Whether the processes have failed in a way that cannot be mended. Ask before processes_close. */
bool processes_gone(processes *p);

/* Which process that is, as far as this one has found out by itself; −1: none. */
int processes_lost(processes *p);

int processes_count(const processes *p);
int processes_index(const processes *p); /* 0: this one leads */
const process_info *processes_info(const processes *p, int index);

/* Ranks first … first + count − 1 of `ranks` are those of process `index`. */
void processes_ranks(const processes *p, int index, int ranks, int *first, int *count);

/* ---- orders ---- */

/* Leader: sends an order, of at most some kilobytes, to all followers; does not wait until it is carried out. */
flux1_status processes_order(processes *p, const void *bytes, size_t size, flux1_error *err);

/* Follower: waits for the next order, without using a core. *bytes stays valid until the next call; NULL: there are no
 * more. FLUX1_ERR_COMM if the leader is gone. */
flux1_status processes_next(processes *p, const void **bytes, size_t *size, flux1_error *err);

/* The leader's bytes to all processes; all call it with the same size. */
flux1_status processes_broadcast(processes *p, void *bytes, size_t size, flux1_error *err);

/* A follower's bytes to the leader, within an order: both call it, with the same size. `from`: the follower. */
flux1_status processes_bring(processes *p, int from, void *bytes, size_t size, flux1_error *err);

/* Leader: what is to be added to that process's clock_seconds for this one's, by the quickest of a few round trips; 0
 * where these allow for it, since processes of one host share the clock. */
flux1_status processes_clock(processes *p, int index, double *offset, flux1_error *err);

/* The end of an order: every process says how it went, and all learn the outcome: FLUX1_OK, or the status and the
 * sentence of the process that failed first; where that is another process, the sentence begins with its rank and host.
 * `mine`, `message`: of this process; its failure may follow from another's (FLUX1_ERR_COMM after an abort). After a
 * failure the processes are fit for the next order, unless one is gone: then this and every later call returns
 * FLUX1_ERR_COMM and names it. */
flux1_status processes_agree(processes *p, flux1_status mine, const char *message, flux1_error *err);

/* *flag becomes 1 when another process fails or is cancelled in the order at hand, and in a follower when its leader is
 * gone: what this process computes then nobody wants. Nobody sets it back but the caller. It outlives p. */
void processes_cancels(processes *p, atomic_int *flag);

/* This process has failed or is cancelled in the order at hand: every wait for data of this order, in all processes,
 * returns FLUX1_ERR_COMM soon. From any thread. Ends with processes_agree. */
void processes_abort(processes *p);

#endif
