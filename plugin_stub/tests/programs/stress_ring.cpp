// Two threads on what crosses between them, for the sanitizers: position ring (read plainly, and by Playback), outbox
// and input FIFO. `stress_ring SECONDS [SEED]`: every sample says which position, channel, generation and kind it was
// written for, so one from elsewhere is known. Prints what was met; 1 and words on stderr where anything was wrong.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "core/exchange.hpp"
#include "core/playback.hpp"

namespace {

using namespace attacca;

constexpr int kChannels = 2;
constexpr int64_t kRingSamples = 3000, kInputSamples = 2000, kMostSamples = 700;
constexpr int64_t kBar = 1100;
constexpr int32_t kMostGeneration = 3;  // soon used again: then a slot may change while it is read

struct Met {
    int64_t committed{}, planned{}, missing{}, cuts{}, records{}, fifo_samples{}, rendered{};
};

// 23 bits of what a sample was written for: exact as a float.
float sample_of(int64_t position, int channel, int32_t generation, bool committed) {
    auto mixed = static_cast<uint64_t>(position * 4 + channel * 2 + committed) * 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 29) ^ static_cast<uint64_t>(generation)) * 0xBF58476D1CE4E5B9u;
    return static_cast<float>((mixed >> 41) + 1) / 8388608.0f;
}

class Bars final : public Grid {
public:
    bool bar_lines(int64_t position, BarLines& lines) const noexcept override {
        const int64_t present = position / kBar * kBar;
        lines = {present - kBar, present, present + kBar};
        return true;
    }
    bool is_launch(int64_t position) const noexcept override { return position % kBar == 0; }
};

class Stress {
public:
    explicit Stress(uint32_t seed) : seed_(seed) {}

    int run(double seconds) {
        std::thread network([this] { write_on(); });
        const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
        while (std::chrono::steady_clock::now() < end && !failed_.load(std::memory_order_relaxed)) read_some();
        done_.store(true, std::memory_order_release);
        network.join();
        std::printf("committed=%lld planned=%lld missing=%lld cuts=%lld records=%lld fifo_samples=%lld rendered=%lld\n",
                    of(met_.committed), of(met_.planned), of(met_.missing), of(met_.cuts), of(met_.records),
                    of(met_.fifo_samples), of(met_.rendered));
        return failed_.load() ? 1 : 0;
    }

private:
    static long long of(int64_t count) { return static_cast<long long>(count); }

    void wrong(const char* what, int64_t position) {
        std::fprintf(stderr, "%s at %lld\n", what, of(position));
        failed_.store(true, std::memory_order_relaxed);
    }

    static int64_t pick(std::mt19937& chance, int64_t low, int64_t high) {
        return std::uniform_int_distribution<int64_t>(low, high)(chance);
    }

    // --- network thread: learns generations from the outbox, checks the input, writes chunks in any order ---------
    void write_on() {
        std::mt19937 chance(seed_ + 1);
        std::vector<float> chunk(static_cast<size_t>(kMostSamples * kChannels));
        int32_t generation = kNothing;
        int64_t expected = 0;
        ToNetwork record;
        while (!done_.load(std::memory_order_acquire)) {
            while (exchange_.outbox.pop(record)) {
                ++met_.records;
                if (record.kind == ToNetwork::Kind::due) generation = record.due.generation;
                if (record.kind == ToNetwork::Kind::audio) hear(record, chunk, expected);
            }
            write_chunk(chance, chunk, generation);
        }
    }

    void hear(const ToNetwork& record, std::vector<float>& samples, int64_t& expected) {
        if (!exchange_.input.pop(samples.data(), record.audio.samples)) return wrong("no input", record.position);
        for (int64_t i = 0; i < record.audio.samples * kChannels; ++i, ++expected)
            if (samples[static_cast<size_t>(i)] != input_of(expected)) return wrong("wrong input", record.position);
        met_.fifo_samples += record.audio.samples;
    }

    static float input_of(int64_t index) { return static_cast<float>(index & 0xFFFFFF); }

    void write_chunk(std::mt19937& chance, std::vector<float>& chunk, int32_t newest) {
        const auto generation = static_cast<int32_t>(std::max<int64_t>(newest - (pick(chance, 0, 9) == 0), 0));
        const int64_t read = exchange_.ring.read_end();
        const int64_t position = std::max<int64_t>(read + pick(chance, -100, kRingSamples), 0);
        const int64_t count = pick(chance, 1, kMostSamples);
        const bool committed = pick(chance, 0, 2) != 0;
        for (int64_t i = 0; i < count; ++i)
            for (int channel = 0; channel < kChannels; ++channel)
                chunk[static_cast<size_t>(i * kChannels + channel)] =
                    sample_of(position + i, channel, generation, committed);
        exchange_.ring.write(position, chunk.data(), count, committed, generation);
        played_.write(position, chunk.data(), count, committed, generation);
    }

    // --- audio thread ---------------------------------------------------------------------------------------------
    void read_some() {
        const int64_t position = exchange_.ring.read_end(), count = pick(chance_, 0, kMostSamples);
        if (exchange_.ring.lookahead_samples() < count && pick(chance_, 0, 3) != 0) return std::this_thread::yield();
        if (pick(chance_, 0, 7) == 0) cut(position + pick(chance_, 0, 2) * pick(chance_, 0, kRingSamples / 4));
        say(position, pick(chance_, 1, kMostSamples));
        exchange_.ring.read(position, count, samples_.data(), sources_.data(), generations_.data());
        for (int64_t i = 0; i < count; ++i) check(position + i, i);
        playback_.render(position, count, bars_, samples_.data());
        for (int64_t i = 0; i < count * kChannels; ++i)
            if (!(std::fabs(samples_[static_cast<size_t>(i)]) <= 3.0f)) return wrong("rendered nonsense", position);
        met_.rendered += count;
    }

    // The network half learns of a generation before it is due, as TakeBook does it; a full outbox: no cut.
    void cut(int64_t position) {
        const bool stop = pick(chance_, 0, 9) == 0;
        const int32_t generation = stop ? kNothing : generation_ % kMostGeneration + 1;
        ToNetwork record;
        record.kind = ToNetwork::Kind::due;
        record.due = {generation, 0, 0};
        if (!stop && !exchange_.outbox.push(record)) return;
        if (!stop) generation_ = generation;
        met_.cuts += exchange_.ring.cut(position, generation);
        played_.cut(position, generation);
    }

    void say(int64_t position, int64_t count) {
        for (int64_t i = 0; i < count * kChannels; ++i) samples_[static_cast<size_t>(i)] = input_of(said_ + i);
        if (exchange_.outbox.size() >= 700 || !exchange_.input.push(samples_.data(), count)) return;
        said_ += count * kChannels;
        ToNetwork record;
        record.kind = ToNetwork::Kind::audio;
        record.position = position;
        record.audio.samples = count;
        exchange_.outbox.push(record);
    }

    void check(int64_t position, int64_t index) {
        const auto at = static_cast<size_t>(index);
        const bool committed = sources_[at] == Source::committed, planned = sources_[at] == Source::planned;
        met_.committed += committed;
        met_.planned += planned;
        met_.missing += sources_[at] == Source::missing;
        for (int channel = 0; channel < kChannels; ++channel) {
            const float due = committed || planned ? sample_of(position, channel, generations_[at], committed) : 0.0f;
            if (samples_[at * kChannels + static_cast<size_t>(channel)] != due) return wrong("wrong sample", position);
        }
    }

    const uint32_t seed_;
    Exchange exchange_{kRingSamples, kInputSamples, kChannels};
    PositionRing played_{kRingSamples, kChannels};
    Playback playback_{played_, 8000.0, 0.5};
    const Bars bars_;
    std::mt19937 chance_{seed_};
    std::vector<float> samples_ = std::vector<float>(static_cast<size_t>(kMostSamples * kChannels));
    std::vector<Source> sources_ = std::vector<Source>(static_cast<size_t>(kMostSamples));
    std::vector<int32_t> generations_ = std::vector<int32_t>(static_cast<size_t>(kMostSamples));
    int32_t generation_{kNothing};
    int64_t said_{0};
    Met met_;  // each field is one thread's; read when both are done
    std::atomic<bool> done_{false}, failed_{false};
};

}  // namespace

int main(int count, char** words) {
    const double seconds = count > 1 ? std::atof(words[1]) : 1.0;
    const auto seed = static_cast<uint32_t>(count > 2 ? std::atol(words[2]) : 1);
    return Stress(seed).run(seconds);
}
