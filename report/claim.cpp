#include "report/claim.h"

#include <fmt/format.h>

#include <cmath>

#include "report/format.h"

namespace nalab::report {

Verdict judge(const Claim& claim) {
  if (!claim.ours) return Verdict::kNotMeasured;
  // As a share of the published improvement: negative where the signs differ.
  const double share = *claim.ours / claim.published;
  if (share >= claim.share_needed) return Verdict::kHolds;
  return share > 0 ? Verdict::kHoldsInPart : Verdict::kDoesNotHold;
}

std::string text_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kHolds:
      return "holds";
    case Verdict::kHoldsInPart:
      return "holds in part";
    case Verdict::kDoesNotHold:
      return "does not hold";
    case Verdict::kNotMeasured:
      break;
  }
  return "not measured";
}

std::string rule() {
  return "The improvement is speedup - 1. A claim holds where our improvement has the sign of the published one and at "
         "least half its size (all of it where attention alone is held against an end-to-end figure); it holds in part "
         "where it has the sign alone; else it does not hold.";
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
  table.columns = {
      {"claim", "", false}, {"source", "", false}, {"published", "", true}, {"here", "", true}, {"verdict", "", false}};
  table.records.fields = {"claim", "source", "published_improvement", "own_improvement", "verdict", "why_not"};
  for (const Claim& claim : claims) {
    const std::string verdict = text_of(judge(claim));
    table.rows.push_back({{claim.statement},
                          {claim.source},
                          {claim.published_text},
                          {claim.ours ? claim.ours_text : "n/a"},
                          {verdict, claim.ours ? 0 : table.footnote(claim.why_not)}});
    table.records.lines.push_back({claim.statement, claim.source, exact(claim.published),
                                   claim.ours ? exact(*claim.ours) : "", verdict, claim.why_not});
  }
  return table;
}

}  // namespace nalab::report
