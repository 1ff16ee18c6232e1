// The forward pass as a plain C call that times itself, so that bench/python/overhead.py can set calls from Python
// beside the same ones in C++, in one process, on the same arrays and threads.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>

#include "core/error.h"
#include "core/nalab.h"
#include "python/bindings/gomp_team.h"

using namespace nalab;

/// Seconds of `calls` calls on contiguous float32 tensors; out and lse are written. extent, window, dilation: `rank`
/// numbers each. before: called ahead of each, not timed; may be null. 0, or 1 if the library refuses the problem,
/// which it says on standard error.
extern "C" int nalab_time_forward(int rank, const int64_t* extent, const int64_t* window, const int64_t* dilation,
                                  int64_t batch, int64_t heads, int64_t head_dim, float* q, float* k, float* v,
                                  float* out, float* lse, void* gomp_parallel, int threads, void (*before)(), int calls,
                                  double* seconds) {
  try {
    Problem problem;
    problem.axes.clear();
    for (int i = 0; i < rank; ++i) problem.axes.push_back({extent[i], window[i], 1, dilation[i], false});
    problem.batch = batch;
    problem.heads = problem.heads_kv = heads;
    problem.head_dim = problem.head_dim_v = head_dim;
    static Context context(threads, python::team_of(gomp_parallel));
    static std::map<std::string, Plan> plans;
    const Plan& plan = plans.try_emplace(problem.id(), make_plan(problem, Pass::forward)).first->second;
    const auto view = [&](const TensorInfo& info, float* data) {
      return TensorView{data, info.type, info.shape, TokenStrides::contiguous(info.shape)};
    };
    const TensorInfo tokens = tensor_list::out(problem);
    const Inputs inputs{view(tokens, q), view(tokens, k), view(tokens, v)};
    const Outputs outputs{view(tokens, out), view(tensor_list::lse(problem), lse)};
    for (int call = 0; call < calls; ++call) {
      if (before != nullptr) before();
      const auto start = std::chrono::steady_clock::now();
      attention_forward(plan, inputs, outputs, context);
      seconds[call] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
