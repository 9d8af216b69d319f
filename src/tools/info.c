/* flux1 info: what a folder is, what is wrong with it, what a picture will take. */
#include "pipeline/adapter_calls.h"
#include "pipeline/opening.h"
#include "pipeline/places.h"
#include "pipeline/text_to_image.h"

#include "base/file.h"
#include "base/json_write.h"
#include "flux1_tools.h"
#include "tools/info_request.h"
#include "tools/verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double parameters(const store *s)
{
    double sum = 0;
    for (size_t i = 0; i < store_count(s); i++)
        sum += (double)tensor_elements(&store_at(s, i)->view);
    return sum;
}

typedef struct share {
    dtype type;
    double parameters;
} share;

static int larger_first(const void *a, const void *b)
{
    const share *x = a, *y = b;
    return (y->parameters > x->parameters) - (y->parameters < x->parameters);
}

/* "Q4_K 96.1 %, F32 3.9 %": types by their share of the parameters; "BF16" alone is all. */
static void describe_types(const store *s, char *out, size_t room)
{
    share shares[DTYPE_COUNT];
    size_t used = 0;
    double sum = 0;
    for (int t = 0; t < DTYPE_COUNT; t++)
        shares[t] = (share){.type = (dtype)t};
    for (size_t i = 0; i < store_count(s); i++) {
        const tensor *t = &store_at(s, i)->view;
        shares[t->type].parameters += (double)tensor_elements(t);
        sum += (double)tensor_elements(t);
    }
    qsort(shares, DTYPE_COUNT, sizeof *shares, larger_first);
    out[0] = '\0';
    for (int i = 0; i < DTYPE_COUNT && shares[i].parameters > 0 && used < room; i++) {
        const char *name = dtype_describe(shares[i].type)->name;
        const double percent = 100 * shares[i].parameters / sum;
        if (shares[i].parameters == sum)
            snprintf(out, room, "%s", name);
        else
            used += (size_t)snprintf(out + used, room - used, "%s%s %.*f %%", i ? ", " : "", name,
                                     percent < 0.05 ? 3 : 1, percent);
    }
}

static void describe_component(json_writer *w, component part, const store *s)
{
    size_t bytes = 0;
    char dtypes[128];
    for (size_t i = 0; i < store_count(s); i++)
        bytes += tensor_bytes(&store_at(s, i)->view);
    describe_types(s, dtypes, sizeof dtypes);
    json_begin_object(w, NULL);
    json_put_string(w, "component", component_folder(part));
    json_put_unsigned(w, "tensors", store_count(s));
    json_put_unsigned(w, "parameters", (uint64_t)parameters(s));
    json_put_unsigned(w, "bytes", bytes);
    json_put_string(w, "dtypes", dtypes);
    json_put_string(w, "path", store_path(s));
    json_end_object(w);
}

/* What was chosen, and how to get what is nowhere. */
static void describe_places(json_writer *w, const located *l)
{
    bool missing = false;
    if (l->repository)
        json_put_string(w, "repository", l->repository);
    if (l->notes.count) {
        json_begin_array(w, "chosen");
        for (size_t i = 0; i < l->notes.count; i++)
            json_put_string(w, NULL, l->notes.note[i].text);
        json_end_array(w);
    }
    for (int c = 0; c < COMPONENTS; c++)
        missing = missing || l->missing[c];
    if (!missing)
        return;
    json_begin_array(w, "missing");
    for (int c = 0; c < COMPONENTS; c++) {
        if (!l->missing[c])
            continue;
        json_begin_object(w, NULL);
        json_put_string(w, "component", component_folder((component)c));
        json_put_string(w, "get", places_command((component)c));
        json_end_object(w);
    }
    json_end_array(w);
}

static void describe_components(json_writer *w, store *const *stores)
{
    json_begin_array(w, "components");
    for (int p = 0; p < COMPONENTS; p++)
        if (stores[p])
            describe_component(w, p, stores[p]);
    json_end_array(w);
}

static const char *kind_of(bool guidance)
{
    return guidance ? "FLUX.1 dev (with guidance embedding)" : "FLUX.1 schnell (without guidance embedding)";
}

static void describe_defaults(json_writer *w, const flux1_model *m)
{
    flux1_model_info info = {.size = sizeof info};
    char sizes[TRAINED_ROOM];
    flux1_model_get_info(m, &info);
    json_put_string(w, "kind", kind_of(info.guidance));
    json_put_string(w, "tokenizers", m->tokenizers ? m->tokenizers : "built in");
    if (m->unused)
        json_put_string(w, "unused", m->unused);
    if (trained_describe(&m->trained, sizes)[0])
        json_put_string(w, "trained_for", sizes);
    json_begin_object(w, "defaults");
    json_put_integer(w, "width", info.default_width);
    json_put_integer(w, "height", info.default_height);
    json_put_integer(w, "steps", info.default_steps);
    if (info.guidance)
        json_put_float(w, "guidance", info.default_guidance);
    json_put_integer(w, "max_sequence_length", info.default_sequence_length);
    json_put_integer(w, "size_multiple", info.size_multiple);
    json_end_object(w);
}

/* What opens of a model that is not whole. */
static void open_remains(const located *l, store **stores)
{
    for (int p = 0; p < COMPONENTS; p++) {
        const char *const stem[] = {component_stem(p), NULL};
        const char *path = l->part[p] ? l->part[p] : l->model;
        char *folder = path && !l->part[p] && file_is_directory(path) ? path_join(path, component_folder(p)) : NULL;
        if (path && !file_is_directory(path))
            store_open_part(path, component_part(p), &stores[p], NULL);
        else if (path)
            store_open(folder ? folder : path, stem, l->variant, &stores[p], NULL);
        free(folder);
    }
}

static void describe_remains(json_writer *w, store *const *stores)
{
    if (stores[COMPONENT_DIT])
        json_put_string(w, "kind", kind_of(store_find(stores[COMPONENT_DIT], GUIDANCE_TENSOR) != NULL));
    describe_components(w, stores);
}

/* ---- a request with adapters ---- */

/* What is described. */
typedef struct subject {
    const model_paths *paths;
    const flux1_adapter_file *adapters;
    int adapter_count;
    const flux1_generate_params *params;
    int verify;
} subject;

static flux1_status open_adapters(flux1_context *c, const flux1_model *m, const subject *s, flux1_adapter_use *uses)
{
    if (s->adapter_count < 0 || s->adapter_count > FLUX1_ADAPTER_FILES_MAX || (s->adapter_count && !s->adapters))
        return error_set(&c->error, FLUX1_ERR_ARGUMENT, "%d adapters: it should be a list of at most %d",
                         s->adapter_count, FLUX1_ADAPTER_FILES_MAX);
    for (int i = 0; i < s->adapter_count; i++) {
        TRY(context_needs(c, s->adapters[i].path, "an adapter's path"));
        TRY(adapter_open_named(c, m, s->adapters[i].path, &uses[i].adapter));
        uses[i].scale = s->adapters[i].scale;
    }
    return FLUX1_OK;
}

static void describe_adapters(json_writer *w, const flux1_adapter_use *uses, int count)
{
    if (!count)
        return;
    json_begin_array(w, "adapters");
    for (int i = 0; i < count; i++) {
        flux1_adapter_info info = {.size = sizeof info};
        flux1_adapter_get_info(uses[i].adapter, &info);
        json_begin_object(w, NULL);
        json_put_string(w, "adapter", uses[i].adapter->path);
        json_put_string(w, "kinds", info.kinds);
        json_put_integer(w, "applied", info.applied);
        json_put_integer(w, "entries", info.pairs);
        json_put_integer(w, "rank_min", info.rank_min);
        json_put_integer(w, "rank_max", info.rank_max);
        json_put_float(w, "scale", uses[i].scale);
        json_end_object(w);
    }
    json_end_array(w);
}

static flux1_status describe_request(flux1_context *c, const flux1_model *m, const subject *s, json_writer *w)
{
    flux1_adapter_use uses[FLUX1_ADAPTER_FILES_MAX] = {0};
    flux1_status st = open_adapters(c, m, s, uses);
    if (st == FLUX1_OK) {
        describe_adapters(w, uses, s->adapter_count);
        st = info_request(c, m, uses, s->adapter_count, s->params, w);
    }
    for (int i = 0; i < FLUX1_ADAPTER_FILES_MAX; i++)
        adapter_leave(uses[i].adapter);
    return st;
}

/* ---- all of it ---- */

/* Describes the model, or, of one that is not whole, what is there; all of it is verified. */
static flux1_status describe(flux1_context *c, const subject *s, json_writer *w)
{
    flux1_model *m = NULL;
    store *remains[COMPONENTS] = {0};
    located l;
    flux1_error first = {0};
    void (*log)(void *, flux1_log_level, const char *) = c->log;
    c->log = NULL; /* what was chosen is in the description */
    flux1_status st = opening_locate(c, s->paths, &l, &m);
    c->log = log;
    describe_places(w, &l);
    if (st == FLUX1_OK) {
        describe_defaults(w, m);
        describe_components(w, m->store);
    } else {
        first = c->error;
        open_remains(&l, remains);
        describe_remains(w, remains);
    }
    if (s->verify && (st == FLUX1_OK || !m)) {
        const flux1_status verified = verify_stores(c, m ? m->store : remains, m != NULL, w);
        json_put_bool(w, "verified", verified == FLUX1_OK);
        if (st == FLUX1_OK)
            st = verified;
        else if (verified == FLUX1_OK)
            c->error = first;
        else
            error_append(&c->error, "; %s", first.message);
    }
    json_put_bool(w, "complete", m != NULL);
    if (st == FLUX1_OK)
        st = describe_request(c, m, s, w);
    for (int p = 0; p < COMPONENTS; p++)
        store_close(remains[p]);
    located_free(&l);
    folder_close(m);
    return st;
}

static flux1_status info_json(flux1_context *c, const subject *s, char **json)
{
    json_writer w = {.style = JSON_INDENTED};
    const char *path = s->paths->model;
    for (int p = 0; p < COMPONENTS && !path; p++)
        path = s->paths->part[p];
    TRY(context_needs(c, path, "path"));
    json_begin_object(&w, NULL);
    json_put_string(&w, "path", path);
    flux1_status st = describe(c, s, &w);
    if (st != FLUX1_OK)
        json_put_string(&w, "problem", c->error.message);
    json_end_object(&w);
    flux1_status written = json_take(&w, "the description", json, st == FLUX1_OK ? &c->error : NULL);
    return st == FLUX1_OK ? written : st;
}

flux1_status flux1_info_json(flux1_context *c, const char *path, const flux1_generate_params *params, int verify,
                             char **json)
{
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    return info_json(c, &(subject){.paths = &(model_paths){.model = path}, .params = params, .verify = verify}, json);
}

flux1_status flux1_info_parts_json(flux1_context *c, const flux1_model_parts *parts, const flux1_adapter_file *adapters,
                                   int adapter_count, const flux1_generate_params *params, int verify, char **json)
{
    model_paths paths;
    TRY(context_begin(c));
    TRY(context_needs(c, json, "json"));
    *json = NULL;
    TRY(opening_paths(c, parts, &paths));
    return info_json(c, &(subject){&paths, adapters, adapter_count, params, verify}, json);
}

void flux1_string_free(char *text) { free(text); }
