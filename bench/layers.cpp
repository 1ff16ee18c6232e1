// Convolutions and linear layers of NAT-T, batch 8, f32: pieces on nalab's workers ("nalab") beside the same layer as
// one primitive on oneDNN's own threads ("onednn"). Attention aside, a model's time is made of these. NALAB_THREADS
// gives the threads of both. Run with OMP_WAIT_POLICY=passive: threads of oneDNN that spin would disturb the other.
#include <benchmark/benchmark.h>
#include <omp.h>

#include <set>
#include <string>
#include <variant>

#include "models/build.h"
#include "models/layers/layers.h"

namespace nalab::models {
namespace {

constexpr int64_t kBatch = 8;
constexpr bool is_layer(const Node& node) {
  return std::holds_alternative<Convolution>(node.operation) || std::holds_alternative<Linear>(node.operation);
}

Buffer buffer_of(const Extent& extent, std::vector<AlignedBuffer<float>>& memories) {
  const Buffer size{nullptr, ElementType::f32, kBatch, extent};
  AlignedBuffer<float>& data = memories.emplace_back(size.elements());
  for (int64_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i % 13 - 6) / 8;
  return {reinterpret_cast<std::byte*>(data.data()), ElementType::f32, kBatch, extent};
}

/// A layer with its memory.
struct Layer {
  Layer(const Graph& graph, const Node& node) : workers(choose_threads(0)), backend{workers, ""} {
    for (const Value input : node.inputs) inputs.push_back(buffer_of(graph.node(input).extent, memories));
    output = buffer_of(node.extent, memories);
  }

  Workers workers;
  Backend backend;
  std::vector<AlignedBuffer<float>> memories;
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
Step onednn_step(Layer& layer, const Node& node) {
  const dnnl::engine& engine = layer.backend.onednn.engine();
  const auto rows = [](const Buffer& b) {
    return matrix_desc(ElementType::f32, b.tokens(), b.extent.channels, b.extent.channels);
  };
  const auto image = [](const Buffer& b) {
    return memory::desc({b.batch, b.extent.channels, b.extent.rows, b.extent.columns}, memory::data_type::f32,
                        memory::format_tag::nhwc);
  };
  const Buffer &x = layer.inputs.front(), &y = layer.output;
  const int64_t in = x.extent.channels, out = y.extent.channels;
  std::unordered_map<int, memory> arguments;
  const auto add = [&](int argument, const memory::desc& desc, void* data) {
    arguments.emplace(argument, data == nullptr ? memory(desc, engine) : memory(desc, engine, data));
  };
  dnnl::primitive primitive;
  if (const auto* c = std::get_if<Convolution>(&node.operation)) {
    const memory::dims strides(2, c->stride), pad(2, c->before);
    const memory::dims after{(y.extent.rows - 1) * c->stride + c->kernel - c->before - x.extent.rows,
                             (y.extent.columns - 1) * c->stride + c->kernel - c->before - x.extent.columns};
    const memory::desc weight({out, in, c->kernel, c->kernel}, memory::data_type::f32, memory::format_tag::any);
    const dnnl::convolution_forward::primitive_desc desc(
        {dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, image(x), weight, image(y), strides,
         pad, after},
        engine);
    add(DNNL_ARG_SRC, image(x), x.data);
    add(DNNL_ARG_DST, image(y), y.data);
    add(DNNL_ARG_WEIGHTS, desc.weights_desc(), nullptr);
    primitive = dnnl::convolution_forward(desc);
  } else {
    dnnl::post_ops after;
    if (std::get<Linear>(node.operation).activation == Activation::gelu) {
      after.append_eltwise(1, dnnl::algorithm::eltwise_gelu_erf, 0, 0);
    }
    if (layer.inputs.size() > 1) {
      add(DNNL_ARG_ATTR_MULTIPLE_POST_OP(after.len()) | DNNL_ARG_SRC_1, rows(layer.inputs[1]), layer.inputs[1].data);
      after.append_binary(dnnl::algorithm::binary_add, rows(layer.inputs[1]));
    }
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(after);
    const memory::desc weight({in, out}, memory::data_type::f32, memory::format_tag::any);
    const memory::desc bias({1, out}, memory::data_type::f32, memory::format_tag::ab);
    const dnnl::matmul::primitive_desc desc({rows(x), weight, bias, rows(y)}, attributes, engine);
    add(DNNL_ARG_SRC, rows(x), x.data);
    add(DNNL_ARG_DST, rows(y), y.data);
    add(DNNL_ARG_BIAS, bias, nullptr);
    add(DNNL_ARG_WEIGHTS, desc.weights_desc(), nullptr);
    primitive = dnnl::matmul(desc);
  }
  return [primitive, arguments, stream = dnnl::stream(engine)]() mutable {
    primitive.execute(stream, arguments);
    stream.wait();
  };
}

void register_layers() {
  static const Graph graph = build(find_definition("NAT-T"));
  static const Weights weights = random_weights(parameters(graph), 1);
  std::set<std::string> names;
  for (const Node& node : graph.nodes()) {
    if (!is_layer(node)) continue;
    const Extent &in = graph.node(node.inputs.front()).extent, &out = node.extent;
    const std::string name = std::string(std::holds_alternative<Linear>(node.operation) ? "linear" : "convolution") +
                             "/" + std::to_string(in.rows) + "x" + std::to_string(in.columns) + "x" +
                             std::to_string(in.channels) + "_to_" + std::to_string(out.channels);
    if (!names.insert(name).second) continue;
    const double work = 2.0 * static_cast<double>(kBatch * out.elements() * in.channels) *
                        (std::holds_alternative<Linear>(node.operation) ? 1 : 9);
    const auto time = [work](benchmark::State& state, const Step& step) {
      for (auto _ : state) step();
      state.counters["FLOP"] = benchmark::Counter(work, benchmark::Counter::kIsIterationInvariantRate);
    };
    benchmark::RegisterBenchmark(("nalab/" + name).c_str(), [time, &node](benchmark::State& state) {
      Layer layer(graph, node);
      Constants constants(layer.backend.onednn, weights);
      time(state, nalab_step(layer, node, weights, constants));
    })->UseRealTime();
    benchmark::RegisterBenchmark(("onednn/" + name).c_str(), [time, &node](benchmark::State& state) {
      omp_set_num_threads(choose_threads(0));
      Layer layer(graph, node);
      time(state, onednn_step(layer, node));
    })->UseRealTime();
  }
}

}  // namespace
}  // namespace nalab::models

int main(int argc, char** argv) {
  nalab::models::register_layers();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
