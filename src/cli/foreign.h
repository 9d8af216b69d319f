/* Options of other programs that make pictures (diffusers' scripts, stable-diffusion.cpp, mflux, the web interfaces),
 * and what people who know those should type here. */
#ifndef FLUX1_CLI_FOREIGN_H
#define FLUX1_CLI_FOREIGN_H

/* `name` without dashes in front, '_' being as good as '-', or one letter. "it is --steps here", or why there is no
 * such option; NULL: not known. */
const char *foreign_option(const char *name);

#endif
