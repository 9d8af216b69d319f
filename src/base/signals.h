/* Signals of threads that a program does not know of. */
#ifndef FLUX1_BASE_SIGNALS_H
#define FLUX1_BASE_SIGNALS_H

#include <signal.h>

/* Blocks all signals of the calling thread, and so of those that it starts from now on, but for those that an access
 * or an instruction of the thread itself raises (SIGBUS, SIGSEGV, …). While one of these is blocked, it ends the
 * process and no handler is asked: not guard.h's, which lets a mapped file become shorter, and not the application's.
 * *before is the mask that was; pthread_sigmask(SIG_SETMASK, before, NULL) ends it. */
void signals_block(sigset_t *before);

#endif
