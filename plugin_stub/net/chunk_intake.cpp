// See chunk_intake.hpp.
#include "chunk_intake.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace attacca {
namespace {

constexpr size_t kKeptDues = 8;
constexpr size_t kHeldChunks = 64;
constexpr size_t kHeldFloats = size_t{1} << 21;  // 8 MiB
constexpr size_t kKeptNotes = 256;
constexpr size_t kKeptUnclaimed = 8;
constexpr float kLoudest = 1e9f;  // no audio; what is larger could leave the mixer as infinity

void count(std::atomic<int64_t>& counter, int64_t by = 1) { counter.fetch_add(by, std::memory_order_relaxed); }

bool of_session(const ToAudio& note) { return note.kind == ToAudio::Kind::opened || note.kind == ToAudio::Kind::lost; }

}  // namespace

void ChunkIntake::due(int32_t generation, int64_t epoch, int64_t take) {
    dues_.push_back({generation, epoch, take});
    if (dues_.size() > kKeptDues) dues_.pop_front();
}

void ChunkIntake::begin_session() {
    seq_take_ = -1;
    held_.clear();
    held_floats_ = 0;
    unclaimed_.clear();
}

void ChunkIntake::take(const protocol::Chunk& chunk, const Frame& payload) {
    const size_t floats = static_cast<size_t>(chunk.samples * chunk.channels);
    if (chunk.channels != exchange_.ring.channels() || payload.size() != floats * sizeof(float)) {
        count(exchange_.engine.broken_chunks);
        return;
    }
    samples_.resize(floats);
    if (floats > 0) std::memcpy(samples_.data(), payload.data(), payload.size());
    const auto bearable = [](float sample) { return std::fabs(sample) <= kLoudest; };  // no NaN either
    if (!std::all_of(samples_.begin(), samples_.end(), bearable)) {
        count(exchange_.engine.broken_chunks);
        return;
    }
    count_gap(chunk);
    const int32_t generation = generation_of(chunk);
    if (generation == kNothing && chunk.take >= protocol::kEngineTakesFrom && chunk.committed && chunk.samples > 0) {
        hold(chunk);
    } else {
        place(chunk, samples_, generation);
    }
    if (chunk.last && chunk.committed) {
        note({ToAudio::Kind::ended, kNothing, chunk.epoch, chunk.take, chunk.position + chunk.samples});
    }
}

void ChunkIntake::count_gap(const protocol::Chunk& chunk) {
    const int64_t expected = chunk.take == seq_take_ ? next_seq_ : chunk.seq;
    count(exchange_.engine.lost_chunks, std::max<int64_t>(chunk.seq - expected, 0));
    count(exchange_.engine.disordered_chunks, chunk.seq < expected);
    seq_take_ = chunk.take;
    next_seq_ = std::max(chunk.seq + 1, expected);
}

int32_t ChunkIntake::generation_of(const protocol::Chunk& chunk) const {
    const auto found = std::find_if(dues_.rbegin(), dues_.rend(), [&chunk](const Due& due) {
        return due.epoch == chunk.epoch && due.take == chunk.take;
    });
    return found == dues_.rend() ? kNothing : found->generation;
}

void ChunkIntake::hold(const protocol::Chunk& chunk) {
    held_.push_back({chunk, samples_});
    held_floats_ += samples_.size();
    while (held_.size() > kHeldChunks || held_floats_ > kHeldFloats) {
        held_floats_ -= held_.front().samples.size();
        held_.pop_front();
        count(exchange_.engine.stale_chunks);
    }
    if (!already_noted(chunk)) {
        note({ToAudio::Kind::unclaimed, kNothing, chunk.epoch, chunk.take, chunk.position});
    }
}

bool ChunkIntake::already_noted(const protocol::Chunk& chunk) {
    const std::array<int64_t, 2> key{chunk.epoch, chunk.take};
    if (std::find(unclaimed_.begin(), unclaimed_.end(), key) != unclaimed_.end()) return true;
    unclaimed_.push_back(key);
    if (unclaimed_.size() > kKeptUnclaimed) unclaimed_.pop_front();
    return false;
}

void ChunkIntake::place_held() {
    for (size_t left = held_.size(); left > 0; --left) {
        Held held = std::move(held_.front());
        held_.pop_front();
        const int32_t generation = generation_of(held.chunk);
        const int64_t end = held.chunk.position + held.chunk.samples;
        if (generation != kNothing || end <= exchange_.ring.read_end()) {
            held_floats_ -= held.samples.size();
            place(held.chunk, held.samples, generation);
        } else {
            held_.push_back(std::move(held));
        }
    }
}

void ChunkIntake::place(const protocol::Chunk& chunk, const std::vector<float>& samples, int32_t generation) {
    if (generation == kNothing) {
        // The plan of a take that the engine started comes before anyone can have claimed it.
        count(exchange_.engine.stale_chunks, chunk.committed || chunk.take < protocol::kEngineTakesFrom);
    } else {
        exchange_.ring.write(chunk.position, samples.data(), chunk.samples, chunk.committed, generation);
        const int64_t end = chunk.position + chunk.samples;
        if (chunk.committed) exchange_.engine.committed_end.store(end, std::memory_order_relaxed);
        const int64_t planned = std::max(end, exchange_.engine.committed_end.load(std::memory_order_relaxed));
        exchange_.engine.planned_end.store(planned, std::memory_order_relaxed);
        if (chunk.committed && generation != first_generation_) {
            first_generation_ = generation;
            note({ToAudio::Kind::first, generation, chunk.epoch, chunk.take, chunk.position});
        }
    }
    exchange_.engine.chunks.fetch_add(1, std::memory_order_release);  // a host that waits looks at it
}

void ChunkIntake::note(const ToAudio& note) {
    if (of_session(note)) {
        // Whatever is still to be told of the session before is void, and so is its end.
        notes_.clear();
    } else if (notes_.size() >= kKeptNotes) {
        count(exchange_.engine.unsent_messages);
        return;
    }
    notes_.push_back(note);
    pass_notes();
}

void ChunkIntake::pass_notes() {
    while (!notes_.empty() && exchange_.inbox.push(notes_.front())) notes_.pop_front();
}

}  // namespace attacca
