// See session_history.hpp.
#include "session_history.hpp"

#include <algorithm>

namespace attacca {
namespace {

bool only_newer(const Snapshot& kept, const Snapshot& snapshot) {
    const HostTime &a = kept.host, &b = snapshot.host;
    const bool same_loop = a.has_loop == b.has_loop &&
                           (!a.has_loop || (a.loop_start_ppq == b.loop_start_ppq && a.loop_end_ppq == b.loop_end_ppq));
    return kept.epoch == snapshot.epoch && same_loop && a.non_realtime == b.non_realtime;
}

int64_t longest_piece(int64_t channels) {
    return protocol::kMaxPayloadBytes / (channels * static_cast<int64_t>(sizeof(float)));
}

}  // namespace

SessionHistory::SessionHistory(int64_t capacity_samples, int64_t channels)
    : capacity_(std::max<int64_t>(capacity_samples, 1)),
      channels_(std::max<int64_t>(channels, 1)),
      piece_samples_(longest_piece(channels_)),
      ring_(static_cast<size_t>(capacity_ * channels_)),
      piece_(static_cast<size_t>(std::min(piece_samples_, capacity_) * channels_)) {}

void SessionHistory::param(int32_t index, double value) {
    if (index < 0 || static_cast<size_t>(index) >= params_.size()) return;
    auto& slot = params_[static_cast<size_t>(index)];
    set_params_ += !slot.has_value();
    slot = value;
}

void SessionHistory::transport(const Snapshot& snapshot) {
    // An epoch is kept by its first snapshot, from which engine and plugin derive the same bar lines; within it only
    // what changed the law, and the newest.
    const size_t count = snapshots_.size();
    if (count > 0 && snapshot.epoch < snapshots_.back().epoch) return;
    if (count > 1 && only_newer(snapshots_[count - 2], snapshots_[count - 1])) snapshots_.pop_back();
    snapshots_.push_back(snapshot);
    if (snapshots_.size() > kKeptSnapshots) snapshots_.pop_front();
}

void SessionHistory::audio(int64_t position, const float* interleaved, int64_t samples) {
    if (samples <= 0) return;
    const bool follows = end_ > begin_ && position >= end_ && position - end_ < capacity_;
    if (!follows) begin_ = end_ = position;
    if (position > end_) write(end_, nullptr, position - end_);
    const int64_t skipped = std::max<int64_t>(samples - capacity_, 0);
    end_ += skipped;
    write(end_, interleaved + skipped * channels_, samples - skipped);
    begin_ = std::max(begin_, end_ - capacity_);
}

void SessionHistory::write(int64_t position, const float* interleaved, int64_t samples) {
    for (int64_t done = 0; done < samples;) {
        const int64_t slot = ((position + done) % capacity_ + capacity_) % capacity_;
        const int64_t run = std::min(samples - done, capacity_ - slot);
        float* to = ring_.data() + slot * channels_;
        if (interleaved == nullptr) {
            std::fill_n(to, run * channels_, 0.0f);
        } else {
            std::copy_n(interleaved + done * channels_, run * channels_, to);
        }
        done += run;
    }
    end_ = position + samples;
}

int64_t SessionHistory::pieces() const { return (audio_samples() + piece_samples_ - 1) / piece_samples_; }

size_t SessionHistory::size() const { return set_params_ + snapshots_.size() + static_cast<size_t>(pieces()); }

Brief SessionHistory::at(size_t index) {
    if (index < set_params_) {
        for (size_t row = 0; row < params_.size(); ++row) {
            if (!params_[row].has_value() || index-- > 0) continue;
            return {protocol::Param{std::string(protocol::kParameters[row].name), *params_[row], 0}, nullptr, 0};
        }
    }
    index -= set_params_;
    if (index < snapshots_.size()) return {to_transport(snapshots_[index]), nullptr, 0};
    index -= snapshots_.size();
    const int64_t count = pieces(), total = audio_samples(), number = static_cast<int64_t>(index);
    const int64_t from = begin_ + total * number / count, to = begin_ + total * (number + 1) / count;
    for (int64_t at = from; at < to;) {
        const int64_t slot = (at % capacity_ + capacity_) % capacity_, run = std::min(to - at, capacity_ - slot);
        std::copy_n(ring_.data() + slot * channels_, run * channels_, piece_.data() + (at - from) * channels_);
        at += run;
    }
    const size_t bytes = static_cast<size_t>((to - from) * channels_) * sizeof(float);
    return {protocol::Audio{from, to - from, channels_}, piece_.data(), bytes};
}

protocol::Transport to_transport(const Snapshot& snapshot) {
    const HostTime& host = snapshot.host;
    protocol::Transport message;
    message.epoch = snapshot.epoch;
    message.position = snapshot.position;
    message.ppq = host.ppq;
    message.bpm = host.bpm;
    message.meter_num = host.meter_num;
    message.meter_den = host.meter_den;
    message.bar_start_ppq = host.bar_start_ppq;
    message.playing = host.playing;
    if (host.has_loop) {
        message.loop_start_ppq = host.loop_start_ppq;
        message.loop_end_ppq = host.loop_end_ppq;
    }
    message.non_realtime = host.non_realtime;
    return message;
}

}  // namespace attacca
