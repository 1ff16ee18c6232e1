#!/usr/bin/env bash
# Prints the README's table of results from data/results/gna_op_level.h5, as Markdown: rows with published figures. An
# asterisk marks a speedup of which one of the two times has fewer than 3 samples.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
build/release/nalab report data/results/gna_op_level.h5 --format csv -o "$out" > /dev/null
awk -F, '
  NR == 1 { for (i = 1; i <= NF; ++i) column[$i] = i }
  function field(name) { return $(column[name]) }
  NR == 1 {
    print "| use case | window | stride | ms | over self attention | FLOP-wise bound | H100 | B200 |"
    print "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"
    next
  }
  field("published_h100") != "" {
    mark = field("samples") < 3 || field("self_attention_samples") < 3 ? "\\*" : ""
    printf "| %s | %s | %s | %.0f | %.1fx%s | %.1fx | %.1fx | %.1fx |\n", field("use_case"), field("window"),
      field("stride"), 1000 * field("seconds"), field("speedup"), mark, field("flop_wise"), field("published_h100"),
      field("published_b200")
  }' "$out/gna_op_level_speedup.csv"
