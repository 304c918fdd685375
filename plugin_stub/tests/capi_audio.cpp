// The audio half between records that a test reads and writes, in the network half's place, for pytest
// (tests/plugin/native_audio.py). One thread.
#include <algorithm>
#include <iterator>

#include "../core/audio_half.hpp"
#include "../core/exchange.hpp"
#include "capi_host.hpp"

#if defined(_WIN32)
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif

namespace {

using namespace attacca;

struct Alone {
    Alone(const AudioConfig& config, int64_t ring_samples, int64_t input_samples)
        : exchange(ring_samples, input_samples, config.channels), half(config, exchange) {}
    Exchange exchange;
    AudioHalf half;
};

Alone& of(void* alone) { return *static_cast<Alone*>(alone); }

void copy_transport(const Snapshot& snapshot, int64_t* whole, double* real) {
    const HostTime& host = snapshot.host;
    const int64_t counts[]{snapshot.epoch, host.meter_num, host.meter_den,
                           host.playing,   host.has_loop,  host.non_realtime};
    const double times[]{host.ppq, host.bpm, host.bar_start_ppq, host.loop_start_ppq, host.loop_end_ppq};
    std::copy(std::begin(counts), std::end(counts), whole);
    std::copy(std::begin(times), std::end(times), real);
}

void copy_trigger(const TriggerRequest& asked, int64_t* whole, double* real) {
    const int64_t counts[]{asked.take, asked.quantum.in_bars, static_cast<int64_t>(asked.mode),
                           asked.bars, asked.wait_if_late,    asked.seed};
    std::copy(std::begin(counts), std::end(counts), whole);
    real[0] = asked.quantum.amount;
}

}  // namespace

EXPORTED void* attacca_audio_new(double rate, int32_t channels, int64_t max_block_samples, double ring_s, double wait_s,
                                 int64_t input_samples) {
    AudioConfig config;
    config.sample_rate = rate;
    config.channels = channels;
    config.max_block_samples = max_block_samples;
    config.ring_s = ring_s;
    config.wait_s = wait_s;
    return new Alone(config, static_cast<int64_t>(ring_s * rate + 0.5), input_samples);
}

EXPORTED void attacca_audio_free(void* alone) { delete static_cast<Alone*>(alone); }

EXPORTED void attacca_audio_parameter(void* alone, int32_t index, double value) {
    of(alone).half.set_parameter(index, value);
}

EXPORTED void attacca_audio_restore(void* alone, int32_t index, double value) {
    of(alone).half.restore_parameter(index, value);
}

EXPORTED void attacca_audio_bypass(void* alone, int32_t bypass) { of(alone).half.set_bypass(bypass != 0); }

EXPORTED void attacca_audio_process(void* alone, const HostFields* host, const float* const* inputs,
                                    float* const* outputs, uint32_t samples, const MidiEvent* events,
                                    uint32_t num_events) {
    of(alone).half.process(to_block(*host, inputs, outputs, samples, events, num_events));
}

// The next record for the network half: its kind, -1 if there is none. `whole` [8] and `real` [5] hold its fields in
// the order of native_audio.py; an audio record's samples are in the FIFO.
EXPORTED int32_t attacca_audio_record(void* alone, int64_t* position, int64_t* whole, double* real) {
    ToNetwork record;
    if (!of(alone).exchange.outbox.pop(record)) return -1;
    *position = record.position;
    switch (record.kind) {
        case ToNetwork::Kind::transport:
            copy_transport(record.transport, whole, real);
            break;
        case ToNetwork::Kind::audio:
            whole[0] = record.audio.samples;
            break;
        case ToNetwork::Kind::midi:
            whole[0] = record.midi.size;
            std::copy(std::begin(record.midi.data), std::end(record.midi.data), whole + 1);
            break;
        case ToNetwork::Kind::trigger:
            copy_trigger(record.trigger, whole, real);
            break;
        case ToNetwork::Kind::release:
            whole[0] = record.release.take;
            whole[1] = record.release.quantized;
            break;
        case ToNetwork::Kind::param:
            whole[0] = record.param.index;
            real[0] = record.param.value;
            break;
        case ToNetwork::Kind::due:
            whole[0] = record.due.generation;
            whole[1] = record.due.epoch;
            whole[2] = record.due.take;
            break;
        case ToNetwork::Kind::settled:
            break;
    }
    return static_cast<int32_t>(record.kind);
}

EXPORTED int32_t attacca_audio_input(void* alone, float* samples, int64_t count) {
    return of(alone).exchange.input.pop(samples, count);
}

EXPORTED int32_t attacca_audio_note(void* alone, int32_t kind, int32_t generation, int64_t epoch, int64_t take,
                                    int64_t position) {
    ToAudio note{static_cast<ToAudio::Kind>(kind), generation, epoch, take, position};
    return of(alone).exchange.inbox.push(note);
}

EXPORTED int64_t attacca_audio_write(void* alone, int64_t position, const float* samples, int64_t count,
                                     int32_t committed, int32_t generation) {
    return of(alone).exchange.ring.write(position, samples, count, committed != 0, generation);
}

EXPORTED void attacca_audio_settled(void* alone, int64_t number) { of(alone).exchange.engine.settled = number; }

// In the order of native_instance.METERS.
EXPORTED void attacca_audio_meters(void* alone, int64_t* out) { copy_meters(of(alone).exchange, out); }

EXPORTED int64_t attacca_audio_bad_input(void* alone) { return of(alone).exchange.audio.bad_input_samples; }

// Input, wet, bridged of the slot that holds a position.
EXPORTED void attacca_audio_peaks(void* alone, int64_t position, float* out) {
    const PeakStrip& strip = of(alone).exchange.audio.peaks;
    const Peaks peaks = strip.read(position / strip.slot_samples());
    out[0] = peaks.input;
    out[1] = peaks.wet;
    out[2] = peaks.bridged ? 1.0f : 0.0f;
}

// Whether denormals are flushed on this thread now, outside of `process`.
EXPORTED int32_t attacca_audio_flushes() {
    volatile float tiny = 1e-38f;
    return tiny * 1e-3f == 0.0f;
}
