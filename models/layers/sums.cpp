// Sums over tokens in a fixed order, whatever the number of threads.
#include <algorithm>

#include "models/layers/training.h"

namespace nalab::models {

namespace {

constexpr int64_t kSlice = 512;           // tokens that are added up at a time
constexpr int64_t kNumbersAtOnce = 4096;  // of a task that adds partial sums

}  // namespace

void add_up(Workers& workers, const float* partial, int64_t count, int64_t size, float* sum) {
  const Cut cut = Cut::about(size, kNumbersAtOnce);
  workers.for_each(cut.pieces(), [&](int64_t task, int) {
    const int64_t first = cut.first(task), numbers = cut.size(task);
    std::copy_n(partial + first, numbers, sum + first);
    for (int64_t i = 1; i < count; ++i) {
      for (int64_t j = 0; j < numbers; ++j) sum[first + j] += partial[i * size + first + j];
    }
  });
}

int64_t column_slices(int64_t rows) { return Cut::about(rows, kSlice).pieces(); }

void add_columns(Workers& workers, const Buffer& matrix, float* partial, float* sum) {
  const int64_t columns = matrix.extent.channels;
  const Cut cut = Cut::about(matrix.tokens(), kSlice);
  const auto add_slice = [&]<class T>(int64_t task, T) {
    float* target = partial + task * columns;
    std::fill_n(target, columns, 0.0F);
    const T* row = matrix.as<T>() + cut.first(task) * columns;
    for (int64_t i = 0; i < cut.size(task); ++i, row += columns) {
      for (int64_t c = 0; c < columns; ++c) target[c] += to_float(row[c]);
    }
  };
  workers.for_each(cut.pieces(), [&](int64_t task, int) {
    if (matrix.type == ElementType::bf16) {
      add_slice(task, bf16{});
    } else {
      add_slice(task, float{});
    }
  });
  add_up(workers, partial, cut.pieces(), columns, sum);
}

}  // namespace nalab::models
