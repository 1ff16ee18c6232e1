// The one exception type of the library.
#pragma once

#include <stdexcept>
#include <string>

namespace nalab {

/// Thrown for every request that the library refuses. what() is one sentence, fit to be shown to a user as it is.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace nalab
