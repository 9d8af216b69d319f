/* The reference system's test matrix, under its names: {schnell, dev} × meshes × {captured, not} × {prepared weights on
 * disk, none} × {encoders on the mesh, on the host}. Each test makes three runs: all stages and the picture equal the
 * oracle's, and the three are equal to the bit; so are those of all tests that differ only in how a step is made and
 * where weights come from.
 *
 * usage: test_matrix PATTERN            ranks are threads; settings (a test's name without the variant) that match
 *        test_matrix SETTING processes  ranks are spread over the processes that mpirun has started; they make the same
 *                                       bits as threads */
#include "support/golden_runs.h"

#include "base/file.h"

#include <fnmatch.h>

enum { RUNS = 3, VARIANTS = 2, MESHES = 5, SETTINGS = MESHES * 2 * 2 * 2 };

static const struct {
    const char *variant, *golden;
} CASES[VARIANTS] = {{"schnell", "car"}, {"dev", "scripts"}};

static const char *const MESH_NAMES[MESHES] = {"1x2", "2x2", "2x4sp0tp1", "4x8sp0tp1", "4x8sp1tp0"};

/* What a context is made of. */
typedef struct setting {
    char name[64];
    int mesh;
    bool captured, cached, host;
} setting;

typedef struct matrix_test {
    const setting *s;
    int variant;
    char name[96];
} matrix_test;

static setting settings[SETTINGS];
static matrix_test matrix[SETTINGS * VARIANTS];
static flux1_context *team; /* of all processes, if there are several */
static char folder[64];     /* of the prepared weights */

/* What the first run of this mesh, variant and place of the encoders has dumped. */
typedef struct bits {
    char *bytes;
    size_t size;
} bits;
static bits expected[MESHES][VARIANTS][2];

static void list_settings(void)
{
    for (int i = 0; i < SETTINGS; i++) {
        setting *s = &settings[i];
        s->mesh = i / 8;
        s->captured = !(i & 4);
        s->cached = !(i & 2);
        s->host = i & 1;
        snprintf(s->name, sizeof s->name, "%s_%s_%s_encoders_%s", MESH_NAMES[s->mesh],
                 s->captured ? "captured" : "not_captured", s->cached ? "cache" : "no_cache",
                 s->host ? "host" : "device");
    }
}

static flux1_context *context_of_setting(const setting *s, bool processes)
{
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.device = "cpu";
    p.mesh = MESH_NAMES[s->mesh];
    p.threads = 1;
    p.dtype = FLUX1_DTYPE_F32;
    p.eager = !s->captured;
    p.cache = s->cached ? folder : "";
    p.encoder_device = s->host ? "host" : NULL;
    p.processes = processes;
    return context_of(&p);
}

static void run(flux1_context *c, const flux1_model *m, golden *g, const matrix_test *t)
{
    bits *want = &expected[t->s->mesh][t->variant][t->s->host], got;
    flux1_error err = {0};
    const char *path = scratch_path("matrix.safetensors");
    run_case_to(c, m, g, t->name, path);
    assert_int_equal(file_read(path, SIZE_MAX, &got.bytes, &got.size, &err), FLUX1_OK);
    unlink(path);
    if (!want->bytes) {
        *want = got;
        return;
    }
    bool equal = got.size == want->size && memcmp(got.bytes, want->bytes, got.size) == 0;
    free(got.bytes);
    if (!equal)
        fail_msg("%s: what it dumps differs from an earlier run", t->name);
}

/* The first run in a context of its own, which leaves its prepared weights on disk to the others'. With processes it is
 * one of threads, and the processes make all three. */
static void three_runs(void **state)
{
    const matrix_test *t = *state;
    golden g;
    golden_open(CASES[t->variant].variant, CASES[t->variant].golden, &g);
    flux1_context *c = context_of_setting(t->s, false);
    flux1_model *m = model_of(c, g.folder);
    run(c, m, &g, t);
    flux1_context_destroy(c);
    c = team ? team : context_of_setting(t->s, false);
    for (int i = team ? 0 : 1; i < RUNS; i++)
        run(c, m, &g, t);
    flux1_model_close(m);
    if (c != team)
        flux1_context_destroy(c);
    golden_close(&g);
}

static size_t choose(const char *pattern, struct CMUnitTest *tests)
{
    size_t n = 0;
    for (int i = 0; i < SETTINGS; i++)
        for (int v = 0; v < VARIANTS && fnmatch(pattern, settings[i].name, 0) == 0; v++, n++) {
            matrix_test *t = &matrix[n];
            *t = (matrix_test){.s = &settings[i], .variant = v};
            snprintf(t->name, sizeof t->name, "%s_%.*s", CASES[v].variant, (int)sizeof t->s->name, t->s->name);
            tests[n] = (struct CMUnitTest){.name = t->name, .test_func = three_runs, .initial_state = t};
        }
    return n;
}

static int leave_nothing(void)
{
    char command[80];
    for (bits *b = &expected[0][0][0]; b < &expected[0][0][0] + MESHES * VARIANTS * 2; b++)
        free(b->bytes);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* ctest gives all processes one folder; this program's own small files go there too. */
static void choose_folder(const char *root)
{
    snprintf(folder, sizeof folder, "%s/flux1-matrix-%s", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", root);
    setenv("XDG_CACHE_HOME", folder, 1);
}

int main(int argc, char **argv)
{
    static struct CMUnitTest tests[SETTINGS * VARIANTS];
    const char *pattern = argc > 1 ? argv[1] : "*";
    flux1_context_info info = {.size = sizeof info};
    char number[32];
    snprintf(number, sizeof number, "%ld", (long)(argc > 2 ? getppid() : getpid()));
    choose_folder(number);
    list_settings();
    size_t count = choose(pattern, tests);
    if (count == 0 || (argc > 2 && count != VARIANTS)) {
        fprintf(stderr, "%s: %zu tests have such a name\n", pattern, count);
        return 1;
    }
    if (argc > 2)
        team = context_of_setting(matrix[0].s, true);
    if (team && (flux1_context_get_info(team, &info) != FLUX1_OK || info.process > 0)) {
        int failed = flux1_context_follow(team) != FLUX1_OK;
        flux1_context_destroy(team);
        return failed;
    }
    int failed = _cmocka_run_group_tests(pattern, tests, count, NULL, NULL);
    flux1_context_destroy(team);
    print_worst("cpu", pattern);
    return leave_nothing() || failed;
}
