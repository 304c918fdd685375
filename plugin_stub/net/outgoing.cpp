// See outgoing.hpp.
#include "outgoing.hpp"

#include <algorithm>
#include <cmath>

namespace attacca {
namespace {

constexpr int64_t kPieceSamples = 16384;  // one message at most; 128 KiB in stereo

std::string_view mode_name(TakeMode mode) {
    switch (mode) {
        case TakeMode::fill:
            return protocol::mode::kFill;
        case TakeMode::vamp:
            return protocol::mode::kVamp;
        case TakeMode::answer:
            return protocol::mode::kAnswer;
        case TakeMode::continue_:
            break;
    }
    return protocol::mode::kContinue;
}

protocol::Trigger to_trigger(const TriggerRequest& request) {
    protocol::Trigger message;
    message.take = request.take;
    message.position = request.position;
    if (request.quantum.in_bars) {
        message.quantum_bars = request.quantum.amount;
    } else {
        message.quantum_bars.reset();
        message.quantum_ppq = request.quantum.amount;
    }
    message.mode = mode_name(request.mode);
    message.bars = request.bars;
    message.late = request.wait_if_late ? protocol::late::kWait : protocol::late::kJoin;
    if (request.seed >= 0) message.seed = request.seed;
    return message;
}

protocol::Midi to_midi(const ToNetwork& record) {
    const size_t size = std::clamp<size_t>(record.midi.size, 1, 3);
    return {record.position, protocol::Bytes(record.midi.data, record.midi.data + size)};
}

}  // namespace

Outgoing::Outgoing(Exchange& exchange, SessionHistory& history, ChunkIntake& intake, int64_t channels)
    : exchange_(exchange),
      history_(history),
      intake_(intake),
      channels_(channels),
      piece_samples_(kPieceSamples),
      piece_(static_cast<size_t>(kPieceSamples * channels)) {}

void Outgoing::remember() {
    AnyMessage message;
    const float* payload = nullptr;
    size_t bytes = 0;
    while (next(message, payload, bytes)) {
        const bool told_later = payload != nullptr || std::holds_alternative<protocol::Transport>(message) ||
                                std::holds_alternative<protocol::Param>(message);
        if (!told_later) exchange_.engine.unsent_messages.fetch_add(1, std::memory_order_relaxed);
    }
}

void Outgoing::send(Link& link) {
    AnyMessage message;
    const float* payload = nullptr;
    size_t bytes = 0;
    while (pass(link) && next(message, payload, bytes)) waiting_ = encode(message, payload, bytes);
}

void Outgoing::begin_briefing() {
    forget();
    remember();
    briefed_ = 0;
}

bool Outgoing::brief(Link& link) {
    while (pass(link)) {
        if (briefed_ >= history_.size()) return true;
        const Brief brief = history_.at(briefed_++);
        waiting_ = encode(brief.message, brief.samples, brief.payload_bytes);
    }
    return false;
}

bool Outgoing::pass(Link& link) {
    if (waiting_.empty()) return true;
    if (!link.send(waiting_)) return false;
    waiting_.clear();
    ++sent_;
    return true;
}

void Outgoing::forget() {
    exchange_.engine.unsent_messages.fetch_add(!waiting_.empty(), std::memory_order_relaxed);
    waiting_.clear();
}

bool Outgoing::next(AnyMessage& message, const float*& payload, size_t& payload_bytes) {
    payload = nullptr;
    payload_bytes = 0;
    ToNetwork record;
    while (true) {
        if (audio_left_ > 0 && next_audio(message, payload, payload_bytes)) return true;
        if (!exchange_.outbox.pop(record)) return false;
        if (record.kind == ToNetwork::Kind::audio) {
            audio_position_ = record.position;
            audio_left_ = record.audio.samples;
        } else if (translate(record, message)) {
            return true;
        }
    }
}

bool Outgoing::next_audio(AnyMessage& message, const float*& payload, size_t& payload_bytes) {
    const int64_t samples = std::min(audio_left_, piece_samples_), position = audio_position_;
    audio_left_ -= samples;
    audio_position_ += samples;
    if (!exchange_.input.pop(piece_.data(), samples)) {  // cannot be: samples are there before their record is
        audio_left_ = 0;
        return false;
    }
    history_.audio(position, piece_.data(), samples);
    message = protocol::Audio{position, samples, channels_};
    payload = piece_.data();
    payload_bytes = static_cast<size_t>(samples * channels_) * sizeof(float);
    return true;
}

bool Outgoing::translate(const ToNetwork& record, AnyMessage& message) {
    switch (record.kind) {
        case ToNetwork::Kind::transport:
            history_.transport(record.transport);
            message = to_transport(record.transport);
            return true;
        case ToNetwork::Kind::midi:
            message = to_midi(record);
            return true;
        case ToNetwork::Kind::trigger:
            message = to_trigger(record.trigger);
            return true;
        case ToNetwork::Kind::release:
            message = protocol::Release{record.release.take, record.position, record.release.quantized};
            return true;
        case ToNetwork::Kind::param: {
            const auto index = static_cast<size_t>(record.param.index);
            if (record.param.index < 0 || index >= protocol::kParameters.size()) return false;
            history_.param(record.param.index, record.param.value);
            message =
                protocol::Param{std::string(protocol::kParameters[index].name), record.param.value, record.position};
            return true;
        }
        case ToNetwork::Kind::settled:
            message = protocol::Ping{kSettledFrom + record.position, true};
            return true;
        case ToNetwork::Kind::due:
            intake_.due(record.due.generation, record.due.epoch, record.due.take);
            break;
        case ToNetwork::Kind::audio:
            break;
    }
    return false;
}

}  // namespace attacca
