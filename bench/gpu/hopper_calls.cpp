// The forward pass on Hopper GPUs as plain C calls, so that a Python script can time it beside other libraries on the
// same tensors: bench/gpu/peers.py.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/gpu/hopper/hopper.h"

namespace {

using namespace nalab;

/// As ctypes has it in bench/gpu/hopper_calls.py.
struct Call {
  int64_t rank;
  int64_t extent[3], window[3], stride[3], dilation[3], causal[3];  ///< the first `rank` count
  int64_t batch, heads, heads_kv, head_dim, head_dim_v, extra_tokens;
  int64_t f16;   ///< 0: bf16
  double scale;  ///< NaN: the default
  void *q, *k, *v, *extra_k, *extra_v, *out;
  float* lse;
};

Problem problem_of(const Call& call) {
  Problem p;
  for (int64_t x = 0; x < call.rank; ++x) {
    p.axes.push_back({call.extent[x], call.window[x], call.stride[x], call.dilation[x], call.causal[x] != 0});
  }
  p.batch = call.batch;
  p.heads = call.heads;
  p.heads_kv = call.heads_kv;
  p.head_dim = call.head_dim;
  p.head_dim_v = call.head_dim_v;
  p.extra_tokens = call.extra_tokens;
  p.type = call.f16 != 0 ? ElementType::f16 : ElementType::bf16;
  if (call.scale == call.scale) p.scale = call.scale;
  p.validate();
  return p;
}

template <class View>
View view(void* data, ElementType type, const TokenShape& shape) {
  return {data, type, shape, TokenStrides::contiguous(shape)};
}

/// Runs body; its result, or 0 and the error's message.
template <class Body>
auto guarded(char* message, int64_t size, const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::exception& error) {
    std::strncpy(message, error.what(), static_cast<std::size_t>(size - 1));
    return {};
  }
}

constexpr std::size_t kAllShapes = 100000;

std::vector<gpu::TileShape> shapes_of(const Problem& p, std::size_t most) {
  return gpu::tile_shapes(p, gpu::GpuLimits{}, most);
}

}  // namespace

extern "C" {

/// Names of the best tile shapes, one a line. Returns their number.
int64_t nalab_shapes(const Call* call, int64_t most, char* names, int64_t size, char* message, int64_t message_size) {
  return guarded(message, message_size, [&]() -> int64_t {
    std::string text;
    const auto shapes = shapes_of(problem_of(*call), static_cast<std::size_t>(most));
    for (const auto& shape : shapes) text += gpu::to_string(shape) + "\n";
    std::strncpy(names, text.c_str(), static_cast<std::size_t>(size - 1));
    return static_cast<int64_t>(shapes.size());
  });
}

/// A call that is ready to run, with the tiles of a name, or the first choice if it is empty. `executed`: FLOPs.
void* nalab_open(const Call* call, const char* name, int64_t* executed, char* message, int64_t message_size) {
  return guarded(message, message_size, [&]() -> void* {
    const Problem p = problem_of(*call);
    const std::string wanted = name;
    gpu::TileShape shape = shapes_of(p, 1).front();
    if (!wanted.empty()) {
      auto shapes = shapes_of(p, kAllShapes);
      const auto found = std::ranges::find_if(shapes, [&](gpu::TileShape& candidate) {
        candidate.ping_pong = wanted.ends_with("_ping_pong");
        return gpu::to_string(candidate) == wanted;
      });
      if (found == shapes.end()) throw Error("there are no tiles " + wanted);
      shape = *found;
    }
    const Inputs inputs{view<ConstTensorView>(call->q, p.type, q_shape(p)),
                        view<ConstTensorView>(call->k, p.type, k_shape(p)),
                        view<ConstTensorView>(call->v, p.type, v_shape(p)),
                        view<ConstTensorView>(call->extra_k, p.type, extra_k_shape(p)),
                        view<ConstTensorView>(call->extra_v, p.type, extra_v_shape(p))};
    const Outputs outputs{view<TensorView>(call->out, p.type, out_shape(p)),
                          view<TensorView>(call->lse, ElementType::f32, lse_shape(p))};
    const gpu::TilePlan plan = gpu::make_tile_plan(p, shape);
    *executed = gpu::executed_flops(plan, p);
    return new gpu::hopper::Forward(p, plan, inputs, outputs);
  });
}

/// Returns whether the call has started.
int64_t nalab_run(void* forward, void* stream, char* message, int64_t message_size) {
  return guarded(message, message_size, [&]() -> int64_t {
    static_cast<gpu::hopper::Forward*>(forward)->run(stream);
    return 1;
  });
}

/// Groups of 16 queries that the last call has computed twice.
int64_t nalab_recomputed(void* forward, char* message, int64_t message_size) {
  return guarded(message, message_size,
                 [&]() -> int64_t { return static_cast<gpu::hopper::Forward*>(forward)->recomputed(); });
}

void nalab_close(void* forward) { delete static_cast<gpu::hopper::Forward*>(forward); }

}  // extern "C"
