/* What OpenBLAS needs beside the operands, had before it asks: without memory for a buffer it looks for one for ever, and
 * without memory for its threads' work it ends the process. */
#ifndef FP8_CPU_MATMUL_RESERVE_H
#define FP8_CPU_MATMUL_RESERVE_H

/* The number of threads that a product may be spread over, `threads` or 1: all that it needs is there then. 0 with an
 * error if there is too little memory for one. Several threads that each call OpenBLAS need as much. */
int reserve_for_product(int threads);

#endif
