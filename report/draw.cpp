#include "report/draw.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <span>

#include "core/error.h"
#include "report/format.h"
#include "report/gnuplot.h"

namespace nalab::report {
namespace {

struct Colour {
  const char* name;  ///< of the CSS variable
  uint32_t light, dark;
};

// They differ in brightness too, for readers who do not see the hues, and are legible on their background.
constexpr std::array kOurs{Colour{"ours-1", 0x2f6fd0, 0x6ea8ff}, Colour{"ours-2", 0x0f8f84, 0x3fc9b8},
                           Colour{"ours-3", 0x8b4fc4, 0xc294f0}, Colour{"ours-4", 0x5a8f1f, 0x9ccf5e},
                           Colour{"ours-5", 0x1b3f7a, 0xaec9f5}, Colour{"ours-6", 0xb04a86, 0xf08fc4}};
constexpr std::array kPublished{Colour{"published-1", 0xd9771f, 0xffa657}, Colour{"published-2", 0xb8452f, 0xff7b6b},
                                Colour{"published-3", 0xa8860b, 0xe3c34a}};
constexpr std::array kBaseline{Colour{"baseline-1", 0xb3b8bf, 0x6b727b}, Colour{"baseline-2", 0x6f7680, 0xb9bfc7}};
constexpr std::array kBound{Colour{"bound-1", 0x1f2328, 0xe6e8eb}, Colour{"bound-2", 0x5c6470, 0xb4bac2}};
constexpr std::array kFrame{Colour{"plot-frame", 0x767c84, 0x8b929b}, Colour{"plot-grid", 0xd6d9dd, 0x383d44},
                            Colour{"plot-text", 0x24292f, 0xdfe2e6}};

std::span<const Colour> shades(Role role) {
  switch (role) {
    case Role::published:
      return kPublished;
    case Role::baseline:
      return kBaseline;
    case Role::bound:
      return kBound;
    case Role::ours:
      break;
  }
  return kOurs;
}

void for_each_colour(const auto& visit) {
  for (const Role role : {Role::ours, Role::published, Role::baseline, Role::bound}) {
    for (const Colour& colour : shades(role)) visit(colour);
  }
  for (const Colour& colour : kFrame) visit(colour);
}

std::string hex(uint32_t colour) { return fmt::format("#{:06x}", colour); }

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// A text in gnuplot's single quotes.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'') result += '\'';
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result + "'";
}

constexpr double kGroupWidth = 0.8;    // of a category's place: the rest separates it from the next
constexpr std::size_t kFewBars = 48;   // so many bars have their values beside them; more points than that are small
constexpr std::size_t kLongName = 11;  // letters of a category that do not fit below a group of bars
constexpr std::size_t kLetters = 84;   // of all categories that fit side by side

/// Writes the gnuplot script of a plot.
class Script {
 public:
  explicit Script(const Plot& plot) : plot_(plot) {
    for (const Series& series : plot.series) {
      if (series.mark == Mark::bars) ++bar_series_;
      has_lines_ = has_lines_ || series.mark == Mark::line || series.mark == Mark::line_and_points;
      for (const Point& point : series.points) is_below_zero_ = is_below_zero_ || point.y < 0;
    }
    is_below_zero_ = is_below_zero_ && bar_series_ > 0 && !plot.y.is_logarithmic;
    std::size_t longest = 0;
    for (const std::string& name : plot.categories) longest = std::max(longest, name.size());
    const bool has_long_names = longest > kLongName || longest * plot.categories.size() > kLetters;
    lies_ = has_long_names && !has_lines_;
  }

  std::string text(const std::string& terminal, bool titled) {
    script_ = fmt::format("set encoding utf8\nset terminal {} size {},{} font 'sans-serif,13' noenhanced\n", terminal,
                          kWidth, height(titled));
    script_ += fmt::format(
        "set border 3 linecolor rgb '{0}'\nset tics nomirror scale 0.5 textcolor rgb '{2}'\n"
        "set grid {3} linecolor rgb '{1}' linetype 1, linecolor rgb '{1}' linetype 1\n"
        "set key Left reverse samplen 1.2 width 1 maxrows {4} textcolor rgb '{2}'\n",
        hex(kFrame[0].light), hex(kFrame[1].light), hex(kFrame[2].light),
        plot_.categories.empty() ? "xtics ytics"
        : lies_                  ? "xtics"
                                 : "ytics",
        key_rows());
    head(titled);
    script_ += "set style fill solid 1 noborder\n";
    axis(lies_ ? "y" : "x", plot_.x, !plot_.categories.empty());
    axis(lies_ ? "x" : "y", plot_.y, false);
    if (is_below_zero_) {
      script_ += fmt::format("set {}range [*:*]\nset {}zeroaxis linetype 1 linecolor rgb '{}'\n", lies_ ? "x" : "y",
                             lies_ ? "y" : "x", hex(kFrame[0].light));
    }
    categories();
    // The line that bars on a logarithmic axis stand on.
    if (bar_series_ > 0 && plot_.y.is_logarithmic) {
      script_ +=
          fmt::format("set arrow from {} to {} nohead linecolor rgb '{}' back\n", lies_ ? "1,graph 0" : "graph 0,1",
                      lies_ ? "1,graph 1" : "graph 1,1", hex(kFrame[0].light));
    }
    all_series();
    return script_;
  }

 private:
  static constexpr int kWidth = 760;

  static constexpr int kLine = 20;

  /// Horizontal bars need room for each of them and for the key above them; vertical ones do not.
  int height(bool titled) const {
    if (!lies_) return 420;
    const double group = std::max(22.0, 15.0 * static_cast<double>(bar_series_) + 8);
    return 80 + kLine * (key_rows() + (titled ? 2 : 0)) +
           static_cast<int>(group * static_cast<double>(plot_.categories.size()));
  }

  /// Columns of a key above vertical bars or lines. gnuplot counts as many as the image is wide, but begins them at the
  /// axis. It makes each a little wider than its longest name, which the last one need not be.
  int key_columns() const {
    std::size_t longest = 0;
    for (const Series& series : plot_.series) longest = std::max(longest, series.name.size());
    const double letters = static_cast<double>(longest), column = 60 + 10.5 * letters, last = 40 + 9.5 * letters;
    return 1 + static_cast<int>(std::max(0.0, kWidth - 100 - last) / column);
  }

  int key_rows() const { return lies_ ? (static_cast<int>(plot_.series.size()) + 1) / 2 : 4; }

  /// The key and the title. Long names leave little of the width, so both are placed by the image, not by the axes.
  void head(bool titled) {
    const std::string title = quoted(plot_.title), colour = hex(kFrame[2].light);
    if (!lies_) {
      script_ += fmt::format("set key above left maxcols {}\n", key_columns());
      if (titled) script_ += fmt::format("set title {} textcolor rgb '{}'\n", title, colour);
      return;
    }
    script_ +=
        fmt::format("set key at screen 0.01, screen 1 left top\nset tmargin {}\n", key_rows() + (titled ? 2.5 : 0.5));
    if (!titled) return;
    script_ += fmt::format("set label {} at screen 0.5, graph 1 center offset 0,1 textcolor rgb '{}'\n", title, colour);
  }

  void axis(const char* name, const Axis& axis, bool has_categories) {
    script_ += fmt::format("set {}label {} textcolor rgb '{}'\n", name, quoted(axis.label), hex(kFrame[2].light));
    if (has_categories) return;
    if (axis.is_logarithmic) {
      script_ += fmt::format("set logscale {}\n", name);
    } else if (bar_series_ > 0 || !plot_.categories.empty()) {
      script_ += fmt::format("set {}range [0<*:*]\n", name);
    }
  }

  void categories() {
    if (plot_.categories.empty()) return;
    const char* name = lies_ ? "y" : "x";
    std::string tics;
    for (std::size_t i = 0; i < plot_.categories.size(); ++i) {
      std::string category = plot_.categories[i];
      replace_all(category, "%", "%%");  // gnuplot takes the names of tics for formats
      tics += fmt::format("{}{} {}", i > 0 ? ", " : "", quoted(category), i);
    }
    const double last = static_cast<double>(plot_.categories.size()) - 0.5;
    // Read from top to bottom.
    const std::string range = lies_ ? fmt::format("[{}:-0.5]", last) : fmt::format("[-0.5:{}]", last);
    script_ += fmt::format("set {0}tics scale 0 ({1})\nset {0}range {2}\n", name, tics, range);
  }

  bool is_drawn(const Point& point) const {
    const bool x_counts = plot_.categories.empty() && plot_.x.is_logarithmic;
    return std::isfinite(point.x) && std::isfinite(point.y) && !(plot_.y.is_logarithmic && point.y <= 0) &&
           !(x_counts && point.x <= 0);
  }

  /// The position of a bar's middle along the categories.
  double place(const Point& point, std::size_t bar) const {
    const double width = kGroupWidth / static_cast<double>(bar_series_);
    return point.x + (static_cast<double>(bar) - static_cast<double>(bar_series_ - 1) / 2) * width;
  }

  std::string coordinates(double along, double value) const {
    return lies_ ? fmt::format("{:.6g},{:.6g}", value, along) : fmt::format("{:.6g},{:.6g}", along, value);
  }

  void all_series() {
    std::size_t bars = 0;
    for (const Series& series : plot_.series) {
      if (series.mark != Mark::bars) continue;
      bars += series.points.size();
      for (const Point& point : series.points) values_are_whole_ = values_are_whole_ && point.y == std::round(point.y);
    }
    values_are_written_ = bars <= kFewBars;
    std::map<Role, std::size_t> used;
    std::size_t bar = 0;
    std::string data, commands;
    for (std::size_t i = 0; i < plot_.series.size(); ++i) {
      const Series& series = plot_.series[i];
      const std::span<const Colour> colours = shades(series.role);
      const std::size_t shade = used[series.role]++;
      const std::string colour = hex(colours[shade % colours.size()].light);
      const std::string lines = lines_of(series, bar);
      if (!lines.empty()) {
        data += fmt::format("$s{} << END\n{}END\n", i, lines);
        commands += (commands.empty() ? "plot " : ", \\\n") + command(series, i, colour, shade);
      }
      if (series.mark == Mark::bars) ++bar;
    }
    script_ += data + commands + "\n";
  }

  /// The data of a series: x, y, ends of the box or of the error bar, along the axes of the image. Labels are set at
  /// once.
  std::string lines_of(const Series& series, std::size_t bar) {
    const bool bars = series.mark == Mark::bars;
    const double half = kGroupWidth / static_cast<double>(std::max<std::size_t>(bar_series_, 1)) / 2;
    std::string lines;
    for (const Point& point : series.points) {
      if (!is_drawn(point)) continue;
      const double along = bars ? place(point, bar) : point.x;
      const double base = plot_.y.is_logarithmic ? 1 : 0;
      const double low = point.low.value_or(point.y), high = point.high.value_or(point.y);
      const std::string box =
          lies_ ? fmt::format("{:.6g} {:.6g} {:.6g} {:.6g}", base, point.y, along - half * 0.92, along + half * 0.92)
                : fmt::format("{:.6g} {:.6g} {:.6g} {:.6g}", along - half * 0.92, along + half * 0.92, base, point.y);
      const double x = lies_ ? point.y : along, y = lies_ ? along : point.y;
      lines += fmt::format("{:.6g} {:.6g} {} {:.6g} {:.6g}\n", x, y, box, low, high);
      if (bars && values_are_written_) {
        const std::string value = values_are_whole_ ? exact(point.y) : significant(point.y, point.y < 10 ? 2 : 3);
        label(value, along, std::max({point.y, high, base}));
      } else if (!bars && !point.label.empty()) {
        label(point.label, along, point.y);
      }
    }
    return lines;
  }

  void label(const std::string& text, double along, double value) {
    script_ += fmt::format("set label {} at {} {} offset {} front font ',10' textcolor rgb '{}'\n", quoted(text),
                           coordinates(along, value), lies_ || plot_.categories.empty() ? "left" : "center",
                           lies_ || plot_.categories.empty() ? "0.6,0" : "0,0.5", hex(kFrame[2].light));
  }

  std::string command(const Series& series, std::size_t i, const std::string& colour, std::size_t shade) const {
    std::string text;
    const bool bound = series.role == Role::bound;
    switch (series.mark) {
      case Mark::bars:
        text = fmt::format("$s{} using 1:2:3:4:5:6 with boxxyerror linecolor rgb '{}'", i, colour);
        break;
      case Mark::line:
        text = fmt::format("$s{} using 1:2 with lines linewidth 2 dashtype {} linecolor rgb '{}'", i,
                           bound ? shade + 2 : 1, colour);
        break;
      case Mark::points:
        text = fmt::format("$s{} using 1:2 with points pointtype {} pointsize {} linecolor rgb '{}'", i, bound ? 13 : 7,
                           bound ? 1.0 : 0.7, colour);
        break;
      case Mark::line_and_points:
        text = fmt::format(
            "$s{} using 1:2 with linespoints linewidth 2 dashtype {} pointtype {} pointsize 0.8 pointinterval 1 "
            "linecolor rgb '{}'",
            i, bound ? shade + 2 : 1, bound ? 13 : 7, colour);
        break;
    }
    text += " title " + quoted(series.name);
    const bool has_ends = std::any_of(series.points.begin(), series.points.end(),
                                      [](const Point& point) { return point.low.has_value(); });
    if (has_ends) {
      text += fmt::format(", \\\n$s{} using 1:2:7:8 with {}errorbars pointtype 0 linecolor rgb '{}' notitle", i,
                          lies_ ? "x" : "y", hex(kBound[0].light));
    }
    return text;
  }

  const Plot& plot_;
  std::string script_;
  std::size_t bar_series_ = 0;
  bool has_lines_ = false, is_below_zero_ = false, lies_ = false, values_are_written_ = false, values_are_whole_ = true;
};

/// gnuplot's file as an element of a page.
std::string inlined(std::string svg, const Plot& plot) {
  const std::size_t body = svg.find("<g id=\"gnuplot_canvas\">"), view = svg.find("viewBox=");
  if (body == std::string::npos || view == std::string::npos)
    throw GnuplotError("gnuplot did not give an SVG image of the plot " + plot.name);
  const std::string box = svg.substr(view, svg.find('\n', view) - view);
  svg = fmt::format("<svg role=\"img\" aria-labelledby=\"p-{}-title\" {}>\n", plot.name, box) + svg.substr(body);
  replace_all(svg, "<g id=\"gnuplot_canvas\">", "<g>");
  // Ids must be unique in a page of many plots.
  replace_all(svg, "id=\"image_plot_", fmt::format("id=\"g-{}-", plot.name));
  for (const char* id : {"gp", "textbox", "greybox"}) {
    replace_all(svg, fmt::format("id='{}", id), fmt::format("id='g-{}-{}", plot.name, id));
    replace_all(svg, fmt::format("href='#{}", id), fmt::format("href='#g-{}-{}", plot.name, id));
  }
  replace_all(svg, "xlink:href", "href");
  for (std::size_t i = 0; i < 3 * plot.series.size(); ++i) {
    replace_all(svg, fmt::format("<title>image_plot_{}</title>", i), "");
  }
  for_each_colour([&](const Colour& colour) {
    const uint32_t c = colour.light;
    const std::string variable = fmt::format("var(--{})", colour.name);
    for (const char* form : {"rgb({:3}, {:3}, {:3})", "rgb({},{},{})"}) {
      replace_all(svg, fmt::format(fmt::runtime(form), c >> 16, (c >> 8) & 255, c & 255), variable);
    }
  });
  replace_all(svg, "\"black\"", "\"currentColor\"");
  replace_all(svg, " font-family=\"sans-serif\"", "");
  return svg;
}

}  // namespace

bool has_points(const Plot& plot) {
  return std::any_of(plot.series.begin(), plot.series.end(),
                     [](const Series& series) { return !series.points.empty(); });
}

std::string draw_svg(const Plot& plot) {
  return inlined(run_gnuplot(Script(plot).text("svg name 'image'", false), "the plot " + plot.name), plot);
}

std::string draw_png(const Plot& plot) {
  return run_gnuplot(Script(plot).text("pngcairo background 'white'", true), "the plot " + plot.name);
}

std::string palette_css(bool dark) {
  std::string css;
  for_each_colour([&](const Colour& colour) {
    css += fmt::format("--{}: {}; ", colour.name, hex(dark ? colour.dark : colour.light));
  });
  return css;
}

}  // namespace nalab::report
