// Names the calling thread for debuggers and process monitors, where the system knows such names. Any thread.
#pragma once

namespace attacca {

void name_this_thread(const char* name) noexcept;  // at most 15 characters

}  // namespace attacca
