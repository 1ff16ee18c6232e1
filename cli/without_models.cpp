// What the command line says about models where nalab is built without them.
#include <string>

#include "cli/commands.h"
#include "core/error.h"

namespace nalab::cli {

namespace {

[[noreturn]] void refuse() {
  throw Error("this nalab was built without models: NALAB_BUILD_MODELS, which needs oneDNN");
}

}  // namespace

void add_infer(CLI::App& app, int&) {
  app.add_subcommand("infer", "Run a whole model (not in this build)")->allow_extras()->callback(refuse);
}

void list_models() { refuse(); }

}  // namespace nalab::cli
