#include "store/damage.h"

#include <algorithm>
#include <array>
#include <climits>

namespace nalab::store {

namespace {

std::array<char, PATH_MAX> opened;

}  // namespace

void remember_opened(const std::string& path) {
  const std::size_t length = std::min(path.size(), opened.size() - 1);
  *std::copy_n(path.begin(), length, opened.begin()) = '\0';
}

const char* file_whose_texts_are_read() { return ReadingTexts::now() ? opened.data() : nullptr; }

}  // namespace nalab::store
