// Where the engine is: the environment variable ATTACCA_ENGINE, else plugin.conf in the user's configuration folder
// (written by `attacca plugin connect`), else this machine. Thread: main.
#pragma once

#include <string>

namespace attacca {

inline constexpr const char* kEngineVariable = "ATTACCA_ENGINE";

std::string plugin_conf_path();  // "" where the system names no folder
std::string engine_address();    // never empty

}  // namespace attacca
