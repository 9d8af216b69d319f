/* One request of flux1 generate, from its options to its files and what is printed about them. */
#ifndef FLUX1_CLI_REQUEST_H
#define FLUX1_CLI_REQUEST_H

#include "cli/shared_model.h"

typedef struct request_hooks {
    /* The prompts, encoded ahead; NULL: they are encoded as part of the request. */
    const flux1_text *text, *negative_text;
    void (*progress)(void *user, const flux1_progress *progress); /* may be NULL */
    void *user;
    const struct answer *answer; /* the result is printed as this JSON object, failed or not. NULL: it is not */
    struct taken *taken;         /* the files that earlier lines have written; NULL: there are no lines */
    long line;
    const struct from_picture *repeats; /* --from's, compared with the context once it is open; NULL: none */
    int64_t before;                     /* pictures of earlier lines that share one --output */
    const flux1_latents_file *latents;  /* these are decoded, and nothing is denoised; NULL: a request of its own */
    const char *recording;              /* this file's calls are made; NULL: a request of its own */
} request_hooks;

/* Whether the options of previews go together; prints an error if they do not. */
bool previews_fit(const options *opt);

/* Opens the model if this is its first usable request. Prints an error on failure; returns the exit status. hooks may
 * be NULL. */
int request_run(shared_model *s, const options *opt, const request_hooks *hooks);

/* What is wrong with options that hold for all lines of a file, before any is read: as request_run, without a prompt.
 */
int request_check(const options *opt);

#endif
