/* The inside of request.h: a request on its way. request_prepare.c makes it of options, request.c runs it,
 * request_result.c prints what came of it. */
#ifndef FLUX1_CLI_REQUEST_STATE_H
#define FLUX1_CLI_REQUEST_STATE_H

#include "cli/output.h"
#include "cli/progress.h"
#include "cli/request.h"
#include "cli/step_check.h"

/* One picture of a request. */
typedef struct picture {
    char *name;
    uint64_t seed;
    int width, height, steps_reused;
    bool written;
    step_distance distance; /* with --step-cache-check */
    char *latents;          /* file of its latents, where it could not be decoded */
} picture;

typedef struct request {
    shared_model *s;
    const options *opt;
    request_hooks hooks;
    char *prompt;
    output_names names, previews;
    flux1_write_params how, preview_how;
    flux1_generate_params params;
    flux1_adapter_use adapters[LORA_MAX];
    picture *pictures;
    int failure; /* exit status of a picture that could not be written, after its error; EXIT_DONE: none */
    progress progress;
    step_check check;
    double began, write_seconds;
    bool preview_failed;
    flux1_latents_file *initial; /* --latents */
} request;

/* Everything that can be refused before a model is opened. Prints an error; returns the exit status. */
int request_prepare(request *r);

/* Makes sure that the first and the last file can be written, before minutes of work go into them. Prints an error;
 * returns the exit status. The model is open. */
int request_prepare_files(request *r);

/* status: the exit status. */
void request_print_results(const request *r, int status);

/* What a run that failed leaves: names were printed as the pictures were written, but not in JSON. */
void request_print_finished(const request *r);

#endif
