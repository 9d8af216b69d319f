#include "pipeline/locate.h"

#include "base/builder.h"
#include "base/file.h"
#include "pipeline/resolve.h"
#include "pipeline/search.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order in which parts are looked for: the others must fit the transformer. */
static const component order[COMPONENTS] = {COMPONENT_DIT, COMPONENT_CLIP, COMPONENT_T5, COMPONENT_VAE};

typedef struct job {
    const model_paths *named;
    located *out;
    search search;
    char *folder;        /* a folder of files that was named as the model */
    store_contents held; /* what the file does that was named as the model */
    const char *given[COMPONENTS + 1];
    size_t given_count;
    flux1_error *err;
} job;

/* A pipeline's folder, whole or not, and no other one. */
static bool like_pipeline(const char *folder)
{
    char name[64];
    bool like = file_exists_in(folder, "model_index.json");
    for (int c = 0; !like && c < COMPONENTS; c++) {
        snprintf(name, sizeof name, "%s/config.json", component_folder((component)c));
        like = file_exists_in(folder, name);
    }
    return like;
}

/* ---- what is named ---- */

/* The model's own path, unless it is a folder of files, which is where parts are looked for. */
static flux1_status locate_model(job *j)
{
    resolved r;
    if (!j->named->model)
        return FLUX1_OK;
    flux1_status st = resolve(j->named->model, &r, j->err);
    if (st != FLUX1_OK) {
        resolved_free(&r);
        return st;
    }
    j->out->repository = r.repository;
    j->out->pull = r.pull;
    if (file_is_directory(r.path) && !like_pipeline(r.path)) {
        j->folder = r.path;
        return FLUX1_OK;
    }
    j->out->model = r.path;
    if (file_is_directory(r.path))
        return r.pull ? resolve_check(r.path, r.pull, j->named, j->err) : FLUX1_OK;
    return file_exists(r.path) ? store_look(r.path, &j->held, j->err) : FLUX1_OK;
}

/* A folder that was named for a part: the part's own, a pipeline's, or one of files. */
static flux1_status locate_in_folder(job *j, component c, char **path)
{
    char *found = NULL, *part = path_join(*path, component_folder(c));
    places p = {0};
    flux1_status st = part ? FLUX1_OK : error_oom(j->err, 0, "a path");
    if (st == FLUX1_OK && file_exists_in(part, "config.json")) {
        found = part;
        part = NULL;
    } else if (st == FLUX1_OK) {
        st = places_of_folder(c, *path, &p, j->err);
        if (st == FLUX1_OK)
            st = search_part(&j->search, c, &p, &found, j->err);
    }
    if (found) {
        free(*path);
        *path = found;
    }
    places_free(&p);
    free(part);
    return st;
}

static flux1_status locate_part(job *j, component c)
{
    resolved r = {0};
    if (!j->named->part[c])
        return FLUX1_OK;
    flux1_status st = resolve(j->named->part[c], &r, j->err);
    if (st == FLUX1_OK && file_is_directory(r.path) && !file_exists_in(r.path, "config.json"))
        st = locate_in_folder(j, c, &r.path);
    if (st == FLUX1_OK) {
        j->out->part[c] = r.path;
        r.path = NULL;
    }
    resolved_free(&r);
    return st;
}

static flux1_status locate_named_tokenizers(job *j)
{
    resolved r = {0};
    if (!j->named->tokenizers)
        return FLUX1_OK;
    flux1_status st = resolve(j->named->tokenizers, &r, j->err);
    if (st == FLUX1_OK) {
        j->out->tokenizers = r.path;
        r.path = NULL;
    }
    resolved_free(&r);
    return st;
}

/* ---- what is not ---- */

static void list_given(job *j)
{
    const located *p = j->out;
    if (j->folder || p->model)
        j->given[j->given_count++] = j->folder ? j->folder : p->model;
    for (int i = 0; i < COMPONENTS; i++)
        if (p->part[order[i]])
            j->given[j->given_count++] = p->part[order[i]];
}

static flux1_status learn_fit(job *j)
{
    const char *path = j->out->part[COMPONENT_DIT];
    store *s = NULL;
    flux1_error one = {0};
    if (path && file_is_directory(path))
        store_open(path, (const char *const[]){component_stem(COMPONENT_DIT), NULL}, j->named->variant, &s, &one);
    else if (path || j->held.prefix[MODEL_TRANSFORMER])
        store_open_part(path ? path : j->out->model, MODEL_TRANSFORMER, &s, &one);
    if (s)
        fit_learn(s, &j->search.fit);
    store_close(s);
    return error_pass_memory(&one, j->err);
}

/* A file that was named for another part may hold this one too. */
static flux1_status look_into_given(job *j, component c, char **path)
{
    for (size_t i = 0; !*path && i < j->given_count; i++) {
        bool holds = false;
        if (!file_is_directory(j->given[i]))
            TRY(search_file(&j->search, c, j->given[i], &holds, j->err));
        if (!holds)
            continue;
        if (!(*path = strdup(j->given[i])))
            return error_oom(j->err, 0, "a path");
        notes_add(&j->out->notes, FLUX1_LOG_INFO, "%s: %s, which holds it too", name_map_of(component_part(c))->title,
                  *path);
    }
    return FLUX1_OK;
}

static flux1_status look_for(job *j, component c)
{
    char *path = NULL;
    places p = {0};
    if (j->out->part[c] || j->held.prefix[component_part(c)])
        return FLUX1_OK;
    flux1_status st = look_into_given(j, c, &path);
    if (st == FLUX1_OK && !path)
        st = c == COMPONENT_DIT && j->folder ? places_of_folder(c, j->folder, &p, j->err)
                                             : places_of_part(c, j->given, j->given_count, &p, j->err);
    if (st == FLUX1_OK && !path)
        st = search_part(&j->search, c, &p, &path, j->err);
    j->out->part[c] = path;
    j->out->missing[c] = !path;
    if (st == FLUX1_OK && !path && j->search.misfit[c][0] && !(j->out->misfit[c] = strdup(j->search.misfit[c])))
        st = error_oom(j->err, 0, "a sentence");
    places_free(&p);
    return st;
}

/* Those of the pipeline that T5 comes from are T5's. */
static flux1_status take_t5_s_tokenizers(job *j)
{
    char above[PATH_MAX], real[PATH_MAX];
    const char *t5 = j->out->part[COMPONENT_T5];
    if (!t5 || !file_is_directory(t5))
        return FLUX1_OK;
    snprintf(above, sizeof above, "%s/..", t5);
    if (!realpath(above, real) || !search_has_tokenizers(real))
        return FLUX1_OK;
    if (!(j->out->tokenizers = strdup(real)))
        return error_oom(j->err, 0, "a path");
    notes_add(&j->out->notes, FLUX1_LOG_INFO, "tokenizers: %s (where T5 is)", real);
    return FLUX1_OK;
}

static flux1_status look_for_tokenizers(job *j)
{
    char *path = NULL;
    places p = {0};
    if (!j->out->tokenizers)
        TRY(take_t5_s_tokenizers(j));
    if (j->out->tokenizers)
        return FLUX1_OK;
    flux1_status st = places_of_part(COMPONENT_CLIP, j->given, j->given_count, &p, j->err);
    if (st == FLUX1_OK)
        st = search_tokenizers(&j->search, &p, &path, j->err);
    j->out->tokenizers = path;
    places_free(&p);
    return st;
}

static flux1_status look_for_rest(job *j)
{
    const located *p = j->out;
    const bool named_dit = p->part[COMPONENT_DIT];
    list_given(j);
    if (p->model && !j->folder && (file_is_directory(p->model) || !file_exists(p->model)))
        return FLUX1_OK; /* it has all parts, or it is a mistake */
    if (j->given_count == 0)
        return FLUX1_OK;
    for (int i = 0; i < COMPONENTS; i++) {
        TRY(look_for(j, order[i]));
        if (order[i] != COMPONENT_DIT)
            continue;
        if (!named_dit && p->part[COMPONENT_DIT])
            j->given[j->given_count++] = p->part[COMPONENT_DIT];
        TRY(learn_fit(j));
    }
    return look_for_tokenizers(j);
}

flux1_status locate(const model_paths *named, located *out, flux1_error *err)
{
    job j = {.named = named, .out = out, .search = {.notes = &out->notes, .variant = named->variant}, .err = err};
    *out = (located){.variant = named->variant};
    flux1_status st = locate_model(&j);
    for (int c = 0; st == FLUX1_OK && c < COMPONENTS; c++)
        st = locate_part(&j, (component)c);
    if (st == FLUX1_OK)
        st = locate_named_tokenizers(&j);
    if (st == FLUX1_OK)
        st = look_for_rest(&j);
    if (j.folder && !out->part[COMPONENT_DIT]) { /* for the message that says what a folder should hold */
        out->model = j.folder;
        j.folder = NULL;
    }
    search_end(&j.search);
    free(j.folder);
    if (st == FLUX1_OK && out->notes.failed)
        return error_oom(err, 0, "a note");
    return st;
}

flux1_status locate_tokenizers(const model_paths *named, located *out, flux1_error *err)
{
    job j = {.named = named, .out = out, .search = {.notes = &out->notes, .variant = named->variant}, .err = err};
    *out = (located){.variant = named->variant};
    flux1_status st = locate_model(&j);
    if (st == FLUX1_OK)
        st = locate_part(&j, COMPONENT_DIT);
    if (st == FLUX1_OK)
        st = locate_named_tokenizers(&j);
    list_given(&j);
    if (st == FLUX1_OK && j.given_count && !(out->model && (file_is_directory(out->model) || !file_exists(out->model))))
        st = look_for_tokenizers(&j);
    search_end(&j.search);
    free(j.folder);
    return st == FLUX1_OK && out->notes.failed ? error_oom(err, 0, "a note") : st;
}

model_paths located_paths(const located *l)
{
    model_paths p = {.model = l->model, .tokenizers = l->tokenizers, .variant = l->variant, .name = l->repository};
    for (int c = 0; c < COMPONENTS; c++)
        p.part[c] = l->part[c];
    return p;
}

void located_free(located *l)
{
    free(l->model);
    free(l->tokenizers);
    for (int c = 0; c < COMPONENTS; c++) {
        free(l->part[c]);
        free(l->misfit[c]);
    }
    free(l->repository);
    free(l->pull);
    notes_free(&l->notes);
    *l = (located){0};
}

/* ---- what is missing ---- */

void locate_advise(const located *l, flux1_error *err)
{
    bool any = false;
    const bool folder = l->model && file_is_directory(l->model); /* whose error says what it should hold */
    for (int c = 0; !folder && c < COMPONENTS; c++) {
        if (!l->missing[c])
            continue;
        if (l->misfit[c])
            error_append(err, "; %s", l->misfit[c]);
        any = true;
    }
    for (int c = 0, n = 0; any && c < COMPONENTS; c++)
        if (l->missing[c])
            error_append(err, "%s%s", n++ ? "; " : "; to get what is missing: ", places_command((component)c));
    if (!any && l->pull && err->status == FLUX1_ERR_MODEL)
        error_append(err, "; if the download is not complete: flux1 pull %s", l->pull);
}

/* ---- what is left over ---- */

static flux1_status note_strays(notes *n, const char *path, flux1_error *err)
{
    store_contents c;
    flux1_error one = {0};
    if (store_look(path, &c, &one) == FLUX1_OK && c.strays)
        notes_add(n, FLUX1_LOG_WARNING, "%s: %zu tensor%s of no part of FLUX.1 %s ignored, such as \"%s\"", path,
                  c.strays, c.strays > 1 ? "s" : "", c.strays > 1 ? "are" : "is", c.stray);
    return one.status == FLUX1_OK && n->failed ? error_oom(err, 0, "a note") : error_pass_memory(&one, err);
}

flux1_status locate_strays(located *l, flux1_error *err)
{
    if (l->model && !file_is_directory(l->model))
        TRY(note_strays(&l->notes, l->model, err));
    for (int c = 0; c < COMPONENTS; c++) {
        bool told = !l->part[c] || file_is_directory(l->part[c]);
        for (int k = 0; !told && k < c; k++)
            told = l->part[k] && strcmp(l->part[k], l->part[c]) == 0;
        if (!told)
            TRY(note_strays(&l->notes, l->part[c], err));
    }
    return FLUX1_OK;
}
