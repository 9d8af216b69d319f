#include "pipeline/search.h"

#include "base/builder.h"
#include "base/ending.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/listing.h"
#include "weights/safetensors.h"
#include "weights/gguf.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 4096 /* headers that one search reads */
#define SKIPPED_MAX 5  /* files that are named as unreadable; the rest are counted */
#define OTHERS_MAX 3   /* files beside the best one that are named */

/* A file, and what it holds if it is one of weights. */
typedef struct looked {
    uint64_t key[2]; /* device and inode; 0, 0 in a free place */
    bool weights, holds[COMPONENTS];
} looked;

/* One that fits. */
typedef struct candidate {
    char *path;
    uint64_t device, inode;
    double bits; /* a weight, on average */
    bool usual;  /* by its name */
} candidate;

typedef struct choice {
    search *s;
    component c;
    flux1_error *err;
    candidate *candidate;
    size_t count;
} choice;

/* ---- files by content ---- */

/* By its first bytes: like a file of weights that flux1 reads. */
static bool like_weights(const char *path)
{
    unsigned char first[16] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const ssize_t n = fd < 0 ? -1 : read(fd, first, sizeof first);
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)sizeof first && (gguf_is(first, sizeof first) || safetensors_like(first, sizeof first));
}

static void skip(search *s, const char *why)
{
    if (s->skipped++ < SKIPPED_MAX)
        notes_add(s->notes, FLUX1_LOG_WARNING, "skipped: %s", why);
}

static void skip_link(search *s, const char *path)
{
    flux1_error one;
    error_set(&one, FLUX1_ERR_IO, "%s: a link to a file that is not there", path);
    skip(s, one.message);
}

/* Files of other models say nothing; broken ones and those in a form that flux1 does not read do. */
static flux1_status look_at(search *s, const char *path, looked *out, flux1_error *err)
{
    store_contents contents;
    flux1_error one = {0};
    const flux1_status st = store_look(path, &contents, &one);
    if (st == FLUX1_ERR_MEMORY)
        return error_set(err, st, "%s", one.message);
    if (st != FLUX1_OK && st != FLUX1_ERR_MODEL)
        skip(s, one.message);
    for (int c = 0; st == FLUX1_OK && c < COMPONENTS; c++)
        out->holds[c] = contents.prefix[component_part((component)c)] != NULL;
    return FLUX1_OK;
}

/* ---- each file once ---- */

/* Where the file is in the table, or belongs. */
static looked *place_of(const search *s, const uint64_t key[2])
{
    size_t i = (size_t)hash_bytes(key, 2 * sizeof key[0]) & (s->room - 1);
    while ((s->looked[i].key[0] || s->looked[i].key[1]) && memcmp(s->looked[i].key, key, sizeof s->looked[i].key) != 0)
        i = (i + 1) & (s->room - 1);
    return &s->looked[i];
}

/* The table is at most half full. */
static flux1_status make_room(search *s, flux1_error *err)
{
    if (2 * s->looked_count < s->room)
        return FLUX1_OK;
    const search before = *s;
    const size_t room = before.room ? 2 * before.room : 256;
    looked *table = calloc(room, sizeof *table);
    if (!table)
        return error_oom(err, room * sizeof *table, "the files that were looked at");
    s->looked = table;
    s->room = room;
    for (size_t i = 0; i < before.room; i++)
        if (before.looked[i].key[0] || before.looked[i].key[1])
            *place_of(s, before.looked[i].key) = before.looked[i];
    free(before.looked);
    return FLUX1_OK;
}

static flux1_status look_first(search *s, const char *path, bool there, looked *l, flux1_error *err)
{
    const bool named = ends_in_any_case(path, ".safetensors") || ends_in_any_case(path, ".gguf");
    l->weights = s->weights < FILES_MAX && (named || (there && like_weights(path)));
    if (!l->weights)
        return FLUX1_OK;
    if (++s->weights == FILES_MAX)
        notes_add(s->notes, FLUX1_LOG_WARNING, "the search ends after %d files of weights; name the parts", FILES_MAX);
    if (there)
        return look_at(s, path, l, err);
    skip_link(s, path);
    return FLUX1_OK;
}

/* *holds: whether the file is one of weights that holds the part. */
static flux1_status look(search *s, component c, const char *path, bool *holds, flux1_error *err)
{
    struct stat info;
    const bool there = stat(path, &info) == 0;
    *holds = false;
    if ((!there && lstat(path, &info) != 0) || (there && !S_ISREG(info.st_mode)))
        return FLUX1_OK;
    const uint64_t key[2] = {(uint64_t)info.st_dev, (uint64_t)info.st_ino};
    TRY(make_room(s, err));
    looked *l = place_of(s, key);
    if (!l->key[0] && !l->key[1]) {
        memcpy(l->key, key, sizeof key);
        s->looked_count++;
        TRY(look_first(s, path, there, l, err));
    }
    *holds = l->weights && l->holds[c];
    return FLUX1_OK;
}

/* ---- candidates ---- */

static double bits_of(const store *s)
{
    double bytes = 0, elements = 0;
    for (size_t i = 0; i < store_count(s); i++) {
        bytes += (double)tensor_bytes(&store_at(s, i)->view);
        elements += (double)tensor_elements(&store_at(s, i)->view);
    }
    return elements > 0 ? 8 * bytes / elements : 0;
}

static bool contains(const char *text, const char *word)
{
    while (*text && strncasecmp(text, word, strlen(word)) != 0)
        text++;
    return *text;
}

/* Names that the part has in FLUX.1's repositories: other models have parts of the same shape. */
static bool has_usual_name(component c, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (c == COMPONENT_VAE)
        return strncasecmp(name, "ae.", 3) == 0 || contains(name, "flux");
    return c == COMPONENT_CLIP && contains(name, "clip_l");
}

/* Links may lead to one file twice; the candidate then has the usual name if one of them has. */
static bool is_known(choice *r, const char *path, const struct stat *info)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->candidate[i].device == (uint64_t)info->st_dev && r->candidate[i].inode == (uint64_t)info->st_ino) {
            r->candidate[i].usual = r->candidate[i].usual || has_usual_name(r->c, path);
            return true;
        }
    return false;
}

/* Opens the part and takes it if it fits. `path` is the choice's, also on failure. */
static flux1_status consider(choice *r, char *path)
{
    store *s = NULL;
    struct stat info = {0};
    flux1_error one = {0};
    if (stat(path, &info) != 0 || is_known(r, path, &info)) {
        free(path);
        return FLUX1_OK;
    }
    const bool folder = S_ISDIR(info.st_mode);
    char *config = folder ? path_join(path, "config.json") : NULL;
    flux1_status st = folder && !config ? error_oom(&one, 0, "a path") : FLUX1_OK;
    if (st == FLUX1_OK)
        st = folder ? store_open(path, (const char *const[]){component_stem(r->c), NULL}, r->s->variant, &s, &one)
                    : store_open_part(path, component_part(r->c), &s, &one);
    const bool opened = st == FLUX1_OK;
    if (opened)
        st = fit_check(s, r->c, config, &r->s->fit, &one);
    candidate *larger = st == FLUX1_OK ? realloc(r->candidate, (r->count + 1) * sizeof *larger) : NULL;
    if (larger) {
        r->candidate = larger;
        r->candidate[r->count++] = (candidate){.path = path,
                                               .device = (uint64_t)info.st_dev,
                                               .inode = (uint64_t)info.st_ino,
                                               .bits = bits_of(s),
                                               .usual = folder || has_usual_name(r->c, path)};
        path = NULL;
    } else if (st == FLUX1_OK || st == FLUX1_ERR_MEMORY) {
        st = error_oom(r->err, 0, "the search for parts");
    } else {
        if (!opened)
            skip(r->s, one.message);
        else if (!r->s->misfit[r->c][0])
            snprintf(r->s->misfit[r->c], sizeof r->s->misfit[r->c], "%.500s", one.message);
        st = FLUX1_OK;
    }
    store_close(s);
    free(config);
    free(path);
    return st;
}

flux1_status search_is_pipeline(const char *folder, bool *is, flux1_error *err)
{
    json_value *json = NULL;
    flux1_error one = {0};
    *is = false;
    if (!file_exists_in(folder, "model_index.json"))
        return FLUX1_OK;
    char *path = path_join(folder, "model_index.json");
    if (!path)
        return error_oom(err, 0, "a path");
    if (json_parse_file(path, &json, &one) == FLUX1_OK) {
        const json_value *name = json_object_get(json, "_class_name");
        *is = json_is_string(name) && strncmp(json_string_value(name), "Flux", 4) == 0 &&
              strncmp(json_string_value(name), "Flux2", 5) != 0;
    }
    json_free(json);
    free(path);
    return error_pass_memory(&one, err);
}

/* A pipeline's folder of the part. */
static flux1_status consider_pipeline(choice *r, const char *folder)
{
    char *part = path_join(folder, component_folder(r->c));
    if (!part)
        return error_oom(r->err, 0, "a path");
    if (file_exists_in(part, "config.json"))
        return consider(r, part);
    free(part);
    return FLUX1_OK;
}

static flux1_status consider_folder(choice *r, const char *folder, int depth);

static flux1_status consider_entry(choice *r, const char *folder, const char *name, int depth)
{
    bool holds;
    char *path = path_join(folder, name);
    if (!path)
        return error_oom(r->err, 0, "a path");
    flux1_status st = FLUX1_OK;
    if (file_is_directory(path)) {
        bool pipeline;
        st = search_is_pipeline(path, &pipeline, r->err);
        if (st == FLUX1_OK && pipeline)
            st = consider_pipeline(r, path);
        else if (st == FLUX1_OK && depth > 0 && !places_know(name)) /* those are places themselves */
            st = consider_folder(r, path, depth - 1);
    } else {
        st = look(r->s, r->c, path, &holds, r->err);
        if (st == FLUX1_OK && holds)
            return consider(r, path);
    }
    free(path);
    return st;
}

static flux1_status consider_folder(choice *r, const char *folder, int depth)
{
    listing l;
    flux1_error one = {0};
    flux1_status st = FLUX1_OK;
    bool pipeline;
    TRY(search_is_pipeline(folder, &pipeline, r->err));
    if (pipeline)
        TRY(consider_pipeline(r, folder));
    if (listing_read(folder, &l, &one) != FLUX1_OK) {
        skip(r->s, one.message);
        return error_pass_memory(&one, r->err);
    }
    for (size_t i = 0; st == FLUX1_OK && i < l.count; i++)
        st = consider_entry(r, folder, l.name[i], depth);
    listing_free(&l);
    return st;
}

/* ---- the best one ---- */

/* The better one first. */
static int by_merit(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->usual != y->usual)
        return x->usual ? -1 : 1;
    if (x->bits != y->bits)
        return x->bits > y->bits ? -1 : 1;
    return strcmp(x->path, y->path);
}

static const char *title_of(component c) { return name_map_of(component_part(c))->title; }

/* "T5: /m/clip/t5xxl_fp16.safetensors, beside it; also there, and not taken: t5xxl_fp8.safetensors (8.0 bits …)" */
static void tell(const choice *r, const char *why)
{
    builder b = {0};
    const candidate *best = &r->candidate[0];
    for (size_t i = 1; i < r->count && i <= OTHERS_MAX; i++)
        builder_format(&b, "%s%s (%.1f)", i > 1 ? ", " : "", r->candidate[i].path, r->candidate[i].bits);
    if (r->count > OTHERS_MAX + 1)
        builder_format(&b, " and %zu more", r->count - OTHERS_MAX - 1);
    if (r->count == 1)
        notes_add(r->s->notes, FLUX1_LOG_INFO, "%s: %s (found %s, %.1f bits a weight)", title_of(r->c), best->path, why,
                  best->bits);
    else
        notes_add(r->s->notes, FLUX1_LOG_INFO, "%s: %s (found %s, %.1f bits a weight), not %s: %s", title_of(r->c),
                  best->path, why, best->bits, b.text ? b.text : "others",
                  best->usual != r->candidate[1].usual ? "it has the usual name"
                  : best->bits != r->candidate[1].bits ? "most bits first"
                                                       : "of equal ones the first by name");
    builder_free(&b);
}

/* Takes the best candidate, if there is any, and frees the others. */
static char *take_best(choice *r, const char *why)
{
    char *best = NULL;
    if (r->count) {
        qsort(r->candidate, r->count, sizeof *r->candidate, by_merit);
        tell(r, why);
        best = r->candidate[0].path;
    }
    for (size_t i = 1; i < r->count; i++)
        free(r->candidate[i].path);
    free(r->candidate);
    r->candidate = NULL;
    r->count = 0;
    return best;
}

flux1_status search_part(search *s, component c, const places *p, char **path, flux1_error *err)
{
    choice r = {.s = s, .c = c, .err = err};
    flux1_status st = FLUX1_OK;
    *path = NULL;
    for (size_t i = 0; st == FLUX1_OK && !*path && i < p->count; i++) {
        st = consider_folder(&r, p->place[i].path, p->place[i].depth);
        if (i + 1 == p->count || p->place[i + 1].group != p->place[i].group || st != FLUX1_OK)
            *path = take_best(&r, p->place[i].why);
    }
    if (st != FLUX1_OK) {
        free(*path);
        *path = NULL;
    }
    return st;
}

flux1_status search_file(search *s, component c, const char *file, bool *holds, flux1_error *err)
{
    return look(s, c, file, holds, err);
}

/* ---- tokenizers ---- */

/* Pipelines of other models have two of CLIP's. */
bool search_has_tokenizers(const char *folder)
{
    const bool t5 =
        file_exists_in(folder, "tokenizer_2/spiece.model") ||
        (file_exists_in(folder, "tokenizer_2/tokenizer.json") && !file_exists_in(folder, "tokenizer_2/merges.txt"));
    return t5 && (file_exists_in(folder, "tokenizer/vocab.json") || file_exists_in(folder, "tokenizer/tokenizer.json"));
}

/* In the folder or in one right below it. */
static flux1_status find_tokenizers(const char *folder, char **path, flux1_error *err)
{
    listing l;
    flux1_error one = {0};
    if (search_has_tokenizers(folder))
        return (*path = strdup(folder)) ? FLUX1_OK : error_oom(err, 0, "a path");
    if (listing_read(folder, &l, &one) != FLUX1_OK)
        return error_pass_memory(&one, err);
    flux1_status st = FLUX1_OK;
    for (size_t i = 0; st == FLUX1_OK && !*path && i < l.count; i++) {
        char *below = path_join(folder, l.name[i]);
        if (!below)
            st = error_oom(err, 0, "a path");
        else if (search_has_tokenizers(below))
            *path = below;
        else
            free(below);
    }
    listing_free(&l);
    return st;
}

flux1_status search_tokenizers(search *s, const places *p, char **path, flux1_error *err)
{
    *path = NULL;
    for (size_t i = 0; !*path && i < p->count; i++) {
        TRY(find_tokenizers(p->place[i].path, path, err));
        if (*path)
            notes_add(s->notes, FLUX1_LOG_INFO, "tokenizers: %s (found %s)", *path, p->place[i].why);
    }
    return FLUX1_OK;
}

void search_end(search *s)
{
    if (s->skipped > SKIPPED_MAX)
        notes_add(s->notes, FLUX1_LOG_WARNING, "skipped: %zu more files", s->skipped - SKIPPED_MAX);
    free(s->looked);
    s->looked = NULL;
    s->looked_count = s->room = 0;
}
