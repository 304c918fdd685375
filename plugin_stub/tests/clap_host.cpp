// clap_host [SCRIPT]: a CLAP host that does what a script says (standard input without a file), for tests. Prints one
// line of JSON, and writes what the script asks for. Exit code 0, or 1 where the plugin or the script failed.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

#include "clap_host_plugin.hpp"
#include "clap_host_report.hpp"
#include "clap_host_run.hpp"
#include "clap_host_script.hpp"

namespace {

int fail(const std::string& what) {
    std::fprintf(stderr, "clap_host: %s\n", what.c_str());
    return 1;
}

int run(std::istream& stream) {
    using namespace attacca::host;
    Script script;
    std::string failure = read_script(stream, script);
    if (!failure.empty()) return fail(failure);
    Plugin plugin;
    failure = plugin.open(script.plugin, script.id);
    if (!failure.empty()) return fail(failure);
    for (const Action& action : script.actions) {
        const bool named = action.kind == Kind::param || action.kind == Kind::flush;
        if (named && plugin.parameter(action.text) == nullptr) return fail("no parameter '" + action.text + "'");
    }
    Run session(script, plugin);
    failure = session.all();
    const std::string json = report_json(script, plugin, session, failure);
    const auto& recorded = session.results().recorded;
    const std::string blocks = script.block_list.empty() ? "" : block_list(session.results());
    for (const auto& [file, data, size] :
         {std::tuple{script.record, static_cast<const void*>(recorded.data()), recorded.size() * sizeof(float)},
          std::tuple{script.report, static_cast<const void*>(json.data()), json.size()},
          std::tuple{script.block_list, static_cast<const void*>(blocks.data()), blocks.size()}}) {
        const std::string problem = file.empty() ? "" : write_file(file, data, size);
        if (!problem.empty()) return fail(problem);
    }
    std::printf("%s\n", json.c_str());
    return failure.empty() ? 0 : fail(failure);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) return run(std::cin);
    std::ifstream file(argv[1]);
    return file ? run(file) : fail(std::string("cannot read ") + argv[1]);
}
