// What a fuzz target may do with bad input: refuse it with a sentence.
#pragma once

#include <cstdlib>
#include <iostream>
#include <string_view>

#include "core/error.h"

namespace nalab::fuzz {

/// Ends the program, and so reports a finding, unless what must hold does.
inline void require(bool holds, std::string_view what) {
  if (holds) return;
  std::cerr << "finding: " << what << '\n';
  std::abort();
}

/// Calls f, which may throw Error with a sentence. Any other exception ends the program too.
template <class F>
void allow_refusal(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    require(!std::string_view(error.what()).empty(), "an error says nothing");
  }
}

}  // namespace nalab::fuzz
