#include "clap_host_run.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace attacca::host {

using Clock = std::chrono::steady_clock;

namespace {

constexpr auto kPoll = std::chrono::milliseconds(2);
constexpr double kSame = 1e-6;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

int64_t offences(const Counts& counts) {
    return counts.allocations + counts.frees + counts.locks + counts.try_locks + counts.signals + counts.system_calls;
}

}  // namespace

AudioThread::AudioThread() : thread_([this] { work(); }) {}

AudioThread::~AudioThread() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void AudioThread::run(const std::function<void()>& job, const std::function<void()>& meanwhile) {
    std::unique_lock<std::mutex> lock(mutex_);
    job_ = &job;
    changed_.notify_all();
    while (!changed_.wait_for(lock, kPoll, [this] { return job_ == nullptr; })) {
        lock.unlock();
        meanwhile();
        lock.lock();
    }
}

void AudioThread::work() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
        changed_.wait(lock, [this] { return job_ != nullptr || stopping_; });
        if (stopping_) return;
        const std::function<void()>* job = job_;
        lock.unlock();
        (*job)();
        lock.lock();
        job_ = nullptr;
        changed_.notify_all();
    }
}

Run::Run(const Script& script, Plugin& plugin)
    : script_(script),
      plugin_(plugin),
      transport_(script.rate),
      inputs_(plugin.inputs(), script.max_block),
      outputs_(plugin.outputs(), script.max_block),
      input_(script, inputs_.channels()),
      rate_(script.rate),
      random_(script.blocks.seed) {
    results_.channels = outputs_.channels();
    results_.recorded.reserve(static_cast<size_t>(script.length) * static_cast<size_t>(results_.channels));
    if (script.in_place) outputs_.share(inputs_);
    plugin_.set_audio_thread(audio_.id());
}

std::string Run::all() {
    began_ = Clock::now();
    if (script_.count) on_audio([this] { results_.system_calls_missing = watch_system_calls(); });
    results_.told_render = plugin_.set_offline(script_.offline);
    std::string failure = activate(0);
    while (failure.empty()) {
        const auto& actions = script_.actions;
        while (failure.empty() && next_action_ < actions.size() && actions[next_action_].at <= position_) {
            const Action& action = actions[next_action_++];
            if (is_event(action.kind))
                events_.add(action, 0, plugin_);
            else if (is_transport(action.kind))
                change(action);
            else
                failure = perform(action);
        }
        if (!failure.empty() || position_ >= script_.length) break;
        const auto main = std::find_if(actions.begin() + static_cast<std::ptrdiff_t>(next_action_), actions.end(),
                                       [](const Action& a) { return !is_event(a.kind) && !is_transport(a.kind); });
        const int64_t end = main == actions.end() ? script_.length : std::min(main->at, script_.length);
        on_audio([this, end] { process_until(end); });
    }
    mark("end");
    deactivate();
    results_.seconds = since(began_);
    return failure;
}

std::string Run::perform(const Action& action) {
    if (action.kind != Kind::mark && action.kind != Kind::say) pace_from_ = {};
    switch (action.kind) {
        case Kind::flush:
            flush(action);
            return "";
        case Kind::save:
            return plugin_.save(action.text);
        case Kind::load:
            return plugin_.load(action.text);
        case Kind::try_load:
            plugin_.load(action.text);
            return "";
        case Kind::reset:
            on_audio([this] { plugin_.instance()->reset(plugin_.instance()); });
            return "";
        case Kind::deactivate:
            deactivate();
            return "";
        case Kind::activate:
            return activate(action.numbers[0]);
        case Kind::offline:
            plugin_.set_offline(true);
            return "";
        case Kind::realtime:
            plugin_.set_offline(false);
            return "";
        case Kind::wait:
            return wait(action);
        case Kind::sleep:
            std::this_thread::sleep_for(std::chrono::duration<double>(action.values[0]));
            return "";
        case Kind::say:
            std::printf("%s\n", action.text.c_str());
            std::fflush(stdout);
            return "";
        default:
            mark(action.text);
            return "";
    }
}

std::string Run::wait(const Action& action) {
    const Parameter* parameter = plugin_.parameter(action.text);
    if (parameter == nullptr) return "no parameter '" + action.text + "' to wait for";
    const auto start = Clock::now();
    while (std::abs(plugin_.value(parameter->info.id) - action.values[0]) > kSame) {
        if (since(start) > action.values[1]) {
            ++results_.timeouts;
            return "";
        }
        plugin_.serve_callback();
        std::this_thread::sleep_for(kPoll);
    }
    return "";
}

std::string Run::activate(int64_t rate) {
    if (rate > 0 && rate != rate_) {
        rate_ = rate;
        transport_.set_rate(rate);
    }
    const std::string failure = plugin_.activate(static_cast<double>(rate_), script_.max_block);
    if (!failure.empty()) return failure;
    on_audio([this] { started_ = plugin_.instance()->start_processing(plugin_.instance()); });
    results_.latencies.push_back(plugin_.latency());
    return started_ ? "" : "start_processing failed";
}

void Run::deactivate() {
    if (!plugin_.active()) return;
    on_audio([this] {
        if (started_) plugin_.instance()->stop_processing(plugin_.instance());
        started_ = false;
    });
    plugin_.deactivate();
}

void Run::mark(const std::string& name) {
    Mark mark{name, position_, since(began_), {}};
    for (const Parameter& parameter : plugin_.parameters()) {
        mark.values[parameter.symbol] = plugin_.value(parameter.info.id);
    }
    results_.marks.push_back(std::move(mark));
}

void Run::flush(const Action& action) {
    Action event = action;
    event.kind = Kind::param;
    EventList list;
    list.add(event, 0, plugin_);
    const auto job = [this, &list] { plugin_.params()->flush(plugin_.instance(), list.list(), &out_.list); };
    if (plugin_.params() == nullptr) return;
    out_.block = 1;
    if (plugin_.active())
        on_audio(job);
    else
        job();
}

void Run::on_audio(const std::function<void()>& job) {
    audio_.run(job, [this] { plugin_.serve_callback(); });
}

void Run::process_until(int64_t end) {
    const auto& actions = script_.actions;
    while (position_ < end) {
        while (next_action_ < actions.size() && actions[next_action_].at <= position_) {
            const Action& action = actions[next_action_++];
            if (is_event(action.kind))
                events_.add(action, 0, plugin_);
            else
                change(action);
        }
        if (buffer_left_ == 0) {
            buffer_left_ = next_buffer();
            pace();
        }
        int64_t samples = std::min(buffer_left_, end - position_);
        if (script_.tell.split) {
            samples = std::min(samples, transport_.samples_to_change());
            for (size_t i = next_action_; i < actions.size() && actions[i].at < position_ + samples; ++i) {
                if (is_transport(actions[i].kind)) samples = actions[i].at - position_;
            }
        }
        piece(samples);
    }
}

void Run::piece(int64_t samples) {
    const double ppq = transport_.ppq();
    tell(transport_, script_.tell, song_s_, told_);
    walk(samples);
    events_.sort();
    call(samples, ppq);
    events_.clear();
    keep(samples);
    position_ += samples;
    buffer_left_ -= samples;
    paced_ += samples;
}

void Run::walk(int64_t samples) {
    const auto& actions = script_.actions;
    int64_t done = 0;
    while (done < samples) {
        const int64_t rest = samples - done;
        const int64_t to_action = next_action_ < actions.size() ? actions[next_action_].at - position_ - done : samples;
        const int64_t to_change = transport_.samples_to_change();
        const int64_t step = std::max<int64_t>(0, std::min({rest, to_action, to_change}));
        transport_.advance(step);
        if (transport_.playing()) song_s_ += static_cast<double>(step) / static_cast<double>(rate_);
        done += step;
        bool changed = step == to_change;
        while (done < samples && next_action_ < actions.size() && actions[next_action_].at - position_ <= done) {
            const Action& action = actions[next_action_++];
            if (is_event(action.kind)) {
                events_.add(action, static_cast<uint32_t>(done), plugin_);
            } else {
                change(action);
                changed = true;
            }
        }
        if (changed && done < samples && script_.tell.events) {
            clap_event_transport_t event;
            tell(transport_, script_.tell, song_s_, event);
            events_.add(event, static_cast<uint32_t>(done));
        }
    }
}

void Run::change(const Action& action) {
    const auto& ratios = action.ratios;
    switch (action.kind) {
        case Kind::play:
            transport_.play(true);
            break;
        case Kind::stop:
            transport_.play(false);
            break;
        case Kind::seek:
            transport_.seek(ratios[0]);
            song_s_ = as_double(ratios[0]) * 60.0 / transport_.bpm();
            break;
        case Kind::tempo:
            transport_.tempo(ratios[0]);
            break;
        case Kind::ramp:
            transport_.ramp(ratios[0], action.numbers[0]);
            break;
        case Kind::meter:
            transport_.meter(static_cast<int32_t>(action.numbers[0]), static_cast<int32_t>(action.numbers[1]));
            break;
        case Kind::loop:
            transport_.loop(ratios[0], ratios[1]);
            break;
        default:
            transport_.no_loop();
            break;
    }
}

void Run::call(int64_t samples, double ppq) {
    for (int channel = 0; channel < inputs_.channels(); ++channel) {
        float* data = inputs_.channel(channel);
        for (int64_t i = 0; i < samples; ++i) data[i] = input_.at(position_ + i, channel);
    }
    outputs_.fill(0, samples, std::nanf(""));
    out_.block = static_cast<uint32_t>(samples);
    clap_process_t process{};
    process.steady_time = script_.tell.frames ? position_ + script_.tell.frame_offset : -1;
    process.frames_count = static_cast<uint32_t>(samples);
    process.transport = script_.tell.transport ? &told_ : nullptr;
    process.audio_inputs = inputs_.ports();
    process.audio_outputs = outputs_.ports();
    process.audio_inputs_count = inputs_.num_ports();
    process.audio_outputs_count = outputs_.num_ports();
    process.in_events = events_.list();
    process.out_events = &out_.list;
    const int64_t before = offences(results_.counts);
    const clap_plugin_t* instance = plugin_.instance();
    const auto start = Clock::now();
    if (script_.count) begin(results_.counts);
    const clap_process_status status = instance->process(instance, &process);
    end();
    const auto spent = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
    if (offences(results_.counts) != before && results_.offence_at < 0) results_.offence_at = position_;
    results_.errors += status == CLAP_PROCESS_ERROR;
    results_.blocks.push_back({position_, samples, ppq, spent});
}

void Run::keep(int64_t samples) {
    Buffers& from = outputs_;
    const size_t start = results_.recorded.size();
    results_.recorded.resize(start + static_cast<size_t>(samples * results_.channels));
    int channel = 0;
    for (uint32_t port = 0; port < from.num_ports(); ++port) {
        for (uint32_t i = 0; i < from.ports()[port].channel_count; ++i, ++channel) {
            const float* data = from.ports()[port].data32[i];
            for (int64_t at = 0; at < samples; ++at) {
                results_.not_finite += !std::isfinite(data[at]);
                results_.recorded[start + static_cast<size_t>(at * results_.channels + channel)] = data[at];
            }
        }
    }
    results_.spills += from.spilled(samples);
    from.fill(0, samples, kUntouched);
    if (&from != &inputs_) inputs_.fill(0, samples, kUntouched);
}

int64_t Run::next_buffer() {
    const Blocks& blocks = script_.blocks;
    const size_t index = buffers_++;
    if (blocks.how == Blocks::How::list) return blocks.sizes[index % blocks.sizes.size()];
    random_ = random_ * 6364136223846793005ULL + 1442695040888963407ULL;
    const auto span = static_cast<uint64_t>(blocks.high - blocks.low + 1);
    return blocks.low + static_cast<int64_t>((random_ >> 33) % span);
}

void Run::pace() {
    if (script_.pace <= 0.0) return;
    if (pace_from_ == Clock::time_point{}) {
        pace_from_ = Clock::now();
        paced_ = 0;
    }
    const double due_s = static_cast<double>(paced_) / static_cast<double>(rate_) / script_.pace;
    const double length_s = static_cast<double>(buffer_left_) / static_cast<double>(rate_) / script_.pace;
    if (since(pace_from_) > due_s + length_s) ++results_.late_buffers;
    std::this_thread::sleep_until(pace_from_ +
                                  std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(due_s)));
}

}  // namespace attacca::host
