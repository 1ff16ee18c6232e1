#include "store/cases.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"
#include "core/tensors.h"
#include "store/hdf5.h"
#include "store/new_hdf5_file.h"

namespace nalab::store {

namespace {

using hdf5::Extents;
using hdf5::shape_text;

/// An extent that the tensor itself decides.
constexpr int64_t kAny = -1;

hdf5::Handle open_cases(const std::string& path) {
  hdf5::Handle file = hdf5::open_file(path);
  const std::string schema = hdf5::within(path, [&] { return hdf5::read_attribute<std::string>(file, "schema"); });
  if (schema != kCasesSchema) {
    throw Error(path + ": attribute schema is '" + schema + "', must be '" + kCasesSchema + "'");
  }
  return file;
}

/// Shape of a dataset of floating-point numbers.
Extents tensor_shape(hid_t group, const std::string& name) {
  if (!hdf5::has_link(group, name)) throw Error("tensor " + name + " is missing");
  const hdf5::Handle dataset = hdf5::open_dataset(group, name);
  const hdf5::Handle type(H5Dget_type(dataset), name);
  if (H5Tget_class(type) != H5T_FLOAT || H5Tget_size(type) > sizeof(double)) {
    throw Error("tensor " + name + " is " + hdf5::type_text(type) + ", must be float16, float32 or float64");
  }
  return hdf5::shape_of(dataset);
}

/// `open_extent` is what an extent kAny of `must` is called, `rule` stands behind the shape that it must have.
void require_shape(const std::string& name, const Extents& shape, const Extents& must, const std::string& open_extent,
                   const std::string& rule = "") {
  bool fits = shape.size() == must.size();
  std::string text;
  for (std::size_t i = 0; i < must.size(); ++i) {
    fits = fits && (must[i] == kAny || must[i] == shape[i]);
    text += (i > 0 ? ", " : "") + (must[i] == kAny ? open_extent : std::to_string(must[i]));
  }
  if (!fits) throw Error("tensor " + name + " has shape " + shape_text(shape) + ", must be [" + text + "]" + rule);
}

/// Requires the shape that the problem says.
void require_shape(const Problem& problem, const TensorInfo& info, const Extents& shape) {
  // No other tensor of a case says what the extents of a table are.
  const bool is_table = info.over == Over::offsets;
  require_shape(std::string(info.name), shape, info.extents(problem), "",
                is_table ? ": heads, then 2 window - 1 for each axis" : "");
}

Extents extents_of(const Problem& problem, std::string_view tensor) {
  return find_tensor(problem, tensor)->extents(problem);
}

void require_tensor(hid_t group, const Problem& problem, const std::string& name) {
  require_shape(problem, *find_tensor(problem, name), tensor_shape(group, name));
}

/// What the values of an attribute may be.
enum class Kind { integer, integer_or_boolean };

/// A value for each axis; a scalar stands for all.
std::vector<int64_t> read_per_axis(hid_t group, const std::string& name, int rank, Kind kind = Kind::integer) {
  const hdf5::Handle attribute = hdf5::open_attribute(group, name);
  const hdf5::Handle type = hdf5::type_of_attribute(attribute);
  // h5py writes booleans as an enumeration of FALSE and TRUE, 0 and 1.
  const bool booleans = kind == Kind::integer_or_boolean && H5Tget_class(type) == H5T_ENUM;
  if (H5Tget_class(type) != H5T_INTEGER && !booleans) {
    throw Error("attribute " + name + " is " + hdf5::type_text(type) + ", must be an integer" +
                (kind == Kind::integer ? "" : " or boolean") + " per axis, or one for all");
  }
  const hdf5::Handle space(H5Aget_space(attribute), name);
  const Extents shape = hdf5::extents(space);
  const bool is_scalar = H5Sget_simple_extent_type(space) == H5S_SCALAR;
  if (shape != Extents{rank} && !is_scalar) {
    throw Error("attribute " + name + " has shape " + shape_text(shape) + ", must be " + shape_text({rank}) +
                " as q has " + std::to_string(rank) + (rank == 1 ? " token axis" : " token axes") + ", or a scalar");
  }
  std::vector<int64_t> values(static_cast<std::size_t>(rank));
  hdf5::check(H5Aread(attribute, hdf5::value_type<int64_t>(), values.data()), "attribute " + name);
  if (is_scalar) std::fill(values.begin(), values.end(), values.front());
  return values;
}

/// The problem that tensors and attributes describe, valid.
Problem read_problem(hid_t group) {
  Problem problem;
  const Extents q = tensor_shape(group, "q");
  if (q.size() < 4 || q.size() > 6) {
    throw Error("tensor q has shape " + shape_text(q) + ", must be [batch, X1, (X2, (X3,)) heads, head_dim]");
  }
  const int rank = static_cast<int>(q.size()) - 3;
  problem.batch = q.front();
  problem.heads = q[q.size() - 2];
  problem.head_dim = q.back();
  for (int i = 0; i < rank; ++i) problem.axes.push_back({.extent = q[i + 1]});

  // Reads the one extent of a tensor's shape that is still open, and requires the others.
  const auto take = [&](const std::string& tensor, int64_t& extent, const std::string& extent_name) {
    extent = kAny;
    const Extents must = extents_of(problem, tensor);
    const Extents shape = tensor_shape(group, tensor);
    require_shape(tensor, shape, must, extent_name);
    extent = shape[static_cast<std::size_t>(std::find(must.begin(), must.end(), kAny) - must.begin())];
  };
  take("k", problem.heads_kv, "heads_kv");
  take("v", problem.head_dim_v, "head_dim_v");
  const bool extra_k = hdf5::has_link(group, "extra_k");
  if (extra_k != hdf5::has_link(group, "extra_v")) {
    throw Error(std::string("tensor ") + (extra_k ? "extra_v" : "extra_k") + " is missing; it must come with " +
                (extra_k ? "extra_k" : "extra_v"));
  }
  if (extra_k) {
    take("extra_k", problem.extra_tokens, "extra_tokens");
    require_tensor(group, problem, "extra_v");
  }

  const auto window = read_per_axis(group, "window", rank);
  const auto stride = read_per_axis(group, "stride", rank);
  const auto dilation = read_per_axis(group, "dilation", rank);
  const auto causal = read_per_axis(group, "causal", rank, Kind::integer_or_boolean);
  for (int i = 0; i < rank; ++i) {
    if (causal[i] != 0 && causal[i] != 1) {
      throw Error("axis " + std::to_string(i + 1) + ": causal " + std::to_string(causal[i]) + " must be 0 or 1");
    }
    problem.axes[i] = {q[i + 1], window[i], stride[i], dilation[i], causal[i] == 1};
  }
  if (hdf5::has_attribute(group, "scale")) problem.scale = hdf5::read_attribute<double>(group, "scale");
  problem.relative_bias = hdf5::has_link(group, "rpb");
  problem.validate();

  const double needed = static_cast<double>(problem.tensor_bytes(Pass::backward));
  const double memory = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  if (needed > memory) {
    throw Error("its tensors need " + std::to_string(static_cast<int64_t>(needed / 1e9)) +
                " GB, more than this machine's memory of " + std::to_string(static_cast<int64_t>(memory / 1e9)) +
                " GB");
  }
  return problem;
}

template <class T>
std::vector<T> read_tensor(hid_t group, const std::string& name) {
  return hdf5::within("tensor " + name, [&] { return hdf5::read_values<T>(hdf5::open_dataset(group, name)); });
}

/// A float that rounds to the same number of 16 bits as the double does: the one towards zero, its last bit set if that
/// is not exact ("round to odd"). Rounding twice to nearest would be wrong near the middle of two.
float before_rounding(double x) {
  const auto nearest = static_cast<float>(x);
  if (std::isnan(x) || static_cast<double>(nearest) == x) return nearest;
  const bool is_above = std::abs(static_cast<double>(nearest)) > std::abs(x);
  const uint32_t towards_zero = std::bit_cast<uint32_t>(nearest) - (is_above ? 1 : 0);
  return std::bit_cast<float>(towards_zero | 1);
}

/// An input, rounded to nearest even of its type, as float.
std::vector<float> read_input(hid_t group, const TensorInfo& info) {
  const std::string name(info.name);
  const hdf5::Handle dataset = hdf5::open_dataset(group, name);
  if (H5Tget_size(hdf5::Handle(H5Dget_type(dataset), name)) <= sizeof(float)) {
    std::vector<float> values = read_tensor<float>(group, name);
    with_element_type(info.type, [&](auto element) {
      for (float& value : values) value = to_float(from_float<decltype(element)>(value));
    });
    return values;
  }
  const std::vector<double> exact = read_tensor<double>(group, name);
  std::vector<float> values(exact.size());
  with_element_type(info.type, [&](auto element) {
    using T = decltype(element);
    std::ranges::transform(exact, values.begin(), [](double x) {
      if constexpr (std::is_same_v<T, float>) return static_cast<float>(x);
      return to_float(from_float<T>(before_rounding(x)));
    });
  });
  return values;
}

/// The tensors that a case has, inputs and results.
std::vector<TensorInfo> tensors_of(const CaseHeader& header) {
  return nalab::tensors_of(header.problem, header.backward ? Pass::backward : Pass::forward);
}

void check_expected(hid_t group, const CaseHeader& header) {
  for (const TensorInfo& info : tensors_of(header)) {
    if (!info.is_result()) continue;
    const std::string name(info.name);
    require_shape(header.problem, info, tensor_shape(group, name));
  }
}

CaseHeader read_header(hid_t group, const std::string& name) {
  CaseHeader header{.name = name, .problem = read_problem(group)};
  header.backward = hdf5::has_link(group, "dout");
  for (const TensorInfo& info : tensors_of(header)) {
    if (!info.is_result()) require_tensor(group, header.problem, std::string(info.name));
  }
  header.has_expected = hdf5::has_link(group, "expected");
  if (header.has_expected) {
    hdf5::within("expected", [&] { check_expected(hdf5::open_group(group, "expected"), header); });
  }
  return header;
}

/// What body(group) returns for the group of a case; errors of it name the file and the group.
template <class Body>
auto within_case(const std::string& path, const std::string& name, const Body& body) {
  const hdf5::Handle file = open_cases(path);
  return hdf5::within(path, [&] {
    const hdf5::Handle group = hdf5::open_group(file, name);
    return hdf5::within("group " + name, [&] { return body(group); });
  });
}

}  // namespace

std::vector<std::string> case_names(const std::string& path) {
  const hdf5::Handle file = open_cases(path);
  return hdf5::within(path, [&] { return hdf5::children(file, H5O_TYPE_GROUP); });
}

Case read_case(const std::string& path, const std::string& name, ElementType type) {
  return within_case(path, name, [&](hid_t group) {
    Case c{read_header(group, name), {}, {}};
    c.problem.type = type;
    for (const TensorInfo& info : tensors_of(c)) {
      const std::string tensor(info.name);
      if (!info.is_result()) {
        c.tensors[tensor] = read_input(group, info);
      } else if (c.has_expected) {
        c.expected[tensor] =
            hdf5::within("expected", [&] { return read_tensor<double>(hdf5::open_group(group, "expected"), tensor); });
      }
    }
    return c;
  });
}

CaseHeader read_case_header(const std::string& path, const std::string& name) {
  return within_case(path, name, [&](hid_t group) { return read_header(group, name); });
}

std::string read_schema(const std::string& path) {
  const hdf5::Handle file = hdf5::open_file(path);
  if (!hdf5::has_attribute(file, "schema")) return "";
  return hdf5::within(path, [&] { return hdf5::read_attribute<std::string>(file, "schema"); });
}

struct OutputsFile::State {
  hdf5::NewHdf5File file;
};

OutputsFile::OutputsFile(const std::string& path) : state_(new State{hdf5::NewHdf5File(path)}) {
  state_->file.write([](hid_t file) { hdf5::write_attribute(file, "schema", std::string(kOutputsSchema)); });
}

OutputsFile::~OutputsFile() = default;

void OutputsFile::write(const CaseOutputs& outputs) {
  state_->file.write([&](hid_t file) {
    const hdf5::Handle group = hdf5::create_group(file, outputs.name);
    for (const auto& [name, dataset] : outputs.datasets) hdf5::write_tensor(group, name, dataset.shape, dataset.data);
  });
}

void OutputsFile::commit() { state_->file.commit(); }

}  // namespace nalab::store
