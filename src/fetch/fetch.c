#include "fetch/fetch.h"

#include "base/builder.h"
#include "base/clock.h"
#include "fetch/blob.h"
#include "fetch/choose.h"
#include "fetch/explain.h"
#include "fetch/metadata.h"
#include "fetch/token.h"
#include "fetch/url.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS 8
#define OPEN_MAX 16 /* blobs at once */
#define TURN_SECONDS 0.1
#define LOCK_SECONDS 0.5 /* between attempts to take a lock that another process has */
#define ADDRESSES_MAX 5  /* of one file: an address that the hub gives ends after a while */

typedef struct fetch fetch;

typedef struct fetch_file {
    fetch *owner;
    const char *path;
    http_call *call; /* while it is asked for; NULL otherwise */
    metadata data;
    bool known;
    int addresses;
    size_t blob; /* where it is among the blobs */
} fetch_file;

struct fetch {
    const fetch_request *q;
    const fetch_libraries *lib;
    fetch_subject subject;
    char *endpoint, *token;
    http *h;
    place place;
    hub_listing list;
    builder page; /* the listing's text while it comes */
    fetch_file *file;
    size_t files;
    blob *blob; /* one for each ETag */
    size_t blobs;
    size_t *source; /* of each blob, the file that its address comes from */
    bool ended;     /* the listing's call */
    uint64_t bytes;
    double lock_time;
    flux1_error failure; /* of a call; the first one counts */
};

static flux1_status check(fetch *f, flux1_error *err)
{
    if (f->q->cancelled && f->q->cancelled(f->q->user))
        return error_set(err, FLUX1_ERR_CANCELLED, "cancelled");
    if (f->failure.status != FLUX1_OK)
        return error_set(err, f->failure.status, "%s", f->failure.message);
    return FLUX1_OK;
}

static void tell(fetch *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(fetch *f, const char *format, ...)
{
    char text[1024];
    va_list ap;
    if (!f->q->note)
        return;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    f->q->note(f->q->user, text);
}

/* ---- the listing ---- */

static bool on_page(http_call *c, const unsigned char *bytes, size_t count)
{
    fetch *f = c->user;
    if (f->page.length + count > LISTING_BYTES_MAX) {
        error_set(&f->failure, FLUX1_ERR_LIMIT, "%s: its list of files is longer than %zu MiB", f->q->name->repository,
                  LISTING_BYTES_MAX >> 20);
        return false;
    }
    builder_add_bytes(&f->page, (const char *)bytes, count);
    return true;
}

static bool on_page_begin(http_call *c)
{
    builder_free(&((fetch *)c->user)->page); /* of an attempt before */
    return true;
}

static void on_page_end(http_call *c, http_outcome outcome)
{
    fetch *f = c->user;
    f->ended = true;
    if (outcome == HTTP_REFUSED || outcome == HTTP_FAILED)
        explain(&f->subject, NULL, c, outcome, &f->failure);
}

static void on_wait(http_call *c, double seconds)
{
    fetch *f = c->user;
    tell(f, "%s; trying again in %.1f s", c->why, seconds);
}

/* Gets api/models/REPOSITORY and what follows into f->page; *code: of the reply. */
static flux1_status get_page(fetch *f, const char *rest, long *code, flux1_error *err)
{
    builder b = {0};
    http_call c = {.token = f->token,
                   .to = -1,
                   .attempts_max = 4,
                   .begin = on_page_begin,
                   .body = on_page,
                   .end = on_page_end,
                   .wait = on_wait,
                   .user = f};
    builder_format(&b, "%s/api/models/%s%s", f->endpoint, f->q->name->repository, rest);
    TRY(builder_take(&b, "an address", &c.url, err));
    f->ended = false;
    http_begin(f->h, &c);
    flux1_status st = FLUX1_OK;
    while (st == FLUX1_OK && !f->ended)
        if ((st = http_turn(f->h, TURN_SECONDS, err)) == FLUX1_OK && !f->ended)
            st = check(f, err);
    http_drop(f->h, &c);
    *code = c.reply.code;
    http_call_free(&c);
    return st == FLUX1_OK ? check(f, err) : st;
}

/* The hub did not say what is missing: if the repository itself is there, it is the revision. */
static void missing_revision(fetch *f, flux1_error *err)
{
    const flux1_error first = f->failure;
    long code;
    error_clear(&f->failure);
    if (get_page(f, "", &code, &f->failure) == FLUX1_OK && code == 200)
        error_set(err, FLUX1_ERR_IO, "%s: it has no branch, tag or commit \"%s\"", f->q->name->repository,
                  f->q->name->revision);
    else
        *err = first;
}

static flux1_status get_listing(fetch *f, flux1_error *err)
{
    builder b = {0};
    char *rest, *text;
    long code = 0;
    builder_add(&b, "/revision/");
    url_quote(&b, f->q->name->revision, "");
    TRY(builder_take(&b, "an address", &rest, err));
    flux1_status st = get_page(f, rest, &code, err);
    free(rest);
    if (st == FLUX1_ERR_IO && code == 404 && strstr(f->failure.message, "no such repository") &&
        strcmp(f->q->name->revision, "main") != 0)
        missing_revision(f, err);
    if (st != FLUX1_OK)
        return st;
    const size_t size = f->page.length;
    TRY(builder_take(&f->page, "a list of files", &text, err));
    st = hub_listing_parse(text, size, f->q->name->repository, &f->list, err);
    free(text);
    if (st == FLUX1_OK && f->list.left_out > 0)
        tell(f, "%s: %zu names in its listing cannot be files here and are left out", f->q->name->repository,
             f->list.left_out);
    return st;
}

static flux1_status choose(fetch *f, flux1_error *err)
{
    const fetch_request *q = f->q;
    bool *chosen = calloc(f->list.count + 1, sizeof *chosen);
    if (!chosen)
        return error_oom(err, f->list.count, "a choice of files");
    flux1_status st =
        choose_files(&f->list, q->name->repository, q->variant, q->patterns, q->pattern_count, chosen, err);
    f->file = st == FLUX1_OK ? calloc(f->list.count + 1, sizeof *f->file) : NULL;
    if (st == FLUX1_OK && !f->file)
        st = error_oom(err, f->list.count * sizeof *f->file, "a list of files");
    for (size_t i = 0; st == FLUX1_OK && i < f->list.count; i++)
        if (chosen[i])
            f->file[f->files++] = (fetch_file){.owner = f, .path = f->list.names[i]};
    free(chosen);
    return st;
}

/* ---- what the hub says of each file ---- */

static void on_metadata(http_call *c, http_outcome outcome)
{
    fetch_file *file = c->user;
    fetch *f = file->owner;
    free(file->data.url);
    file->data.url = NULL;
    if (f->failure.status != FLUX1_OK)
        file->known = false; /* the first failure counts */
    else if (outcome != HTTP_DONE)
        explain(&f->subject, file->path, c, outcome, &f->failure);
    else if (metadata_read(c, file->path, f->list.commit, &file->data, &f->failure) == FLUX1_OK)
        file->known = true;
    file->call = NULL;
    http_call_free(c);
    free(c);
}

static void on_metadata_wait(http_call *c, double seconds)
{
    fetch_file *file = c->user;
    tell(file->owner, "%s: %s; trying again in %.1f s", file->path, c->why, seconds);
}

/* Asks for the metadata of a file, at the commit: its branch may move meanwhile. */
static flux1_status ask_metadata(fetch *f, fetch_file *file, flux1_error *err)
{
    builder b = {0};
    char *url;
    builder_format(&b, "%s/%s/resolve/%s/", f->endpoint, f->q->name->repository, f->list.commit);
    url_quote(&b, file->path, "/");
    TRY(builder_take(&b, "an address", &url, err));
    file->call = malloc(sizeof *file->call);
    if (!file->call) {
        free(url);
        return error_oom(err, sizeof *file->call, "a request");
    }
    *file->call = (http_call){.url = url,
                              .token = f->token,
                              .head = true,
                              .stay = true,
                              .to = -1,
                              .attempts_max = 5,
                              .end = on_metadata,
                              .wait = on_metadata_wait,
                              .user = file};
    file->known = false;
    http_begin(f->h, file->call);
    return FLUX1_OK;
}

static void report(fetch *f, const char *name);

static flux1_status get_metadata(fetch *f, flux1_error *err)
{
    size_t next = 0, ended = 0;
    while (ended < f->files) {
        size_t busy = 0;
        ended = 0;
        for (size_t i = 0; i < next; i++) {
            busy += f->file[i].call != NULL;
            ended += f->file[i].known;
        }
        for (; next < f->files && busy < CONNECTIONS; busy++)
            TRY(ask_metadata(f, &f->file[next++], err));
        report(f, NULL);
        TRY(http_turn(f->h, ended < f->files ? TURN_SECONDS : 0, err));
        TRY(check(f, err));
    }
    return FLUX1_OK;
}

/* ---- blobs ---- */

static void on_refused(blob *b, const http_call *c, http_outcome outcome)
{
    fetch *f = b->user;
    const bool expired =
        outcome == HTTP_REFUSED && c->reply.code >= 400 && c->reply.code < 500 && !url_same_origin(c->url, f->endpoint);
    fetch_file *file = &f->file[f->source[b - f->blob]];
    if (expired && ++file->addresses < ADDRESSES_MAX)
        b->stale = true;
    else if (f->failure.status == FLUX1_OK)
        explain(&f->subject, b->name, c, outcome, &f->failure);
}

static void on_part_wait(http_call *c, double seconds)
{
    const blob *b = ((const blob_part *)c->user)->owner;
    tell(b->user, "%s: %s; trying again in %.1f s", b->name, c->why, seconds);
}

/* The address and the size that the metadata of a file gives. */
static flux1_status set_address(fetch *f, blob *b, fetch_file *file, flux1_error *err)
{
    if (b->etag[0] && strcmp(b->etag, file->data.etag) != 0)
        return error_set(err, FLUX1_ERR_FORMAT,
                         "%s: it changed on the server while it was fetched; run it again to fetch the new one",
                         file->path);
    if (!b->etag[0])
        b->size = file->data.size;
    memcpy(b->etag, file->data.etag, sizeof b->etag);
    free(b->url);
    b->url = file->data.url;
    file->data.url = NULL;
    b->token = url_same_origin(b->url, f->endpoint) ? f->token : NULL;
    b->direct = file->data.direct;
    b->stale = false;
    return FLUX1_OK;
}

/* One blob for each ETag: files of the same content share it. */
static flux1_status make_blobs(fetch *f, flux1_error *err)
{
    f->blob = calloc(f->files + 1, sizeof *f->blob);
    f->source = calloc(f->files + 1, sizeof *f->source);
    if (!f->blob || !f->source)
        return error_oom(err, f->files * sizeof *f->blob, "a list of files");
    for (size_t i = 0; i < f->files; i++) {
        fetch_file *file = &f->file[i];
        size_t j = 0;
        while (j < f->blobs && strcmp(f->blob[j].etag, file->data.etag) != 0)
            j++;
        file->blob = j;
        if (j < f->blobs)
            continue;
        blob *b = &f->blob[f->blobs++];
        *b = (blob){.lib = f->lib, .name = file->path, .refused = on_refused, .wait = on_part_wait, .user = f};
        b->file = b->lock = -1;
        f->source[j] = i;
        TRY(set_address(f, b, file, err));
    }
    return FLUX1_OK;
}

/* Whether all files of a blob lie in the snapshot themselves, as on a file system without symbolic links; then its size
 * is known. */
static bool is_placed(const fetch *f, blob *b)
{
    bool all = true;
    int64_t size = b->size;
    for (size_t i = 0; all && i < f->files; i++)
        all = &f->blob[f->file[i].blob] != b || place_holds(&f->place, f->list.commit, f->file[i].path, &size);
    if (all)
        b->size = size;
    return all;
}

/* What is there already, and whether the rest has room. */
static flux1_status look_at_blobs(fetch *f, flux1_error *err)
{
    uint64_t missing = 0;
    for (size_t i = 0; i < f->blobs; i++) {
        blob *b = &f->blob[i];
        TRY(blob_look(b, &f->place, err));
        if (b->state != BLOB_DONE && is_placed(f, b)) {
            b->kept = b->placed = true;
            b->state = BLOB_DONE;
        }
        if (b->state != BLOB_DONE && b->size > 0 &&
            __builtin_add_overflow(missing, (uint64_t)(b->size - b->written), &missing))
            missing = UINT64_MAX;
    }
    return place_space(&f->place, missing, err);
}

/* Opens the first blobs that are not done, a few at a time; what another process is fetching is asked for again. */
static flux1_status open_blobs(fetch *f, flux1_error *err)
{
    int opened = 0;
    const bool again = clock_seconds() - f->lock_time > LOCK_SECONDS;
    for (size_t i = 0; i < f->blobs && opened < OPEN_MAX; i++) {
        blob *b = &f->blob[i];
        bool busy = false;
        if (b->state == BLOB_WAITING && (again || !b->busy))
            TRY(blob_open(b, &f->place, &busy, err));
        if (busy && !b->busy)
            tell(f, "%s: another process is fetching it; waiting", b->name);
        b->busy = b->busy || busy;
        opened += b->state == BLOB_OPEN;
    }
    if (again)
        f->lock_time = clock_seconds();
    return FLUX1_OK;
}

static void report(fetch *f, const char *name)
{
    fetch_progress now = {.files = f->files, .file = name};
    for (size_t i = 0; i < f->blobs; i++) {
        const blob *b = &f->blob[i];
        now.bytes += b->size > 0 ? (uint64_t)b->size : 0;
        now.present += b->state == BLOB_DONE ? (uint64_t)b->size : (uint64_t)b->written;
        now.received += (uint64_t)b->received;
    }
    for (size_t i = 0; f->blobs > 0 && i < f->files; i++)
        now.files_done += f->blob[f->file[i].blob].state == BLOB_DONE;
    if (f->q->progress)
        f->q->progress(f->q->user, &now);
}

/* A new address for a blob whose old one the server no longer takes. */
static flux1_status renew_address(fetch *f, size_t i, flux1_error *err)
{
    fetch_file *file = &f->file[f->source[i]];
    if (file->call || blob_requests(&f->blob[i]) > 0)
        return FLUX1_OK;
    if (file->known && file->data.url)
        return set_address(f, &f->blob[i], file, err);
    return ask_metadata(f, file, err);
}

/* Begins requests for the first blobs that are not done; the sum of parts bounds the memory. */
static flux1_status ask_parts(fetch *f, flux1_error *err)
{
    int requests = 0, parts = 0;
    for (size_t i = 0; i < f->blobs; i++) {
        requests += blob_requests(&f->blob[i]);
        parts += blob_parts(&f->blob[i]);
    }
    for (size_t i = 0; i < f->blobs; i++) {
        if (f->blob[i].stale)
            TRY(renew_address(f, i, err));
        while (requests < CONNECTIONS) {
            const int before = blob_parts(&f->blob[i]);
            if (!blob_ask(&f->blob[i], f->h, BLOB_PARTS - parts))
                break;
            requests++;
            parts += blob_parts(&f->blob[i]) - before;
        }
    }
    return FLUX1_OK;
}

static flux1_status transfer(fetch *f, flux1_error *err)
{
    TRY(look_at_blobs(f, err));
    for (size_t done = 0; done < f->blobs;) {
        bool more = false;
        const char *name = NULL;
        done = 0;
        for (size_t i = 0; i < f->blobs; i++) {
            bool hash;
            TRY(blob_work(&f->blob[i], &hash, err));
            more = more || hash;
            done += f->blob[i].state == BLOB_DONE;
            name = !name && f->blob[i].state == BLOB_OPEN ? f->blob[i].name : name;
        }
        report(f, name);
        TRY(open_blobs(f, err));
        TRY(ask_parts(f, err));
        TRY(http_turn(f->h, more || done == f->blobs ? 0 : TURN_SECONDS, err));
        TRY(check(f, err));
    }
    return FLUX1_OK;
}

static flux1_status link_files(fetch *f, flux1_error *err)
{
    bool any = false;
    for (size_t i = 0; i < f->files; i++) {
        const fetch_file *file = &f->file[i];
        bool shared = false, plain = false;
        for (size_t k = i + 1; k < f->files; k++)
            shared = shared || f->file[k].blob == file->blob;
        if (!f->blob[file->blob].placed)
            TRY(place_link(&f->place, f->list.commit, file->path, f->blob[file->blob].etag, shared, &plain, err));
        any = any || plain;
    }
    if (any)
        tell(f, "%s: there are no symbolic links on this file system; the files lie in the snapshot itself",
             f->place.root);
    return place_reference(&f->place, f->q->name->revision, f->list.commit, err);
}

/* ---- all of it ---- */

static flux1_status sum_up(fetch *f, fetch_result *out, flux1_error *err)
{
    memcpy(out->commit, f->list.commit, sizeof out->commit);
    out->files = f->files;
    for (size_t i = 0; i < f->blobs; i++) {
        out->bytes += (uint64_t)f->blob[i].size;
        out->bytes_fetched += (uint64_t)f->blob[i].received;
        out->fetched += !f->blob[i].kept;
    }
    out->folder = place_snapshot(&f->place, f->list.commit);
    return out->folder ? FLUX1_OK : error_oom(err, 0, "a path");
}

static flux1_status run(fetch *f, fetch_result *out, flux1_error *err)
{
    TRY(get_listing(f, err));
    TRY(choose(f, err));
    TRY(get_metadata(f, err));
    TRY(make_blobs(f, err));
    TRY(place_make(&f->place, err));
    TRY(transfer(f, err));
    TRY(link_files(f, err));
    return sum_up(f, out, err);
}

static flux1_status open_all(fetch *f, flux1_error *err)
{
    const char *source, *first = getenv("HF_HUB_OFFLINE");
    const char *offline = first && first[0] ? "HF_HUB_OFFLINE" : "TRANSFORMERS_OFFLINE";
    if (hub_is_true(offline))
        return error_set(err, FLUX1_ERR_ARGUMENT, "%s is set to %s: nothing is fetched", offline, getenv(offline));
    TRY(fetch_libraries_load(&f->lib, err));
    TRY(url_endpoint(&f->endpoint, err));
    TRY(token_find(&f->token, &source, err));
    f->subject = (fetch_subject){f->endpoint, f->q->name, f->token ? source : NULL};
    TRY(place_open(f->q->cache_folder, f->q->name, &f->place, err));
    return http_open(f->lib, &f->h, err);
}

static void close_all(fetch *f)
{
    for (size_t i = 0; i < f->blobs; i++)
        blob_drop(&f->blob[i], f->h);
    http_close(f->h);
    for (size_t i = 0; i < f->blobs; i++)
        blob_free(&f->blob[i]);
    for (size_t i = 0; i < f->files; i++) {
        if (f->file[i].call)
            http_call_free(f->file[i].call);
        free(f->file[i].call);
        free(f->file[i].data.url);
    }
    free(f->blob);
    free(f->source);
    free(f->file);
    builder_free(&f->page);
    hub_listing_free(&f->list);
    place_close(&f->place);
    free(f->endpoint);
    free(f->token);
}

/* Bytes of files that are not whole yet. */
static uint64_t unfinished(const fetch *f)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < f->blobs; i++)
        bytes += f->blob[i].state == BLOB_OPEN ? (uint64_t)f->blob[i].written : 0;
    return bytes;
}

flux1_status fetch_repository(const fetch_request *request, fetch_result *out, flux1_error *err)
{
    fetch f = {.q = request};
    *out = (fetch_result){0};
    flux1_status st = open_all(&f, err);
    if (st == FLUX1_OK)
        st = run(&f, out, err);
    if (st != FLUX1_OK && unfinished(&f) > 0)
        error_append(err, "; what has come stays: run it again to go on from there");
    close_all(&f);
    return st;
}
