// See take_book.hpp.
#include "take_book.hpp"

#include <algorithm>

#include "../protocol.hpp"

namespace attacca {

namespace {

constexpr int32_t kMaxGeneration = 0xFFFF;
constexpr Quantum kFinestQuantum{false, 0.25};  // of all that the engine offers

}  // namespace

bool TakeBook::Record::foreign() const noexcept { return request.take >= protocol::kEngineTakesFrom; }

TakeBook::TakeBook(Exchange& exchange, Sender& sender, const Timeline& timeline) noexcept
    : exchange_(exchange), sender_(sender), timeline_(timeline) {}

void TakeBook::trigger(TriggerRequest request, int64_t position) noexcept {
    request.take = ++takes_;
    request.position = position;
    const std::optional<Launch> launch = launch_of(request, position, request.mode);
    if (current_) sender_.release(current_->request.take, launch ? launch->position : position, false);
    current_ = Record{request, launch, openings_, std::nullopt};
    if (launch) cut(launch->position, begin(request.take));
    sender_.trigger(request);
}

void TakeBook::release(int64_t position, bool quantized) noexcept {
    if (!current_ || current_->released) return;
    std::optional<Launch> line;
    if (quantized) line = launch_of(current_->request, position, TakeMode::continue_);
    const int64_t until = line ? line->position : position;
    cut(until, kNothing);
    sender_.release(current_->request.take, position, quantized);
    current_->released = until;
}

void TakeBook::enter_epoch(int64_t position, int64_t epoch) noexcept {
    const bool stopped = playing_ && !timeline_.playing();
    epoch_ = epoch;
    playing_ = timeline_.playing();
    cut(position, kNothing);
    if (!current_) return;
    const bool over = current_->released && *current_->released <= position;
    if (stopped || over || current_->foreign()) {  // what the engine started, it places anew: see adopt
        current_.reset();
        return;
    }
    if (!current_->launch || current_->launch->position > position)
        current_->launch = launch_of(current_->request, position, current_->request.mode);
    current_->released = moved(current_->released, position);
    if (!current_->launch) return;
    const int64_t due = std::max(position, current_->launch->position);
    cut(due, begin(current_->request.take));
    if (current_->released) cut(std::max(*current_->released, due), kNothing);
}

// A pending end keeps the quarter notes that were left until it, as the engine's does.
std::optional<int64_t> TakeBook::moved(std::optional<int64_t> released, int64_t position) const noexcept {
    if (!released) return std::nullopt;
    if (!timeline_.playing() || !timeline_.before()) return position;
    const Segment& before = *timeline_.before();
    const Segment& now = timeline_.segment();
    const double left = before.ppq_at(*released) - before.ppq_at(position);
    return nearest_sample(now.position_of(now.ppq_at(position) + left));
}

void TakeBook::silence(int64_t position) noexcept {
    if (!current_) return;
    cut(position, kNothing);
    current_.reset();
}

bool TakeBook::follow(bool sounding) noexcept {
    bool opened = false;
    ToAudio note;
    while (exchange_.inbox.pop(note)) {
        switch (note.kind) {
            case ToAudio::Kind::opened:
                ++openings_;
                connected_ = opened = true;
                break;
            case ToAudio::Kind::lost:
                ++openings_;
                connected_ = false;
                break;
            case ToAudio::Kind::first:
                first_generation_ = note.generation;
                first_position_ = note.position;
                break;
            case ToAudio::Kind::ended:
                ended(note);
                break;
            case ToAudio::Kind::unclaimed:
                adopt(note);
                break;
        }
    }
    if (!current_) return opened;
    if (current_->released && *current_->released <= exchange_.ring.read_end()) {
        current_.reset();
    } else if (!sounding && !opened && connected_ && current_->opening != openings_) {
        silence(exchange_.ring.read_end());
    }
    return opened;
}

void TakeBook::renew(int64_t position) noexcept {
    if (!current_ || current_->opening == openings_) return;
    const bool wanted = !current_->released && !current_->foreign() &&
                        (current_->request.mode == TakeMode::continue_ || current_->request.mode == TakeMode::vamp);
    if (wanted) trigger(current_->request, position);
}

// A take that the engine started sounds from its first committed chunk on, and ends what sounded before.
void TakeBook::adopt(const ToAudio& chunk) noexcept {
    const bool known = std::any_of(dues_.begin(), dues_.end(),
                                   [&](const Due& due) { return due.epoch == chunk.epoch && due.take == chunk.take; });
    if (chunk.epoch != epoch_ || known) return;
    const int64_t position = std::max(chunk.position, exchange_.ring.read_end());
    TriggerRequest request;
    request.take = chunk.take;
    request.position = position;
    request.quantum = kFinestQuantum;
    std::optional<Launch> launch = launch_of(request, position, request.mode);
    if (launch && launch->position != position) launch.reset();
    if (current_ && !current_->foreign() && !current_->released)
        sender_.release(current_->request.take, position, false);
    current_ = Record{request, launch, openings_, std::nullopt};
    cut(position, begin(chunk.take));
}

void TakeBook::ended(const ToAudio& end) noexcept {
    if (!current_ || current_->request.take != end.take) return;
    const int64_t read = exchange_.ring.read_end();
    const int64_t until = end.epoch == epoch_ ? std::max(end.position, read) : read;
    if (!current_->released || until < *current_->released) cut(until, kNothing);
    current_.reset();
}

bool TakeBook::covered(int64_t position) const noexcept {
    int64_t start = exchange_.ring.read_end();
    if (first_generation_ != kNothing && first_generation_ == generation_)
        start = std::min(std::max(start, first_position_), position);
    return exchange_.ring.committed_until(start, position) >= position;
}

bool TakeBook::bar_lines(int64_t position, BarLines& lines) const noexcept {
    const std::optional<Bar> bar = timeline_.bar_at(position);
    if (!bar) return false;
    const double length = timeline_.segment().snapshot.bar_quarters() / timeline_.segment().quarters_per_sample();
    double start = bar->position;
    if (nearest_sample(start + length) <= position) {  // the bar line lies between this sample and its time
        start += length;
    } else if (nearest_sample(start) > position) {
        start -= length;
    }
    lines = {nearest_sample(start - length), nearest_sample(start), nearest_sample(start + length)};
    return true;
}

// On the current take's launch grid, or at its launch.
bool TakeBook::is_launch(int64_t position) const noexcept {
    if (!current_) return false;
    if (current_->launch && current_->launch->position == position) return true;
    if (current_->request.quantum.amount == 0.0) return false;
    const std::optional<Launch> line = launch_of(current_->request, position, TakeMode::continue_);
    return line && line->position == position;
}

// A new generation for a take in the present epoch, known to the network half before it is due.
int32_t TakeBook::begin(int64_t take) noexcept {
    generation_ = generation_ % kMaxGeneration + 1;
    dues_[next_due_] = {epoch_, take};
    next_due_ = (next_due_ + 1) % dues_.size();
    sender_.due(generation_, epoch_, take);
    return generation_;
}

// Never before what was read; if too many cuts are pending, all that is pending gives way to silence.
void TakeBook::cut(int64_t position, int32_t generation) noexcept {
    PositionRing& ring = exchange_.ring;
    if (!ring.cut(position, generation)) ring.cut(ring.read_end(), kNothing);
}

// Where a take that is triggered at `position` enters; empty while the host stands still.
std::optional<Launch> TakeBook::launch_of(const TriggerRequest& request, int64_t position,
                                          TakeMode mode) const noexcept {
    std::optional<Launch> launch = timeline_.next_launch(position, request.quantum);
    if (!launch || mode != TakeMode::answer) return launch;
    const std::optional<double> heard = timeline_.bars_after(launch->position, request.bars);
    if (!heard) return std::nullopt;
    const int64_t at = nearest_sample(*heard);
    return Launch{timeline_.segment().ppq_at(at), at};
}

void TakeBook::show(AudioMeters& meters) const noexcept {
    const auto store = [](std::atomic<int64_t>& meter, int64_t value) {
        meter.store(value, std::memory_order_relaxed);
    };
    store(meters.take, current_ ? current_->request.take : 0);
    store(meters.take_start, current_ && current_->launch ? current_->launch->position : -1);
    store(meters.take_end, current_ && current_->released ? *current_->released : -1);
}

}  // namespace attacca
