/* Machine files: any JSON is a machine whose times are finite and not negative, or one sentence. */
#include "fuzz.h"

#include "tools/machine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void plan_with(const machine *m)
{
    const ops_event product = {.kind = EVENT_COMPUTE,
                               .operation = "product",
                               .batch = 1,
                               .m = 4608,
                               .n = 3072,
                               .k = 3072,
                               .flops = 8.7e10,
                               .bytes_in = (size_t)1 << 30},
                    gather = {.kind = EVENT_COLLECTIVE, .operation = "all_gather", .bytes_moved = 1000, .ranks = 2};
    bool by_flops;
    double seconds = machine_compute(m, m->dtype, machine_share(m, 8), &product, &by_flops);
    if (!m->this_cpu && !(isfinite(seconds) && seconds > 0))
        abort();
    seconds = m->exchange[EXCHANGE_GATHER].rate > 0 ? machine_exchange_seconds(m, &gather, m->links[0]) : 1;
    if (!(isfinite(seconds) && seconds > 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_value *root = NULL;
    flux1_error err = {0};
    machine m;
    if (json_parse((const char *)data, size, "f.json", &root, &err) != FLUX1_OK)
        return 0;
    if (machine_read(root, "f.json", &m, &err) == FLUX1_OK)
        plan_with(&m);
    else if (strncmp(err.message, "f.json", 6) != 0)
        abort();
    json_free(root);
    return 0;
}
