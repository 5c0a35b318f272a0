// SPDX-License-Identifier: MIT
// The image store when the process dies between any two of its changes, and in
// which order the changes reach the disk.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <set>

#include "signed_images.hpp"
#include "store/store.hpp"
#include "temp_folder.hpp"

using namespace m4::test;
using m4::store::Disk;
using m4::store::FirmwareStore;
namespace fs = std::filesystem;

namespace {

struct Sources {
    TempFolder temp;
    std::string one = write_signed_image(temp / "one", "1");
    std::string two = write_signed_image(temp / "two", "2");
};

const Sources& sources() {
    static const Sources made;
    return made;
}

std::string id_of(const std::string& digest) {
    return digest.substr(0, 16);
}

/// A store with image one, current.
void stock(const fs::path& root) {
    FirmwareStore store(root, "tiny");
    store.lock();
    store.stage(sources().temp / "one");
    store.activate(id_of(sources().one));
}

using Operation = std::function<void(FirmwareStore&)>;

/// Runs the operation in a process that is killed before its change number
/// `stop`; false: it ended before there were so many.
bool killed_at(const fs::path& root, int stop, const Operation& operation) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        int seen = 0;
        const Disk disk([&](std::string_view, const fs::path&) {
            if (seen++ == stop) {
                (void)::kill(::getpid(), SIGKILL);
            }
        });
        try {
            FirmwareStore store(root, "tiny", disk);
            store.lock();
            operation(store);
        } catch (const std::exception&) {
            ::_exit(1);
        }
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) {
        CHECK(WTERMSIG(status) == SIGKILL);
        return true;
    }
    CHECK(WEXITSTATUS(status) == 0);
    return false;
}

/// Every link names a whole image, and everything called by an id is one.
/// Returns the digest that the store's link names.
std::string check_whole(const fs::path& root) {
    FirmwareStore store(root, "tiny");
    std::set<std::string> ids;
    for (const auto& image : store.list()) {
        CHECK(image.damage.empty());
        CHECK_NOTHROW((void)m4::firmware::MappedImage::open_folder(image.folder));
        ids.insert(image.id);
    }
    const auto previous = store.links().previous;
    CHECK((previous.empty() || ids.contains(previous)));
    const auto current = m4::firmware::MappedImage::open_folder(root / "tiny");
    return m4::firmware::to_hex(current.image().digest());
}

/// Kills the operation before each of its changes in turn, in a fresh copy of
/// `before` each time; `check` looks at what is left. Returns how many there are.
int kill_everywhere(const fs::path& before, const Operation& operation,
                    const std::function<void(const fs::path&)>& check) {
    for (int stop = 0; stop < 100; ++stop) {
        const TempFolder temp;
        const fs::path root = temp / "m4";
        fs::copy(before, root, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
        const bool killed = killed_at(root, stop, operation);
        CAPTURE(stop);
        check(root);
        // The next one finds nothing in its way, and sweeps.
        CHECK_FALSE(killed_at(root, 1000, [](FirmwareStore& store) {
            store.stage(sources().temp / "two");
            store.activate(id_of(sources().two));
        }));
        CHECK(check_whole(root) == sources().two);
        for (const auto& entry : fs::directory_iterator(root / ".images/tiny")) {
            const std::string name = entry.path().filename().string();
            CHECK((name == ".lock" || !name.starts_with('.')));
        }
        if (!killed) {
            return stop;
        }
    }
    FAIL("never ends");
    return 0;
}

}  // namespace

TEST_CASE("store: killed before any step of stage, the current image stays") {
    const TempFolder temp;
    stock(temp / "m4");
    const int steps = kill_everywhere(
        temp / "m4", [](FirmwareStore& store) { store.stage(sources().temp / "two"); },
        [](const fs::path& root) { CHECK(check_whole(root) == sources().one); });
    CHECK(steps > 12);
}

TEST_CASE("store: killed before any step of activate, the old image or the new one") {
    const TempFolder temp;
    stock(temp / "m4");
    FirmwareStore(temp / "m4", "tiny").lock();
    {
        FirmwareStore store(temp / "m4", "tiny");
        store.lock();
        store.stage(sources().temp / "two");
    }
    std::map<std::string, int> seen;
    const int steps = kill_everywhere(
        temp / "m4", [](FirmwareStore& store) { store.activate(id_of(sources().two)); },
        [&](const fs::path& root) {
            const std::string current = check_whole(root);
            CHECK((current == sources().one || current == sources().two));
            if (current == sources().two) {  // then the way back is known
                CHECK(FirmwareStore(root, "tiny").links().previous == id_of(sources().one));
            }
            ++seen[current];
        });
    CHECK(steps > 6);
    CHECK(seen.size() == 2);
}

TEST_CASE("store: killed before any step of going back") {
    const TempFolder temp;
    stock(temp / "m4");
    {
        FirmwareStore store(temp / "m4", "tiny");
        store.lock();
        store.stage(sources().temp / "two");
        store.activate(id_of(sources().two));
    }
    kill_everywhere(
        temp / "m4",
        [](FirmwareStore& store) {
            store.restore({id_of(sources().one), ""});
        },
        [](const fs::path& root) {
            const std::string current = check_whole(root);
            CHECK((current == sources().one || current == sources().two));
        });
}

TEST_CASE("store: killed before any step of adopt or remove") {
    const TempFolder temp;
    fs::create_directory(temp / "m4");
    fs::copy(sources().temp / "one", temp / "m4/tiny");
    kill_everywhere(
        temp / "m4", [](FirmwareStore& store) { store.adopt(); },
        [](const fs::path& root) {
            const auto found = m4::firmware::MappedImage::open_folder(root / "tiny");
            CHECK(m4::firmware::to_hex(found.image().digest()) == sources().one);
            if (!fs::is_symlink(root / "tiny")) {
                FirmwareStore store(root, "tiny");
                store.lock();
                store.adopt();
            }
            CHECK(check_whole(root) == sources().one);
        });

    const TempFolder other;
    stock(other / "m4");
    {
        FirmwareStore store(other / "m4", "tiny");
        store.lock();
        store.stage(sources().temp / "two");
    }
    kill_everywhere(
        other / "m4", [](FirmwareStore& store) { store.remove(id_of(sources().two)); },
        [](const fs::path& root) { CHECK(check_whole(root) == sources().one); });
}

TEST_CASE("store: nothing gets its name before it is on the disk") {
    const TempFolder temp;
    std::set<fs::path> not_synced;  // files and folders with changes that may be lost
    std::vector<std::string> renames;
    const Disk disk([&](std::string_view change, const fs::path& path) {
        CAPTURE(std::string(change));
        CAPTURE(path);
        if (change == "create file" || change == "write") {
            not_synced.insert(path);
            not_synced.insert(path.parent_path());
        } else if (change == "sync file" || change == "sync folder") {
            not_synced.erase(path);
        } else if (change == "rename") {
            // All that was written is in the folder which now gets its name.
            CHECK(not_synced.size() <= 1);
            CHECK((not_synced.empty() || *not_synced.begin() == path.parent_path()));
            renames.push_back(path.filename().string());
            not_synced.insert(path.parent_path());
        } else if (change == "point link") {
            CHECK(not_synced.empty());  // what the link will name, and the link before it
            renames.push_back(path.filename().string());
            not_synced.insert(path.parent_path());
        } else if (change == "make folder" || change == "link") {
            // of a name that begins with a dot, or synced by lock()
        }
    });
    const std::string one = id_of(sources().one);
    const std::string two = id_of(sources().two);
    {
        FirmwareStore store(temp / "m4", "tiny", disk);
        store.lock();
        store.stage(sources().temp / "one");
        CHECK(not_synced.empty());
        store.activate(one);
        CHECK(not_synced.empty());
        store.stage(sources().temp / "two");
        store.activate(two);
        CHECK(not_synced.empty());
        store.restore({one, ""});
    }
    CHECK(renames == std::vector<std::string>{one, "tiny", two, "previous", "tiny", "tiny"});
}
