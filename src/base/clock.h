/* Time that never goes backwards, for measuring. */
#ifndef FLUX1_BASE_CLOCK_H
#define FLUX1_BASE_CLOCK_H

double clock_seconds(void);   /* since some moment before this process began, of the whole host */
double clock_processor(void); /* seconds of processor time, of all threads of this process */

#endif
