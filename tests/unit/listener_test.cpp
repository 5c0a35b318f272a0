// SPDX-License-Identifier: MIT
// The listening socket: whose it is, and what becomes of its file.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>

#include "ipc/listener.hpp"
#include "service_bench.hpp"

using namespace m4;
using ipc::Listener;

namespace {

/// Binds and forgets: the file stays, nobody serves it.
void leave_dead_socket(const std::filesystem::path& path) {
    const UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.native().size());
    REQUIRE(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
}

}  // namespace

TEST_CASE("a bound socket is for its group and goes with the listener") {
    const test::TempFolder folder;
    const auto path = folder.path() / "a.sock";
    const mode_t before = umask(0077);
    {
        const Listener listener = Listener::bind(path);
        struct stat info {};
        REQUIRE(stat(path.c_str(), &info) == 0);
        CHECK((info.st_mode & 07777) == 0660);
        CHECK(S_ISSOCK(info.st_mode));
        CHECK(!listener.accept().has_value());
    }
    umask(before);
    CHECK(!std::filesystem::exists(path));
}

TEST_CASE("a live socket is not stolen, a dead one is replaced") {
    const test::TempFolder folder;
    const auto path = folder.path() / "a.sock";
    leave_dead_socket(path);
    const Listener first = Listener::bind(path);
    CHECK_THROWS_AS((void)Listener::bind(path), std::runtime_error);
    CHECK(std::filesystem::is_socket(path));
}

TEST_CASE("what is no socket stays") {
    const test::TempFolder folder;
    const auto path = folder.path() / "a.sock";
    std::ofstream(path) << "precious";
    CHECK_THROWS_AS((void)Listener::bind(path), std::runtime_error);
    CHECK(std::filesystem::file_size(path) == 8);
    CHECK_THROWS((void)Listener::bind(folder.path() / "none" / "a.sock"));
    CHECK_THROWS_AS((void)Listener::bind(folder.path() / std::string(120, 'x')),
                    std::runtime_error);
}

TEST_CASE("the file may be left to another process, and taken from it") {
    const test::TempFolder folder;
    const auto path = folder.path() / "a.sock";
    {
        Listener bound = Listener::bind(path);
        CHECK(bound.owns_file());
        {
            Listener adopted = Listener::adopt(dup(bound.fd()));
            CHECK_FALSE(adopted.owns_file());
        }
        CHECK(std::filesystem::is_socket(path));
        bound.leave_file();
        Listener successor = Listener::adopt(dup(bound.fd()));
        successor.take_file(folder.path() / "b.sock");  // not where it is bound
        CHECK_FALSE(successor.owns_file());
        successor.take_file(path);
        CHECK(successor.owns_file());
    }
    CHECK(!std::filesystem::exists(path));
}

TEST_CASE("the file of another is not removed") {
    const test::TempFolder folder;
    const auto path = folder.path() / "a.sock";
    {
        const Listener listener = Listener::bind(path);
        std::filesystem::remove(path);
        leave_dead_socket(path);
    }
    CHECK(std::filesystem::is_socket(path));
}

TEST_CASE("only a listening seqpacket socket is adopted") {
    const test::TempFolder folder;
    CHECK_THROWS_AS((void)Listener::adopt(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)),
                    std::runtime_error);
    const auto path = folder.path() / "a.sock";
    {
        const Listener bound = Listener::bind(path);
        const Listener adopted = Listener::adopt(dup(bound.fd()));
        CHECK(adopted.fd() != bound.fd());
    }
    CHECK(!std::filesystem::exists(path));
}
