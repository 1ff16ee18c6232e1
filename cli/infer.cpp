// nalab infer: a whole model on images or latents.
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/models.h"
#include "cli/options.h"
#include "core/error.h"
#include "core/kernels/registry.h"
#include "core/parallel.h"
#include "models/build.h"
#include "models/program.h"
#include "store/arrays.h"
#include "store/new_file.h"

namespace nalab::cli {

namespace {

struct InferOptions {
  std::string model, input, output;
  std::string definitions;  ///< file; empty: those that are compiled in
  std::string weights;      ///< file; empty: random ones
  std::optional<uint64_t> seed;
  std::string variant;  ///< empty: the best one of each layer
  std::string type = "f32";
  int threads = 0;  ///< 0: NALAB_THREADS, else the hardware's
};

/// What a model reads, checked: images of any size, or latents.
store::Array read_input(const models::Definition& definition, const std::string& path) {
  const bool images = definition.is_classifier();
  const std::string name = images ? "images" : "latents";
  const int64_t channels = images ? 3 : definition.style;
  store::Array input = store::read_array(path, name, images ? 4 : 2);
  if (input.shape.back() != channels) {
    throw Error(fmt::format("{}: dataset {} has {} channels, must have {}", path, name, input.shape.back(), channels));
  }
  if (input.data.empty()) throw Error(path + ": dataset " + name + " is empty");
  return input;
}

models::Weights weights_of(const models::Definition& definition, const models::Graph& graph,
                           const InferOptions& options) {
  const std::vector<models::Parameter> parameters = models::parameters(graph);
  if (options.weights.empty()) return models::random_weights(parameters, options.seed.value());
  std::vector<store::WeightInfo> wanted;
  for (const models::Parameter& parameter : parameters) wanted.push_back({parameter.name, parameter.shape});
  return store::read_weights(options.weights, definition.name, wanted);
}

std::vector<int64_t> output_shape(const models::Graph& graph, int64_t batch) {
  const models::Extent& extent = graph.node(graph.output()).extent;
  if (extent.tokens() == 1) return {batch, extent.channels};
  return {batch, extent.rows, extent.columns, extent.channels};
}

void infer(const InferOptions& options) {
  if (options.weights.empty() == !options.seed) throw Error("give either --weights or --random");
  const models::Definition definition = find_model(options.model, options.definitions);
  require_another_file(options.output, {options.input, options.weights, options.definitions});
  const ElementType type = parse_element_type(options.type);
  if (!options.variant.empty()) find_variant(options.variant);
  const int threads = choose_threads(options.threads);
  Workers workers(threads);

  const store::Array input = read_input(definition, options.input);
  const int64_t batch = input.shape.front();
  models::BuildOptions build;
  if (definition.is_classifier()) build = {.rows = input.shape[1], .columns = input.shape[2]};
  const models::Graph graph = models::build(definition, build);
  store::NewFile probe(options.output);  // before any work
  models::Program program(graph, weights_of(definition, graph, options),
                          {.batch = batch, .type = type, .variants = {options.variant}}, workers);

  store::Array output{output_shape(graph, batch), {}};
  output.data.resize(static_cast<std::size_t>(program.output_elements()));
  const models::Seconds seconds = program.forward(input.data, output.data);
  store::write_array(options.output, definition.is_classifier() ? "logits" : "images", output,
                     {{"model", definition.name}});
  fmt::print("{}: {} of {}, {}, {} threads, {:.4g} s, of that attention {:.4g} s\n", options.output, batch,
             definition.name, name(type), threads, seconds.all, seconds.attention);
}

}  // namespace

void add_infer(CLI::App& app, int&) {
  auto options = std::make_shared<InferOptions>();
  CLI::App* command = app.add_subcommand("infer", "Run a whole model: images to logits, or latents to images");
  command->add_option("model", options->model, "Model, one of nalab list models")->required();
  command->add_option("input", options->input, "File with `images` [batch, height, width, 3] or `latents` [batch, 512]")
      ->required();
  command->add_option("output", options->output, "File to write: `logits` or `images`")->required();
  command->add_option("--weights", options->weights, "Weights file (schema nalab.weights/1)");
  add_number(*command, "--random", options->seed, "Random weights by this seed, as before training");
  command->add_option("--definitions", options->definitions,
                      "File with definitions of models, as those of data/models");
  command->add_option("--variant", options->variant, "Variant of attention; default: the best one of each layer");
  command->add_option("--dtype", options->type, "Element type: f32 or bf16")->capture_default_str();
  add_threads(*command, options->threads);
  command->callback([options] { infer(*options); });
}

}  // namespace nalab::cli
