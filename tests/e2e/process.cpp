// SPDX-License-Identifier: MIT
#include "process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "skip.hpp"

namespace m4::test {
namespace {

std::string slurp(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// Only async-signal-safe calls after fork.
[[noreturn]] void exec_child(char* const* argv, char* const* environment, const char* in,
                             const char* out, const char* err) {
    const int in_fd = open(in, O_RDONLY);
    const int out_fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err_fd = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in_fd < 0 || out_fd < 0 || err_fd < 0) {
        _exit(127);
    }
    dup2(in_fd, 0);
    dup2(out_fd, 1);
    dup2(err_fd, 2);
    for (int fd = 3; fd < 1024; ++fd) {
        close(fd);
    }
    execvpe(argv[0], argv, environment);
    _exit(127);
}

pid_t spawn(const std::vector<std::string>& argv, const std::vector<std::string>& extra,
            const std::string& in, const std::string& out, const std::string& err) {
    std::vector<char*> args;
    args.reserve(argv.size() + 1);
    for (const auto& arg : argv) {
        args.push_back(const_cast<char*>(arg.c_str()));
    }
    args.push_back(nullptr);
    std::vector<char*> environment;
    for (const auto& variable : extra) {  // the first of two wins
        environment.push_back(const_cast<char*>(variable.c_str()));
    }
    for (char** variable = environ; *variable != nullptr; ++variable) {
        environment.push_back(*variable);
    }
    environment.push_back(nullptr);
    const pid_t pid = fork();
    if (pid == 0) {
        exec_child(args.data(), environment.data(), in.c_str(), out.c_str(), err.c_str());
    }
    if (pid < 0) {
        throw std::runtime_error("fork failed");
    }
    return pid;
}

std::atomic<unsigned> sequence{0};

}  // namespace

Process::Process(const std::vector<std::string>& argv, const std::filesystem::path& scratch,
                 const std::vector<std::string>& environment) {
    const std::string stem = "process-" + std::to_string(sequence++);
    out_ = scratch / (stem + ".out");
    err_ = scratch / (stem + ".err");
    pid_ = spawn(argv, environment, "/dev/null", out_.string(), err_.string());
}

Process::~Process() {
    if (!reaped_) {
        kill(pid_, SIGKILL);
        int status = 0;
        waitpid(pid_, &status, 0);
    }
}

bool Process::running() {
    if (reaped_) {
        return false;
    }
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
        reaped_ = true;
        status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return !reaped_;
}

void Process::signal(int number) const {
    kill(pid_, number);
}

Finished Process::wait(std::chrono::seconds limit) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (running()) {
        if (std::chrono::steady_clock::now() > end) {
            throw std::runtime_error("still running after " + std::to_string(limit.count()) +
                                     " s: " + err());
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));  // pace of the poll only
    }
    return {status_, slurp(out_), slurp(err_)};
}

std::string Process::err() const {
    return slurp(err_);
}

Finished run(const std::vector<std::string>& argv, const std::string& input,
             const std::vector<std::string>& environment) {
    const Scratch scratch;
    const auto in = scratch / "in";
    std::ofstream(in, std::ios::binary) << input;
    const auto out = scratch / "out";
    const auto err = scratch / "err";
    const pid_t pid = spawn(argv, environment, in.string(), out.string(), err.string());
    int status = 0;
    waitpid(pid, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(out),
            slurp(err)};
}

Scratch::Scratch() {
    std::string pattern = (std::filesystem::temp_directory_path() / "m4-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) {
        throw std::runtime_error("no temporary folder: " + pattern);
    }
    path_ = pattern;
}

Scratch::~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

std::string binary(const std::string& name) {
    return build_root() + "/bin/" + name;
}

bool have_vulkan_driver() {
    for (const char* folder : {"/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"}) {
        std::error_code ignored;
        for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
            if (entry.path().extension() == ".json") {
                return true;
            }
        }
    }
    return std::getenv("VK_DRIVER_FILES") != nullptr || std::getenv("VK_ICD_FILENAMES") != nullptr;
}

}  // namespace m4::test
