#include "experiments/cli/gnuplot.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/error.h"

namespace nalab::cli {
namespace {

/// A file that is gone when this is.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string path) : path_(std::move(path)) {}
  ~TemporaryFile() { unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Runs gnuplot from one file to another; returns its exit status. Throws Error where it cannot be started.
int run_gnuplot(const std::string& script, const std::string& image) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, script.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, image.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  char name[] = "gnuplot";
  char* const arguments[] = {name, nullptr};
  pid_t process = 0;
  const int error = posix_spawnp(&process, name, &files, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&files);
  if (error == ENOENT) throw Error("a plot needs gnuplot, which is not installed");
  if (error != 0) throw Error(std::string("gnuplot cannot be started: ") + std::strerror(error));
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

void plot(const std::string& script, const std::string& path) {
  const std::string beside = path + "." + std::to_string(getpid());
  const TemporaryFile input(beside + ".gnuplot"), image(beside + ".tmp");
  std::ofstream file(input.path());
  file << script;
  file.close();
  // Made here, so that a failure to start gnuplot can mean gnuplot alone.
  if (!file || !std::ofstream(image.path())) throw Error("plot " + path + " cannot be written");
  if (run_gnuplot(input.path(), image.path()) != 0) throw Error("gnuplot cannot make the plot " + path);
  std::error_code error;
  std::filesystem::rename(image.path(), path, error);
  if (error) throw Error("plot " + path + " cannot be written: " + error.message());
}

}  // namespace nalab::cli
