#include "clap_host_script.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sstream>

namespace attacca::host {

namespace {

using Words = std::vector<std::string>;

struct Failure {
    std::string what;
};

// Words of a line; "several words" in quotes are one; # begins a comment.
Words split(const std::string& line) {
    Words words;
    std::string word;
    bool quoted = false, any = false;
    for (const char c : line) {
        if (c == '"') {
            quoted = !quoted;
            any = true;
        } else if (!quoted && c == '#') {
            break;
        } else if (!quoted && (c == ' ' || c == '\t' || c == '\r')) {
            if (any) words.push_back(word);
            word.clear();
            any = false;
        } else {
            word += c;
            any = true;
        }
    }
    if (quoted) throw Failure{"a quote is not closed"};
    if (any) words.push_back(word);
    return words;
}

int64_t whole(const std::string& word) {
    char* end = nullptr;
    const long long value = std::strtoll(word.c_str(), &end, 10);
    if (word.empty() || *end != 0) throw Failure{"'" + word + "' is not a whole number"};
    return value;
}

double real(const std::string& word) {
    char* end = nullptr;
    const double value = std::strtod(word.c_str(), &end);
    if (word.empty() || *end != 0) throw Failure{"'" + word + "' is not a number"};
    return value;
}

Ratio ratio(const std::string& word) {
    Ratio value;
    if (!parse_ratio(word, value)) throw Failure{"'" + word + "' is neither a/b nor a decimal number"};
    return value;
}

bool on_off(const std::string& word) {
    if (word != "on" && word != "off") throw Failure{"'" + word + "' is neither on nor off"};
    return word == "on";
}

// What follows the name of an action: n whole number, r quotient, v number, s text, h MIDI bytes in hex.
struct Shape {
    Kind kind;
    const char* words;
};

const std::map<std::string, Shape>& shapes() {
    static const std::map<std::string, Shape> table{
        {"note_on", {Kind::note_on, "nnv"}},    // channel key velocity (0..1)
        {"note_off", {Kind::note_off, "nnv"}},  // channel key velocity
        {"choke", {Kind::choke, "nn"}},         // channel key
        {"midi", {Kind::midi, "h"}},            // e.g. 903c64
        {"param", {Kind::param, "sv"}},         // id, symbol or name; value
        {"play", {Kind::play, ""}},
        {"stop", {Kind::stop, ""}},
        {"seek", {Kind::seek, "r"}},    // quarter notes
        {"tempo", {Kind::tempo, "r"}},  // BPM
        {"ramp", {Kind::ramp, "rn"}},   // BPM at the end, samples
        {"meter", {Kind::meter, "nn"}},
        {"loop", {Kind::loop, "rr"}},  // quarter notes
        {"no_loop", {Kind::no_loop, ""}},
        {"flush", {Kind::flush, "sv"}},  // a parameter by params.flush, no block
        {"save", {Kind::save, "s"}},     // state to a file
        {"load", {Kind::load, "s"}},
        {"try_load", {Kind::try_load, "s"}},  // the plugin may refuse it
        {"reset", {Kind::reset, ""}},
        {"deactivate", {Kind::deactivate, ""}},
        {"activate", {Kind::activate, "n"}},  // sample rate; 0: as it was
        {"offline", {Kind::offline, ""}},     // render modes
        {"realtime", {Kind::realtime, ""}},
        {"wait", {Kind::wait, "svv"}},  // until a parameter has a value, at most so many seconds
        {"sleep", {Kind::sleep, "v"}},  // seconds
        {"mark", {Kind::mark, "s"}},    // note all parameters under this name
        {"say", {Kind::say, "s"}},      // at once, as a line of standard output, for whoever makes faults meanwhile
    };
    return table;
}

Action action_of(int64_t at, const Words& words) {
    if (words.empty()) throw Failure{"an action is missing"};
    const auto found = shapes().find(words[0]);
    if (found == shapes().end()) throw Failure{"no action '" + words[0] + "'"};
    const std::string shape = found->second.words;
    if (words.size() != shape.size() + 1) {
        throw Failure{words[0] + " takes " + std::to_string(shape.size()) + " words"};
    }
    Action action;
    action.at = at;
    action.kind = found->second.kind;
    for (size_t i = 0; i < shape.size(); ++i) {
        const std::string& word = words[i + 1];
        if (shape[i] == 'n') action.numbers.push_back(whole(word));
        if (shape[i] == 'r') action.ratios.push_back(ratio(word));
        if (shape[i] == 'v') action.values.push_back(real(word));
        if (shape[i] == 's') action.text = word;
        if (shape[i] == 'h') {
            if (word.size() != 6) throw Failure{"MIDI is three bytes in hex"};
            for (size_t at_byte = 0; at_byte < 6; at_byte += 2) {
                action.numbers.push_back(std::strtol(word.substr(at_byte, 2).c_str(), nullptr, 16));
            }
        }
    }
    return action;
}

const std::string& word_at(const Words& words, size_t index) {
    if (index >= words.size()) throw Failure{words[0] + " wants more words"};
    return words[index];
}

void set_blocks(const Words& words, Blocks& blocks) {
    if (word_at(words, 1) == "random") {
        blocks.how = Blocks::How::random;
        blocks.seed = static_cast<uint64_t>(whole(word_at(words, 2)));
        blocks.low = whole(word_at(words, 3));
        blocks.high = whole(word_at(words, 4));
        if (blocks.low < 1 || blocks.high < blocks.low) throw Failure{"random blocks are seed, low, high from 1 on"};
        return;
    }
    blocks.how = Blocks::How::list;
    blocks.sizes.clear();
    for (size_t i = 1; i < words.size(); ++i) blocks.sizes.push_back(whole(words[i]));
    if (blocks.sizes.empty() || *std::min_element(blocks.sizes.begin(), blocks.sizes.end()) < 1) {
        throw Failure{"blocks have 1 sample at least"};
    }
}

void set_input(const Words& words, Script& script) {
    script.input = word_at(words, 1);
    if (script.input == "raw") {
        script.input_file = word_at(words, 2);
    } else if (script.input == "noise") {
        script.input_seed = static_cast<uint64_t>(whole(word_at(words, 2)));
    } else if (script.input != "silence" && script.input != "ramp") {
        throw Failure{"input is silence, ramp, noise SEED or raw FILE"};
    }
}

void set_telling(const Words& words, Telling& tell) {
    const std::string& what = word_at(words, 1);
    const std::string& how = word_at(words, 2);
    if (what == "transport")
        tell.transport = on_off(how);
    else if (what == "tempo")
        tell.tempo = on_off(how);
    else if (what == "meter")
        tell.meter = on_off(how);
    else if (what == "bar")
        tell.bar = on_off(how);
    else if (what == "frames")
        tell.frames = on_off(how);
    else if (what == "bar_offset")
        tell.bar_offset = ratio(how);
    else if (what == "frame_offset")
        tell.frame_offset = whole(how);
    else if (what == "ticks")
        tell.ticks = whole(how);
    else if (what == "changes") {
        tell.split = how == "split";
        tell.events = how == "events";
        if (!tell.split && !tell.events && how != "late") throw Failure{"changes are told split, events or late"};
    } else {
        throw Failure{"no telling '" + what + "'"};
    }
}

void set(const Words& words, Script& script) {
    const std::string& name = words[0];
    if (name == "blocks") return set_blocks(words, script.blocks);
    if (name == "input") return set_input(words, script);
    if (name == "tell") return set_telling(words, script.tell);
    const std::string& value = word_at(words, 1);
    if (name == "plugin")
        script.plugin = value;
    else if (name == "id")
        script.id = value;
    else if (name == "rate")
        script.rate = whole(value);
    else if (name == "length")
        script.length = whole(value);
    else if (name == "max_block")
        script.max_block = whole(value);
    else if (name == "render")
        script.offline = value == "offline";
    else if (name == "pace")
        script.pace = real(value);
    else if (name == "in_place")
        script.in_place = on_off(value);
    else if (name == "count")
        script.count = on_off(value);
    else if (name == "record")
        script.record = value;
    else if (name == "report")
        script.report = value;
    else if (name == "block_list")
        script.block_list = value;
    else
        throw Failure{"no setting '" + name + "'"};
}

}  // namespace

std::string read_script(std::istream& stream, Script& script) {
    std::string line;
    for (int number = 1; std::getline(stream, line); ++number) {
        try {
            const Words words = split(line);
            if (words.empty()) continue;
            if (words[0][0] == '@') {
                const int64_t at = whole(words[0].substr(1));
                script.actions.push_back(action_of(at, Words(words.begin() + 1, words.end())));
            } else {
                set(words, script);
            }
        } catch (const Failure& failure) {
            return "line " + std::to_string(number) + ": " + failure.what;
        }
    }
    std::stable_sort(script.actions.begin(), script.actions.end(),
                     [](const Action& a, const Action& b) { return a.at < b.at; });
    const Blocks& blocks = script.blocks;
    const int64_t longest =
        blocks.how == Blocks::How::random ? blocks.high : *std::max_element(blocks.sizes.begin(), blocks.sizes.end());
    script.max_block = std::max(script.max_block, longest);
    if (script.plugin.empty()) return "no plugin is named";
    if (script.rate < 1 || script.length < 0) return "rate or length is out of range";
    return "";
}

}  // namespace attacca::host
