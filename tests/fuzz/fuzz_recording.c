/* Recordings: any text is a recording, or one sentence. What is one is written again as it was; its calls are refused
 * by the dry run, or can be made: on one rank they are, on ops/ref, with tensors and inputs of 8 x 8. */
#include "fuzz.h"

#include "mesh/script_play.h"
#include "ops/script_text.h"
#include "pipeline/recording.h"

#include <stdlib.h>
#include <string.h>

enum { SIDE = 8, ARENA_MOST = 1 << 20 };

static float values[SIDE * SIDE];
static int32_t ids[SIDE];

static flux1_status find_tensor(void *user, const char *name, const store_tensor **out, flux1_error *err)
{
    static const store_tensor square = {
        .name = "t", .file = "f", .view = {.type = DTYPE_F32, .dims = 2, .shape = {SIDE, SIDE}, .data = values}};
    (void)user, (void)err;
    *out = name ? &square : NULL;
    return FLUX1_OK;
}

static flux1_status find_input(void *user, const char *name, tensor *out, flux1_error *err)
{
    (void)user, (void)err;
    *out = strcmp(name, "ids") == 0 ? (tensor){.type = DTYPE_I32, .dims = 2, .shape = {SIDE, 1}, .data = ids}
                                    : (tensor){.type = DTYPE_F32, .dims = 2, .shape = {SIDE, SIDE}, .data = values};
    return FLUX1_OK;
}

static flux1_status find_row(void *user, const char *name, int64_t *out, flux1_error *err)
{
    (void)user, (void)name, (void)err;
    *out = 1;
    return FLUX1_OK;
}

static flux1_status play(void *script_of_stage, mesh *m)
{
    float result[SIDE * SIDE];
    tensor output = {.type = DTYPE_F32, .dims = 2, .shape = {SIDE, SIDE}, .data = result};
    const script_sources from = {.tensor = find_tensor, .input = find_input, .row = find_row, .output = &output};
    player *p = NULL;
    TRY(player_create(m, &from, &p));
    flux1_status st = player_run(p, script_of_stage);
    player_destroy(p);
    return st;
}

/* What the dry run lets pass goes well, or tells of its values. */
static void make_calls(const mesh_config *c, script *s, size_t bytes)
{
    ops_device *ref = NULL;
    mesh_session *session = NULL;
    flux1_error err = {0};
    if (ops_ref_device.open(0, &ref, &err) != FLUX1_OK)
        return;
    const mesh_device d = {.kind = &ops_ref_device, .device = ref, .config = {.arithmetic = DTYPE_F32, .threads = 1}};
    flux1_status st = mesh_open(c, &d, &session, &err);
    if (st == FLUX1_OK && mesh_reserve(session, &bytes, &err) == FLUX1_OK &&
        mesh_run(session, play, s, &err) == FLUX1_ERR_INTERNAL)
        abort();
    mesh_close(session);
    ops_device_close(ref);
}

static void play_stage(const mesh_config *c, script *s)
{
    const mesh_device d = {.kind = &ops_ref_device, .config = {.arithmetic = DTYPE_F32, .threads = 1}};
    ops_count count = {0};
    flux1_error err = {0};
    for (int r = 0; r < mesh_ranks(c) && r < 4; r++) {
        const flux1_status st = mesh_dry_run(c, &d, r, play, s, &count, &err);
        if (st == FLUX1_ERR_INTERNAL || (st != FLUX1_OK && !err.message[0]))
            abort();
        if (st != FLUX1_OK)
            return;
    }
    if (mesh_ranks(c) == 1 && count.arena_peak < ARENA_MOST && count.flops < 1e7)
        make_calls(c, s, count.arena_peak);
}

static char *stage_text(const script *s)
{
    builder b = {0};
    char *text = NULL;
    for (size_t i = 0; i < s->lines; i++)
        script_write(s, i, &b);
    return builder_take(&b, "a stage", &text, NULL) == FLUX1_OK ? text : NULL;
}

/* Line by line into *out. */
static void read_again(char *text, script *out)
{
    flux1_error err = {0};
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        if (script_read(out, line, 1, &err) != FLUX1_OK && err.status != FLUX1_ERR_MEMORY)
            abort();
    }
}

static void write_again(const script *s)
{
    script again = {.sp = s->sp, .tp = s->tp};
    char *first = stage_text(s), *copy = first ? strdup(first) : NULL;
    if (copy)
        read_again(copy, &again);
    char *second = stage_text(&again);
    if (copy && second && strcmp(first, second) != 0)
        abort();
    script_free(&again);
    free(first);
    free(copy);
    free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    recording r;
    flux1_error err = {0};
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (recording_parse(text, "f", &r, &err) == FLUX1_OK) {
        for (int i = 0; i < RECORDING_STAGES; i++) {
            write_again(&r.stage[i]);
            play_stage(&r.mesh, &r.stage[i]);
        }
        recording_free(&r);
    } else if (strncmp(err.message, "f: ", 3) != 0)
        abort();
    free(text);
    return 0;
}
