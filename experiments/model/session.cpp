// Models made and called.
#include <string>
#include <utility>

#include "experiments/model/subject.h"
#include "models/parameters.h"
#include "models/program.h"
#include "models/trainer.h"

namespace nalab::model {

namespace {

/// Weights for which all parts matter. Generators are ill-conditioned with larger matrices than the papers'; but those
/// leave the positions out, and the tables hardly matter.
std::vector<models::Parameter> weighted(const Subject& subject) {
  std::vector<models::Parameter> parameters = models::parameters(subject.graph);
  if (subject.definition.is_classifier()) return models::sharp(std::move(parameters));
  for (models::Parameter& parameter : parameters) {
    if (parameter.name.ends_with("alpha")) parameter.initial.value = 0.5;
    if (parameter.name.find("rpb") != std::string::npos) parameter.initial.value = 1;
  }
  return parameters;
}

/// Normal numbers, for each image by a seed of its own.
std::vector<float> images_of(const models::Graph& graph, int64_t batch, uint64_t seed, Workers& workers) {
  const models::Initial normal{models::Initial::Kind::normal, 1};
  std::vector<models::Parameter> images;
  for (int64_t b = 0; b < batch; ++b) {
    images.push_back({"image " + std::to_string(b), {graph.node(0).extent.elements()}, normal});
  }
  const models::Weights drawn = models::random_weights(images, seed, workers);
  std::vector<float> all;
  for (const models::Parameter& image : images) {
    const std::vector<float>& numbers = drawn.at(image.name);
    all.insert(all.end(), numbers.begin(), numbers.end());
  }
  return all;
}

models::ProgramOptions options_of(const Request& request, const AttentionOptions& attention) {
  return {.batch = request.batch,
          .type = request.type,
          .variants = attention.variants,
          .isa = attention.isa,
          .arithmetic = attention.arithmetic};
}

class Inference : public Session {
 public:
  Inference(const Subject& subject, const Request& request, const AttentionOptions& attention, uint64_t seed,
            Workers& workers)
      : program_(subject.graph, models::random_weights(weighted(subject), seed, workers),
                 options_of(request, attention), workers),
        name_(subject.definition.is_classifier() ? "logits" : "images"),
        input_(images_of(subject.graph, request.batch, seed, workers)),
        output_(static_cast<std::size_t>(program_.output_elements())) {}

  double compute(std::size_t variant) override {
    program_.choose(variant);
    return program_.forward(input_, output_).attention;
  }
  void forget() override { program_.forget(); }
  void update() override {}
  Results results() const override { return {{name_, output_}}; }

 private:
  models::Program program_;
  std::string name_;
  std::vector<float> input_, output_;
};

class Training : public Session {
 public:
  Training(const Subject& subject, const Request& request, const AttentionOptions& attention, uint64_t seed,
           Workers& workers)
      : trainer_(subject.graph, models::random_weights(weighted(subject), seed, workers),
                 options_of(request, attention), workers),
        images_(images_of(subject.graph, request.batch, seed, workers)) {
    for (int64_t b = 0; b < request.batch; ++b) {
      labels_.push_back(static_cast<int32_t>((37 * b + 11) % subject.definition.classes));
    }
  }

  double compute(std::size_t variant) override {
    trainer_.choose(variant);
    return trainer_.gradients(images_, labels_).seconds.attention;
  }
  void forget() override { trainer_.forget(); }
  void update() override { trainer_.update({}); }
  Results results() const override { return trainer_.weight_gradients(); }

 private:
  models::Trainer trainer_;
  std::vector<float> images_;
  std::vector<int32_t> labels_;
};

}  // namespace

std::unique_ptr<Session> make_session(const Request& request, const AttentionOptions& attention, uint64_t seed,
                                      Workers& workers) {
  const Subject subject = subject_of(request);
  if (request.training) return std::make_unique<Training>(subject, request, attention, seed, workers);
  return std::make_unique<Inference>(subject, request, attention, seed, workers);
}

}  // namespace nalab::model
