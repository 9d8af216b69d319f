/* Instruction sets, best first, and the choice among them. */
#include "ops/cpu/int8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
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

/* Tiles of 16 rows of 64 bytes, with products of bf16 and of int8, that the system saves with a thread. */
static bool has_tiles(void)
{
    enum { BF16 = 1 << 22, TILE = 1 << 24, INT8 = 1 << 25, EVERY = BF16 | TILE | INT8, SAVED = 3 << 17 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & EVERY) != EVERY || !__get_cpuid(1, &a, &b, &c, &d) ||
        !(c & bit_OSXSAVE))
        return false;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    if ((a & SAVED) != SAVED)
        return false;
    return __get_cpuid_count(0x1d, 1, &a, &b, &c, &d) && b >> 16 >= 8 && (b & 0xffff) == 64 && (c & 0xffff) == 16;
}

/* Linux gives tiles to a process that asks. It has them from then on, in all of its threads; a refusal (an old kernel,
 * seccomp, a signal stack too small for them) leaves everything as it was. */
static bool tiles_granted;
static void ask_for_tiles(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, and the component */
    tiles_granted = has_tiles() && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
static bool has_avx512amx(void)
{
    static pthread_once_t asked = PTHREAD_ONCE_INIT;
    return has_avx512bf16() && pthread_once(&asked, ask_for_tiles) == 0 && tiles_granted;
}

/* Nor does it know this one. */
static bool has_avxvnni(void)
{
    enum { AVX_VNNI = 1 << 4 };
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX_VNNI);
}
#elif defined(__aarch64__)
static bool has_neondot(void) { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
static bool has_neonbf16(void)
{
    const unsigned long both = HWCAP2_I8MM | HWCAP2_BF16;
    return has_neondot() && (getauxval(AT_HWCAP2) & both) == both;
}
#endif

static const cpu_instruction_set sets[] = {
#if defined(__x86_64__)
    {has_avx512amx, &cpu_kernels_avx512, &cpu_kernels_avx512amx, &cpu_int8_avx512amx, "avx512amx"},
    {has_avx512bf16, &cpu_kernels_avx512, &cpu_kernels_avx512bf16, &cpu_int8_avx512vnni, "avx512bf16"},
    {has_avx512vnni, &cpu_kernels_avx512, &cpu_kernels_avx512, &cpu_int8_avx512vnni, "avx512vnni"},
    {has_avx512, &cpu_kernels_avx512, &cpu_kernels_avx512, &cpu_int8_avx2, "avx512"},
    {has_avxvnni, &cpu_kernels_avx2, &cpu_kernels_avx2, &cpu_int8_avxvnni, "avxvnni"},
    {has_avx2, &cpu_kernels_avx2, &cpu_kernels_avx2, &cpu_int8_avx2, "avx2"},
#elif defined(__aarch64__)
    {has_neonbf16, &cpu_kernels_neon, &cpu_kernels_neonbf16, &cpu_int8_neoni8mm, "neonbf16"},
    {has_neondot, &cpu_kernels_neon, &cpu_kernels_neon, &cpu_int8_neondot, "neondot"},
    {always, &cpu_kernels_neon, &cpu_kernels_neon, &cpu_int8_neon, "neon"}, /* every arm64 has it */
#endif
    {always, &cpu_kernels_portable, &cpu_kernels_portable, &cpu_int8_portable, "portable"},
};
enum { SETS = sizeof sets / sizeof *sets };

static flux1_status unknown(const char *wish, flux1_error *err)
{
    char names[128] = "";
    for (int i = 0; i < SETS; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", sets[i].name, i + 1 < SETS ? ", " : "");
    return error_set(err, FLUX1_ERR_ARGUMENT, "FLUX1_CPU_ISA is \"%s\"; it should be one of %s, or unset", wish, names);
}

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
    return unknown(wish, err);
}

const char *ops_cpu_isa(void)
{
    const cpu_instruction_set *set;
    return cpu_instruction_set_choose(&set, NULL) == FLUX1_OK ? set->name : "none";
}

bool ops_cpu_int8_quads(void)
{
    const cpu_instruction_set *set;
    return cpu_instruction_set_choose(&set, NULL) == FLUX1_OK && set->int8->rotated.quads;
}

bool ops_cpu_multiplies_bf16(void)
{
    const cpu_instruction_set *set;
    return cpu_instruction_set_choose(&set, NULL) == FLUX1_OK && set->bf16->bf16;
}
