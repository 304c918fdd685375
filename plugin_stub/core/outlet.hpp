// Outlet: what the audio thread sends. Input audio gathers here until there is enough for a message; a record goes out
// in order with it. Between the host's buffers and the exchange's outbox and FIFO; the outbox and `_queue_audio`,
// `_flush_audio` of bridge/client.py. What does not fit is dropped, the newest audio first, and counted.
// Thread: audio, except the constructor.
#pragma once

#include <cstdint>
#include <vector>

#include "exchange.hpp"

namespace attacca {

class Outlet {
public:
    // `max_piece_samples`: most that one call of `audio` brings.
    Outlet(double sample_rate, int channels, int64_t max_piece_samples, Exchange& exchange);

    // The host's samples [from, to) of a buffer whose first sample has `position`; nullptr is silence. A sample that is
    // no finite number becomes 0, and is counted.
    void audio(int64_t position, const float* const* inputs, int64_t from, int64_t to) noexcept;
    void flush(bool force) noexcept;  // sends what gathered: if it is enough, or at any rate

    bool put(const ToNetwork& record) noexcept;  // false: dropped, and counted
    bool has_room(size_t records) const noexcept;
    void count_dropped() noexcept;

private:
    Exchange& exchange_;
    const int channels_;
    const int64_t enough_samples_, capacity_samples_;
    std::vector<float> batch_;  // interleaved
    int64_t batch_from_{0}, batched_{0};
};

}  // namespace attacca
