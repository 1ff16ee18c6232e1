// What a publication claims, what was measured here, and the one rule by which the two are compared.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/table.h"

namespace nalab::report {

/// A published improvement and ours. An improvement is speedup - 1: 0.5 is 50 % faster, -0.2 is slower.
struct Claim {
  std::string statement;       ///< one sentence: "Fused is faster than naive on 1-D problems, forward, f16."
  std::string source;          ///< "Faster NA (arXiv:2403.04690), figure 1"
  double published = 0;        ///< improvement; not 0
  std::optional<double> ours;  ///< improvement; none if nothing was measured
  double share_needed = 0.5;   ///< share of the published improvement from which on the claim holds
  std::string published_text;  ///< the figure as published: "+1759 % on average"
  std::string ours_text = {};  ///< ours in the same form; empty if not measured
  std::string why_not = {};    ///< why there is no `ours`, or why it cannot be judged; empty if it can
  std::string table = {};      ///< name of the table of the same section that shows the figure; may be empty
};

enum class ClaimVerdict { holds, holds_in_part, does_not_hold, not_judged, not_measured };

/// "holds" if our improvement has the sign of the published one and at least the share of its size that the claim
/// needs, "holds in part" if only the sign agrees, otherwise "does not hold"; "not judged" if there is a reason not to.
ClaimVerdict judge(const Claim& claim);

/// "holds", "holds in part", "does not hold", "not judged", "not measured"
std::string text_of(ClaimVerdict verdict);

/// The rule of judge() in words.
std::string rule();

/// "+50 %" for 0.5; from tenfold on as a factor: "12.3x".
std::string improvement_text(double improvement);

/// The name of claims_table().
inline constexpr const char* kClaims = "claims";

/// All claims, one a row, with their verdicts. Requires a claim.
Table claims_table(const std::vector<Claim>& claims);

}  // namespace nalab::report
