// Counts what a real-time thread must not do: allocations, locks and system calls, on one thread, between `begin` and
// `end` around a plugin's process(). Allocations and locks are seen because this program's own malloc, free and
// pthread functions stand before the C library's (hence -rdynamic); system calls by the kernel's user dispatch, which
// hands every one of them to a signal handler first. Thread: the one that calls.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace attacca::host {

struct Counts {
    int64_t allocations{}, frees{}, locks{}, try_locks{}, signals{}, system_calls{};
    std::array<int32_t, 16> numbers{};  // of the first system calls
};

// Once, on the audio thread. An empty string, or why system calls cannot be counted here.
std::string watch_system_calls();

bool counts_allocations();  // false under a sanitizer, which has its own malloc

void begin(Counts& counts) noexcept;
void end() noexcept;

}  // namespace attacca::host
