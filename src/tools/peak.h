/* The machine's own limit: multiply-adds on registers alone. */
#ifndef FLUX1_TOOLS_PEAK_H
#define FLUX1_TOOLS_PEAK_H

/* FLOP/s of one thread over about `seconds` of its processor time; 0 where the machine lacks the unit. Multiply and add
 * count as two. */
double peak_avx2(double seconds);
double peak_avx512(double seconds);
double peak_avx512bf16(double seconds); /* pairs: 64 a vector instruction */

double now(void);        /* seconds, monotonic */
double now_cpu(void);    /* seconds of processor time, all threads of the process */
double now_thread(void); /* ... of this thread */

#endif
