// Parameters: the values of protocol::kParameters on the audio thread, what the engine has been told of them, and what
// a trigger asks for by them. Fed by the host's automation, read by AudioHalf. Thread: audio.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../protocol.hpp"
#include "exchange.hpp"
#include "keyboard.hpp"
#include "mixer.hpp"

namespace attacca {

class Parameters {
public:
    static constexpr size_t kCount = protocol::kParameters.size();

    Parameters() noexcept;

    // Clamped, integers rounded (ties to even, as Python's round); true if it changed. What is no parameter or no
    // number is ignored.
    bool set(int32_t index, double value) noexcept;
    double operator[](size_t index) const noexcept { return values_[index]; }

    bool untold(size_t index) const noexcept;  // it was set since the engine was last told
    double told(size_t index) const noexcept { return told_[index]; }
    void tell(size_t index, double value) noexcept;

    TriggerRequest request() const noexcept;  // number and position are still to come
    TriggerZone zone() const noexcept;
    Gains gains() const noexcept;
    bool solo() const noexcept;
    bool release_quantized() const noexcept;
    bool trigger_on() const noexcept;
    // What a take started at a velocity (-1: by the parameter) is to have of variation or temperature.
    double for_velocity(size_t index, int velocity) const noexcept;

    static size_t trigger_index() noexcept;
    static std::array<size_t, 2> velocity_targets() noexcept;  // variation, temperature

private:
    std::array<double, kCount> values_{}, told_{};
    std::array<bool, kCount> untold_{};
};

}  // namespace attacca
