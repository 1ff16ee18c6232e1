// What speaks against the times of a results file: the one place that judges what was seen of the machine.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "store/schema.h"

namespace nalab::store {

/// A reason to doubt times: "other programs ran on the same CPUs", and the rows that it is about.
struct Doubt {
  std::string reason;
  std::vector<const TimedRow*> rows;
};

/// The doubts about rows of a run, those without samples left out; empty if nothing speaks against the others. The
/// thresholds are 2 % of the CPUs for what a hypervisor or a quota took, 10 % for other programs beyond the CPUs that
/// the row left idle, 15 % for the peak, and 5 % for the standard error of a median whose sampling reached its limit.
std::vector<Doubt> doubts(const Environment& environment, const std::vector<const TimedRow*>& rows);

/// "2 of 7 times are doubtful: REASON (NAME, NAME)": a doubt about some of so many times.
std::string sentence(const Doubt& doubt, std::size_t times, std::string (*name)(const TimedRow&));

}  // namespace nalab::store
