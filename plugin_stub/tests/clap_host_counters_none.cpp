// In place of clap_host_counters.cpp where that does not work (Windows): counts nothing, and says so.
#include "clap_host_counters.hpp"

namespace attacca::host {

std::string watch_system_calls() { return "system calls are counted on Linux only"; }
bool counts_allocations() { return false; }
void begin(Counts&) noexcept {}
void end() noexcept {}

}  // namespace attacca::host
