// Soak of the plugin's time: random and hostile host data through BarClock, EpochTracker and Timeline, with operator
// new counted. `time_soak BLOCKS [SEED]` prints: blocks, allocations on the path, results that are no numbers, and
// nanoseconds a block. Beside the path.
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>
#include <random>

#include "core/bar_clock.hpp"
#include "core/timeline.hpp"

namespace {

int64_t allocations = 0;

}  // namespace

void* operator new(std::size_t size) {
    ++allocations;
    if (void* memory = std::malloc(size)) return memory;
    std::abort();
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using attacca::HostTime;

constexpr double kRate = 48000.0;
constexpr int kBlockSamples[] = {1, 3, 64, 127, 256, 1024};
constexpr double kTempi[] = {60.0, 97.0, 123.45, 180.0, 1000.0};
constexpr double kNonsense[] = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                                -1e300, 1e9, 0.0};

// A host that plays on, with now and then an event or a lie.
class Host {
public:
    explicit Host(uint32_t seed) : random_(seed) { host_.valid = true; }

    HostTime told() {
        HostTime host = host_;
        switch (random_() % 64) {
            case 0:
                host_.ppq = std::floor(unit() * 1e5) - 100.0;
                break;
            case 1:
                host_.bpm = kTempi[random_() % 5];
                break;
            case 2:
                host_.meter_num = 1 + static_cast<int32_t>(random_() % 16);
                break;
            case 3:
                host_.playing = !host_.playing;
                break;
            case 4:
                host_.tick_grid = !host_.tick_grid;
                break;
            case 5:
                host_.has_loop = !host_.has_loop;
                break;
            case 6:
                host.ppq = nonsense();
                break;
            case 7:
                host.bpm = nonsense();
                break;
            case 8:
                host.bar_start_ppq = nonsense();
                break;
            case 9:
                host.loop_end_ppq = nonsense();
                break;
            case 10:
                host.meter_den = static_cast<int32_t>(random_());
                break;
            case 11:
                host.frame = static_cast<int64_t>(random_()) - (int64_t{1} << 31);
                break;
            case 12:
                host.valid = false;
                break;
            default:
                break;
        }
        if (host.tick_grid) host.ppq = std::floor(host.ppq * 1920.0) / 1920.0;
        return host;
    }

    int advance() {
        const int samples = kBlockSamples[random_() % 6];
        if (host_.playing) {
            host_.frame += samples;
            host_.ppq += samples * host_.bpm / (60.0 * kRate);
        }
        host_.bar_start_ppq = std::floor(host_.ppq / 4.0) * 4.0;
        host_.loop_start_ppq = host_.bar_start_ppq;
        host_.loop_end_ppq = host_.bar_start_ppq + 4.0;
        return samples;
    }

private:
    double unit() { return static_cast<double>(random_()) / 4294967296.0; }
    double nonsense() { return kNonsense[random_() % 5]; }

    std::mt19937 random_;
    HostTime host_;
};

struct Path {
    attacca::BarClock clock{kRate};
    attacca::EpochTracker tracker{kRate};
    attacca::EpochTracker unguarded{kRate};  // must come back from anything, with whatever

    // Whether all that came out is finite.
    bool block(int64_t position, const HostTime& host) {
        unguarded.block(position, host);
        unguarded.timeline().next_launch(position, attacca::Quantum{});
        const attacca::BarClockReading reading = clock.block(position, host);
        const double drift = tracker.drift_samples(position, reading.host);
        tracker.block(position, reading.host, std::fabs(drift) >= 0.5);
        const attacca::Timeline& timeline = tracker.timeline();
        bool sane = std::isfinite(drift) && std::isfinite(reading.host.ppq) && std::isfinite(reading.host.bpm) &&
                    std::isfinite(reading.host.bar_start_ppq) && std::isfinite(reading.uncertainty_samples) &&
                    std::isfinite(timeline.segment().ppq_at(position + 1));
        if (const auto bar = timeline.bar_at(position)) sane = sane && std::isfinite(bar->position);
        if (const auto launch = timeline.next_launch(position, attacca::Quantum{}))
            sane = sane && std::isfinite(launch->ppq) && launch->position >= position;
        return sane;
    }
};

}  // namespace

int main(int count, char** words) {
    const int64_t blocks = count > 1 ? std::atoll(words[1]) : 100000;
    Host host(count > 2 ? static_cast<uint32_t>(std::atoll(words[2])) : 1);
    Path path;
    int64_t position = 0, broken = 0;
    const int64_t before = allocations;
    const auto started = std::chrono::steady_clock::now();
    for (int64_t block = 0; block < blocks; ++block) {
        if (!path.block(position, host.told())) ++broken;
        position += host.advance();
    }
    const auto took = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - started);
    std::printf("%lld %lld %lld %lld\n", static_cast<long long>(blocks), static_cast<long long>(allocations - before),
                static_cast<long long>(broken), static_cast<long long>(took.count() / (blocks > 0 ? blocks : 1)));
    return 0;
}
