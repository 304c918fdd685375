// Wire: protocol structs to frames and back; bridge/protocol.py's encode and decode in C++, by the generated field
// visitors of protocol.hpp. Refuses what the Python side refuses: unknown types, missing fields, values out of range,
// NaN, wrong payload. Thread: network. Decoding never throws; encoding of valid structs cannot fail.
#pragma once

#include <string>
#include <variant>

#include "../protocol.hpp"
#include "link.hpp"

namespace attacca {

using AnyMessage =
    std::variant<protocol::Hello, protocol::Transport, protocol::Audio, protocol::Midi, protocol::Trigger,
                 protocol::Release, protocol::Param, protocol::Prompt, protocol::Ping, protocol::Bye, protocol::Welcome,
                 protocol::Chunk, protocol::CodesChunk, protocol::Status, protocol::Error, protocol::Pong>;

// [header] or [header, payload]. `payload` bytes only for messages that have one.
Frames encode(const AnyMessage& message, const void* payload = nullptr, size_t payload_bytes = 0);

// False, and why, for anything that the Python side would refuse.
bool decode(const Frames& frames, AnyMessage& message, Frame& payload, std::string& why);

}  // namespace attacca
