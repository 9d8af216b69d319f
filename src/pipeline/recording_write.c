#include "pipeline/recording.h"

#include "base/file.h"
#include "base/utf8.h"
#include "ops/script_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void put_head(const recording *r, builder *b)
{
    const mesh_config *m = &r->mesh;
    builder_format(b, "flux1-recording %d\n", RECORDING_VERSION);
    builder_format(b, "model variant=%s\n", r->guidance ? "dev" : "schnell");
    if (r->path)
        builder_format(b, "path %s\n", r->path);
    builder_format(b,
                   "picture width=%" PRId64 " height=%" PRId64 " steps=%" PRId64 " clip_tokens=%" PRId64
                   " t5_tokens=%" PRId64 "\n",
                   r->width, r->height, r->steps, r->clip_tokens, r->t5_tokens);
    builder_format(b, "mesh shape=%dx%d sp=%d@%d tp=%d@%d\n", m->shape[0], m->shape[1], m->sp, m->sp_axis, m->tp,
                   m->tp_axis);
    builder_add(b, "guidance ");
    builder_float(b, r->guidance_scale);
    builder_add(b, "\nsigmas");
    for (int64_t i = 0; i <= r->steps; i++) {
        builder_add(b, " ");
        builder_float(b, r->sigmas[i]);
    }
    builder_add(b, "\n");
}

static flux1_status put_all(const recording *r, builder *b, flux1_error *err)
{
    for (const char *p = r->path; p && *p; p++)
        if ((unsigned char)*p < ' ')
            return error_set(err, FLUX1_ERR_ARGUMENT,
                             "the model's path has a control character, which a recording cannot have");
    if (r->path && !utf8_valid(r->path, strlen(r->path)))
        return error_set(err, FLUX1_ERR_ARGUMENT, "the model's path is not UTF-8, which a recording is");
    put_head(r, b);
    for (int i = 0; i < RECORDING_STAGES; i++) {
        builder_format(b, "stage %s\n", recording_names[i]);
        for (size_t l = 0; l < r->stage[i].lines; l++)
            script_write(&r->stage[i], l, b);
    }
    builder_add(b, "end\n");
    return FLUX1_OK;
}

flux1_status recording_text(const recording *r, char **out, flux1_error *err)
{
    builder b = {0};
    flux1_status st = put_all(r, &b, err);
    if (st == FLUX1_OK)
        st = builder_take(&b, "the recording", out, err);
    builder_free(&b);
    return st;
}

flux1_status recording_write(const recording *r, const char *path, flux1_error *err)
{
    char *text;
    TRY(recording_text(r, &text, err));
    flux1_status st = file_write(path, text, strlen(text), err);
    free(text);
    return st;
}
