#include "clap_host_plugin.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace attacca::host {

namespace {

#if defined(_WIN32)
void* open_library(const std::string& file, std::string& failure) {
    const HMODULE library = LoadLibraryA(file.c_str());
    if (library == nullptr) failure = file + " cannot be loaded: error " + std::to_string(GetLastError());
    return reinterpret_cast<void*>(library);
}
const void* symbol(void* library, const char* name) {
    return reinterpret_cast<const void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
void close_library(void* library) { FreeLibrary(static_cast<HMODULE>(library)); }
#else
void* open_library(const std::string& file, std::string& failure) {
    void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) failure = dlerror();
    return library;
}
const void* symbol(void* library, const char* name) { return dlsym(library, name); }
void close_library(void* library) { dlclose(library); }
#endif

constexpr char kRender[] = "clap.render", kTail[] = "clap.tail";
constexpr size_t kStreamPiece = 977;  // states are read and written in small pieces, as hosts may

int64_t write_piece(const clap_ostream_t* stream, const void* buffer, uint64_t size) {
    const size_t count = std::min<size_t>(size, kStreamPiece);
    static_cast<std::string*>(stream->ctx)->append(static_cast<const char*>(buffer), count);
    return static_cast<int64_t>(count);
}

struct Reading {
    std::string data;
    size_t at{0};
};

int64_t read_piece(const clap_istream_t* stream, void* buffer, uint64_t size) {
    auto& reading = *static_cast<Reading*>(stream->ctx);
    const size_t count = std::min({static_cast<size_t>(size), kStreamPiece, reading.data.size() - reading.at});
    std::memcpy(buffer, reading.data.data() + reading.at, count);
    reading.at += count;
    return static_cast<int64_t>(count);
}

}  // namespace

Plugin::Plugin() : main_thread_(std::this_thread::get_id()) {
    host_.clap_version = CLAP_VERSION;
    host_.host_data = this;
    host_.name = "clap_host";
    host_.vendor = "Attacca tests";
    host_.url = "";
    host_.version = "1";
    host_.get_extension = host_extension;
    host_.request_restart = [](const clap_host_t* host) { ++of(host).calls_.restart; };
    host_.request_process = [](const clap_host_t* host) { ++of(host).calls_.process; };
    host_.request_callback = [](const clap_host_t* host) {
        ++of(host).calls_.callback;
        of(host).calls_.wants_callback = true;
    };
}

Plugin::~Plugin() {
    if (instance_ != nullptr) {
        deactivate();
        instance_->destroy(instance_);
    }
    if (entry_ != nullptr) entry_->deinit();
    if (library_ != nullptr) close_library(library_);
}

const void* Plugin::host_extension(const clap_host_t*, const char* id) {
    static const clap_host_thread_check_t threads{
        [](const clap_host_t* host) { return std::this_thread::get_id() == of(host).main_thread_; },
        [](const clap_host_t* host) { return std::this_thread::get_id() == of(host).audio_thread_; }};
    static const clap_host_params_t params{
        [](const clap_host_t* host, clap_param_rescan_flags) { ++of(host).calls_.rescan; },
        [](const clap_host_t* host, clap_id, clap_param_clear_flags) { ++of(host).calls_.clear; },
        [](const clap_host_t* host) { ++of(host).calls_.flush; }};
    static const clap_host_latency_t latency{[](const clap_host_t* host) { ++of(host).calls_.latency; }};
    static const clap_host_state_t state{[](const clap_host_t* host) { ++of(host).calls_.dirty; }};
    if (std::strcmp(id, CLAP_EXT_THREAD_CHECK) == 0) return &threads;
    if (std::strcmp(id, CLAP_EXT_PARAMS) == 0) return &params;
    if (std::strcmp(id, CLAP_EXT_LATENCY) == 0) return &latency;
    if (std::strcmp(id, CLAP_EXT_STATE) == 0) return &state;
    return nullptr;
}

std::string Plugin::open(const std::string& file, const std::string& id) {
    std::string failure;
    library_ = open_library(file, failure);
    if (library_ == nullptr) return failure;
    const auto* entry = static_cast<const clap_plugin_entry_t*>(symbol(library_, "clap_entry"));
    if (entry == nullptr) return file + " has no clap_entry";
    if (!entry->init(file.c_str())) return "clap_entry.init failed";
    entry_ = entry;
    const auto* factory = static_cast<const clap_plugin_factory_t*>(entry_->get_factory(CLAP_PLUGIN_FACTORY_ID));
    if (factory == nullptr) return file + " has no plugin factory";
    for (uint32_t i = 0; i < factory->get_plugin_count(factory); ++i) {
        ids_.emplace_back(factory->get_plugin_descriptor(factory, i)->id);
    }
    if (ids_.empty()) return file + " has no plugin";
    instance_ = factory->create_plugin(factory, &host_, (id.empty() ? ids_[0] : id).c_str());
    if (instance_ == nullptr) return "no plugin '" + id + "'";
    if (!instance_->init(instance_)) return "init failed";
    read_ports();
    read_parameters();
    state_ = extension<clap_plugin_state_t>(CLAP_EXT_STATE);
    return "";
}

void Plugin::read_ports() {
    if (const auto* ports = extension<clap_plugin_audio_ports_t>(CLAP_EXT_AUDIO_PORTS)) {
        for (const bool input : {true, false}) {
            for (uint32_t i = 0; i < ports->count(instance_, input); ++i) {
                clap_audio_port_info_t info{};
                if (ports->get(instance_, i, input, &info)) (input ? inputs_ : outputs_).push_back(info);
            }
        }
    }
    if (const auto* ports = extension<clap_plugin_note_ports_t>(CLAP_EXT_NOTE_PORTS)) {
        for (uint32_t i = 0; i < ports->count(instance_, true); ++i) {
            clap_note_port_info_t info{};
            if (ports->get(instance_, i, true, &info)) notes_.push_back(info);
        }
    }
}

void Plugin::read_parameters() {
    params_ = extension<clap_plugin_params_t>(CLAP_EXT_PARAMS);
    const uint32_t count = params_ == nullptr ? 0 : params_->count(instance_);
    for (uint32_t i = 0; i < count; ++i) {
        Parameter parameter;
        if (!params_->get_info(instance_, i, &parameter.info)) continue;
        const std::string path = parameter.info.module;
        const size_t slash = path.find_last_of('/');
        parameter.symbol = slash == std::string::npos ? path : path.substr(slash + 1);
        parameters_.push_back(parameter);
    }
}

std::string Plugin::activate(double rate, int64_t max_block) {
    if (active_) return "it is active already";
    if (!instance_->activate(instance_, rate, 1, static_cast<uint32_t>(max_block))) return "activate failed";
    active_ = true;
    return "";
}

void Plugin::deactivate() {
    if (!active_) return;
    instance_->deactivate(instance_);
    active_ = false;
}

bool Plugin::set_offline(bool offline) {
    const auto* render = extension<RenderExtension>(kRender);
    return render != nullptr && render->set(instance_, offline ? kRenderOffline : kRenderRealtime);
}

const Parameter* Plugin::parameter(const std::string& name) const {
    for (const Parameter& parameter : parameters_) {
        if (name == parameter.symbol || name == parameter.info.name || name == std::to_string(parameter.info.id)) {
            return &parameter;
        }
    }
    return nullptr;
}

double Plugin::value(clap_id id) const {
    double value = 0.0;
    return params_ != nullptr && params_->get_value(instance_, id, &value) ? value : 0.0;
}

std::string Plugin::text(clap_id id, double value) const {
    char text[256] = "";
    const bool known = params_ != nullptr && params_->value_to_text(instance_, id, value, text, sizeof text);
    return known ? text : "";
}

std::string Plugin::save(const std::string& file) {
    std::string data;
    const clap_ostream_t stream{&data, write_piece};
    if (state_ == nullptr || !state_->save(instance_, &stream)) return "the state cannot be saved";
    std::ofstream out(file, std::ios::binary);
    out.write(data.data(), static_cast<std::streamsize>(data.size()));
    return out ? "" : "cannot write " + file;
}

std::string Plugin::load(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in) return "cannot read " + file;
    Reading reading{{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()}};
    const clap_istream_t stream{&reading, read_piece};
    return state_ != nullptr && state_->load(instance_, &stream) ? "" : "the state cannot be loaded";
}

void Plugin::serve_callback() {
    if (calls_.wants_callback.exchange(false)) instance_->on_main_thread(instance_);
}

uint32_t Plugin::latency() const {
    const auto* latency = extension<clap_plugin_latency_t>(CLAP_EXT_LATENCY);
    return latency == nullptr ? 0 : latency->get(instance_);
}

int64_t Plugin::tail() const {
    const auto* tail = extension<TailExtension>(kTail);
    return tail == nullptr ? -1 : static_cast<int64_t>(tail->get(instance_));
}

bool Plugin::has(const char* id) const { return extension<void>(id) != nullptr; }

}  // namespace attacca::host
