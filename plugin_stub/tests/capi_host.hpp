// A block as Python hands it over and the meters as it reads them (tests/plugin/native_instance.py).
#pragma once

#include <algorithm>
#include <iterator>

#include "../core/exchange.hpp"
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

// In the order of native_instance.METERS.
inline void copy_meters(const Exchange& exchange, int64_t* out) {
    const EngineMeters& engine = exchange.engine;
    const AudioMeters& audio = exchange.audio;
    const RingCounters ring = exchange.ring.counters();
    const int64_t values[]{engine.connected,
                           engine.seed,
                           engine.sessions_lost,
                           engine.chunks,
                           engine.lost_chunks,
                           engine.disordered_chunks,
                           engine.stale_chunks,
                           engine.broken_chunks,
                           engine.bad_messages,
                           engine.unsent_messages,
                           engine.committed_end,
                           audio.position,
                           audio.lookahead_samples,
                           audio.underrun_callbacks,
                           audio.underrun_samples,
                           audio.repeat_samples,
                           audio.planned_samples,
                           audio.fade_samples,
                           audio.launches,
                           audio.joins,
                           audio.dropped_messages,
                           audio.wait_timeouts,
                           audio.take,
                           audio.take_start,
                           audio.sounding,
                           ring.late_samples,
                           ring.stale_samples,
                           ring.early_samples,
                           ring.missing_samples};
    std::copy(std::begin(values), std::end(values), out);
}

}  // namespace attacca
