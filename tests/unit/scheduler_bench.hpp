// SPDX-License-Identifier: MIT
#pragma once

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fake_backend.hpp"
#include "sched/core.hpp"

namespace m4::test {

/// A core with clients 1, 2, ... (uid 1000 + number) and what came back.
class Bench {
   public:
    explicit Bench(FakeOptions options = {}, const sched::Limits& limits = {})
        : backend(std::move(options)), core(backend, text, limits) {
        for (sched::ClientId id = 1; id <= 4; ++id) {
            core.client_joined({id, static_cast<uid_t>(1000 + id), 10, "bench"});
        }
    }

    FakeBackend backend;
    ByteText text;
    sched::Core core;

    /// Submit and return the request's id.
    sched::RequestId ask(sched::ClientId client, sched::Request what) {
        const sched::RequestId request = ++last_request_;
        core.submit(client, request, std::move(what), sched::Clock::now());
        collect();
        return request;
    }

    /// A session that holds `prompt`.
    sched::SessionId session(sched::ClientId client, std::string_view prompt,
                             std::uint32_t capacity = 0) {
        const auto made = ask(client, sched::CreateSession{capacity});
        const auto id = only<sched::SessionState>(made).session;
        if (!prompt.empty()) {
            (void)only<sched::SessionState>(
                ask(client, sched::AppendTokens{id, text.encode(prompt, false)}));
        }
        return id;
    }

    sched::RequestId generate(sched::ClientId client, sched::SessionId session,
                              std::uint32_t max_tokens, std::vector<std::string> stop = {}) {
        sched::Generate what;
        what.session = session;
        what.max_tokens = max_tokens;
        what.stop = std::move(stop);
        return ask(client, std::move(what));
    }

    bool step() {
        const bool ran = core.step();
        collect();
        return ran;
    }

    void run() {
        while (step()) {
        }
    }

    /// Everything that came for a request.
    std::vector<sched::Outcome>& of(sched::RequestId request) { return outcomes_[request]; }

    /// Its single outcome.
    template <typename T>
    T only(sched::RequestId request) {
        REQUIRE(of(request).size() == 1);
        REQUIRE(std::holds_alternative<T>(of(request).front()));
        return std::get<T>(of(request).front());
    }

    std::string text_of(sched::RequestId request) {
        std::string all;
        for (const auto& outcome : of(request)) {
            if (const auto* piece = std::get_if<sched::Piece>(&outcome)) {
                all += piece->text;
            } else if (const auto* done = std::get_if<sched::GenerateFinished>(&outcome)) {
                all += done->rest.text;
            }
        }
        return all;
    }

    std::vector<std::uint32_t> ids_of(sched::RequestId request) {
        std::vector<std::uint32_t> all;
        for (const auto& outcome : of(request)) {
            if (const auto* piece = std::get_if<sched::Piece>(&outcome)) {
                all.insert(all.end(), piece->ids.begin(), piece->ids.end());
            } else if (const auto* done = std::get_if<sched::GenerateFinished>(&outcome)) {
                all.insert(all.end(), done->rest.ids.begin(), done->rest.ids.end());
            }
        }
        return all;
    }

    const sched::GenerateFinished* finished(sched::RequestId request) {
        return of(request).empty() ? nullptr
                                   : std::get_if<sched::GenerateFinished>(&of(request).back());
    }

    m4_finish finish_of(sched::RequestId request) {
        const sched::GenerateFinished* done = finished(request);
        return done == nullptr ? M4_FINISH_NONE : done->finish;
    }

    std::uint64_t charged(sched::ClientId client) { return charged_[client]; }
    void read_all(sched::ClientId client) {
        core.delivered(client, std::exchange(charged_[client], 0));
    }

   private:
    void collect() {
        for (sched::Completion& completion : std::exchange(core.completions(), {})) {
            charged_[completion.client] += completion.charged_bytes;
            outcomes_[completion.request].push_back(std::move(completion.outcome));
        }
    }

    sched::RequestId last_request_ = 0;
    std::map<sched::RequestId, std::vector<sched::Outcome>> outcomes_;
    std::map<sched::ClientId, std::uint64_t> charged_;
};

}  // namespace m4::test
