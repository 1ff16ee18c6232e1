#include "cli/damaged_files.h"

#include <unistd.h>

#include <array>
#include <csignal>
#include <string_view>

#include "cli/standard_streams.h"
#include "store/damage.h"

namespace nalab::cli {

namespace {

struct Handled {
  int signal;
  struct sigaction before;
};
std::array handled{Handled{SIGSEGV, {}}, Handled{SIGBUS, {}}};
volatile std::sig_atomic_t code_of_refusal = 0;

/// Takes no memory: a handler may find it in any state.
void write_refusal(std::string_view file) {
  std::array<char, 1024> line;
  std::size_t size = 0;
  const auto put = [&](char c) {
    line[size++] = c;
    if (size < line.size() && c != '\n') return;
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), size);
    size = 0;
  };
  for (const char c : std::string_view("nalab: ")) put(c);
  for_each_printable(file, put);
  for (const char c : std::string_view(": is damaged: HDF5 cannot read its texts\n")) put(c);
}

void refuse(int signal, siginfo_t* info, void*) {
  if (const char* const file = store::file_whose_texts_are_read()) {
    write_refusal(file);
    ::_exit(code_of_refusal);
  }
  for (const Handled& one : handled) {
    if (one.signal == signal) ::sigaction(signal, &one.before, nullptr);
  }
  // The instruction that failed fails again; what a process sent has to be sent again.
  if (info->si_code <= 0) std::raise(signal);
}

}  // namespace

void refuse_damaged_files(int exit_code) {
  code_of_refusal = exit_code;
  for (Handled& one : handled) {
    struct sigaction action {};
    action.sa_sigaction = refuse;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigaction(one.signal, &action, &one.before);
  }
}

}  // namespace nalab::cli
