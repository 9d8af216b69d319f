#define _GNU_SOURCE /* nftw */
#include "pipeline/ttnn_worker.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/dialog.h"
#include "base/file.h"
#include "ops/ttnn_setup.h"
#include "pipeline/recording.h"

#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seconds: of silence in which an operation may be at work (a first one is compiled); for a line to be taken; for a
 * cancelled order to come to an end. */
enum { SILENCE = 600, TAKING = 60, CANCELLING = 30, SILENCE_MOST = 86400 };

struct ttnn_worker {
    flux1_context *c;
    dialog *d; /* NULL: ended */
    int silence;
    bool mock;              /* the library computes nothing */
    bool ours;              /* what failed is this side: what the worker asked for could not be given */
    char folder[PATH_MAX];  /* where the library writes what it writes; "": none */
    char done[DIALOG_LINE]; /* what the last order's end said */
    double cancelled;       /* when this order was seen to be cancelled; 0: it is not */
};

/* ---- keys ---- */

bool ttnn_key(const char *keys, const char *key, char out[TTNN_WORD])
{
    const size_t n = strlen(key);
    for (const char *at = keys; *at;) {
        const size_t length = strcspn(at, " ");
        if (length > n && strncmp(at, key, n) == 0 && at[n] == '=') {
            if (length - n - 1 >= TTNN_WORD)
                return false;
            snprintf(out, TTNN_WORD, "%.*s", (int)(length - n - 1), at + n + 1);
            return true;
        }
        at += length + (at[length] == ' ');
    }
    return false;
}

bool ttnn_number(const char *keys, const char *key, int64_t *out)
{
    char word[TTNN_WORD];
    *out = 0;
    if (!ttnn_key(keys, key, word) || !word[0] || strlen(word) > 15)
        return false;
    for (const char *p = word; *p; p++) {
        if (*p < '0' || *p > '9')
            return false;
        *out = *out * 10 + (*p - '0');
    }
    return true;
}

/* ---- its folder ---- */

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *place)
{
    (void)about, (void)kind, (void)place;
    remove(path);
    return 0;
}

static void remove_folder(ttnn_worker *w)
{
    if (w->folder[0])
        nftw(w->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    w->folder[0] = '\0';
}

/* It is gone, with what it had. */
static void drop(ttnn_worker *w, bool gently)
{
    dialog_end(w->d, gently);
    w->d = NULL;
    remove_folder(w);
}

/* ---- what goes wrong ---- */

/* Ends it: behind this it is lost. The message becomes one sentence that names the order and what to do. */
static flux1_status lose(ttnn_worker *w, const char *doing, flux1_status st)
{
    flux1_error *err = &w->c->error;
    const flux1_error before = *err;
    const char *remedy =
        st == FLUX1_ERR_LIMIT ? " and was ended: a card may hang (tt-smi -r resets it); if it only takes longer, set "
                                "FLUX1_TTNN_TIMEOUT to more seconds"
        : st == FLUX1_ERR_IO || st == FLUX1_ERR_FORMAT ? "; flux1 doctor ttnn checks what the library needs"
                                                       : "";
    drop(w, false);
    if (*remedy)
        st = FLUX1_ERR_DEVICE;
    return error_set(err, st, "device ttnn, %s: the worker %s%s", doing, before.message, remedy);
}

static bool is_cancelled(const ttnn_worker *w) { return atomic_load_explicit(&w->c->cancel, memory_order_relaxed); }

/* The next line; the wait is cut short where the request is cancelled. */
static flux1_status hear(ttnn_worker *w, const char **line)
{
    flux1_error *err = &w->c->error;
    for (int waited = 0;; waited++) {
        if (is_cancelled(w) && w->cancelled == 0)
            w->cancelled = clock_seconds();
        if (w->cancelled > 0 && clock_seconds() - w->cancelled > CANCELLING)
            return error_set(err, FLUX1_ERR_CANCELLED, "cancelled");
        const flux1_status st = dialog_hear(w->d, 1, line, err);
        if (st != FLUX1_ERR_LIMIT)
            return st;
        error_clear(err);
        if (waited + 1 >= w->silence)
            return error_set(err, FLUX1_ERR_LIMIT, "has said nothing for %d s", w->silence);
    }
}

/* ---- orders ---- */

/* An answer to what it asks for. */
static flux1_status answer(ttnn_worker *w, const ttnn_supply *supply, const char *what, const char *keys)
{
    char text[TTNN_ANSWER] = "", asked[DIALOG_LINE];
    flux1_error *err = &w->c->error;
    if (is_cancelled(w))
        return dialog_say(w->d, TAKING, err, "cancel");
    snprintf(asked, sizeof asked, "%s", keys);
    const flux1_status st = supply->give(supply->user, w, what, asked, text, err);
    w->ours = st != FLUX1_OK;
    TRY(st);
    return dialog_say(w->d, TAKING, err, "given %s", text);
}

static const char *behind(const char *line, const char *word)
{
    const size_t n = strlen(word);
    return strncmp(line, word, n) == 0 && (!line[n] || line[n] == ' ') ? line + n + (line[n] == ' ') : NULL;
}

/* One line of the worker's. *over: the order has come to an end. */
static flux1_status take(ttnn_worker *w, const ttnn_supply *supply, const char *line, bool *over)
{
    flux1_error *err = &w->c->error;
    const char *rest;
    if (behind(line, "at"))
        return FLUX1_OK;
    if ((rest = behind(line, "warning"))) {
        context_log(w->c, FLUX1_LOG_WARNING, "device ttnn: %s", rest);
        return FLUX1_OK;
    }
    if (supply && (rest = behind(line, "weight")))
        return answer(w, supply, "weight", rest);
    if (supply && (rest = behind(line, "input")))
        return answer(w, supply, "input", rest);
    *over = true;
    if ((rest = behind(line, "done"))) {
        snprintf(w->done, sizeof w->done, "%s", rest);
        return is_cancelled(w) ? error_set(err, FLUX1_ERR_CANCELLED, "cancelled") : FLUX1_OK;
    }
    if (behind(line, "cancelled") && is_cancelled(w))
        return error_set(err, FLUX1_ERR_CANCELLED, "cancelled");
    if ((rest = behind(line, "refused")))
        return error_set(err, FLUX1_ERR_UNSUPPORTED, "says: %s", rest);
    if ((rest = behind(line, "failed")))
        return error_set(err, FLUX1_ERR_DEVICE, "says: %s", rest);
    return error_set(err, FLUX1_ERR_FORMAT, "said \"%.60s\", which is no answer", line);
}

flux1_status ttnn_worker_order(ttnn_worker *w, const ttnn_supply *supply, const char *doing, const char *format, ...)
{
    char order[DIALOG_LINE];
    const char *line;
    bool over = false;
    va_list ap;
    va_start(ap, format);
    vsnprintf(order, sizeof order, format, ap);
    va_end(ap);
    w->done[0] = '\0';
    w->cancelled = 0;
    flux1_status st = dialog_say(w->d, TAKING, &w->c->error, "%s", order);
    while (st == FLUX1_OK && !over)
        if ((st = hear(w, &line)) == FLUX1_OK)
            st = take(w, supply, line, &over);
    if (st == FLUX1_OK || (st == FLUX1_ERR_CANCELLED && over))
        return st;
    if (st == FLUX1_ERR_UNSUPPORTED && over) { /* what it does not make; it is there for what it makes */
        const flux1_error before = w->c->error;
        return error_set(&w->c->error, st, "device ttnn, %s: the worker %s", doing, before.message);
    }
    if (w->ours || st == FLUX1_ERR_CANCELLED) {
        drop(w, false);
        return st;
    }
    return lose(w, doing, st);
}

bool ttnn_worker_lost(const ttnn_worker *w) { return !w->d; }

/* ---- started, ended ---- */

static flux1_status read_silence(ttnn_worker *w)
{
    const char *text = getenv("FLUX1_TTNN_TIMEOUT");
    char *end;
    w->silence = SILENCE;
    if (!text || !*text)
        return FLUX1_OK;
    const long n = strtol(text, &end, 10);
    if (*end || n < 1 || n > SILENCE_MOST)
        return error_set(&w->c->error, FLUX1_ERR_ARGUMENT, "FLUX1_TTNN_TIMEOUT is \"%.40s\": must be seconds, 1 to %d",
                         text, SILENCE_MOST);
    w->silence = (int)n;
    return FLUX1_OK;
}

/* Memory is planned as if this process made no stage. */
static flux1_status check_stages(const char *stages, flux1_error *err)
{
    char all[TTNN_WORD + 2], word[TTNN_WORD];
    snprintf(all, sizeof all, ",%s,", stages);
    for (int i = 0; i < RECORDING_STAGES; i++) {
        snprintf(word, sizeof word, ",%s,", recording_names[i]);
        if (!strstr(all, word))
            return error_set(err, FLUX1_ERR_FORMAT, "does not make stage %s", recording_names[i]);
    }
    return FLUX1_OK;
}

/* "flux1-ttnn 1 library=0.81.1 mock=0 stages=clip,t5,dit.open,dit.step,dit.latent,vae" */
static flux1_status greet(ttnn_worker *w)
{
    const char *line, *keys;
    char word[TTNN_WORD], stages[TTNN_WORD];
    flux1_error *err = &w->c->error;
    int64_t mock;
    flux1_status st = hear(w, &line);
    if (st != FLUX1_OK)
        return st;
    if ((keys = behind(line, "refused")))
        return error_set(err, FLUX1_ERR_DEVICE, "says: %s", keys);
    snprintf(word, sizeof word, "flux1-ttnn %d", TTNN_PROTOCOL);
    keys = behind(line, word);
    if (!keys || !ttnn_number(keys, "mock", &mock) || mock > 1 || !ttnn_key(keys, "stages", stages))
        return error_set(err, FLUX1_ERR_FORMAT, "said \"%.60s\", which is no greeting of version %d", line,
                         TTNN_PROTOCOL);
    w->mock = mock == 1;
    TRY(check_stages(stages, err));
    if (w->mock)
        context_log(w->c, FLUX1_LOG_WARNING,
                    "device ttnn: the library is in mock mode and computes nothing: the picture "
                    "means nothing");
    return FLUX1_OK;
}

static flux1_status open_cards(ttnn_worker *w, const ttnn_machine *m, const mesh_config *shape, tile_format weights)
{
    static const char *const forms[] = {
#define TILE_NAME(id, name, bytes) [TILE_##id] = name,
        TILE_FORMATS(TILE_NAME)
#undef TILE_NAME
    };
    return ttnn_worker_order(w, NULL, "opening the cards", "open shape=%dx%d system=%dx%d links=%d weights=%s trace=%d",
                             shape->shape[0], shape->shape[1], m->rows, m->cols, m->links, forms[weights],
                             !w->c->device.config.eager);
}

flux1_status ttnn_worker_start(flux1_context *c, const ttnn_machine *m, const mesh_config *shape, tile_format weights,
                               ttnn_worker **out)
{
    ttnn_python python;
    ttnn_worker *w = calloc(1, sizeof *w);
    if (!w)
        return error_oom(&c->error, sizeof *w, "the worker");
    w->c = c;
    flux1_status st = read_silence(w);
    if (st == FLUX1_OK)
        st = ttnn_python_find(&python, &c->error);
    if (st == FLUX1_OK)
        st = folder_make_temporary("flux1-ttnn", w->folder, sizeof w->folder, &w->c->error);
    if (st == FLUX1_OK) {
        char path[32];
        snprintf(path, sizeof path, "/proc/self/fd/%d", DIALOG_SCRIPT);
        char *const argv[] = {python.program, "-B", path, "serve", w->folder, NULL};
        if (strcmp(python.library, TTNN_TESTED) != 0)
            context_log(c, FLUX1_LOG_WARNING, "ttnn %s: flux1 was tested with " TTNN_TESTED, python.library);
        context_log(c, FLUX1_LOG_INFO, "device ttnn: %s as %dx%d, by %s with ttnn %s; no card has run this yet",
                    m->name, shape->shape[0], shape->shape[1], python.program, python.library);
        st = dialog_start(argv, ttnn_script, ttnn_script_size, &w->d, &c->error);
    }
    if (st == FLUX1_OK && (st = greet(w)) != FLUX1_OK)
        st = lose(w, "starting", st);
    if (st == FLUX1_OK)
        st = open_cards(w, m, shape, weights);
    if (st != FLUX1_OK) {
        ttnn_worker_end(w);
        return st;
    }
    *out = w;
    return FLUX1_OK;
}

void ttnn_worker_end(ttnn_worker *w)
{
    if (!w)
        return;
    drop(w, true);
    free(w);
}

/* ---- values ---- */

flux1_status ttnn_worker_memory(ttnn_worker *w, size_t bytes, void **memory, flux1_error *err)
{
    return dialog_memory(w->d, bytes, memory, err);
}

void ttnn_worker_memory_drop(ttnn_worker *w)
{
    if (w->d)
        dialog_memory_drop(w->d);
}

bool ttnn_worker_told(const ttnn_worker *w, const char *key, int64_t *out) { return ttnn_number(w->done, key, out); }

flux1_status ttnn_worker_result(ttnn_worker *w, const char *doing, int64_t rows, int64_t cols, float *out)
{
    flux1_error *err = &w->c->error;
    const size_t count = (size_t)(rows * cols);
    int64_t got_rows, got_cols;
    void *memory;
    if (!ttnn_number(w->done, "rows", &got_rows) || !ttnn_number(w->done, "cols", &got_cols) || got_rows != rows ||
        got_cols != cols) {
        error_set(err, FLUX1_ERR_FORMAT, "said \"done %.60s\", where [%" PRId64 ", %" PRId64 "] was wanted", w->done,
                  rows, cols);
        return lose(w, doing, FLUX1_ERR_FORMAT);
    }
    TRY(dialog_memory(w->d, count * sizeof *out, &memory, err));
    memcpy(out, memory, count * sizeof *out);
    for (size_t i = 0; i < count; i++) {
        if (isfinite(out[i]))
            continue;
        if (!w->mock)
            return error_set(err, FLUX1_ERR_NUMERIC,
                             "device ttnn, %s: NaN or infinity in what the cards gave; flux1 info --verify looks for a "
                             "damaged weight",
                             doing);
        out[i] = 0;
    }
    return FLUX1_OK;
}
