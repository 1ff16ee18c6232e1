#include "experiments/selftest/placed_tensor.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace nalab::selftest {

namespace {

constexpr std::byte kUntouched{0xFF};
/// Elements before and after the tensor.
constexpr int64_t kMargin = 64;

/// batch, X1, X2, X3, heads: all extents but dim.
std::array<int64_t, 5> outer_extents(const TokenShape& shape) {
  return {shape.batch, shape.layout[0], shape.layout[1], shape.layout[2], shape.heads};
}

/// The outermost extent in memory first.
std::array<std::size_t, 5> permutation(int number) {
  std::array<std::size_t, 5> order{0, 1, 2, 3, 4};
  for (int i = 0; i < number; ++i) std::ranges::next_permutation(order);
  return order;
}

/// Calls visit(first of a row's elements) for all rows, row-major.
template <class T, class Visit>
void for_each_row(const TokenView<T>& view, const Visit& visit) {
  for (int64_t b = 0; b < view.shape.batch; ++b) {
    for (int64_t x1 = 0; x1 < view.shape.layout[0]; ++x1) {
      for (int64_t x2 = 0; x2 < view.shape.layout[1]; ++x2) {
        for (int64_t x3 = 0; x3 < view.shape.layout[2]; ++x3) {
          for (int64_t h = 0; h < view.shape.heads; ++h) visit(view.row(b, x1, x2, x3, h));
        }
      }
    }
  }
}

}  // namespace

PlacedTensor::PlacedTensor(ElementType type, const TokenShape& shape, Placement placement)
    : type_(type), shape_(shape) {
  const std::array<int64_t, 5> extents = outer_extents(shape);
  const auto gap = [&](std::size_t bit) { return static_cast<int64_t>(placement.gaps >> bit & 1u); };
  std::array<int64_t, 5> strides{};
  int64_t elements = shape.dim + gap(5);
  first_ = kMargin + gap(5);
  const auto order = permutation(placement.order);
  for (auto extent = order.rbegin(); extent != order.rend(); ++extent) {
    strides[*extent] = elements;
    first_ += gap(*extent) * elements;
    elements *= extents[*extent] + gap(*extent);
  }
  strides_ = {strides[0], {strides[1], strides[2], strides[3]}, strides[4]};
  memory_ = AlignedBuffer<std::byte>((elements + 2 * kMargin) * size_of(type));
  std::ranges::fill(memory_, kUntouched);
}

void PlacedTensor::set(const Tensor& source) {
  with_element_type(type_, [&](auto element) {
    using T = decltype(element);
    const T* from = source.data<T>();
    for_each_row(view().as<T>(), [&](T* row) {
      std::copy_n(from, shape_.dim, row);
      from += shape_.dim;
    });
  });
}

std::vector<float> PlacedTensor::values() {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(shape_.elements()));
  with_element_type(type_, [&](auto element) {
    for_each_row(view().as<decltype(element)>(), [&](const auto* row) {
      for (int64_t c = 0; c < shape_.dim; ++c) values.push_back(to_float(row[c]));
    });
  });
  return values;
}

bool PlacedTensor::surroundings_intact() {
  with_element_type(type_, [&](auto element) {
    for_each_row(view().as<decltype(element)>(), [&](auto* row) {
      std::memset(static_cast<void*>(row), 0xFF, static_cast<std::size_t>(shape_.dim) * sizeof *row);
    });
  });
  return std::ranges::all_of(memory_, [](std::byte b) { return b == kUntouched; });
}

}  // namespace nalab::selftest
