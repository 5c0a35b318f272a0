// SPDX-License-Identifier: MIT
#include "request_target.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "ipc/dispatch.hpp"
#include "protocol/codec.hpp"
#include "wire_samples.hpp"

namespace m4::fuzz {

namespace {

constexpr std::uint8_t kPipe = 255;

void require(bool holds, const char* promise) {
    if (!holds) {
        (void)std::fprintf(stderr, "promise broken: %s\n", promise);
        std::abort();
    }
}

/// Small, so that a small message can be over them.
ipc::Limits limits() {
    ipc::Limits limits;
    limits.text_bytes = 64;
    limits.ids = 8;
    limits.media_bytes = 128;
    limits.inputs = 3;
    return limits;
}

UniqueFd descriptor(std::uint8_t kind, std::span<const std::byte> frame) {
    if (kind == 0) {
        return UniqueFd();
    }
    if (kind == kPipe) {
        int ends[2] = {-1, -1};
        require(::pipe(ends) == 0, "there are pipes");
        ::close(ends[1]);
        return UniqueFd(ends[0]);
    }
    return protocol::make_sealed_memfd(frame.last(std::min<std::size_t>(kind, frame.size())));
}

class Check {
   public:
    explicit Check(const ipc::Limits& limits) : limits_(limits) {}

    void operator()(const ipc::Greeting& greeting) const {
        require(greeting.client_name.size() <= limits_.client_name_bytes, "a name is short");
        for (const char c : greeting.client_name) {
            require(static_cast<unsigned char>(c) >= ' ' && c != '\x7f', "a name can be shown");
        }
    }
    void operator()(const ipc::EncodeText& text) const {
        require(text.text.size() <= limits_.text_bytes, "a text is within its limit");
    }
    void operator()(const ipc::DecodeIds& decode) const {
        require(decode.ids.size() <= limits_.ids, "ids are within their limit");
    }
    void operator()(const ipc::EncodeMedia& encode) const {
        require(encode.inputs.inputs.size() <= limits_.inputs, "inputs are within their limit");
        require(encode.data != nullptr, "media have data");
        read(*encode.data);
    }
    void operator()(const ipc::TranscribeMedia& transcribe) const {
        require(transcribe.data != nullptr, "a recording has data");
        read(*transcribe.data);
    }
    void operator()(const ipc::Violation& violation) const { sentence(violation.what); }
    void operator()(const sched::Failure& failure) const {
        require(failure.code < 0, "a failure has a code");
        sentence(failure.message);
    }
    template <typename Other>
    void operator()(const Other& /*other*/) const {}

   private:
    void read(const protocol::BulkView& data) const {
        require(data.bytes().size() <= limits_.media_bytes, "media are within their limit");
        volatile std::byte sum{};
        for (const std::byte value : data.bytes()) {
            sum = sum ^ value;
        }
    }
    static void sentence(const std::string& text) {
        require(!text.empty() && text.find('\n') == std::string::npos, "a refusal is one sentence");
    }

    const ipc::Limits& limits_;
};

}  // namespace

std::vector<std::uint8_t> pack_request(std::uint8_t memfd_bytes, std::span<const std::byte> frame) {
    std::vector<std::uint8_t> all(1 + frame.size(), memfd_bytes);
    std::transform(frame.begin(), frame.end(), all.begin() + 1,
                   [](std::byte value) { return std::to_integer<std::uint8_t>(value); });
    return all;
}

bool check_request(std::span<const std::uint8_t> bytes) {
    if (bytes.empty()) {
        return false;
    }
    // Where operator new puts it, as in an inbox.
    std::vector<std::byte> frame(bytes.size() - 1);
    std::transform(bytes.begin() + 1, bytes.end(), frame.begin(),
                   [](std::uint8_t value) { return std::byte{value}; });
    const protocol::Decoded decoded = protocol::decode(frame);
    require((decoded.frame != nullptr) == (decoded.fault == protocol::Fault::kNone),
            "a frame or a fault");
    if (decoded.frame == nullptr) {
        require(std::strlen(protocol::fault_text(decoded.fault)) > 0, "a fault has words");
        return false;
    }
    (void)test::read_every_field(*decoded.frame);
    UniqueFd fd = descriptor(bytes[0], frame);
    try {
        const ipc::Limits known = limits();
        const ipc::Command command = ipc::dispatch(*decoded.frame, fd, known);
        const bool violates = std::holds_alternative<ipc::Violation>(command);
        require(violates || !fd, "what came with a request is taken");
        std::visit(Check(known), command);
        return !violates;
    } catch (const std::exception& error) {
        (void)std::fprintf(stderr, "%s\n", error.what());
        require(false, "nothing is thrown");
    }
    return false;
}

std::vector<std::vector<std::uint8_t>> request_seeds() {
    std::vector<std::vector<std::uint8_t>> seeds;
    for (const auto& [type, make] : test::wire_samples()) {
        seeds.push_back(pack_request(0, make(3).bytes));
    }
    // Media in a descriptor of their own.
    constexpr std::uint8_t kBytes = 40;
    protocol::Encoder encoder;
    auto& builder = encoder.builder();
    const auto data = encoder.put_memfd(UniqueFd(), kBytes);
    const auto input = wire::CreateMedia(builder, wire::MediaKind::gray8, 0, kBytes, 8, 5, 8);
    const auto inputs = builder.CreateVector(&input, 1);
    const auto request =
        wire::CreateEncodeRequest(builder, 0, wire::EncodeOutput::embedding, inputs, data);
    seeds.push_back(pack_request(kBytes, encoder.finish(7, request).bytes));
    return seeds;
}

}  // namespace m4::fuzz
