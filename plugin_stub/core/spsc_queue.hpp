// Single-producer single-consumer queue of trivially copyable records; wait-free, fixed memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <type_traits>

namespace attacca {

template <class T>
class SpscQueue {
    static_assert(std::is_trivially_copyable_v<T>);

public:
    // Any thread, before the others start. `capacity` records, at least 1.
    explicit SpscQueue(size_t capacity) : size_(capacity + 1), slots_(new T[capacity + 1]) {}

    // Producer. False, and nothing changed, if full.
    bool push(const T& value) noexcept {
        const size_t write = write_.load(std::memory_order_relaxed);
        const size_t next = write + 1 == size_ ? 0 : write + 1;
        if (next == read_.load(std::memory_order_acquire)) return false;
        slots_[write] = value;
        write_.store(next, std::memory_order_release);
        return true;
    }

    // Consumer. False if empty.
    bool pop(T& value) noexcept {
        const size_t read = read_.load(std::memory_order_relaxed);
        if (read == write_.load(std::memory_order_acquire)) return false;
        value = slots_[read];
        read_.store(read + 1 == size_ ? 0 : read + 1, std::memory_order_release);
        return true;
    }

    // Either side; exact for neither while the other works.
    size_t size() const noexcept {
        const size_t write = write_.load(std::memory_order_acquire), read = read_.load(std::memory_order_acquire);
        return write >= read ? write - read : size_ - read + write;
    }

private:
    const size_t size_;
    const std::unique_ptr<T[]> slots_;
    alignas(64) std::atomic<size_t> write_{0};
    alignas(64) std::atomic<size_t> read_{0};
};

}  // namespace attacca
