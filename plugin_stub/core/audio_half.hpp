// The audio half: one call per host callback. Keeps the stream position, turns host transport into epochs, sends audio,
// MIDI and parameters, arms and releases takes, plays the ring and mixes; bridge/client.py's `process` in C++.
// Thread: audio, except the constructor. process() never waits, allocates, locks or makes a system call while the host
// is in real time; offline it may wait for the engine, at most `wait_s`.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "exchange.hpp"
#include "host_time.hpp"

namespace attacca {

struct AudioConfig {
    double sample_rate{48000.0};
    int channels{2};
    int64_t max_block_samples{8192};  // longer blocks are processed in pieces
    double ring_s{20.0};
    double history_s{16.0};
    double wait_s{10.0};
};

class AudioHalf {
public:
    AudioHalf(const AudioConfig& config, Exchange& exchange);
    ~AudioHalf();

    // One callback. Dry samples pass as they are; what is no finite number among them goes to the engine as 0, and is
    // counted. Outputs may be the inputs.
    void process(const Block& block) noexcept;

    // Sets a parameter of protocol::kParameters (or a plugin-only one) from the next block on; the audio thread,
    // between or at the start of callbacks, as the host's automation says. Clamped. What the engine must know is sent
    // to it. `trigger` from off to on starts a take, from on to off releases it, as a held note does.
    void set_parameter(int32_t index, double value) noexcept;

    // The same for values that come out of a saved state (or another instance), at any time: `trigger` starts nothing
    // and lets go of what it held; whatever it is then, only its next change from off to on starts a take.
    void restore_parameter(int32_t index, double value) noexcept;

    void set_bypass(bool bypass) noexcept;  // dry alone, sample-exact, after a 5 ms ramp; takes go on unheard

    int64_t position() const noexcept;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace attacca
