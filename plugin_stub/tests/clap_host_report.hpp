// The scriptable CLAP host's report: one JSON object of all that a run found out, and the recorded output.
#pragma once

#include <string>

#include "clap_host_plugin.hpp"
#include "clap_host_run.hpp"
#include "clap_host_script.hpp"

namespace attacca::host {

std::string report_json(const Script& script, const Plugin& plugin, const Run& run, const std::string& failure);
std::string write_file(const std::string& file, const void* data, size_t size);  // an empty string, or what is wrong
std::string block_list(const Results& results);  // position samples ppq nanoseconds, a line a block

}  // namespace attacca::host
