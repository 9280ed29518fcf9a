// A child process by posix_spawn, its stdout through a pipe.
#include "tools/bench/child_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string_view>

#include "cdna/error.hpp"

namespace cdna::tools::bench {
namespace {

[[noreturn]] void fail(const std::string& program, const std::string& setting, const std::string& what) {
  throw std::runtime_error(fmt::format("{} {}: {}", setting, escape(program), what));
}

// This process's environment with one variable set.
std::vector<std::string> environment_with(const std::string& setting) {
  const std::string_view name = std::string_view(setting).substr(0, setting.find('=') + 1);
  std::vector<std::string> all{setting};
  for (char** each = environ; *each != nullptr; ++each) {
    if (!std::string_view(*each).starts_with(name)) all.emplace_back(*each);
  }
  return all;
}

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Returns errno, and the process.
int spawn(std::vector<std::string> arguments, const std::string& setting, int standard_output, pid_t& process) {
  std::vector<std::string> environment = environment_with(setting);
  posix_spawn_file_actions_t actions;
  if (const int error = ::posix_spawn_file_actions_init(&actions); error != 0) return error;
  int error = ::posix_spawn_file_actions_adddup2(&actions, standard_output, STDOUT_FILENO);
  if (error == 0) {
    error = ::posix_spawn(&process, arguments.front().c_str(), &actions, nullptr, pointers_to(arguments).data(),
                          pointers_to(environment).data());
  }
  ::posix_spawn_file_actions_destroy(&actions);
  return error;
}

std::string read_all(int descriptor) {
  std::string text;
  std::array<char, 4096> buffer{};
  while (true) {
    const ssize_t count = ::read(descriptor, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

int wait_for(pid_t process) {
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

}  // namespace

std::string output_of(const std::vector<std::string>& arguments, const std::string& setting) {
  const std::string& program = arguments.front();
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) fail(program, setting, std::strerror(errno));
  pid_t process = 0;
  const int error = spawn(arguments, setting, pipe[1], process);
  ::close(pipe[1]);
  std::string text = error == 0 ? read_all(pipe[0]) : "";
  ::close(pipe[0]);
  if (error != 0) fail(program, setting, fmt::format("cannot be run: {}", std::strerror(error)));
  const int status = wait_for(process);
  if (WIFSIGNALED(status)) fail(program, setting, fmt::format("ended by signal {}", WTERMSIG(status)));
  if (WEXITSTATUS(status) != 0) fail(program, setting, fmt::format("failed with exit code {}", WEXITSTATUS(status)));
  return text;
}

}  // namespace cdna::tools::bench
