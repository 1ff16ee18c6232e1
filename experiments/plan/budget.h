// Fitting a run into the time that its configurations allow.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "experiments/plan/plan.h"

namespace nalab::plan {

/// Seconds that all rows of a group are expected to take.
double expected_seconds(const Group& group);
double expected_seconds(const ModelGroup& group);
/// The same for all groups of a plan.
double expected_seconds(const RunPlan& plan);

/// Asked about each group in turn. Plans are rough: what they said of the groups that have run corrects what they say
/// of the others of the configuration.
class Budget {
 public:
  /// Why a group is left out: it would end too late, or the self attention that its problems are compared with was left
  /// out. nullopt if it is to run, then spent() follows.
  std::optional<std::string> left_out(const Group& group);
  std::optional<std::string> left_out(const ModelGroup& group);

  /// The group has run, for so many seconds.
  void spent(const Group& group, double seconds);
  void spent(const ModelGroup& group, double seconds);

 private:
  struct Account {
    double spent = 0;                        ///< seconds
    double expected = 0;                     ///< seconds, of the same groups
    std::set<std::string> without_baseline;  ///< ids of problems
  };
  /// Why what is expected to take so long is left out, for its length alone.
  std::optional<std::string> too_long(const Account& account, const config::Timing& timing, double expected) const;

  std::map<std::string, Account> accounts_;  ///< by configuration
};

}  // namespace nalab::plan
