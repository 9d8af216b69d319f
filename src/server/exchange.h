/* One HTTP request and its answer, as the interfaces see them: a body that has come whole, and one of the answers
 * below. A handler answers at once; or it lets the errands' thread go on, where it may also wait for a job. */
#ifndef FLUX1_SERVER_EXCHANGE_H
#define FLUX1_SERVER_EXCHANGE_H

#include "server/inside.h"

struct MHD_Connection;
struct MHD_Response;

#define ARGUMENT_ROOM 128

typedef struct exchange exchange;
typedef void exchange_fn(exchange *x);

struct exchange {
    server *server;
    struct MHD_Connection *connection;
    exchange_fn *handler;         /* NULL: refused */
    char argument[ARGUMENT_ROOM]; /* what stands for * in the route's path */
    builder body;
    size_t limit, discarded; /* bytes of the body that may come; that came after a refusal */
    fault refusal;
    char allow[64];       /* methods that the path has, where it has not the request's; else "" */
    bool refuses_at_once; /* the body is not worth waiting for */
    bool shares;          /* with a page of another host: its Origin, which the answer names */
    bool answered;
    bool lost;                     /* there was no memory for the answer */
    int status;                    /* of the answer */
    struct MHD_Response *response; /* that waits until the library's thread has the request again; NULL: none */
    double began;
    char method[12], path[256]; /* for the log, cut */
    exchange_fn *aside;         /* what an errands' thread does of it; NULL: nothing */
    errands *by;                /* that thread */
    bool left;                  /* that thread got the request */
    bool away;                  /* that thread has it now, and the connection is suspended */
    errand errand;
    waiter wait;
    job *job; /* that it waits for, with a reference */
    exchange_fn *finish;
};

/* What a client may say in the query: "limit" of /api/jobs?limit=5. NULL: nothing. */
const char *exchange_query(const exchange *x, const char *key);
const char *exchange_header(const exchange *x, const char *key);

/* The body as a JSON object; free it. False: refused. */
bool exchange_json(exchange *x, json_value **out);

int exchange_socket(struct MHD_Connection *connection); /* -1: unknown */

/* ---- answers: exactly one ---- */

void answer_fault(exchange *x, const fault *f);
void answer_json(exchange *x, int status, json_writer *w);               /* takes the text; JSON_LINE */
void answer_text(exchange *x, int status, const char *type, char *text); /* malloc'd, taken; NULL: out of memory */
/* 200 with a page of HTML, which stays where it is. policy: its Content-Security-Policy */
void answer_page(exchange *x, const char *bytes, size_t count, const char *policy);
void answer_nothing(exchange *x); /* 204 */
/* 204 with what a page of another host may ask of this path: x->allow, and the headers that it names. */
void answer_preflight(exchange *x);
/* name: for a "save as". The descriptor is taken. */
void answer_file(exchange *x, int descriptor, uint64_t bytes, const char *type, const char *name);

/* Of any kind: taken; NULL: out of memory. type may be NULL */
void answer_with(exchange *x, int status, struct MHD_Response *response, const char *type);

/* ---- later ---- */

/* The last call of a handler whose further work writes, plans or opens a model: the errands' thread calls `step`, which
 * answers, or calls exchange_wait. */
void exchange_aside(exchange *x, exchange_fn *step);
/* The same where it reads a client's picture and does nothing else: jobs do not wait for that. */
void exchange_aside_reading(exchange *x, exchange_fn *step);
/* The same where it makes a long list and does nothing else: one at a time, and of each connection in turn, so that
 * many of them, which nobody may read, keep nobody waiting but each other. */
void exchange_aside_listing(exchange *x, exchange_fn *step);
/* For such a step. Calls `finish` on one of the library's threads when the job has ended; it answers. If the client
 * hangs up before, the job is cancelled. Takes the caller's reference of the job; x->job in `finish`. */
void exchange_wait(exchange *x, job *j, exchange_fn *finish);

/* ---- for http.c ---- */

void exchange_leave(exchange *x);  /* for x->aside: suspends the connection. From here on it is the other thread's */
void exchange_return(exchange *x); /* the connection goes on: with an answer that waits, or with x->job's end */
void exchange_free_body(exchange *x);
void exchange_end(exchange *x); /* all that it holds */

#endif
