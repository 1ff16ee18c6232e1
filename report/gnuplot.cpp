#include "report/gnuplot.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "core/error.h"

namespace nalab::report {
namespace {

/// A file without a name, gone when this is. gnuplot reads one and writes another: with pipes both sides could wait for
/// each other.
class NamelessFile {
 public:
  NamelessFile() : file_(std::tmpfile(), std::fclose) {
    if (file_ == nullptr) throw Error(std::string("no temporary file for gnuplot: ") + std::strerror(errno));
  }
  int descriptor() const { return fileno(file_.get()); }
  bool write(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), file_.get());
    return std::fflush(file_.get()) == 0 && std::ferror(file_.get()) == 0;
  }
  void rewind() { std::rewind(file_.get()); }
  std::string read() {
    rewind();
    std::string text;
    char part[65536];
    while (const std::size_t size = std::fread(part, 1, sizeof(part), file_.get())) text.append(part, size);
    return text;
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

}  // namespace

std::optional<std::string> run_gnuplot(const std::string& script, const std::string& what) {
  NamelessFile input, output;
  if (!input.write(script)) throw Error("the script of " + what + " cannot be written: " + std::strerror(errno));
  input.rewind();

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, input.descriptor(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, output.descriptor(), STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  char name[] = "gnuplot";
  char* const arguments[] = {name, nullptr};
  pid_t process = 0;
  const int error = posix_spawnp(&process, name, &files, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&files);
  if (error == ENOENT) return std::nullopt;
  if (error != 0) throw Error(std::string("gnuplot cannot be started: ") + std::strerror(error));
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) continue;
  std::string image = output.read();
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || image.empty()) throw Error("gnuplot cannot make " + what);
  return image;
}

}  // namespace nalab::report
