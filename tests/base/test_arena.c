#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

static void blocks_are_aligned_zero_and_apart(void **state)
{
    (void)state;
    arena a;
    void *x, *y;
    assert_int_equal(arena_create(1000, &a, NULL), FLUX1_OK);
    assert_int_equal((uintptr_t)a.base % 4096, 0);
    assert_int_equal(arena_alloc(&a, 1, &x, NULL), FLUX1_OK);
    assert_int_equal(arena_alloc(&a, 65, &y, NULL), FLUX1_OK);
    assert_int_equal((uintptr_t)x % ARENA_ALIGN, 0);
    assert_int_equal((unsigned char *)y - (unsigned char *)x, 64);
    for (int i = 0; i < 65; i++)
        assert_int_equal(((unsigned char *)y)[i], 0);
    memset(y, 1, 65);
    assert_int_equal(a.used, 192);
    arena_destroy(&a);
    assert_null(a.base);
}

static void release_goes_back_to_a_mark_and_peak_stays(void **state)
{
    (void)state;
    arena a;
    void *x, *y;
    assert_int_equal(arena_create(4096, &a, NULL), FLUX1_OK);
    size_t mark = arena_mark(&a);
    assert_int_equal(arena_alloc(&a, 2048, &x, NULL), FLUX1_OK);
    arena_release(&a, mark);
    assert_int_equal(arena_alloc(&a, 64, &y, NULL), FLUX1_OK);
    assert_ptr_equal(x, y);
    assert_int_equal(a.peak, 2048);
    arena_destroy(&a);
}

/* The dry run's promise: an arena of the measured peak holds exactly the same calls. */
static void measured_peak_is_enough(void **state)
{
    (void)state;
    arena measuring, real;
    void *x;
    arena_measure(&measuring);
    for (size_t n = 1; n < 3000; n += 7)
        assert_int_equal(arena_alloc(&measuring, n, &x, NULL), FLUX1_OK);
    assert_null(x);
    assert_int_equal(arena_create(measuring.peak, &real, NULL), FLUX1_OK);
    for (size_t n = 1; n < 3000; n += 7) {
        assert_int_equal(arena_alloc(&real, n, &x, NULL), FLUX1_OK);
        assert_non_null(x);
    }
    arena_destroy(&real);
}

static void too_small_is_our_defect_and_too_large_a_status(void **state)
{
    (void)state;
    arena a;
    void *x;
    flux1_error err = {0};
    assert_int_equal(arena_create(4096, &a, NULL), FLUX1_OK);
    assert_int_equal(arena_alloc(&a, 4097, &x, &err), FLUX1_ERR_INTERNAL);
    assert_null(x);
    assert_int_equal(a.used, 0);
    assert_int_equal(arena_alloc(&a, 4096, &x, &err), FLUX1_OK);
    arena_destroy(&a);

    assert_int_equal(arena_create((size_t)1 << 60, &a, &err), FLUX1_ERR_MEMORY);
    assert_non_null(strstr(err.message, "1152921504606846976 bytes"));
    assert_int_equal(arena_create(SIZE_MAX, &a, &err), FLUX1_ERR_MEMORY);
    arena_measure(&a);
    assert_int_equal(arena_alloc(&a, SIZE_MAX / 2, &x, &err), FLUX1_OK);
    assert_int_equal(arena_alloc(&a, SIZE_MAX / 2 + 64, &x, &err), FLUX1_ERR_LIMIT);
    assert_int_equal(arena_alloc(&a, SIZE_MAX, &x, &err), FLUX1_ERR_LIMIT);
}

static void empty_arena_gives_nothing(void **state)
{
    (void)state;
    arena a;
    void *x = &a;
    assert_int_equal(arena_create(0, &a, NULL), FLUX1_OK);
    assert_int_equal(arena_alloc(&a, 0, &x, NULL), FLUX1_OK);
    assert_null(x);
    assert_int_equal(arena_alloc(&a, 1, &x, NULL), FLUX1_ERR_INTERNAL);
    arena_destroy(&a);
}

static void nothing_has_an_address_and_takes_no_room(void **state)
{
    (void)state;
    arena a;
    void *x, *y;
    assert_int_equal(arena_create(ARENA_ALIGN, &a, NULL), FLUX1_OK);
    assert_int_equal(arena_alloc(&a, 0, &x, NULL), FLUX1_OK);
    assert_non_null(x);
    assert_int_equal(arena_alloc(&a, ARENA_ALIGN, &y, NULL), FLUX1_OK);
    assert_ptr_equal(x, y);
    assert_int_equal(arena_alloc(&a, 0, &x, NULL), FLUX1_OK); /* also when it is full */
    assert_non_null(x);
    arena_destroy(&a);
}

static void what_lies_at_the_end_is_out_of_reach_of_marks(void **state)
{
    (void)state;
    arena a;
    void *x;
    assert_int_equal(arena_create(4096, &a, NULL), FLUX1_OK);
    unsigned char *last = arena_take_end(&a, 48), *next = arena_take_end(&a, 16);
    assert_ptr_equal(last, a.base + 4096 - 48);
    assert_ptr_equal(next, last - 16);
    assert_int_equal(arena_alloc(&a, 4096 - 64, &x, NULL), FLUX1_OK);
    assert_null(arena_take_end(&a, 16)); /* full */
    arena_release(&a, 0);
    assert_null(arena_take_end(&a, 16)); /* what was used may be used again */
    assert_int_equal(arena_alloc(&a, 4096, &x, NULL), FLUX1_ERR_INTERNAL);
    arena_release_end(&a);
    assert_int_equal(arena_alloc(&a, 4096, &x, NULL), FLUX1_OK);
    arena_destroy(&a);
    arena_measure(&a);
    assert_null(arena_take_end(&a, 16));
}

/* Zeros: they were given back. */
static void what_an_arena_gives_back_has_left_the_process(void **state)
{
    (void)state;
    arena a;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    assert_int_equal(arena_create(4 * page, &a, NULL), FLUX1_OK);
    memset(a.base, 7, 4 * page);
    arena_shrink(&a, 5 * page);
    arena_shrink(&a, 0);
    assert_int_equal(a.size, 4 * page);
    arena_shrink(&a, page + 1);
    assert_int_equal(a.size, 2 * page);
    assert_int_equal(a.base[2 * page - 1], 7);
    unsigned char there;
    assert_int_equal(mincore(a.base + 2 * page, page, &there), -1); /* no memory of this process's */
    arena_rest(&a);
    assert_int_equal(a.base[0], 0);
    arena_destroy(&a);
    arena_rest(&a);
    arena_shrink(&a, page);
}

static void a_guarded_arena_hides_what_it_has_not_given(void **state)
{
    (void)state;
#if !defined(__SANITIZE_ADDRESS__)
    skip(); /* nothing watches then */
#else
    arena a;
    void *x, *y;
    assert_int_equal(arena_create(1 << 20, &a, NULL), FLUX1_OK);
    assert_int_equal(arena_alloc(&a, 64, &x, NULL), FLUX1_OK);
    arena_guard(&a);
    const size_t mark = arena_mark(&a);
    assert_int_equal(arena_alloc(&a, 100, &y, NULL), FLUX1_OK);
    unsigned char *const before = x, *const given = y;
    assert_false(__asan_address_is_poisoned(before + 63) || __asan_address_is_poisoned(given + 99));
    for (int i = 100; i < 60000; i++)
        assert_true(__asan_address_is_poisoned(given + i));
    arena_release(&a, mark);
    assert_true(__asan_address_is_poisoned(given));
    unsigned char *const end = arena_take_end(&a, (1 << 20) - 256); /* and what is hidden lies before it */
    assert_non_null(end);
    assert_false(__asan_address_is_poisoned(end));
    assert_int_equal(arena_alloc(&a, 100, &y, NULL), FLUX1_OK);
    assert_false(__asan_address_is_poisoned(end));
    arena_destroy(&a);
    assert_false(__asan_address_is_poisoned(given));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guarded_arena_hides_what_it_has_not_given),
        cmocka_unit_test(blocks_are_aligned_zero_and_apart),
        cmocka_unit_test(release_goes_back_to_a_mark_and_peak_stays),
        cmocka_unit_test(measured_peak_is_enough),
        cmocka_unit_test(too_small_is_our_defect_and_too_large_a_status),
        cmocka_unit_test(empty_arena_gives_nothing),
        cmocka_unit_test(what_lies_at_the_end_is_out_of_reach_of_marks),
        cmocka_unit_test(nothing_has_an_address_and_takes_no_room),
        cmocka_unit_test(what_an_arena_gives_back_has_left_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
