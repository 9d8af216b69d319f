/* Answers that tell of a job while it runs: server-sent events. */
#ifndef FLUX1_SERVER_STREAM_H
#define FLUX1_SERVER_STREAM_H

#include "server/exchange.h"

/* What a client has been told so far. */
typedef struct stream_place {
    bool begun;
    unsigned version;
    int preview, pictures;
} stream_place;

/* Writes the events that the place lacks, and moves it on. The lock is held (and may be let go of meanwhile); the job
 * has not been told of as it is now. False: these were the last. */
typedef bool stream_tell(server *s, job *j, stream_place *place, builder *out);

/* Takes the caller's reference. cancels: the job ends with the client. */
void answer_stream(exchange *x, job *j, stream_tell *tell, bool cancels);

/* "event: NAME\ndata: TEXT\n\n" */
void stream_event(builder *out, const char *name, json_writer *w);

#endif
