// Convolutions and linear layers of NAT-T: pieces on nalab's workers beside the same layer as one primitive on oneDNN's
// own threads, in turn, so that changes on the machine affect both alike. Attention aside, a model's time is made of
// these. Prints medians, the median and the quartiles of the ratios of neighbouring turns, and the sum over the model.
//
//   layers_bench [--samples N] [--threads N] [--type f32|bf16] [--batch N]
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "bench/quantile.h"
#include "models/build.h"
#include "models/layers/layers.h"

namespace nalab::models {
namespace {

using bench::quantile;

/// After their work threads of either side spin for a while, which would disturb the other side: it waits until they
/// sleep. Then its own are called until all of them are awake.
constexpr std::chrono::milliseconds kPause{5}, kWarmUp{5}, kTurn{10};

bool is_layer(const Node& node) {
  return std::holds_alternative<Convolution>(node.operation) || std::holds_alternative<Linear>(node.operation);
}

/// A layer's inputs and output, on workers.
struct Layer {
  Layer(const Graph& graph, const Node& node, int64_t batch, ElementType type, Workers& workers)
      : backend{workers, ""}, output(add(batch, type, node.extent)) {
    for (const Value input : node.inputs) {
      const Node& before = graph.node(input);
      inputs.push_back(add(batch, before.precision == Precision::full ? ElementType::f32 : type, before.extent));
    }
    if (node.precision == Precision::full) output = add(batch, ElementType::f32, node.extent);
  }

  Buffer add(int64_t batch, ElementType type, const Extent& extent) {
    Buffer buffer{nullptr, type, batch, extent};
    buffer.data = memories.emplace_back(buffer.elements() * size_of(type)).data();
    std::vector<float> values(static_cast<std::size_t>(buffer.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 13) / 8 - 0.75F;
    set_values(buffer, values);
    return buffer;
  }

  Backend backend;
  std::vector<AlignedBuffer<std::byte>> memories;
  std::vector<Buffer> inputs;
  Buffer output;
};

Step nalab_step(Layer& layer, const Node& node, const Weights& weights, Constants& constants) {
  const Site site{layer.backend, weights, constants, layer.inputs, layer.output};
  const OneThread here;
  if (const auto* convolution = std::get_if<Convolution>(&node.operation)) return make_step(*convolution, site);
  return make_step(std::get<Linear>(node.operation), site);
}

/// The whole layer as one primitive.
class Bare {
 public:
  Bare(const Layer& layer, const Node& node) : engine_(layer.backend.onednn.engine()), stream_(engine_) {
    const Buffer &x = layer.inputs.front(), &y = layer.output;
    if (const auto* convolution = std::get_if<Convolution>(&node.operation)) {
      make(*convolution, x, y);
    } else {
      make(std::get<Linear>(node.operation), x, y, layer.inputs.size() > 1 ? &layer.inputs[1] : nullptr);
    }
  }

  void operator()() {
    primitive_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  static memory::desc rows(const Buffer& buffer) {
    return matrix_desc(buffer.type, buffer.tokens(), buffer.extent.channels, buffer.extent.channels);
  }
  static memory::desc image(const Buffer& buffer) {
    const Extent& extent = buffer.extent;
    return {
        {buffer.batch, extent.channels, extent.rows, extent.columns}, dnnl_type(buffer.type), memory::format_tag::nhwc};
  }

  void add(int argument, const memory::desc& desc, std::byte* data) {
    arguments_.emplace(argument, memory(desc, engine_, data));
  }
  /// A constant, all zeros: the values do not change the time.
  void add(int argument, const memory::desc& desc) {
    const memory zeros(desc, engine_);
    std::memset(zeros.get_data_handle(), 0, desc.get_size());
    arguments_.emplace(argument, zeros);
  }

  void make(const Convolution& convolution, const Buffer& x, const Buffer& y) {
    const int64_t kernel = convolution.kernel, stride = convolution.stride, before = convolution.before;
    const auto after = [&](int64_t out, int64_t in) { return (out - 1) * stride + kernel - before - in; };
    const memory::desc weight({y.extent.channels, x.extent.channels, kernel, kernel}, dnnl_type(x.type),
                              memory::format_tag::any);
    const memory::desc bias = convolution.bias
                                  ? memory::desc({y.extent.channels}, memory::data_type::f32, memory::format_tag::a)
                                  : memory::desc();
    const dnnl::convolution_forward::primitive_desc desc(
        {dnnl::prop_kind::forward_inference,
         dnnl::algorithm::convolution_direct,
         image(x),
         weight,
         bias,
         image(y),
         {stride, stride},
         {before, before},
         {after(y.extent.rows, x.extent.rows), after(y.extent.columns, x.extent.columns)}},
        engine_);
    add(DNNL_ARG_SRC, image(x), x.data);
    add(DNNL_ARG_DST, image(y), y.data);
    add(DNNL_ARG_WEIGHTS, desc.weights_desc());
    if (convolution.bias) add(DNNL_ARG_BIAS, bias);
    primitive_ = dnnl::convolution_forward(desc);
  }

  void make(const Linear& linear, const Buffer& x, const Buffer& y, const Buffer* residual) {
    dnnl::post_ops after;
    if (linear.activation == Activation::gelu) after.append_eltwise(1, dnnl::algorithm::eltwise_gelu_erf, 0, 0);
    if (residual != nullptr) {
      add(DNNL_ARG_ATTR_MULTIPLE_POST_OP(after.len()) | DNNL_ARG_SRC_1, rows(*residual), residual->data);
      after.append_binary(dnnl::algorithm::binary_add, rows(*residual));
    }
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(after);
    const memory::desc weight({x.extent.channels, y.extent.channels}, dnnl_type(x.type), memory::format_tag::any);
    const memory::desc bias({1, y.extent.channels}, memory::data_type::f32, memory::format_tag::ab);
    const dnnl::matmul::primitive_desc desc({rows(x), weight, bias, rows(y)}, attributes, engine_);
    add(DNNL_ARG_SRC, rows(x), x.data);
    add(DNNL_ARG_DST, rows(y), y.data);
    add(DNNL_ARG_BIAS, bias);
    add(DNNL_ARG_WEIGHTS, desc.weights_desc());
    primitive_ = dnnl::matmul(desc);
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::unordered_map<int, memory> arguments_;
};

/// Seconds of a call, of as many as fill some time.
double call_for(std::chrono::milliseconds time, const Step& step) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  int calls = 0;
  for (; Clock::now() - start < time; ++calls) step();
  return std::chrono::duration<double>(Clock::now() - start).count() / calls;
}

double sample(const Step& step) {
  std::this_thread::sleep_for(kPause);
  call_for(kWarmUp, step);
  return call_for(kTurn, step);
}

/// Layers of the same shape, and how often the model has them.
struct Shape {
  const Node* node;
  int count = 0;
};

std::vector<std::pair<std::string, Shape>> shapes_of(const Graph& graph) {
  std::vector<std::pair<std::string, Shape>> shapes;
  for (const Node& node : graph.nodes()) {
    if (!is_layer(node)) continue;
    const Extent& in = graph.node(node.inputs.front()).extent;
    const bool convolution = std::holds_alternative<Convolution>(node.operation);
    const std::string name = std::string(convolution ? "convolution " : "linear ") + std::to_string(in.rows) + "x" +
                             std::to_string(in.columns) + ", " + std::to_string(in.channels) + " to " +
                             std::to_string(node.extent.channels) + (node.inputs.size() > 1 ? " + residual" : "");
    auto found = std::ranges::find(shapes, name, &std::pair<std::string, Shape>::first);
    if (found == shapes.end()) found = shapes.insert(shapes.end(), {name, {&node}});
    ++found->second.count;
  }
  return shapes;
}

void run(int samples, int threads, ElementType type, int64_t batch) {
  const Graph graph = build(find_definition("NAT-T"));
  const Weights weights = random_weights(parameters(graph), 1);
  Workers workers(threads);
  std::printf("NAT-T, batch %d, %s, %d threads; medians of %d turns; quartiles of the ratios\n",
              static_cast<int>(batch), std::string(nalab::name(type)).c_str(), threads, samples);
  double ours = 0, theirs = 0;
  for (const auto& [name, shape] : shapes_of(graph)) {
    Layer layer(graph, *shape.node, batch, type, workers);
    Constants constants(layer.backend.onednn, weights);
    const Step nalab = nalab_step(layer, *shape.node, weights, constants);
    omp_set_num_threads(threads);
    Bare bare(layer, *shape.node);
    const Step onednn = [&bare] { bare(); };
    std::vector<double> nalab_seconds, onednn_seconds, ratios;
    for (int i = 0; i < samples; ++i) {
      // Each comes first in turn.
      if (i % 2 == 0) nalab_seconds.push_back(sample(nalab));
      onednn_seconds.push_back(sample(onednn));
      if (i % 2 != 0) nalab_seconds.push_back(sample(nalab));
      ratios.push_back(nalab_seconds.back() / onednn_seconds.back());
    }
    ours += shape.count * quantile(nalab_seconds, 0.5);
    theirs += shape.count * quantile(onednn_seconds, 0.5);
    std::printf("%2d x %-38s nalab %8.3f ms  onednn %8.3f ms  ratio %.3f (%.3f to %.3f)\n", shape.count, name.c_str(),
                1e3 * quantile(nalab_seconds, 0.5), 1e3 * quantile(onednn_seconds, 0.5), quantile(ratios, 0.5),
                quantile(ratios, 0.25), quantile(ratios, 0.75));
  }
  std::printf("all layers: nalab %.2f ms, onednn %.2f ms, ratio %.3f\n", 1e3 * ours, 1e3 * theirs, ours / theirs);
}

}  // namespace
}  // namespace nalab::models

int main(int argc, char** argv) {
  int samples = 15, threads = 2, batch = 8;
  std::string type = "f32";
  CLI::App app("Convolutions and linear layers of NAT-T beside bare primitives of oneDNN");
  app.add_option("--samples", samples, "Turns of each layer")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--threads", threads)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--type", type)->check(CLI::IsMember({"f32", "bf16"}))->capture_default_str();
  app.add_option("--batch", batch, "Images")->check(CLI::Range(1, 1000))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  nalab::models::run(samples, threads, nalab::parse_element_type(type), batch);
}
