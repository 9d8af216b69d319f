/* What one process tells another: what is sent is received, and what is damaged or out of range is refused before it is
 * used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pipeline/parcel.h"

/* Everything that a parcel can hold. */
typedef struct contents {
    int64_t big;
    int small;
    uint64_t number;
    bool yes;
    float real;
    char text[8];
    int32_t *ids;
    tensor t;
} contents;

static flux1_status describe(parcel *p, contents *c, flux1_error *err)
{
    TRY(parcel_i64(p, "big", -5, INT64_C(1) << 40, &c->big, err));
    TRY(parcel_int(p, "small", 0, 9, &c->small, err));
    TRY(parcel_u64(p, "number", &c->number, err));
    TRY(parcel_bool(p, "yes", &c->yes, err));
    TRY(parcel_float(p, "real", &c->real, err));
    TRY(parcel_text(p, "text", c->text, sizeof c->text, err));
    TRY(parcel_bulk(p, "ids", c->small, sizeof *c->ids, (void **)&c->ids, err));
    return parcel_tensor(p, "tensor", 2, (int64_t[]){c->small, 2}, &c->t, err);
}

static int32_t ids[] = {4, 5, 6};
static float values[6];

static contents some(void)
{
    return (contents){.big = INT64_C(1) << 40,
                      .small = 3,
                      .number = UINT64_MAX,
                      .yes = true,
                      .real = -2.5f,
                      .text = "seven..",
                      .ids = ids,
                      .t = {.type = DTYPE_F32, .dims = 2, .shape = {3, 2}, .data = values}};
}

static void what_is_sent_is_received(void **state)
{
    (void)state;
    parcel out, in;
    flux1_error err = {0};
    contents sent = some(), got;
    memset(&got, 0xff, sizeof got);
    parcel_begin(&out);
    assert_int_equal(describe(&out, &sent, &err), FLUX1_OK);
    assert_int_equal(out.bulks, 2);
    assert_ptr_equal(out.bulk[0].data, ids);
    assert_int_equal(parcel_open(&in, out.bytes, out.size, &err), FLUX1_OK);
    assert_int_equal(describe(&in, &got, &err), FLUX1_OK);
    assert_int_equal(parcel_end(&in, &err), FLUX1_OK);
    assert_true(got.big == sent.big && got.small == 3 && got.number == UINT64_MAX && got.yes && got.real == -2.5f);
    assert_string_equal(got.text, "seven..");
    assert_int_equal(in.bulks, 2);
    assert_int_equal(in.bulk[0].bytes, sizeof ids);
    assert_ptr_equal(in.bulk[0].data, got.ids);
    assert_true(got.t.type == DTYPE_F32 && got.t.dims == 2 && got.t.shape[0] == 3 && got.t.shape[1] == 2);
    assert_ptr_equal(in.bulk[1].data, got.t.data);
    parcel_free(&in);
    parcel_free(&out); /* leaves what it was given */
    assert_int_equal(ids[2], 6);
}

/* Cut anywhere, or too long. */
static void a_parcel_of_another_length_is_refused(void **state)
{
    (void)state;
    parcel out, in;
    flux1_error err = {0};
    contents sent = some(), got = {0};
    parcel_begin(&out);
    assert_int_equal(describe(&out, &sent, &err), FLUX1_OK);
    for (size_t size = 0; size < out.size; size++) {
        assert_int_equal(parcel_open(&in, out.bytes, size, &err), FLUX1_OK);
        assert_int_equal(describe(&in, &got, &err), FLUX1_ERR_COMM);
        parcel_free(&in);
    }
    assert_int_equal(parcel_open(&in, out.bytes, out.size + 1, &err), FLUX1_OK);
    assert_int_equal(describe(&in, &got, &err), FLUX1_OK);
    assert_int_equal(parcel_end(&in, &err), FLUX1_ERR_COMM);
    parcel_free(&in);
    assert_int_equal(parcel_open(&in, out.bytes, PARCEL_BYTES + 1, &err), FLUX1_ERR_COMM);
}

/* Both sides check: a byte that is changed gives a value in range or a refusal, and never more memory than it says. */
static void damage_is_refused_or_in_range(void **state)
{
    (void)state;
    parcel out, in;
    flux1_error err = {0};
    contents sent = some();
    int refused = 0;
    parcel_begin(&out);
    assert_int_equal(describe(&out, &sent, &err), FLUX1_OK);
    for (size_t at = 0; at < out.size; at++) {
        contents got = {0};
        out.bytes[at] ^= 0x80;
        assert_int_equal(parcel_open(&in, out.bytes, out.size, &err), FLUX1_OK);
        if (describe(&in, &got, &err) == FLUX1_OK)
            assert_true(got.small >= 1 && got.small <= 9 && strlen(got.text) < sizeof got.text);
        else
            refused++;
        parcel_free(&in);
        out.bytes[at] ^= 0x80;
    }
    assert_true(refused > 16); /* of big, small and the text's length alone */
}

static void what_would_be_refused_is_not_sent(void **state)
{
    (void)state;
    parcel p;
    flux1_error err = {0};
    int64_t v = 10;
    float nan = 0.0f / 0.0f;
    char text[] = "12345678", *long_text = malloc(PARCEL_BYTES + 1);
    void *data = NULL;
    assert_non_null(long_text);
    memset(long_text, 'x', PARCEL_BYTES);
    long_text[PARCEL_BYTES] = '\0';
    parcel_begin(&p);
    assert_int_equal(parcel_i64(&p, "v", 0, 9, &v, &err), FLUX1_ERR_LIMIT);
    assert_int_equal(parcel_float(&p, "real", &nan, &err), FLUX1_ERR_LIMIT);
    assert_int_equal(parcel_text(&p, "text", text, 8, &err), FLUX1_ERR_LIMIT);
    assert_int_equal(parcel_text(&p, "text", long_text, PARCEL_BYTES + 1, &err), FLUX1_ERR_LIMIT);
    assert_int_equal(parcel_bulk(&p, "data", 0, 4, &data, &err), FLUX1_ERR_LIMIT);
    assert_int_equal(parcel_bulk(&p, "data", INT64_MAX, 4, &data, &err), FLUX1_ERR_LIMIT);
    free(long_text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sent_is_received),
        cmocka_unit_test(a_parcel_of_another_length_is_refused),
        cmocka_unit_test(damage_is_refused_or_in_range),
        cmocka_unit_test(what_would_be_refused_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
