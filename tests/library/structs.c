/* The layout of flux1.h's structs, which programs are compiled with: pinned within a MAJOR version (docs/releases.md).
 * A new member moves the beginning of the reserved space, never the size. The numbers are those of every 64-bit system
 * that flux1 runs on. */
#include <flux1_tools.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* struct, bytes, where its reserved space begins */
#define STRUCTS(X)                     \
    X(flux1_context_params, 200, 136)  \
    X(flux1_context_info, 128, 96)     \
    X(flux1_model_parts, 184, 64)      \
    X(flux1_model_info, 168, 120)      \
    X(flux1_adapter_info, 88, 32)      \
    X(flux1_image, 88, 72)             \
    X(flux1_progress, 144, 80)         \
    X(flux1_latents, 112, 64)          \
    X(flux1_generate_params, 208, 200) \
    X(flux1_write_params, 72, 56)

static void sizes_are_pinned(void **state)
{
    (void)state;
#define SIZE(type, bytes, reserved_at)     \
    assert_int_equal(sizeof(type), bytes); \
    assert_int_equal(flux1_struct_size(#type), bytes);
    STRUCTS(SIZE)
#undef SIZE
    assert_int_equal(sizeof(flux1_adapter_use), 16);
    assert_int_equal(flux1_struct_size("flux1_adapter_use"), 16);
}

/* Their sizes may change; what is asked for by name is what this header has. */
static void tools_structs_are_known_too(void **state)
{
    (void)state;
#define KNOWN(type) assert_int_equal(flux1_struct_size(#type), sizeof(type));
    KNOWN(flux1_adapter_file)
    KNOWN(flux1_tokens)
    KNOWN(flux1_doctor_params)
    KNOWN(flux1_bench_params)
    KNOWN(flux1_plan_params)
    KNOWN(flux1_pull_progress)
    KNOWN(flux1_pull_params)
    KNOWN(flux1_convert_params)
#undef KNOWN
    assert_int_equal(flux1_struct_size("flux1_nothing"), 0);
    assert_int_equal(flux1_struct_size(NULL), 0);
}

static void members_are_added_in_the_reserved_space(void **state)
{
    (void)state;
#define PLACE(type, bytes, reserved_at)                      \
    assert_int_equal(offsetof(type, size), 0);               \
    assert_int_equal(offsetof(type, reserved), reserved_at); \
    assert_int_equal(reserved_at + sizeof((type){0}.reserved), bytes);
    STRUCTS(PLACE)
#undef PLACE
}

/* What is set to 0 by a program that was compiled earlier must mean what it meant then. */
static void reserved_space_is_zero_by_default(void **state)
{
    (void)state;
#define DEFAULTS(type)                                                                  \
    {                                                                                   \
        type params;                                                                    \
        type##_defaults(&params);                                                       \
        assert_int_equal(params.size, sizeof params);                                   \
        for (size_t i = 0; i < sizeof params.reserved / sizeof params.reserved[0]; i++) \
            assert_int_equal(params.reserved[i], 0);                                    \
    }
    DEFAULTS(flux1_context_params)
    DEFAULTS(flux1_generate_params)
    DEFAULTS(flux1_write_params)
#undef DEFAULTS
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_pinned),
        cmocka_unit_test(tools_structs_are_known_too),
        cmocka_unit_test(members_are_added_in_the_reserved_space),
        cmocka_unit_test(reserved_space_is_zero_by_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
