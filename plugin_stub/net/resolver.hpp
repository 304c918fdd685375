// Addresses: "tcp://host:port" taken apart, and host names turned into endpoints. Below the link. Numbers and
// "localhost" are known at once; any other name is looked up by a thread of its own, because the system's look-up may
// block for many seconds: the network thread only asks whether it is done. Thread: network, except the look-up itself.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "socket.hpp"

namespace attacca {

struct Address {
    std::string host;  // empty: none
    std::string port;
};

// The parts of "tcp://host:port" ("[v6]" in brackets); an empty host if it is not that.
Address parse_address(const std::string& text);

class Resolver {
public:
    explicit Resolver(Address address);
    ~Resolver();  // at once: a look-up under way is left to end by itself

    void start();  // begins to look up, unless that is under way
    bool done() const;
    std::vector<Endpoint> endpoints() const;  // once done; empty: there is no such name (now)

private:
    struct LookUp;
    const Address address_;
    std::shared_ptr<LookUp> look_up_;
};

}  // namespace attacca
