// A child process under a limit, looked at while it runs.
#include "tools/bench/convert_memory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tools/bench/measure.hpp"
#include "tools/interrupt.hpp"

namespace cdna::tools::bench {
namespace {

constexpr std::uint64_t kModelBytes = std::uint64_t{4} << 30;
constexpr std::uint64_t kTensors = 64;
constexpr auto kDataBytesMax = static_cast<rlim_t>(kConvertLimitMebibytes * 1024 * 1024);

Error fail(Code code, std::string message) {
  Error error;
  error.code = code;
  error.message = std::move(message);
  return error;
}

// 64 BF16 tensors of 64 MiB, all zero: a file of holes.
Result<void> write_source(const std::string& path) {
  std::string header = "{";
  const std::uint64_t each = kModelBytes / kTensors;
  for (std::uint64_t i = 0; i < kTensors; ++i) {
    header += fmt::format(
        "{}\"model.layers.{:02}.mlp.down_proj.weight\":{{\"dtype\":\"BF16\",\"shape\":[{},4096],"
        "\"data_offsets\":[{},{}]}}",
        i == 0 ? "" : ",", i, each / 8192, i * each, (i + 1) * each);
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::ofstream file(path, std::ios::binary);
  for (int byte = 0; byte < 8; ++byte) file.put(static_cast<char>(header.size() >> (8 * byte)));
  file << header;
  file.close();
  if (!file) return fail(Code::io, "cannot write " + path);
  std::error_code error;
  std::filesystem::resize_file(path, 8 + header.size() + kModelBytes, error);
  if (error) return fail(Code::io, "cannot write " + path + ": " + error.message());
  return {};
}

// RssAnon of a process in MiB; 0 when it is gone.
double anonymous_mebibytes(pid_t process) {
  std::ifstream file(fmt::format("/proc/{}/status", process));
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, 8, "RssAnon:") == 0) return std::stod(line.substr(8)) / 1024;
  }
  return 0;
}

// Returns when the child runs the program: until then its memory is ours.
pid_t start(const std::string& program, const std::string& source, const std::string& destination) {
  const char* const arguments[] = {program.c_str(), "convert", source.c_str(), destination.c_str(),
                                   "--encoding",    "exact",   nullptr};
  std::array<int, 2> running{};
  if (::pipe2(running.data(), O_CLOEXEC) != 0) return -1;
  const pid_t process = ::fork();
  if (process != 0) {
    ::close(running[1]);
    char end = 0;
    while (::read(running[0], &end, 1) < 0 && errno == EINTR) {
    }
    ::close(running[0]);
    return process;
  }
  const rlimit limit{kDataBytesMax, kDataBytesMax};
  ::setrlimit(RLIMIT_DATA, &limit);
  const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (null >= 0) ::dup2(null, STDOUT_FILENO);
  ::execv(program.c_str(), const_cast<char* const*>(arguments));
  ::_exit(127);
}

}  // namespace

Result<ConvertMemory> peak_memory_of_convert(const std::string& program, const Scratch& scratch,
                                             const std::atomic<bool>& stop) {
  const std::string source = scratch.path("four.safetensors");
  const std::string destination = scratch.path("four.cdna");
  if (auto result = write_source(source); !result) return std::move(result).error();
  ConvertMemory found;
  found.source_bytes = std::filesystem::file_size(source);
  int status = 0;
  pid_t waited = -1;
  found.seconds = seconds_of([&] {
    const pid_t process = start(program, source, destination);
    while (process > 0 && (waited = ::waitpid(process, &status, WNOHANG)) == 0) {
      found.mebibytes = std::max(found.mebibytes, anonymous_mebibytes(process));
      if (stop.load()) ::kill(process, SIGTERM);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  std::filesystem::remove(destination);
  if (stop.load()) return stopped();
  if (waited < 0) return fail(Code::io, "cannot run " + program);
  found.completed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!found.completed) found.mebibytes = std::max(found.mebibytes, kConvertLimitMebibytes + 1);
  return found;
}

}  // namespace cdna::tools::bench
