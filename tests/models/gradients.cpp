// gradients DEFINITIONS MODEL WEIGHTS.h5 IN.h5 OUT.h5 VARIANT: the gradient of a classifier's loss by each parameter,
// for gradient_parity_test.py. IN.h5 has `images` [batch, height, width, 3] and `labels` [batch], a class of each.
// OUT.h5 gets `gradients`, one after the other in the order of the parameters' names.
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "models/build.h"
#include "models/trainer.h"
#include "store/arrays.h"

namespace nalab::models {
namespace {

Definition definition_of(const std::string& file, const std::string& name) {
  std::ifstream stream(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  return find_definition(parse_definitions(file, text), name);
}

void write_gradients(const std::vector<std::string>& arguments) {
  const std::string &weights_file = arguments[2], &input = arguments[3], &output = arguments[4];
  const Definition definition = definition_of(arguments[0], arguments[1]);
  const store::Array images = store::read_array(input, "images", 4), classes = store::read_array(input, "labels", 1);
  const std::vector<int32_t> labels(classes.data.begin(), classes.data.end());
  const Graph graph = build(definition, {.rows = images.shape[1], .columns = images.shape[2], .training = true});
  std::vector<store::WeightInfo> wanted;
  for (const Parameter& parameter : parameters(graph)) wanted.push_back({parameter.name, parameter.shape});

  Workers workers(choose_threads(0));
  Trainer trainer(graph, store::read_weights(weights_file, definition.name, wanted),
                  {.batch = images.shape[0], .variants = {arguments[5]}}, workers);
  trainer.gradients(images.data, labels);
  std::vector<float> all;
  for (const auto& [name, gradient] : trainer.weight_gradients())
    all.insert(all.end(), gradient.begin(), gradient.end());
  store::write_array(output, "gradients", {{std::ssize(all)}, all}, {{"model", definition.name}});
}

}  // namespace
}  // namespace nalab::models

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  try {
    nalab::models::write_gradients({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 2;
  }
}
