/* A small recording's calls on given values: the results are of the arithmetic in the comments. */
#include "support/golden.h"
#include "support/safetensors_build.h"

#include "flux1_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HEAD(mesh)                                                                                \
    "flux1-recording 1\nmodel variant=schnell\n"                                                  \
    "picture width=8 height=8 steps=2 clip_tokens=77 t5_tokens=32\nmesh " mesh "\nguidance 3.5\n" \
    "sigmas 1 1 0\n"
#define ONE HEAD("shape=1x1 sp=1@0 tp=1@1")
#define TWO HEAD("shape=1x2 sp=1@0 tp=2@1")
#define DIT(open, step, end) \
    "stage clip\nstage t5\nstage dit.open\n" open "stage dit.step\n" step "stage dit.latent\n" end "stage vae\nend\n"
#define CLIP(lines) "stage clip\n" lines "stage t5\nstage dit.open\nstage dit.step\nstage dit.latent\nstage vae\nend\n"

/* y = (x·Wᵀ + b) ⊙ row `step` of g */
#define GATED                                                                                                         \
    "create act=a0 role=linear batch=1 image=2 cols=2\ninput name=x out=a0\n"                                         \
    "create act=a1 role=table batch=1 image=2 cols=2\ninput name=g out=a1\n"                                          \
    "create act=a2 role=linear batch=1 image=2 cols=2\nblock block=b0 name=block\n"                                   \
    "weight w=w0 block=b0 role=linear rows=2 cols=2\npiece w=w0 tensor=w tensor_rows=2 tensor_cols=2 rows=2 cols=2\n" \
    "bias w=w0 rows=2\npiece w=w0 of_bias=1 tensor=b tensor_rows=2 tensor_cols=1 rows=2 cols=1\nprepare w=w0\n"
#define PRODUCT "begin block=b0\nlinear in=a0 w=w0 gate=a1:0+2 out=a2\nend block=b0\n"
#define EMBED                                                                                                        \
    "create act=a0 role=ids batch=1 text=2 cols=1\ninput name=clip.ids out=a0\nblock block=b0 name=block\n"          \
    "weight w=w0 block=b0 role=table rows=2 cols=2\npiece w=w0 tensor=w tensor_rows=2 tensor_cols=2 rows=2 cols=2\n" \
    "prepare w=w0\ncreate act=a1 role=residual batch=1 text=2 cols=2\nbegin block=b0\n"                              \
    "embed ids=a0 table=w0 out=a1\nend block=b0\noutput in=a1\n"

#define REST(count, from) "\"rest\":{\"dtype\":\"F32\",\"shape\":[" count "],\"data_offsets\":[" from ",112]}"

static const char all_values[] = "{\"x\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                                 "\"w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[16,32]},"
                                 "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[32,40]},"
                                 "\"g\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[40,56]},"
                                 "\"output\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[56,72]},"
                                 "\"p\":{\"dtype\":\"F32\",\"shape\":[4,2],\"data_offsets\":[72,104]},"
                                 "\"clip.ids\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[104,112]}}";
static const float numbers[28] = {
    1, 2, 3, 4, /* x */ 1,      0, 0.5f, 2, /* w */ 10, 20, /* b */ 1, 2, 3,         4, /* g */
    0, 0, 0, 0, /* output */ 1, 2, 3,    4, 5,          6,  7,         8, /* p */ 1, 0};

static int odd; /* more bytes of header than a multiple of 8 */

typedef struct files {
    char recording[300], values[300], out[300];
} files;

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static files make(const char *recording, const char *header, const float *data)
{
    files f;
    size_t size;
    char padded[1024];
    snprintf(padded, sizeof padded, "%-*s", (int)(strlen(header) + 7) / 8 * 8 + odd, header);
    unsigned char *bytes = safetensors_build(padded, data, sizeof numbers, &size);
    snprintf(f.recording, sizeof f.recording, "%s", scratch_path("trial.rec"));
    snprintf(f.values, sizeof f.values, "%s", scratch_path("trial.values"));
    snprintf(f.out, sizeof f.out, "%s", scratch_path("trial.out"));
    write_file(f.recording, recording, strlen(recording));
    write_file(f.values, bytes, size);
    free(bytes);
    return f;
}

static void drop(const files *f)
{
    unlink(f->recording);
    unlink(f->values);
    unlink(f->out);
}

static void gives(const char *shape, const char *recording, const char *name, const float want[4])
{
    flux1_context *c = context_on("ref", shape, 1, FLUX1_DTYPE_F32);
    const files f = make(recording, all_values, numbers);
    double seconds = -1;
    store *got;
    if (flux1_recording_try(c, f.recording, f.values, f.out, 3, &seconds) != FLUX1_OK)
        fail_msg("%s", flux1_context_message(c));
    assert_true(seconds == 0); /* cards alone are timed */
    assert_int_equal(store_open_file(f.out, &got, NULL), FLUX1_OK);
    const store_tensor *t = store_find(got, name);
    assert_non_null(t);
    assert_int_equal(tensor_elements(&t->view), 4);
    assert_memory_equal(t->view.data, want, 4 * sizeof *want);
    store_close(got);
    flux1_context_destroy(c);
    drop(&f);
}

/* x·Wᵀ + b = [1, 0.5 + 4; 3, 1.5 + 8] + [10, 20] = [11, 24.5; 13, 29.5]; gates [1, 2] and [3, 4] */
static void a_result_for_each_step(void **state)
{
    (void)state;
    gives("", ONE DIT(GATED, PRODUCT, "output in=a2\n"), "after.1", (const float[4]){11, 49, 13, 59});
    gives("", ONE DIT(GATED, PRODUCT, "output in=a2\n"), "after.2", (const float[4]){33, 98, 39, 118});
}

/* [1, 2; 3, 4] + [5, 6; 7, 8], a row on each rank, gathered */
static void ranks_have_their_rows(void **state)
{
    (void)state;
    gives("1x2",
          TWO DIT("create act=a0 role=partial batch=1 image=2 cols=2\ninput name=p first=tp(0,2) out=a0\n"
                  "create act=a1 role=partial batch=1 image=1 cols=2\n"
                  "create act=a2 role=linear batch=1 image=1 cols=2\n"
                  "create act=a3 role=linear batch=1 image=2 cols=2\n",
                  "reduce_rows axis=all in=a0 out=a1\ncast in=a1 out=a2\ngather_rows axis=all in=a2 unit=1 out=a3\n",
                  "@0 output in=a3\n"),
          "after.2", (const float[4]){6, 8, 10, 12});
}

/* rows 1 and 0 of w */
static void a_stage_of_its_own_has_one_result(void **state)
{
    (void)state;
    gives("", ONE CLIP(EMBED), "after.1", (const float[4]){0.5f, 2, 1, 0});
}

static void refused_by(const char *device, const char *shape, const char *recording, const char *header,
                       const float *data, flux1_status status, const char *says)
{
    flux1_context *c = context_on(device, shape, 1, FLUX1_DTYPE_F32);
    const files f = make(recording, header, data);
    assert_int_equal(flux1_recording_try(c, f.recording, f.values, f.out, 0, NULL), status);
    if (!strstr(flux1_context_message(c), says))
        fail_msg("\"%s\", it should say \"%s\"", flux1_context_message(c), says);
    assert_false(is_there(f.out));
    flux1_context_destroy(c);
    drop(&f);
}

static void refused(const char *recording, const char *header, flux1_status status, const char *says)
{
    refused_by("ref", "", recording, header, numbers, status, says);
}

static void what_is_wrong_is_told(void **state)
{
    (void)state;
    static const char *const good = ONE DIT(GATED, PRODUCT, "output in=a2\n");
    float ids[28];
    memcpy(ids, numbers, sizeof ids);
    refused_by("cpu", "", good, all_values, numbers, FLUX1_ERR_UNSUPPORTED, "ref or ttnn, not on cpu");
    refused_by("ref", "1x2", good, all_values, numbers, FLUX1_ERR_ARGUMENT, "sp 1 and tp 1, the context has 1 and 2");
    refused(ONE DIT("", "", ""), all_values, FLUX1_ERR_FORMAT, "calls of one part, it has of 0");
    refused(ONE
            "stage clip\ncheck\nstage t5\ncheck\nstage dit.open\nstage dit.step\nstage dit.latent\nstage vae\nend\n",
            all_values, FLUX1_ERR_FORMAT, "it has of 2");
    refused(ONE DIT(GATED, PRODUCT, ""), all_values, FLUX1_ERR_FORMAT, "there is no output");
    refused(ONE DIT(GATED, "linear in=a0 w=w0 out=a2\n", "output in=a2\n"), all_values, FLUX1_ERR_FORMAT, "bracket");
    refused(ONE DIT(GATED, PRODUCT "create act=a9 role=linear batch=1 image=2 cols=2\n", "output in=a2\n"), all_values,
            FLUX1_ERR_FORMAT, "it should release what it makes");
    refused(good, "{\"x\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}," REST("24", "16") "}",
            FLUX1_ERR_MODEL, "no tensor \"output\"");
    refused(good, "{\"output\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}," REST("26", "8") "}",
            FLUX1_ERR_FORMAT, "\"output\" should be a float32 matrix");
    refused(good, "{\"output\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[0,8]}," REST("26", "8") "}",
            FLUX1_ERR_FORMAT, "\"output\" should be a float32 matrix");
    refused(ONE DIT(GATED "create act=a9 role=linear batch=1 image=2 cols=2\ninput name=moon out=a9\n", PRODUCT, ""),
            all_values, FLUX1_ERR_MODEL, "no tensor \"moon\"");
    odd = 2;
    refused(good, all_values, FLUX1_ERR_FORMAT, "\"output\" should be a float32 matrix at a multiple of 4 bytes");
    odd = 0;
    for (int i = 0; i < 3; i++) {
        ids[26] = (const float[]){-1, NAN, 1 << 24}[i];
        refused_by("ref", "", ONE CLIP(EMBED), all_values, ids, FLUX1_ERR_FORMAT, "\"clip.ids\" has");
    }
}

static void arguments(void **state)
{
    (void)state;
    flux1_context *c = context_on("ref", "", 1, FLUX1_DTYPE_F32);
    assert_int_equal(flux1_recording_try(c, NULL, "v", "o", 0, NULL), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_recording_try(c, "r", NULL, "o", 0, NULL), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_recording_try(c, "r", "v", NULL, 0, NULL), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_recording_try(c, "r", "v", "o", -1, NULL), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_recording_try(c, "r", "v", "o", 1001, NULL), FLUX1_ERR_ARGUMENT);
    assert_int_equal(flux1_recording_try(c, "/nowhere.rec", "v", "o", 0, NULL), FLUX1_ERR_IO);
    assert_int_equal(flux1_recording_try(NULL, "r", "v", "o", 0, NULL), FLUX1_ERR_ARGUMENT);
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_result_for_each_step),
        cmocka_unit_test(ranks_have_their_rows),
        cmocka_unit_test(a_stage_of_its_own_has_one_result),
        cmocka_unit_test(what_is_wrong_is_told),
        cmocka_unit_test(arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
