/* Every stage of the committed pipelines equals the oracle's on meshes of more ranks, in both orders of the axes, up to
 * 32 ranks, of which most have no heads, no rows or neither. (test_goldens.c has the smaller meshes.) */
#include "support/golden_runs.h"

/* Named as the reference system names them. */
typedef struct mesh_case {
    const char *name, *shape, *sp, *tp;
} mesh_case;

static flux1_context *context_of_mesh(const mesh_case *m)
{
    flux1_context_params p;
    flux1_context_params_defaults(&p);
    p.device = "cpu";
    p.mesh = m->shape;
    p.sp = m->sp;
    p.tp = m->tp;
    p.threads = 1;
    p.dtype = FLUX1_DTYPE_F32;
    return context_of(&p);
}

static void run_pipelines(const mesh_case *m, const char *const *pipelines, size_t count)
{
    flux1_context *c = context_of_mesh(m);
    for (size_t i = 0; i < count; i++)
        run_pipeline(c, pipelines[i]);
    flux1_context_destroy(c);
    print_worst("cpu", m->name);
}

static void every_pipeline_on_4_and_8_ranks(void **state)
{
    (void)state;
    static const mesh_case meshes[] = {
        {"1x4", "1x4", NULL, NULL}, {"4x1", "4x1", NULL, NULL}, {"4x2", "4x2", NULL, NULL}};
    for (size_t i = 0; i < sizeof meshes / sizeof *meshes; i++)
        run_pipelines(&meshes[i], PIPELINES, PIPELINE_COUNT);
}

/* Odd heads and a guidance embedding; true CFG. */
static void either_order_of_the_axes(void **state)
{
    (void)state;
    static const mesh_case meshes[] = {{"2x4sp1tp0", "2x4", "4@1", "2@0"}, {"4x2sp1tp0", "4x2", "2@1", "4@0"}};
    static const char *const pipelines[] = {"mixed", "dev/cfg"};
    for (size_t i = 0; i < sizeof meshes / sizeof *meshes; i++)
        run_pipelines(&meshes[i], pipelines, sizeof pipelines / sizeof *pipelines);
}

static void thirty_two_ranks(void **state)
{
    (void)state;
    static const mesh_case meshes[] = {{"4x8sp0tp1", "4x8", "4@0", "8@1"}, {"4x8sp1tp0", "4x8", "8@1", "4@0"}};
    for (size_t i = 0; i < 2; i++) {
        golden g;
        golden_open(i ? "dev" : "schnell", i ? "large" : "car", &g);
        flux1_context *c = context_of_mesh(&meshes[i]);
        flux1_model *m = model_of(c, g.folder);
        run_case(c, m, &g, meshes[i].name);
        flux1_model_close(m);
        flux1_context_destroy(c);
        golden_close(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pipeline_on_4_and_8_ranks),
        cmocka_unit_test(either_order_of_the_axes),
        cmocka_unit_test(thirty_two_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
