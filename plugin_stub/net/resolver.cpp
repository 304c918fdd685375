// See resolver.hpp.
#include "resolver.hpp"

#ifdef _WIN32
#include <winsock2.h>
#include <ws2tcpip.h>
#else
#include <dlfcn.h>
#include <netdb.h>
#include <sys/socket.h>
#endif

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <utility>

namespace attacca {
namespace {

constexpr std::string_view kScheme = "tcp://";
constexpr size_t kMaxHostCharacters = 253;
constexpr int kMaxPort = 65535;
constexpr size_t kMaxEndpoints = 8;

std::vector<Endpoint> ask_system(const std::string& host, const std::string& port, int flags) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    std::vector<Endpoint> endpoints;
    if (::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return endpoints;
    for (const addrinfo* entry = found; entry != nullptr && endpoints.size() < kMaxEndpoints; entry = entry->ai_next) {
        const auto* first = reinterpret_cast<const uint8_t*>(entry->ai_addr);
        endpoints.push_back({entry->ai_family, {first, first + entry->ai_addrlen}});
    }
    ::freeaddrinfo(found);
    return endpoints;
}

// What needs no look-up. "localhost" is this machine by definition (RFC 6761); engines bind IPv4 first.
std::vector<Endpoint> at_once(const Address& address) {
    if (address.host != "localhost") return ask_system(address.host, address.port, AI_NUMERICHOST);
    std::vector<Endpoint> both = ask_system("127.0.0.1", address.port, AI_NUMERICHOST);
    for (Endpoint& endpoint : ask_system("::1", address.port, AI_NUMERICHOST)) both.push_back(std::move(endpoint));
    return both;
}

// Keeps this module's code in memory for ever: a look-up may go on after the host has unloaded the plugin.
void pin_module() {
    static const char here = 0;
#ifdef _WIN32
    HMODULE module = nullptr;
    (void)::GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, &here, &module);
#else
    Dl_info found{};
    if (::dladdr(&here, &found) != 0 && found.dli_fname != nullptr)  // fails in programs, which are not unloaded
        (void)::dlopen(found.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
#endif
}

}  // namespace

struct Resolver::LookUp {
    SocketSystem system;
    Address address;
    std::vector<Endpoint> endpoints;  // written before `done`
    std::atomic<bool> done{false};
};

Address parse_address(const std::string& text) {
    const Address none;
    if (text.compare(0, kScheme.size(), kScheme) != 0) return none;
    const size_t colon = text.rfind(':');
    if (colon < kScheme.size()) return none;
    std::string host = text.substr(kScheme.size(), colon - kScheme.size());
    const std::string port = text.substr(colon + 1);
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);
    const auto allowed = [&](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' ||
               c == '_' || (bracketed && (c == ':' || c == '%'));
    };
    if (host.empty() || host.size() > kMaxHostCharacters || !std::all_of(host.begin(), host.end(), allowed))
        return none;
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (port.empty() || port.size() > 5 || !std::all_of(port.begin(), port.end(), digit)) return none;
    const int number = std::stoi(port);
    return number >= 1 && number <= kMaxPort ? Address{host, port} : none;
}

Resolver::Resolver(Address address) : address_(std::move(address)) {}
Resolver::~Resolver() = default;

void Resolver::start() {
    if (look_up_ && !look_up_->done.load(std::memory_order_acquire)) return;
    look_up_ = std::make_shared<LookUp>();
    look_up_->address = address_;
    look_up_->endpoints = at_once(address_);
    if (!look_up_->endpoints.empty()) {
        look_up_->done.store(true, std::memory_order_release);
        return;
    }
    pin_module();
    try {
        std::thread([look_up = look_up_] {
            try {
                look_up->endpoints = ask_system(look_up->address.host, look_up->address.port, 0);
            } catch (const std::exception&) {
                look_up->endpoints.clear();  // out of memory: found nothing
            }
            look_up->done.store(true, std::memory_order_release);
        }).detach();
    } catch (const std::exception&) {
        look_up_->done.store(true, std::memory_order_release);  // no thread to be had: found nothing, this time
    }
}

bool Resolver::done() const { return look_up_ && look_up_->done.load(std::memory_order_acquire); }

std::vector<Endpoint> Resolver::endpoints() const { return done() ? look_up_->endpoints : std::vector<Endpoint>{}; }

}  // namespace attacca
