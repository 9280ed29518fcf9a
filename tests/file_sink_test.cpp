// Tests of the file sink: the old file or the new one stands under the name, whatever fails, whoever else writes.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cdna/sink.hpp"
#include "cdna/writer.hpp"
#include "fault_file_system.hpp"
#include "sample_file.hpp"

using namespace cdna;
namespace fs = std::filesystem;

namespace {

const std::string kOld = "the old file";
const std::string kNew = "the new file, in three parts, which is a good deal longer than the old one";
const std::string kLeftOver = ".x.cdna-tmp-0123456789abcdef";

// In memory where there is such a place: these tests sync thousands of times.
fs::path temporary_root() {
  const fs::path memory = "/dev/shm";
  return access(memory.c_str(), W_OK) == 0 ? memory : fs::temp_directory_path();
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = temporary_root() / "cdna-file-sink-XXXXXX";
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  std::string path(const std::string& name) const { return path_ / name; }
  std::string path() const { return path_; }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
  }
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(path_)) names.insert(entry.path().filename());
    return names;
  }
  // Of a regular file; nothing where there is none.
  std::optional<std::string> content(const std::string& name) const {
    if (!fs::exists(fs::symlink_status(path_ / name))) return std::nullopt;
    std::ifstream stream(path_ / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  }
  mode_t mode(const std::string& name) const {
    struct stat info {};
    REQUIRE(lstat((path_ / name).c_str(), &info) == 0);
    return info.st_mode & 07777;
  }

 private:
  fs::path path_;
};

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

// Creates, writes in three parts, commits.
Result<void> write_file(const std::string& path, const std::string& content, bool force,
                        FileSystem& file_system = posix_file_system()) {
  auto sink = create_file(path, {force, &file_system});
  if (!sink) return sink.error();
  const std::size_t third = content.size() / 3;
  for (const auto& part : {content.substr(0, third), content.substr(third, third), content.substr(2 * third)}) {
    if (auto result = (*sink)->write(bytes_of(part)); !result) return result;
  }
  return (*sink)->commit();
}

template <class T>
std::string why(const Result<T>& result) {
  return result ? "no error" : result.error().describe();
}

std::size_t open_descriptors() {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator("/proc/self/fd"), {}));
}

bool is_temporary(const std::string& name) {
  return name.size() == kLeftOver.size() && name.rfind(".x.cdna-tmp-", 0) == 0 &&
         name.find_first_not_of("0123456789abcdef", 12) == std::string::npos;
}

using Names = std::set<std::string>;

}  // namespace

TEST_CASE("file_sink: nothing appears under the name before commit, and the whole file does with it") {
  const TemporaryFolder folder;
  auto sink = create_file(folder.path("x"));
  INFO(why(sink));
  REQUIRE(sink);
  REQUIRE((*sink)->write(bytes_of(kNew)));
  CHECK(folder.names().empty());
  REQUIRE((*sink)->commit());
  CHECK(folder.content("x") == kNew);
  sink->reset();
  CHECK(folder.names() == Names{"x"});
}

TEST_CASE("file_sink: destroyed before commit it leaves nothing, and the old file as it was") {
  const TemporaryFolder folder;
  for (const bool named : {false, true}) {
    FaultFileSystem file_system;
    file_system.has_tmpfile = !named;
    {
      const auto sink = create_file(folder.path("new"), {false, &file_system});
      REQUIRE(sink);
      REQUIRE((*sink)->write(bytes_of(kNew)));
    }
    CHECK(folder.names().empty());
    folder.write("x", kOld);
    {
      const auto sink = create_file(folder.path("x"), {true, &file_system});
      REQUIRE(sink);
      REQUIRE((*sink)->write(bytes_of(kNew)));
      CHECK(folder.content("x") == kOld);
    }
    CHECK(folder.names() == Names{"x"});
    CHECK(folder.content("x") == kOld);
    fs::remove(folder.path("x"));
  }
}

TEST_CASE("file_sink: an existing destination of any kind is refused without force") {
  const TemporaryFolder folder;
  folder.write("file", kOld);
  fs::create_directory(folder.path("directory"));
  fs::create_symlink("file", folder.path("link"));
  fs::create_symlink("nowhere", folder.path("dangling"));
  REQUIRE(mkfifo(folder.path("fifo").c_str(), 0600) == 0);
  const Names before = folder.names();
  for (const char* const name : {"file", "directory", "link", "dangling", "fifo"}) {
    const auto result = write_file(folder.path(name), kNew, false);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Code::exists);
    CHECK(result.error().file == folder.path(name));
  }
  CHECK(folder.names() == before);
  CHECK(folder.content("file") == kOld);
}

TEST_CASE("file_sink: with force a file is replaced by another inode that has its mode bits") {
  const TemporaryFolder folder;
  for (const bool named : {false, true}) {
    for (const mode_t mode : {mode_t{0600}, mode_t{0640}, mode_t{0755}, mode_t{0444}}) {
      folder.write("x", kOld);
      REQUIRE(chmod(folder.path("x").c_str(), mode) == 0);
      std::ifstream reader(folder.path("x"), std::ios::binary);  // Whoever has the old file open keeps it.
      FaultFileSystem file_system;
      file_system.has_tmpfile = !named;
      const auto result = write_file(folder.path("x"), kNew, true, file_system);
      INFO(why(result));
      REQUIRE(result);
      CHECK(folder.content("x") == kNew);
      CHECK(folder.mode("x") == mode);
      CHECK(std::string(std::istreambuf_iterator<char>(reader), {}) == kOld);
      CHECK(folder.names() == Names{"x"});
      fs::remove(folder.path("x"));
    }
  }
}

TEST_CASE("file_sink: a new file has the mode that the umask gives") {
  const TemporaryFolder folder;
  const mode_t before = umask(027);
  REQUIRE(write_file(folder.path("x"), kNew, false));
  FaultFileSystem file_system;
  file_system.has_tmpfile = false;
  REQUIRE(write_file(folder.path("y"), kNew, true, file_system));
  umask(before);
  CHECK(folder.mode("x") == 0640);
  CHECK(folder.mode("y") == 0640);
}

TEST_CASE("file_sink: a symbolic link itself is replaced, not its target") {
  const TemporaryFolder folder;
  folder.write("target", kOld);
  fs::create_symlink("target", folder.path("link"));
  fs::create_symlink("nowhere", folder.path("dangling"));
  for (const char* const name : {"link", "dangling"}) {
    REQUIRE(write_file(folder.path(name), kNew, true));
    CHECK(fs::is_regular_file(fs::symlink_status(folder.path(name))));
    CHECK(folder.content(name) == kNew);
  }
  CHECK(folder.content("target") == kOld);
  CHECK_FALSE(folder.content("nowhere"));
}

TEST_CASE("file_sink: a directory, FIFO, socket or device is never replaced") {
  const TemporaryFolder folder;
  fs::create_directory(folder.path("directory"));
  REQUIRE(mkfifo(folder.path("fifo").c_str(), 0600) == 0);
  for (const std::string& path : {folder.path("directory"), folder.path("fifo"), std::string("/dev/null")}) {
    const auto result = write_file(path, kNew, true);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Code::bad_argument);
    CHECK(result.error().file == path);
  }
  CHECK(folder.names() == Names{"directory", "fifo"});
}

TEST_CASE("file_sink: a missing directory, a file in its place, and what is no file name are errors with the path") {
  const TemporaryFolder folder;
  folder.write("file", kOld);
  struct Case {
    std::string path;
    Code code;
    int os_errno;
  };
  for (const Case& c :
       {Case{folder.path("missing/x"), Code::io, ENOENT}, Case{folder.path("file/x"), Code::io, ENOTDIR},
        Case{folder.path(""), Code::bad_argument, 0}, Case{folder.path("."), Code::bad_argument, 0},
        Case{folder.path(".."), Code::bad_argument, 0}, Case{"", Code::bad_argument, 0},
        Case{folder.path(std::string(256, 'n')), Code::io, ENAMETOOLONG}}) {
    const auto result = write_file(c.path, kNew, true);
    INFO(c.path);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == c.code);
    CHECK(result.error().os_errno == c.os_errno);
    CHECK(result.error().file == c.path);
    if (!c.path.empty()) CHECK_THAT(result.error().describe(), Catch::Contains(c.path));
  }
  CHECK(folder.names() == Names{"file"});
}

TEST_CASE("file_sink: names of up to 255 bytes can be written and replaced, with and without O_TMPFILE") {
  const TemporaryFolder folder;
  const std::string name(255, 'n');
  for (const bool named : {false, true}) {
    FaultFileSystem file_system;
    file_system.has_tmpfile = !named;
    for (const bool force : {false, true}) {
      const auto result = write_file(folder.path(name), force ? kNew : kOld, force, file_system);
      INFO(why(result));
      CHECK(result.has_value());
    }
    CHECK(folder.content(name) == kNew);
    CHECK(folder.names() == Names{name});
    fs::remove(folder.path(name));
  }
}

TEST_CASE("file_sink: paths are relative to the current directory where they say so") {
  const TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::create_directory(folder.path("sub"));
  fs::current_path(folder.path());
  CHECK(write_file("x", kNew, false));
  CHECK(write_file("sub/y", kNew, false));
  CHECK(write_file("./z", kNew, false));
  fs::current_path(before);
  CHECK(folder.names() == Names{"sub", "x", "z"});
  CHECK(folder.content("sub/y") == kNew);
}

TEST_CASE("file_sink: the left-over of a dead writer goes with the next writer of that name, and only of that name") {
  const TemporaryFolder folder;
  const Names others{".y.cdna-tmp-0123456789abcdef", ".x.cdna-tmp-0123", ".x.cdna-tmp-0123456789abcdef0",
                     "x.cdna-tmp-0123456789abcdef"};
  for (const bool force : {false, true}) {
    folder.write(kLeftOver, kOld);
    for (const std::string& name : others) folder.write(name, kOld);
    REQUIRE(write_file(folder.path("x"), kNew, force));
    Names expected = others;
    expected.insert("x");
    CHECK(folder.names() == expected);
  }
}

TEST_CASE("file_sink: the temporary file of a live rival stays, and the last commit wins") {
  const TemporaryFolder folder;
  folder.write("x", kOld);
  FaultFileSystem file_system;
  file_system.has_tmpfile = false;
  auto slow = create_file(folder.path("x"), {true, &file_system});
  REQUIRE(slow);
  REQUIRE((*slow)->write(bytes_of(kNew)));
  REQUIRE(folder.names().size() == 2);
  CHECK(is_temporary(*folder.names().begin()));
  REQUIRE(write_file(folder.path("x"), "fast", true));
  REQUIRE(write_file(folder.path("x"), "fast", true, file_system));
  CHECK(folder.names().size() == 2);
  CHECK(folder.content("x") == "fast");
  REQUIRE((*slow)->commit());
  CHECK(folder.content("x") == kNew);
  CHECK(folder.names() == Names{"x"});
}

TEST_CASE("file_sink: a file that appears while a new name is written is replaced with force, else kept and reported") {
  for (const bool force : {false, true}) {
    for (const bool named : {false, true}) {
      const TemporaryFolder folder;
      FaultFileSystem file_system;
      file_system.has_tmpfile = !named;
      auto sink = create_file(folder.path("x"), {force, &file_system});
      REQUIRE(sink);
      REQUIRE((*sink)->write(bytes_of(kNew)));
      folder.write("x", "somebody else's");
      const auto result = (*sink)->commit();
      CHECK(result.has_value() == force);
      if (!result) CHECK(result.error().code == Code::exists);
      if (!result) CHECK(result.error().file == folder.path("x"));
      CHECK(folder.content("x") == (force ? kNew : "somebody else's"));
      CHECK(folder.names() == Names{"x"});
    }
  }
}

TEST_CASE("file_sink: a rival that comes between creating and locking a named temporary file does no harm") {
  for (const bool force : {false, true}) {
    const TemporaryFolder folder;
    if (force) folder.write("x", kOld);
    FaultFileSystem file_system;
    file_system.has_tmpfile = false;
    bool rival_came = false;
    file_system.after = [&](std::string_view call) {
      if (call != "openat(O_CREAT)" || rival_came) return;
      rival_came = true;
      // Opens, looks for left-overs, finds a file that nobody has locked yet, and gives up.
      const auto rival = create_file(folder.path("x"), {true, &posix_file_system()});
      CHECK(rival.has_value());
    };
    const auto result = write_file(folder.path("x"), kNew, force, file_system);
    INFO(why(result));
    CHECK(rival_came);
    CHECK(result.has_value());
    CHECK(folder.content("x") == kNew);
    CHECK(folder.names() == Names{"x"});
  }
}

namespace {

// One way in which a file is written.
struct Scenario {
  bool replacing = false;
  bool has_tmpfile = true;
  bool has_proc = true;
  bool left_over = false;
  bool has_hard_links = true;

  std::string describe() const {
    return std::string(replacing ? "replacing" : "new") + (has_tmpfile ? ", O_TMPFILE" : ", no O_TMPFILE") +
           (has_proc ? ", /proc" : ", no /proc") + (left_over ? ", left-over" : "") +
           (has_hard_links ? "" : ", no hard links");
  }
  void prepare(const TemporaryFolder& folder, FaultFileSystem& file_system) const {
    for (const std::string& name : folder.names()) fs::remove(folder.path(name));
    if (replacing) folder.write("x", kOld);
    if (left_over) folder.write(kLeftOver, kOld);
    file_system.has_tmpfile = has_tmpfile;
    file_system.has_proc = has_proc;
    file_system.has_hard_links = has_hard_links;
  }
};

std::vector<Scenario> all_scenarios() {
  std::vector<Scenario> scenarios;
  for (const bool replacing : {false, true}) {
    for (const bool has_tmpfile : {true, false}) {
      for (const bool has_proc : {true, false}) {
        for (const bool left_over : {false, true}) scenarios.push_back({replacing, has_tmpfile, has_proc, left_over});
      }
    }
    // As on vfat.
    for (const bool left_over : {false, true}) scenarios.push_back({replacing, false, true, left_over, false});
  }
  return scenarios;
}

}  // namespace

TEST_CASE("file_sink: when any one call fails, the old file or the new one stands there, and nothing else") {
  const TemporaryFolder folder;
  std::uint64_t injections = 0;
  std::set<std::string> failed_calls;
  for (const Scenario& scenario : all_scenarios()) {
    FaultFileSystem golden;
    scenario.prepare(folder, golden);
    REQUIRE(write_file(folder.path("x"), kNew, scenario.replacing, golden));
    CHECK(folder.names() == Names{"x"});
    for (const int error_number : {EIO, ENOSPC}) {
      for (std::uint64_t call = 0; call < golden.calls().size(); ++call) {
        FaultFileSystem file_system;
        scenario.prepare(folder, file_system);
        file_system.fail_at = call;
        file_system.fail_errno = error_number;
        const std::size_t descriptors = open_descriptors();
        const auto result = write_file(folder.path("x"), kNew, scenario.replacing, file_system);
        const std::string& failed = file_system.injected_call();
        INFO(scenario.describe() << ": call " << call << " " << failed << " fails with errno " << error_number << ": "
                                 << why(result));
        CHECK(file_system.injected_count() == 1);
        CHECK(open_descriptors() == descriptors);
        injections += file_system.injected_count();
        failed_calls.insert(failed);

        const auto content = folder.content("x");
        const bool is_old = scenario.replacing ? content == kOld : !content.has_value();
        const bool is_new = content == kNew;
        CHECK((is_old || is_new));
        if (result) {
          CHECK(is_new);
          const bool optional = failed == "openat(/proc)" || failed == "openat" || failed == "close" ||
                                failed == "list" || failed == "flock" || failed == "unlinkat" || failed == "fchmod";
          CHECK(optional);
        } else {
          CHECK(result.error().code == Code::io);
          CHECK(result.error().os_errno == error_number);
          CHECK(result.error().file == folder.path("x"));
          // The new file is complete, and something after that failed: closing it, or syncing the directory.
          if (is_new) CHECK((failed == "close" || failed == "fsync"));
        }
        // A name that could not be removed stays, for the next writer.
        Names expected;
        if (content) expected.insert("x");
        const bool left_over_kept = scenario.left_over && folder.content(kLeftOver).has_value();
        if (left_over_kept) {
          expected.insert(kLeftOver);
          const bool cleaning = call < 6 && (failed == "openat" || failed == "list" || failed == "flock" ||
                                             failed == "unlinkat" || failed == "fstatat");
          CHECK(cleaning);
        }
        Names names = folder.names();
        if (failed == "unlinkat" && !left_over_kept) {
          for (auto name = names.begin(); name != names.end();)
            name = is_temporary(*name) ? names.erase(name) : std::next(name);
        }
        CHECK(names == expected);

        // What is left now is gone after the next writer.
        FaultFileSystem healthy;
        healthy.has_tmpfile = scenario.has_tmpfile;
        REQUIRE(write_file(folder.path("x"), kNew, true, healthy));
        CHECK(folder.names() == Names{"x"});
      }
    }
  }
  CAPTURE(failed_calls);
  const Names expected_calls{"close",    "fchmod",        "flock",           "fstat",
                             "fstatat",  "fsync",         "linkat",          "list",
                             "openat",   "openat(/proc)", "openat(O_CREAT)", "openat(O_TMPFILE)",
                             "renameat", "renameat2",     "unlinkat",        "write"};
  CHECK(failed_calls == expected_calls);
  WARN(injections << " injections, each of them hit");
}

TEST_CASE("file_sink: any call may be interrupted, and the file is written all the same") {
  const TemporaryFolder folder;
  std::uint64_t injections = 0;
  for (const Scenario& scenario : all_scenarios()) {
    FaultFileSystem golden;
    scenario.prepare(folder, golden);
    REQUIRE(write_file(folder.path("x"), kNew, scenario.replacing, golden));
    for (std::uint64_t call = 0; call < golden.calls().size(); ++call) {
      for (const std::uint64_t times : {1U, 3U}) {
        FaultFileSystem file_system;
        scenario.prepare(folder, file_system);
        file_system.fail_at = call;
        file_system.fail_errno = EINTR;
        file_system.fail_count = times;
        const std::size_t descriptors = open_descriptors();
        const auto result = write_file(folder.path("x"), kNew, scenario.replacing, file_system);
        INFO(scenario.describe() << ": call " << call << " " << file_system.injected_call() << " is interrupted "
                                 << times << " times: " << why(result));
        CHECK(result.has_value());
        CHECK(file_system.injected_count() == std::min<std::uint64_t>(times, file_system.calls().size() - call));
        // What was closed is not closed again: the number may be another thread's file by then.
        CHECK(file_system.count_of("close") == golden.count_of("close"));
        CHECK(open_descriptors() == descriptors);
        CHECK(folder.content("x") == kNew);
        CHECK(folder.names() == Names{"x"});
        injections += file_system.injected_count();
      }
    }
  }
  WARN(injections << " injections, each of them hit");
}

TEST_CASE("file_sink: when every call from one on fails, the old file or the new one stands there") {
  const TemporaryFolder folder;
  for (const Scenario& scenario : all_scenarios()) {
    FaultFileSystem golden;
    scenario.prepare(folder, golden);
    REQUIRE(write_file(folder.path("x"), kNew, scenario.replacing, golden));
    for (std::uint64_t call = 0; call < golden.calls().size(); ++call) {
      FaultFileSystem file_system;
      scenario.prepare(folder, file_system);
      file_system.fail_at = call;
      file_system.fail_errno = EIO;
      file_system.fail_count = FaultFileSystem::kNever;
      const auto result = write_file(folder.path("x"), kNew, scenario.replacing, file_system);
      INFO(scenario.describe() << ": from call " << call << " on: " << why(result));
      CHECK(file_system.injected_count() >= 1);
      const auto content = folder.content("x");
      CHECK((content == kNew || (scenario.replacing ? content == kOld : !content.has_value())));
      // At most its own temporary file, which it could not remove, beside the left-over, which it could not either.
      Names names = folder.names();
      names.erase("x");
      names.erase(kLeftOver);
      CHECK(names.size() <= 1);
      CHECK(std::all_of(names.begin(), names.end(), is_temporary));
    }
  }
}

TEST_CASE("file_sink: short and interrupted writes give the same bytes") {
  const TemporaryFolder folder;
  for (const std::size_t most : {std::size_t{1}, std::size_t{2}, std::size_t{7}}) {
    FaultFileSystem file_system;
    file_system.write_bytes_max = most;
    file_system.fail_only = "write";
    file_system.fail_at = 3;
    file_system.fail_errno = EINTR;
    file_system.fail_count = 5;
    REQUIRE(write_file(folder.path("x"), kNew, true, file_system));
    CHECK(file_system.injected_count() == 5);
    CHECK(folder.content("x") == kNew);
    CHECK(file_system.count_of("write") >= kNew.size() / most);
  }
}

TEST_CASE("file_sink: whichever write is short, the bytes are the same") {
  const TemporaryFolder folder;
  std::uint64_t short_writes = 0;
  for (const Scenario& scenario : all_scenarios()) {
    FaultFileSystem golden;
    scenario.prepare(folder, golden);
    REQUIRE(write_file(folder.path("x"), kNew, scenario.replacing, golden));
    REQUIRE(golden.count_of("write") == 3);
    for (std::uint64_t write = 0; write < golden.count_of("write"); ++write) {
      FaultFileSystem file_system;
      scenario.prepare(folder, file_system);
      file_system.short_write_at = write;
      REQUIRE(write_file(folder.path("x"), kNew, scenario.replacing, file_system));
      CHECK(file_system.short_writes() == 1);
      CHECK(file_system.count_of("write") == golden.count_of("write") + 1);
      CHECK(folder.content("x") == kNew);
      short_writes += file_system.short_writes();
    }
  }
  WARN(short_writes << " short writes, each of them hit");
}

namespace {

// A model of both encodings through the writer.
void add_model(Writer& writer) {
  test::Random random(20240617);
  const auto exact = random.bytes(300);
  const auto matrix = test::bf16_of(random.weights(std::size_t{16} * 96));
  test::must(writer.add_exact({"exact", DType::u8, {3, 100}, Role::other, Codec::raw}, test::reader_of(exact)));
  const TensorSpec spec{"matrix", DType::bf16, {16, 96}, Role::matrix, Codec::zstd};
  test::must(writer.add_codebook(spec, {}, test::reader_of(matrix)));
  test::must(writer.add_asset("asset", "text/plain", 100, Codec::raw, test::reader_of(exact)));
}

void write_model(const std::string& path, bool force, FileSystem& file_system) {
  auto writer = test::must(Writer::create(test::must(create_file(path, {force, &file_system}))));
  add_model(writer);
  test::must(writer.finish());
}

}  // namespace

TEST_CASE("file_sink: whichever write of a model is short, its file is the one written in memory") {
  const TemporaryFolder folder;
  const auto golden_bytes = test::write_file({}, add_model);
  const std::string golden_text(reinterpret_cast<const char*>(golden_bytes.data()), golden_bytes.size());
  std::uint64_t short_writes = 0;
  for (const bool replacing : {false, true}) {
    FaultFileSystem golden;
    Scenario{replacing}.prepare(folder, golden);
    write_model(folder.path("x"), replacing, golden);
    REQUIRE(golden.count_of("write") > 10);
    for (std::uint64_t write = 0; write < golden.count_of("write"); ++write) {
      FaultFileSystem file_system;
      Scenario{replacing}.prepare(folder, file_system);
      file_system.short_write_at = write;
      write_model(folder.path("x"), replacing, file_system);
      INFO("write " << write);
      CHECK(file_system.short_writes() == 1);
      CHECK(folder.content("x") == golden_text);
      CHECK(folder.names() == Names{"x"});
      short_writes += file_system.short_writes();
    }
  }
  WARN(short_writes << " short writes, each of them hit");
}

TEST_CASE("file_sink: a write that takes no bytes is an error, not a loop") {
  const TemporaryFolder folder;
  FaultFileSystem file_system;
  file_system.write_bytes_max = 0;
  const auto result = write_file(folder.path("x"), kNew, false, file_system);
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Code::io);
  CHECK(file_system.count_of("write") == 1);
  CHECK(folder.names().empty());
}

TEST_CASE(
    "file_sink: a failed fsync of the file is not tried again and leaves nothing; of the directory, it is said so") {
  for (const Scenario& scenario : all_scenarios()) {
    const TemporaryFolder folder;
    for (const std::uint64_t which : {0U, 1U}) {
      FaultFileSystem file_system;
      scenario.prepare(folder, file_system);
      file_system.fail_only = "fsync";
      file_system.fail_at = which;
      file_system.fail_errno = EIO;
      const auto result = write_file(folder.path("x"), kNew, scenario.replacing, file_system);
      INFO(scenario.describe() << ", fsync " << which << ": " << why(result));
      REQUIRE_FALSE(result);
      CHECK(result.error().os_errno == EIO);
      CHECK(file_system.count_of("fsync") == which + 1);
      if (which == 0) {
        CHECK(folder.content("x") == (scenario.replacing ? std::optional(kOld) : std::nullopt));
        CHECK(file_system.count_of("linkat") == 0);
        CHECK(file_system.count_of("renameat") == 0);
      } else {
        CHECK(folder.content("x") == kNew);
        CHECK_THAT(result.error().message, Catch::Contains("in place"));
      }
      CHECK(folder.names() == (which == 0 && !scenario.replacing ? Names{} : Names{"x"}));
    }
  }
}

TEST_CASE("file_sink: a file is synced before it gets its name, and its directory after that") {
  for (const Scenario& scenario : all_scenarios()) {
    INFO(scenario.describe());
    const TemporaryFolder folder;
    FaultFileSystem file_system;
    scenario.prepare(folder, file_system);
    REQUIRE(write_file(folder.path("x"), kNew, scenario.replacing, file_system));
    const auto& calls = file_system.calls();
    const auto place = [&](const char* name, auto from) { return std::find(from, calls.end(), name); };
    const auto sync = place("fsync", calls.begin());
    const auto name = place(scenario.replacing        ? "renameat"
                            : scenario.has_hard_links ? "linkat"
                                                      : "renameat2",
                            calls.begin());
    REQUIRE(name != calls.end());
    CHECK(sync < name);
    CHECK(place("write", sync) == calls.end());
    CHECK(place("fsync", name) != calls.end());
  }
}

TEST_CASE("file_sink: eight processes that write the same name leave one whole file and nothing else") {
  constexpr int kProcesses = 8;
  constexpr int kWrites = 40;
  for (const bool named : {false, true}) {
    const TemporaryFolder folder;
    const auto content = [](int process, int write) {
      const std::string line = "process " + std::to_string(process) + " write " + std::to_string(write) + "\n";
      std::string text;
      for (int i = 0; i < 2000 + 100 * process; ++i) text += line;
      return text + "end\n";
    };
    folder.write("x", content(0, 0));
    std::vector<pid_t> children;
    for (int process = 0; process < kProcesses; ++process) {
      const pid_t child = fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        int failures = 0;
        for (int write = 0; write < kWrites; ++write) {
          FaultFileSystem file_system;
          file_system.has_tmpfile = !named;
          const auto result = write_file(folder.path("x"), content(process, write), true, file_system);
          if (!result && (!named || result.error().os_errno != ENOENT))
            std::fprintf(stderr, "%s\n", why(result).c_str());
          failures += !result;
        }
        _exit(failures);
      }
      children.push_back(child);
    }
    // Meanwhile every look at the file finds a whole one.
    std::set<std::string> whole;
    for (int process = 0; process < kProcesses; ++process) {
      for (int write = 0; write < kWrites; ++write) whole.insert(content(process, write));
    }
    std::uint64_t looks = 0;
    std::uint64_t torn = 0;
    int failures = 0;
    for (std::size_t running = children.size(); running > 0;) {
      ++looks;
      torn += whole.count(folder.content("x").value_or("")) == 0;
      int status = 0;
      while (running > 0 && waitpid(-1, &status, WNOHANG) > 0) {
        --running;
        failures += WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
      }
    }
    INFO((named ? "named temporaries, " : "O_TMPFILE, ") << looks << " looks");
    CHECK(looks > 0);
    CHECK(torn == 0);
    CHECK(failures == 0);
    CHECK(whole.count(folder.content("x").value_or("")) == 1);
    CHECK(folder.names() == Names{"x"});
  }
}

TEST_CASE("file_sink: of eight processes that create one name without force, one succeeds") {
  for (const bool named : {false, true}) {
    const TemporaryFolder folder;
    for (int round = 0; round < 20; ++round) {
      std::vector<pid_t> children;
      for (int process = 0; process < 8; ++process) {
        const pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
          FaultFileSystem file_system;
          file_system.has_tmpfile = !named;
          const auto result =
              write_file(folder.path("x"), std::string(1000, static_cast<char>('0' + process)), false, file_system);
          _exit(result ? 10 + process : result.error().code == Code::exists ? 0 : 1);
        }
        children.push_back(child);
      }
      int winners = 0;
      int winner = 0;
      int other_errors = 0;
      for (const pid_t child : children) {
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child);
        const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        winners += code >= 10;
        other_errors += code == 1;
        if (code >= 10) winner = code - 10;
      }
      INFO((named ? "named temporaries" : "O_TMPFILE"));
      CHECK(winners == 1);
      CHECK(other_errors == 0);
      CHECK(folder.content("x") == std::string(1000, static_cast<char>('0' + winner)));
      CHECK(folder.names() == Names{"x"});
      fs::remove(folder.path("x"));
    }
  }
}
