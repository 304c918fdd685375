// AudioReport: what the audio thread says of itself, block by block, into AudioMeters; for the UI and the host's
// meters. Thread: audio. Relaxed stores only.
#pragma once

#include <cstdint>

#include "take_book.hpp"

namespace attacca {

class AudioReport {
public:
    explicit AudioReport(double sample_rate) noexcept : sample_rate_(sample_rate) {}

    void peaks(float input, float output, int64_t samples) noexcept;  // of a piece of the block; they fall by time
    void block(int64_t position, const Timeline& timeline, const TakeBook& takes, const Playback& playback,
               Exchange& exchange) noexcept;

private:
    const double sample_rate_;
    float input_peak_{0.0f}, output_peak_{0.0f};
};

}  // namespace attacca
