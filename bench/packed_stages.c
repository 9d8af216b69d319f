/* bench_packed_stages: whole stages with packed weights beside bf16 ones, in one process and in turns: processor time
 * of the text encoders and of a denoising step as ratios to the folder's own, and the most memory that each took.
 *   bench_packed_stages SIZE TOKENS ROUNDS FOLDER [FILES...]
 * FOLDER: a pipeline of bf16 weights. FILES: folders that bench/packed_files.py has made of it. */
#include "flux1.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MODELS = 20, ROUNDS = 16, STAGES = 3 };
static const char *const STAGE_NAMES[STAGES] = {"text", "dit opening", "dit step"};

static flux1_context *context;

static void must(flux1_status st)
{
    if (st != FLUX1_OK) {
        fprintf(stderr, "bench_packed_stages: %s\n", flux1_context_message(context));
        exit(1);
    }
}

static double processor_seconds(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + 1e-6 * (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

/* ---- the most resident memory since it was last asked for ---- */

static double peak_mib(void)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "VmHWM:", 6))
            kib = atof(line + 6);
    if (f)
        fclose(f);
    if ((f = fopen("/proc/self/clear_refs", "w"))) {
        fputs("5", f);
        fclose(f);
    }
    return kib / 1024;
}

/* ---- one model, one round ---- */

static const char *file_in(const char *folder, const char *part, char out[4096])
{
    static const char *const endings[] = {"gguf", "safetensors"};
    for (int i = 0; i < 2; i++) {
        snprintf(out, 4096, "%s/%s.%s", folder, part, endings[i]);
        if (access(out, R_OK) == 0)
            return out;
    }
    fprintf(stderr, "bench_packed_stages: %s: no %s in it\n", folder, part);
    exit(1);
}

static flux1_model *open_model(const char *folder, const char *files)
{
    char transformer[4096], t5[4096];
    flux1_model *m;
    flux1_model_parts parts = {.size = sizeof parts, .model = folder};
    if (files)
        parts.transformer = file_in(files, "transformer", transformer), parts.t5 = file_in(files, "t5", t5);
    must(flux1_model_open_parts(context, &parts, &m));
    return m;
}

static double since(double *mark)
{
    const double begin = *mark;
    return (*mark = processor_seconds()) - begin;
}

static void run(const char *folder, const char *files, int size, int tokens, double seconds[STAGES], double mib[STAGES])
{
    flux1_generate_params p;
    flux1_text *text;
    flux1_sampler *sampler;
    flux1_model *m = open_model(folder, files);
    flux1_generate_params_defaults(&p);
    p.width = p.height = size, p.max_sequence_length = tokens, p.steps = 4, p.prompt = "a lighthouse at dusk";
    peak_mib();
    double mark = processor_seconds();
    must(flux1_encode_text(context, m, &p, &text));
    seconds[0] = since(&mark), mib[0] = peak_mib();
    mark = processor_seconds();
    must(flux1_sampler_create(context, m, text, &p, &sampler));
    seconds[1] = since(&mark), mib[1] = peak_mib();
    mark = processor_seconds();
    must(flux1_sampler_step(sampler, NULL));
    seconds[2] = since(&mark), mib[2] = peak_mib();
    flux1_sampler_free(sampler);
    flux1_text_free(text);
    flux1_model_close(m);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(const double *values, int n)
{
    double list[ROUNDS];
    memcpy(list, values, (size_t)n * sizeof *list);
    qsort(list, (size_t)n, sizeof *list, by_value);
    return n % 2 ? list[n / 2] : 0.5 * (list[n / 2 - 1] + list[n / 2]);
}

int main(int argc, char **argv)
{
    static double seconds[STAGES][MODELS][ROUNDS], ratio[STAGES][MODELS][ROUNDS], mib[MODELS][STAGES];
    const int models = argc - 4, rounds = argc > 3 ? atoi(argv[3]) : 0;
    if (models < 1 || models > MODELS || rounds < 1 || rounds > ROUNDS) {
        fprintf(stderr, "usage: bench_packed_stages SIZE TOKENS ROUNDS FOLDER [FILES...]\n");
        return 2;
    }
    must(flux1_context_create(NULL, &context));
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < models; i++) {
            double here[STAGES];
            run(argv[4], i ? argv[4 + i] : NULL, atoi(argv[1]), atoi(argv[2]), here, mib[i]);
            for (int s = 0; s < STAGES; s++) {
                seconds[s][i][r] = here[s];
                ratio[s][i][r] = here[s] / seconds[s][0][r];
            }
            fprintf(stderr, "round %d, %s: text %.2f s, dit opening %.2f s, dit step %.2f s\n", r + 1, argv[4 + i],
                    here[0], here[1], here[2]);
        }
    for (int i = 0; i < models; i++) {
        printf("%-24s", argv[4 + i]);
        for (int s = 0; s < STAGES; s++)
            printf("  %s %.2f s = %.3f, %.0f MiB", STAGE_NAMES[s], median(seconds[s][i], rounds),
                   median(ratio[s][i], rounds), mib[i][s]);
        printf("\n");
    }
    flux1_context_destroy(context);
    return 0;
}
