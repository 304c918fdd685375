// See outlet.hpp.
#include "outlet.hpp"

#include <algorithm>
#include <cmath>

namespace attacca {
namespace {

constexpr double kBatch_s = 0.010;       // audio goes out in pieces of at least this length
constexpr size_t kOutboxRecords = 1024;  // exchange.hpp
constexpr size_t kAudioRecords = 768;    // the rest is kept for control

}  // namespace

Outlet::Outlet(double sample_rate, int channels, int64_t max_piece_samples, Exchange& exchange)
    : exchange_(exchange),
      channels_(channels),
      enough_samples_(static_cast<int64_t>(std::ceil(kBatch_s * sample_rate))),
      capacity_samples_(enough_samples_ + max_piece_samples),
      batch_(static_cast<size_t>(capacity_samples_ * channels)) {}

void Outlet::audio(int64_t position, const float* const* inputs, int64_t from, int64_t to) noexcept {
    if (batched_ == 0) batch_from_ = position;
    const int64_t count = std::clamp<int64_t>(to - from, 0, capacity_samples_ - batched_);
    int64_t bad = 0;
    for (int channel = 0; channel < channels_; ++channel) {
        float* out = batch_.data() + batched_ * channels_ + channel;
        const float* in = inputs == nullptr ? nullptr : inputs[channel];
        for (int64_t i = 0; i < count; ++i, out += channels_) {
            const float sample = in == nullptr ? 0.0f : in[from + i];
            const bool finite = std::isfinite(sample);
            bad += !finite;
            *out = finite ? sample : 0.0f;
        }
    }
    batched_ += count;
    if (bad > 0) exchange_.audio.bad_input_samples.fetch_add(bad, std::memory_order_relaxed);
}

void Outlet::flush(bool force) noexcept {
    if (batched_ == 0 || (!force && batched_ < enough_samples_)) return;
    ToNetwork record;
    record.kind = ToNetwork::Kind::audio;
    record.position = batch_from_;
    record.audio.samples = batched_;
    // In this order: the samples are there before their record is. Only this thread fills the outbox, so room stays.
    const bool room = exchange_.outbox.size() < kAudioRecords;
    if (!room || !exchange_.input.push(batch_.data(), batched_)) {
        count_dropped();
    } else {
        put(record);
    }
    batched_ = 0;
}

bool Outlet::put(const ToNetwork& record) noexcept {
    const bool fits = exchange_.outbox.push(record);
    if (!fits) count_dropped();
    return fits;
}

bool Outlet::has_room(size_t records) const noexcept { return exchange_.outbox.size() + records <= kOutboxRecords; }

void Outlet::count_dropped() noexcept { exchange_.audio.dropped_messages.fetch_add(1, std::memory_order_relaxed); }

}  // namespace attacca
