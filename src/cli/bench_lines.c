#include "cli/bench_lines.h"

#include "base/builder.h"
#include "base/json.h"
#include "cli/console.h"

#include <stdio.h>
#include <string.h>

enum { TIME_ROOM = 32 };

static double number(const json_value *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static const char *text(const json_value *object, const char *key)
{
    const json_value *v = json_object_get(object, key);
    return json_is_string(v) ? json_string_value(v) : "";
}

/* With four digits: "1.234 s", "56.78 ms", "9.012 us". */
static const char *time_text(double seconds, char out[TIME_ROOM])
{
    const double value = seconds >= 1 ? seconds : seconds >= 1e-3 ? 1e3 * seconds : 1e6 * seconds;
    const int decimals = value < 10 ? 3 : value < 100 ? 2 : value < 1000 ? 1 : 0;
    snprintf(out, TIME_ROOM, "%.*f %s", decimals, value, seconds >= 1 ? "s" : seconds >= 1e-3 ? "ms" : "us");
    return out;
}

/* ": 1.234 s (1.200 s..1.300 s)" */
static void print_times(const json_value *row)
{
    char middle[TIME_ROOM], least[TIME_ROOM], most[TIME_ROOM];
    printf(": %s (%s..%s)", time_text(number(row, "seconds"), middle), time_text(number(row, "seconds_min"), least),
           time_text(number(row, "seconds_max"), most));
}

/* The share is left out where the peak is not known. */
static void print_rate(const json_value *row, const char *type)
{
    const double rate = number(row, "flops_per_second"), share = number(row, "share_of_peak");
    if (rate > 0)
        printf(", %.1f GFLOP/s", rate / 1e9);
    if (share > 0)
        printf(", %.1f %% of the peak%s%s", 100 * share, *type ? " of " : "", type);
    if (number(row, "processor_share_of_peak") > 0)
        printf(" (%.1f %% in processor time)", 100 * number(row, "processor_share_of_peak"));
}

static void print_kernel(const json_value *row)
{
    printf("%s, %s", text(row, "stage"), text(row, "kernel"));
    if (*text(row, "shape"))
        printf(" %s", text(row, "shape"));
    print_times(row);
    printf(", %.1f %% of the stage", 100 * number(row, "share_of_stage"));
    if (number(row, "calls") > 0)
        printf(", %.0f call%s", number(row, "calls"), number(row, "calls") > 1 ? "s" : "");
    print_rate(row, text(row, "type"));
    if (number(row, "flops") <= 0 && number(row, "bytes_per_second") > 0)
        printf(", %.1f GB/s", number(row, "bytes_per_second") / 1e9);
    putchar('\n');
}

static void print_stage(const json_value *row, const json_value *kernels)
{
    const json_value *kernel;
    printf("%s", text(row, "stage"));
    print_times(row);
    print_rate(row, "");
    putchar('\n');
    for (size_t i = 0; (kernel = json_array_get(kernels, i)); i++)
        if (!strcmp(text(kernel, "stage"), text(row, "stage")))
            print_kernel(kernel);
}

/* Models have names of their files, and processors of their makers. */
static void print_setup(const json_value *report)
{
    builder b = {0};
    builder_format(&b, "setup: flux1 %s, %s, %s, %s, threads %.0f, mesh sp %.0f tp %.0f, %.0fx%.0f, tokens %.0f",
                   text(report, "version"), text(report, "model"), text(report, "dtype"), text(report, "isa"),
                   number(report, "threads"), number(report, "sp"), number(report, "tp"), number(report, "width"),
                   number(report, "height"), number(report, "max_sequence_length"));
    builder_format(&b, ", steps %.0f", number(report, "steps"));
    if (*text(report, "cpu"))
        builder_format(&b, ", %s", text(report, "cpu"));
    if (number(report, "peak_flops_per_second") > 0)
        builder_format(&b, ", peak %.1f GFLOP/s of %s", number(report, "peak_flops_per_second") / 1e9,
                       text(report, "peak_type"));
    if (number(report, "peak_int8_flops_per_second") > 0)
        builder_format(&b, ", %.1f of int8", number(report, "peak_int8_flops_per_second") / 1e9);
    print_plain(b.text ? b.text : "", "");
    printf(", load %.2f\n", number(report, "load_average"));
    builder_free(&b);
}

flux1_status bench_lines_print(const char *json, bool *told, flux1_error *err)
{
    json_value *report;
    const json_value *row;
    TRY(json_parse(json, strlen(json), "the result", &report, err));
    const json_value *stages = json_object_get(report, "stages");
    *told = json_object_get(json_array_get(stages, 0), "seconds") != NULL;
    if (*told)
        print_setup(report);
    for (size_t i = 0; *told && (row = json_array_get(stages, i)); i++)
        print_stage(row, json_object_get(report, "kernels"));
    json_free(report);
    return FLUX1_OK;
}
