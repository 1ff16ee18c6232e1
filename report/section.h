// A section of a report: what one module has to say about the results.
#pragma once

#include <string>
#include <vector>

#include "core/device.h"
#include "report/claim.h"
#include "report/plot.h"
#include "report/table.h"

namespace nalab::report {

struct Section {
  std::string name;                  ///< of its anchor: letters, digits, '_', '-' and '.'
  std::string title;                 ///< a few words
  std::vector<std::string> about;    ///< sentences before the first plot; may be empty
  std::vector<std::string> sources;  ///< publications: "Faster Neighborhood Attention, 2024, arXiv:2403.04690"
  std::vector<Claim> claims;         ///< shown on the first screen
  std::vector<Plot> plots;           ///< before the tables
  std::vector<Table> tables;
};

/// The name of what is of one device, apart from those of others.
inline std::string name_on(Device device, const std::string& name) {
  return device == Device::cpu ? name : name + "_gpu";
}
/// The same of a title.
inline std::string title_on(Device device, const std::string& title) {
  return device == Device::cpu ? title : title + ", on a GPU";
}

}  // namespace nalab::report
