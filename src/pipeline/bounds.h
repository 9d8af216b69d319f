/* What a request may ask for at most. */
#ifndef FLUX1_PIPELINE_BOUNDS_H
#define FLUX1_PIPELINE_BOUNDS_H

#define SIZE_LIMIT 65536 /* pixels per side: larger values are taken as typing errors */
#define STEPS_LIMIT 10000
#define COUNT_LIMIT 10000

#endif
