// What a new session is told so that it can go on: parameters as last set, transport, the last seconds of input audio.
// Between the outbox, from which the network half feeds it, and the wire. Memory is fixed at construction. Thread:
// network.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "../core/timeline.hpp"
#include "wire.hpp"

namespace attacca {

// One message of a briefing, with its payload (only audio has one; it points into the history's own memory).
struct Brief {
    AnyMessage message;
    const float* samples{nullptr};
    size_t payload_bytes{0};
};

class SessionHistory {
public:
    static constexpr size_t kKeptSnapshots = 192;  // with parameters and audio well below what an engine's inbox holds

    SessionHistory(int64_t capacity_samples, int64_t channels);

    void param(int32_t index, double value);
    void transport(const Snapshot& snapshot);
    // Follows what was there; a hole up to the whole length becomes silence, anything else begins anew.
    void audio(int64_t position, const float* interleaved, int64_t samples);

    int64_t audio_samples() const { return end_ - begin_; }

    // Messages of a briefing in the order in which they must be sent: parameters, snapshots, audio in equal pieces.
    size_t size() const;
    // The message of that number; valid until the next call of anything that is not const.
    Brief at(size_t index);

private:
    int64_t pieces() const;
    void write(int64_t position, const float* interleaved, int64_t samples);

    const int64_t capacity_, channels_, piece_samples_;
    std::array<std::optional<double>, protocol::kParameters.size()> params_;
    size_t set_params_{0};
    std::deque<Snapshot> snapshots_;
    std::vector<float> ring_, piece_;
    int64_t begin_{0}, end_{0};  // positions of the audio kept
};

// A host's snapshot as the wire says it.
protocol::Transport to_transport(const Snapshot& snapshot);

}  // namespace attacca
