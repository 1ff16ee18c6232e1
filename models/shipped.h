// The files of data/models, compiled in.
#pragma once

#include <span>

namespace nalab::models {

struct ShippedFile {
  const char* name;
  const char* text;
};

std::span<const ShippedFile> shipped_files();

}  // namespace nalab::models
