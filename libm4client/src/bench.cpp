// SPDX-License-Identifier: MIT
#include <cmath>

#include "boundary.hpp"
#include "options.hpp"
#include "text.hpp"

using namespace m4::client;
namespace wire = m4::wire;
using m4::protocol::Encoder;
using m4::protocol::text_of;

namespace {

/// What the caller gets, with the memory its pointer leads to.
struct OwnedBench : m4_bench {
    std::vector<m4_bench_kernel> owned_kernels;
};

m4_bench_kernel kernel_of(const wire::BenchKernel& from) {
    m4_bench_kernel kernel = {};
    copy_text(kernel.name, text_of(from.name()));
    copy_text(kernel.operators, text_of(from.operators()));
    kernel.dispatches = from.dispatches();
    kernel.time_us = from.time_us();
    return kernel;
}

std::unique_ptr<OwnedBench> bench_of(const wire::BenchReply& reply) {
    auto bench = std::make_unique<OwnedBench>();
    bench->size = sizeof(m4_bench);
    bench->context = reply.context();
    bench->tokens = reply.tokens();
    bench->passes = reply.passes();
    bench->prefill = reply.prefill();
    bench->token_us = reply.token_us();
    bench->prefill_us = reply.prefill_us();
    bench->step_bytes = reply.step_bytes();
    bench->copy_bytes = reply.copy_bytes();
    bench->copy_us = reply.copy_us();
    bench->timestamps = reply.timestamps() ? 1 : 0;
    bench->cut_short = reply.cut_short() ? 1 : 0;
    const auto* kernels = reply.kernels();
    for (flatbuffers::uoffset_t i = 0; kernels != nullptr && i < kernels->size(); ++i) {
        bench->owned_kernels.push_back(kernel_of(*kernels->Get(i)));
    }
    bench->kernel_count = bench->owned_kernels.size();
    bench->kernels = bench->owned_kernels.data();
    return bench;
}

/// Callers divide by these.
bool has_times(const wire::BenchReply& reply) {
    const auto good = [](double us) { return std::isfinite(us) && us > 0; };
    return good(reply.token_us()) && good(reply.prefill_us()) &&
           (reply.copy_bytes() == 0 || good(reply.copy_us()));
}

}  // namespace

int m4_bench_run(m4_client* client, const struct m4_bench_options* options,
                 struct m4_bench** bench) {
    return guarded(client, [&] {
        const m4_bench_options known = read_options(options, "m4_bench_options");
        check_pointer(bench, "bench");
        Connection& connection = *client->connection;
        connection.require_minor(m4::protocol::kMinorOfBench, "m4_bench_run");
        const Deadline deadline = connection.deadline();
        const std::uint64_t id = connection.next_id();
        Encoder encoder;
        connection.send(
            encoder.finish(id, wire::CreateBenchRequest(encoder.builder(), known.context,
                                                        known.tokens, known.prefill)),
            deadline);
        for (;;) {
            const wire::Frame& frame = connection.await(id, deadline);
            const auto* progress = frame.body_as_BenchProgress();
            if (progress == nullptr) {
                const auto& reply = connection.reply_as<wire::BenchReply>(frame);
                if (!has_times(reply)) {
                    connection.fail(M4_E_PROTOCOL, "the service sent a bench without times");
                }
                *bench = bench_of(reply).release();
                return M4_OK;
            }
            if (known.progress != nullptr) {
                known.progress(std::min(progress->percent(), 100U), known.user);
            }
        }
    });
}

void m4_bench_free(struct m4_bench* bench) {
    delete static_cast<OwnedBench*>(bench);
}
