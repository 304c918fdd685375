// See ui_words.hpp.
#include "ui_words.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace attacca::ui {
namespace {

bool starts(std::string_view text, std::string_view with) { return text.substr(0, with.size()) == with; }

constexpr std::string_view kNoEngineAt = "no engine at ";

bool local(std::string_view address) {
    return address.empty() || address.find("//127.") != address.npos || address.find("//localhost") != address.npos ||
           address.find("//[::1]") != address.npos;
}

Words words(Tone tone, std::string_view headline, std::string_view advice) {
    Words made;
    made.tone = tone;
    put(made.headline.data(), made.headline.size(), headline);
    put(made.advice.data(), made.advice.size(), advice);
    return made;
}

// "refused by the engine at tcp://host:port: why" without what stands before why.
std::string_view reason(std::string_view state) {
    const size_t colon = state.find(": ");
    return colon == state.npos ? std::string_view{} : state.substr(colon + 2);
}

struct Row {
    std::string_view beginning;
    Tone tone;
    std::string_view headline;  // empty: the state itself
    std::string_view advice;
};

constexpr Row kRows[] = {
    {"connecting to", Tone::warn, {}, "something answers there, but no engine yet"},
    {"no thread", Tone::bad, "no engine thread", "the input passes through; reload the plugin"},
    {"stopped", Tone::calm, "switched off", "the host does not run this plugin now"},
    {"bridging (engine lost)", Tone::bad, "engine lost: bridging",
     "it is taken up again when it answers: attacca serve"},
    {"bridging", Tone::warn, "engine late: bridging", "it is too slow now: see RTF; raise Look-ahead"},
    {"waiting for the engine", Tone::warn, {}, "its audio is not here yet; it joins in phase"},
    {"late", Tone::warn, "waiting for the engine", "its audio is not here yet; it joins in phase"},
    {"armed until", Tone::armed, {}, "press play in the host"},
    {"armed", Tone::armed, {}, ""},
    {"playing", Tone::good, "playing", ""},
    {"listening", Tone::calm, {}, "Trigger, or a note in the trigger zone, starts a take"},
    {"connected", Tone::calm, {}, ""},
};

}  // namespace

void put(char* to, size_t size, std::string_view text) {
    constexpr std::string_view kCut = "...";
    if (text.size() < size) {
        std::memcpy(to, text.data(), text.size());
        to[text.size()] = '\0';
        return;
    }
    size_t kept = size - 1 - kCut.size();
    while (kept > 0 && (static_cast<unsigned char>(text[kept]) & 0xc0) == 0x80) --kept;
    std::memcpy(to, text.data(), kept);
    std::memcpy(to + kept, kCut.data(), kCut.size());
    to[kept + kCut.size()] = '\0';
}

Words words_of(std::string_view state) {
    if (starts(state, "no engine")) {
        const std::string_view address = state.size() > kNoEngineAt.size() ? state.substr(kNoEngineAt.size()) : "";
        std::array<char, 192> advice{};
        std::snprintf(advice.data(), advice.size(), "%s: attacca serve%s%.*s", local(address) ? "start" : "start there",
                      address.empty() ? "" : "   \u2192  ", static_cast<int>(std::min<size_t>(address.size(), 100)),
                      address.data());
        return words(Tone::bad, "no engine", advice.data());
    }
    if (starts(state, "refused")) return words(Tone::bad, "refused by the engine", reason(state));
    if (const size_t end = state.find(" is not an address"); end != state.npos)
        return words(Tone::bad, "no address of an engine", state);
    for (const Row& row : kRows) {
        if (starts(state, row.beginning))
            return words(row.tone, row.headline.empty() ? state : row.headline, row.advice);
    }
    return words(Tone::calm, state, "");
}

Words words_of_meters(bool connected, int state) {
    constexpr std::string_view kStates[] = {"listening", "armed", "playing", "bridging", "late"};
    const auto known = static_cast<size_t>(std::clamp(state, 0, 4));
    if (connected) return words_of(kStates[known]);
    return words_of(known == 3 ? "bridging (engine lost)" : "no engine");
}

}  // namespace attacca::ui
