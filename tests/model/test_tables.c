/* The table of rotations against its formula, position by position: the table takes what it has seen from earlier
 * rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/dit_tables.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = 3000, HEAD = 24 };
static const dit_config config = {.head_dim = HEAD, .axes = {4, 12, 8}, .axis_count = 3};

static void check(const float *ids)
{
    float *table = malloc(sizeof(float[ROWS][HEAD]));
    assert_non_null(table);
    for (int i = 0; i < ROWS * HEAD; i++)
        table[i] = NAN;
    rope_table(&config, ids, ROWS, table);
    const float *at = table;
    for (int r = 0; r < ROWS; r++)
        for (int a = 0; a < 3; a++)
            for (int64_t d = 0; d < config.axes[a]; d += 2, at += 2) {
                const double angle = (double)ids[3 * r + a] / pow(10000.0, (double)d / (double)config.axes[a]);
                assert_true(fabs((double)at[0] - cos(angle)) < 1e-7 && fabs((double)at[1] - sin(angle)) < 1e-7);
            }
    free(table);
}

static void rows_have_their_own_rotations(void **state)
{
    static float ids[ROWS][3];
    (void)state;
    for (int r = 0; r < ROWS; r++) /* a prompt at the origin, then a picture's lines */
        ids[r][1] = r < 100 ? 0 : (float)((r - 100) / 50), ids[r][2] = r < 100 ? 0 : (float)((r - 100) % 50);
    check(ids[0]);
    srand(1);
    for (int r = 0; r < ROWS; r++) /* more positions than are remembered, negative ones, parts of them */
        for (int a = 0; a < 3; a++)
            ids[r][a] = (float)(rand() % 1200 - 300) + (rand() % 4 == 0 ? 0.25f : 0);
    check(ids[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_have_their_own_rotations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
