// A network half on a scripted link, with its clock set by hand: what capi_network.cpp and capi_inline.cpp share.
#pragma once

#include <deque>
#include <memory>
#include <utility>

#include "../core/audio_half.hpp"
#include "../net/network_half.hpp"

namespace attacca {

struct Wire {
    bool ready{true}, full{false};
    int reopened{0};
    std::deque<Frames> sent, coming;
};

class ScriptedLink final : public Link {
public:
    explicit ScriptedLink(Wire& wire) : wire_(wire) {}
    bool send(const Frames& frames) override {
        if (wire_.full || !wire_.ready) return false;
        wire_.sent.push_back(frames);
        return true;
    }
    bool receive(Frames& frames, int) override {
        if (wire_.coming.empty()) return false;
        frames = std::move(wire_.coming.front());
        wire_.coming.pop_front();
        return true;
    }
    bool ready() const override { return wire_.ready; }
    void reopen() override { ++wire_.reopened; }
    void close() override {}

private:
    Wire& wire_;
};

struct Bench {
    Bench(const NetworkConfig& config, int64_t ring_samples, int64_t input_samples)
        : exchange(ring_samples, input_samples, static_cast<int>(config.channels)),
          half(config, std::make_unique<ScriptedLink>(wire), exchange, [this] { return now_s; }) {}

    double now_s{0.0};
    Wire wire;
    Exchange exchange;
    NetworkHalf half;
    std::shared_ptr<AudioHalf> audio;  // where a test wants one in place of its own records; see capi_inline.cpp
};

}  // namespace attacca
