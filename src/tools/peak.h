/* The machine's own limit: multiply-adds on registers alone. */
#ifndef FLUX1_TOOLS_PEAK_H
#define FLUX1_TOOLS_PEAK_H

/* FLOP/s of one thread over about `seconds` of its processor time; 0 where the machine lacks the unit. Multiply and add
 * count as two. */
double peak_avx2(double seconds);
double peak_avx512(double seconds);
double peak_avx512bf16(double seconds); /* pairs: 64 a vector instruction */
double peak_avx512amx(double seconds);  /* tiles: 16384 an instruction; only where the kernels chosen are AMX's */

/* The same of int8 with exact sums in int32: widened to int16 (vpmaddwd, vpaddd), in quads (ops/int8.h), and by
 * vpdpbusd. */
double peak_avx2_int8(double seconds);
double peak_avx2_quads(double seconds);
double peak_avxvnni(double seconds); /* only where the kernels chosen are AVX-VNNI's */
double peak_avx512vnni(double seconds);
double peak_avx512amx_int8(double seconds); /* only where the kernels chosen are AMX's */

double now(void);     /* seconds, monotonic */
double now_cpu(void); /* seconds of processor time, all threads of the process */

#endif
