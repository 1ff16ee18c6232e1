#include "experiments/model/difference.h"

#include <cmath>
#include <limits>
#include <span>

namespace nalab::model {

namespace {

double share_of(std::span<const float> found, std::span<const float> expected) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(found[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  if (difference == 0) return 0;
  return norm == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(difference / norm);
}

}  // namespace

Difference greatest_difference(const Results& found, const Results& expected) {
  Difference greatest;
  for (const auto& [name, values] : expected) {
    const double share = share_of({found.at(name).data(), values.size()}, values);
    // What is no number is greater than any.
    if (!greatest.name.empty() && !std::isnan(share) && !(share > greatest.share)) continue;
    greatest = {name, share};
    if (std::isnan(share)) break;
  }
  return greatest;
}

double bound_of(const Request& request) {
  if (request.type == ElementType::f32) return request.training ? 2e-5 : 1e-5;
  return request.training ? 0.05 : 0.01;
}

}  // namespace nalab::model
