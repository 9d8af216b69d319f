/* A recording from its text: the head's lines in their order, then the stages in theirs. */
#include "pipeline/recording.h"

#include "base/file.h"
#include "ops/script_text.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 28, TOKENS_MAX = 1 << 16 };

typedef struct lines {
    char *next; /* NULL: the text has ended */
    int number; /* of the line read last */
    flux1_error *err;
} lines;

/* The next line that is not empty and no comment, ended by a NUL; NULL at the end. */
static char *next_line(lines *l)
{
    while (l->next && *l->next) {
        char *line = l->next, *end = strchr(line, '\n');
        l->number++;
        l->next = end ? end + 1 : NULL;
        if (end)
            *end = '\0';
        if (*line && *line != '#')
            return line;
    }
    l->next = NULL;
    return NULL;
}

static flux1_status wrong(const lines *l, const char *expected)
{
    return error_set(l->err, FLUX1_ERR_FORMAT, "line %d should be \"%s\"", l->number, expected);
}

/* The rest of a line that begins so; NULL if it does not. */
static const char *behind(const char *line, const char *word)
{
    const size_t n = strlen(word);
    return line && strncmp(line, word, n) == 0 ? line + n : NULL;
}

static bool read_key(const char **at, const char *key, int64_t least, int64_t most, int64_t *out)
{
    const char *value = behind(*at, key);
    if (!value || !script_number(&value, out) || *out < least || *out > most)
        return false;
    *at = value;
    return true;
}

static flux1_status read_picture(lines *l, const char *line, recording *r)
{
    const char *at = behind(line, "picture");
    if (!at || !read_key(&at, " width=", 1, SIZE_LIMIT, &r->width) ||
        !read_key(&at, " height=", 1, SIZE_LIMIT, &r->height) || !read_key(&at, " steps=", 1, STEPS_LIMIT, &r->steps) ||
        !read_key(&at, " clip_tokens=", 1, TOKENS_MAX, &r->clip_tokens) ||
        !read_key(&at, " t5_tokens=", 1, TOKENS_MAX, &r->t5_tokens) || *at)
        return wrong(l, "picture width=W height=H steps=N clip_tokens=N t5_tokens=N");
    return FLUX1_OK;
}

/* "mesh shape=2x4 sp=2@0 tp=4@1" */
static flux1_status read_mesh(lines *l, char *line, recording *r)
{
    static const char form[] = "mesh shape=RxC sp=F@A tp=F@A";
    const char *shape = behind(line, "mesh shape=");
    char *sp = line ? strstr(line, " sp=") : NULL, *tp = line ? strstr(line, " tp=") : NULL;
    if (!shape || !sp || !tp || tp < sp)
        return wrong(l, form);
    *sp = *tp = '\0';
    flux1_status st = mesh_parse(shape, sp + strlen(" sp="), tp + strlen(" tp="), &r->mesh, l->err);
    if (st == FLUX1_OK)
        return FLUX1_OK;
    l->err->status = st == FLUX1_ERR_MEMORY ? st : FLUX1_ERR_FORMAT;
    return error_prefix(l->err, "line %d", l->number);
}

static flux1_status read_sigmas(lines *l, const char *line, recording *r)
{
    const char *at = behind(line, "sigmas");
    if (!at)
        return wrong(l, "sigmas S S … 0");
    if (!(r->sigmas = malloc((size_t)(r->steps + 1) * sizeof *r->sigmas)))
        return error_oom(l->err, 0, "a recording");
    for (int64_t i = 0; i <= r->steps; i++)
        if (*at++ != ' ' || !script_real(&at, &r->sigmas[i]))
            return error_set(l->err, FLUX1_ERR_FORMAT, "line %d should have %lld numbers behind sigmas", l->number,
                             (long long)r->steps + 1);
    return *at ? error_set(l->err, FLUX1_ERR_FORMAT, "line %d should have %lld numbers behind sigmas", l->number,
                           (long long)r->steps + 1)
               : FLUX1_OK;
}

static flux1_status read_version(lines *l)
{
    const char *line = next_line(l), *at = behind(line, "flux1-recording ");
    int64_t version;
    if (!at || !script_number(&at, &version) || *at)
        return error_set(l->err, FLUX1_ERR_FORMAT,
                         "it is not a recording: it does not begin with \"flux1-recording %d\"", RECORDING_VERSION);
    return version == RECORDING_VERSION
               ? FLUX1_OK
               : error_set(l->err, FLUX1_ERR_UNSUPPORTED,
                           "it is a recording of version %lld, this program reads version %d; record it again",
                           (long long)version, RECORDING_VERSION);
}

static flux1_status read_head(lines *l, recording *r)
{
    TRY(read_version(l));
    const char *variant = behind(next_line(l), "model variant=");
    if (!variant || (strcmp(variant, "dev") != 0 && strcmp(variant, "schnell") != 0))
        return wrong(l, "model variant=schnell or dev");
    r->guidance = strcmp(variant, "dev") == 0;
    char *line = next_line(l);
    const char *path = behind(line, "path ");
    if (path && !(r->path = strdup(path)))
        return error_oom(l->err, strlen(path), "a recording");
    TRY(read_picture(l, path ? next_line(l) : line, r));
    TRY(read_mesh(l, next_line(l), r));
    const char *guidance = behind(next_line(l), "guidance ");
    if (!guidance || !script_real(&guidance, &r->guidance_scale) || *guidance)
        return wrong(l, "guidance G");
    return read_sigmas(l, next_line(l), r);
}

/* The stages' lines, each up to the next one's name. */
static flux1_status read_stages(lines *l, recording *r)
{
    const char *stage = behind(next_line(l), "stage ");
    for (int i = 0; i < RECORDING_STAGES; i++) {
        script *s = &r->stage[i];
        char *line;
        if (!stage || strcmp(stage, recording_names[i]) != 0)
            return error_set(l->err, FLUX1_ERR_FORMAT, "line %d should be \"stage %s\"", l->number, recording_names[i]);
        *s = (script){.sp = r->mesh.sp, .tp = r->mesh.tp};
        while ((line = next_line(l)) && !(stage = behind(line, "stage ")) && strcmp(line, "end") != 0)
            if (script_read(s, line, l->number, l->err) != FLUX1_OK)
                return error_prefix(l->err, "line %d", l->number);
        if (!line)
            return error_set(l->err, FLUX1_ERR_FORMAT, "it ends at line %d, without \"end\": it was cut off",
                             l->number);
    }
    return stage || next_line(l) ? error_set(l->err, FLUX1_ERR_FORMAT, "line %d is behind the last stage", l->number)
                                 : FLUX1_OK;
}

flux1_status recording_parse(char *text, const char *name, recording *out, flux1_error *err)
{
    lines l = {.next = text, .err = err};
    *out = (recording){0};
    flux1_status st = read_head(&l, out);
    if (st == FLUX1_OK)
        st = read_stages(&l, out);
    if (st == FLUX1_OK)
        return FLUX1_OK;
    recording_free(out);
    return error_prefix(err, "%s", name);
}

flux1_status recording_read(const char *path, recording *out, flux1_error *err)
{
    char *text;
    size_t size;
    *out = (recording){0};
    TRY(file_read(path, FILE_BYTES_MAX, &text, &size, err));
    flux1_status st = strlen(text) == size ? recording_parse(text, path, out, err)
                                           : error_set(err, FLUX1_ERR_FORMAT, "%s: it is not a recording", path);
    free(text);
    return st;
}
