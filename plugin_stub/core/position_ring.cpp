// See position_ring.hpp. A slot is a small seqlock: the writer empties its tag, stores the samples, then the tag; the
// reader takes samples only where the tag says so before and after. Whoever reads a sample of a later store therefore
// finds its tag empty or changed (fence to fence), and no plain memory is shared. The cut table crosses the other way,
// under a version.
#include "position_ring.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace attacca {

namespace {

constexpr int64_t kEmpty = -1;
constexpr int64_t kNextPosition = 0x10000;  // from a tag to that of the next sample; below it the generation
constexpr size_t kPastCuts = 8;             // kept, so that what comes late can be told from what was never due
constexpr int64_t kPart = 64;               // samples fetched between two fences

int64_t tag_of(int64_t position, int32_t generation) noexcept {
    return position * kNextPosition + (generation & (kNextPosition - 1));
}

}  // namespace

PositionRing::Plane::Plane(int64_t capacity, int channels)
    : samples(new std::atomic<float>[static_cast<size_t>(capacity * channels)]),
      tags(new std::atomic<int64_t>[static_cast<size_t>(capacity)]) {
    for (int64_t i = 0; i < capacity * channels; ++i)
        samples[static_cast<size_t>(i)].store(0.0f, std::memory_order_relaxed);
    for (int64_t i = 0; i < capacity; ++i) tags[static_cast<size_t>(i)].store(kEmpty, std::memory_order_relaxed);
}

PositionRing::PositionRing(int64_t capacity_samples, int channels)
    : capacity_([&] {
          if (capacity_samples < 1 || capacity_samples > int64_t{1} << 26)
              throw std::invalid_argument("PositionRing capacity " + std::to_string(capacity_samples) +
                                          " is outside 1..67108864");
          return capacity_samples;
      }()),
      channels_([&] {
          if (channels < 1 || channels > 8)
              throw std::invalid_argument("PositionRing channels " + std::to_string(channels) + " is outside 1..8");
          return channels;
      }()),
      committed_(capacity_, channels_),
      planned_(capacity_, channels_),
      cuts_{{{{0, kNothing, 0}}}, 1} {
    publish(cuts_);
}

int PositionRing::channels() const noexcept { return channels_; }
int64_t PositionRing::capacity_samples() const noexcept { return capacity_; }
int64_t PositionRing::read_end() const noexcept { return read_end_.load(std::memory_order_acquire); }

RingCounters PositionRing::counters() const noexcept {
    RingCounters counters;
    counters.late_samples = late_.load(std::memory_order_relaxed);
    counters.stale_samples = stale_.load(std::memory_order_relaxed);
    counters.early_samples = early_.load(std::memory_order_relaxed);
    counters.missing_callbacks = missing_callbacks_.load(std::memory_order_relaxed);
    counters.missing_samples = missing_samples_.load(std::memory_order_relaxed);
    return counters;
}

// Visits [start, stop) split at the cuts: (start, stop, generation). Before the first cut nothing is due.
template <class Visit>
void PositionRing::spans(const Cuts& cuts, int64_t start, int64_t stop, Visit&& visit) {
    const int64_t first = cuts.entries[0].position;
    if (start < std::min(first, stop)) visit(start, std::min(first, stop), kNothing);
    for (size_t i = 0; i < cuts.count; ++i) {
        const int64_t until = i + 1 < cuts.count ? cuts.entries[i + 1].position : stop;
        const int64_t low = std::max(cuts.entries[i].position, start), high = std::min(until, stop);
        if (low < high) visit(low, high, cuts.entries[i].generation);
    }
}

int64_t PositionRing::write(int64_t position, const float* samples, int64_t count, bool committed,
                            int32_t generation) noexcept {
    const Cuts cuts = published();
    const int64_t read = read_end(), end = position + count;
    const int64_t last = std::min(end, read + capacity_);
    const auto add = [](std::atomic<int64_t>& counter, int64_t amount) {
        counter.fetch_add(amount, std::memory_order_relaxed);
    };
    add(early_, std::min(std::max<int64_t>(end - last, 0), count));
    int64_t kept = 0;
    Plane& plane = committed ? committed_ : planned_;
    spans(cuts, position, last, [&](int64_t start, int64_t stop, int32_t due) {
        if (due != generation || generation == kNothing) {
            const int64_t accepted = accepted_from(cuts, start, stop, generation);
            add(stale_, accepted - start);
            start = accepted;
        }
        const int64_t first = std::min(std::max(start, read), stop);
        if (committed) add(late_, first - start);
        store(plane, first, samples + (first - position) * channels_, stop - first, generation);
        kept += stop - first;
    });
    return kept;
}

// From where in [start, stop), in which something else is due, a generation's samples are stored.
int64_t PositionRing::accepted_from(const Cuts& cuts, int64_t start, int64_t stop, int32_t generation) noexcept {
    if (generation == kNothing) return stop;
    for (size_t i = 0; i < cuts.count; ++i) {
        const Cut& cut = cuts.entries[i];
        if (cut.generation == generation && stop <= cut.position)
            return std::min(std::max(start, cut.accepts_from), stop);
    }
    return stop;
}

void PositionRing::store(Plane& plane, int64_t position, const float* samples, int64_t count,
                         int32_t generation) noexcept {
    for (int64_t done = 0; done < count;) {
        const int64_t slot = (position + done) % capacity_, part = std::min(count - done, capacity_ - slot);
        std::atomic<int64_t>* tags = plane.tags.get() + slot;
        std::atomic<float>* to = plane.samples.get() + slot * channels_;
        const float* from = samples + done * channels_;
        for (int64_t i = 0; i < part; ++i) tags[i].store(kEmpty, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_release);
        for (int64_t i = 0; i < part * channels_; ++i) to[i].store(from[i], std::memory_order_relaxed);
        for (int64_t i = 0; i < part; ++i)
            tags[i].store(tag_of(position + done + i, generation), std::memory_order_release);
        done += part;
    }
}

// Copies what the plane holds of [position, position + count), slots in a row, and says where it held it; returns how
// many. `samples` is garbage where it did not.
int64_t PositionRing::fetch(const Plane& plane, int64_t position, int64_t count, int32_t generation, float* samples,
                            bool* held) const noexcept {
    const int64_t slot = position % capacity_, wanted = tag_of(position, generation);
    const std::atomic<int64_t>* tags = plane.tags.get() + slot;
    const std::atomic<float>* from = plane.samples.get() + slot * channels_;
    const auto tagged = [&](int64_t i) {
        return tags[i].load(std::memory_order_relaxed) == wanted + i * kNextPosition;
    };
    for (int64_t i = 0; i < count; ++i) held[i] = tagged(i);
    std::atomic_thread_fence(std::memory_order_acquire);
    for (int64_t i = 0; i < count * channels_; ++i) samples[i] = from[i].load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    int64_t found = 0;
    for (int64_t i = 0; i < count; ++i) found += held[i] = held[i] && tagged(i);
    return found;
}

// Fills one part of one span, slots in a row; returns how many samples are missing.
int64_t PositionRing::look_part(int64_t position, int64_t count, int32_t generation, float* samples,
                                Source* sources) const noexcept {
    bool held[kPart];
    std::fill_n(sources, count, Source::committed);
    if (fetch(committed_, position, count, generation, samples, held) == count) return 0;
    int64_t missing = 0;
    for (int64_t i = 0; i < count; ++i) {
        if (held[i]) continue;
        bool planned = false;
        fetch(planned_, position + i, 1, generation, samples + i * channels_, &planned);
        sources[i] = planned ? Source::planned : Source::missing;
        if (planned) continue;
        std::fill_n(samples + i * channels_, channels_, 0.0f);
        ++missing;
    }
    return missing;
}

int64_t PositionRing::look(int64_t position, int64_t count, float* samples, Source* sources,
                           int32_t* generations) const noexcept {
    int64_t missing = 0;
    spans(cuts_, position, position + count, [&](int64_t start, int64_t stop, int32_t generation) {
        std::fill(generations + (start - position), generations + (stop - position), generation);
        if (generation == kNothing) {
            std::fill(sources + (start - position), sources + (stop - position), Source::idle);
            std::fill(samples + (start - position) * channels_, samples + (stop - position) * channels_, 0.0f);
            return;
        }
        for (int64_t at = start; at < stop;) {
            const int64_t part = std::min({stop - at, capacity_ - at % capacity_, kPart}), index = at - position;
            missing += look_part(at, part, generation, samples + index * channels_, sources + index);
            at += part;
        }
    });
    return missing;
}

void PositionRing::advance(int64_t read_end, int64_t missing) noexcept {
    read_end_.store(read_end, std::memory_order_release);
    if (missing > 0) {
        missing_callbacks_.fetch_add(1, std::memory_order_relaxed);
        missing_samples_.fetch_add(missing, std::memory_order_relaxed);
    }
    size_t past = 0;
    while (cuts_.count - past > kPastCuts && cuts_.entries[past + kPastCuts].position <= read_end) ++past;
    if (past == 0) return;
    std::copy(cuts_.entries.begin() + static_cast<std::ptrdiff_t>(past),
              cuts_.entries.begin() + static_cast<std::ptrdiff_t>(cuts_.count), cuts_.entries.begin());
    cuts_.count -= past;
    publish(cuts_);
}

void PositionRing::read(int64_t position, int64_t count, float* samples, Source* sources,
                        int32_t* generations) noexcept {
    advance(position + count, look(position, count, samples, sources, generations));
}

bool PositionRing::cut(int64_t position, int32_t generation) noexcept {
    position = std::max(position, read_end_.load(std::memory_order_relaxed));
    return cut_from(position, {position, generation, position});
}

bool PositionRing::move_cut(int64_t instead_of, int64_t position, int32_t generation) noexcept {
    const int64_t read = read_end_.load(std::memory_order_relaxed);
    position = std::max(position, read);
    const int64_t first = std::max(std::min(position, instead_of), read);
    Cut made{position, generation, first};
    for (size_t i = 0; i < cuts_.count; ++i) {
        const Cut& cut = cuts_.entries[i];
        if (cut.position == instead_of) made.accepts_from = std::min(made.accepts_from, cut.accepts_from);
    }
    return cut_from(first, made);
}

// In the place of the cuts from `first` on.
bool PositionRing::cut_from(int64_t first, const Cut& made) noexcept {
    size_t kept = 0;
    while (kept < cuts_.count && cuts_.entries[kept].position < first) ++kept;
    if (kept >= kMaxCuts - 1) return false;
    cuts_.entries[kept] = made;
    cuts_.count = kept + 1;
    known_until_ = std::min(known_until_, first);
    publish(cuts_);
    return true;
}

int64_t PositionRing::committed_until(int64_t position, int64_t limit) const noexcept {
    int64_t found = limit;
    spans(cuts_, position, limit, [&](int64_t start, int64_t stop, int32_t generation) {
        if (generation == kNothing || found < limit) return;
        int64_t slot = start % capacity_;
        for (int64_t at = start; at < stop; ++at) {
            const std::atomic<int64_t>& tag = committed_.tags[static_cast<size_t>(slot)];
            if (tag.load(std::memory_order_acquire) != tag_of(at, generation)) {
                found = at;
                return;
            }
            if (++slot == capacity_) slot = 0;
        }
    });
    return found;
}

int64_t PositionRing::lookahead_samples() const noexcept {
    const int64_t start = read_end_.load(std::memory_order_relaxed), stop = start + capacity_;
    int64_t limit = stop;
    spans(cuts_, start, stop, [&](int64_t low, int64_t, int32_t generation) {
        if (generation == kNothing) limit = std::min(limit, low);
    });
    known_until_ = std::max(start, std::min(known_until_, limit));
    known_until_ = committed_until(known_until_, limit);
    return known_until_ - start;
}

void PositionRing::publish(const Cuts& cuts) noexcept {
    const uint32_t version = cuts_version_.load(std::memory_order_relaxed);
    cuts_version_.store(version + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    for (size_t i = 0; i < cuts.count; ++i) {
        shared_positions_[i].store(cuts.entries[i].position, std::memory_order_relaxed);
        shared_accepts_[i].store(cuts.entries[i].accepts_from, std::memory_order_relaxed);
        shared_generations_[i].store(cuts.entries[i].generation, std::memory_order_relaxed);
    }
    shared_count_.store(cuts.count, std::memory_order_relaxed);
    cuts_version_.store(version + 2, std::memory_order_release);
}

PositionRing::Cuts PositionRing::published() const noexcept {
    for (;;) {
        const uint32_t version = cuts_version_.load(std::memory_order_acquire);
        Cuts cuts;
        cuts.count = std::min(shared_count_.load(std::memory_order_relaxed), kMaxCuts);
        for (size_t i = 0; i < cuts.count; ++i) {
            cuts.entries[i].position = shared_positions_[i].load(std::memory_order_relaxed);
            cuts.entries[i].accepts_from = shared_accepts_[i].load(std::memory_order_relaxed);
            cuts.entries[i].generation = shared_generations_[i].load(std::memory_order_relaxed);
        }
        std::atomic_thread_fence(std::memory_order_acquire);
        if (version % 2 == 0 && cuts_version_.load(std::memory_order_relaxed) == version && cuts.count > 0) return cuts;
    }
}

}  // namespace attacca
