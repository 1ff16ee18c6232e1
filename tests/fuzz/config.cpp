// The input is a configuration. What is understood of it is written out and must be understood in the same way.
#include "experiments/config/config.h"

#include <cstdint>
#include <string>

#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/refusals.h"

using namespace nalab;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::MemoryFile file({reinterpret_cast<const char*>(data), size});
  fuzz::allow_refusal([&] {
    for (const config::Form form : {config::Form::full, config::Form::quick}) {
      const std::string resolved = config::resolved(config::load(file.path(), form));
      try {
        const std::string again = config::resolved(config::load(fuzz::MemoryFile(resolved).path(), config::Form::full));
        fuzz::require(again == resolved, "the resolved configuration resolves to another one:\n" + resolved + again);
      } catch (const Error& error) {
        fuzz::require(false, "the resolved configuration is refused: " + std::string(error.what()) + "\n" + resolved);
      }
    }
  });
  return 0;
}
