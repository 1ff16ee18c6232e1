// The published figures of data/published, compiled in.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>

namespace nalab::report {

/// A file of data/published by its name without extension: "gna2025". Requires that it is compiled in.
const YAML::Node& published(const std::string& name);

}  // namespace nalab::report
