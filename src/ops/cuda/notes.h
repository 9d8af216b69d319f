/* What the people who run this should hear once a process: a library that is missing, work that a slow kernel does.
 * Kept until somebody asks (ops_device_kind.next_note). */
#ifndef FLUX1_OPS_CUDA_NOTES_H
#define FLUX1_OPS_CUDA_NOTES_H

#include "ops/cuda/gpu.h"

/* Subjects, each noted once. */
typedef enum cuda_subject {
    CUDA_NOTE_BLAS,
    CUDA_NOTE_DNN,
    CUDA_NOTE_NVRTC,
    CUDA_NOTE_OWN_PRODUCT,
    CUDA_NOTE_OWN_ATTENTION,
    CUDA_NOTE_OWN_CONVOLUTION,
    CUDA_SUBJECTS
} cuda_subject;

/* Of what this table lacks. */
void cuda_note_missing(const cuda_libraries *lib);

/* A library refuses work that it should do; kernels of our own do it. Below the device's worth_noting multiply-adds
 * nobody needs to know. */
void cuda_note_own(const cuda_device *d, cuda_subject about, double multiply_adds, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The next that nobody has heard; false if there is none. */
bool cuda_next_note(ops_note *out);
void cuda_notes_forget(void); /* all of them, so that they are noted again: for tests */

#endif
