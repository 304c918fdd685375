// See audio_half.hpp.
#include "audio_half.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "../protocol.hpp"
#include "bar_clock.hpp"
#include "denormals.hpp"
#include "keyboard.hpp"
#include "mixer.hpp"
#include "playback.hpp"
#include "sender.hpp"
#include "take_book.hpp"

namespace attacca {

namespace {

using protocol::kParameters;
using protocol::parameter_index;

constexpr double kBatch_s = 0.010;             // audio goes out in pieces of at least this length
constexpr double kRefined_samples = 0.5;       // bar lines that move by this much are worth a new epoch
constexpr double kConnect_s = 2.0;             // how long an offline render waits for an engine that was never there
constexpr double kWaitAfterTimeout_s = 0.010;  // and for one that has failed it before
constexpr std::chrono::microseconds kPoll(200);
constexpr double kLeastGain_db = -60.0;  // and below is silence

constexpr size_t index_of(std::string_view name) { return static_cast<size_t>(parameter_index(name)); }

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

struct AudioHalf::State {
    State(const AudioConfig& settings, Exchange& shared);

    void piece(const Block& block, const HostTime& host, uint32_t from, uint32_t count) noexcept;
    void hear_host(const HostTime& host) noexcept;
    void hear_parameters() noexcept;
    void hear_midi(const MidiEvent& event, int64_t at) noexcept;
    void act(Keyboard::Act act, uint8_t velocity, int64_t at) noexcept;
    void follow(int64_t at) noexcept;
    void wait_for_session() noexcept;
    void wait_for_engine(int64_t until) noexcept;
    bool ready(int64_t until) const noexcept;
    void queue_audio(int64_t from, const float* interleaved, int64_t samples) noexcept;
    void flush_audio(bool force) noexcept;
    void load_inputs(const Block& block, uint32_t from, uint32_t count) noexcept;
    void mix_outputs(const Block& block, uint32_t from, uint32_t count) noexcept;
    void show(const HostTime& host) noexcept;

    double value(size_t index) const noexcept { return values[index]; }
    int number(size_t index) const noexcept { return static_cast<int>(std::lround(values[index])); }
    Keyboard::Rules rules() const noexcept;
    TriggerRequest request() const noexcept;

    const AudioConfig config;
    Exchange& exchange;
    Sender sender;
    BarClock clock;
    EpochTracker tracker;
    TakeBook takes;
    Playback playback;
    Keyboard keyboard;
    GainRamp dry_gain, wet_gain;
    std::atomic<double> wanted[kParameters.size()];  // as set, by any thread
    double values[kParameters.size()];               // as heard, by the audio thread
    std::atomic<bool> bypassed{false};
    bool begun{false};
    int64_t position{0};
    int64_t asked{0};  // whether all is settled, so many times
    bool starved{false}, lonely{false};
    int64_t seen_chunks{0};
    const std::unique_ptr<float[]> dry, wet, batch;
    const int64_t batch_capacity;
    int64_t batch_from{0}, batched{0};
};

AudioHalf::State::State(const AudioConfig& settings, Exchange& shared)
    : config(settings),
      exchange(shared),
      sender(shared),
      clock(settings.sample_rate),
      tracker(settings.sample_rate),
      takes(shared, sender, tracker.timeline()),
      playback(shared.ring, settings.sample_rate, settings.history_s),
      dry_gain(settings.sample_rate, 1.0),
      wet_gain(settings.sample_rate, 1.0),
      dry(new float[static_cast<size_t>(settings.max_block_samples * settings.channels)]()),
      wet(new float[static_cast<size_t>(settings.max_block_samples * settings.channels)]()),
      batch(new float[static_cast<size_t>(
          (settings.max_block_samples + static_cast<int64_t>(kBatch_s * settings.sample_rate) + 1) *
          settings.channels)]()),
      batch_capacity(settings.max_block_samples + static_cast<int64_t>(kBatch_s * settings.sample_rate) + 1) {
    exchange.audio.peaks.set_sample_rate(settings.sample_rate);
    for (size_t i = 0; i < kParameters.size(); ++i) {
        values[i] = kParameters[i].initial;
        wanted[i].store(kParameters[i].initial, std::memory_order_relaxed);
    }
}

AudioHalf::AudioHalf(const AudioConfig& config, Exchange& exchange)
    : state_(std::make_unique<State>(config, exchange)) {}

AudioHalf::~AudioHalf() = default;

int64_t AudioHalf::position() const noexcept { return state_->position; }

void AudioHalf::set_bypass(bool bypass) noexcept { state_->bypassed.store(bypass, std::memory_order_relaxed); }

void AudioHalf::set_parameter(int32_t index, double value) noexcept {
    if (index < 0 || static_cast<size_t>(index) >= kParameters.size() || !std::isfinite(value)) return;
    const protocol::Parameter& row = kParameters[static_cast<size_t>(index)];
    const double inside = std::clamp(value, row.minimum, row.maximum);
    state_->wanted[index].store(row.integer ? std::nearbyint(inside) : inside, std::memory_order_relaxed);
}

void AudioHalf::process(const Block& block) noexcept {
    State& state = *state_;
    const NoDenormals guard;
    HostTime host = block.host;
    uint32_t done = 0;
    do {
        const auto count =
            static_cast<uint32_t>(std::min<int64_t>(block.samples - done, state.config.max_block_samples));
        state.piece(block, host, done, count);
        if (host.playing) host.ppq += count * host.bpm / (60.0 * state.config.sample_rate);
        if (host.frame >= 0) host.frame += count;
        done += count;
    } while (done < block.samples);
}

void AudioHalf::State::piece(const Block& block, const HostTime& host, uint32_t from, uint32_t count) noexcept {
    if (host.non_realtime) wait_for_session();
    hear_host(host);
    const int64_t start = position;
    follow(start);  // before the events: what is triggered now belongs to the session that is open now
    hear_parameters();
    load_inputs(block, from, count);
    position += count;
    uint32_t done = 0;
    for (uint32_t i = 0; i < block.num_events; ++i) {
        const MidiEvent& event = block.events[i];
        const bool last = from + count >= block.samples;  // what lies beyond the block belongs to its end
        if (event.offset < from || (event.offset >= from + count && !last)) continue;
        const uint32_t offset = std::max(std::min(event.offset - from, count), done);
        queue_audio(start + done, dry.get() + int64_t{done} * config.channels, offset - done);
        done = offset;
        hear_midi(event, start + offset);
    }
    if (host.non_realtime) {
        // First the wait, then the block's audio: an engine that has heard it takes it for played.
        flush_audio(true);
        wait_for_engine(position);
    }
    queue_audio(start + done, dry.get() + int64_t{done} * config.channels, count - done);
    flush_audio(host.non_realtime);
    playback.render(start, count, takes, wet.get());
    exchange.audio.note_peaks(start, count, config.channels, dry.get(), wet.get(),
                              playback.counters().underrun_samples);
    mix_outputs(block, from, count);
    show(host);
}

void AudioHalf::State::hear_host(const HostTime& host) noexcept {
    const BarClockReading reading = clock.block(position, host);
    const bool moved = std::fabs(tracker.drift_samples(position, reading.host)) >= kRefined_samples;
    const auto snapshot = tracker.block(position, reading.host, moved && !playback.sounding());
    if (!snapshot) return;
    if (snapshot->epoch != takes.epoch()) {
        flush_audio(true);
        takes.enter_epoch(position, snapshot->epoch);
    }
    sender.transport(*snapshot);
}

void AudioHalf::State::hear_parameters() noexcept {
    constexpr size_t kTrigger = index_of("trigger");
    if (!begun) {  // what a project was saved with is no command: a held trigger begins as released
        values[kTrigger] = wanted[kTrigger].load(std::memory_order_relaxed);
        begun = true;
    }
    for (size_t i = 0; i < kParameters.size(); ++i) {
        const double now = wanted[i].load(std::memory_order_relaxed);
        if (now == values[i]) continue;
        values[i] = now;
        if (i == kTrigger) {
            act(keyboard.parameter(now > 0.5, rules()), 0, position);
        } else if (!kParameters[i].plugin_only) {
            flush_audio(true);
            sender.parameter(position, static_cast<int32_t>(i), now);
        }
    }
}

void AudioHalf::State::hear_midi(const MidiEvent& event, int64_t at) noexcept {
    if (event.size < 1 || event.size > 3) return;
    const Keyboard::Result result = keyboard.handle(event.data, event.size, rules());
    act(result.act, result.velocity, at);
    if (!result.forward) return;
    flush_audio(true);
    sender.midi(at, event.data, event.size);
}

void AudioHalf::State::act(Keyboard::Act act, uint8_t velocity, int64_t at) noexcept {
    if (act == Keyboard::Act::none) return;
    flush_audio(true);
    if (act == Keyboard::Act::trigger) {
        constexpr size_t kTargets[] = {0, index_of("variation"), index_of("temperature")};
        const size_t target = kTargets[std::clamp(number(index_of("velocity_to")), 0, 2)];
        if (target != 0 && velocity > 0) {
            const protocol::Parameter& row = kParameters[target];
            const double amount = row.minimum + velocity / 127.0 * (row.maximum - row.minimum);
            sender.parameter(at, static_cast<int32_t>(target), amount);
        }
        takes.trigger(request(), at);
    } else if (act == Keyboard::Act::release) {
        takes.release(at, number(index_of("release_quantized")) != 0);
    } else {
        takes.silence(at);
    }
}

Keyboard::Rules AudioHalf::State::rules() const noexcept {
    const auto mode = static_cast<TakeMode>(number(index_of("mode")));
    return {number(index_of("midi_channel")), number(index_of("trigger_low")), number(index_of("trigger_high")),
            number(index_of("trigger_note")), mode == TakeMode::fill || mode == TakeMode::answer};
}

TriggerRequest AudioHalf::State::request() const noexcept {
    const protocol::QuantumValue& quantum = protocol::kQuantumValues[static_cast<size_t>(number(index_of("quantum")))];
    TriggerRequest made;
    made.quantum = quantum.bars ? Quantum{true, *quantum.bars} : Quantum{false, quantum.quarters};
    made.mode = static_cast<TakeMode>(number(index_of("mode")));
    made.bars = number(index_of("bars"));
    made.wait_if_late = number(index_of("late")) != 0;
    made.seed = static_cast<int64_t>(std::llround(value(index_of("seed"))));
    return made;
}

// What the network half learned. A new session knows no held notes and no take: both are told again.
void AudioHalf::State::follow(int64_t at) noexcept {
    if (!takes.follow(playback.sounding())) return;
    flush_audio(true);
    keyboard.chords([&](uint8_t channel, uint8_t note) {
        const uint8_t data[3] = {static_cast<uint8_t>(0x90 | channel), note, 100};
        sender.midi(at, data, 3);
    });
    takes.renew(std::max(at, exchange.ring.read_end()));
}

// Only where the host is not in real time, before what happens in the block: a session, once.
void AudioHalf::State::wait_for_session() noexcept {
    const std::atomic<bool>& connected = exchange.engine.connected;
    const double began_s = seconds_now();
    while (!lonely && !connected.load(std::memory_order_acquire)) {
        lonely = seconds_now() - began_s > kConnect_s;  // an engine that comes later is welcome, not waited for
        std::this_thread::sleep_for(kPoll);
    }
}

// Only where the host is not in real time: until the engine has done what it was asked for, and audio covers what is
// due.
void AudioHalf::State::wait_for_engine(int64_t until) noexcept {
    sender.ask_settled(++asked);
    double deadline_s = seconds_now() + (starved ? std::min(config.wait_s, kWaitAfterTimeout_s) : config.wait_s);
    while (!ready(until)) {
        if (seconds_now() >= deadline_s) {
            exchange.audio.wait_timeouts.fetch_add(1, std::memory_order_relaxed);
            starved = true;
            seen_chunks = exchange.engine.chunks.load(std::memory_order_relaxed);
            return;
        }
        std::this_thread::sleep_for(kPoll);
        follow(position);
        if (starved && exchange.engine.chunks.load(std::memory_order_relaxed) != seen_chunks) {
            starved = false;
            deadline_s = seconds_now() + config.wait_s;
        }
    }
    starved = false;
}

bool AudioHalf::State::ready(int64_t until) const noexcept {
    const bool connected = exchange.engine.connected.load(std::memory_order_acquire);
    const bool settled = exchange.engine.settled.load(std::memory_order_acquire) >= asked;
    return (settled || !connected) && takes.covered(until);
}

void AudioHalf::State::queue_audio(int64_t from, const float* interleaved, int64_t samples) noexcept {
    if (samples <= 0) return;
    if (batched > 0 && batched + samples > batch_capacity) flush_audio(true);
    if (batched == 0) batch_from = from;
    float* to = batch.get() + batched * config.channels;
    for (int64_t i = 0; i < samples * config.channels; ++i)
        to[i] = std::isfinite(interleaved[i]) ? interleaved[i] : 0.0f;
    batched += samples;
}

void AudioHalf::State::flush_audio(bool force) noexcept {
    if (batched == 0 || (!force && static_cast<double>(batched) < kBatch_s * config.sample_rate)) return;
    sender.audio(batch_from, batch.get(), batched);
    batched = 0;
}

void AudioHalf::State::load_inputs(const Block& block, uint32_t from, uint32_t count) noexcept {
    const int channels = config.channels;
    if (block.inputs == nullptr) {
        std::memset(dry.get(), 0, sizeof(float) * static_cast<size_t>(int64_t{count} * channels));
        return;
    }
    for (int channel = 0; channel < channels; ++channel) {
        const float* input = block.inputs[channel] + from;
        for (uint32_t i = 0; i < count; ++i) dry[static_cast<size_t>(int64_t{i} * channels + channel)] = input[i];
    }
}

void AudioHalf::State::mix_outputs(const Block& block, uint32_t from, uint32_t count) noexcept {
    const bool bypass = bypassed.load(std::memory_order_relaxed);
    const double mix = value(index_of("mix")), level_db = value(index_of("gain"));
    const bool soloed = number(index_of("solo")) != 0 && playback.sounding();
    const double level = level_db <= kLeastGain_db ? 0.0 : std::pow(10.0, level_db / 20.0);
    dry_gain.aim(bypass ? 1.0 : soloed ? 0.0 : std::min(1.0, 2.0 * (1.0 - mix)));
    wet_gain.aim(bypass ? 0.0 : std::min(1.0, 2.0 * mix) * level);
    const int channels = config.channels;
    apply(dry_gain, dry.get(), count, channels);
    apply(wet_gain, wet.get(), count, channels);
    float peak = 0.0f;
    for (int channel = 0; channel < channels; ++channel) {
        float* output = block.outputs[channel] + from;
        for (uint32_t i = 0; i < count; ++i) {
            const auto at = static_cast<size_t>(int64_t{i} * channels + channel);
            output[i] = wet[at] == 0.0f ? dry[at] : dry[at] + wet[at];
            peak = std::max(peak, std::fabs(output[i]));
        }
    }
    exchange.audio.output_peak.store(peak, std::memory_order_relaxed);
}

void AudioHalf::State::show(const HostTime& host) noexcept {
    AudioMeters& meters = exchange.audio;
    const auto store = [](auto& meter, auto now) { meter.store(now, std::memory_order_relaxed); };
    const PlaybackCounters& counted = playback.counters();
    store(meters.position, position);
    store(meters.lookahead_samples, exchange.ring.lookahead_samples());
    store(meters.underrun_callbacks, counted.underrun_callbacks);
    store(meters.underrun_samples, counted.underrun_samples);
    store(meters.repeat_samples, counted.repeat_samples);
    store(meters.planned_samples, counted.planned_samples);
    store(meters.fade_samples, counted.fade_samples);
    store(meters.launches, counted.launches);
    store(meters.joins, counted.joins);
    store(meters.sounding, playback.sounding());
    takes.show(meters);
    const Timeline& timeline = tracker.timeline();
    store(meters.playing, timeline.playing());
    if (!timeline.known()) return;
    const HostTime& law = timeline.segment().snapshot.host;
    store(meters.bpm, law.bpm);
    store(meters.meter_num, law.meter_num);
    store(meters.meter_den, law.meter_den);
    store(meters.ppq, timeline.segment().ppq_at(position));
    if (const auto bar = timeline.bar_at(position)) {
        store(meters.bar_start_ppq, bar->ppq);
        store(meters.bar_index, bar->index);
    } else {
        store(meters.bar_start_ppq, host.bar_start_ppq);
    }
}

}  // namespace attacca
