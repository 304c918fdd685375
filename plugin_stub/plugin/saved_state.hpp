// What a project keeps beside the parameters, as lines of text: "attacca-state 1", then key=value. Lines that this
// version does not know are kept and written again, so that a newer version's project survives an older one. Thread:
// main.
#pragma once

#include <map>
#include <string>

namespace attacca {

struct SavedState {
    std::string address;  // empty: wherever the engine is on this machine (engine_address.hpp)
    std::string model;    // empty: the engine's own
    std::string seed;     // of the last take, where the engine chose it
    std::string words;    // what to play, for models that take text
    std::map<std::string, std::string> unknown;

    // What cannot be read is left as it is by default; never throws for bad text.
    static SavedState parse(const std::string& text);
    std::string text() const;
};

}  // namespace attacca
