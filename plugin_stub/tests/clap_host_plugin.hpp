// One CLAP plugin as a host holds it: the loaded file, the instance, its extensions, and the host's own callbacks.
// Thread: main, but for `process`; what a plugin asks of its host may come from any thread and is counted.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <clap/entry.h>
#include <clap/ext/audio-ports.h>
#include <clap/ext/latency.h>
#include <clap/ext/note-ports.h>
#include <clap/ext/params.h>
#include <clap/ext/state.h>
#include <clap/ext/thread-check.h>
#include <clap/plugin-factory.h>
#include <clap/plugin.h>
#include <clap/process.h>

namespace attacca::host {

// Extensions that the headers above lack, as the CLAP specification has them.
struct RenderExtension {
    bool(CLAP_ABI* has_hard_realtime_requirement)(const clap_plugin_t* plugin);
    bool(CLAP_ABI* set)(const clap_plugin_t* plugin, int32_t mode);
};
struct TailExtension {
    uint32_t(CLAP_ABI* get)(const clap_plugin_t* plugin);
};
inline constexpr int32_t kRenderRealtime = 0, kRenderOffline = 1;

// What the plugin asked of the host; any thread.
struct HostCalls {
    std::atomic<int64_t> restart{0}, process{0}, callback{0}, rescan{0}, clear{0}, flush{0}, latency{0}, dirty{0};
    std::atomic<bool> wants_callback{false};
};

struct Parameter {
    clap_param_info_t info{};
    std::string symbol;  // last part of its module path
    bool read_only() const { return (info.flags & CLAP_PARAM_IS_READONLY) != 0; }
};

class Plugin {
public:
    Plugin();
    ~Plugin();
    Plugin(const Plugin&) = delete;
    Plugin& operator=(const Plugin&) = delete;

    std::string open(const std::string& file, const std::string& id);  // an empty string, or what is wrong
    std::string activate(double rate, int64_t max_block);
    void deactivate();
    bool set_offline(bool offline);  // false: the plugin cannot know

    const Parameter* parameter(const std::string& name) const;  // by id, symbol or name; nullptr: none
    double value(clap_id id) const;
    std::string text(clap_id id, double value) const;
    std::string save(const std::string& file);
    std::string load(const std::string& file);
    void serve_callback();  // on_main_thread, if it was asked for

    uint32_t latency() const;
    int64_t tail() const;  // -1: no such extension
    bool has(const char* extension) const;

    const clap_plugin_t* instance() const { return instance_; }
    bool active() const { return active_; }
    const std::vector<std::string>& ids() const { return ids_; }
    const std::vector<clap_audio_port_info_t>& inputs() const { return inputs_; }
    const std::vector<clap_audio_port_info_t>& outputs() const { return outputs_; }
    const std::vector<clap_note_port_info_t>& notes() const { return notes_; }
    const std::vector<Parameter>& parameters() const { return parameters_; }
    const clap_plugin_params_t* params() const { return params_; }
    const HostCalls& calls() const { return calls_; }

    void set_audio_thread(std::thread::id id) { audio_thread_ = id; }

private:
    template <class T>
    const T* extension(const char* id) const {
        return static_cast<const T*>(instance_->get_extension(instance_, id));
    }
    void read_ports();
    void read_parameters();
    static const void* host_extension(const clap_host_t* host, const char* id);
    static Plugin& of(const clap_host_t* host) { return *static_cast<Plugin*>(host->host_data); }

    void* library_{nullptr};
    const clap_plugin_entry_t* entry_{nullptr};
    const clap_plugin_t* instance_{nullptr};
    const clap_plugin_params_t* params_{nullptr};
    const clap_plugin_state_t* state_{nullptr};
    clap_host_t host_{};
    HostCalls calls_;
    std::thread::id main_thread_, audio_thread_;
    std::vector<std::string> ids_;
    std::vector<clap_audio_port_info_t> inputs_, outputs_;
    std::vector<clap_note_port_info_t> notes_;
    std::vector<Parameter> parameters_;
    bool active_{false};
};

}  // namespace attacca::host
