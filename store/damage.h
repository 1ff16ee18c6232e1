// Damage that HDF5 does not survive: version 1.10 follows references to texts without looking whether they lead to one.
// A process that ends there can say of which file.
#pragma once

#include <csignal>
#include <string>

namespace nalab::store {

/// While one is alive, HDF5 reads texts.
class ReadingTexts {
 public:
  ReadingTexts() { depth_ = depth_ + 1; }
  ~ReadingTexts() { depth_ = depth_ - 1; }
  ReadingTexts(const ReadingTexts&) = delete;
  static bool now() { return depth_ > 0; }

 private:
  static inline volatile std::sig_atomic_t depth_ = 0;
};

/// To be called with each file that is opened.
void remember_opened(const std::string& path);
/// The file that was opened last, if HDF5 reads texts at this moment; else null. A signal handler may ask.
const char* file_whose_texts_are_read();

}  // namespace nalab::store
