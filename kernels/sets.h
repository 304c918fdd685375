// Sets of instructions that the kernels are compiled for, and what their files have in common.
#pragma once

#include "model.h"

#define ATTACCA_SET_PORTABLE 0
#define ATTACCA_SET_NEON 1
#define ATTACCA_SET_AVX2 2
#define ATTACCA_SET_AVXVNNI 3
#define ATTACCA_SET_AVX512 4

#if defined(__x86_64__) && defined(__GNUC__)
#define ATTACCA_X86 1
#include <immintrin.h>
#endif
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define ATTACCA_ARM 1
#include <arm_neon.h>
#endif

#define INLINE static inline __attribute__((always_inline))

// Functions between these two are compiled for other instructions than the rest: nothing of the standard library may
// be, or the linker could keep that copy for everybody.
#define ATTACCA_TEXT(x) #x
#if defined(__clang__)
#define ATTACCA_BEGIN(set) \
    _Pragma(ATTACCA_TEXT(clang attribute push(__attribute__((target(set))), apply_to = function)))
#define ATTACCA_END _Pragma("clang attribute pop")
#elif defined(__GNUC__)
#define ATTACCA_BEGIN(set) _Pragma("GCC push_options") _Pragma(ATTACCA_TEXT(GCC target(set)))
#define ATTACCA_END _Pragma("GCC pop_options")
#endif

namespace attacca {

extern const Kernels PORTABLE;
#if defined(ATTACCA_X86)
extern const Kernels AVX512, AVXVNNI, AVX2;
#endif
#if defined(ATTACCA_ARM)
extern const Kernels NEON;
#endif

}  // namespace attacca
