/* Instruction sets, best first, and the choice among them. */
#include "ops/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static bool always(void) { return true; }
#if defined(__x86_64__)
/* clang's __builtin_cpu_supports does not know this one */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
static bool has_avx512vnni(void) { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
static bool has_avx512bf16(void) { return has_avx512vnni() && __builtin_cpu_supports("avx512bf16"); }
/* Nor this one. */
static bool has_avxvnni(void)
{
    enum { AVX_VNNI = 1 << 4 };
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX_VNNI);
}
#endif

static const cpu_instruction_set sets[] = {
#if defined(__x86_64__)
    {has_avx512bf16, &cpu_kernels_avx512, &cpu_kernels_avx512bf16, &cpu_int8_avx512vnni, "avx512bf16"},
    {has_avx512vnni, &cpu_kernels_avx512, &cpu_kernels_avx512, &cpu_int8_avx512vnni, "avx512vnni"},
    {has_avx512, &cpu_kernels_avx512, &cpu_kernels_avx512, &cpu_int8_avx2, "avx512"},
    {has_avxvnni, &cpu_kernels_avx2, &cpu_kernels_avx2, &cpu_int8_avxvnni, "avxvnni"},
    {has_avx2, &cpu_kernels_avx2, &cpu_kernels_avx2, &cpu_int8_avx2, "avx2"},
#endif
    {always, &cpu_kernels_portable, &cpu_kernels_portable, &cpu_int8_portable, "portable"},
};
enum { SETS = sizeof sets / sizeof *sets };

flux1_status cpu_instruction_set_choose(const cpu_instruction_set **out, flux1_error *err)
{
    const char *wish = getenv("FLUX1_CPU_ISA");
    for (int i = 0; i < SETS; i++) {
        if (wish && *wish && strcmp(wish, sets[i].name))
            continue;
        if (sets[i].present()) {
            *out = &sets[i];
            return FLUX1_OK;
        }
        if (wish && *wish)
            return error_set(err, FLUX1_ERR_UNSUPPORTED,
                             "FLUX1_CPU_ISA asks for %s, which this machine does not have; unset it", wish);
    }
    return error_set(err, FLUX1_ERR_ARGUMENT,
                     "FLUX1_CPU_ISA is \"%s\"; it should be portable, avx2, avxvnni, avx512, avx512vnni or "
                     "avx512bf16, or unset",
                     wish ? wish : "");
}

const char *ops_cpu_isa(void)
{
    const cpu_instruction_set *set;
    return cpu_instruction_set_choose(&set, NULL) == FLUX1_OK ? set->name : "none";
}

bool ops_cpu_multiplies_bf16(void)
{
    const cpu_instruction_set *set;
    return cpu_instruction_set_choose(&set, NULL) == FLUX1_OK && set->bf16->bf16;
}
