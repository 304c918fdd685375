// See instance.hpp. Owns the network thread: started and joined by the main thread alone.
#include "instance.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <random>
#include <thread>

#include "core/text_rules.hpp"
#include "net/thread_name.hpp"

namespace attacca {
namespace {

constexpr double kInput_s = 4.0;            // input audio that may wait for the network thread
constexpr int kPump_ms = 2, kIdle_ms = 10;  // a turn of the network thread, with and without a session
constexpr size_t kIdentityBytes = 12;

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Tells this instance from all others, so that an engine knows it again when its connection was lost. Another for each
// start: ZeroMQ takes the name from the old connection when a new one brings the same, and with it the sender of a bye
// that the engine has not read yet.
std::string random_identity() {
    uint64_t seed = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
    std::array<uint32_t, kIdentityBytes / 4> words{};
    try {
        std::random_device device;
        std::generate(words.begin(), words.end(), [&device] { return static_cast<uint32_t>(device()); });
    } catch (...) {  // no source of chance: time and this object's place must do
        seed ^= reinterpret_cast<uintptr_t>(&seed);
        std::mt19937_64 mixed(seed);
        std::generate(words.begin(), words.end(), [&mixed] { return static_cast<uint32_t>(mixed()); });
    }
    std::string identity = "attacca-";
    for (const uint32_t word : words) {
        for (int shift = 28; shift >= 0; shift -= 4) identity += "0123456789abcdef"[(word >> shift) & 15];
    }
    return identity;
}

AudioConfig within_range(AudioConfig config) {
    const bool real = std::isfinite(config.sample_rate);
    config.sample_rate = real ? std::clamp(config.sample_rate, 8000.0, 384000.0) : 48000.0;
    config.channels = std::clamp(config.channels, 1, 2);
    return config;
}

NetworkConfig network_of(const InstanceConfig& config, const AudioConfig& audio) {
    NetworkConfig network;
    network.client = config.client;
    network.model = config.model;
    network.sample_rate = std::llround(audio.sample_rate);
    network.channels = audio.channels;
    return network;
}

}  // namespace

struct Instance::State {
    explicit State(const InstanceConfig& settings)
        : config(settings),
          audio_config(within_range(settings.audio)),
          exchange(std::llround(audio_config.ring_s * audio_config.sample_rate),
                   std::llround(kInput_s * audio_config.sample_rate) + audio_config.max_block_samples,
                   audio_config.channels),
          audio(audio_config, exchange),
          network(network_of(settings, audio_config), nullptr, exchange, now_s) {}

    void run() noexcept {
        name_this_thread("attacca-net");
        while (!stopping.load(std::memory_order_acquire)) {
            const bool connected = exchange.engine.connected.load(std::memory_order_relaxed);
            const int patience_ms = connected ? kPump_ms : kIdle_ms;
            const double began_s = now_s();
            // A link may give up before the time it was given: never spin on it.
            if (network.pump(patience_ms) == 0 && now_s() - began_s < patience_ms / 2000.0) {
                std::this_thread::sleep_for(std::chrono::milliseconds(patience_ms));
            }
        }
    }

    std::string away_text() const;
    std::string present_text() const;

    const InstanceConfig config;
    const AudioConfig audio_config;
    Exchange exchange;
    AudioHalf audio;
    NetworkHalf network;
    std::thread thread;
    std::atomic<bool> stopping{false};
    enum class Fault : uint8_t { none, address, thread };
    std::atomic<Fault> fault{Fault::none};
    std::atomic<bool> started{false};
};

// Without a session.
std::string Instance::State::away_text() const {
    const std::string& address = config.address;
    if (fault == Fault::address) return address + " is not an address such as tcp://127.0.0.1:9123";
    if (fault == Fault::thread) return "no thread to be had: the input passes through";
    if (!started) return "stopped";
    if (exchange.audio.sounding.load(std::memory_order_relaxed)) return "bridging (engine lost)";
    const std::string refusal = network.error_text();
    if (!refusal.empty()) return "refused by the engine at " + address + ": " + refusal;
    return (network.greeted() ? "connecting to " : "no engine at ") + address;
}

// With a session: what is heard comes first, since the engine's words lag behind it.
std::string Instance::State::present_text() const {
    const std::string heard = play_state(exchange.audio);
    if (heard == "bridging") return "bridging (engine late)";
    if (heard == "playing") return heard;
    const std::string said = network.state_text();
    if (said.rfind("playing", 0) == 0) return "listening";  // not any more, or not yet, as heard here
    if (said.rfind("late", 0) == 0) return "waiting for the engine";
    return said.empty() ? "connected" : said;
}

Instance::Instance(const InstanceConfig& config) : state_(std::make_unique<State>(config)) {}

Instance::~Instance() { stop(); }

void Instance::start() {
    State& state = *state_;
    if (state.started) return;
    try {
        auto link = make_dealer(state.config.address, random_identity());
        if (!link) {
            state.fault = State::Fault::address;
            return;
        }
        state.network.attach(std::move(link));
        state.stopping.store(false, std::memory_order_release);
        state.thread = std::thread([&state] { state.run(); });
    } catch (...) {  // no memory or no thread: a plugin without an engine
        state.network.close();
        state.fault = State::Fault::thread;
        return;
    }
    state.fault = State::Fault::none;
    state.started = true;
}

void Instance::stop() {
    State& state = *state_;
    if (!state.started) return;
    state.stopping.store(true, std::memory_order_release);
    state.thread.join();
    state.network.close();
    state.started = false;
}

void Instance::process(const Block& block) noexcept { state_->audio.process(block); }

void Instance::set_parameter(int32_t index, double value) noexcept { state_->audio.set_parameter(index, value); }

void Instance::restore_parameter(int32_t index, double value) noexcept {
    state_->audio.restore_parameter(index, value);
}

void Instance::set_bypass(bool bypass) noexcept { state_->audio.set_bypass(bypass); }

const Exchange& Instance::exchange() const noexcept { return state_->exchange; }

std::string Instance::state_text() const {
    const bool connected = state_->exchange.engine.connected.load(std::memory_order_acquire);
    return connected ? state_->present_text() : state_->away_text();
}

std::string Instance::model_text() const { return state_->network.model_text(); }

void Instance::set_words(const std::string& words) { state_->network.set_words(readable_text(words)); }

std::string Instance::words_refused() const { return state_->network.words_refused(); }

bool Instance::takes_words() const { return state_->network.takes_words(); }

}  // namespace attacca
