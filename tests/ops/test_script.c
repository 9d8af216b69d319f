/* Scripts: what becomes of the lists of several ranks when they are folded, line by line as written by hand; and texts
 * that are read and written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops/script_text.h"

#include <stdlib.h>
#include <string.h>

enum { RANKS_MAX = 4 };

/* Adds the lines of a text, which may be of one rank or of several. */
static void read_lines(script *s, const char *text)
{
    char *copy = strdup(text), *rest = copy;
    flux1_error err = {0};
    for (char *line; (line = strsep(&rest, "\n")) && *line;)
        if (script_read(s, line, 1, &err) != FLUX1_OK)
            fail_msg("%s", err.message);
    free(copy);
}

static char *written(const script *s)
{
    builder b = {0};
    char *text;
    for (size_t i = 0; i < s->lines; i++)
        script_write(s, i, &b);
    assert_int_equal(builder_take(&b, "a script", &text, NULL), FLUX1_OK);
    return text;
}

/* rank[sp·tp]: each rank's lines. The folded script is as `want` has it, and so is what is read from that. */
static void folds_to(int sp, int tp, const char *const rank[], const char *want)
{
    script one[RANKS_MAX] = {{0}}, all, again = {.sp = sp, .tp = tp};
    flux1_error err = {0};
    for (int r = 0; r < sp * tp; r++) {
        one[r] = (script){.sp = 1, .tp = 1};
        read_lines(&one[r], rank[r]);
    }
    assert_int_equal(script_fold(one, sp, tp, &all, &err), FLUX1_OK);
    char *text = written(&all);
    assert_string_equal(text, want);
    read_lines(&again, text);
    char *second = written(&again);
    assert_string_equal(second, want);
    for (int r = 0; r < sp * tp; r++)
        script_free(&one[r]);
    script_free(&all);
    script_free(&again);
    free(text);
    free(second);
}

static void lines_that_agree_are_one(void **state)
{
    (void)state;
    const char *line = "add x=a0 s=-0.5 gate=a2:8+4 y=a1.image[3+2] out=a0\ncheck\n";
    folds_to(2, 2, (const char *const[]){line, line, line, line}, line);
}

static void numbers_say_by_which_rank_they_differ(void **state)
{
    (void)state;
    folds_to(2, 2,
             (const char *const[]){"create act=a0 role=linear batch=1 text=5 image=1 cols=8\n",
                                   "create act=a0 role=linear batch=1 text=5 image=2 cols=4\n",
                                   "create act=a0 role=linear batch=1 text=3 image=3 cols=8\n",
                                   "create act=a0 role=linear batch=1 text=3 image=4 cols=4\n"},
             "create act=a0 role=linear batch=1 text=sp(5,3) image=all(1,2,3,4) cols=tp(8,4)\n");
}

/* On a mesh of one axis tp comes first: both would be right. */
static void one_axis_is_tp_or_sp(void **state)
{
    (void)state;
    const char *const rank[] = {"mark mark=m0\ncreate act=a0 role=ids batch=1 cols=1\nrelease mark=m0\n",
                                "mark mark=m0\ncreate act=a0 role=ids batch=2 cols=1\nrelease mark=m0\n"};
    folds_to(1, 2, rank, "mark mark=m0\ncreate act=a0 role=ids batch=tp(1,2) cols=1\nrelease mark=m0\n");
    folds_to(2, 1, rank, "mark mark=m0\ncreate act=a0 role=ids batch=sp(1,2) cols=1\nrelease mark=m0\n");
}

static void lines_of_some_stand_before_the_next_that_all_have(void **state)
{
    (void)state;
    folds_to(2, 2,
             (const char *const[]){"weight w=w0 block=b0 role=linear rows=2 cols=2\nbias w=w0 rows=2\nprepare w=w0\n",
                                   "weight w=w0 block=b0 role=linear rows=2 cols=1\nprepare w=w0\n",
                                   "weight w=w0 block=b0 role=linear rows=2 cols=2\nbias w=w0 rows=7\nprepare w=w0\n",
                                   "weight w=w0 block=b0 role=linear rows=2 cols=1\nprepare w=w0\n"},
             "weight w=w0 block=b0 role=linear rows=2 cols=tp(2,1)\n"
             "@0,2 bias w=w0 rows=sp(2,7)\n"
             "prepare w=w0\n");
}

/* A rank may have nothing more, or nothing at all. */
static void lists_of_different_length(void **state)
{
    (void)state;
    folds_to(1, 3, (const char *const[]){"finite in=a0 slot=1\ncast in=a0 out=a1\n", "", "finite in=a0 slot=1\n"},
             "@0,2 finite in=a0 slot=1\n@0 cast in=a0 out=a1\n");
}

static void an_operand_that_some_leave_out(void **state)
{
    (void)state;
    folds_to(1, 3,
             (const char *const[]){"conv in=a0 bottom=a2 w=w0 stride=1 out=a1\n",
                                   "conv in=a0 top=a3 bottom=a2[1+2] w=w0 stride=1 out=a1\n",
                                   "conv in=a0 top=a3 w=w0 stride=1 out=a1\n"},
             "conv in=a0 top=a3?tp(0,1,1) bottom=a2?tp(1,1,0)[tp(0,1,0)+tp(0,2,0)] w=w0 stride=1 out=a1\n");
}

/* Each rank's list has texts of its own, so the same name may lie elsewhere in it; other names are other lines. */
static void names_are_compared_as_texts(void **state)
{
    (void)state;
    folds_to(
        1, 2,
        (const char *const[]){"input name=latent out=a0\nblock block=b0 name=ends\n", "block block=b0 name=ends\n"},
        "@0 input name=latent out=a0\nblock block=b0 name=ends\n");
    folds_to(2, 1, (const char *const[]){"input name=x out=a0\n", "input name=y out=a0\n"},
             "@0 input name=x out=a0\n@1 input name=y out=a0\n");
}

/* Everything of one rank's activation and a window of another's: both are numbers then. */
static void windows_that_are_everything_on_some(void **state)
{
    (void)state;
    script one[2] = {{.sp = 1, .tp = 1}, {.sp = 1, .tp = 1}}, all;
    flux1_error err = {0};
    read_lines(&one[0], "cast in=a0[0+3] out=a1\n");
    read_lines(&one[1], "cast in=a0[0+5] out=a1\n");
    one[1].cell[CELL_ROWS] = -1 - 5; /* as the backend has it: 5 rows are all there are */
    assert_int_equal(script_fold(one, 1, 2, &all, &err), FLUX1_OK);
    char *text = written(&all);
    assert_string_equal(text, "cast in=a0[0+tp(3,5)] out=a1\n");
    free(text);
    script_free(&one[0]);
    script_free(&one[1]);
    script_free(&all);
}

/* The cells that a rank sees. */
static void a_rank_sees_its_own_numbers(void **state)
{
    (void)state;
    script s = {.sp = 2, .tp = 3};
    read_lines(&s, "@1,4 create act=a0 role=plane batch=1 text=sp(10,20) image=tp(1,2,3) cols=all(0,1,2,3,4,5)\n");
    assert_int_equal(script_cell(&s, 3, 1, 2), 20);
    assert_int_equal(script_cell(&s, 4, 1, 2), 3);
    assert_int_equal(script_cell(&s, 5, 1, 2), 5);
    assert_int_equal(script_cell(&s, 5, 0, 1), 1);
    assert_true(script_line_is_of(&s, &s.line[0], 4));
    assert_false(script_line_is_of(&s, &s.line[0], 5));
    script_free(&s);
}

static void marks_that_are_not_released_are_taken_out(void **state)
{
    (void)state;
    script s = {.sp = 1, .tp = 1};
    read_lines(&s, "mark mark=m0\nmark mark=m1\ncheck\nrelease mark=m1\nmark mark=m2\n");
    script_prune(&s);
    char *text = written(&s);
    assert_string_equal(text, "mark mark=m1\ncheck\nrelease mark=m1\n");
    free(text);
    script_free(&s);
}

/* What is written can be read: numbers end where the reader's do. */
static void numbers_have_an_end(void **state)
{
    (void)state;
    flux1_error err = {0};
    script s = {.sp = 1, .tp = 1};
    ops *o;
    act a;
    assert_int_equal(ops_script_create(&(ops_config){.err = &err}, &s, &o), FLUX1_OK);
    for (int i = 0; i < 32768; i++)
        assert_int_equal(ops_create(o, ACT_LINEAR, shape_rows(1, 0, 1, 1), &a), FLUX1_OK);
    char last[] = "cast in=a32767 out=a0", behind[] = "cast in=a32768 out=a0";
    assert_int_equal(script_read(&s, last, 1, &err), FLUX1_OK);
    assert_int_equal(script_read(&s, behind, 1, &err), FLUX1_ERR_FORMAT);
    assert_int_equal(ops_create(o, ACT_LINEAR, shape_rows(1, 0, 1, 1), &a), FLUX1_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "at most 32768 activations"));
    ops_destroy(o);
    script_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_that_agree_are_one),
        cmocka_unit_test(numbers_say_by_which_rank_they_differ),
        cmocka_unit_test(one_axis_is_tp_or_sp),
        cmocka_unit_test(lines_of_some_stand_before_the_next_that_all_have),
        cmocka_unit_test(lists_of_different_length),
        cmocka_unit_test(an_operand_that_some_leave_out),
        cmocka_unit_test(names_are_compared_as_texts),
        cmocka_unit_test(windows_that_are_everything_on_some),
        cmocka_unit_test(a_rank_sees_its_own_numbers),
        cmocka_unit_test(marks_that_are_not_released_are_taken_out),
        cmocka_unit_test(numbers_have_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
