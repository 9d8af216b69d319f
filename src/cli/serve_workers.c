#include "cli/serve_workers.h"

#include "base/limits.h"
#include "base/pool.h"
#include "cli/cli.h"
#include "cli/console.h"
#include "cli/hints.h"

#include <stdlib.h>
#include <string.h>

static int refuse(const char *why)
{
    print_failure(FLUX1_ERR_ARGUMENT, "--workers: %s; devices are named as in cuda:0,cuda:1", why);
    return EXIT_USAGE;
}

int serve_workers_read(const options *opt, serve_workers *out)
{
    char *rest;
    out->count = 1;
    if (!opt->values[OPT_WORKERS].given)
        return EXIT_DONE;
    if (opt->values[OPT_DEVICE].given || opt->values[OPT_MESH].given)
        return refuse("it takes the place of --device, and of --mesh, whose ranks share each picture");
    hints_instead(OPT_DEVICE, OPT_WORKERS);
    if (!(rest = out->text = strdup(opt->values[OPT_WORKERS].text)))
        return refuse("out of memory");
    for (out->count = 0; rest; out->count++) {
        if (out->count == SERVER_WORKERS)
            return refuse("64 devices at most");
        out->device[out->count] = strsep(&rest, ",");
        if (!*out->device[out->count])
            return refuse("a name is missing");
    }
    return EXIT_DONE;
}

void serve_workers_free(serve_workers *d) { free(d->text); }

/* What is available leaves out what this process has; a limit that was given does not. */
void serve_workers_share(serve_workers *d, const options *opt)
{
    const option_value *limit = &opt->values[OPT_MAX_MEMORY];
    const uint64_t taken = limit->given ? limits_resident() : 0, all = limit->given ? limit->seed : limits_memory();
    if (d->count > 1)
        d->memory = all > taken + (uint64_t)d->count ? (all - taken) / (uint64_t)d->count : 1;
}

options serve_worker_options(const options *opt, const serve_workers *d, int index)
{
    options here = *opt;
    if (!d->device[index])
        return here;
    const int share = cpu_physical_cores() / d->count;
    here.values[OPT_DEVICE] = (option_value){.given = true, .text = d->device[index]};
    if (d->memory)
        here.values[OPT_MAX_MEMORY] = (option_value){.given = true, .seed = d->memory};
    here.shares = d->memory > 0;
    if (!here.values[OPT_THREADS].given)
        here.values[OPT_THREADS] = (option_value){.given = true, .whole = share > 0 ? share : 1};
    return here;
}
