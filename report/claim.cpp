#include "report/claim.h"

#include <fmt/format.h>

#include <cmath>

#include "report/figures.h"
#include "report/format.h"

namespace nalab::report {

ClaimVerdict judge(const Claim& claim) {
  if (!claim.ours) return ClaimVerdict::not_measured;
  if (!claim.why_not.empty()) return ClaimVerdict::not_judged;
  // As a share of the published improvement: negative if the signs differ.
  const double share = *claim.ours / claim.published;
  if (share >= claim.share_needed) return ClaimVerdict::holds;
  return share > 0 ? ClaimVerdict::holds_in_part : ClaimVerdict::does_not_hold;
}

std::string text_of(ClaimVerdict verdict) {
  switch (verdict) {
    case ClaimVerdict::holds:
      return "holds";
    case ClaimVerdict::holds_in_part:
      return "holds in part";
    case ClaimVerdict::does_not_hold:
      return "does not hold";
    case ClaimVerdict::not_judged:
      return "not judged";
    case ClaimVerdict::not_measured:
      break;
  }
  return "not measured";
}

std::string rule() {
  return fmt::format(
      "The improvement is speedup - 1. A claim holds if our improvement has the sign of the published one and at least "
      "half its size (all of it if attention alone is compared with an end-to-end figure). It holds in part if only "
      "the "
      "sign agrees; otherwise it does not hold. A claim whose figure rests on fewer than {} samples is not judged.",
      kFewestSamples);
}

std::string improvement_text(double improvement) {
  return std::abs(improvement) < 9 ? fmt::format("{:+.0f} %", improvement * 100)
                                   : significant(improvement + 1, 3) + "x";
}

Table claims_table(const std::vector<Claim>& claims) {
  Table table;
  table.name = kClaims;
  table.title = "What was published, and what holds here";
  table.caption = {rule()};
  using R = Claim;
  const std::vector<ColumnOf<R>> columns{
      {{"claim"}, "claim", [](const R& claim) { return plain(claim.statement); }},
      {{"source"}, "source", [](const R& claim) { return plain(claim.source); }},
      {{"published", "", true},
       "published_improvement",
       [](const R& claim) {
         return Value{claim.published_text, exact(claim.published)};
       }},
      {{"here", "", true},
       "own_improvement",
       [](const R& claim) {
         return claim.ours ? Value{claim.ours_text, exact(*claim.ours)} : Value{"n/a"};
       }},
      {{"verdict"},
       "verdict",
       [](const R& claim) {
         const std::string verdict = text_of(judge(claim));
         return Value{verdict, verdict, claim.why_not};
       }},
      {{}, "why_not", [](const R& claim) { return plain(claim.why_not); }},
  };
  fill(table, columns, claims);
  return table;
}

}  // namespace nalab::report
