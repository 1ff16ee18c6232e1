#include "models/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <variant>
#include <vector>

#include "core/error.h"
#include "models/layers/timed_step.h"
#include "models/layers/training.h"
#include "models/memory_plan.h"
#include "models/onednn_errors.h"

namespace nalab::models {

namespace {

/// Steps of an operation that has a backward pass.
template <class Operation>
TrainingSteps steps_of(const Operation& operation, const BackwardSite& site) {
  if constexpr (requires { make_training_steps(operation, site); }) {
    return make_training_steps(operation, site);
  } else {
    throw Error("only classifiers can be trained: the model has an operation without a backward pass");
  }
}

template <class T>
void add(const Buffer& x, const Buffer& sum, int64_t first, int64_t count) {
  const T* source = x.as<T>() + first;
  T* target = sum.as<T>() + first;
  for (int64_t i = 0; i < count; ++i) target[i] = from_float<T>(to_float(target[i]) + to_float(source[i]));
}

/// sum += x
void add(Workers& workers, const Buffer& x, const Buffer& sum) {
  const Cut cut = Cut::about(x.elements(), 1 << 16);
  workers.for_each(cut.pieces(), [&](int64_t i, int) {
    x.type == ElementType::bf16 ? add<bf16>(x, sum, cut.first(i), cut.size(i))
                                : add<float>(x, sum, cut.first(i), cut.size(i));
  });
}

}  // namespace

struct Trainer::Parts {
  Parts(const Graph& graph, Weights first_weights, const ProgramOptions& options, Workers& workers)
      : backend{workers, {}, options.isa, options.arithmetic},
        type(options.type),
        list(parameters(graph)),
        weights(std::move(first_weights)),
        constants(backend.onednn, weights) {
    for (const Parameter& parameter : list) {
      const auto size = static_cast<std::size_t>(parameter.elements());
      gradients[parameter.name].resize(size);
      moments[parameter.name].resize(size);
      squares[parameter.name].resize(size);
    }
    place(graph, options.batch);
    make_steps(graph, options.variants);
  }

  void place(const Graph& graph, int64_t batch) {
    values = buffers_of(graph, batch, type);
    const std::vector<int64_t> sizes = bytes_of(values);
    const MemoryPlan plan = plan_memory(training_lifetimes(graph, sizes));
    memory = AlignedBuffer<std::byte>(plan.bytes);
    scratch = AlignedBuffer<std::byte>(*std::ranges::max_element(sizes));
    value_gradients = values;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i].data = memory.data() + plan.offsets[i];
      value_gradients[i].data = memory.data() + plan.offsets[values.size() + i];
    }
    value_gradients.front().data = nullptr;  // nobody asks for that of the images
  }

  void make_steps(const Graph& graph, const std::vector<std::string>& variants) {
    // From the last node to the first: the first one to give a value's gradient writes it, others add theirs.
    std::vector<bool> has_gradient(values.size());
    std::vector<TimedStep> reversed;
    for (std::size_t i = values.size(); i-- > 1;) {
      const Node& node = graph.nodes()[i];
      BackwardSite site{{backend, weights, constants, {}, values[i]}, value_gradients[i], {}, gradients};
      std::vector<std::pair<Buffer, Buffer>> sums;
      for (const Value input : node.inputs) {
        const auto j = static_cast<std::size_t>(input);
        site.forward.inputs.push_back(values[j]);
        Buffer target = value_gradients[j];
        if (has_gradient[j]) {
          target.data = scratch.data();
          sums.emplace_back(target, value_gradients[j]);
        }
        has_gradient[j] = true;
        site.d_inputs.push_back(target);
      }
      const bool is_attention = std::holds_alternative<Attention>(node.operation);
      TimedStep back{{}, is_attention};
      reversed.push_back(for_each_variant(is_attention, variants, backend, [&] {
        TrainingSteps steps =
            std::visit([&](const auto& operation) { return steps_of(operation, site); }, node.operation);
        back.forms.push_back(std::move(steps.backward));
        return std::move(steps.forward);
      }));
      backward.push_back(std::move(back));
      for (const auto& [from, to] : sums) {
        backward.push_back({{[this, from = from, to = to] { add(backend.workers, from, to); }}, false});
      }
    }
    forward.assign(std::make_move_iterator(reversed.rbegin()), std::make_move_iterator(reversed.rend()));
  }

  void run(const std::vector<TimedStep>& steps, Seconds& seconds) const {
    for (const TimedStep& step : steps) step.run(chosen, seconds);
  }

  /// Mean cross entropy, and its gradient by the logits.
  double loss(std::span<const int32_t> labels) {
    const Buffer& logits = values.back();
    const int64_t classes = logits.extent.channels, batch = logits.batch;
    double sum = 0;
    for (int64_t b = 0; b < batch; ++b) {
      const float* row = logits.as<float>() + b * classes;
      float* gradient = value_gradients.back().as<float>() + b * classes;
      const double greatest = *std::max_element(row, row + classes);
      double total = 0;
      for (int64_t c = 0; c < classes; ++c) total += std::exp(row[c] - greatest);
      const int32_t label = labels[static_cast<std::size_t>(b)];
      for (int64_t c = 0; c < classes; ++c) {
        const double probability = std::exp(row[c] - greatest) / total;
        gradient[c] = static_cast<float>((probability - (c == label ? 1 : 0)) / static_cast<double>(batch));
      }
      sum += std::log(total) + greatest - row[label];
    }
    return sum / static_cast<double>(batch);
  }

  void update(const AdamW& adam) {
    ++updates;
    const double scale1 = 1 - std::pow(adam.beta1, updates), scale2 = 1 - std::pow(adam.beta2, updates);
    for (const Parameter& parameter : list) {
      float* w = weights.at(parameter.name).data();
      float* m = moments.at(parameter.name).data();
      float* v = squares.at(parameter.name).data();
      const float* g = gradients.at(parameter.name).data();
      const bool decays = parameter.name.ends_with("weight") && parameter.shape.size() > 1;
      const auto kept = static_cast<float>(1 - (decays ? adam.rate * adam.decay : 0));
      const auto b1 = static_cast<float>(adam.beta1), b2 = static_cast<float>(adam.beta2);
      const auto rate = static_cast<float>(adam.rate / scale1), root = static_cast<float>(1 / std::sqrt(scale2)),
                 epsilon = static_cast<float>(adam.epsilon);
      const Cut cut = Cut::about(parameter.elements(), 1 << 16);
      backend.workers.for_each(cut.pieces(), [&](int64_t task, int) {
        for (int64_t i = cut.first(task); i < cut.first(task) + cut.size(task); ++i) {
          m[i] = b1 * m[i] + (1 - b1) * g[i];
          v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
          w[i] = kept * w[i] - rate * m[i] / (std::sqrt(v[i]) * root + epsilon);
        }
      });
    }
    constants.refresh(weights);
  }

  Backend backend;
  ElementType type;
  std::vector<Parameter> list;
  Weights weights, gradients, moments, squares;
  Constants constants;
  int64_t updates = 0;
  std::vector<Buffer> values, value_gradients;
  AlignedBuffer<std::byte> memory, scratch;
  std::vector<TimedStep> forward, backward;
  std::size_t chosen = 0;  ///< variant of the calls
};

Trainer::Trainer(const Graph& graph, Weights weights, const ProgramOptions& options, Workers& workers) {
  limit_instructions(options.isa.value_or(choose_isa()));
  with_onednn(options.type, [&] { parts_ = std::make_unique<Parts>(graph, std::move(weights), options, workers); });
}

Trainer::~Trainer() = default;

Trainer::Result Trainer::gradients(std::span<const float> images, std::span<const int32_t> labels) {
  Result result;
  const double start = steady_seconds();
  with_onednn(parts_->type, [&] {
    set_values(parts_->values.front(), images);
    parts_->run(parts_->forward, result.seconds);
    result.loss = parts_->loss(labels);
    parts_->run(parts_->backward, result.seconds);
  });
  result.seconds.all = steady_seconds() - start;
  return result;
}

void Trainer::choose(std::size_t variant) { parts_->chosen = variant; }

void Trainer::forget() {
  make_no_numbers(parts_->memory);
  make_no_numbers(parts_->scratch);
  for (auto& [name, gradient] : parts_->gradients) std::ranges::fill(gradient, NAN);
}

void Trainer::update(const AdamW& optimizer) {
  with_onednn(parts_->type, [&] { parts_->update(optimizer); });
}

void Trainer::set_weights(const Weights& weights) {
  for (auto& [name, values] : parts_->weights) values = weights.at(name);
  with_onednn(parts_->type, [&] { parts_->constants.refresh(parts_->weights); });
}

const Weights& Trainer::weights() const { return parts_->weights; }
const Weights& Trainer::weight_gradients() const { return parts_->gradients; }
int64_t Trainer::value_bytes(const Graph& graph, int64_t batch, ElementType type) {
  const std::vector<int64_t> sizes = bytes_of(buffers_of(graph, batch, type));
  return plan_memory(training_lifetimes(graph, sizes)).bytes + *std::ranges::max_element(sizes);
}

int64_t Trainer::memory_bytes() const {
  return parts_->memory.size() + parts_->scratch.size() + parts_->backend.workspace.size();
}

}  // namespace nalab::models
