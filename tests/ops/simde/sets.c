/* The instruction sets over SIMDe, beside those of ops/cpu/isa.c: FLUX1_CPU_ISA names them, and the linker's --wrap
 * puts the choice here. */
#include "ops/cpu/int8.h"

#include <stdlib.h>
#include <string.h>

extern const cpu_kernels cpu_kernels_avx512_simde, cpu_kernels_avx512bf16_simde, cpu_kernels_avx512amx_simde;
extern const cpu_int8_kernels cpu_int8_avx512amx_simde;

static bool can_run(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); /* what the compiler was allowed */
}

static const cpu_instruction_set sets[] = {
    {can_run, &cpu_kernels_avx512_simde, &cpu_kernels_avx512_simde, &cpu_int8_avx2, "avx512 over SIMDe"},
    {can_run, &cpu_kernels_avx512_simde, &cpu_kernels_avx512bf16_simde, &cpu_int8_avx2, "avx512bf16 over SIMDe"},
    {can_run, &cpu_kernels_avx512_simde, &cpu_kernels_avx512amx_simde, &cpu_int8_avx512amx_simde,
     "avx512amx over SIMDe"},
};

flux1_status __real_cpu_instruction_set_choose(const cpu_instruction_set **out, flux1_error *err);
flux1_status __wrap_cpu_instruction_set_choose(const cpu_instruction_set **out, flux1_error *err);

flux1_status __wrap_cpu_instruction_set_choose(const cpu_instruction_set **out, flux1_error *err)
{
    const char *wish = getenv("FLUX1_CPU_ISA");
    for (size_t i = 0; wish && i < sizeof sets / sizeof *sets; i++)
        if (!strcmp(wish, sets[i].name) && can_run()) {
            *out = &sets[i];
            return FLUX1_OK;
        }
    return __real_cpu_instruction_set_choose(out, err);
}
