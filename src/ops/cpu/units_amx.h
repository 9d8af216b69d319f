/* Intel's AMX: eight tiles of up to 16 rows of 64 bytes, and products of them. Their shapes are a thread's own state: a
 * task sets them at its begin and releases the tiles at its end, so that nothing of them is left in threads that belong
 * to others. */
#ifndef FLUX1_OPS_CPU_UNITS_AMX_H
#define FLUX1_OPS_CPU_UNITS_AMX_H

#include "ops/cpu/simd.h"

enum { UNIT = 16 }; /* rows of a tile, and its words */

typedef struct unit_shapes {
    uint8_t palette, start_row, zeros[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} unit_shapes;
_Static_assert(sizeof(unit_shapes) == 64, "what ldtilecfg reads");

/* A pool's task `f` with tiles of the `shapes`. */
#define UNIT_TASK(f, shapes)                                       \
    static void f##_by_units(void *arg, int64_t index, int worker) \
    {                                                              \
        _tile_loadconfig(&(shapes));                               \
        f(arg, index, worker);                                     \
        _tile_release();                                           \
    }
#define TASK(f) f##_by_units

/* In front of products: loads of tiles are no reads that the compiler knows of. */
SIMD_INLINE void units_ready(void) { __asm__ volatile("" ::: "memory"); }

#endif
