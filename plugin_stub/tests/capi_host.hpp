// A block as Python hands it over (tests/plugin/native_instance.py HostFields), for the test interfaces.
#pragma once

#include "../core/host_time.hpp"

namespace attacca {

struct HostFields {
    double ppq, bpm, bar_start_ppq, loop_start_ppq, loop_end_ppq;
    int64_t frame;
    int32_t meter_num, meter_den;
    int32_t valid, tick_grid, playing, non_realtime, has_loop;
};

inline HostTime to_host(const HostFields& fields) {
    HostTime host;
    host.valid = fields.valid != 0;
    host.tick_grid = fields.tick_grid != 0;
    host.playing = fields.playing != 0;
    host.non_realtime = fields.non_realtime != 0;
    host.has_loop = fields.has_loop != 0;
    host.ppq = fields.ppq;
    host.bpm = fields.bpm;
    host.bar_start_ppq = fields.bar_start_ppq;
    host.loop_start_ppq = fields.loop_start_ppq;
    host.loop_end_ppq = fields.loop_end_ppq;
    host.meter_num = fields.meter_num;
    host.meter_den = fields.meter_den;
    host.frame = fields.frame;
    return host;
}

inline Block to_block(const HostFields& host, const float* const* inputs, float* const* outputs, uint32_t samples,
                      const MidiEvent* events, uint32_t num_events) {
    Block block;
    block.host = to_host(host);
    block.inputs = inputs;
    block.outputs = outputs;
    block.samples = samples;
    block.events = events;
    block.num_events = num_events;
    return block;
}

}  // namespace attacca
