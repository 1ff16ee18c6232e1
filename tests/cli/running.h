// A program that goes on while the test does, to be sent signals.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/cli/run_nalab.h"
#include "tests/store/signals.h"

namespace nalab {

/// A program that runs beside the test, and what it prints.
class Running {
 public:
  Running(const TemporaryFolder& folder, std::vector<std::string> command) : output_(folder.file("output")) {
    std::ofstream(output_).close();
    child_ = ::fork();
    if (child_ != 0) return;
    let_signals_end_this_process();
    const int file = ::open(output_.c_str(), O_WRONLY | O_APPEND);
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
    std::vector<char*> argv;
    for (std::string& argument : command) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~Running() {
    if (child_ > 0) wait(SIGKILL);
  }

  std::string output() const { return bytes_of(output_); }
  /// Whether it prints the text before it ends, or before the test's patience does.
  bool prints(const std::string& text) const {
    for (int i = 0; i < 6000; ++i) {
      const bool ended = has_ended();  // asked first: what it printed before is there
      if (output().find(text) != std::string::npos) return true;
      if (ended) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  /// Whether it has ended; its status is still there for wait().
  bool has_ended() const {
    siginfo_t end{};
    return ::waitid(P_PID, static_cast<id_t>(child_), &end, WEXITED | WNOHANG | WNOWAIT) == 0 && end.si_pid == child_;
  }
  void send(int signal) const { ::kill(child_, signal); }
  /// Its status, after another signal if one is named.
  int wait(int signal = 0) {
    if (signal != 0) send(signal);
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = 0;
    return status;
  }

 private:
  std::string output_;
  pid_t child_ = 0;
};

}  // namespace nalab
