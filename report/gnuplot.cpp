#include "report/gnuplot.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace nalab::report {
namespace {

/// A file in memory, gone when this is: there may be no folder that can be written to. gnuplot reads one and writes
/// others: with pipes both sides could wait for each other.
class MemoryFile {
 public:
  MemoryFile() : file_(nullptr, std::fclose) {
    const int id = ::memfd_create("nalab", MFD_CLOEXEC);
    if (id >= 0) file_.reset(::fdopen(id, "w+"));
    if (file_ == nullptr) throw GnuplotError(std::string("no memory for gnuplot's files: ") + std::strerror(errno));
  }
  int descriptor() const { return fileno(file_.get()); }
  void write(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), file_.get());
    if (std::fflush(file_.get()) != 0 || std::ferror(file_.get()) != 0) {
      throw GnuplotError(std::string("gnuplot's script cannot be written: ") + std::strerror(errno));
    }
    std::rewind(file_.get());
  }
  std::string read() {
    std::rewind(file_.get());
    std::string text;
    char part[65536];
    while (const std::size_t size = std::fread(part, 1, sizeof(part), file_.get())) text.append(part, size);
    return text;
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

/// The environment without gnuplot's own variables (GNUTERM, GNUPLOT_LIB, ...).
std::vector<char*> environment_without_settings() {
  std::vector<char*> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with("GNU")) variables.push_back(*variable);
  }
  variables.push_back(nullptr);
  return variables;
}

/// The line that says what is wrong: gnuplot shows the command first, and begins the line that counts with "line N:".
/// Without such a line, the first one that is not blank; empty if there is none.
std::string reason_in(const std::string& errors) {
  std::string first;
  for (std::size_t begin = 0; begin < errors.size();) {
    const std::size_t end = std::min(errors.find('\n', begin), errors.size());
    std::string line = errors.substr(begin, end - begin);
    line.erase(0, line.find_first_not_of(" \t\r"));
    line.erase(line.find_last_not_of(" \t\r") + 1);
    if (line.starts_with("line ")) return line;
    if (first.empty()) first = line;
    begin = end + 1;
  }
  return first;
}

/// Waits until a process ends; ends it after the limit. Its status, unless it had to be ended.
std::optional<int> status_of(pid_t process, std::chrono::milliseconds limit) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + limit;
  const int handle = static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
  if (handle < 0) throw GnuplotError(std::string("gnuplot cannot be watched: ") + std::strerror(errno));
  pollfd ends{handle, POLLIN, 0};
  int ready = 0;
  do {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    ready = ::poll(&ends, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
  } while (ready < 0 && errno == EINTR);
  ::close(handle);
  if (ready <= 0) ::kill(process, SIGKILL);
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) continue;
  return ready > 0 ? std::optional(status) : std::nullopt;
}

}  // namespace

std::string run_gnuplot(const std::string& script, const std::string& what, std::chrono::milliseconds limit) {
  MemoryFile input, output, errors;
  input.write(script);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, input.descriptor(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, output.descriptor(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, errors.descriptor(), STDERR_FILENO);
  char name[] = "gnuplot", no_start_up_files[] = "-d";
  char* const arguments[] = {name, no_start_up_files, nullptr};
  pid_t process = 0;
  const int error = posix_spawnp(&process, name, &files, nullptr, arguments, environment_without_settings().data());
  posix_spawn_file_actions_destroy(&files);
  if (error == ENOENT) throw GnuplotError("gnuplot is not installed");
  if (error != 0) throw GnuplotError(std::string("gnuplot cannot be started: ") + std::strerror(error));
  const std::optional<int> status = status_of(process, limit);
  if (!status) {
    const auto seconds = std::chrono::duration<double>(limit).count();
    throw GnuplotError(fmt::format("gnuplot was ended: it had not made {} after {:g} s", what, seconds));
  }
  std::string image = output.read();
  if (WIFEXITED(*status) && WEXITSTATUS(*status) == 0 && !image.empty()) return image;
  const std::string reason = reason_in(errors.read());
  throw GnuplotError("gnuplot cannot make " + what + (reason.empty() ? "" : ": " + reason));
}

}  // namespace nalab::report
