#include "experiments/runner/tensors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/splitmix64.h"

namespace nalab::runner {

namespace {

/// Elements that one task fills.
constexpr int64_t kBlock = 1 << 14;

/// FNV-1a: the same on every machine.
uint64_t hash(const std::string& text) {
  uint64_t h = 0xCBF29CE484222325u;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return h;
}

/// Element i of a stream of standard normal numbers (Box-Muller): a function of its index, so that any thread may
/// compute it.
float normal(uint64_t stream, int64_t i) {
  const uint64_t pair = static_cast<uint64_t>(i) / 2;
  const double u = static_cast<double>((splitmix64(stream + 2 * pair) >> 11) + 1) * 0x1p-53;  // in (0, 1]
  const double turn = static_cast<double>(splitmix64(stream + 2 * pair + 1) >> 11) * 0x1p-53 * 2 * std::numbers::pi;
  const double radius = std::sqrt(-2 * std::log(u));
  return static_cast<float>(radius * (i % 2 == 0 ? std::cos(turn) : std::sin(turn)));
}

/// Sets element i to value(i).
template <class Value>
void fill(Tensor& tensor, Workers& workers, const Value& value) {
  const int64_t n = tensor.elements();
  with_element_type(tensor.type(), [&](auto element) {
    using T = decltype(element);
    T* data = tensor.data<T>();
    workers.for_each((n + kBlock - 1) / kBlock, [&](int64_t task, int) {
      const int64_t end = std::min(n, (task + 1) * kBlock);
      for (int64_t i = task * kBlock; i < end; ++i) data[i] = from_float<T>(value(i));
    });
  });
}

/// Number of the stream of a tensor that is not a result. New ones come last, so that stored results hold.
std::size_t stream_number(std::string_view name) {
  constexpr std::array<std::string_view, 9> kNames{"q", "k", "v", "extra_k", "extra_v", "dout", "rpb", "attn", "dattn"};
  const auto found = std::ranges::find(kNames, name);
  if (found == kNames.end()) throw Error("tensor " + std::string(name) + " has no stream of inputs");
  return static_cast<std::size_t>(found - kNames.begin());
}

/// What the seed of a problem's inputs depends on. A bias would change those of all other tensors.
std::string seed_text(const Problem& problem) {
  Problem self_attention = problem.self_attention();
  self_attention.relative_bias = false;
  return self_attention.id();
}

/// What the tensors depend on. A bias, and weights, have the extents of the window.
std::string tensors_text(const Problem& problem, config::RowPass pass, int64_t seed) {
  const bool has_window = problem.relative_bias || is_split(config::passes_of(pass).back());
  return (has_window ? problem.id() : seed_text(problem)) + " " + config::name(pass) + " " + std::to_string(seed);
}

}  // namespace

GroupTensors::GroupTensors(const Problem& problem, config::RowPass pass, int64_t seed, Workers& workers)
    : pass_(config::passes_of(pass).back()),
      tensors_(problem, pass_),
      inputs_(tensors_.inputs()),
      outputs_(tensors_.outputs()),
      saved_(tensors_.saved()),
      gradients_(tensors_.gradients()),
      attn_(tensors_.view("attn")),
      dattn_(tensors_.view("dattn")) {
  const uint64_t problem_seed = splitmix64(static_cast<uint64_t>(seed)) ^ hash(seed_text(problem));
  for (auto& [info, tensor] : tensors_.entries()) {
    if (info.is_result()) continue;
    const uint64_t stream = splitmix64(problem_seed + stream_number(info.name));
    fill(tensor, workers, [stream](int64_t i) { return normal(stream, i); });
  }
}

void GroupTensors::poison(Workers& workers) {
  for (auto& [info, tensor] : tensors_.entries()) {
    if (info.is_result()) fill(tensor, workers, [](int64_t) { return std::numeric_limits<float>::quiet_NaN(); });
  }
}

int64_t GroupTensors::bytes() const {
  int64_t bytes = 0;
  for (const auto& [info, tensor] : tensors_.entries()) bytes += size_of(tensor.type()) * tensor.elements();
  return bytes;
}

void GroupTensors::store(const Problem& problem, const std::function<void(const store::StoredTensor&)>& store) const {
  for (const TensorInfo& info : tensors_of(problem, pass_)) {
    store({std::string(info.name), info.extents(problem), to_floats(*tensors_.find(info.name))});
  }
}

void SharedTensors::prepare_for(const Problem& problem, config::RowPass pass, int64_t seed) {
  if (tensors_text(problem, pass, seed) != what_) tensors_.reset();
}

GroupTensors& SharedTensors::of(const Problem& problem, config::RowPass pass, int64_t seed, Workers& workers) {
  prepare_for(problem, pass, seed);
  if (tensors_ == nullptr) {
    tensors_ = std::make_unique<GroupTensors>(problem, pass, seed, workers);
    what_ = tensors_text(problem, pass, seed);
  }
  return *tensors_;
}

}  // namespace nalab::runner
