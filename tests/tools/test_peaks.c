/* Which peaks `bench` compares with, whatever the machine: measuring is played (by the linker's --wrap), each way with
 * a rate of its own. */
#include "support/golden.h"

#include "tools/peak.h"
#include "tools/peaks.h"

/* name, FLOP/s of a thread */
#define RATES(X)     \
    X(avx2, 1)       \
    X(avx512, 2)     \
    X(avx512bf16, 3) \
    X(avx512amx, 4)  \
    X(avx2_int8, 5)  \
    X(avx2_quads, 6) \
    X(avxvnni, 7)    \
    X(avx512vnni, 8) \
    X(avx512amx_int8, 9)
#define PLAYED(name, rate)                     \
    double __wrap_peak_##name(double seconds); \
    double __wrap_peak_##name(double seconds) { return assert_true(seconds > 0), rate; }
RATES(PLAYED)

static int processors = 64;
int __wrap_cpu_available(void);
int __wrap_cpu_available(void) { return processors; }

/* Of the instruction sets of x86 (ops/cpu/isa.c): the units that their kernels multiply with. */
static const struct {
    const char *isa;
    double f32, bf16, int8, quads;
} known[] = {{"avx512amx", 2, 4, 9, 9}, {"avx512bf16", 2, 3, 8, 8}, {"avx512vnni", 2, 2, 8, 8},
             {"avx512", 2, 2, 5, 6},    {"avxvnni", 1, 1, 7, 7},    {"avx2", 1, 1, 5, 6}};

static peaks measured(const char *shape, int threads, flux1_dtype arithmetic)
{
    flux1_context *c = context_on("cpu", shape, threads, arithmetic);
    peaks p;
    assert_int_equal(peaks_measure(c, &p), FLUX1_OK);
    flux1_context_destroy(c);
    return p;
}

static void each_arithmetic_has_the_peak_of_its_unit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (setenv("FLUX1_CPU_ISA", known[i].isa, 1) != 0 || strcmp(ops_cpu_isa(), known[i].isa) != 0)
            continue; /* this machine has it not */
        const peaks f32 = measured("", 1, FLUX1_DTYPE_F32), bf16 = measured("", 1, FLUX1_DTYPE_BF16),
                    fine = measured("", 1, FLUX1_DTYPE_INT8), rotated = measured("", 1, FLUX1_DTYPE_INT8_FAST);
        assert_true(f32.exact == known[i].f32 && f32.int8 == 0 && !f32.bf16);
        assert_true(bf16.exact == known[i].bf16 && bf16.int8 == 0 && bf16.bf16 == (known[i].bf16 != known[i].f32));
        assert_true(fine.int8 == known[i].int8 && rotated.int8 == known[i].quads);
        assert_string_equal(peaks_type(&f32, false), "f32");
        assert_string_equal(peaks_type(&bf16, false), bf16.bf16 ? "bf16" : "f32");
        assert_string_equal(peaks_type(&bf16, true), "int8");
    }
    unsetenv("FLUX1_CPU_ISA");
}

/* A mesh's ranks share the threads, and have one each at least; those beyond the processors only take turns. */
static void threads_of_all_ranks_add_up_to_the_processors(void **state)
{
    (void)state;
    static const struct {
        const char *shape;
        int threads, processors, all;
    } cases[] = {{"", 1, 64, 1},    {"", 3, 64, 3}, {"1x2", 4, 64, 4}, {"1x2", 5, 64, 4},
                 {"2x2", 2, 64, 4}, {"", 3, 3, 3},  {"", 3, 2, 2},     {"2x2", 8, 2, 2}};
    const double one = measured("", 1, FLUX1_DTYPE_F32).exact;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        processors = cases[i].processors;
        const peaks p = measured(cases[i].shape, cases[i].threads, FLUX1_DTYPE_INT8);
        assert_int_equal(p.threads, cases[i].all);
        assert_true(p.exact == one * cases[i].all && p.int8 > 0);
    }
    processors = 64;
}

/* Nor where several processes compute, which may be on other machines. */
static void what_a_device_of_its_own_reaches_is_not_measured(void **state)
{
    (void)state;
    flux1_context *c = context_on("cpu", "", 2, FLUX1_DTYPE_INT8);
    ops_device gpu = {.kind = c->device.kind, .info = {.memory = 1 << 30}}, *const own = c->device.device;
    peaks p;
    for (int i = 0; i < 2; i++) {
        if (i)
            c->processes = (struct processes *)(void *)&p; /* nobody looks into them */
        else
            c->device.device = &gpu;
        assert_int_equal(peaks_measure(c, &p), FLUX1_OK);
        assert_true(p.exact == 0 && p.int8 == 0 && p.threads == 2);
        c->device.device = own;
        c->processes = NULL;
    }
    flux1_context_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_arithmetic_has_the_peak_of_its_unit),
                                       cmocka_unit_test(threads_of_all_ranks_add_up_to_the_processors),
                                       cmocka_unit_test(what_a_device_of_its_own_reaches_is_not_measured)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
