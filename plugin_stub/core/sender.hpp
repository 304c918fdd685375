// Sender: what the audio thread puts on its way to the network thread. Bounded: audio gives way first, what does not
// fit is dropped, the newest, and counted. Thread: audio. No allocation.
#pragma once

#include "exchange.hpp"

namespace attacca {

class Sender {
public:
    explicit Sender(Exchange& exchange) noexcept : exchange_(exchange) {}

    bool put(const ToNetwork& record) noexcept {
        if (exchange_.outbox.push(record)) return true;
        return dropped();
    }

    bool audio(int64_t position, const float* interleaved, int64_t samples) noexcept {
        if (exchange_.outbox.size() >= kAudioRecords || !exchange_.input.push(interleaved, samples)) return dropped();
        ToNetwork record;
        record.kind = ToNetwork::Kind::audio;
        record.position = position;
        record.audio.samples = samples;
        return put(record);
    }

    void transport(const Snapshot& snapshot) noexcept {
        ToNetwork record;
        record.kind = ToNetwork::Kind::transport;
        record.position = snapshot.position;
        record.transport = snapshot;
        put(record);
    }

    void trigger(const TriggerRequest& request) noexcept {
        ToNetwork record;
        record.kind = ToNetwork::Kind::trigger;
        record.position = request.position;
        record.trigger = request;
        put(record);
    }

    void release(int64_t take, int64_t position, bool quantized) noexcept {
        ToNetwork record;
        record.kind = ToNetwork::Kind::release;
        record.position = position;
        record.release = {take, quantized};
        put(record);
    }

    void midi(int64_t position, const uint8_t* data, uint8_t size) noexcept {
        ToNetwork record;
        record.kind = ToNetwork::Kind::midi;
        record.position = position;
        record.midi = {size, {data[0], size > 1 ? data[1] : uint8_t{0}, size > 2 ? data[2] : uint8_t{0}}};
        put(record);
    }

    void parameter(int64_t position, int32_t index, double value) noexcept {
        ToNetwork record;
        record.kind = ToNetwork::Kind::param;
        record.position = position;
        record.param = {index, value};
        put(record);
    }

    void due(int32_t generation, int64_t epoch, int64_t take) noexcept {
        ToNetwork record;
        record.kind = ToNetwork::Kind::due;
        record.due = {generation, epoch, take};
        put(record);
    }

    void ask_settled(int64_t number) noexcept {
        ToNetwork record;
        record.kind = ToNetwork::Kind::settled;
        record.position = number;
        put(record);
    }

private:
    static constexpr size_t kAudioRecords = 768;  // three quarters of the outbox; the rest is kept for control

    bool dropped() noexcept {
        exchange_.audio.dropped_messages.fetch_add(1, std::memory_order_relaxed);
        return false;
    }

    Exchange& exchange_;
};

}  // namespace attacca
