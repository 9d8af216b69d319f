/* What the pipeline's tests share: goldens as requests, contexts and models to run them in. */
#ifndef TESTS_SUPPORT_GOLDEN_H
#define TESTS_SUPPORT_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <unistd.h>

#include <cmocka.h>

#include "flux1.h"
#include "support/places.h"
#include "pipeline/context.h"
#include "weights/store.h"

#ifdef TEST_DEVICE /* tests/cuda.cmake builds some of these programs again for "cuda" */
#include "ops/cuda_emulator/install.h"
#include "ops/cuda/notes.h"
#else
#define TEST_DEVICE "cpu"
#endif

typedef struct golden {
    store *file;
    char prompt[4096], negative[4096];
    char folder[512];
    flux1_generate_params params;
} golden;

/* The case `pipeline/name` under tests/data/goldens, "schnell/cfg" among the pipelines; its folder is
 * tests/data/pipelines/<pipeline>, for "mini/<model>" models/<model>, for "mini-trial" the trained one beside the
 * checkout. */
void golden_open(const char *pipeline, const char *name, golden *g);
void golden_close(golden *g);
/* A tensor of text with a zero behind it; NULL where the golden has none. */
const char *golden_text(const store *s, const char *name, char *out, size_t size);
/* A tensor of one number. */
double golden_number(const store *s, const char *name);

/* ‖a − b‖ / ‖b‖ */
double relative_l2(const float *a, const float *b, int64_t n);

/* Each fails the test with the library's message. */
flux1_context *context_of(const flux1_context_params *p);
/* A context on `device` with these ranks ("" for one), threads and arithmetic. */
flux1_context *context_on(const char *device, const char *shape, int threads, flux1_dtype arithmetic);
flux1_model *model_of(flux1_context *c, const char *folder);
/* The committed pipeline of this name. */
flux1_model *pipeline_of(flux1_context *c, const char *pipeline);
flux1_image *generated(flux1_context *c, const flux1_model *m, const flux1_generate_params *p);

/* Of one seed and size, to the byte. */
void assert_same_picture(const flux1_image *a, const flux1_image *b);

enum { PIPELINE_COUNT = 7, ISA_COUNT = 10 };
/* The committed pipelines that have goldens of every stage. */
extern const char *const PIPELINES[PIPELINE_COUNT];

/* All names that FLUX1_CPU_ISA can have; those that this machine lacks are passed over by isa_choose. */
extern const char *const ISA_NAMES[ISA_COUNT];
/* From now on the CPU backend computes with this instruction set; false where the machine has it not. NULL: its own
 * choice again. */
bool isa_choose(const char *name);

bool is_there(const char *path);
/* A path of this process in /tmp; valid until the next call. */
char *scratch_path(const char *name);

#endif
