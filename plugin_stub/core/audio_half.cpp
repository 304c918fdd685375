// See audio_half.hpp. Events, parameters and transport here; takes in take_book.cpp, what goes out in outlet.cpp, the
// wait of offline renders in patience.cpp, meters in audio_report.cpp.
#include "audio_half.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "audio_report.hpp"
#include "bar_clock.hpp"
#include "denormals.hpp"
#include "keyboard.hpp"
#include "mixer.hpp"
#include "outlet.hpp"
#include "parameters.hpp"
#include "patience.hpp"
#include "playback.hpp"
#include "take_book.hpp"

namespace attacca {
namespace {

constexpr double kMovedBars_samples = 0.5;  // a refined law that moves bar lines by so much is told
constexpr int kMostEdges = 8;               // of the trigger parameter between two blocks; more change nothing

}  // namespace

struct AudioHalf::State {
    State(const AudioConfig& settings, Exchange& shared)
        : max_piece(std::max<int64_t>(settings.max_block_samples, 1)),
          exchange(shared),
          clock(settings.sample_rate),
          tracker(settings.sample_rate),
          outlet(settings.sample_rate, settings.channels, max_piece, shared),
          takes(shared, outlet, tracker.timeline()),
          playback(shared.ring, settings.sample_rate, settings.history_s),
          mixer(settings.sample_rate, settings.channels),
          patience(settings.wait_s, shared),
          report(settings.sample_rate),
          channels(settings.channels),
          dry(static_cast<size_t>(max_piece * settings.channels)),
          wet(dry.size()) {
        exchange.audio.peaks.set_sample_rate(settings.sample_rate);
    }

    void piece(const Block& block, int64_t from, int64_t to, size_t& next_event) noexcept;
    void hear_host(const HostTime& host) noexcept;
    void follow_session() noexcept;
    void follow_parameters() noexcept;
    void handle(const MidiEvent& event, int64_t at) noexcept;
    void act(const Keyboard::Answer& answer, int64_t at) noexcept;
    void start(int velocity, int64_t at) noexcept;
    void send_midi(const MidiEvent& event, int64_t at) noexcept;
    void send_param(size_t index, double value, int64_t at) noexcept;
    void note_levels(const float* const* inputs, int64_t from, int64_t to) noexcept;
    Gains gains() const noexcept;

    const int64_t max_piece;
    Exchange& exchange;
    BarClock clock;
    EpochTracker tracker;
    Outlet outlet;
    TakeBook takes;
    Playback playback;
    Keyboard keyboard;
    Mixer mixer;
    Parameters parameters;
    Patience patience;
    AudioReport report;
    const int channels;
    std::vector<float> dry, wet;  // interleaved; the input for its levels only
    int64_t position{0};
    int edges{0};            // of the trigger parameter since the last block
    bool trigger_on{false};  // as it was before them
    bool let_go{false};      // the trigger parameter was restored: what it held is released
    bool bypassed{false}, began{false};
};

AudioHalf::AudioHalf(const AudioConfig& config, Exchange& exchange)
    : state_(std::make_unique<State>(config, exchange)) {}

AudioHalf::~AudioHalf() = default;

void AudioHalf::process(const Block& block) noexcept {
    const FlushDenormals flush;
    State& state = *state_;
    state.hear_host(block.host);
    if (block.host.non_realtime) state.patience.meet(state.takes, state.playback);
    size_t next_event = 0;
    int64_t done = 0;
    do {
        const int64_t count = std::min<int64_t>(state.max_piece, block.samples - done);
        state.piece(block, done, done + count, next_event);
        done += count;
    } while (done < block.samples);
    state.report.block(state.position, state.tracker.timeline(), state.takes, state.playback, state.exchange);
}

void AudioHalf::set_parameter(int32_t index, double value) noexcept {
    const bool changed = state_->parameters.set(index, value);
    if (changed && static_cast<size_t>(index) == Parameters::trigger_index()) {
        state_->edges = state_->edges < kMostEdges ? state_->edges + 1 : state_->edges - 1;  // odd stays odd
    }
}

void AudioHalf::restore_parameter(int32_t index, double value) noexcept {
    state_->parameters.set(index, value);
    if (static_cast<size_t>(index) != Parameters::trigger_index()) return;
    state_->let_go = true;
    state_->trigger_on = state_->parameters.trigger_on();
    state_->edges = 0;
}

void AudioHalf::set_bypass(bool bypass) noexcept { state_->bypassed = bypass; }

int64_t AudioHalf::position() const noexcept { return state_->position; }

// The block's samples [from, to). Transport was heard for all of it.
void AudioHalf::State::piece(const Block& block, int64_t from, int64_t to, size_t& next_event) noexcept {
    const int64_t origin = position - from;  // of the block
    takes.follow(playback.sounding());
    follow_session();
    follow_parameters();
    const bool last = to == block.samples;
    int64_t done = from;
    for (; next_event < block.num_events; ++next_event) {
        const MidiEvent& event = block.events[next_event];
        if (event.offset >= to && !last) break;
        const int64_t offset = std::clamp<int64_t>(event.offset, done, to);
        outlet.audio(origin + done, block.inputs, done, offset);
        done = offset;
        handle(event, origin + offset);
    }
    position += to - from;
    const bool waits = block.host.non_realtime;
    if (waits) {
        // First the wait, then the block's audio: an engine that has heard it takes it for played.
        outlet.flush(true);
        patience.wait(position, takes, playback, outlet);
    }
    outlet.audio(origin + done, block.inputs, done, to);
    outlet.flush(waits);
    playback.render(origin + from, to - from, takes, wet.data());
    note_levels(block.inputs, from, to);
    const Gains target = gains();
    if (!began) mixer.begin_at(target);
    began = began || to > from;
    mixer.mix(target, block.inputs, wet.data(), block.outputs, from, to);
    report.peaks(mixer.input_peak(), mixer.output_peak(), to - from);
}

void AudioHalf::State::hear_host(const HostTime& host) noexcept {
    const BarClockReading reading = clock.block(position, host);
    const bool moved = reading.refined && !playback.sounding() &&
                       std::fabs(tracker.drift_samples(position, reading.host)) >= kMovedBars_samples;
    const auto snapshot = tracker.block(position, reading.host, moved);
    if (!snapshot) return;
    if (snapshot->epoch != takes.epoch()) {
        outlet.flush(true);
        takes.enter_epoch(position, snapshot->epoch);
    } else if (tracker.change() == Change::bend) {
        outlet.flush(true);
        takes.bend(position);
    }
    ToNetwork record;
    record.kind = ToNetwork::Kind::transport;
    record.position = position;
    record.transport = *snapshot;
    outlet.put(record);
}

// An engine that was away knows nothing of what is still held: pedals, chords, the take.
void AudioHalf::State::follow_session() noexcept {
    if (!takes.reopened()) return;
    outlet.flush(true);
    keyboard.visit_held([this](const MidiEvent& event) { send_midi(event, position); });
    playback.go_on_into(takes.resume(position, playback.sounding()));
}

void AudioHalf::State::follow_parameters() noexcept {
    for (size_t i = 0; i < Parameters::kCount; ++i) {
        if (parameters.untold(i)) send_param(i, parameters[i], position);
    }
    if (let_go) act(keyboard.parameter(false), position);
    let_go = false;
    for (; edges > 0; --edges) {
        trigger_on = !trigger_on;
        act(keyboard.parameter(trigger_on), position);
    }
}

void AudioHalf::State::handle(const MidiEvent& event, int64_t at) noexcept {
    if (event.size == 0 || event.size > 3 || event.data[0] < 0x80) return;  // nothing that can be forwarded
    const Keyboard::Answer answer = keyboard.midi(event, parameters.zone());
    act(answer, at);
    if (!answer.forward) return;
    outlet.flush(true);
    send_midi(event, at);
}

void AudioHalf::State::act(const Keyboard::Answer& answer, int64_t at) noexcept {
    if (answer.act == Keyboard::Act::nothing) return;
    if (answer.act == Keyboard::Act::release && !takes.held()) return;  // it ends by itself, or is over
    outlet.flush(true);
    switch (answer.act) {
        case Keyboard::Act::start:
            start(answer.velocity, at);
            break;
        case Keyboard::Act::release:
            takes.release(at, parameters.release_quantized());
            break;
        case Keyboard::Act::silence:
            takes.silence(at);
            break;
        case Keyboard::Act::nothing:
            break;
    }
}

void AudioHalf::State::start(int velocity, int64_t at) noexcept {
    for (const size_t index : Parameters::velocity_targets()) {
        const double wanted = parameters.for_velocity(index, velocity);
        if (wanted != parameters.told(index)) send_param(index, wanted, at);
    }
    takes.trigger(parameters.request(), at);
}

void AudioHalf::State::send_midi(const MidiEvent& event, int64_t at) noexcept {
    ToNetwork record;
    record.kind = ToNetwork::Kind::midi;
    record.position = at;
    record.midi.size = event.size;
    std::copy(std::begin(event.data), std::end(event.data), record.midi.data);
    outlet.put(record);
}

// What does not fit is sent with a later block.
void AudioHalf::State::send_param(size_t index, double value, int64_t at) noexcept {
    outlet.flush(true);
    ToNetwork record;
    record.kind = ToNetwork::Kind::param;
    record.position = at;
    record.param.index = static_cast<int32_t>(index);
    record.param.value = value;
    if (outlet.put(record)) parameters.tell(index, value);
}

// Of the piece that was just rendered; before the outputs are written, for they may be the inputs.
void AudioHalf::State::note_levels(const float* const* inputs, int64_t from, int64_t to) noexcept {
    for (int channel = 0; channel < channels; ++channel) {
        const float* in = inputs == nullptr ? nullptr : inputs[channel];
        float* out = dry.data() + channel;
        for (int64_t i = from; i < to; ++i, out += channels) *out = in == nullptr ? 0.0f : in[i];
    }
    exchange.audio.note_peaks(position - (to - from), to - from, channels, dry.data(), wet.data(),
                              playback.counters().underrun_samples);
}

Gains AudioHalf::State::gains() const noexcept {
    if (bypassed) return {1.0, 0.0};
    Gains gains = parameters.gains();
    if (parameters.solo() && playback.sounding()) gains.dry = 0.0;
    return gains;
}

}  // namespace attacca
