// What several tests of core/ share: expected errors and environment variables.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

#include "core/error.h"

namespace nalab::test {

/// The sentence of the Error that a call throws; "" where it throws none.
template <class F>
std::string error_of(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Changes an environment variable, and puts the old value back in the end.
class ScopedEnvironment {
 public:
  explicit ScopedEnvironment(const char* variable) : variable_(variable) {
    if (const char* old = std::getenv(variable)) old_ = old;
  }
  ~ScopedEnvironment() { old_ ? set(*old_) : unset(); }
  ScopedEnvironment(const ScopedEnvironment&) = delete;
  ScopedEnvironment& operator=(const ScopedEnvironment&) = delete;

  void set(const std::string& value) const { setenv(variable_, value.c_str(), 1); }
  void unset() const { unsetenv(variable_); }

 private:
  const char* variable_;
  std::optional<std::string> old_;
};

}  // namespace nalab::test
