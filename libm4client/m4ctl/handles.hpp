// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "m4client.h"

namespace m4ctl {

/// What a script sees; m4ctl(1) documents them.
enum ExitCode {
    kExitOk = 0,
    kExitFailed = 1,
    kExitUsage = 2,
    kExitUnavailable = 3,
    kExitRefused = 4,
    kExitInterrupted = 130,
};

/// Ends the command: main() prints the words as one line and exits.
class Failure : public std::runtime_error {
   public:
    Failure(ExitCode exit_code, const std::string& words)
        : std::runtime_error(words), exit_code_(exit_code) {}
    [[nodiscard]] ExitCode exit_code() const { return exit_code_; }

   private:
    ExitCode exit_code_;
};

/// "call: what errno says".
[[nodiscard]] Failure system_failure(const std::string& call);

/// Options that every command has.
struct Global {
    std::string socket;    // empty: the library's choice
    double timeout_s = 0;  // 0: none
    bool json = false;

    /// As the library takes it: 0 means no limit, so less than 1 ms is 1 ms.
    [[nodiscard]] int timeout_ms() const { return static_cast<int>(std::ceil(timeout_s * 1000)); }
};

template <auto function>
struct Closer {
    template <typename T>
    void operator()(T* handle) const {
        function(handle);
    }
};
using Client = std::unique_ptr<m4_client, Closer<m4_client_close>>;
using Session = std::unique_ptr<m4_session, Closer<m4_session_close>>;
using Stream = std::unique_ptr<m4_stream, Closer<m4_stream_close>>;
using Score = std::unique_ptr<m4_score, Closer<m4_score_free>>;
using BenchResult = std::unique_ptr<m4_bench, Closer<m4_bench_free>>;
template <typename T>
using Array = std::unique_ptr<T[], Closer<m4_free>>;

// In C++ the functions hide the structs of the same names.
using Status = struct m4_status;
using ModelInfo = struct m4_model_info;

/// The last failure of a client (null: of connecting) in words.
[[nodiscard]] std::string words_of(const m4_client* client, int code);

/// Throws the client's last failure when `code` is one.
void check(int code, const m4_client* client);

[[nodiscard]] Client connect(const Global& global);
/// `adapter` null: none.
[[nodiscard]] Session create_session(const Client& client, const m4_adapter_id* adapter);
[[nodiscard]] ModelInfo model_info(const Client& client);
[[nodiscard]] Status status(const Client& client);

[[nodiscard]] std::vector<uint32_t> tokenize(const Client& client, const std::string& text,
                                             bool add_special);
[[nodiscard]] std::string detokenize(const Client& client, const uint32_t* ids, size_t count);

}  // namespace m4ctl
