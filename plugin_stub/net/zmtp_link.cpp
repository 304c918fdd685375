// See zmtp_link.hpp and link.hpp.
#include "zmtp_link.hpp"

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>

namespace attacca {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstBackOff{100}, kLongestBackOff{500};  // music is back within a bar
constexpr milliseconds kConnectTimeout{2000};                     // per endpoint
constexpr milliseconds kHandshakeTimeout{2000};                   // a peer that accepts and says nothing
constexpr milliseconds kLookUpPoll{5};
constexpr size_t kMaxOutgoingMessages = 1024;
constexpr size_t kMaxOutgoingBytes = size_t{16} << 20;
constexpr size_t kMaxUrgentBytes = 65536;  // answers to commands of a peer that does not read them
constexpr size_t kReadBytes = 65536;
constexpr int kTurnsAtOnce = 8;  // of a call that may not wait
constexpr size_t kMaxNameBytes = 255;

}  // namespace

ZmtpLink::ZmtpLink(Address address, zmtp::Role role, std::string name)
    : role_(role),
      name_(std::move(name)),
      resolver_(std::move(address)),
      back_off_(kFirstBackOff),
      incoming_(kReadBytes) {}

bool ZmtpLink::send(const Frames& frames) {
    try {
        if (state_ == State::closed || frames.empty() || frames.size() > zmtp::kMaxFrames) return false;
        zmtp::Bytes bytes;
        zmtp::append_message(bytes, frames);
        if (outgoing_.size() >= kMaxOutgoingMessages || outgoing_bytes_ + bytes.size() > kMaxOutgoingBytes)
            return false;
        outgoing_bytes_ += bytes.size();
        outgoing_.push_back(std::move(bytes));
        if (ready()) flush();
        return true;
    } catch (const std::exception&) {  // out of memory
        return false;
    }
}

bool ZmtpLink::receive(Frames& frames, int timeout_ms) {
    try {
        const Time end = Clock::now() + milliseconds(std::max(timeout_ms, 0));
        for (int turns = 0; state_ != State::closed; ++turns) {
            if (parse(frames)) return true;
            const int left_ms = wait_ms(end, timeout_ms);
            const bool went_on = turn(left_ms);
            if (parse(frames)) return true;
            if (Clock::now() >= end && !(went_on && turns < kTurnsAtOnce)) return false;
        }
    } catch (const std::exception&) {  // out of memory
        lose("out of memory");
    }
    return false;
}

void ZmtpLink::reopen() {
    forget();
    outgoing_.clear();
    outgoing_bytes_ = 0;
    back_off_ = kFirstBackOff;
    next_at_ = Clock::now();
    state_ = State::waiting;
}

void ZmtpLink::close() {
    forget();
    outgoing_.clear();
    outgoing_bytes_ = 0;
    state_ = State::closed;
}

// Does one thing, after waiting for it at most `timeout_ms`; true if there may be more to do at once.
bool ZmtpLink::turn(int timeout_ms) {
    switch (state_) {
        case State::waiting:
            return turn_waiting(timeout_ms);
        case State::resolving:
            return turn_resolving(timeout_ms);
        case State::connecting:
            return turn_connecting(timeout_ms);
        case State::open:
            return turn_open(timeout_ms);
        case State::closed:
            break;
    }
    return false;
}

bool ZmtpLink::turn_waiting(int timeout_ms) {
    std::this_thread::sleep_for(milliseconds(wait_ms(next_at_, timeout_ms)));
    if (Clock::now() < next_at_) return false;
    resolver_.start();
    state_ = State::resolving;
    return true;
}

bool ZmtpLink::turn_resolving(int timeout_ms) {
    if (!resolver_.done()) {
        std::this_thread::sleep_for(std::min(kLookUpPoll, milliseconds(timeout_ms)));
        return false;
    }
    endpoints_ = resolver_.endpoints();
    endpoint_ = 0;
    refused_ = endpoints_.empty();
    if (refused_)
        lose("no such host");
    else
        next_endpoint();
    return true;
}

// Tries the endpoints in turn; when all have failed, waits.
void ZmtpLink::next_endpoint() {
    while (endpoint_ < endpoints_.size()) {
        const Socket::Status status = socket_.connect(endpoints_[endpoint_++]);
        next_at_ = Clock::now() + kConnectTimeout;
        if (status == Socket::Status::done) return opened();
        if (status == Socket::Status::again) {
            state_ = State::connecting;
            return;
        }
    }
    refused_ = true;
    lose("nobody listens there");
}

bool ZmtpLink::turn_connecting(int timeout_ms) {
    if (socket_.wait(false, true, wait_ms(next_at_, timeout_ms)).write) {
        if (socket_.finish_connect() == Socket::Status::done)
            opened();
        else
            next_endpoint();
        return true;
    }
    if (Clock::now() < next_at_) return false;
    socket_.close();
    next_endpoint();
    return true;
}

void ZmtpLink::opened() {
    state_ = State::open;
    next_at_ = Clock::now() + kHandshakeTimeout;
    connection_ = std::make_unique<zmtp::Connection>(role_, name_);
    incoming_at_ = incoming_end_ = 0;
    urgent_ = zmtp::greeting();
    urgent_sent_ = first_sent_ = 0;
    flush();
}

bool ZmtpLink::turn_open(int timeout_ms) {
    const bool pending = urgent_sent_ < urgent_.size() || (connection_->ready() && !outgoing_.empty());
    const int most_ms = connection_->ready() ? timeout_ms : wait_ms(next_at_, timeout_ms);
    const Socket::Ready can = socket_.wait(true, pending, most_ms);
    if (can.write) flush();
    if (state_ == State::open && can.read) return read();
    if (state_ == State::open && !connection_->ready() && Clock::now() >= next_at_) {
        lose("it says nothing");
        return true;
    }
    return can.write;
}

bool ZmtpLink::read() {
    size_t received = 0;
    const Socket::Status status = socket_.receive(incoming_.data(), incoming_.size(), received);
    incoming_at_ = 0;
    incoming_end_ = received;
    if (status == Socket::Status::failed) lose("the connection was closed");
    return status != Socket::Status::again;
}

// The next message out of what was read; only when that is used up is more read.
bool ZmtpLink::parse(Frames& frames) {
    if (state_ != State::open || incoming_at_ == incoming_end_) return false;
    const uint8_t* at = incoming_.data() + incoming_at_;
    zmtp::Bytes reply;
    const bool was_ready = connection_->ready();
    const auto event = connection_->feed(at, incoming_.data() + incoming_end_, frames, reply);
    incoming_at_ = static_cast<size_t>(at - incoming_.data());
    if (event == zmtp::Connection::Event::failed) {
        lose(connection_->why());
        return false;
    }
    if (urgent_.size() + reply.size() <= kMaxUrgentBytes) urgent_.insert(urgent_.end(), reply.begin(), reply.end());
    if (connection_->ready() && !was_ready) back_off_ = kFirstBackOff;
    const bool complete = event == zmtp::Connection::Event::message;
    flush();
    return complete;
}

// Sends as much as the socket takes.
void ZmtpLink::flush() {
    while (state_ == State::open) {
        const bool urgent = first_sent_ == 0 && urgent_sent_ < urgent_.size();
        if (!urgent && (!connection_->ready() || outgoing_.empty())) return;
        const zmtp::Bytes& bytes = urgent ? urgent_ : outgoing_.front();
        size_t& at = urgent ? urgent_sent_ : first_sent_;
        size_t sent = 0;
        const Socket::Status status = socket_.send(bytes.data() + at, bytes.size() - at, sent);
        if (status == Socket::Status::failed) return lose("the connection was lost");
        if (status == Socket::Status::again) return;
        at += sent;
        if (at < bytes.size()) continue;
        at = 0;
        if (urgent) {
            urgent_.clear();
        } else {
            outgoing_bytes_ -= bytes.size();
            outgoing_.pop_front();
        }
    }
}

// Waits, and then tries again. A message that was sent in part is gone; the rest stays for the next connection.
void ZmtpLink::lose(std::string why) {
    if (first_sent_ > 0 && !outgoing_.empty()) {
        outgoing_bytes_ -= outgoing_.front().size();
        outgoing_.pop_front();
    }
    forget();
    why_ = std::move(why);
    state_ = State::waiting;
    next_at_ = Clock::now() + back_off_;
    back_off_ = std::min(back_off_ * 2, kLongestBackOff);
}

void ZmtpLink::forget() {
    socket_.close();
    connection_.reset();
    urgent_.clear();
    urgent_sent_ = first_sent_ = 0;
    incoming_at_ = incoming_end_ = 0;
}

// Milliseconds until `until`, rounded up, at most `timeout_ms`.
int ZmtpLink::wait_ms(Time until, int timeout_ms) const {
    const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
    return static_cast<int>(std::clamp<decltype(left)>(left, 0, std::max(timeout_ms, 0)));
}

std::unique_ptr<Link> make_dealer(const std::string& address, const std::string& identity) {
    Address parsed = parse_address(address);
    if (parsed.host.empty() || identity.empty() || identity.size() > kMaxNameBytes || identity[0] == '\0')
        return nullptr;
    return std::make_unique<ZmtpLink>(std::move(parsed), zmtp::Role::dealer, identity);
}

std::unique_ptr<Link> make_subscriber(const std::string& address, const std::string& topic_prefix) {
    Address parsed = parse_address(address);
    if (parsed.host.empty() || topic_prefix.size() > kMaxNameBytes) return nullptr;
    return std::make_unique<ZmtpLink>(std::move(parsed), zmtp::Role::subscriber, topic_prefix);
}

}  // namespace attacca
