/* What driver.cpp, blas.cpp and dnn.cpp share: the device's memory, streams that record, counters. */
#ifndef FLUX1_TESTS_CUDA_DEVICE_H
#define FLUX1_TESTS_CUDA_DEVICE_H

#include "ops/cuda_emulator/emulator.h"

#include <functional>

/* Ends the program unless [p, p + bytes) lies within one allocation. */
void emulator_check(const void *p, size_t bytes, const char *what);

/* Work for a stream, done when something waits for it (driver.cpp); or kept for the graph that the stream records. */
CUresult emulator_enqueue(CUstream stream, std::function<void()> work);

/* Before work that a library does in a workspace: until it is done, no other stream's may be given the same. */
void emulator_workspace(const void *p, CUstream stream);

bool emulator_broken(void);    /* a kernel of this thread's device has failed: nothing works there any more */
bool emulator_recording(void); /* this thread records a stream */

extern int emulator_capability;

extern cuda_emulator_counters emulator_counters; /* changed by work that is enqueued, under the driver's lock */
void emulator_object(int change);                /* one more, or less, of live_objects */

/* Σ x·y of n elements, in double. */
double emulator_dot(const float *x, const float *y, size_t n);

/* bf16 or float32 element. */
static inline float emulator_load(const void *p, bool bf16, int64_t i)
{
    if (!bf16)
        return ((const float *)p)[i];
    uint32_t u = (uint32_t)((const uint16_t *)p)[i] << 16;
    float x;
    __builtin_memcpy(&x, &u, sizeof x);
    return x;
}
static inline void emulator_store(void *p, bool bf16, int64_t i, float x)
{
    uint32_t u;
    __builtin_memcpy(&u, &x, sizeof u);
    if (bf16)
        ((uint16_t *)p)[i] = (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? 0x7fffu
                                                                        : (u + 0x7fffu + ((u >> 16) & 1u)) >>
                                                                              16); /* to nearest even; NaN stays NaN */
    else
        ((float *)p)[i] = x;
}

/* The lock under which everything here happens, held for a scope; calls that are made under it may hold it again. */
struct emulator_hold {
    emulator_hold(void);
    ~emulator_hold();
};

/* The device of this thread's context. */
int emulator_device(void);

/* For work: waits, without the lock, until `holds` does; emulator_changed() lets all that wait look again. The stream
 * that runs the work stays where it is. */
void emulator_wait(std::function<bool()> holds);
void emulator_changed(void);

void emulator_fill_nccl(cuda_libraries *table);
void emulator_fill_blas(cuda_libraries *table);
void emulator_fill_dnn(cuda_libraries *table);

#endif
