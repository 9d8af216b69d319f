/* Adapters. The input is a file of them (fuzz_file.h) if it begins like a header, which is opened for a small model and
 * merged into all of its tensors; otherwise it is a key. What is found fits into its bounds. */
#include "fuzz.h"
#include "fuzz_file.h"

#include "weights/adapter_merge.h"

static void read_key(const uint8_t *data, size_t size)
{
    adapter_targets t;
    char *name = malloc(size + 1);
    if (!name)
        return;
    memcpy(name, data, size);
    name[size] = '\0';
    const adapter_key key = adapter_key_read(name);
    if (key.base > strlen(name))
        abort();
    adapter_targets_find(name, key.base, &t);
    if (t.count < 0 || t.count > ADAPTER_TARGETS_MAX)
        abort();
    for (int i = 0; i < t.count; i++)
        if (strlen(t.name[i]) >= NAME_BYTES_MAX)
            abort();
    adapter_stranger(name, false);
    free(name);
}

/* A transformer and CLIP of two blocks, 64 and 32 wide; opened once. */
static const store *const *model(void)
{
    static store *parts[MODEL_PARTS];
    flux1_error err = {0};
    if (!parts[MODEL_CLIP] &&
        (store_open_part(TEST_DATA "/files/bfl/flux1.safetensors", MODEL_TRANSFORMER, &parts[MODEL_TRANSFORMER],
                         &err) != FLUX1_OK ||
         store_open_part(TEST_DATA "/files/bfl/clip_l.safetensors", MODEL_CLIP, &parts[MODEL_CLIP], &err) != FLUX1_OK))
        abort();
    return (const store *const *)parts;
}

/* The first row and the last element. */
static void merge(const adapter_use *use, model_part part, const store_tensor *base)
{
    adapter_merged *m;
    flux1_error err = {0};
    float row[4096];
    if (adapter_merge(use, 1, part, base, ADAPTER_MERGE_ALL, &m, &err) != FLUX1_OK)
        abort();
    if (!m)
        return;
    const tensor *v = &adapter_merged_tensor(m)->view;
    const int64_t all = tensor_elements(v), wide = v->dims == 2 ? v->shape[1] : 1;
    if (wide > 4096 || tensor_decode(v, 0, wide, row, &err) != FLUX1_OK ||
        tensor_decode(v, all - 1, 1, row, &err) != FLUX1_OK)
        abort();
    adapter_merged_free(m);
}

static void read_file(const uint8_t *data, size_t size)
{
    adapter_file *f;
    flux1_error err = {0};
    fuzz_file_write(data, size);
    flux1_status st = adapter_open(fuzz_path, model(), &f, &err);
    if (st != FLUX1_OK) {
        if (f || err.status != st || !strstr(err.message, fuzz_path))
            abort();
        return;
    }
    const adapter_use use = {f, 0.5f};
    for (int part = MODEL_CLIP; part <= MODEL_TRANSFORMER; part++)
        for (size_t i = 0; model()[part] && i < store_count(model()[part]); i++)
            merge(&use, (model_part)part, store_at(model()[part], i));
    adapter_close(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 20)
        return 0;
    if (size && data[0] == '{')
        read_file(data, size);
    else
        read_key(data, size);
    return 0;
}
