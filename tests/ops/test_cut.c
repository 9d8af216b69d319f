/* How products are cut into tasks (ops/cpu/cut.c). */
#include "ops/cpu/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const cut_limits AVX2 = {.panel = 32, .rows = 2048, .tile = 6, .cols = 96, .beside = 8},
                        AMX = {.panel = 32, .rows = 2048, .tile = 16, .cols = 192, .beside = 32},
                        INT8_AVX2 = {.panel = 8, .rows = 2048, .tile = 4, .cols = 112, .beside = 8},
                        INT8_AVX512 = {.panel = 32, .rows = 2048, .tile = 14, .cols = 112, .beside = 8};

/* Every output is in one task, and a task is no larger than its scratch. */
static void tasks_cover(const cut_limits *most)
{
    static const int64_t rows[] = {1, 17, 77, 256, 512, 2000, 2048, 4608, 65537},
                         cols[] = {1, 5, 64, 300, 768, 3072, 10240}, threads[] = {1, 2, 3, 16, 43, 256};
    for (size_t m = 0; m < sizeof rows / sizeof *rows; m++)
        for (size_t n = 0; n < sizeof cols / sizeof *cols; n++)
            for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
                const product_cut c = cpu_cut_product(rows[m], cols[n], threads[t], most);
                assert_true(c.block_m % most->panel == 0 && c.block_m > 0 && c.block_m <= most->rows);
                assert_true(c.block_n % most->tile == 0 && c.block_n > 0 && c.block_n <= most->cols);
                assert_true(c.block_m * c.blocks_m >= rows[m] && c.block_m * (c.blocks_m - 1) < rows[m]);
                assert_int_equal(c.tasks, c.blocks_m * i64_ceil_div(cols[n], c.block_n));
            }
}

static void tasks_cover_the_output(void **state)
{
    (void)state;
    tasks_cover(&AVX2);
    tasks_cover(&AMX);
    tasks_cover(&INT8_AVX2);
    tasks_cover(&INT8_AVX512);
}

/* 16 threads: 4096 columns are 32 tasks of 128, so two each, 2·(128 + 32) = 320; of 192 they would be 22, and six
 * threads did two, 2·(192 + 32) = 448. 10240 are 64 of 160, four each: 768, of 192 896. Two threads and 768 columns:
 * four tasks of 96 each, 4·104 = 416; eight of 48 take 448. */
static void threads_end_together(void **state)
{
    (void)state;
    const product_cut wo = cpu_cut_product(256, 4096, 16, &AMX), wi = cpu_cut_product(256, 10240, 16, &AMX),
                      clip = cpu_cut_product(77, 768, 2, &AVX2);
    assert_int_equal(wo.block_n, 128);
    assert_int_equal(wo.tasks, 32);
    assert_int_equal(wi.block_n, 160);
    assert_int_equal(wi.tasks, 64);
    assert_int_equal(clip.block_n, 96);
    assert_int_equal(clip.tasks, 8);
}

/* 64 columns are at most 6 tasks of 12, so for 16 threads the rows are cut as well; never below 64. */
static void rows_are_cut_where_columns_are_few(void **state)
{
    (void)state;
    const product_cut many = cpu_cut_product(2048, 64, 16, &AVX2), few = cpu_cut_product(77, 64, 64, &AVX2);
    assert_true(many.blocks_m > 1 && many.tasks >= 12);
    assert_int_equal(few.block_m, 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_cover_the_output),
        cmocka_unit_test(threads_end_together),
        cmocka_unit_test(rows_are_cut_where_columns_are_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
