/* flux1 serve: one open model behind HTTP, until a signal comes. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/signals.h"
#include "cli/ahead.h"
#include "cli/console.h"
#include "cli/distinct.h"
#include "cli/serve_workers.h"
#include "cli/serve_keys.h"
#include "server/server.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PORT = 8080, QUEUE = 16, DRAIN = 30 };
#define QUIET_SECONDS 60
#define KEPT_BYTES ((uint64_t)10 << 30) /* of pictures, with --jobs */
#define TEMPORARY_BYTES ((uint64_t)1 << 30)

typedef struct serving {
    const options *opt;
    serve_keys keys;
    serve_workers workers;
    options first; /* of worker 0: the writer's, as long as it logs */
    FILE *log;
    server *server;
    server_engine engine;
    flux1_model *model;
} serving;

static int64_t whole(const options *opt, option_id id, int64_t otherwise)
{
    return opt->values[id].given ? opt->values[id].whole : otherwise;
}

/* ---- opening ---- */

static int open_log(serving *v)
{
    const option_value *log = &v->opt->values[OPT_ACCESS_LOG];
    if (!log->given)
        return EXIT_DONE;
    v->log = strcmp(log->text, "-") == 0 ? stdout : fopen(log->text, "ae");
    if (v->log)
        return EXIT_DONE;
    print_failure(FLUX1_ERR_IO, "%s: cannot open: %s", log->text, strerror(errno));
    return EXIT_FAILED;
}

/* Sentences of the last minute, by their hashes. */
static struct {
    uint64_t hash;
    double when; /* 0: none */
} told[16];

/* Where that of the sentence is, or the one that was told longest ago. */
static size_t told_place(uint64_t hash)
{
    size_t oldest = 0;
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        if (told[i].hash == hash)
            return i;
        if (told[i].when < told[oldest].when)
            oldest = i;
    }
    return oldest;
}

/* On a full disk each request fails alike, and of several things that fail each comes again: the same sentence is not
 * printed twice in a minute. Any thread calls. */
static void tell_operator(const char *sentence)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    const double now = clock_seconds();
    const uint64_t hash = hash_bytes(sentence, strlen(sentence));
    pthread_mutex_lock(&mutex);
    const size_t i = told_place(hash);
    if (told[i].hash != hash || told[i].when == 0 || now - told[i].when > QUIET_SECONDS) {
        told[i].hash = hash;
        told[i].when = now;
        print_failure(FLUX1_ERR_IO, "%s", sentence);
    }
    pthread_mutex_unlock(&mutex);
}

static server_settings settings_of(const serving *v)
{
    const options *opt = v->opt;
    const option_value *o = opt->values;
    flux1_generate_params request;
    fill_request(opt, &request);
    return (server_settings){.host = o[OPT_HOST].given ? o[OPT_HOST].text : "127.0.0.1",
                             .port = (int)whole(opt, OPT_PORT, PORT),
                             .socket = o[OPT_SOCKET].text,
                             .keys = v->keys.key,
                             .key_count = v->keys.count,
                             .allow_host = o[OPT_ALLOW_HOST].text,
                             .queue = (int)whole(opt, OPT_QUEUE, QUEUE),
                             .batch = (int)whole(opt, OPT_BATCH, 0),
                             .max_pixels = whole(opt, OPT_MAX_PIXELS, 0),
                             .jobs = o[OPT_JOBS].text,
                             .jobs_size = o[OPT_JOBS_SIZE].given ? o[OPT_JOBS_SIZE].seed
                                          : o[OPT_JOBS].given    ? KEPT_BYTES
                                                                 : TEMPORARY_BYTES,
                             .loras = o[OPT_LORAS].text,
                             .models = o[OPT_MODELS].text,
                             .width = request.width,
                             .height = request.height,
                             .steps = request.steps > 0 ? request.steps : 0,
                             .guidance = request.guidance,
                             .max_sequence_length = request.max_sequence_length,
                             .tiling = request.tiling,
                             .access_log = v->log,
                             .tell = tell_operator};
}

static int open_server(serving *v)
{
    flux1_error err = {0};
    const server_settings settings = settings_of(v);
    if (server_open(&settings, &v->server, &err) == FLUX1_OK)
        return EXIT_DONE;
    print_failure(err.status, "%s", err.message);
    return err.status == FLUX1_ERR_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
}

static int open_encoder(serving *v)
{
    server_engine *e = &v->engine;
    flux1_context_info info = {.size = sizeof info};
    if (e->workers > 1)
        return EXIT_DONE;
    flux1_status st = flux1_context_get_info(e->worker[0], &info);
    if (st != FLUX1_OK)
        return report(e->worker[0], st);
    if (!ahead_pays(v->opt, &info))
        return EXIT_DONE;
    e->encode_from = ahead_from(&info);
    const options first = serve_worker_options(v->opt, &v->workers, 0);
    st = open_logged_context(&first, server_log_encoder, v->server, &e->encoder);
    return st == FLUX1_OK ? EXIT_DONE : report(e->encoder, st);
}

/* Of a context on Tenstorrent's cards, "ttnn" begins the device's name, whichever machine it is. */
static bool is_on_cards(const flux1_context_info *info) { return strncmp(info->device, "ttnn", 4) == 0; }

/* A job is planned once and may go to any worker, and its picture is the same there: none has less memory than the
 * first, another arithmetic, or another one's GPU or cards. */
static int check_worker(const server_engine *e, int index)
{
    flux1_context_info one = {.size = sizeof one}, other = {.size = sizeof other};
    flux1_context_get_info(e->worker[index], &one);
    for (int i = 0; i < index; i++) {
        flux1_context_get_info(e->worker[i], &other);
        if (one.max_device_memory && strcmp(one.device, other.device) == 0) {
            print_failure(FLUX1_ERR_ARGUMENT, "--workers: %s is named twice", one.device);
            return EXIT_USAGE;
        }
        if (is_on_cards(&one) && is_on_cards(&other)) {
            print_failure(FLUX1_ERR_ARGUMENT,
                          "--workers: %s beside %s: Tenstorrent's cards are one mesh, name them once", one.device,
                          other.device);
            return EXIT_USAGE;
        }
    }
    flux1_context_get_info(e->worker[0], &other);
    if (strcmp(one.dtype, other.dtype) == 0 && !one.max_device_memory == !other.max_device_memory &&
        one.max_device_memory >= other.max_device_memory)
        return EXIT_DONE;
    print_failure(FLUX1_ERR_ARGUMENT,
                  "--workers: %s (%s) has less memory or another arithmetic than %s (%s), and any job may go to it; "
                  "name devices of one kind, the smallest first",
                  one.device, one.dtype, other.device, other.dtype);
    return EXIT_USAGE;
}

static int open_workers(serving *v)
{
    server_engine *e = &v->engine;
    for (int i = 0; i < v->workers.count; i++) {
        const options here = serve_worker_options(v->opt, &v->workers, i);
        const flux1_status st =
            open_logged_context(&here, server_log_worker, server_worker(v->server, i), &e->worker[i]);
        e->workers = i + 1; /* also one that failed is to be destroyed */
        if (st != FLUX1_OK)
            return report(e->worker[i], st);
        const int status = check_worker(e, i);
        if (status != EXIT_DONE)
            return status;
    }
    return EXIT_DONE;
}

/* A server that refuses its own default picture works only for clients that say a size. */
static void tell_of_pixels(const serving *v)
{
    const option_value *o = v->opt->values;
    flux1_model_info info = {.size = sizeof info};
    if (!o[OPT_MAX_PIXELS].given || flux1_model_get_info(v->model, &info) != FLUX1_OK)
        return;
    const int64_t width = whole(v->opt, OPT_WIDTH, info.default_width),
                  height = whole(v->opt, OPT_HEIGHT, info.default_height);
    if (width * height > o[OPT_MAX_PIXELS].whole)
        print_warning("--max-pixels %lld: the default picture of %lldx%lld has more, so requests that say no size are "
                      "refused; name a smaller default with --width and --height",
                      (long long)o[OPT_MAX_PIXELS].whole, (long long)width, (long long)height);
}

/* It encodes files. */
static int open_writer(serving *v)
{
    v->first = serve_worker_options(v->opt, &v->workers, 0);
    return open_context(&v->first, &v->engine.writer);
}

/* It computes nothing. */
static int open_reader(serving *v)
{
    const flux1_status st = open_plain_context(NULL, &v->engine.reader);
    return st == FLUX1_OK ? EXIT_DONE : report(v->engine.reader, st);
}

static int open_engine(serving *v)
{
    server_engine *e = &v->engine;
    if (!name_parts(v->opt, &e->parts))
        return EXIT_USAGE;
    int status = open_writer(v);
    if (status == EXIT_DONE)
        status = open_reader(v);
    if (status != EXIT_DONE)
        return status;
    watch_signals(e->writer);
    flux1_status st = flux1_model_open_parts(e->writer, &e->parts, &v->model);
    watch_signals(NULL);
    e->model = v->model;
    if (st != FLUX1_OK)
        return report_opening(v->opt, e->writer, st);
    serve_workers_share(&v->workers, v->opt);
    const options planner = serve_worker_options(v->opt, &v->workers, 0);
    if ((st = open_logged_context(&planner, server_log_planner, v->server, &e->planner)) != FLUX1_OK)
        return report(e->planner, st);
    status = open_workers(v);
    if (status == EXIT_DONE)
        tell_of_pixels(v);
    return status == EXIT_DONE ? open_encoder(v) : status;
}

/* ---- running ---- */

static void wait_for_signal(void)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    while (!was_interrupted())
        nanosleep(&pause, NULL);
}

/* Signals are this thread's: the server's threads take none but what they raise themselves. */
static int with_signals_blocked(int (*call)(serving *v), serving *v)
{
    sigset_t before;
    signals_block(&before);
    const int status = call(v);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

static int begin(serving *v)
{
    flux1_error err = {0};
    if (server_begin(v->server, &v->engine, &err) == FLUX1_OK)
        return EXIT_DONE;
    print_failure(err.status, "%s", err.message);
    return EXIT_FAILED;
}

static int run(serving *v)
{
    int status = with_signals_blocked(open_server, v);
    if (status != EXIT_DONE)
        return status;
    print_note("listening on %s; opening the model", server_address(v->server));
    status = open_engine(v);
    if (status == EXIT_DONE)
        status = with_signals_blocked(begin, v);
    if (status == EXIT_DONE) {
        print_note("ready: %s", server_address(v->server));
        wait_for_signal();
        print_note("stopping");
    }
    server_end(v->server, (double)whole(v->opt, OPT_DRAIN, DRAIN), NULL);
    return status;
}

/* A name that no Host header can have would never count, and nobody would know. */
static bool hosts_are_names(const char *list)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._";
    for (const char *at = list;; at++) {
        const size_t n = strcspn(at, ",");
        if ((n == 0 || strspn(at, letters) < n) && !(n == 1 && *at == '*')) {
            print_error("--allow-host: \"%.*s\" is no name of a host: such as my.proxy, without scheme, port, path and "
                        "blanks",
                        (int)n, at);
            return false;
        }
        at += n;
        if (*at == '\0')
            return true;
    }
}

static bool places_are_clear(const option_value *v)
{
    if (v[OPT_SOCKET].given && (v[OPT_HOST].given || v[OPT_PORT].given)) {
        print_error("--socket cannot be combined with --%s: the server listens on the socket instead",
                    v[OPT_HOST].given ? "host" : "port");
        return false;
    }
    if (v[OPT_HOST].given && !v[OPT_HOST].text[0]) {
        print_error("--host: the argument is empty");
        return false;
    }
    return !v[OPT_ALLOW_HOST].given || hosts_are_names(v[OPT_ALLOW_HOST].text);
}

int serve_run(const options *opt)
{
    serving v = {.opt = opt};
    if (!places_are_clear(opt->values) || !outputs_distinct(opt, NULL, NULL, 0))
        return EXIT_USAGE;
    catch_signals();
    int status = serve_keys_read(opt, &v.keys);
    if (status == EXIT_DONE)
        status = serve_workers_read(opt, &v.workers);
    if (status == EXIT_DONE)
        status = open_log(&v);
    if (status == EXIT_DONE)
        status = run(&v);
    flux1_context_destroy(v.engine.encoder);
    for (int i = 0; i < v.engine.workers; i++)
        flux1_context_destroy(v.engine.worker[i]);
    flux1_context_destroy(v.engine.planner);
    flux1_model_close(v.model);
    flux1_context_destroy(v.engine.reader);
    flux1_context_destroy(v.engine.writer);
    server_close(v.server);
    if (v.log && v.log != stdout)
        fclose(v.log);
    serve_keys_free(&v.keys);
    serve_workers_free(&v.workers);
    return status;
}
