/* flux1 plan: seconds, bytes and memory on a machine, for each way to use its mesh. */
#include "cli/cli.h"

#include "base/json_write.h"
#include "cli/console.h"
#include "cli/distinct.h"
#include "cli/readable.h"
#include "flux1_tools.h"

#include <stdio.h>
#include <string.h>

static void fill_plan(const options *opt, flux1_plan_params *params)
{
    const option_value *v = opt->values;
    flux1_plan_params_defaults(params);
    params->path = v[OPT_MODEL].text;
    params->file_variant = v[OPT_FILE_VARIANT].text;
    if (v[OPT_VARIANT].given)
        params->variant = v[OPT_VARIANT].text;
    if (v[OPT_MACHINE].given)
        params->machine = v[OPT_MACHINE].text;
    params->mesh = v[OPT_MESH].text;
    params->sp = v[OPT_SP].text;
    params->tp = v[OPT_TP].text;
    params->width = (int)v[OPT_WIDTH].whole;
    params->height = (int)v[OPT_HEIGHT].whole;
    params->steps = (int)v[OPT_STEPS].whole;
    params->sequence_length = (int)v[OPT_MAX_SEQUENCE_LENGTH].whole;
    params->describe = v[OPT_DESCRIBE].given;
    params->timeline = v[OPT_TIMELINE].text;
    params->record = v[OPT_RECORD].text;
    if (v[OPT_DTYPE].given)
        params->dtype = dtype_named(v[OPT_DTYPE].text);
}

/* ---- for people ---- */

static const json_value *member(const json_value *object, const char *key) { return json_object_get(object, key); }

static void copy(json_writer *w, const json_value *from, const char *key, const char *as)
{
    json_put_value(w, as, member(from, key));
}

/* The time of one step, which is most of a picture's. */
static void put_step_seconds(json_writer *w, const json_value *row)
{
    const json_value *stage;
    for (size_t i = 0; (stage = json_array_get(member(row, "stages"), i)); i++)
        if (strcmp(json_string_value(member(stage, "stage")), "dit step") == 0)
            copy(w, stage, "seconds_each", "step_seconds");
}

static void put_way(json_writer *w, const json_value *row)
{
    json_begin_object(w, NULL);
    copy(w, row, "sp", "sp");
    copy(w, row, "tp", "tp");
    copy(w, row, "total_seconds", "total_seconds");
    put_step_seconds(w, row);
    copy(w, row, "moved_bytes", "moved_bytes");
    copy(w, row, "hidden_bytes", "hidden_bytes");
    copy(w, row, "memory_bytes", "memory_bytes");
    json_put_string(w, "bound",
                    json_is_true(member(row, "fits")) ? json_string_value(member(row, "bound"))
                                                      : "does not fit the memory");
    json_end_object(w);
}

/* The best way's stages. */
static void put_stages(json_writer *w, const json_value *row)
{
    static const char *const told[] = {"stage", "times",       "seconds",      "seconds_each",
                                       "bound", "moved_bytes", "hidden_bytes", "memory_bytes"};
    const json_value *stage;
    json_begin_array(w, "stages of the first way");
    for (size_t i = 0; (stage = json_array_get(member(row, "stages"), i)); i++) {
        json_begin_object(w, NULL);
        for (size_t k = 0; k < sizeof told / sizeof *told; k++)
            copy(w, stage, told[k], told[k]);
        json_end_object(w);
    }
    json_end_array(w);
}

/* The list of rows as tables. */
static flux1_status print_plans(const char *text, flux1_error *err)
{
    static const char *const shared[] = {
        "machine", "about", "mesh", "dtype", "width", "height", "steps", "max_sequence_length", "memory_limit_bytes"};
    json_value *rows;
    json_writer w = {.style = JSON_LINE};
    char *tables;
    TRY(json_parse(text, strlen(text), "the plans", &rows, err));
    const json_value *row, *best = json_array_get(rows, 0);
    json_begin_object(&w, NULL);
    for (size_t i = 0; best && i < sizeof shared / sizeof *shared; i++)
        if (!json_is_string(member(best, shared[i])) || json_string_length(member(best, shared[i])) > 0)
            copy(&w, best, shared[i], shared[i]);
    json_begin_array(&w, "ways");
    for (size_t i = 0; (row = json_array_get(rows, i)); i++)
        put_way(&w, row);
    json_end_array(&w);
    if (best)
        put_stages(&w, best);
    json_end_object(&w);
    flux1_status st = json_take(&w, "the plans", &tables, err);
    if (st == FLUX1_OK)
        st = readable_print(tables, err);
    flux1_string_free(tables);
    json_free(rows);
    return st;
}

/* The plans or the machine, also where a timeline or a recording of them could not be written. */
static int print_answer(const options *opt, const char *json)
{
    flux1_error err = {0};
    flux1_status st = FLUX1_OK;
    if (opt->values[OPT_JSON].given || opt->values[OPT_DESCRIBE].given)
        puts(json);
    else
        st = print_plans(json, &err);
    fflush(stdout);
    if (st != FLUX1_OK)
        print_error("%s", err.message);
    return st == FLUX1_OK ? EXIT_DONE : EXIT_FAILED;
}

/* A context as the options ask, but on one device: mesh and dtype are the planned machine's. */
static int open_planner(const options *opt, flux1_context **context)
{
    static const option_id planned[] = {OPT_MESH, OPT_SP, OPT_TP, OPT_DTYPE};
    options here = *opt;
    for (size_t i = 0; i < sizeof planned / sizeof *planned; i++)
        here.values[planned[i]] = (option_value){0};
    return open_context(&here, context);
}

/* What cannot go together; NULL: nothing. */
static const char *conflict(const option_value *v)
{
    if (v[OPT_MODEL].given && v[OPT_VARIANT].given)
        return "--variant cannot be combined with --model";
    if (v[OPT_DESCRIBE].given && v[OPT_RECORD].given)
        return "--record cannot be combined with --describe, which plans nothing";
    if (v[OPT_DESCRIBE].given && v[OPT_TIMELINE].given)
        return "--timeline cannot be combined with --describe, which plans nothing";
    if (v[OPT_RECORD].given && strcmp(v[OPT_RECORD].text, "-") == 0)
        return "--record -: a recording goes to a file";
    return NULL;
}

int plan_run(const options *opt)
{
    const option_value *v = opt->values;
    flux1_context *context = NULL;
    flux1_plan_params params;
    char *json = NULL;
    if (conflict(v)) {
        print_error("%s", conflict(v));
        return EXIT_USAGE;
    }
    if (!outputs_distinct(opt, NULL, NULL, 0))
        return EXIT_USAGE;
    fill_plan(opt, &params);
    catch_signals();
    int status = open_planner(opt, &context);
    if (status == EXIT_DONE) {
        watch_signals(context);
        flux1_status st = was_interrupted() ? FLUX1_ERR_CANCELLED : flux1_plan_json(context, &params, &json);
        watch_signals(NULL);
        const int printed = json ? print_answer(opt, json) : EXIT_DONE;
        status = report(context, st);
        status = status != EXIT_DONE ? status : printed;
    }
    flux1_string_free(json);
    flux1_context_destroy(context);
    return finish_output(status);
}
