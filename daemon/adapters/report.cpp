// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <algorithm>
#include <stdexcept>

#include "adapters/adapter.hpp"

namespace m4::adapters {

namespace {

using protocol::span_of;
using protocol::text_of;

/// It is shown in logs and on terminals.
std::string printable(const flatbuffers::String* given) {
    std::string text(text_of(given));
    std::replace_if(
        text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; }, '?');
    return text;
}

firmware::Digest digest_of(const flatbuffers::Vector<std::uint8_t>* bytes) {
    firmware::Digest digest{};
    const auto given = span_of(bytes);
    if (given.size() == digest.size()) {
        std::copy(given.begin(), given.end(), digest.begin());
    }
    return digest;
}

}  // namespace

protocol::Packet report_packet(std::uint64_t request, const Report& report) {
    protocol::Encoder encoder;
    auto& builder = encoder.builder();
    const auto digest = [&](const firmware::Digest& bytes) {
        return firmware::is_set(bytes) ? builder.CreateVector(bytes.data(), bytes.size())
                                       : flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>>{};
    };
    const auto text = [&](const std::string& value) { return builder.CreateString(value); };
    const auto own = digest(report.digest);
    const auto reason = text(report.reason);
    const auto name = text(report.name);
    const auto task = text(report.task);
    const auto prompt = text(report.prompt_template);
    const auto base_name = text(report.base_name);
    const auto architecture = text(report.architecture);
    const auto source = text(report.source);
    const auto base = digest(report.base);
    const auto present = digest(report.present);
    const auto probed = digest(report.probed);
    const auto image = digest(report.image);
    const auto part = text(report.part);
    const auto unmatched = builder.CreateVectorOfStrings(report.unmatched);
    wire::AdapterReplyBuilder reply(builder);
    reply.add_digest(own);
    reply.add_accepted(report.accepted);
    reply.add_kept(report.kept);
    reply.add_reason(reason);
    reply.add_name(name);
    reply.add_task(task);
    reply.add_prompt_template(prompt);
    reply.add_base_name(base_name);
    reply.add_architecture(architecture);
    reply.add_source(source);
    reply.add_base(base);
    reply.add_present(present);
    reply.add_probed(probed);
    reply.add_image(image);
    reply.add_part(part);
    reply.add_pairs(report.pairs);
    reply.add_matched(report.matched);
    reply.add_acting(report.acting);
    reply.add_rank(report.rank);
    reply.add_labels(report.labels);
    reply.add_head(report.head);
    reply.add_bytes(report.bytes);
    reply.add_device_bytes(report.device_bytes);
    reply.add_unmatched(unmatched);
    return encoder.finish(request, reply.Finish());
}

Report parse_report(std::span<const std::byte> packet) {
    // Aligned as decode() wants it.
    const std::vector<std::byte> bytes(packet.begin(), packet.end());
    const protocol::Decoded decoded = protocol::decode(bytes);
    if (decoded.fault != protocol::Fault::kNone ||
        decoded.frame->body_as_AdapterReply() == nullptr) {
        throw std::runtime_error("the check gave no report");
    }
    const wire::AdapterReply& reply = *decoded.frame->body_as_AdapterReply();
    Report report;
    report.digest = digest_of(reply.digest());
    report.accepted = reply.accepted();
    report.reason = printable(reply.reason());
    report.name = printable(reply.name());
    report.task = printable(reply.task());
    report.prompt_template = text_of(reply.prompt_template());
    report.base_name = printable(reply.base_name());
    report.architecture = printable(reply.architecture());
    report.source = printable(reply.source());
    report.base = digest_of(reply.base());
    report.present = digest_of(reply.present());
    report.probed = digest_of(reply.probed());
    report.image = digest_of(reply.image());
    report.part = printable(reply.part());
    report.pairs = reply.pairs();
    report.matched = reply.matched();
    report.acting = reply.acting();
    report.rank = reply.rank();
    report.labels = reply.labels();
    report.head = reply.head();
    report.bytes = reply.bytes();
    report.device_bytes = reply.device_bytes();
    if (reply.unmatched() != nullptr) {
        for (const flatbuffers::String* one : *reply.unmatched()) {
            report.unmatched.push_back(printable(one));
        }
    }
    return report;
}

}  // namespace m4::adapters
