#include "tools/peaks.h"

#include "base/checked.h"
#include "base/pool.h"
#include "mesh/mesh.h"
#include "tools/peak.h"

#include <string.h>

enum { THREADS_MOST = 256 };

typedef double (*peak_fn)(double seconds);

typedef struct peak_job {
    peak_fn one;
    double rate[THREADS_MOST];
} peak_job;

static void peak_task(void *arg, int64_t index, int worker)
{
    (void)worker;
    peak_job *job = arg;
    job->rate[index] = job->one(0.2);
}

static double of_all(pool *workers, int threads, peak_fn one)
{
    peak_job job = {.one = one};
    double sum = 0;
    pool_run(workers, threads, peak_task, &job);
    for (int i = 0; i < threads; i++)
        sum += job.rate[i];
    return sum;
}

/* Of the instruction sets that the kernels may be chosen for: float32, bf16 (NULL: as float32) and int8. */
static const struct {
    const char *isa;
    peak_fn f32, bf16, int8;
} KNOWN[] = {{"avx512amx", peak_avx512, peak_avx512amx, peak_avx512amx_int8},
             {"avx512bf16", peak_avx512, peak_avx512bf16, peak_avx512vnni},
             {"avx512vnni", peak_avx512, NULL, peak_avx512vnni},
             {"avx512", peak_avx512, NULL, peak_avx2_int8},
             {"avxvnni", peak_avx2, NULL, peak_avxvnni},
             {"", peak_avx2, NULL, peak_avx2_int8}};

flux1_status peaks_measure(flux1_context *c, peaks *out)
{
    const char *isa = ops_cpu_isa();
    const ops_config *config = &c->device.config;
    *out = (peaks){.bf16 = config->arithmetic == DTYPE_BF16 && ops_cpu_multiplies_bf16()};
    const int ranks = mesh_ranks(&c->mesh), each = config->threads / ranks; /* a rank has one thread at least */
    const int asked = (int)i64_min((int64_t)ranks * (each > 1 ? each : 1), THREADS_MOST);
    const int threads = (int)i64_min(asked, cpu_available()); /* more take turns, and add nothing */
    out->threads = threads;
    if (c->device.device->info.memory || c->processes)
        return FLUX1_OK; /* a GPU's peak takes its own libraries to reach: bench/ */
    pool *workers;
    TRY(pool_create(threads, &workers, &c->error));
    size_t i = 0;
    while (*KNOWN[i].isa && strcmp(KNOWN[i].isa, isa))
        i++;
    out->exact = of_all(workers, threads, out->bf16 && KNOWN[i].bf16 ? KNOWN[i].bf16 : KNOWN[i].f32);
    if (config->int8)
        out->int8 = of_all(workers, threads,
                           config->int8 == INT8_ROTATED && ops_cpu_int8_quads() ? peak_avx2_quads : KNOWN[i].int8);
    pool_destroy(workers);
    return FLUX1_OK;
}

const char *peaks_type(const peaks *p, bool int8) { return int8 ? "int8" : p->bf16 ? "bf16" : "f32"; }
