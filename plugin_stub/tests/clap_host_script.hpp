// The scriptable CLAP host's script: settings, one a line, and actions, each at a sample of the run ("@48000 play").
// tests/plugin/clap_host.py writes it; README of the format: the table in clap_host_script.cpp. Thread: main.
#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "clap_host_transport.hpp"

namespace attacca::host {

enum class Kind {
    // Delivered inside a block, at its sample.
    note_on,
    note_off,
    choke,
    midi,
    param,
    // Of the transport.
    play,
    stop,
    seek,
    tempo,
    ramp,
    meter,
    loop,
    no_loop,
    // Of the main thread, between two blocks.
    flush,
    save,
    load,
    try_load,
    reset,
    deactivate,
    activate,
    offline,
    realtime,
    wait,
    sleep,
    mark,
    say,
};

inline bool is_event(Kind kind) { return kind <= Kind::param; }
inline bool is_transport(Kind kind) { return kind >= Kind::play && kind <= Kind::no_loop; }

struct Action {
    int64_t at{};
    Kind kind{};
    std::vector<int64_t> numbers;
    std::vector<Ratio> ratios;
    std::vector<double> values;
    std::string text;
};

struct Blocks {
    enum class How { list, random } how{How::list};
    std::vector<int64_t> sizes{512};
    uint64_t seed{1};
    int64_t low{1}, high{1};
};

// What this host says of its transport; all true by default.
struct Telling {
    bool transport{true}, tempo{true}, meter{true}, bar{true};
    bool split{true};    // blocks are cut where the transport changes
    bool events{false};  // otherwise: changes inside a block are told by transport events
    Ratio bar_offset;    // quarter notes that the told bar start is moved by
    int64_t ticks{0};    // of a quarter note; 0: not rounded
    int64_t frame_offset{0};
    bool frames{true};
};

struct Script {
    std::string plugin, id;
    int64_t rate{48000};
    int64_t length{0};
    int64_t max_block{4096};
    Blocks blocks;
    bool offline{false};
    double pace{0.0};  // times real time; 0: flat out
    bool in_place{false};
    bool count{true};
    std::string input{"silence"};  // silence, ramp, noise, raw
    std::string input_file;
    uint64_t input_seed{1};
    std::string record, report, block_list;
    Telling tell;
    std::vector<Action> actions;  // ascending by sample, in the script's order within one
};

// An empty string, or what is wrong in which line.
std::string read_script(std::istream& stream, Script& script);

}  // namespace attacca::host
