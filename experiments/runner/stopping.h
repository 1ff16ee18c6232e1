// When enough samples of a row are taken.
#pragma once

#include <span>
#include <string>

#include "experiments/config/config.h"

namespace nalab::runner {

/// Whether they are as many, and add up to as much time, as the configuration asks for at least.
bool are_enough(std::span<const double> samples, const config::Timing& timing);

/// The limit of the configuration that ends the sampling: count or time; empty if none does.
std::string limit_reached(std::span<const double> samples, const config::Timing& timing);

/// noise if the samples are enough and their median is known as well as the configuration asks for, else the limit that
/// they have reached; empty as long as more are wanted. Requires at least one.
std::string stopped_by(std::span<const double> samples, const config::Timing& timing);

}  // namespace nalab::runner
