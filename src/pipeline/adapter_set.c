#include "pipeline/adapter_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void name_kinds(const adapter_file *f, char *out, size_t size)
{
    size_t used = 0;
    for (int k = 0; k < ADAPTER_KINDS; k++)
        if (f->kinds & 1u << k && used < size)
            used +=
                (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", adapter_kind_name((adapter_kind)k));
}

flux1_status adapter_open_for(const struct flux1_model *m, const char *path, struct flux1_adapter **out,
                              flux1_error *err)
{
    static atomic_ullong last;
    const store *stores[MODEL_PARTS];
    *out = NULL;
    for (int c = 0; c < COMPONENTS; c++)
        stores[component_part((component)c)] = m->store[c];
    struct flux1_adapter *a = calloc(1, sizeof *a);
    if (!a || !(a->path = strdup(path))) {
        free(a);
        return error_oom(err, sizeof *a, path);
    }
    atomic_init(&a->users, 1);
    a->number = atomic_fetch_add(&last, 1) + 1;
    a->model = m->source.number;
    flux1_status st = adapter_open(path, stores, &a->file, err);
    if (st != FLUX1_OK) {
        adapter_leave(a);
        return st;
    }
    name_kinds(a->file, a->kinds, sizeof a->kinds);
    *out = a;
    return FLUX1_OK;
}

void adapter_leave(struct flux1_adapter *a)
{
    if (!a || atomic_fetch_sub(&a->users, 1) > 1)
        return;
    adapter_close(a->file);
    free(a->path);
    free(a);
}

bool adapter_set_same(const adapter_set *a, const adapter_set *b)
{
    bool same = a->count == b->count;
    for (int i = 0; same && i < a->count; i++)
        same = a->adapter[i]->number == b->adapter[i]->number && a->scale[i] == b->scale[i];
    return same;
}

static bool changes(const adapter_file *f, const model_part *parts, int count)
{
    for (size_t i = 0; i < f->count; i++)
        for (int k = 0; k < count; k++)
            if (f->term[i].part == parts[k])
                return true;
    return false;
}

static void take_those_of(const adapter_set *s, const model_part *parts, int count, adapter_set *out)
{
    *out = (adapter_set){0};
    for (int i = 0; s && i < s->count; i++)
        if (s->scale[i] != 0 && changes(s->adapter[i]->file, parts, count)) {
            out->adapter[out->count] = s->adapter[i];
            out->scale[out->count++] = s->scale[i];
        }
}

void adapter_set_of_texts(const adapter_set *s, adapter_set *out)
{
    take_those_of(s, (model_part[]){component_part(COMPONENT_CLIP), component_part(COMPONENT_T5)}, 2, out);
}

void adapter_set_of_part(const adapter_set *s, model_part part, adapter_set *out) { take_those_of(s, &part, 1, out); }

/* The index of the next one from i that merges something into the part with any strength. */
static int next_merge(const adapter_set *s, model_part part, int i)
{
    while (i < s->count && (s->scale[i] == 0 || s->adapter[i]->file->merged[part] == 0))
        i++;
    return i;
}

bool adapter_set_merges(const adapter_set *s, model_part part) { return next_merge(s, part, 0) < s->count; }

bool adapter_set_merges_same(const adapter_set *a, const adapter_set *b, model_part part)
{
    int i = next_merge(a, part, 0), k = next_merge(b, part, 0);
    while (i < a->count && k < b->count && a->adapter[i]->number == b->adapter[k]->number &&
           a->scale[i] == b->scale[k]) {
        i = next_merge(a, part, i + 1);
        k = next_merge(b, part, k + 1);
    }
    return i == a->count && k == b->count;
}

void adapter_set_change(adapter_set *s, const adapter_set *by)
{
    const adapter_set before = *s;
    *s = by ? *by : (adapter_set){0};
    for (int i = 0; i < s->count; i++)
        atomic_fetch_add(&s->adapter[i]->users, 1);
    for (int i = 0; i < before.count; i++)
        adapter_leave(before.adapter[i]);
}

void adapter_set_uses(const adapter_set *s, adapter_use out[ADAPTERS_MAX])
{
    for (int i = 0; i < s->count; i++)
        out[i] = (adapter_use){s->adapter[i]->file, s->scale[i]};
}
