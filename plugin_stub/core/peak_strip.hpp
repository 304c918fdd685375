// PeakStrip: levels by stream position, for the picture of the last seconds in the plugin window; nothing audible hangs
// on it. One writer (audio thread, relaxed stores, no allocation), any number of readers. A slot is one word that also
// holds its own number, so a reader gets all of a slot or nothing.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>

namespace attacca {

struct Peaks {
    float input{0.0f};    // 0..1
    float wet{0.0f};      // 0..1, before mix and gain
    bool bridged{false};  // the take was short of audio here
};

class PeakStrip {
public:
    static constexpr int64_t kSlots = 4096;
    static constexpr double kSlot_s = 0.005;  // 20 s in all

    // Before the writer starts.
    void set_sample_rate(double sample_rate) noexcept {
        slot_samples_ = std::max<int64_t>(1, std::llround(kSlot_s * sample_rate));
    }

    int64_t slot_samples() const noexcept { return slot_samples_; }

    // Writer. Interleaved samples from stream position `position` on; a slot keeps the most that was noted in it.
    void note(int64_t position, int64_t samples, int channels, const float* input, const float* wet,
              bool bridged) noexcept {
        for (int64_t done = 0; done < samples;) {
            const int64_t slot = (position + done) / slot_samples_;
            const int64_t count = std::min(samples - done, (slot + 1) * slot_samples_ - position - done);
            Peaks most = read(slot);
            most.input = std::max(most.input, most_of(input + done * channels, count * channels));
            most.wet = std::max(most.wet, most_of(wet + done * channels, count * channels));
            most.bridged = most.bridged || bridged;
            write(slot, most);
            done += count;
        }
    }

    // Writer. One slot's levels, whatever they were.
    void write(int64_t slot, const Peaks& peaks) noexcept {
        const uint64_t packed = static_cast<uint64_t>(slot & 0xffffffff) << 32 | level(peaks.input) << 17 |
                                level(peaks.wet) << 2 | uint64_t{peaks.bridged} << 1 | 1;
        slots_[at(slot)].store(packed, std::memory_order_relaxed);
    }

    // Any thread. Silence where the slot was overwritten or never written.
    Peaks read(int64_t slot) const noexcept {
        const uint64_t packed = slots_[at(slot)].load(std::memory_order_relaxed);
        if ((packed & 1) == 0 || packed >> 32 != static_cast<uint64_t>(slot & 0xffffffff)) return {};
        return {static_cast<float>(packed >> 17 & kFull) / kFull, static_cast<float>(packed >> 2 & kFull) / kFull,
                (packed >> 1 & 1) != 0};
    }

private:
    static constexpr uint32_t kFull = 32767;

    static size_t at(int64_t slot) noexcept { return static_cast<size_t>(slot & (kSlots - 1)); }
    static uint64_t level(float peak) noexcept {  // what is no number is no level
        return peak > 0.0f ? static_cast<uint64_t>(std::lround(std::min(peak, 1.0f) * kFull)) : 0;
    }
    static float most_of(const float* values, int64_t count) noexcept {
        float most = 0.0f;
        for (int64_t i = 0; i < count; ++i) most = std::max(most, std::fabs(values[i]));
        return most;
    }

    int64_t slot_samples_{240};
    std::array<std::atomic<uint64_t>, kSlots> slots_{};
};

}  // namespace attacca
