// Denormal numbers as zero while this lives; the host's own setting comes back after it. Thread: audio.
#pragma once

#include <cstdint>

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace attacca {

class NoDenormals {
public:
#if defined(__SSE2__) || defined(_M_X64)
    NoDenormals() noexcept : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040u); }  // FTZ and DAZ
    ~NoDenormals() { _mm_setcsr(before_); }

private:
    unsigned before_;
#elif defined(__aarch64__)
    NoDenormals() noexcept {
        __asm__ volatile("mrs %0, fpcr" : "=r"(before_));
        __asm__ volatile("msr fpcr, %0" : : "r"(before_ | (uint64_t{1} << 24)));
    }
    ~NoDenormals() { __asm__ volatile("msr fpcr, %0" : : "r"(before_)); }

private:
    uint64_t before_;
#else
    NoDenormals() noexcept {}
#endif

public:
    NoDenormals(const NoDenormals&) = delete;
    NoDenormals& operator=(const NoDenormals&) = delete;
};

}  // namespace attacca
