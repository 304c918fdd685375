// See engine_address.hpp. The folder is that of platformdirs.user_config_dir("attacca"), which the command line uses.
#include "engine_address.hpp"

#include <cstdlib>
#include <fstream>

#include "protocol.hpp"

namespace attacca {

namespace {

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

std::string trimmed(const std::string& text) {
    const size_t first = text.find_first_not_of(" \t\r\"'"), last = text.find_last_not_of(" \t\r\"'");
    return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

}  // namespace

std::string plugin_conf_path() {
#if defined(_WIN32)
    const std::string folder = variable("LOCALAPPDATA");
    return folder.empty() ? "" : folder + "\\attacca\\attacca\\plugin.conf";
#elif defined(__APPLE__)
    const std::string home = variable("HOME");
    return home.empty() ? "" : home + "/Library/Application Support/attacca/plugin.conf";
#else
    const std::string named = variable("XDG_CONFIG_HOME"), home = variable("HOME");
    if (!named.empty()) return named + "/attacca/plugin.conf";
    return home.empty() ? "" : home + "/.config/attacca/plugin.conf";
#endif
}

std::string engine_address() {
    std::string address = trimmed(variable(kEngineVariable));
    const std::string path = plugin_conf_path();
    if (address.empty() && !path.empty()) {
        std::ifstream file(path);
        for (std::string line; address.empty() && std::getline(file, line);) {
            const size_t equals = line.find('=');
            if (equals != std::string::npos && trimmed(line.substr(0, equals)) == "address")
                address = trimmed(line.substr(equals + 1));
        }
    }
    return address.empty() ? std::string(protocol::kDefaultAddress) : address;
}

}  // namespace attacca
