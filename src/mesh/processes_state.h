/* The inside of processes.h: what processes.c, the protocol, and processes_open.c, joining and leaving, share. */
#ifndef FLUX1_MESH_PROCESSES_STATE_H
#define FLUX1_MESH_PROCESSES_STATE_H

#include "mesh/control.h"
#include "mesh/processes.h"
#include "mesh/span.h"

#include <pthread.h>

enum { WHO_MAX = 160 };
enum { FRAME_ORDER, FRAME_ABORT, FRAME_VOTE, FRAME_OUTCOME, FRAME_GONE, FRAME_BYE, FRAME_CLOCK };

typedef struct vote {
    bool in;
    flux1_status status;
    char *message;
    uint64_t *sent; /* [count] messages, to each process */
} vote;

/* "What time is it?" is sent with a number only, and comes back with the time. */
typedef struct clock_frame {
    uint64_t number;
    double time; /* clock_seconds */
} clock_frame;

typedef struct order {
    struct order *next;
    size_t size;
    unsigned char bytes[];
} order;

struct processes {
    int count, index, ranks;
    process_info *info; /* [count] */
    engine *engine;     /* NULL once it is closed, while the others may still say something */
    control *control;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    order *orders, **orders_end, *current;
    bool over, *left;        /* [count]: has said goodbye */
    uint64_t epoch, aborted; /* aborted: the epoch that was, plus 1; 0: none */
    unsigned generation;
    bool failed; /* the order at hand has; until the next */
    flux1_status status;
    int origin;
    char message[FLUX1_MESSAGE_MAX];
    uint64_t *expected; /* [count] messages, of each process */
    vote *votes;        /* the leader's: [count] */
    int voted, first;   /* first: who failed first; −1: nobody */
    bool gone;
    int lost; /* the process that is; −1: none, or it is not known here */
    char sentence[FLUX1_MESSAGE_MAX];
    char *stage[2];
    clock_frame asked;  /* the leader's: when it was asked last */
    int asked_who;      /* −1: the answer is there */
    double heard, told; /* the answer: when it came, and what it says */
    bool alike;         /* all processes have failed to open in the same way: MPI ends as it should */
    atomic_int *cancel; /* processes_cancels'; may be NULL */
};

/* "rank 2 (process 1 on host b)" */
void processes_name(const processes *p, int index, char who[WHO_MAX]);

/* Nothing works any more. The leader may be at work on its own, and says at its next order what has happened. The lock
 * is held. */
void processes_break_locked(processes *p, const char *sentence);

/* What the engine calls, with the processes, when MPI has failed. */
void processes_wire_failed(void *arg, const char *why);

/* What the connections tell. */
control_events processes_events(processes *p);

#endif
