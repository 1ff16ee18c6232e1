#include "core/problem.h"

#include <charconv>
#include <cmath>

#include "core/error.h"

namespace nalab {

namespace {

// Beyond these the counts would not fit in 64 bits.
constexpr int64_t kMaxExtent = int64_t{1} << 31;
constexpr double kMaxCount = 9e18;
// Workspaces pad rows to whole cache lines: at most this many times what the elements need.
constexpr double kMaxPadding = 64;

/// The shortest text that stands for this very number.
std::string number(double x) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, x).ptr};
}

}  // namespace

std::string Violation::to_string() const {
  return (axis > 0 ? "axis " + std::to_string(axis) + ": " : "") + parameter + " " + value + " " + rule;
}

double Problem::effective_scale() const { return scale ? *scale : 1.0 / std::sqrt(static_cast<double>(head_dim)); }

std::vector<Violation> Problem::violations() const {
  std::vector<Violation> found;
  const auto refuse = [&found](int axis, const char* parameter, std::string value, std::string rule) {
    found.push_back({axis, parameter, std::move(value), std::move(rule)});
  };
  const auto require_number = [&](bool holds, int axis, const char* parameter, int64_t value, std::string_view rule) {
    if (!holds) refuse(axis, parameter, std::to_string(value), std::string(rule));
  };

  require_number(rank() >= 1 && rank() <= geometry::kAxes, 0, "rank", rank(), "must be 1, 2 or 3");
  for (int i = 0; i < rank(); ++i) {
    const Axis& a = axes[i];
    require_number(a.extent >= 1, i + 1, "layout", a.extent, "must be at least 1");
    require_number(a.extent <= kMaxExtent, i + 1, "layout", a.extent, "must be at most 2147483648");
    require_number(a.dilation >= 1, i + 1, "dilation", a.dilation, "must be at least 1");
    require_number(a.window >= 1, i + 1, "window", a.window, "must be at least 1");
    if (a.extent >= 1 && a.dilation >= 1 && a.window >= 1 && a.window > a.extent / a.dilation) {
      refuse(i + 1, "window", std::to_string(a.window),
             "must be at most " + std::to_string(a.extent / a.dilation) + ", the layout " + std::to_string(a.extent) +
                 " div the dilation " + std::to_string(a.dilation));
    }
    require_number(a.stride >= 1, i + 1, "stride", a.stride, "must be at least 1");
    if (a.window >= 1 && a.stride > a.window) {
      refuse(i + 1, "stride", std::to_string(a.stride), "must be at most " + std::to_string(a.window) + ", the window");
    }
  }
  require_number(batch >= 1, 0, "batch", batch, "must be at least 1");
  require_number(heads >= 1, 0, "heads", heads, "must be at least 1");
  require_number(heads_kv >= 1, 0, "heads_kv", heads_kv, "must be at least 1");
  if (heads >= 1 && heads_kv >= 1 && heads % heads_kv != 0) {
    refuse(0, "heads_kv", std::to_string(heads_kv), "must divide heads " + std::to_string(heads));
  }
  require_number(head_dim >= 1, 0, "head_dim", head_dim, "must be at least 1");
  require_number(head_dim_v >= 1, 0, "head_dim_v", head_dim_v, "must be at least 1");
  require_number(extra_tokens >= 0, 0, "extra_tokens", extra_tokens, "must be at least 0");
  if (scale && !std::isfinite(*scale)) refuse(0, "scale", number(*scale), "must be finite");

  if (found.empty()) {
    double keys = 1;
    double tokens = 1;
    for (const Axis& a : axes) {
      keys *= static_cast<double>(a.window);
      tokens *= static_cast<double>(a.extent);
    }
    const double dims = static_cast<double>(head_dim) + static_cast<double>(head_dim_v);
    const double heads_in_all = static_cast<double>(batch) * static_cast<double>(heads);
    const double flops = 6 * heads_in_all * tokens * (keys + static_cast<double>(extra_tokens)) * dims;
    // The tensors of the backward pass: at most 2 * 4 bytes for q, out, k, v each, and lse; and two tables of biases,
    // less than twice the window along each axis.
    const double bytes = 18 * heads_in_all * (tokens + static_cast<double>(extra_tokens)) * dims +
                         (relative_bias ? 2 * 4 * 8 * static_cast<double>(heads) * keys : 0);
    if (!(flops < kMaxCount && bytes * kMaxPadding < kMaxCount)) {
      refuse(0, "problem", layout_text(*this), "must be small enough for its FLOPs and bytes to be counted in 64 bits");
    }
  }
  return found;
}

void Problem::validate() const {
  const std::vector<Violation> found = violations();
  if (found.empty()) return;
  std::string sentence;
  for (const Violation& v : found) sentence += (sentence.empty() ? "" : "; ") + v.to_string();
  throw Error(sentence);
}

std::array<Axis, geometry::kAxes> Problem::axes3() const {
  std::array<Axis, geometry::kAxes> padded;
  std::copy(axes.begin(), axes.end(), padded.end() - rank());
  return padded;
}

int64_t Problem::tokens() const {
  int64_t n = 1;
  for (const Axis& a : axes) n *= a.extent;
  return n;
}

int64_t Problem::keys_per_query() const {
  int64_t n = 1;
  for (const Axis& a : axes) n *= a.window;
  return n + extra_tokens;
}

int64_t Problem::attended_pairs() const {
  // The attended set is a product over the axes, and so is the number of pairs.
  int64_t pairs = 1;
  for (const Axis& a : axes) pairs *= a.attended_pairs();
  return pairs + tokens() * extra_tokens;
}

int64_t Problem::flops_per_pair(Pass pass) const {
  switch (pass) {
    case Pass::forward:
      return 2 * (head_dim + head_dim_v);
    case Pass::backward:
      return 2 * (3 * head_dim + 2 * head_dim_v);
    case Pass::weights:
      return 2 * head_dim;
    case Pass::weights_backward:
      return 4 * head_dim;
    case Pass::values:
      return 2 * head_dim_v;
    case Pass::values_backward:
      return 4 * head_dim_v;
  }
  return 0;
}

int64_t Problem::useful_flops(Pass pass) const { return batch * heads * attended_pairs() * flops_per_pair(pass); }

int64_t Problem::tensor_bytes(Pass pass) const {
  const int64_t element = size_of(type);
  const int64_t queries = batch * tokens() * heads;
  const int64_t keys = batch * (tokens() + extra_tokens) * heads_kv;
  const int64_t q = queries * head_dim, out = queries * head_dim_v, attn = queries * keys_per_query();
  const int64_t k = keys * head_dim, v = keys * head_dim_v;
  const int64_t lse = 4 * queries;
  const int64_t rpb = relative_bias ? 4 * heads * bias_entries() : 0;
  switch (pass) {
    case Pass::forward:
      return element * (q + k + v + out) + lse + rpb;
    case Pass::backward:
      // Reads q, k, v, out, dout and lse; writes dq, dk, dv.
      return element * 2 * (q + k + v + out) + lse + 2 * rpb;
    case Pass::weights:
      return element * (q + k + attn) + rpb;
    case Pass::weights_backward:
      return element * (2 * (q + k) + attn) + rpb;
    case Pass::values:
      return element * (attn + v + out);
    case Pass::values_backward:
      return element * (2 * (attn + v) + out);
  }
  return 0;
}

bool Problem::is_self_attention() const {
  for (const Axis& a : axes) {
    if (!a.covers_everything()) return false;
  }
  return true;
}

Problem Problem::self_attention() const {
  Problem dense = *this;
  dense.relative_bias = relative_bias && is_self_attention();
  for (Axis& a : dense.axes) a = {.extent = a.extent, .window = a.extent};
  return dense;
}

std::string Problem::id() const {
  std::string text = layout_text(*this);
  text += "_w" + extents_text(per_axis(*this, &Axis::window));
  text += "_s" + extents_text(per_axis(*this, &Axis::stride));
  text += "_d" + extents_text(per_axis(*this, &Axis::dilation));
  text += "_c" + extents_text(per_axis(*this, &Axis::causal));
  text += "_b" + std::to_string(batch) + "_h" + std::to_string(heads) + "_kv" + std::to_string(heads_kv);
  text += "_dk" + std::to_string(head_dim) + "_dv" + std::to_string(head_dim_v) + "_e" + std::to_string(extra_tokens);
  if (scale) text += "_scale" + number(*scale);
  return text + "_" + std::string(nalab::name(type)) + (relative_bias ? "_rpb" : "");
}

std::string extents_text(std::span<const int64_t> extents) {
  std::string text;
  for (const int64_t extent : extents) text += (text.empty() ? "" : "x") + std::to_string(extent);
  return text;
}

std::vector<int64_t> parse_extents(std::string_view field, std::string_view text) {
  std::vector<int64_t> extents;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    const auto [stop, code] = std::from_chars(at, end, extents.emplace_back());
    if (code != std::errc{} || (stop != end && *stop != 'x' && *stop != ',')) {
      throw Error(std::string(field) + " '" + std::string(text) +
                  "' must be whole numbers joined by x, such as 30x48x80");
    }
    if (stop == end) return extents;
    at = stop + 1;
  }
}

std::string layout_text(const Problem& problem) { return extents_text(per_axis(problem, &Axis::extent)); }

const char* name(Pass pass) {
  constexpr std::array kNames{"forward", "backward", "weights", "weights_backward", "values", "values_backward"};
  return kNames[static_cast<std::size_t>(pass)];
}

Pass parse_pass(std::string_view text) {
  std::string names;
  for (const Pass pass : kPasses) {
    if (text == name(pass)) return pass;
    names += (names.empty() ? "" : ", ") + std::string(name(pass));
  }
  throw Error("pass '" + std::string(text) + "' is none of " + names);
}

}  // namespace nalab
