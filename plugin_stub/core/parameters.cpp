// See parameters.hpp.
#include "parameters.hpp"

#include <algorithm>
#include <cmath>

namespace attacca {
namespace {

constexpr size_t row(std::string_view name) { return static_cast<size_t>(protocol::parameter_index(name)); }

constexpr size_t kMode = row("mode"), kQuantum = row("quantum"), kBars = row("bars"), kLate = row("late");
constexpr size_t kSeed = row("seed"), kMix = row("mix"), kGain = row("gain"), kChannel = row("midi_channel");
constexpr size_t kLow = row("trigger_low"), kHigh = row("trigger_high"), kNote = row("trigger_note");
constexpr size_t kVelocityTo = row("velocity_to"), kQuantized = row("release_quantized");
constexpr size_t kVariation = row("variation"), kTemperature = row("temperature");
constexpr size_t kTrigger = row("trigger"), kSolo = row("solo");
static_assert(std::max({kMode, kQuantum, kBars, kLate, kSeed, kMix, kGain, kChannel, kLow, kHigh, kNote, kVelocityTo,
                        kQuantized, kVariation, kTemperature, kTrigger, kSolo}) < Parameters::kCount,
              "the parameter table lacks one of these");

constexpr double kToVariation = 1.0, kToTemperature = 2.0;  // values of velocity_to
constexpr double kMostVelocity = 127.0;

// These two are the plugin's own work, and automated often.
bool for_engine(size_t index) noexcept {
    return !protocol::kParameters[index].plugin_only && index != kMix && index != kGain;
}

}  // namespace

Parameters::Parameters() noexcept {
    for (size_t i = 0; i < kCount; ++i) values_[i] = told_[i] = protocol::kParameters[i].initial;
}

bool Parameters::set(int32_t index, double value) noexcept {
    const auto place = static_cast<size_t>(index);
    if (index < 0 || place >= kCount || !std::isfinite(value)) return false;
    const protocol::Parameter& parameter = protocol::kParameters[place];
    double inside = std::clamp(value, parameter.minimum, parameter.maximum);
    if (parameter.integer) inside = std::nearbyint(inside);
    const bool changed = inside != values_[place];
    values_[place] = inside;
    untold_[place] = untold_[place] || (changed && for_engine(place));
    return changed;
}

bool Parameters::untold(size_t index) const noexcept { return untold_[index] && told_[index] != values_[index]; }

void Parameters::tell(size_t index, double value) noexcept {
    told_[index] = value;
    untold_[index] = false;
}

TriggerRequest Parameters::request() const noexcept {
    TriggerRequest request;
    const protocol::QuantumValue& quantum = protocol::kQuantumValues[static_cast<size_t>(values_[kQuantum])];
    request.quantum = quantum.bars ? Quantum{true, *quantum.bars} : Quantum{false, quantum.quarters};
    request.mode = static_cast<TakeMode>(values_[kMode]);
    request.bars = static_cast<int32_t>(values_[kBars]);
    request.wait_if_late = values_[kLate] != 0.0;
    request.seed = static_cast<int64_t>(values_[kSeed]);
    return request;
}

TriggerZone Parameters::zone() const noexcept {
    TriggerZone zone;
    zone.channel = static_cast<int>(values_[kChannel]);
    zone.low = static_cast<int>(values_[kLow]);
    zone.high = static_cast<int>(values_[kHigh]);
    zone.note = static_cast<int>(values_[kNote]);
    return zone;
}

Gains Parameters::gains() const noexcept { return gains_of(values_[kMix], values_[kGain]); }

bool Parameters::solo() const noexcept { return values_[kSolo] != 0.0; }

bool Parameters::release_quantized() const noexcept { return values_[kQuantized] != 0.0; }

bool Parameters::trigger_on() const noexcept { return values_[kTrigger] != 0.0; }

double Parameters::for_velocity(size_t index, int velocity) const noexcept {
    const double target = index == kVariation ? kToVariation : kToTemperature;
    if (velocity < 0 || values_[kVelocityTo] != target) return values_[index];
    const protocol::Parameter& parameter = protocol::kParameters[index];
    return parameter.minimum + velocity / kMostVelocity * (parameter.maximum - parameter.minimum);
}

size_t Parameters::trigger_index() noexcept { return kTrigger; }

std::array<size_t, 2> Parameters::velocity_targets() noexcept { return {kVariation, kTemperature}; }

}  // namespace attacca
