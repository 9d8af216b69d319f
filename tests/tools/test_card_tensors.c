/* What tensors take of a card's memory, and activations made of them: every figure is worked out in the comments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tools/card_tensors.h"

static const card_operand whole = {0, PART_WHOLE, 0, -1, 0, -1};

static card_tensor *bf16(card_space *s, int64_t rows, int64_t cols)
{
    return card_make(s, (card_tensor){.heads = 1, .rows = rows, .cols = cols, .cell = 2});
}

/* Twelve banks have the same addresses. 40 × 33 values are 2 × 2 tiles of 2 KB, one page on each bank; with three heads
 * 12 tiles, one on each still; with seven 28, three on each. 40 rows of 66 bytes are four pages on each. */
static void pages_lie_on_all_banks(void **state)
{
    (void)state;
    const card_space s = {.banks = 12};
    card_tensor t = {.heads = 1, .rows = 40, .cols = 33, .cell = 2};
    assert_true(card_bytes(&s, &t) == 12 * 2048);
    t.heads = 3;
    assert_true(card_bytes(&s, &t) == 12 * 2048);
    t.heads = 7;
    assert_true(card_bytes(&s, &t) == 12 * 3 * 2048);
    t = (card_tensor){.heads = 1, .rows = 40, .cols = 33, .cell = 2, .by_rows = true};
    assert_true(card_bytes(&s, &t) == 12 * 4 * 66);
    assert_true(card_bytes(&(card_space){.banks = 1}, &t) == 40 * 66);
}

/* A tile of bf16 is 2048 bytes. */
static void memory_is_given_back_by_the_last_holder(void **state)
{
    (void)state;
    card_space s = {.banks = 1};
    card_tensor *one = bf16(&s, 32, 32), *two = card_like(&s, one);
    card_keep(one);
    card_drop(&s, one);
    assert_true(s.used == 2 * 2048);
    card_drop(&s, one);
    assert_true(s.used == 2048);
    card_take(&s, 100);
    card_drop(&s, two);
    card_drop(&s, NULL);
    assert_true(s.used == 100 && s.most == 2 * 2048);
}

/* 32 rows of the prompt and 64 of the picture, 64 columns: 3 × 2 tiles. Written whole, then the picture anew: of the
 * whole tensor the prompt stays, 2 tiles, beside 4 new ones. Then the picture's first 32 columns: its others stay, 2
 * and 2. */
static void what_is_written_over_goes_and_the_rest_stays(void **state)
{
    (void)state;
    card_space s = {.banks = 1};
    card_act a = {.rows = {32, 64}, .cols = 64};
    const card_operand image = {0, PART_IMAGE, 0, -1, 0, -1}, half = {0, PART_IMAGE, 0, -1, 0, 32};
    card_write(&s, &a, whole, bf16(&s, 96, 64));
    assert_true(s.used == 6 * 2048 && a.pieces == 1);
    card_write(&s, &a, image, bf16(&s, 64, 64));
    assert_true(s.used == 6 * 2048 && a.pieces == 2);
    assert_true(s.most == (6 + 4 + 2) * 2048); /* the old one, the new one, and the prompt's copy */
    card_write(&s, &a, half, bf16(&s, 64, 32));
    assert_true(s.used == 6 * 2048 && a.pieces == 3);
    card_tensor *x = card_read(&s, &a, half); /* as it is held */
    assert_true(x->rows == 64 && x->cols == 32 && s.used == 6 * 2048);
    card_drop(&s, x);
    x = card_read(&s, &a,
                  whole); /* a copy of all, of the prompt and a copy of the picture's columns together, 4, which goes */
    assert_true(x->rows == 96 && x->cols == 64 && s.used == 12 * 2048 && s.most == 16 * 2048);
    card_drop(&s, x);
    card_act_drop(&s, &a);
    assert_true(s.used == 0);
}

/* Three rows of a table, each a tensor of one tile until all are there; then they are one tile together. */
static void rows_of_a_table_become_one_tensor(void **state)
{
    (void)state;
    card_space s = {.banks = 1};
    card_act a = {.rows = {0, 3}, .cols = 32};
    for (int64_t i = 0; i < 3; i++)
        card_write(&s, &a, (card_operand){0, PART_WHOLE, i, 1, 0, -1}, bf16(&s, 1, 32));
    card_write(&s, &a, (card_operand){0, PART_WHOLE, 1, 1, 0, -1}, bf16(&s, 1, 32)); /* again */
    assert_true(s.used == 3 * 2048 && a.pieces == 3);
    card_tensor *x = card_read(&s, &a, whole);
    assert_true(x->rows == 3 && x->cols == 32 && s.used == 2048 && a.pieces == 1);
    card_drop(&s, x);
    card_act_drop(&s, &a);
    assert_true(s.used == 0);
}

/* Heads side by side and rows are copies, but where there is nothing to do. */
static void forms_are_copies(void **state)
{
    (void)state;
    card_space s = {.banks = 1};
    card_tensor *x = card_make(&s, (card_tensor){.heads = 4, .rows = 32, .cols = 32, .cell = 2});
    x = card_flat(&s, x);
    assert_true(x->heads == 1 && x->cols == 128 && s.used == 4 * 2048 && s.most == 8 * 2048);
    assert_ptr_equal(card_flat(&s, x), x);
    card_tensor *rows = card_laid(&s, x, true), *same = card_laid(&s, rows, true);
    assert_true(rows != x && same == rows && rows->by_rows && s.used == 2 * 4 * 2048);
    card_drop(&s, same);
    card_drop(&s, rows);
    card_drop(&s, x);
    assert_true(s.used == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_lie_on_all_banks),
        cmocka_unit_test(memory_is_given_back_by_the_last_holder),
        cmocka_unit_test(what_is_written_over_goes_and_the_rest_stays),
        cmocka_unit_test(rows_of_a_table_become_one_tensor),
        cmocka_unit_test(forms_are_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
