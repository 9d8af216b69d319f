/* The five configs of a pipeline: any JSON gives sizes that the models can be built from on shapes alone, or one
 * sentence. */
#include "fuzz.h"

#include "pipeline/stages.h"

#include <stdlib.h>
#include <string.h>

static void check(flux1_status st, const flux1_error *err)
{
    if (st != FLUX1_OK && strncmp(err->message, "f.json", 6) != 0)
        abort();
}

/* All models of a folder whose configs were accepted, without weights: sizes must not overflow, blocks must fit
 * together. */
static void build(struct flux1_model *m)
{
    flux1_error err = {0};
    if (m->clip.layers + m->t5.layers + m->dit.layers + m->dit.single_layers > 16)
        return;
    for (int i = 0; i < COMPONENTS; i++)
        if (store_synthetic(DTYPE_BF16, false, &m->store[i], &err) != FLUX1_OK)
            abort();
    if (stage_claim_all(m, &err) != FLUX1_OK)
        abort();
    for (int i = 0; i < COMPONENTS; i++)
        store_close(m->store[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_value *root = NULL;
    flux1_error err = {0};
    struct flux1_model m = {0};
    if (json_parse((const char *)data, size, "f.json", &root, &err) != FLUX1_OK)
        return 0;
    flux1_status c = clip_config_read(root, "f.json", &m.clip, &err);
    check(c, &err);
    flux1_status t = t5_config_read(root, "f.json", &m.t5, &err);
    check(t, &err);
    flux1_status d = dit_config_read(root, "f.json", &m.dit, &err);
    check(d, &err);
    flux1_status v = vae_config_read(root, "f.json", &m.vae, &err);
    check(v, &err);
    flux1_status scheduler = scheduler_config_read(root, "f.json", &m.scheduler, &err);
    check(scheduler, &err);
    if (scheduler == FLUX1_OK) {
        float sigmas[9];
        scheduler_sigmas(&m.scheduler, 8, 4096, sigmas);
    }
    if (!c && !t && !d && !v)
        build(&m);
    json_free(root);
    return 0;
}
