#include "experiments/model/model.h"

#include <string>

#include "core/error.h"
#include "experiments/model/subject.h"
#include "models/attention_problems.h"
#include "models/build.h"
#include "models/parameters.h"
#include "models/program.h"
#include "models/trainer.h"

namespace nalab::model {

namespace {

models::Definition definition_of(const Request& request) {
  if (request.definitions_file.empty()) return models::find_definition(request.name);
  if (!request.definitions) throw Error(request.definitions_file + ": cannot be read");
  return models::find_definition(models::parse_definitions(request.definitions_file, *request.definitions),
                                 request.name);
}

/// Bytes for each parameter: as it is given in float32, and packed. Training keeps the gradient, partial sums of it and
/// two moments too, and packs for both directions; of the papers' models the partial sums are about two numbers each.
int64_t bytes_per_parameter(const Request& request) {
  return request.training ? 24 + 2 * size_of(request.type) : 4 + size_of(request.type);
}

/// What follows from more images than these need not fit in 64 bits.
void check_size(int64_t size, int64_t batch) {
  constexpr int64_t kMostPixels = 100'000'000'000, kGreatestSize = 100'000;
  if (size <= kGreatestSize && batch <= kMostPixels / (size * size)) return;
  throw Error(std::to_string(batch) + " images of size " + std::to_string(size) + " have more than 1e11 pixels");
}

}  // namespace

std::string why_not_built() { return ""; }

Subject subject_of(const Request& request) {
  models::Definition definition = definition_of(request);
  if (!definition.is_classifier()) {
    if (request.training) throw Error("generators are not trained");
    if (request.size != 0 && request.size != definition.input) {
      throw Error("size must be " + std::to_string(definition.input) + ", what the model generates");
    }
  }
  check_size(request.size == 0 ? definition.input : request.size, request.batch);
  models::Graph graph = models::build(definition, {.rows = request.size,
                                                   .columns = request.size,
                                                   .relative_bias = request.relative_bias,
                                                   .training = request.training});
  return {std::move(definition), std::move(graph)};
}

Facts facts(const Request& request) {
  const auto [definition, graph] = subject_of(request);
  const models::MultiplyAdds cost = models::multiply_adds(graph);
  Facts facts;
  facts.size = request.size == 0 ? definition.input : request.size;
  facts.result_elements = graph.node(graph.output()).extent.elements();
  facts.parameters = models::parameter_count(graph);
  facts.multiply_adds = cost.all;
  facts.attention_multiply_adds = cost.attention;
  facts.weight_bytes = bytes_per_parameter(request) * facts.parameters;
  const auto value_bytes = request.training ? models::Trainer::value_bytes : models::Program::value_bytes;
  const int64_t given = graph.node(0).extent.elements();
  facts.value_bytes =
      value_bytes(graph, request.batch, request.type) + 4 * request.batch * (given + facts.result_elements);
  for (models::RepeatedProblem& layer : models::attention_problems(graph, request.batch, request.type)) {
    facts.attention.push_back({std::move(layer.problem), layer.times});
  }
  return facts;
}

}  // namespace nalab::model
