// See network_half.hpp. Session upkeep; records go out through outgoing.cpp, chunks come in through chunk_intake.cpp.
#include "network_half.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <optional>
#include <utility>

#include "chunk_intake.hpp"
#include "outgoing.hpp"
#include "session_history.hpp"
#include "wire.hpp"

namespace attacca {
namespace {

constexpr std::array<double, 5> kBackOff_s{0.1, 0.2, 0.5, 1.0, 2.0};
constexpr double kMissedHeartbeats = 3.0;
constexpr double kLeastHeartbeat_s = 0.02, kMostHeartbeat_s = 10.0;  // whatever an engine says
constexpr double kPingEvery_s = 0.1;
constexpr double kSettled_s = 2.0;  // a session that lived so long is no failed attempt
constexpr int kMessagesPerPump = 256;
constexpr int kMostGreetings = 8;  // unanswered hellos that a welcome may still come for

// At most 64 characters, never cut inside one.
std::string name_of(const std::string& text) {
    size_t length = std::min<size_t>(text.size(), 64);
    while (length < text.size() && length > 0 && (text[length] & 0xC0) == 0x80) --length;
    return text.substr(0, length);
}

double back_off_s(int attempt) {
    return kBackOff_s[static_cast<size_t>(std::clamp(attempt, 0, static_cast<int>(kBackOff_s.size()) - 1))];
}

template <class T, class V>
void store(std::atomic<T>& meter, V value) {
    meter.store(static_cast<T>(value), std::memory_order_relaxed);
}

}  // namespace

struct NetworkHalf::State {
    State(const NetworkConfig& settings, std::unique_ptr<Link> first_link, Exchange& shared,
          std::function<double()> clock)
        : config(settings),
          link(std::move(first_link)),
          exchange(shared),
          clock_s(std::move(clock)),
          history(static_cast<int64_t>(settings.history_s * static_cast<double>(settings.sample_rate)),
                  settings.channels),
          intake(shared),
          outgoing(shared, history, intake, settings.channels) {
        protocol::Hello hello;
        hello.client = name_of(settings.client);
        hello.sample_rate = settings.sample_rate;
        hello.channels = settings.channels;
        hello.model = name_of(settings.model);
        greeting = encode(hello);
        start_over();
    }

    int pump(int timeout_ms);
    int receive_all(int timeout_ms);
    void receive(const AnyMessage& message, const Frame& payload);
    void transmit();
    void keep_alive();
    void greet();
    void begin_anew();
    void end_session();
    void welcomed(const protocol::Welcome& message);
    void opened();
    void status(const protocol::Status& message);
    void error(const protocol::Error& message);
    void send(const AnyMessage& message);
    void say_words();
    void start_over();
    void set_text(std::string& text, const std::string& value);
    double heartbeat_s() const { return std::clamp(welcome->heartbeat_s, kLeastHeartbeat_s, kMostHeartbeat_s); }

    const NetworkConfig config;
    std::unique_ptr<Link> link;
    Exchange& exchange;
    const std::function<double()> clock_s;
    SessionHistory history;
    ChunkIntake intake;
    Outgoing outgoing;
    Frames greeting;

    std::optional<protocol::Welcome> welcome;
    bool briefing{false}, greeted_here{false};  // a hello went out on the present connection
    double turn_s{0.0}, heard_s{0.0}, sent_s{0.0}, welcomed_s{0.0}, next_hello_s{0.0}, moved_s{0.0};
    int attempt{0}, short_sessions{0};
    std::atomic<int> greetings{0};  // hellos out and unanswered
    int64_t nonce{0};

    mutable std::mutex texts;
    std::string state_text, error_text, model_text;
    std::string words, words_refused;  // to play to
    std::atomic<bool> takes_words{true};
    std::string said_words;  // of them, what the session knows
};

void NetworkHalf::State::start_over() {
    const double now = clock_s();
    turn_s = heard_s = sent_s = moved_s = next_hello_s = now;
    attempt = short_sessions = 0;
    greeted_here = false;
    greetings = 0;
}

int NetworkHalf::State::pump(int timeout_ms) {
    const double now = clock_s();
    // What this thread itself overslept is not the engine's silence.
    if (welcome && now - turn_s > heartbeat_s()) {
        heard_s = std::max(heard_s, now - heartbeat_s());
        moved_s = std::max(moved_s, now - heartbeat_s());
    }
    turn_s = now;
    keep_alive();
    intake.pass_notes();
    transmit();
    intake.place_held();
    const int received = receive_all(timeout_ms);
    store(exchange.engine.absent, link->refused());
    return received;
}

int NetworkHalf::State::receive_all(int timeout_ms) {
    int received = 0;
    Frames frames;
    AnyMessage message;
    Frame payload;
    std::string why;
    while (received < kMessagesPerPump && link->receive(frames, received == 0 ? timeout_ms : 0)) {
        ++received;
        if (decode(frames, message, payload, why)) {
            receive(message, payload);
        } else {
            exchange.engine.bad_messages.fetch_add(1, std::memory_order_relaxed);
        }
    }
    return received;
}

void NetworkHalf::State::transmit() {
    if (!welcome) {
        outgoing.remember();
        return;
    }
    const int64_t before = outgoing.sent();
    if (briefing && outgoing.brief(*link)) opened();
    if (!briefing) {
        say_words();
        outgoing.send(*link);
    }
    const double now = clock_s();
    if (outgoing.sent() != before) sent_s = moved_s = now;
    if (!outgoing.held_back()) moved_s = now;
}

void NetworkHalf::State::keep_alive() {
    const double now = clock_s();
    if (!welcome) {
        greet();
        return;
    }
    const double silence_s = now - heard_s, patience_s = kMissedHeartbeats * heartbeat_s();
    if (silence_s > patience_s || now - moved_s > patience_s) {
        begin_anew();
    } else if ((now - sent_s > heartbeat_s() / 2 || silence_s > heartbeat_s()) && now - sent_s > kPingEvery_s) {
        send(protocol::Ping{++nonce, false});
    }
}

// Hello, again after each back-off on a fresh connection. A link without a peer finds one by itself.
void NetworkHalf::State::greet() {
    const double now = clock_s();
    if (now < next_hello_s || !link->ready()) return;
    if (greeted_here) link->reopen();
    greeted_here = false;
    if (!link->send(greeting)) return;
    greeted_here = true;
    next_hello_s = now + back_off_s(std::max(attempt++, short_sessions));
    greetings = std::min(greetings + 1, kMostGreetings);
}

void NetworkHalf::State::begin_anew() {
    const double now = clock_s();
    short_sessions = now - welcomed_s < kSettled_s ? short_sessions + 1 : 0;
    if (welcome) exchange.engine.sessions_lost.fetch_add(1, std::memory_order_relaxed);
    end_session();
    link->reopen();
    greeted_here = false;
    attempt = 0;
    next_hello_s = short_sessions > 0 ? now + back_off_s(short_sessions - 1) : now;
    greet();
}

void NetworkHalf::State::end_session() {
    if (!welcome) return;
    welcome.reset();
    outgoing.forget();
    intake.begin_session();
    greetings = 0;
    exchange.engine.connected.store(false, std::memory_order_release);
    if (!briefing) intake.note({ToAudio::Kind::lost, kNothing, 0, 0, 0});
    briefing = false;
    set_text(state_text, "");
    set_text(error_text, "");
    set_text(words_refused, "");
    takes_words = true;
}

void NetworkHalf::State::receive(const AnyMessage& message, const Frame& payload) {
    heard_s = clock_s();
    if (const auto* chunk = std::get_if<protocol::Chunk>(&message)) {
        if (welcome && !briefing && chunk->session == welcome->session) {
            intake.take(*chunk, payload);
        } else {
            exchange.engine.stale_chunks.fetch_add(1, std::memory_order_relaxed);
        }
    } else if (const auto* answer = std::get_if<protocol::Welcome>(&message)) {
        welcomed(*answer);
    } else if (const auto* ping = std::get_if<protocol::Ping>(&message)) {
        if (welcome) send(protocol::Pong{ping->nonce});
    } else if (const auto* pong = std::get_if<protocol::Pong>(&message)) {
        const int64_t known = exchange.engine.settled.load(std::memory_order_relaxed);
        if (welcome)
            exchange.engine.settled.store(std::max(known, pong->nonce - kSettledFrom), std::memory_order_release);
    } else if (const auto* said = std::get_if<protocol::Status>(&message)) {
        if (welcome && said->session == welcome->session) status(*said);
    } else if (const auto* fault = std::get_if<protocol::Error>(&message)) {
        error(*fault);
    }
}

// Each hello opens a session, so each welcome that answers one is to be briefed, also if an older one was.
void NetworkHalf::State::welcomed(const protocol::Welcome& message) {
    if (greetings <= 0) {
        exchange.engine.bad_messages.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    --greetings;
    welcome = message;
    attempt = 0;
    welcomed_s = moved_s = sent_s = heard_s;
    takes_words = message.takes_text;
    said_words.clear();
    set_text(words_refused, "");
    set_text(model_text, message.model);
    set_text(error_text, "");
    intake.begin_session();
    briefing = true;
    outgoing.begin_briefing();
    transmit();
}

// All that a new session must know is on its way: the audio half may go on.
void NetworkHalf::State::opened() {
    briefing = false;
    exchange.engine.connected.store(true, std::memory_order_release);
    intake.note({ToAudio::Kind::opened, kNothing, 0, 0, 0});
}

void NetworkHalf::State::status(const protocol::Status& message) {
    EngineMeters& meters = exchange.engine;
    store(meters.rtf_total, message.rtf_total);
    store(meters.rtf_decoder, message.rtf_decoder);
    store(meters.rtf_codec, message.rtf_codec);
    store(meters.engine_lookahead_samples, message.lookahead_samples);
    store(meters.control_latency_samples, message.control_latency_samples);
    store(meters.seed, message.seed.value_or(-1));
    set_text(state_text, message.state);
}

void NetworkHalf::State::error(const protocol::Error& message) {
    if (message.code == "text") return set_text(words_refused, message.text);
    if (message.code != "hello") set_text(error_text, message.text);
    const bool over = message.code == "hello" || message.code == "closing" || message.code == "timeout";
    // Another engine took the address (it answers, but knows no session of ours), or this one lets go of us.
    if (over && welcome) begin_anew();
}

void NetworkHalf::State::send(const AnyMessage& message) {
    if (link->send(encode(message))) {
        sent_s = clock_s();
    } else {
        exchange.engine.unsent_messages.fetch_add(1, std::memory_order_relaxed);
    }
}

// A session begins without any.
void NetworkHalf::State::say_words() {
    if (!takes_words) return;
    {
        const std::lock_guard<std::mutex> guard(texts);
        if (words == said_words) return;
        said_words = words;
        words_refused.clear();
    }
    send(protocol::Prompt{said_words});
}

void NetworkHalf::State::set_text(std::string& text, const std::string& value) {
    const std::lock_guard<std::mutex> guard(texts);
    text = value;
}

NetworkHalf::NetworkHalf(const NetworkConfig& config, std::unique_ptr<Link> link, Exchange& exchange,
                         std::function<double()> clock_s)
    : state_(std::make_unique<State>(config, std::move(link), exchange, std::move(clock_s))) {}

NetworkHalf::~NetworkHalf() = default;

int NetworkHalf::pump(int timeout_ms) noexcept {
    if (!state_->link) return 0;
    try {
        return state_->pump(timeout_ms);
    } catch (...) {  // out of memory: this session is given up, the host's process goes on
        state_->exchange.engine.bad_messages.fetch_add(1, std::memory_order_relaxed);
    }
    try {
        state_->begin_anew();
    } catch (...) {
        state_->next_hello_s = state_->clock_s() + kBackOff_s.back();
    }
    return 0;
}

void NetworkHalf::close() noexcept {
    if (!state_->link) return;
    try {
        // A connection that is closed over unread messages takes with it what was sent last.
        Frames unread;
        for (int left = kMessagesPerPump; left > 0 && state_->link->receive(unread, 0);) --left;
        // Also where a hello is unanswered: it opens a session that nobody else would close.
        const bool known = state_->welcome || state_->greetings > 0;
        if (known) state_->link->send(encode(protocol::Bye{}));
        state_->end_session();
    } catch (...) {
        state_->welcome.reset();
    }
    state_->link->close();
    state_->link.reset();
}

void NetworkHalf::attach(std::unique_ptr<Link> link) noexcept {
    state_->link = std::move(link);
    state_->start_over();
}

std::string NetworkHalf::state_text() const {
    const std::lock_guard<std::mutex> guard(state_->texts);
    return state_->state_text;
}

std::string NetworkHalf::error_text() const {
    const std::lock_guard<std::mutex> guard(state_->texts);
    return state_->error_text;
}

std::string NetworkHalf::model_text() const {
    const std::lock_guard<std::mutex> guard(state_->texts);
    return state_->model_text;
}

void NetworkHalf::set_words(const std::string& words) {
    const std::lock_guard<std::mutex> guard(state_->texts);
    state_->words = words;
}

std::string NetworkHalf::words_refused() const {
    const std::lock_guard<std::mutex> guard(state_->texts);
    return state_->words_refused;
}

bool NetworkHalf::takes_words() const noexcept { return state_->takes_words.load(std::memory_order_relaxed); }

bool NetworkHalf::greeted() const noexcept { return state_->greetings.load(std::memory_order_relaxed) > 0; }

}  // namespace attacca
