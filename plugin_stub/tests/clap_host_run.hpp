// Runs a script: the main thread does what belongs to it between blocks, an audio thread of its own does the blocks.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "clap_host_block.hpp"
#include "clap_host_counters.hpp"
#include "clap_host_plugin.hpp"
#include "clap_host_script.hpp"

namespace attacca::host {

// One thread that does one job after the other; `run` waits for it and serves the plugin's callbacks meanwhile.
class AudioThread {
public:
    AudioThread();
    ~AudioThread();
    void run(const std::function<void()>& job, const std::function<void()>& meanwhile);
    std::thread::id id() const { return thread_.get_id(); }

private:
    void work();
    std::mutex mutex_;
    std::condition_variable changed_;
    const std::function<void()>* job_{nullptr};
    bool stopping_{false};
    std::thread thread_;
};

struct BlockRecord {
    int64_t position, samples;
    double ppq;
    int64_t nanoseconds;
};

struct Mark {
    std::string name;
    int64_t position;
    double seconds;  // since the run began
    std::map<std::string, double> values;
};

struct Results {
    std::vector<float> recorded;  // interleaved, all output channels
    int channels{};
    std::vector<BlockRecord> blocks;
    std::vector<Mark> marks;
    std::vector<uint32_t> latencies;  // after each activation
    Counts counts;
    int64_t offence_at{-1};  // first block with a count that is not 0
    std::string system_calls_missing;
    int64_t late_buffers{}, not_finite{}, spills{}, errors{}, timeouts{};
    bool told_render{false};  // the plugin takes render modes
    double seconds{};
};

class Run {
public:
    Run(const Script& script, Plugin& plugin);
    std::string all();  // an empty string, or why it stopped
    const Results& results() const { return results_; }
    const OutEvents& out_events() const { return out_; }

private:
    std::string perform(const Action& action);
    std::string wait(const Action& action);
    std::string activate(int64_t rate);
    void deactivate();
    void mark(const std::string& name);
    void flush(const Action& action);
    void on_audio(const std::function<void()>& job);

    // Audio thread.
    void process_until(int64_t end);
    void piece(int64_t samples);
    void walk(int64_t samples);  // moves the transport over the block, as its actions say
    void change(const Action& action);
    void call(int64_t samples, double ppq);
    void keep(int64_t samples);
    int64_t next_buffer();
    void pace();

    const Script& script_;
    Plugin& plugin_;
    Results results_;
    ExactTransport transport_;
    Buffers inputs_, outputs_;
    InputSignal input_;
    EventList events_;
    OutEvents out_;
    clap_event_transport_t told_{};
    AudioThread audio_;
    int64_t rate_;
    int64_t position_{0};
    size_t next_action_{0};
    int64_t buffer_left_{0};
    size_t buffers_{0};
    uint64_t random_{0};
    double song_s_{0.0};
    bool started_{false};
    std::chrono::steady_clock::time_point began_;
    std::chrono::steady_clock::time_point pace_from_;
    int64_t paced_{0};  // samples since pace_from_
};

}  // namespace attacca::host
