/* A profile of real work against the plan: each rank makes the calls of a step that the dry run told, in their order,
 * with the same work, on a trace that is whole or not there.
 *
 * usage: test_profile, or several times by mpirun: test_profile MESH */
#include "support/golden.h"

#include "base/file.h"
#include "base/json.h"
#include "flux1_tools.h"

#include <sys/stat.h>
#include <unistd.h>

enum { RANKS = 4, CALLS = 4096, TRACKS = 2 };

/* What a rank does in a step, on a track: names in order, and sums. */
typedef struct doings {
    char name[CALLS][24];
    int count;
    double flops, moved, out;
} doings;

static double number(const json_value *object, const char *key)
{
    const json_value *v = json_object_get(object, key);
    return v ? json_number_value(v) : 0;
}

static const char *text(const json_value *object, const char *key)
{
    const json_value *v = json_object_get(object, key);
    return v ? json_string_value(v) : "";
}

static void add_call(doings *d, const char *name, const json_value *sizes)
{
    assert_true(d->count < CALLS);
    snprintf(d->name[d->count++], sizeof d->name[0], "%s", name);
    d->flops += number(sizes, "flops");
    d->moved += number(sizes, "bytes_moved");
    d->out += number(sizes, "bytes_out");
}

static json_value *parsed(const char *json, size_t length)
{
    json_value *v;
    flux1_error err = {0};
    if (json_parse(json, length, "a line", &v, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return v;
}

static bool computes(const json_value *event)
{
    static const char *const moves[] = {"pack", "unpack", "upload", "download"};
    bool yes = !strcmp(text(event, "event"), "compute");
    for (size_t i = 0; i < sizeof moves / sizeof moves[0]; i++)
        yes |= !strcmp(text(event, "operation"), moves[i]);
    return yes;
}

/* A step of the plan. The first call keeps the latent; it comes before the step itself. */
static void read_plan(const char *path, doings of[RANKS][TRACKS])
{
    char *bytes;
    size_t size;
    bool kept[RANKS] = {false};
    flux1_error err = {0};
    assert_int_equal(file_read(path, (size_t)1 << 28, &bytes, &size, &err), FLUX1_OK);
    for (char *line = strchr(bytes, '\n') + 1, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        json_value *v = parsed(line, (size_t)(end - line));
        int rank = (int)number(v, "rank");
        const char *name = text(v, "operation");
        bool first = !strcmp(name, "cast") && !kept[rank];
        if (!strcmp(text(v, "stage"), "dit step") && computes(v)) {
            if (!first)
                add_call(&of[rank][0], name, v);
            kept[rank] = true;
        } else if (!strcmp(text(v, "stage"), "dit step") && !strcmp(text(v, "event"), "collective") &&
                   strcmp(name, "shift_end") != 0)
            add_call(&of[rank][1], !strcmp(name, "shift_begin") ? "shift" : name, v);
        json_free(v);
    }
    free(bytes);
}

/* What no plan has as computing: weights, and the order of steps. */
static bool beside(const char *name)
{
    return !strncmp(name, "block_", 6) || !strncmp(name, "step", 4) || !strcmp(name, "prepare") ||
           !strcmp(name, "finite_first");
}

static void read_trace(const char *path, doings of[RANKS][TRACKS])
{
    char *bytes;
    size_t size;
    flux1_error err = {0};
    assert_int_equal(file_read(path, (size_t)1 << 28, &bytes, &size, &err), FLUX1_OK);
    json_value *root = parsed(bytes, size);
    const json_value *events = json_object_get(root, "traceEvents"), *e;
    for (size_t i = 0; (e = json_array_get(events, i)); i++) {
        const json_value *args = json_object_get(e, "args");
        bool call = !strcmp(text(e, "cat"), "call"), exchange = !strcmp(text(e, "cat"), "exchange");
        if ((call || exchange) && number(args, "step") == 1 && !beside(text(e, "name")))
            add_call(&of[(int)number(e, "pid")][exchange], text(e, "name"), args);
    }
    json_free(root);
    free(bytes);
}

static void compare(const doings *plan, const doings *real, const char *shape, int rank)
{
    for (int i = 0; i < plan->count && i < real->count; i++)
        if (strcmp(plan->name[i], real->name[i]) != 0)
            fail_msg("%s, rank %d: call %d is %s, planned was %s", shape, rank, i, real->name[i], plan->name[i]);
    assert_int_equal(plan->count, real->count);
    assert_true(fabs(plan->flops - real->flops) < 0.5);
    assert_true(plan->moved == real->moved && plan->out == real->out);
}

static flux1_context *team; /* of all processes; NULL: there is one */

static flux1_context *context_for(const char *shape)
{
    return team ? team : context_on("cpu", shape, 2, FLUX1_DTYPE_BF16);
}

static void context_done(flux1_context *c)
{
    if (c != team)
        flux1_context_destroy(c);
}

static const char *removed; /* a folder that is gone once something was timed; NULL: none */

static void remove_folder(void *user, const char *stage, double seconds)
{
    (void)user;
    (void)stage;
    (void)seconds;
    if (removed)
        rmdir(removed);
}

static flux1_status bench(const char *shape, const char *stage, int repeats, const char *events, const char *profile,
                          char **json)
{
    flux1_bench_params p;
    flux1_context *c = context_for(shape);
    flux1_bench_params_defaults(&p);
    p.path = TEST_DATA "/pipelines/dev";
    p.stage = stage;
    p.width = p.height = 64;
    p.sequence_length = 16;
    p.repeats = repeats;
    p.events = events;
    p.profile = profile;
    p.timed = remove_folder;
    flux1_status st = flux1_bench_json(c, &p, json);
    if (st != FLUX1_OK && st != FLUX1_ERR_IO)
        fail_msg("%s", flux1_context_message(c));
    context_done(c);
    return st;
}

static void expect_the_plan(const char *shape, int ranks)
{
    static doings plan[RANKS][TRACKS], real[RANKS][TRACKS];
    char events[64], trace[64], *json;
    snprintf(events, sizeof events, "/tmp/flux1_events_%d", (int)getpid());
    snprintf(trace, sizeof trace, "/tmp/flux1_trace_%d", (int)getpid());
    memset(plan, 0, sizeof plan);
    memset(real, 0, sizeof real);
    assert_int_equal(bench(shape, "dit", 0, events, NULL, &json), FLUX1_OK);
    flux1_string_free(json);
    assert_int_equal(bench(shape, "dit", 1, NULL, trace, &json), FLUX1_OK);
    flux1_string_free(json);
    read_plan(events, plan);
    read_trace(trace, real);
    for (int r = 0; r < ranks; r++) {
        assert_true(plan[r][0].count > 0 && (ranks == 1 || plan[r][1].count > 0));
        compare(&plan[r][0], &real[r][0], shape, r);
        compare(&plan[r][1], &real[r][1], shape, r);
    }
    unlink(events);
    unlink(trace);
}

static void a_profile_has_every_call_of_the_plan(void **state)
{
    (void)state;
    static const char *const shapes[] = {"1x1", "1x2", "2x1", "2x2"};
    static const int ranks[] = {1, 2, 2, 4};
    for (int k = 0; k < 4; k++)
        expect_the_plan(shapes[k], ranks[k]);
}

static int one_step(void *user, const flux1_progress *p)
{
    (void)user;
    return p->stage == FLUX1_STAGE_DENOISE;
}

/* The report has what its trace has; a file that cannot be written is told; a request that was cancelled leaves none.
 */
static void a_profile_is_whole_or_not_there(void **state)
{
    (void)state;
    char trace[64], *json;
    snprintf(trace, sizeof trace, "/tmp/flux1_trace_%d", (int)getpid());
    assert_int_equal(bench("1x2", "all", 1, NULL, trace, &json), FLUX1_OK);
    json_value *report = parsed(json, strlen(json));
    const json_value *p = json_object_get(report, "profile");
    assert_true(number(p, "exchange_seconds") > 0 && number(p, "ring_seconds") > 0); /* the VAE's */
    assert_int_equal(json_array_size(json_object_get(p, "steps")), 1);
    json_free(report);
    flux1_string_free(json);
    assert_int_equal(bench("1x2", "clip", 1, NULL, "/nowhere/trace", &json), FLUX1_ERR_IO);
    assert_null(json); /* nothing was timed */
    unlink(trace);
    golden g;
    flux1_image *image;
    golden_open("schnell", "car", &g);
    flux1_context *c = context_on("cpu", "1x2", 2, FLUX1_DTYPE_F32);
    flux1_model *m = model_of(c, g.folder);
    g.params.profile = trace;
    g.params.progress = one_step;
    assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_ERR_CANCELLED);
    assert_int_not_equal(access(trace, F_OK), 0);
    g.params.progress = NULL;
    assert_int_equal(flux1_generate(c, m, &g.params, &image), FLUX1_OK);
    assert_int_equal(access(trace, F_OK), 0);
    flux1_images_free(image, 1);
    unlink(trace);
    flux1_model_close(m);
    flux1_context_destroy(c);
    golden_close(&g);
}

/* What was timed is not lost with the trace. */
static void a_trace_that_fails_late_leaves_the_report(void **state)
{
    (void)state;
    char folder[64], trace[80], *json;
    snprintf(folder, sizeof folder, "/tmp/flux1_trace_folder_%d", (int)getpid());
    snprintf(trace, sizeof trace, "%s/trace", folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    removed = folder;
    assert_int_equal(bench("1x1", "clip", 1, NULL, trace, &json), FLUX1_ERR_IO);
    removed = NULL;
    assert_non_null(json);
    json_value *report = parsed(json, strlen(json));
    assert_true(number(json_array_get(json_object_get(report, "stages"), 0), "seconds") > 0);
    assert_null(json_object_get(report, "profile"));
    json_free(report);
    flux1_string_free(json);
}

/* ---- several processes ---- */

static const char *team_shape;

/* The followers' clocks, by the linker's --wrap, are behind by some minutes. */
static double behind;
double __real_clock_seconds(void);
double __wrap_clock_seconds(void);

double __wrap_clock_seconds(void) { return __real_clock_seconds() - behind; }

static void every_process_s_ranks_are_on_the_trace(void **state)
{
    (void)state;
    flux1_context_info info = {.size = sizeof info};
    assert_int_equal(flux1_context_get_info(team, &info), FLUX1_OK);
    assert_int_equal(info.processes, 2);
    for (int k = 0; k < 2; k++) /* one profile leaves nothing for the next */
        expect_the_plan(team_shape, info.ranks);
}

/* A step begins on all ranks at about the same time, so their spans of it meet on one clock. */
static void the_trace_has_one_clock(void **state)
{
    (void)state;
    char trace[64], *json, *bytes;
    size_t size;
    double begin[RANKS] = {0}, end[RANKS] = {0};
    flux1_error err = {0};
    flux1_context_info info = {.size = sizeof info};
    assert_int_equal(flux1_context_get_info(team, &info), FLUX1_OK);
    snprintf(trace, sizeof trace, "/tmp/flux1_trace_%d", (int)getpid());
    assert_int_equal(bench(team_shape, "dit", 3, NULL, trace, &json), FLUX1_OK);
    flux1_string_free(json);
    assert_int_equal(file_read(trace, (size_t)1 << 28, &bytes, &size, &err), FLUX1_OK);
    json_value *root = parsed(bytes, size);
    const json_value *events = json_object_get(root, "traceEvents"), *e;
    for (size_t i = 0; (e = json_array_get(events, i)); i++)
        if (!strcmp(text(e, "cat"), "step") && !strcmp(text(e, "name"), "step 1") &&
            begin[(int)number(e, "pid")] == 0) {
            begin[(int)number(e, "pid")] = number(e, "ts");
            end[(int)number(e, "pid")] = number(e, "ts") + number(e, "dur");
        }
    for (int r = 0; r < info.ranks; r++)
        assert_true(end[r] > begin[r] && begin[r] < end[0] && begin[0] < end[r]);
    json_free(root);
    free(bytes);
    unlink(trace);
}

/* A request that fails while it is profiled: the next one is not. */
static void a_failed_request_ends_its_profile(void **state)
{
    (void)state;
    golden g;
    flux1_image *image;
    char trace[64];
    golden_open("schnell", "car", &g);
    snprintf(trace, sizeof trace, "/tmp/flux1_trace_%d", (int)getpid());
    flux1_model *m = model_of(team, g.folder);
    for (int k = 0; k < 2; k++) {
        g.params.profile = trace;
        g.params.progress = one_step;
        assert_int_equal(flux1_generate(team, m, &g.params, &image), FLUX1_ERR_CANCELLED);
        assert_int_not_equal(access(trace, F_OK), 0);
        g.params.progress = NULL;
        g.params.profile = k ? trace : NULL;
        assert_int_equal(flux1_generate(team, m, &g.params, &image), FLUX1_OK);
        assert_int_equal(access(trace, F_OK), k ? 0 : -1);
        flux1_images_free(image, 1);
    }
    unlink(trace);
    flux1_model_close(m);
    golden_close(&g);
}

static int run_processes(const char *shape)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_process_s_ranks_are_on_the_trace),
        cmocka_unit_test(the_trace_has_one_clock),
        cmocka_unit_test(a_failed_request_ends_its_profile),
    };
    flux1_context_params p;
    flux1_context_info info = {.size = sizeof info};
    flux1_context_params_defaults(&p);
    p.mesh = team_shape = shape;
    p.dtype = FLUX1_DTYPE_BF16;
    p.threads = 1;
    p.processes = 1;
    team = context_of(&p);
    bool leads = flux1_context_get_info(team, &info) == FLUX1_OK && info.process == 0;
    behind = 400 * info.process;
    int failed = leads ? cmocka_run_group_tests(tests, NULL, NULL) : flux1_context_follow(team) != FLUX1_OK;
    if (failed && !leads)
        fprintf(stderr, "%s\n", flux1_context_message(team));
    flux1_context_destroy(team);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return run_processes(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_profile_has_every_call_of_the_plan),
        cmocka_unit_test(a_profile_is_whole_or_not_there),
        cmocka_unit_test(a_trace_that_fails_late_leaves_the_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
