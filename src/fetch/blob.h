/* One blob being fetched: BLOBS/ETAG.incomplete grows from its beginning, as that of huggingface_hub did up to 1.0, so
 * that either program can go on where the other stopped (2.4 has a new name in each run, and goes on from nothing).
 * Several parts are fetched at once; those that are ahead wait in memory. When all is there and the checksum is right,
 * the file gets its name. */
#ifndef FLUX1_FETCH_BLOB_H
#define FLUX1_FETCH_BLOB_H

#include "fetch/digest.h"
#include "fetch/http.h"
#include "fetch/place.h"

#define BLOB_PART ((int64_t)8 << 20) /* bytes of one request */
#define BLOB_PARTS 12                /* at most, under way or waiting in memory, of all blobs together */

typedef struct blob blob;

typedef struct blob_part {
    blob *owner;
    bool used;
    int64_t begin, end;   /* of the file, end excluded; INT64_MAX: to wherever it ends */
    int64_t at;           /* next byte to come */
    unsigned char *ahead; /* bytes begin … at, while the file is shorter than begin; else NULL */
    http_call call;
} blob_part;

typedef enum blob_state {
    BLOB_WAITING, /* not opened yet, perhaps because another process is at it */
    BLOB_OPEN,
    BLOB_DONE
} blob_state;

struct blob {
    /* of the caller */
    const fetch_libraries *lib;
    const char *name; /* for messages: a file of the repository that is this blob */
    char etag[HTTP_ETAG_MAX];
    int64_t size; /* -1: not known before it is fetched */
    char *url;
    const char *token; /* for url; NULL: none */
    bool direct;       /* url is the hub's own: its replies have the ETag */
    void (*refused)(blob *b, const http_call *c, http_outcome outcome); /* a part failed for good */
    void (*wait)(http_call *c, double seconds);
    void *user;

    /* of blob.c */
    blob_state state;
    bool kept;   /* it was there, whole, before */
    bool placed; /* … in the snapshot itself, as files; of the caller */
    bool busy;   /* another process had the lock; of the caller */
    bool stale;  /* url is used up: the caller gives another one and clears this */
    bool anew;   /* it was damaged once and is fetched from its beginning */
    bool single; /* the server sends no parts */
    bool parted; /* the server has sent a part */
    int file, lock;
    char *path, *incomplete;
    int64_t written, hashed, planned; /* bytes in the file; of those, hashed; where the next part begins */
    int64_t received;                 /* bytes that came from the server in this run */
    digest *sum;
    blob_part *part;   /* BLOB_PARTS of them while it is open */
    flux1_error error; /* what a reply had that stops everything */
};

/* Looks, without the lock, at what is there: BLOB_DONE if it is whole, else how much is written. FLUX1_ERR_MEMORY. */
flux1_status blob_look(blob *b, const place *p, flux1_error *err);

/* Takes the lock and looks again: BLOB_OPEN or BLOB_DONE; *busy if another process has the lock. After blob_look. */
flux1_status blob_open(blob *b, const place *p, bool *busy, flux1_error *err);

/* Begins the next part's request, if one may begin; false if not. `room`: parts that all blobs may still have. */
bool blob_ask(blob *b, http *h, int room);

/* Hashes some of what has come, and finishes the blob when all is there: BLOB_DONE. *more: there is more to hash now.
 * FLUX1_ERR_FORMAT if the checksum is wrong the second time. */
flux1_status blob_work(blob *b, bool *more, flux1_error *err);

int blob_parts(const blob *b);    /* in use */
int blob_requests(const blob *b); /* under way */

void blob_drop(blob *b, http *h); /* stops; what was written stays, to go on from */
void blob_free(blob *b);          /* after blob_drop */

#endif
