// See take_book.hpp.
#include "take_book.hpp"

#include <algorithm>

#include "../protocol.hpp"

namespace attacca {
namespace {

constexpr int32_t kMaxGeneration = 0xFFFF;
constexpr double kFinestQuantum_ppq = 0.25;      // of all that the engine offers
constexpr size_t kTriggerRecords = 3;            // release, due and trigger
constexpr double kBentLaunchesPerSecond = 50.0;  // a launch that the engine commits further off is a late entry

bool ends_by_itself_in(TakeMode mode) noexcept { return mode == TakeMode::fill || mode == TakeMode::answer; }

BarLines lines_from(double start, double length) noexcept {
    return {nearest_sample(start - length), nearest_sample(start), nearest_sample(start + length)};
}

}  // namespace

bool TakeBook::Record::foreign() const noexcept { return take >= protocol::kEngineTakesFrom; }

TakeBook::TakeBook(Exchange& exchange, Outlet& outlet, const Timeline& timeline) noexcept
    : exchange_(exchange), ring_(exchange.ring), outlet_(outlet), timeline_(timeline) {}

void TakeBook::trigger(const TriggerRequest& request, int64_t position) noexcept {
    held_.reset();
    if (!ends_by_itself_in(request.mode)) held_ = request;
    if (!connected_) return;
    if (!outlet_.has_room(kTriggerRecords)) {  // half of it would be worse than nothing
        outlet_.count_dropped();
        return;
    }
    Record record;
    record.take = ++takes_;
    record.opening = openings_;
    record.request = request;
    record.request.take = record.take;
    record.request.position = position;
    record.launch = launch_of(record.request, position, request.mode);
    if (current_ && in_session(*current_)) {
        send_release(current_->take, record.launch ? record.launch->position : position, false);
    }
    current_ = record;
    if (record.launch) ring_.cut(record.launch->position, begin(record.take));
    ToNetwork message;
    message.kind = ToNetwork::Kind::trigger;
    message.position = position;
    message.trigger = record.request;
    outlet_.put(message);
}

void TakeBook::release(int64_t position, bool quantized) noexcept {
    held_.reset();
    if (!current_ || current_->released) return;
    const auto launch = quantized ? launch_of(current_->request, position, TakeMode::continue_) : std::nullopt;
    const int64_t until = launch ? launch->position : position;
    ring_.cut(until, kNothing);
    if (in_session(*current_)) send_release(current_->take, position, quantized);
    current_->released = until;
}

void TakeBook::silence(int64_t position) noexcept {
    held_.reset();
    end_at(position);
}

void TakeBook::end_at(int64_t position) noexcept {
    if (!current_) return;
    ring_.cut(position, kNothing);
    current_.reset();
}

void TakeBook::enter_epoch(int64_t position, int64_t epoch) noexcept {
    const bool stopped = playing_ && !timeline_.playing();
    if (stopped) held_.reset();
    epoch_ = epoch;
    playing_ = timeline_.playing();
    ring_.cut(position, kNothing);
    if (!current_) return;
    const bool over = current_->released && *current_->released <= position;
    if (stopped || over || current_->foreign()) {  // what the engine started, it places anew: see adopt
        current_.reset();
        return;
    }
    Record& record = *current_;
    if (!record.launch || record.launch->position > position) {
        record.launch = launch_of(record.request, position, record.request.mode);
    }
    record.released = moved(record.released, position);
    if (!record.launch) return;
    const int64_t due = std::max(position, record.launch->position);
    ring_.cut(due, begin(record.take));
    if (record.released) ring_.cut(std::max(*record.released, due), kNothing);
}

void TakeBook::bend(int64_t position) noexcept {
    if (!current_) return;
    Record& record = *current_;
    const int64_t start = record.launch ? record.launch->position : position;
    if (record.released && *record.released <= std::max(start, position)) return;  // over, or before it begins
    if (record.launch && start > position && first_generation_ != generation_) {
        if (const auto launch = launch_of(record.request, position, record.request.mode)) record.launch = launch;
        ring_.move_cut(start, record.launch->position, generation_);
        bent_ = true;
    }
    if (!record.released) return;
    const int64_t least = record.launch ? record.launch->position : position;
    const int64_t end = std::max(moved(record.released, position).value_or(position), least);
    ring_.move_cut(*record.released, end, kNothing);
    record.released = end;
}

// A take that the engine began while its bar line moved begins there, so that its first beat is whole: off the grid by
// no more than all that is sent along a glide.
void TakeBook::follow_launch(Record& record) noexcept {
    if (!bent_ || first_generation_ != generation_ || !record.launch) return;
    bent_ = false;
    const int64_t position = first_position_, launch = record.launch->position;
    const auto off = static_cast<double>(position > launch ? position - launch : launch - position);
    if (off * kBentLaunchesPerSecond > timeline_.segment().sample_rate || off == 0.0) return;
    if (std::min(position, launch) < ring_.read_end()) return;
    ring_.move_cut(launch, position, generation_);
    if (record.released) ring_.cut(std::max(*record.released, position), kNothing);
    record.launch->position = position;
}

// A pending end keeps the quarter notes that were left until it, as the engine's does.
std::optional<int64_t> TakeBook::moved(std::optional<int64_t> released, int64_t position) const noexcept {
    if (!released) return released;
    if (!timeline_.playing() || !timeline_.before()) return position;
    const Segment& before = *timeline_.before();
    const Segment& now = timeline_.segment();
    const Wide left = before.wide_ppq_at(*released) - before.wide_ppq_at(position);
    return nearest_sample(now.wide_position_of(now.wide_ppq_at(position) + left).value());
}

void TakeBook::follow(bool sounding) noexcept {
    ToAudio note;
    while (exchange_.inbox.pop(note)) take_in(note);
    if (!current_) return;
    follow_launch(*current_);
    if (current_->released && *current_->released <= ring_.read_end()) {
        current_.reset();
    } else if (!sounding && (!in_session(*current_) || !connected_)) {
        end_at(ring_.read_end());
    }
}

void TakeBook::take_in(const ToAudio& note) noexcept {
    switch (note.kind) {
        case ToAudio::Kind::opened:
        case ToAudio::Kind::lost:
            ++openings_;
            connected_ = note.kind == ToAudio::Kind::opened;
            break;
        case ToAudio::Kind::first:
            first_generation_ = note.generation;
            first_position_ = note.position;
            break;
        case ToAudio::Kind::unclaimed:
            adopt(note);
            break;
        case ToAudio::Kind::ended:
            ended(note);
            break;
    }
}

bool TakeBook::reopened() noexcept {
    if (openings_ == seen_openings_) return false;
    seen_openings_ = openings_;
    return connected_;
}

int32_t TakeBook::resume(int64_t position, bool sounding) noexcept {
    if (!held_) return kNothing;
    if (!sounding) end_at(ring_.read_end());
    trigger(TriggerRequest{*held_}, position);
    return sounding ? generation_ : kNothing;
}

// A take that the engine started sounds from its first committed chunk on, and ends what sounded before.
void TakeBook::adopt(const ToAudio& note) noexcept {
    const bool known = std::any_of(dues_.begin(), dues_.end(), [&note](const Due& due) {
        return due.epoch == note.epoch && due.take == note.take;
    });
    if (note.epoch != epoch_ || known) return;
    Record record;
    record.take = note.take;
    record.opening = openings_;
    record.request.take = note.take;
    record.request.position = std::max(note.position, ring_.read_end());
    record.request.quantum = {false, kFinestQuantum_ppq};
    const int64_t position = record.request.position;
    record.launch = launch_of(record.request, position, TakeMode::continue_);
    if (record.launch && record.launch->position != position) record.launch.reset();
    held_.reset();
    const bool ours = current_ && !current_->foreign() && in_session(*current_);
    if (ours && !current_->released) send_release(current_->take, position, false);
    current_ = record;
    ring_.cut(position, begin(note.take));
}

void TakeBook::ended(const ToAudio& note) noexcept {
    if (!current_ || note.take != current_->take) return;
    const int64_t read_end = ring_.read_end();
    const int64_t until = note.epoch == epoch_ ? std::max(note.position, read_end) : read_end;
    if (!current_->released || until < *current_->released) ring_.cut(until, kNothing);
    current_.reset();
    held_.reset();
}

bool TakeBook::covered(int64_t position) const noexcept {
    int64_t start = ring_.read_end();
    if (first_generation_ != kNothing && first_generation_ == generation_) {
        start = std::min(std::max(start, first_position_), position);
    }
    return ring_.committed_until(start, position) >= position;
}

int64_t TakeBook::take() const noexcept { return current_ ? current_->take : 0; }

int64_t TakeBook::start() const noexcept {
    if (!current_) return -1;
    if (current_->launch) return current_->launch->position;
    return current_->foreign() ? current_->request.position : -1;
}

int64_t TakeBook::end() const noexcept { return current_ && current_->released ? *current_->released : -1; }

bool TakeBook::bar_lines(int64_t position, BarLines& lines) const noexcept {
    const auto bar = timeline_.bar_at(position);
    if (!bar) return false;
    const double length = timeline_.segment().snapshot.bar_quarters() / timeline_.segment().quarters_per_sample();
    double start = bar->position;
    if (nearest_sample(start + length) <= position) {  // the bar line lies between this sample and its time
        start += length;
    } else if (nearest_sample(start) > position) {
        start -= length;
    }
    lines = lines_from(start, length);
    return lines.previous >= timeline_.segment().begun;  // else the tempo has changed since the previous bar line
}

bool TakeBook::is_launch(int64_t position) const noexcept {
    if (!current_) return false;
    if (current_->launch && current_->launch->position == position) return true;
    if (current_->request.quantum.amount == 0.0) return false;
    const auto launch = launch_of(current_->request, position, TakeMode::continue_);
    return launch && launch->position == position;
}

// A new generation for a take in the present epoch, told to the network half before it is due.
int32_t TakeBook::begin(int64_t take) noexcept {
    generation_ = generation_ % kMaxGeneration + 1;
    bent_ = false;
    dues_[next_due_] = {epoch_, take};
    next_due_ = (next_due_ + 1) % kKeptDues;
    ToNetwork message;
    message.kind = ToNetwork::Kind::due;
    message.due.generation = generation_;
    message.due.epoch = epoch_;
    message.due.take = take;
    outlet_.put(message);
    return generation_;
}

void TakeBook::send_release(int64_t take, int64_t position, bool quantized) noexcept {
    ToNetwork message;
    message.kind = ToNetwork::Kind::release;
    message.position = position;
    message.release.take = take;
    message.release.quantized = quantized;
    outlet_.put(message);
}

bool TakeBook::in_session(const Record& record) const noexcept { return record.opening == openings_; }

std::optional<Launch> TakeBook::launch_of(const TriggerRequest& request, int64_t position,
                                          TakeMode mode) const noexcept {
    const auto launch = timeline_.next_launch(position, request.quantum);
    if (!launch || mode != TakeMode::answer) return launch;
    const auto heard = timeline_.bars_after(launch->position, request.bars);
    if (!heard) return std::nullopt;
    Launch replies;
    replies.position = nearest_sample(*heard);
    replies.ppq = timeline_.segment().ppq_at(replies.position);
    return replies;
}

}  // namespace attacca
