// SPDX-License-Identifier: MIT
#pragma once

#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "connection.hpp"
#include "error.hpp"
#include "m4client.h"

// The handles of the C API, and the fence between C and C++.

struct m4_client {
    std::shared_ptr<m4::client::Connection> connection;
};

struct m4_session {
    std::shared_ptr<m4::client::Connection> connection;
    std::uint64_t id = 0;
    /// The latest generation; null before the first.
    std::shared_ptr<m4::client::StreamState> stream;
};

struct m4_stream {
    std::shared_ptr<m4::client::Connection> connection;
    std::shared_ptr<m4::client::StreamState> state;
};

namespace m4::client {

struct FreeMemory {
    void operator()(void* memory) const noexcept { std::free(memory); }
};

/// An array the caller will own and release with m4_free().
template <typename T>
using CallerArray = std::unique_ptr<T[], FreeMemory>;

/// Never null, also for none.
template <typename T>
[[nodiscard]] CallerArray<T> caller_array(std::size_t count) {
    void* memory = std::calloc(count == 0 ? 1 : count, sizeof(T));
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return CallerArray<T>(static_cast<T*>(memory));
}

/// Runs the body of one C function: no exception leaves, and `last` keeps the
/// words of a failure.
template <typename Body>
[[nodiscard]] int guard(LastError& last, Body&& body) noexcept {
    const auto failed = [&last](int code, const char* words, std::uint32_t retry_ms = 0) {
        last.keep(code, words, retry_ms);
        return code;
    };
    try {
        return std::forward<Body>(body)();
    } catch (const Error& error) {
        return failed(error.code(), error.what(), error.retry_after_ms());
    } catch (const std::bad_alloc&) {
        return failed(M4_E_NO_MEMORY, "out of memory");
    } catch (const std::length_error& error) {
        return failed(M4_E_TOO_LARGE, error.what());
    } catch (const std::system_error& error) {
        return failed(M4_E_SYSTEM, error.what());
    } catch (const std::exception& error) {
        return failed(M4_E_INTERNAL, error.what());
    } catch (...) {
        return failed(M4_E_INTERNAL, "unknown exception");
    }
}

/// The same for a function on a client, a session or a stream.
template <typename Handle, typename Body>
[[nodiscard]] int guarded(const Handle* handle, Body&& body) noexcept {
    if (handle == nullptr) {
        return M4_E_INVALID;
    }
    return guard(handle->connection->last_error, std::forward<Body>(body));
}

/// No change of a context while the app reads a stream of it (M4_E_BUSY); a
/// stream it closed early is waited for, so that what follows meets a quiet
/// session.
void require_idle(const m4_session& session);

/// An output pointer must be there.
inline void check_pointer(const void* pointer, const char* name) {
    if (pointer == nullptr) {
        throw invalid(std::string(name) + " is NULL");
    }
}

}  // namespace m4::client
