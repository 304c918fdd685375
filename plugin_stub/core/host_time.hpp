// What a host hands over with each block: plain data, no behaviour. First thing on the audio thread's path.
#pragma once

#include <cstdint>

namespace attacca {

// Transport at a block's first sample. ppq counts quarter notes from the song's start.
struct HostTime {
    bool valid{false};      // false: this host has no transport; a free clock at 120 BPM, 4/4 runs instead
    bool tick_grid{false};  // the host rounds ppq to ticks (JACK, LV2): BarClock repairs it
    bool carried{false};    // the host says ppq on change only (LV2): this one was carried on from its last
    bool misread{false};    // what was handed on before was not what the host meant: BarClock begins anew
    bool playing{false};
    bool non_realtime{false};  // the host renders faster than time (bounce): process() may wait for the engine
    bool has_loop{false};
    double ppq{0.0};
    double bpm{120.0};
    double bar_start_ppq{0.0};
    double loop_start_ppq{0.0};
    double loop_end_ppq{0.0};
    int32_t meter_num{4};
    int32_t meter_den{4};
    int64_t frame{-1};  // the host's own song position in samples; -1: not told
};

// One MIDI channel message inside a block.
struct MidiEvent {
    uint32_t offset{};  // samples from the block's start
    uint8_t size{};     // 1..3
    uint8_t data[3]{};
};

// One callback. Channel pointers may be the same in and out (in-place).
struct Block {
    HostTime host;
    const float* const* inputs{};  // [channels] or nullptr: no audio input, silence
    float* const* outputs{};       // [channels]
    uint32_t samples{};
    const MidiEvent* events{};  // ascending by offset
    uint32_t num_events{};
};

}  // namespace attacca
