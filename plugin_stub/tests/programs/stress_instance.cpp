// A whole plugin as a host drives it, for the sanitizers: audio on one thread, starts, stops and looks on the other,
// the network thread between. `stress_instance ADDRESS SECONDS [SEED]`: a host that plays, stops, seeks, loops and
// changes its mind, in real time and offline, notes and parameters at any sample. Prints what was met; 1 where an
// output was no finite number.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "instance.hpp"
#include "protocol.hpp"

namespace {

using namespace attacca;
using Clock = std::chrono::steady_clock;

constexpr double kRate = 48000.0;
constexpr int kChannels = 2;
constexpr int64_t kMostSamples = 1024;
constexpr int kTriggerNote = 24, kChordNote = 60;

struct Met {
    int64_t blocks{}, offline{}, sounding{}, wrong{};
};

class Host {
public:
    Host(Instance& plugin, uint32_t seed) : plugin_(plugin), chance_(seed) {
        host_.valid = host_.playing = true;
        set("quantum", 1.0);  // 1/16: takes start soon
    }

    void play_until(Clock::time_point end) {
        for (auto due = Clock::now(); Clock::now() < end;) {
            const auto samples = static_cast<uint32_t>(pick(0, kMostSamples));
            disturb();
            play_events(samples);
            process(samples);
            if (host_.non_realtime) continue;
            due += std::chrono::microseconds(static_cast<int64_t>(samples * 1e6 / kRate));
            std::this_thread::sleep_until(due);
        }
    }

    const Met& met() const { return met_; }

private:
    int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(chance_); }
    bool one_in(int64_t many) { return pick(1, many) == 1; }
    void set(std::string_view name, double value) { plugin_.set_parameter(protocol::parameter_index(name), value); }

    void disturb() {
        if (one_in(60)) host_.playing = !host_.playing;
        if (!host_.playing && one_in(4)) host_.playing = true;
        if (one_in(80)) host_.ppq = static_cast<double>(pick(0, 64)) / 4.0;
        if (one_in(80)) host_.bpm = static_cast<double>(pick(60, 240));
        if (one_in(100)) host_.meter_num = static_cast<int32_t>(pick(2, 7));
        if (one_in(100)) host_.tick_grid = !host_.tick_grid;
        if (one_in(40)) host_.non_realtime = !host_.non_realtime;
        if (one_in(20)) {
            const auto index = static_cast<size_t>(pick(0, static_cast<int64_t>(protocol::kParameters.size()) - 1));
            const protocol::Parameter& row = protocol::kParameters[index];
            const double part = static_cast<double>(pick(0, 8)) / 8.0;
            if (row.name != "quantum" && row.name != "trigger_low")
                plugin_.set_parameter(static_cast<int32_t>(index), row.minimum + part * (row.maximum - row.minimum));
        }
        if (one_in(50)) plugin_.set_bypass(one_in(2));
        if (one_in(50))
            plugin_.restore_parameter(protocol::parameter_index("trigger"), static_cast<double>(pick(0, 1)));
        const double bar = 4.0 * host_.meter_num / host_.meter_den;
        host_.bar_start_ppq = std::floor(host_.ppq / bar) * bar;
    }

    void play_events(uint32_t samples) {
        events_.clear();
        for (uint32_t at = 0; one_in(6); at = std::min(at + samples / 3, samples)) {
            const bool trigger = !one_in(3);
            MidiEvent event;
            event.offset = at;
            event.size = 3;
            event.data[0] = static_cast<uint8_t>(one_in(12) ? 0xB0 : one_in(3) ? 0x80 : 0x90);
            event.data[1] = static_cast<uint8_t>(event.data[0] == 0xB0 ? 123 : trigger ? kTriggerNote : kChordNote);
            event.data[2] = 100;
            events_.push_back(event);
        }
    }

    void process(uint32_t samples) {
        float* pointers[kChannels];
        for (int channel = 0; channel < kChannels; ++channel) {
            pointers[channel] = buffers_[channel];
            for (uint32_t i = 0; i < samples; ++i)
                buffers_[channel][i] = 0.2f * std::sin(static_cast<float>(phase_++ % 480) * 0.0130899694f);
        }
        Block block;
        block.host = host_;
        block.inputs = one_in(10) ? nullptr : pointers;
        block.outputs = pointers;
        block.samples = samples;
        block.events = events_.data();
        block.num_events = static_cast<uint32_t>(events_.size());
        plugin_.process(block);
        for (const float* out : pointers)
            for (uint32_t i = 0; i < samples; ++i) met_.wrong += !std::isfinite(out[i]);
        if (host_.playing) host_.ppq += static_cast<double>(samples) * host_.bpm / (60.0 * kRate);
        ++met_.blocks;
        met_.offline += host_.non_realtime;
        met_.sounding += plugin_.exchange().audio.sounding.load(std::memory_order_relaxed);
    }

    Instance& plugin_;
    std::mt19937 chance_;
    HostTime host_;
    Met met_;
    std::vector<MidiEvent> events_;
    float buffers_[kChannels][kMostSamples];
    uint32_t phase_{0};
};

// What a window and a host's generic page look at, meanwhile.
size_t look(const Instance& plugin) {
    const Exchange& exchange = plugin.exchange();
    const int64_t position = exchange.audio.position.load(std::memory_order_relaxed);
    const PeakStrip& peaks = exchange.audio.peaks;
    const float level = peaks.read(position / peaks.slot_samples()).input;
    return plugin.state_text().size() + plugin.model_text().size() + (level > 2.0f) +
           static_cast<size_t>(exchange.ring.counters().late_samples >= 0);
}

}  // namespace

int main(int count, char** words) {
    if (count < 3) return 2;
    const double seconds = std::atof(words[2]);
    const auto seed = static_cast<uint32_t>(count > 3 ? std::atol(words[3]) : 1);
    InstanceConfig config;
    config.address = words[1];
    config.client = "stress";
    config.audio.sample_rate = kRate;
    config.audio.channels = kChannels;
    config.audio.max_block_samples = kMostSamples / 2;  // some blocks are longer
    config.audio.ring_s = 2.0;
    config.audio.wait_s = 0.2;
    Instance plugin(config);
    Host host(plugin, seed);
    const auto end = Clock::now() + std::chrono::microseconds(static_cast<int64_t>(seconds * 1e6));
    plugin.start();
    std::thread audio([&host, end] { host.play_until(end); });
    std::mt19937 chance(seed + 1);
    size_t seen = 0;
    int64_t starts = 1;
    while (Clock::now() < end) {
        seen += look(plugin);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        if (chance() % 150 != 0) continue;
        plugin.stop();
        plugin.start();
        ++starts;
    }
    audio.join();
    const EngineMeters& engine = plugin.exchange().engine;
    const Met& met = host.met();
    std::printf(
        "blocks=%lld offline=%lld sounding=%lld wrong=%lld chunks=%lld bad_messages=%lld starts=%lld seen=%zu\n",
        static_cast<long long>(met.blocks), static_cast<long long>(met.offline), static_cast<long long>(met.sounding),
        static_cast<long long>(met.wrong), static_cast<long long>(engine.chunks.load()),
        static_cast<long long>(engine.bad_messages.load()), static_cast<long long>(starts), seen);
    return met.wrong == 0 ? 0 : 1;
}
