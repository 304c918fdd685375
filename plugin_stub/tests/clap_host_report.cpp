#include "clap_host_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

namespace attacca::host {

namespace {

// JSON by hand: objects and lists of what is known here.
class Json {
public:
    Json& open(char bracket, const std::string& name = "") {
        item(name);
        text_ += bracket;
        first_ = true;
        return *this;
    }
    Json& close(char bracket) {
        text_ += bracket;
        first_ = false;
        return *this;
    }
    Json& put(const std::string& name, const std::string& value) {
        item(name);
        quote(value);
        return *this;
    }
    Json& put(const std::string& name, const char* value) { return put(name, std::string(value)); }
    Json& put(const std::string& name, int64_t value) {
        item(name);
        text_ += std::to_string(value);
        return *this;
    }
    Json& put(const std::string& name, double value) {
        item(name);
        char text[40];
        std::snprintf(text, sizeof text, "%.17g", value);
        text_ += std::isfinite(value) ? text : "null";
        return *this;
    }
    Json& flag(const std::string& name, bool value) {
        item(name);
        text_ += value ? "true" : "false";
        return *this;
    }
    const std::string& text() const { return text_; }

private:
    void item(const std::string& name) {
        if (!first_) text_ += ", ";
        first_ = false;
        if (name.empty()) return;
        quote(name);
        text_ += ": ";
    }
    void quote(const std::string& value) {
        text_ += '"';
        for (const char c : value) {
            if (c == '"' || c == '\\') text_ += '\\';
            if (static_cast<unsigned char>(c) < 0x20)
                text_ += ' ';
            else
                text_ += c;
        }
        text_ += '"';
    }
    std::string text_;
    bool first_{true};
};

void put_plugin(Json& json, const Plugin& plugin) {
    const clap_plugin_descriptor_t& about = *plugin.instance()->desc;
    json.open('{', "plugin").put("id", about.id).put("name", about.name).put("version", about.version);
    json.open('[', "features");
    for (const char* const* feature = about.features; feature != nullptr && *feature != nullptr; ++feature) {
        json.put("", *feature);
    }
    json.close(']').open('[', "ids");
    for (const std::string& id : plugin.ids()) json.put("", id);
    json.close(']').open('{', "extensions");
    for (const char* name : {"clap.audio-ports", "clap.note-ports", "clap.params", "clap.state", "clap.latency",
                             "clap.tail", "clap.render", "clap.gui"}) {
        json.flag(name, plugin.has(name));
    }
    json.close('}').open('[', "inputs");
    for (const auto& port : plugin.inputs()) json.put("", static_cast<int64_t>(port.channel_count));
    json.close(']').open('[', "outputs");
    for (const auto& port : plugin.outputs()) json.put("", static_cast<int64_t>(port.channel_count));
    json.close(']').open('[', "note_dialects");
    for (const auto& port : plugin.notes()) json.put("", static_cast<int64_t>(port.supported_dialects));
    json.close(']').close('}');
}

void put_parameters(Json& json, const Plugin& plugin) {
    json.open('{', "parameters");
    for (const Parameter& parameter : plugin.parameters()) {
        const clap_param_info_t& info = parameter.info;
        const double value = plugin.value(info.id);
        json.open('{', parameter.symbol).put("id", static_cast<int64_t>(info.id)).put("name", info.name);
        json.put("minimum", info.min_value).put("maximum", info.max_value).put("default", info.default_value);
        json.put("value", value).put("text", plugin.text(info.id, value));
        json.flag("read_only", parameter.read_only()).flag("stepped", (info.flags & CLAP_PARAM_IS_STEPPED) != 0);
        json.flag("automatable", (info.flags & CLAP_PARAM_IS_AUTOMATABLE) != 0);
        json.flag("bypass", (info.flags & CLAP_PARAM_IS_BYPASS) != 0).close('}');
    }
    json.close('}');
}

void put_times(Json& json, const std::vector<BlockRecord>& blocks) {
    std::vector<int64_t> spent;
    int64_t total = 0;
    for (const BlockRecord& block : blocks) {
        spent.push_back(block.nanoseconds);
        total += block.nanoseconds;
    }
    std::sort(spent.begin(), spent.end());
    const auto quantile = [&spent](double q) {
        return spent.empty() ? int64_t{0} : spent[static_cast<size_t>(q * static_cast<double>(spent.size() - 1))];
    };
    json.open('{', "process_ns").put("total", total).put("p50", quantile(0.5)).put("p99", quantile(0.99));
    json.put("p999", quantile(0.999)).put("max", quantile(1.0)).close('}');
}

void put_counts(Json& json, const Script& script, const Results& results) {
    const Counts& counts = results.counts;
    json.open('{', "counts");
    json.flag("allocations_counted", script.count && counts_allocations());
    json.flag("system_calls_counted", script.count && results.system_calls_missing.empty());
    json.put("system_calls_missing", results.system_calls_missing);
    json.put("allocations", counts.allocations).put("frees", counts.frees).put("locks", counts.locks);
    json.put("try_locks", counts.try_locks).put("signals", counts.signals);
    json.put("system_calls", counts.system_calls).open('[', "numbers");
    const auto known = std::min(counts.numbers.size(), static_cast<size_t>(counts.system_calls));
    for (size_t i = 0; i < known; ++i) json.put("", static_cast<int64_t>(counts.numbers[i]));
    json.close(']').put("first_at", results.offence_at).close('}');
}

void put_calls(Json& json, const HostCalls& calls) {
    json.open('{', "host_calls").put("restart", calls.restart.load()).put("process", calls.process.load());
    json.put("callback", calls.callback.load()).put("rescan", calls.rescan.load()).put("clear", calls.clear.load());
    json.put("flush", calls.flush.load()).put("latency", calls.latency.load()).put("dirty", calls.dirty.load());
    json.close('}');
}

void put_marks(Json& json, const std::vector<Mark>& marks) {
    json.open('[', "marks");
    for (const Mark& mark : marks) {
        json.open('{').put("name", mark.name).put("position", mark.position).put("seconds", mark.seconds);
        json.open('{', "values");
        for (const auto& [name, value] : mark.values) json.put(name, value);
        json.close('}').close('}');
    }
    json.close(']');
}

}  // namespace

std::string report_json(const Script& script, const Plugin& plugin, const Run& run, const std::string& failure) {
    const Results& results = run.results();
    Json json;
    json.open('{').put("failure", failure).put("rate", script.rate).put("channels", int64_t{results.channels});
    const size_t channels = results.channels > 0 ? static_cast<size_t>(results.channels) : 1;
    json.put("samples", static_cast<int64_t>(results.recorded.size() / channels));
    json.put("blocks", static_cast<int64_t>(results.blocks.size())).put("seconds", results.seconds);
    put_plugin(json, plugin);
    put_parameters(json, plugin);
    json.open('[', "latency");
    for (const uint32_t latency : results.latencies) json.put("", static_cast<int64_t>(latency));
    json.close(']').put("tail", plugin.tail()).flag("render_modes", results.told_render);
    put_times(json, results.blocks);
    put_counts(json, script, results);
    json.put("late_buffers", results.late_buffers).put("not_finite", results.not_finite);
    json.put("spills", results.spills).put("errors", results.errors).put("wait_timeouts", results.timeouts);
    const OutEvents& out = run.out_events();
    json.open('{', "out_events").put("params", out.params).put("notes", out.notes).put("others", out.others);
    json.put("misplaced", out.misplaced).close('}');
    put_calls(json, plugin.calls());
    put_marks(json, results.marks);
    return json.close('}').text();
}

std::string write_file(const std::string& file, const void* data, size_t size) {
    std::ofstream out(file, std::ios::binary);
    out.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
    return out ? "" : "cannot write " + file;
}

std::string block_list(const Results& results) {
    std::string text;
    for (const BlockRecord& block : results.blocks) {
        char line[128];
        std::snprintf(line, sizeof line, "%lld %lld %.15g %lld\n", static_cast<long long>(block.position),
                      static_cast<long long>(block.samples), block.ppq, static_cast<long long>(block.nanoseconds));
        text += line;
    }
    return text;
}

}  // namespace attacca::host
