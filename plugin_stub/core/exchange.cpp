// See exchange.hpp.
#include "exchange.hpp"

#include <algorithm>

namespace attacca {

namespace {

constexpr size_t kOutboxRecords = 1024;
constexpr size_t kInboxRecords = 256;

}  // namespace

AudioFifo::AudioFifo(int64_t capacity_samples, int channels)
    : channels_(channels),
      capacity_(capacity_samples),
      samples_(new float[static_cast<size_t>(capacity_samples * channels)]()) {}

bool AudioFifo::push(const float* interleaved, int64_t samples) noexcept {
    const int64_t written = written_.load(std::memory_order_relaxed);
    if (written + samples - read_.load(std::memory_order_acquire) > capacity_) return false;
    for (int64_t done = 0; done < samples;) {
        const int64_t slot = (written + done) % capacity_, part = std::min(samples - done, capacity_ - slot);
        std::copy_n(interleaved + done * channels_, part * channels_, samples_.get() + slot * channels_);
        done += part;
    }
    written_.store(written + samples, std::memory_order_release);
    return true;
}

bool AudioFifo::pop(float* interleaved, int64_t samples) noexcept {
    const int64_t read = read_.load(std::memory_order_relaxed);
    if (written_.load(std::memory_order_acquire) - read < samples) return false;
    for (int64_t done = 0; done < samples;) {
        const int64_t slot = (read + done) % capacity_, part = std::min(samples - done, capacity_ - slot);
        std::copy_n(samples_.get() + slot * channels_, part * channels_, interleaved + done * channels_);
        done += part;
    }
    read_.store(read + samples, std::memory_order_release);
    return true;
}

Exchange::Exchange(int64_t ring_samples, int64_t input_samples, int channels)
    : ring(ring_samples, channels), outbox(kOutboxRecords), input(input_samples, channels), inbox(kInboxRecords) {}

}  // namespace attacca
