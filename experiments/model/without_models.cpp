// A build without models refuses them all.
#include "core/error.h"
#include "experiments/model/model.h"

namespace nalab::model {

std::string why_not_built() { return "this nalab was built without models: NALAB_BUILD_MODELS, which needs oneDNN"; }

Facts facts(const Request&) { throw Error(why_not_built()); }

std::unique_ptr<Session> make_session(const Request&, const AttentionOptions&, uint64_t, Workers&) {
  throw Error(why_not_built());
}

}  // namespace nalab::model
