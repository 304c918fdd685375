// See saved_state.hpp.
#include "saved_state.hpp"

#include <sstream>

#include "../core/text_rules.hpp"

namespace attacca {

namespace {

constexpr const char* kHeader = "attacca-state";
constexpr size_t kLongest = 512;       // of a line; longer ones are no work of ours
constexpr size_t kLongestText = 2100;  // of the text's, whose characters may have four bytes each
constexpr size_t kMostUnknown = 64;

}  // namespace

SavedState SavedState::parse(const std::string& text) {
    SavedState state;
    std::istringstream lines(text);
    std::string line;
    if (!std::getline(lines, line) || line.rfind(kHeader, 0) != 0) return state;
    while (std::getline(lines, line)) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        const size_t equals = line.find('=');
        if (equals == std::string::npos || equals == 0 || line.size() > kLongestText) continue;
        const std::string key = line.substr(0, equals), value = line.substr(equals + 1);
        if (key == "text") state.words = readable_text(value);
        if (key == "text" || line.size() > kLongest) continue;
        if (key == "address") {
            state.address = value;
        } else if (key == "model") {
            state.model = value.substr(0, 64);
        } else if (key == "seed") {
            state.seed = value;
        } else if (state.unknown.size() < kMostUnknown) {
            state.unknown[key] = value;
        }
    }
    return state;
}

std::string SavedState::text() const {
    std::string lines = std::string(kHeader) + " 1\n";
    for (const auto& [key, value] : {std::pair<const char*, const std::string&>{"address", address},
                                     {"model", model},
                                     {"seed", seed},
                                     {"text", words}})
        if (!value.empty()) lines += std::string(key) + "=" + value + "\n";
    for (const auto& [key, value] : unknown) lines += key + "=" + value + "\n";
    return lines;
}

}  // namespace attacca
