/* Loops that the compiler vectorizes, in one version per generation of x86-64, the best chosen when the library
 * loads. */
#ifndef FP8_CPU_VECTORIZE_H
#define FP8_CPU_VECTORIZE_H

/* v4 has AVX-512, v3 has AVX2. The sanitizers are not ready yet when the choosing functions run. */
#if defined(__x86_64__) && defined(__gnu_linux__) && __GNUC__ >= 12 && !defined(__clang__) &&                          \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VECTORIZE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VECTORIZE
#endif

/* For functions called in such loops: one that is not inlined keeps its loop from being vectorized. */
#define INLINED static inline __attribute__((always_inline))

#endif
