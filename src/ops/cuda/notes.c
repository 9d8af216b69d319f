#include "ops/cuda/notes.h"

#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    ops_note note;
    bool noted, heard;
} notes[CUDA_SUBJECTS];

static void note(cuda_subject about, bool warning, const char *text)
{
    pthread_mutex_lock(&lock);
    if (!notes[about].noted) {
        notes[about].noted = true;
        notes[about].note.warning = warning;
        snprintf(notes[about].note.text, sizeof notes[about].note.text, "%s", text);
    }
    pthread_mutex_unlock(&lock);
}

static void note_library(const cuda_libraries *lib, cuda_library which, cuda_subject about, const char *package,
                         const char *instead)
{
    char text[sizeof notes[0].note.text];
    const char *why = lib->place[which].missing;
    snprintf(text, sizeof text,
             "device cuda: %s is missing (%s): %s. Install it (pip's package %s) or name its folder in "
             "FLUX1_CUDA_LIBRARIES",
             cuda_library_name(which), *why ? why : "not found", instead, package);
    note(about, true, text);
}

void cuda_note_missing(const cuda_libraries *lib)
{
    if (!lib->blas)
        note_library(lib, CUDA_BLAS, CUDA_NOTE_BLAS, "nvidia-cublas",
                     "products are computed by this program's own kernel, many times slower");
    if (!lib->dnn)
        note_library(lib, CUDA_DNN, CUDA_NOTE_DNN, "nvidia-cudnn-cu13",
                     "attention and convolutions are computed by this program's own kernels, several times slower");
    if (lib->dnn && *lib->place[CUDA_NVRTC].missing)
        note_library(lib, CUDA_NVRTC, CUDA_NOTE_NVRTC, "nvidia-cuda-nvrtc",
                     "cuDNN may be unable to compute attention, which then takes this program's own kernels");
}

void cuda_note_own(const cuda_device *d, cuda_subject about, double multiply_adds, const char *format, ...)
{
    char text[sizeof notes[0].note.text], work[256];
    va_list ap;
    if (multiply_adds < d->worth_noting)
        return;
    va_start(ap, format);
    vsnprintf(work, sizeof work, format, ap);
    va_end(ap);
    snprintf(text, sizeof text, "%s: %s (%s): this program does it another way, slower", d->head.info.id, work,
             d->versions);
    note(about, false, text);
}

bool cuda_next_note(ops_note *out)
{
    bool found = false;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < CUDA_SUBJECTS && !found; i++) {
        found = notes[i].noted && !notes[i].heard;
        if (!found)
            continue;
        notes[i].heard = true;
        *out = notes[i].note;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

void cuda_notes_forget(void)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < CUDA_SUBJECTS; i++)
        notes[i].noted = notes[i].heard = false;
    pthread_mutex_unlock(&lock);
}
