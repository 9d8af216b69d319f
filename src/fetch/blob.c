#include "fetch/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH_PIECE ((size_t)1 << 20)
#define HASH_PIECES 16 /* at once: then it is the connections' turn again */

/* ---- the file ---- */

static void forget_parts(blob *b)
{
    for (int i = 0; b->part && i < BLOB_PARTS; i++)
        if (b->part[i].used && !http_busy(&b->part[i].call)) {
            free(b->part[i].ahead);
            http_call_free(&b->part[i].call);
            b->part[i] = (blob_part){0};
        }
}

/* Whether the blob is there whole. One of another size was damaged by somebody: it is fetched again. */
static bool is_there(blob *b)
{
    struct stat info;
    if (stat(b->path, &info) != 0 || !S_ISREG(info.st_mode) || (b->size >= 0 && info.st_size != b->size))
        return false;
    b->size = (int64_t)info.st_size;
    return true;
}

static void close_file(blob *b)
{
    if (b->file >= 0)
        close(b->file);
    place_unlock(b->lock);
    b->file = b->lock = -1;
    digest_end(b->sum);
    b->sum = NULL;
    free(b->part);
    b->part = NULL;
}

static flux1_status open_incomplete(blob *b, flux1_error *err)
{
    struct stat info;
    b->file = open(b->incomplete, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (b->file < 0)
        return error_io(err, b->incomplete, "open");
    if (fstat(b->file, &info) != 0)
        return error_io(err, b->incomplete, "stat");
    if (b->size >= 0 && info.st_size > b->size && ftruncate(b->file, 0) != 0)
        return error_io(err, b->incomplete, "shorten");
    b->written = b->size >= 0 && info.st_size > b->size ? 0 : (int64_t)info.st_size;
    b->planned = b->written;
    b->hashed = 0;
    return FLUX1_OK;
}

flux1_status blob_look(blob *b, const place *p, flux1_error *err)
{
    struct stat info;
    if (!b->path)
        b->path = place_blob(p, b->etag, "");
    if (!b->incomplete)
        b->incomplete = place_blob(p, b->etag, ".incomplete");
    if (!b->path || !b->incomplete)
        return error_oom(err, 0, "a path");
    b->kept = is_there(b);
    if (b->kept)
        b->state = BLOB_DONE;
    else if (stat(b->incomplete, &info) == 0 && (b->size < 0 || info.st_size <= b->size))
        b->written = (int64_t)info.st_size;
    return FLUX1_OK;
}

flux1_status blob_open(blob *b, const place *p, bool *busy, flux1_error *err)
{
    TRY(place_lock(p, b->etag, &b->lock, err));
    *busy = b->lock < 0;
    if (*busy)
        return FLUX1_OK;
    flux1_status st = blob_look(b, p, err);
    if (st == FLUX1_OK && b->state != BLOB_DONE) {
        b->part = calloc(BLOB_PARTS, sizeof *b->part);
        st = b->part ? open_incomplete(b, err) : error_oom(err, BLOB_PARTS * sizeof *b->part, "the parts of a file");
        b->state = st == FLUX1_OK ? BLOB_OPEN : b->state;
    }
    if (b->state != BLOB_OPEN)
        close_file(b);
    return st;
}

static bool append(blob *b, const unsigned char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t n = pwrite(b->file, bytes, count, (off_t)b->written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            error_io(&b->error, b->incomplete, "write");
            return false;
        }
        bytes += n;
        count -= (size_t)n;
        b->written += n;
    }
    return true;
}

/* ---- parts ---- */

int blob_parts(const blob *b)
{
    int n = 0;
    for (int i = 0; b->part && i < BLOB_PARTS; i++)
        n += b->part[i].used;
    return n;
}

int blob_requests(const blob *b)
{
    int n = 0;
    for (int i = 0; b->part && i < BLOB_PARTS; i++)
        n += http_busy(&b->part[i].call);
    return n;
}

/* Parts whose turn has come go into the file; those that are in it whole are let go. */
static bool settle_parts(blob *b)
{
    bool again = true;
    while (again) {
        again = false;
        for (int i = 0; i < BLOB_PARTS; i++) {
            blob_part *p = &b->part[i];
            if (!p->used)
                continue;
            if (p->ahead && p->begin == b->written) {
                if (!append(b, p->ahead, (size_t)(p->at - p->begin)))
                    return false;
                free(p->ahead);
                p->ahead = NULL;
                again = true;
            }
            if (p->at >= p->end && b->written >= p->end && !http_busy(&p->call)) {
                http_call_free(&p->call);
                *p = (blob_part){0};
            }
        }
    }
    return true;
}

static bool keep_ahead(blob_part *p, const unsigned char *bytes, size_t count)
{
    if (!p->ahead && !(p->ahead = malloc((size_t)(p->end - p->begin)))) {
        error_oom(&p->owner->error, (size_t)(p->end - p->begin), "a part of a file");
        return false;
    }
    memcpy(p->ahead + (p->at - p->begin), bytes, count);
    return true;
}

static bool on_bytes(http_call *c, const unsigned char *bytes, size_t count)
{
    blob_part *p = c->user;
    blob *b = p->owner;
    b->received += (int64_t)count;
    if ((int64_t)count > p->end - p->at) {
        error_set(&b->error, FLUX1_ERR_FORMAT, "%s: the server sends more bytes than it said", b->name);
        return false;
    }
    if (p->at < b->written) { /* a server without ranges begins at the beginning */
        int64_t known = b->written - p->at < (int64_t)count ? b->written - p->at : (int64_t)count;
        bytes += known;
        count -= (size_t)known;
        p->at += known;
    }
    if (count > 0 && !(p->at == b->written ? append(b, bytes, count) : keep_ahead(p, bytes, count)))
        return false;
    p->at += (int64_t)count;
    c->from = p->at;
    return settle_parts(b);
}

/* A server that ignores ranges sends the whole file: by one request then. */
static bool take_whole(blob *b, blob_part *p)
{
    const http_reply *r = &p->call.reply;
    const bool alone = blob_parts(b) == 1;
    b->single = true;
    if (!alone)
        return false;
    if (b->size >= 0 && r->length >= 0 && r->length != b->size) {
        error_set(&b->error, FLUX1_ERR_FORMAT,
                  "%s: the hub says it has %" PRId64 " bytes, but the server sends %" PRId64, b->name, b->size,
                  r->length);
        return false;
    }
    if (b->size < 0)
        b->size = r->length;
    p->begin = p->at = 0;
    p->end = b->planned = b->size >= 0 ? b->size : INT64_MAX;
    return true;
}

static bool on_begin(http_call *c)
{
    blob_part *p = c->user;
    blob *b = p->owner;
    const http_reply *r = &c->reply;
    const char *etag = r->linked_etag[0] ? r->linked_etag : r->etag;
    if (b->direct && c->redirects == 0 && etag[0] && strcmp(etag, b->etag) != 0) {
        error_set(&b->error, FLUX1_ERR_FORMAT,
                  "%s: it changed on the server while it was fetched; run it again to fetch the new one", b->name);
        return false;
    }
    if (r->code == 200)
        return take_whole(b, p);
    if (r->code != 206 || r->from != p->at || (b->size >= 0 && r->total >= 0 && r->total != b->size)) {
        error_set(&b->error, FLUX1_ERR_FORMAT,
                  "%s: the server was asked for bytes from %" PRId64 " of %" PRId64
                  ", and answers with HTTP %ld, bytes from %" PRId64 " of %" PRId64,
                  b->name, p->at, b->size, r->code, r->from, r->total);
        return false;
    }
    if (b->size < 0 && r->total >= 0)
        p->end = b->planned = b->size = r->total;
    b->parted = true;
    return true;
}

/* What is here of a file of unknown length ends where the server's does, or beyond it: then it is another one. */
static void on_nothing_more(blob *b, blob_part *p)
{
    if (p->call.reply.total == p->at) {
        b->size = p->end = p->at;
        return;
    }
    if (ftruncate(b->file, 0) != 0)
        error_io(&b->error, b->incomplete, "shorten");
    b->written = b->planned = 0;
    http_call_free(&p->call);
    *p = (blob_part){0};
}

static void on_end(http_call *c, http_outcome outcome)
{
    blob_part *p = c->user;
    blob *b = p->owner;
    if (outcome == HTTP_DONE && p->end == INT64_MAX)
        b->size = p->end = p->at;
    if (outcome == HTTP_STOPPED &&
        b->error.status == FLUX1_OK) { /* an answer of a whole file to one of several parts */
        free(p->ahead);
        http_call_free(c);
        *p = (blob_part){0};
        return;
    }
    if (outcome == HTTP_REFUSED && c->reply.code == 416 && b->size < 0 && p->at > 0)
        on_nothing_more(b, p);
    else if (outcome == HTTP_DONE && p->at < p->end && !c->moved)
        error_set(&b->error, FLUX1_ERR_FORMAT, "%s: the server sends nothing where bytes from %" PRId64 " should be",
                  b->name, p->at);
    else if (outcome == HTTP_REFUSED || outcome == HTTP_FAILED)
        b->refused(b, c, outcome);
    settle_parts(b);
}

static void begin_part(blob *b, blob_part *p, http *h)
{
    http_call *c = &p->call;
    http_call_free(c);
    *c = (http_call){.url = strdup(b->url),
                     .token = b->token,
                     .from = p->at,
                     .to = p->end == INT64_MAX || (p->at == 0 && p->end == b->size) ? -1 : p->end - 1,
                     .attempts_max = 5,
                     .begin = on_begin,
                     .body = on_bytes,
                     .end = on_end,
                     .wait = b->wait,
                     .user = p};
    if (c->url)
        http_begin(h, c);
    else
        error_oom(&b->error, 0, "an address");
}

/* The part that comes next; NULL if there is none now. */
static blob_part *plan_part(blob *b)
{
    const bool first = blob_parts(b) == 0;
    const bool alone = b->single || b->size < 0;
    if (first && b->single) /* parts that came before it was known are gone */
        b->planned = b->written;
    if ((b->size >= 0 && b->planned >= b->size) || (!first && (alone || !b->parted)))
        return NULL;
    for (int i = 0; i < BLOB_PARTS; i++) {
        blob_part *p = &b->part[i];
        if (p->used)
            continue;
        int64_t end = b->size < 0 ? INT64_MAX : b->size;
        if (!alone && end - b->planned > BLOB_PART)
            end = b->planned + BLOB_PART;
        *p = (blob_part){.owner = b, .used = true, .begin = b->planned, .at = b->planned, .end = end};
        b->planned = end;
        return p;
    }
    return NULL;
}

bool blob_ask(blob *b, http *h, int room)
{
    if (b->state != BLOB_OPEN || b->stale || b->error.status != FLUX1_OK)
        return false;
    for (int i = 0; i < BLOB_PARTS; i++)
        if (b->part[i].used && !http_busy(&b->part[i].call) && b->part[i].at < b->part[i].end) {
            begin_part(b, &b->part[i], h);
            return true;
        }
    if (b->single && blob_requests(b) == 0)
        forget_parts(b);
    blob_part *p = room > 0 ? plan_part(b) : NULL;
    if (p)
        begin_part(b, p, h);
    return p != NULL;
}

/* ---- the end ---- */

static flux1_status hash_some(blob *b, flux1_error *err)
{
    static const size_t piece = HASH_PIECE;
    unsigned char *bytes = malloc(piece);
    flux1_status st = bytes ? FLUX1_OK : error_oom(err, piece, "a checksum");
    for (int i = 0; i < HASH_PIECES && st == FLUX1_OK && b->hashed < b->written; i++) {
        const int64_t left = b->written - b->hashed;
        ssize_t n = pread(b->file, bytes, left < (int64_t)piece ? (size_t)left : piece, (off_t)b->hashed);
        if (n > 0) {
            digest_add(b->sum, bytes, (size_t)n);
            b->hashed += n;
        } else if (n == 0 || errno != EINTR)
            st = n == 0 ? error_set(err, FLUX1_ERR_IO, "%s: another program has shortened it", b->incomplete)
                        : error_io(err, b->incomplete, "read");
    }
    free(bytes);
    return st;
}

/* A wrong checksum: once more from the beginning, as what lay there from before may have been damaged. */
static flux1_status begin_anew(blob *b, flux1_error *err)
{
    digest_end(b->sum);
    b->sum = NULL;
    if (b->anew) {
        unlink(b->incomplete);
        b->written = 0;
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: what the server sends does not have the checksum that the hub gives (%s), twice in a row",
                         b->name, b->etag);
    }
    if (ftruncate(b->file, 0) != 0)
        return error_io(err, b->incomplete, "shorten");
    b->anew = true;
    b->written = b->hashed = b->planned = 0;
    return FLUX1_OK;
}

static flux1_status finish(blob *b, flux1_error *err)
{
    if (!digest_matches(b->sum))
        return begin_anew(b, err);
    if (fsync(b->file) != 0)
        return error_io(err, b->incomplete, "write");
    if (rename(b->incomplete, b->path) != 0)
        return error_io(err, b->incomplete, "rename");
    close_file(b);
    b->state = BLOB_DONE;
    return FLUX1_OK;
}

flux1_status blob_work(blob *b, bool *more, flux1_error *err)
{
    *more = false;
    if (b->error.status != FLUX1_OK)
        return error_set(err, b->error.status, "%s", b->error.message);
    if (b->state != BLOB_OPEN || b->size < 0)
        return FLUX1_OK;
    if (!b->sum)
        TRY(digest_begin(b->lib, b->etag, b->size, &b->sum, err));
    TRY(hash_some(b, err));
    *more = b->hashed < b->written;
    if (b->hashed < b->size || blob_parts(b) > 0)
        return FLUX1_OK;
    return finish(b, err);
}

void blob_drop(blob *b, http *h)
{
    for (int i = 0; b->part && i < BLOB_PARTS; i++)
        http_drop(h, &b->part[i].call);
    forget_parts(b);
    close_file(b);
    b->state = b->state == BLOB_OPEN ? BLOB_WAITING : b->state;
}

void blob_free(blob *b)
{
    free(b->url);
    free(b->path);
    free(b->incomplete);
    *b = (blob){0};
}
