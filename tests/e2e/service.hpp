// SPDX-License-Identifier: MIT
#pragma once

#include <m4client.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "process.hpp"
#include "skip.hpp"

namespace m4::test {

/// A private m4d on an image folder, ready to serve when constructed. Throws
/// with m4d's own words when it does not come up.
class Service {
   public:
    explicit Service(const std::filesystem::path& image, const std::vector<std::string>& extra = {},
                     const std::vector<std::string>& environment = {});

    [[nodiscard]] const std::string& socket() const { return socket_; }
    [[nodiscard]] Process& process() { return *process_; }
    /// m4ctl --socket <ours> ...; the exit code is asserted by the caller.
    [[nodiscard]] Finished ctl(const std::vector<std::string>& arguments,
                               const std::string& input = {}) const;
    /// m4ctl ... --json, parsed; a doctest failure when it exits non-zero.
    [[nodiscard]] nlohmann::json ctl_json(std::vector<std::string> arguments) const;
    /// Scratch folder that lives as long as the service.
    [[nodiscard]] const Scratch& scratch() const { return scratch_; }

   private:
    Scratch scratch_;
    std::string socket_;
    std::unique_ptr<Process> process_;
};

struct ClientCloser {
    void operator()(m4_client* client) const { m4_client_close(client); }
};
using Client = std::unique_ptr<m4_client, ClientCloser>;

struct SessionCloser {
    void operator()(m4_session* session) const { m4_session_close(session); }
};
using Session = std::unique_ptr<m4_session, SessionCloser>;

/// Throw std::runtime_error with the library's words on failure.
Client connect(const std::string& socket);
Session open_session(m4_client* client, std::uint32_t capacity = 0);

/// What a stream gave until its end.
struct Generated {
    std::string text;
    std::vector<std::uint32_t> ids;
    int finish = M4_FINISH_NONE;
    m4_usage usage{};
};
Generated generate(m4_session* session, const m4_generate_options& options);
Generated drain(m4_stream* stream);

/// "M4_E_...: message" of a client's last failure.
std::string last_error(const m4_client* client);

/// Pack a checkpoint (m4fw pack --from FROM) once per test run and binary.
std::filesystem::path packed(const std::filesystem::path& from, const std::string& stored);

/// The committed default image; empty where it has not been built.
std::filesystem::path nano_image();

}  // namespace m4::test

/// Ends a test case as skipped where the default image is absent.
#define NEEDS_NANO()                                        \
    if (m4::test::nano_image().empty()) {                   \
        M4_SKIP("firmware/nano/image is not in this tree"); \
    }
