// SPDX-License-Identifier: MIT
// Adapters: brought, checked in a process of their own, named by digest, let go.
#include <m4client.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "adapters/adapter.hpp"
#include "ipc/server.hpp"

namespace m4::ipc {

namespace {

/// What the worker made of a file.
struct Checked {
    adapters::Report report;
    std::shared_ptr<const sched::AdapterSource> source;  ///< where it is accepted
    bool keep = false;
};

constexpr std::size_t kNamedDigits = 12;

std::string short_name(const sched::AdapterDigest& digest) {
    return firmware::to_hex(digest).substr(0, kNamedDigits);
}

sched::AdapterChoice* choice_of(sched::Request& typed) {
    if (auto* create = std::get_if<sched::CreateSession>(&typed)) {
        return &create->adapter;
    }
    if (auto* generate = std::get_if<sched::Generate>(&typed)) {
        return &generate->adapter;
    }
    if (auto* score = std::get_if<sched::Score>(&typed)) {
        return &score->adapter;
    }
    return nullptr;
}

}  // namespace

adapters::Store::User Server::user_of(const Connection& connection) const {
    std::uint64_t now_us = 0;
    check(sd_event_now(parts_.loop, CLOCK_BOOTTIME, &now_us), "sd_event_now");
    return {connection.peer().uid, connection.id(), now_us / 1'000'000};
}

bool Server::find_adapter(Connection& connection, sched::RequestId request, sched::Request& typed) {
    sched::AdapterChoice* choice = choice_of(typed);
    if (choice == nullptr || !choice->digest || !firmware::is_set(*choice->digest)) {
        return true;
    }
    choice->source = adapters_.find(user_of(connection), *choice->digest);
    if (choice->source == nullptr) {
        connection.send(error_packet(request, M4_E_NOT_FOUND,
                                     "no adapter " + short_name(*choice->digest) +
                                         " is yours or published: add it first",
                                     0),
                        0);
        return false;
    }
    return true;
}

void Server::perform(Connection& connection, sched::RequestId request, AddAdapter& add) {
    if (refused(connection, request, true)) {
        return;
    }
    if (!parts_.check_adapter) {
        connection.send(
            error_packet(request, M4_E_UNSUPPORTED, "this service takes no adapters", 0), 0);
        return;
    }
    connection.begin(request);
    wait_for_worker(connection, request, std::nullopt);
    const auto job = [check = parts_.check_adapter, image = parts_.image,
                      add = std::move(add)]() -> sched::Outcome {
        // A copy of ours: what is checked is what is used.
        const auto file = std::make_shared<const adapters::File>(add.file->bytes());
        auto checked = std::make_shared<Checked>();
        const adapters::Verdict verdict = check(*file);
        checked->report = verdict.report;
        checked->keep = add.keep;
        if (checked->report.accepted) {
            checked->source = adapters::open(file, *image, verdict);
        }
        return sched::AdapterChecked{std::move(checked)};
    };
    adapter_worker_.post(connection.id(), request, job);
}

void Server::adapter_checked(Connection& connection, sched::RequestId request,
                             const sched::AdapterChecked& checked) {
    const auto& result = *static_cast<const Checked*>(checked.result.get());
    adapters::Report report = result.report;
    if (report.accepted) {
        if (const auto refusal =
                adapters_.add(user_of(connection), report, result.source, result.keep)) {
            connection.finish(request);
            connection.send(error_packet(request, M4_E_QUOTA, *refusal, 0), 0);
            return;
        }
        report.kept = result.keep;
    }
    observe::log(observe::Level::info, "adapter %s of uid %u: %s%s",
                 short_name(report.digest).c_str(), connection.peer().uid,
                 report.accepted ? "" : "refused, ", report.reason.c_str());
    connection.finish(request);
    connection.send(adapters::report_packet(request, report), 0);
}

void Server::perform(Connection& connection, sched::RequestId request, ListAdapters& /*list*/) {
    const adapters::Store::User user = user_of(connection);
    connection.send(
        adapters_packet(request, adapters_.list(user), parts_.scheduler->snapshot(),
                        user.uid == 0 ? adapters_.bytes() : adapters_.bytes_of(user.uid),
                        adapters_.quota().bytes_per_uid),
        0);
}

void Server::perform(Connection& connection, sched::RequestId request, RemoveAdapter& remove) {
    if (adapters_.remove(user_of(connection), remove.digest)) {
        connection.send(ok_packet(request), 0);
        return;
    }
    connection.send(error_packet(request, M4_E_NOT_FOUND,
                                 "no adapter " + short_name(remove.digest) + " is yours", 0),
                    0);
}

void Server::perform(Connection& connection, sched::RequestId request, PublishAdapter& publish) {
    const uid_t uid = connection.peer().uid;
    if (uid != 0 && uid != ::getuid()) {
        connection.send(error_packet(request, M4_E_PERMISSION,
                                     "only root and the service's own user publish adapters", 0),
                        0);
    } else if (!adapters_.publish(publish.digest, publish.published)) {
        connection.send(error_packet(request, M4_E_NOT_FOUND,
                                     "no adapter " + short_name(publish.digest) + " is here", 0),
                        0);
    } else {
        connection.send(ok_packet(request), 0);
    }
}

void Server::perform(Connection& connection, sched::RequestId request, CollectAdapters& collect) {
    const auto removed = adapters_.collect(user_of(connection), collect.unused_s);
    connection.send(collected_packet(request, removed), 0);
}

}  // namespace m4::ipc
