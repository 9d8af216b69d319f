/* Shapes of a mesh as texts: what the factors and axes are, and what a C caller reads of a text that is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mesh/mesh.h"

#include <string.h>

typedef struct row {
    const char *mesh, *sp, *tp;
    int want_sp, want_sp_axis, want_tp, want_tp_axis;
} row;

static void expect_rows(const row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const row *r = &rows[i];
        mesh_config c;
        flux1_error err = {0};
        if (mesh_parse(r->mesh, r->sp, r->tp, &c, &err) != FLUX1_OK)
            fail_msg("row %zu: %s", i, err.message);
        if (c.sp != r->want_sp || c.sp_axis != r->want_sp_axis || c.tp != r->want_tp || c.tp_axis != r->want_tp_axis)
            fail_msg("row %zu: sp %d@%d tp %d@%d", i, c.sp, c.sp_axis, c.tp, c.tp_axis);
    }
}

static void sp_takes_axis_0_and_tp_axis_1_unless_given(void **state)
{
    (void)state;
    const row rows[] = {
        {NULL, NULL, NULL, 1, 0, 1, 1},    {"", "", "", 1, 0, 1, 1},          {"2x4", NULL, NULL, 2, 0, 4, 1},
        {"2x4", "4@1", NULL, 4, 1, 2, 0},  {"2x4", NULL, "2@0", 4, 1, 2, 0},  {"2x4", "2@0", "4@1", 2, 0, 4, 1},
        {"2x4", "1@0", "4@1", 1, 0, 4, 1}, {"2x4", "2@0", "1@0", 2, 0, 1, 0}, {"1x1024", NULL, NULL, 1, 0, 1024, 1},
    };
    expect_rows(rows, sizeof rows / sizeof rows[0]);
}

/* The reference's presets (tt_dit's pipeline_flux1.py, Wormhole and Blackhole) are what a bare shape means here. */
static void a_bare_shape_is_the_reference_s_preset(void **state)
{
    (void)state;
    const row rows[] = {
        {"1x1", NULL, NULL, 1, 0, 1, 1}, {"1x2", NULL, NULL, 1, 0, 2, 1}, {"1x4", NULL, NULL, 1, 0, 4, 1},
        {"2x2", NULL, NULL, 2, 0, 2, 1}, {"2x4", NULL, NULL, 2, 0, 4, 1}, {"4x4", NULL, NULL, 4, 0, 4, 1},
        {"4x8", NULL, NULL, 4, 0, 8, 1},
    };
    expect_rows(rows, sizeof rows / sizeof rows[0]);
}

static void a_mesh_may_name_the_axes(void **state)
{
    (void)state;
    const row rows[] = {
        {"2x4sp0tp1", NULL, NULL, 2, 0, 4, 1},   {"4x8sp0tp1", NULL, NULL, 4, 0, 8, 1},
        {"4x8sp1tp0", NULL, NULL, 8, 1, 4, 0},   {"3x5sp1tp0", NULL, NULL, 5, 1, 3, 0},
        {"1x1sp0tp1", "", "", 1, 0, 1, 1},       {"2x4sp0tp1", "2@0", NULL, 2, 0, 4, 1},
        {"2x4sp1tp0", "4@1", "2@0", 4, 1, 2, 0},
    };
    expect_rows(rows, sizeof rows / sizeof rows[0]);
}

typedef struct wrong {
    const char *mesh, *sp, *tp;
    flux1_status status;
    const char *message;
} wrong;

#define SHOULD_BE "it should be ROWSxCOLUMNS, such as 2x4, or with the axes of sp and tp, such as 2x4sp0tp1"

static void a_wrong_text_is_named_as_the_parameter_that_it_is(void **state)
{
    (void)state;
    const wrong rows[] = {
        {"2y4", NULL, NULL, FLUX1_ERR_ARGUMENT, "mesh \"2y4\": " SHOULD_BE},
        {"0x4", NULL, NULL, FLUX1_ERR_ARGUMENT, "mesh \"0x4\": " SHOULD_BE},
        {"2x4sp", NULL, NULL, FLUX1_ERR_ARGUMENT, "mesh \"2x4sp\": " SHOULD_BE},
        {"2x4sp0tp2", NULL, NULL, FLUX1_ERR_ARGUMENT, "mesh \"2x4sp0tp2\": " SHOULD_BE},
        {"2x4tp1sp0", NULL, NULL, FLUX1_ERR_ARGUMENT, "mesh \"2x4tp1sp0\": " SHOULD_BE},
        {"2x4sp0tp11", NULL, NULL, FLUX1_ERR_ARGUMENT, "mesh \"2x4sp0tp11\": " SHOULD_BE},
        {"2x4sp1tp1", NULL, NULL, FLUX1_ERR_ARGUMENT,
         "mesh \"2x4sp1tp1\": sp and tp both take axis 1; give them different axes"},
        {"2x4sp0tp1", "4@1", NULL, FLUX1_ERR_ARGUMENT,
         "mesh \"2x4sp0tp1\" and sp \"4@1\" contradict each other; leave one out"},
        {"2x4sp0tp1", NULL, "1@1", FLUX1_ERR_ARGUMENT,
         "mesh \"2x4sp0tp1\" and tp \"1@1\" contradict each other; leave one out"},
        {"32x33", NULL, NULL, FLUX1_ERR_LIMIT, "mesh \"32x33\": at most 1024 devices"},
        {"2x4", "2@3", NULL, FLUX1_ERR_ARGUMENT, "sp \"2@3\": it should be FACTOR@AXIS with axis 0 or 1, such as 2@0"},
        {"2x4", NULL, "x", FLUX1_ERR_ARGUMENT, "tp \"x\": it should be FACTOR@AXIS with axis 0 or 1, such as 2@0"},
        {"2x4", "3@0", NULL, FLUX1_ERR_ARGUMENT,
         "sp \"3@0\": axis 0 of mesh 2x4 has 2 devices, so the factor should be 2 or 1"},
        {"2x4", "4@1", "4@1", FLUX1_ERR_ARGUMENT, "sp and tp both take axis 1 of the mesh; give them different axes"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mesh_config c;
        flux1_error err = {0};
        assert_int_equal(mesh_parse(rows[i].mesh, rows[i].sp, rows[i].tp, &c, &err), rows[i].status);
        assert_string_equal(err.message, rows[i].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sp_takes_axis_0_and_tp_axis_1_unless_given),
        cmocka_unit_test(a_bare_shape_is_the_reference_s_preset),
        cmocka_unit_test(a_mesh_may_name_the_axes),
        cmocka_unit_test(a_wrong_text_is_named_as_the_parameter_that_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
