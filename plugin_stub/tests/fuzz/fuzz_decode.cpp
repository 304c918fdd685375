// libFuzzer on the protocol's decoder: what is read is written and read again as the same bytes; what is refused is
// refused with a reason. First two bytes: how long the header is; 0xFFFF: no payload frame.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "net/wire.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using attacca::Frame;
    if (size < 2) return 0;
    const size_t told = static_cast<size_t>(data[0]) << 8 | data[1];
    const uint8_t* first = data + 2;
    const uint8_t* const end = data + size;
    const uint8_t* const middle = told == 0xFFFF ? end : first + std::min(told, size - 2);
    attacca::Frames frames{Frame(first, middle)};
    if (told != 0xFFFF) frames.emplace_back(middle, end);
    attacca::AnyMessage message;
    Frame payload;
    std::string why;
    if (!attacca::decode(frames, message, payload, why)) {
        if (why.empty()) std::abort();
        return 0;
    }
    const attacca::Frames written = attacca::encode(message, payload.data(), payload.size());
    attacca::AnyMessage again;
    Frame same_payload;
    if (!attacca::decode(written, again, same_payload, why)) std::abort();
    if (again.index() != message.index() || same_payload != payload) std::abort();
    if (attacca::encode(again, same_payload.data(), same_payload.size()) != written) std::abort();
    return 0;
}
