#include "experiments/runner/tensors.h"

#include <cmath>
#include <limits>
#include <numbers>
#include <string>

namespace nalab::runner {

namespace {

/// Elements that one task fills.
constexpr int64_t kBlock = 1 << 14;

/// SplitMix64: turns a counter into independent bits.
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

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
  const double u = static_cast<double>((mix(stream + 2 * pair) >> 11) + 1) * 0x1p-53;  // in (0, 1]
  const double turn = static_cast<double>(mix(stream + 2 * pair + 1) >> 11) * 0x1p-53 * 2 * std::numbers::pi;
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

}  // namespace

GroupTensors::GroupTensors(const Problem& p, config::RowPass pass, int64_t seed, Workers& workers)
    : backward_(pass == config::RowPass::forward_backward),
      extra_(p.extra_tokens > 0),
      q_(p.type, q_shape(p)),
      k_(p.type, k_shape(p)),
      v_(p.type, v_shape(p)),
      out_(p.type, out_shape(p)),
      lse_(ElementType::f32, lse_shape(p)) {
  for (const Axis& axis : p.axes) layout_.push_back(axis.extent);
  if (extra_) {
    extra_k_ = Tensor(p.type, extra_k_shape(p));
    extra_v_ = Tensor(p.type, extra_v_shape(p));
  }
  if (backward_) {
    dout_ = Tensor(p.type, out_shape(p));
    dq_ = Tensor(p.type, q_shape(p));
    dk_ = Tensor(p.type, k_shape(p));
    dv_ = Tensor(p.type, v_shape(p));
    if (extra_) {
      dextra_k_ = Tensor(p.type, extra_k_shape(p));
      dextra_v_ = Tensor(p.type, extra_v_shape(p));
    }
  }
  const uint64_t problem_seed = mix(static_cast<uint64_t>(seed)) ^ hash(p.self_attention().id());
  Tensor* all[] = {&q_, &k_, &v_, &extra_k_, &extra_v_, &dout_};
  for (std::size_t t = 0; t < std::size(all); ++t) {
    const uint64_t stream = mix(problem_seed + t);
    fill(*all[t], workers, [stream](int64_t i) { return normal(stream, i); });
  }
}

Inputs GroupTensors::inputs() const {
  if (!extra_) return {q_.view(), k_.view(), v_.view(), {}, {}};
  return {q_.view(), k_.view(), v_.view(), extra_k_.view(), extra_v_.view()};
}

Outputs GroupTensors::outputs() { return {out_.view(), lse_.view()}; }

SavedForBackward GroupTensors::saved() const { return {out_.view(), lse_.view(), dout_.view()}; }

Gradients GroupTensors::gradients() {
  if (!extra_) return {dq_.view(), dk_.view(), dv_.view(), {}, {}};
  return {dq_.view(), dk_.view(), dv_.view(), dextra_k_.view(), dextra_v_.view()};
}

void GroupTensors::poison(Workers& workers) {
  for (Tensor* tensor : {&out_, &lse_, &dq_, &dk_, &dv_, &dextra_k_, &dextra_v_}) {
    fill(*tensor, workers, [](int64_t) { return std::numeric_limits<float>::quiet_NaN(); });
  }
}

std::vector<GroupTensors::Named> GroupTensors::named_gradients() const {
  std::vector<Named> list;
  if (!backward_) return list;
  list = {{"dq", &dq_}, {"dk", &dk_}, {"dv", &dv_}};
  if (extra_) {
    list.push_back({"dextra_k", &dextra_k_});
    list.push_back({"dextra_v", &dextra_v_});
  }
  return list;
}

std::vector<store::StoredTensor> GroupTensors::stored() const {
  std::vector<Named> list{{"q", &q_}, {"k", &k_}, {"v", &v_}};
  if (extra_) {
    list.push_back({"extra_k", &extra_k_});
    list.push_back({"extra_v", &extra_v_});
  }
  list.push_back({"out", &out_});
  list.push_back({"lse", &lse_});
  if (backward_) list.push_back({"dout", &dout_});
  for (const Named& gradient : named_gradients()) list.push_back(gradient);

  std::vector<store::StoredTensor> kept;
  for (const auto& [name, tensor] : list) {
    const TokenShape& shape = tensor->shape();
    const bool is_extra = tensor == &extra_k_ || tensor == &extra_v_ || tensor == &dextra_k_ || tensor == &dextra_v_;
    std::vector<int64_t> extents{shape.batch};
    if (is_extra) {
      extents.push_back(shape.layout[2]);
    } else {
      extents.insert(extents.end(), layout_.begin(), layout_.end());
    }
    extents.push_back(shape.heads);
    if (tensor != &lse_) extents.push_back(shape.dim);
    kept.push_back({name, extents, to_floats(*tensor)});
  }
  return kept;
}

std::vector<float> to_floats(const Tensor& tensor) {
  return with_element_type(tensor.type(), [&](auto element) {
    const auto* data = tensor.data<decltype(element)>();
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = to_float(data[i]);
    return values;
  });
}

}  // namespace nalab::runner
