// The plot of a sweep, after figure 3 of Generalized NA (2504.16922).
#include <fmt/format.h>

#include <string>
#include <vector>

#include "cli/sim/output.h"
#include "report/gnuplot.h"

namespace nalab::cli {

using simulator::SweepPoint;

namespace {

/// The request without what is varied: "layout 30x48x80, window 18x24x24, query tile 4x8x8, KV tile 2x8x8".
std::string title(const SimRequest& request) {
  const std::string& varied = request.options.sweep;
  std::string text = "layout " + layout_text(request.problem);
  if (varied != "window") text += ", window " + request.options.window;
  if (varied != "stride") text += ", stride " + request.options.stride;
  if (varied != "q-tile") text += ", query tile " + extents_text(request.tiles.query);
  if (varied != "kv-tile") text += ", KV tile " + extents_text(request.tiles.kv);
  return text;
}

}  // namespace

void plot_sweep(const SimRequest& request, const std::vector<SweepPoint>& points, store::NewFile& file) {
  constexpr size_t kMostLabels = 60;  // more would not be readable
  // A line for each point: rank, FLOP-wise bound, speedup if not block-sparse, speedup if block-sparse, label.
  std::string script = "$points << END\n";
  for (size_t i = 0; i < points.size(); ++i) {
    const simulator::Simulation& s = points[i].simulation;
    const std::string speedup = fmt::format("{:.6g}", s.speedup_worst());
    script += fmt::format("{} {:.6g} {} {} {}\n", i, s.speedup_flops(), s.perfectly_block_sparse() ? "NaN" : speedup,
                          s.perfectly_block_sparse() ? speedup : "NaN", extents_text(points[i].value));
  }
  script += "END\n";
  script += fmt::format("set terminal {} size 960,600 font 'sans,13' background 'white'\n",
                        request.options.plot.ends_with(".png") ? "pngcairo" : "svg");
  script += fmt::format("set title '{}'\nset xlabel '{}'\n", title(request), request.options.sweep);
  script += "set ylabel 'speedup over self attention (worst query tile)'\n";
  // Windows reach from one token to all: their speedups span orders of magnitude.
  script += request.options.sweep == "window" ? "set logscale y\nset yrange [0.9:*]\n" : "set yrange [0:*]\n";
  script += "set xrange [-0.7:*]\nset offsets 0, 0.7, graph 0.15, 0\nset grid ytics\nset key top left\n";
  script += "set style fill solid 0.8\nset boxwidth 0.8\nset xtics rotate by 45 right nomirror\n";
  const bool labelled = points.size() <= kMostLabels;
  if (!labelled) script += "unset xtics\n";
  script += fmt::format("plot $points using 1:3{} with boxes linecolor 'steelblue' title 'needs fine masks', \\\n",
                        labelled ? ":xtic(5)" : "");
  script += "$points using 1:4 with boxes linecolor 'forest-green' title 'perfectly block-sparse', \\\n";
  script += "$points using 1:2 with lines dashtype 2 linecolor 'black' title 'FLOP-wise bound'\n";
  file.commit(report::run_gnuplot(script, "the plot " + request.options.plot));
}

}  // namespace nalab::cli
