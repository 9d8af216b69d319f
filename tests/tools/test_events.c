/* `bench --events`: the file has what the report sums up. */
#include "support/golden.h"

#include "base/file.h"
#include "base/json.h"
#include "flux1_tools.h"
#include "tools/machine.h"

#include <dirent.h>

enum { RANKS = 4, PARTS = 5 };

static const char *const PART[PARTS] = {"clip", "t5", "dit opening", "dit step", "vae decode"};

/* Of the events of one part, on one rank. */
typedef struct sums {
    double flops, exchanged, weights, held;
    double arena;  /* the highest */
    double mapped; /* of two blocks begun in a row */
    double begun;
    char block[128];
    int events;
} sums;

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

/* A machine may have a rate for whatever computes; "attention" stands for attention_part too. */
static void has_a_rate(const char *operation)
{
    int i = 0;
    while (i < MACHINE_OPERATIONS && strcmp(machine_operations[i], operation) != 0)
        i++;
    if (i == MACHINE_OPERATIONS && strcmp(operation, "attention_part") != 0)
        fail_msg("machine_operations lacks %s", operation);
}

static void add_event(sums *s, const json_value *e)
{
    const char *operation = text(e, "operation");
    if (strcmp(text(e, "event"), "compute") == 0)
        has_a_rate(operation);
    s->events++;
    s->flops += number(e, "flops");
    s->exchanged += number(e, "bytes_moved");
    s->arena = fmax(s->arena, number(e, "arena"));
    if (strcmp(operation, "prepare") == 0) {
        s->weights += number(e, "bytes_weights");
        s->held += number(e, "bytes_out");
        if (number(e, "bytes_out") > 0) /* the file's bytes, while its form is made */
            s->mapped = fmax(s->mapped, number(e, "bytes_weights"));
    }
    if (strcmp(operation, "block_begin") == 0) {
        bool again = strcmp(s->block, text(e, "block")) == 0;
        s->mapped = fmax(s->mapped, number(e, "bytes_weights") + (again ? 0 : s->begun));
        s->begun = number(e, "bytes_weights");
        snprintf(s->block, sizeof s->block, "%s", text(e, "block"));
    }
}

static json_value *parsed(const char *json, size_t length)
{
    json_value *v;
    flux1_error err = {0};
    if (json_parse(json, length, "a line", &v, &err) != FLUX1_OK)
        fail_msg("%s", err.message);
    return v;
}

/* The file's first line, and the sums of all others. */
static json_value *read_events(const char *path, sums of[PARTS][RANKS])
{
    char *bytes;
    size_t size;
    flux1_error err = {0};
    json_value *header = NULL;
    memset(of, 0, sizeof(sums) * PARTS * RANKS);
    assert_int_equal(file_read(path, (size_t)1 << 30, &bytes, &size, &err), FLUX1_OK);
    assert_true(size > 0 && bytes[size - 1] == '\n');
    for (char *line = bytes, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        json_value *v = parsed(line, (size_t)(end - line));
        int part = 0;
        if (line == bytes) {
            header = v;
            continue;
        }
        while (part < PARTS && strcmp(PART[part], text(v, "stage")) != 0)
            part++;
        assert_true(part < PARTS && number(v, "rank") >= 0 && number(v, "rank") < RANKS);
        assert_true(json_object_get(v, "event") && json_object_get(v, "arena"));
        add_event(&of[part][(int)number(v, "rank")], v);
        json_free(v);
    }
    free(bytes);
    return header;
}

static void both(sums *all, const sums *one)
{
    all->flops += one->flops;
    all->exchanged += one->exchanged;
    all->weights += one->weights;
    all->held += one->held;
    all->arena = fmax(all->arena, one->arena);
}

static void compare(const json_value *row, const char *key, double got)
{
    if (number(row, key) != got)
        fail_msg("%s, %s: the report says %.0f, the events %.0f", text(row, "stage"), key, number(row, key), got);
}

/* Rows hold sums over ranks; both parts of the denoiser hold the memory of the whole stage. */
static void compare_row(const json_value *row, int part, sums of[PARTS][RANKS])
{
    sums work = {0}, memory = {0};
    assert_string_equal(text(row, "stage"), PART[part]);
    for (int r = 0; r < RANKS; r++) {
        sums stage = of[part][r];
        assert_true(stage.events > 0);
        both(&work, &of[part][r]);
        if (part == 2 || part == 3) {
            stage = of[2][r];
            both(&stage, &of[3][r]);
            stage.mapped = fmax(stage.mapped, of[3][r].mapped);
        }
        memory.arena += stage.arena;
        memory.weights += stage.weights;
        memory.held += stage.held;
        memory.mapped += stage.mapped;
    }
    compare(row, "flops", work.flops);
    compare(row, "exchanged_bytes", work.exchanged);
    compare(row, "activation_bytes", memory.arena);
    compare(row, "weight_bytes", memory.weights);
    compare(row, "held_weight_bytes", memory.held);
    compare(row, "mapped_weight_bytes", memory.mapped);
    assert_true(work.flops > 0 && work.exchanged > 0 && memory.held > 0 && memory.mapped > 0);
}

static flux1_bench_params small_bench(const char *events)
{
    flux1_bench_params p;
    flux1_bench_params_defaults(&p);
    p.path = TEST_DATA "/pipelines/dev";
    p.width = 80;
    p.height = 48;
    p.steps = 3;
    p.repeats = 0;
    p.events = events;
    return p;
}

static void the_events_add_up_to_the_report(void **state)
{
    (void)state;
    static sums of[PARTS][RANKS];
    static const flux1_dtype types[] = {FLUX1_DTYPE_F32, FLUX1_DTYPE_BF16};
    for (int t = 0; t < 2; t++) {
        char *path = scratch_path("events.jsonl"), *json;
        flux1_bench_params p = small_bench(path);
        flux1_context *c = context_on("cpu", "2x2", 2, types[t]);
        if (flux1_bench_json(c, &p, &json) != FLUX1_OK)
            fail_msg("%s", flux1_context_message(c));
        json_value *report = parsed(json, strlen(json)), *header = read_events(path, of);
        const json_value *rows = json_object_get(report, "stages");
        assert_int_equal(json_array_size(rows), PARTS);
        for (int i = 0; i < PARTS; i++) {
            assert_null(json_object_get(json_array_get(rows, (size_t)i), "seconds")); /* nothing was run */
            compare_row(json_array_get(rows, (size_t)i), i, of);
        }
        assert_string_equal(text(header, "dtype"), t ? "bf16" : "f32");
        assert_true(number(header, "width") == 80 && number(header, "height") == 48 && number(header, "steps") == 3);
        assert_true(number(header, "ranks") == 4 && number(header, "sp") == 2 && number(header, "tp") == 2);
        json_free(header);
        json_free(report);
        flux1_string_free(json);
        flux1_context_destroy(c);
        unlink(path);
    }
}

static int temporaries_of(const char *path)
{
    int n = 0;
    const char *name = strrchr(path, '/') + 1;
    DIR *d = opendir("/tmp");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strncmp(e->d_name, name, strlen(name)) == 0;
    closedir(d);
    return n;
}

static void a_file_that_could_not_be_finished_is_not_there(void **state)
{
    (void)state;
    char *path = scratch_path("unfinished.jsonl"), *json;
    flux1_bench_params p = small_bench(path);
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    p.stage = "nonsense";
    assert_int_equal(flux1_bench_json(c, &p, &json), FLUX1_ERR_ARGUMENT);
    assert_int_equal(temporaries_of(path), 0);
    p.stage = "clip";
    p.events = "/tmp/no such folder/events.jsonl";
    assert_int_equal(flux1_bench_json(c, &p, &json), FLUX1_ERR_IO);
    assert_non_null(strstr(flux1_context_message(c), "/tmp/no such folder/events.jsonl"));
    flux1_context_destroy(c);
}

static void events_come_before_the_runs(void **state)
{
    (void)state;
    static sums of[PARTS][RANKS];
    char *path = scratch_path("timed.jsonl"), *json;
    flux1_bench_params p = small_bench(path);
    flux1_context *c = context_on("cpu", "1x1", 1, FLUX1_DTYPE_F32);
    p.repeats = 2;
    p.stage = "dit";
    if (flux1_bench_json(c, &p, &json) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    json_value *report = parsed(json, strlen(json)), *header = read_events(path, of);
    const json_value *step = json_array_get(json_object_get(report, "stages"), 1);
    assert_true(number(step, "seconds") > 0 && number(step, "flops") == of[3][0].flops);
    assert_true(number(step, "flops_per_second") == number(step, "flops") / number(step, "seconds"));
    assert_int_equal(of[0][0].events + of[4][0].events, 0); /* of the stage that was asked for */
    json_free(header);
    json_free(report);
    flux1_string_free(json);
    flux1_context_destroy(c);
    unlink(path);
}

/* Its noise alone would be 420 MB. */
static void what_is_only_planned_takes_no_memory(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", NULL, 1, FLUX1_DTYPE_F32);
    flux1_bench_params p;
    char *json;
    flux1_bench_params_defaults(&p);
    p.path = TEST_DATA "/pipelines/dev";
    p.width = p.height = 20480;
    p.repeats = 0;
    if (flux1_bench_json(c, &p, &json) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    json_value *report = parsed(json, strlen(json));
    assert_int_equal(json_array_size(json_object_get(report, "stages")), 5);
    assert_true(number(report, "peak_rss_bytes") < 300e6);
    json_free(report);
    flux1_string_free(json);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_events_add_up_to_the_report),
        cmocka_unit_test(a_file_that_could_not_be_finished_is_not_there),
        cmocka_unit_test(events_come_before_the_runs),
        cmocka_unit_test(what_is_only_planned_takes_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
