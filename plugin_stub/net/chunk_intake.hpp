// Chunks on their way into the ring: which generation they belong to, what is missing between them, what the audio
// thread must hear of them. Chunks of takes that the engine started wait here until the audio thread claims them.
// Memory is bounded whatever an engine sends. Thread: network.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "../core/exchange.hpp"
#include "wire.hpp"

namespace attacca {

class ChunkIntake {
public:
    explicit ChunkIntake(Exchange& exchange) : exchange_(exchange) {}

    // Chunks of (epoch, take) are `generation` from now on; the last eight are known.
    void due(int32_t generation, int64_t epoch, int64_t take);
    void begin_session();  // sequence numbers and waiting chunks of the session before are forgotten

    // A decoded chunk of the present session.
    void take(const protocol::Chunk& chunk, const Frame& payload);
    // Chunks that waited go into the ring once they are due, or are dropped once they are too late.
    void place_held();

    void note(const ToAudio& note);  // to the audio thread, in order; kept while its queue is full
    void pass_notes();

private:
    struct Due {
        int32_t generation;
        int64_t epoch, take;
    };
    struct Held {
        protocol::Chunk chunk;
        std::vector<float> samples;
    };

    int32_t generation_of(const protocol::Chunk& chunk) const;
    void count_gap(const protocol::Chunk& chunk);
    void hold(const protocol::Chunk& chunk);
    void place(const protocol::Chunk& chunk, const std::vector<float>& samples, int32_t generation);
    bool already_noted(const protocol::Chunk& chunk);

    Exchange& exchange_;
    std::vector<float> samples_;  // of the chunk at hand
    std::deque<Due> dues_;
    std::deque<Held> held_;
    size_t held_floats_{0};
    std::deque<ToAudio> notes_;
    std::deque<std::array<int64_t, 2>> unclaimed_;  // (epoch, take) told of already
    int64_t seq_take_{-1}, next_seq_{0};
    int32_t first_generation_{kNothing};  // of the last `first` note
};

}  // namespace attacca
