// Flush-to-zero for the length of a scope, as filters and fades of denormals cost a hundred times the others. First and
// last thing of AudioHalf::process. Thread: audio. What the host had set comes back.
#pragma once

#include <cstdint>

#if defined(__SSE2__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace attacca {

class FlushDenormals {
public:
#if defined(__SSE2__) || defined(_M_X64)
    FlushDenormals() noexcept : kept_(_mm_getcsr()) { _mm_setcsr(kept_ | kFlushBits); }
    ~FlushDenormals() { _mm_setcsr(kept_); }

private:
    static constexpr unsigned kFlushBits = 0x8040;  // FTZ and DAZ
    const unsigned kept_;
#elif defined(__aarch64__)
    FlushDenormals() noexcept : kept_(read()) { write(kept_ | kFlushBit); }
    ~FlushDenormals() { write(kept_); }

private:
    static constexpr uint64_t kFlushBit = uint64_t{1} << 24;  // FPCR.FZ: inputs and results
    static uint64_t read() noexcept {
        uint64_t value;
        asm volatile("mrs %0, fpcr" : "=r"(value));
        return value;
    }
    static void write(uint64_t value) noexcept { asm volatile("msr fpcr, %0" : : "r"(value)); }
    const uint64_t kept_;
#else
    FlushDenormals() noexcept {}
    ~FlushDenormals() {}

private:
#endif
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;
};

}  // namespace attacca
