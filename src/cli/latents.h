/* Files of latents: those that a run begins with, and those that are left of pictures that could not be decoded. */
#ifndef FLUX1_CLI_LATENTS_H
#define FLUX1_CLI_LATENTS_H

#include "base/json.h"
#include "cli/output.h"
#include "cli/shared_model.h"

/* Opens a file of latents, within --max-memory; initial: as in flux1_latents_open. Prints an error on failure; returns
 * the exit status. */
int latents_open(const options *o, const char *path, bool initial, flux1_latents_file **out);

/* What the file says about the request of its first picture, an object; NULL where it says nothing. */
json_value *latents_request(const flux1_latents_file *file);

/* Gives *o the model that the file names, part by part, where no option does. False, after an error, if there is none:
 * a picture of another model's latents would be noise. Texts are the file's. */
bool latents_take_model(options *o, const char *path, const flux1_latents_file *file);

/* A new file, which is nobody else's, for the latents of a picture that would have had that name: a.png gives
 * a.latents.safetensors, or a-2.latents.safetensors and so on. malloc'd; NULL, after a warning, if there is none. */
char *latents_claim(const char *picture);

/* One sentence: where the latents are, and the command that makes the picture of them, with the request's options of
 * how pictures are written. output: --output's name of the picture, NULL: it has none. */
void latents_tell(const char *file, const char *output, const options *opt);

#endif
