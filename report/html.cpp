#include "report/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "report/draw.h"
#include "report/format.h"
#include "report/page_style.h"

namespace nalab::report {
namespace {

constexpr std::size_t kLongText = 36;  // letters of a cell that may be broken into lines

std::string paragraph(const char* css_class, const std::vector<std::string>& sentences) {
  if (sentences.empty()) return "";
  return fmt::format("<p class=\"{}\">{}</p>\n", css_class, escape_html(fmt::format("{}", fmt::join(sentences, " "))));
}

std::string heading_rows(const std::vector<Column>& columns) {
  std::string groups, headings;
  bool has_groups = false;
  for (std::size_t begin = 0, end = 0; begin < columns.size(); begin = end) {
    const std::string& group = columns[begin].group;
    end = begin + 1;
    while (end < columns.size() && columns[end].group == group) ++end;
    groups += fmt::format("<th class=\"group\" colspan=\"{}\">{}</th>", end - begin, escape_html(group));
    has_groups = has_groups || !group.empty();
  }
  for (const Column& column : columns) {
    headings += fmt::format("<th{}>{}</th>", column.is_number ? " class=\"number\"" : "", escape_html(column.heading));
  }
  return fmt::format("<thead>{}<tr>{}</tr></thead>\n", has_groups ? "<tr>" + groups + "</tr>" : "", headings);
}

/// The classes of a cell that stands out, or recedes.
std::string class_of(const Column& column, const Cell& cell) {
  std::vector<std::string> classes;
  if (column.is_number) classes.emplace_back("number");
  if (cell.text == "failed") classes.emplace_back("failed");
  if (cell.text == "not run" || cell.text == "n/a" || cell.text == "-") classes.emplace_back("absent");
  if (cell.text.size() > kLongText) classes.emplace_back("long");
  return classes.empty() ? "" : fmt::format(" class=\"{}\"", fmt::join(classes, " "));
}

std::string body_rows(const Table& table) {
  std::string text = "<tbody>\n";
  for (const auto& row : table.rows) {
    text += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string note = row[i].footnote == 0 ? ""
                                                    : fmt::format("<sup><a href=\"#t-{0}-note-{1}\">{1}</a></sup>",
                                                                  table.name, row[i].footnote);
      text += fmt::format("<td{}>{}{}</td>", class_of(table.columns[i], row[i]), escape_html(row[i].text), note);
    }
    text += "</tr>\n";
  }
  return text + "</tbody>\n";
}

std::string table_html(const Table& table) {
  std::string text = paragraph("caption", table.caption);
  text += fmt::format("<div class=\"scroll\" tabindex=\"0\"><table>\n{}{}</table></div>\n", heading_rows(table.columns),
                      body_rows(table));
  if (!table.footnotes.empty()) {
    text += "<ol class=\"notes\">\n";
    for (std::size_t i = 0; i < table.footnotes.size(); ++i) {
      text += fmt::format("<li id=\"t-{}-note-{}\">{}</li>\n", table.name, i + 1, escape_html(table.footnotes[i]));
    }
    text += "</ol>\n";
  }
  const std::string title = escape_html(table.title);
  if (!table.is_detail)
    return fmt::format("<article id=\"t-{}\">\n<h3>{}</h3>\n{}</article>\n", table.name, title, text);
  return fmt::format("<details id=\"t-{}\">\n<summary>{} ({} rows)</summary>\n{}</details>\n", table.name, title,
                     table.rows.size(), text);
}

std::string plot_html(const Plot& plot, const Images& images) {
  const auto image = images.find(plot.name);
  if (image == images.end()) return "";
  return fmt::format(
      "<figure id=\"p-{0}\">\n<h3 id=\"p-{0}-title\">{1}</h3>\n<div class=\"plot\" tabindex=\"0\">\n{2}</div>\n"
      "<figcaption>{3}</figcaption>\n</figure>\n",
      plot.name, escape_html(plot.title), image->second, escape_html(fmt::format("{}", fmt::join(plot.caption, " "))));
}

std::string section_html(const Section& section, const Images& images) {
  std::string text = fmt::format("<section id=\"s-{}\">\n<h2>{}</h2>\n", section.name, escape_html(section.title));
  text += paragraph("about", section.about);
  for (const Plot& plot : section.plots) text += plot_html(plot, images);
  for (const Table& table : section.tables) text += table_html(table);
  if (!section.sources.empty()) {
    text += fmt::format("<p class=\"sources\">Source{}: {}.</p>\n", section.sources.size() > 1 ? "s" : "",
                        escape_html(fmt::format("{}", fmt::join(section.sources, "; "))));
  }
  return text + "</section>\n";
}

const char* class_of(ClaimVerdict verdict) {
  switch (verdict) {
    case ClaimVerdict::holds:
      return "holds";
    case ClaimVerdict::holds_in_part:
      return "part";
    case ClaimVerdict::does_not_hold:
      return "fails";
    case ClaimVerdict::not_judged:
    case ClaimVerdict::not_measured:
      break;
  }
  return "unknown";
}

std::string claim_html(const Claim& claim) {
  const ClaimVerdict verdict = judge(claim);
  std::string here = claim.ours ? fmt::format("here <b>{}</b>", escape_html(claim.ours_text)) : "here not measured";
  if (!claim.why_not.empty()) here += ": " + escape_html(claim.why_not);
  const std::string link = claim.table.empty() ? "" : fmt::format(" · <a href=\"#t-{}\">table</a>", claim.table);
  return fmt::format(
      "<li><span class=\"verdict {}\">{}</span><span>{} <span class=\"figures\">published <b>{}</b> · {} · {}{}</span>"
      "</span></li>\n",
      class_of(verdict), text_of(verdict), escape_html(claim.statement), escape_html(claim.published_text), here,
      escape_html(claim.source), link);
}

/// "7 of 10 published claims hold here, 2 in part, 1 does not."
std::string count_html(const std::vector<Claim>& claims) {
  std::array<int, 5> counts{};
  for (const Claim& claim : claims) ++counts[static_cast<std::size_t>(judge(claim))];
  const auto [holds, part, fails, not_judged, not_measured] = counts;
  std::string text =
      fmt::format("{} of {} published claims {} here", holds, claims.size(), holds == 1 ? "holds" : "hold");
  if (part > 0) text += fmt::format(", {} in part", part);
  if (fails > 0) text += fmt::format(", {} do{} not", fails, fails == 1 ? "es" : "");
  if (not_judged > 0) text += fmt::format(", {} {} not judged", not_judged, not_judged == 1 ? "is" : "are");
  if (not_measured > 0) text += fmt::format(", {} {} not measured", not_measured, not_measured == 1 ? "was" : "were");
  return text + ".";
}

std::vector<Claim> claims_of(const Chapter& chapter) {
  std::vector<Claim> claims;
  for (const Section& section : chapter.sections) {
    claims.insert(claims.end(), section.claims.begin(), section.claims.end());
  }
  return claims;
}

std::string plural(int64_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

/// Machine, commits, dates, and how many rows were measured, refused or wrong.
std::string origin_html(const Origin& origin) {
  std::vector<std::string> revisions;
  std::string first, last;
  File sum;
  for (const File& file : origin.files) {
    if (std::find(revisions.begin(), revisions.end(), file.revision) == revisions.end()) {
      revisions.push_back(file.revision);
    }
    if (first.empty() || file.started < first) first = file.started;
    last = std::max(last, file.started);
    sum.done += file.done;
    sum.failed += file.failed;
    sum.refused += file.refused;
    sum.simulations += file.simulations;
  }
  std::string rows = plural(sum.done, "row") + " measured";
  if (sum.refused > 0) rows += fmt::format(", {} not run (the tables say why)", sum.refused);
  if (sum.simulations > 0) rows += ", " + plural(sum.simulations, "simulation");
  rows += sum.failed == 0 ? ", no wrong result."
                          : fmt::format(", <span class=\"fails\"><b>{} with a wrong result</b></span>.", sum.failed);
  return fmt::format("<p><b>{}</b><br>\n<span class=\"origin\">commit {} · {} · {}</span></p>\n",
                     escape_html(origin.machine), escape_html(enumerate(revisions)),
                     escape_html(first == last ? first : first + " to " + last), rows);
}

std::string first_screen(const Report& report) {
  std::string text;
  bool has_claims = false;
  for (const Chapter& chapter : report.chapters) {
    text += origin_html(chapter.origin);
    const std::vector<Claim> claims = claims_of(chapter);
    if (claims.empty()) continue;
    has_claims = true;
    text += fmt::format("<h2>What holds here</h2>\n<p>{}</p>\n<ul class=\"claims\">\n", count_html(claims));
    for (const Claim& claim : claims) text += claim_html(claim);
    text += "</ul>\n";
  }
  for (const std::string& note : notes_of(report)) text += fmt::format("<p>{}</p>\n", escape_html(note));
  return text + (has_claims ? fmt::format("<p class=\"rule\">{}</p>\n", escape_html(rule()))
                            : "<p>No published claim is about these results.</p>\n");
}

std::string contents(const Report& report) {
  std::string text = "<nav>\n<h2>Contents</h2>\n";
  for (const Chapter& chapter : report.chapters) {
    if (report.chapters.size() > 1) text += fmt::format("<p>{}</p>\n", escape_html(chapter.origin.machine));
    text += "<ul>\n";
    for (const Section& section : chapter.sections) {
      text += fmt::format("<li><a href=\"#s-{}\">{}</a></li>\n", section.name, escape_html(section.title));
    }
    text += "</ul>\n";
  }
  return text + "<p><a href=\"#files\">Files</a></p>\n</nav>\n";
}

std::string files_html(const Report& report) {
  Table table;
  table.name = "files";
  table.title = "Files that this page was made from";
  table.columns = {{"file", "", false},    {"machine", "", false},    {"commit", "", false},
                   {"started", "", false}, {"measured", "", true},    {"failed", "", true},
                   {"not run", "", true},  {"simulations", "", true}, {"samples", "", true}};
  for (const Chapter& chapter : report.chapters) {
    const Origin& origin = chapter.origin;
    for (const File& file : origin.files) {
      table.rows.push_back({{file.name},
                            {origin.machine},
                            {file.revision},
                            {file.started},
                            {exact(file.done)},
                            {exact(file.failed)},
                            {exact(file.refused)},
                            {exact(file.simulations)},
                            {exact(file.samples)}});
    }
    if (origin.repeated > 0) {
      table.caption.push_back(
          fmt::format("{} of {} {} in more than one file: the first file counts, but a wrong result in any of "
                      "them is shown.",
                      plural(origin.repeated, "row"), origin.machine, origin.repeated == 1 ? "is" : "are"));
    }
  }
  return "<section id=\"files\">\n<h2>Files</h2>\n" + table_html(table) + "</section>\n";
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
  }
  return result;
}

std::string to_html(const Report& report, const Images& images, const std::string& why_no_plots) {
  std::string text = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>nalab report</title>\n<style>\n"
      ":root {{ color-scheme: light dark; {}{}}}\n"
      "@media (prefers-color-scheme: dark) {{ :root {{ {}{}}} }}\n{}</style>\n</head>\n<body>\n",
      kLightColours, palette_css(false), kDarkColours, palette_css(true), kStyle + 1);
  text += "<header>\n<h1>Neighborhood attention on CPUs</h1>\n" + first_screen(report) + "</header>\n";
  if (!why_no_plots.empty()) {
    text += fmt::format("<p class=\"rule\">Plots are left out: where this page was made, {}.</p>\n",
                        escape_html(why_no_plots));
  }
  text += contents(report) + "<main>\n";
  for (const Chapter& chapter : report.chapters) {
    if (report.chapters.size() > 1) text += fmt::format("<h1>{}</h1>\n", escape_html(chapter.origin.machine));
    for (const Section& section : chapter.sections) text += section_html(section, images);
  }
  return text + files_html(report) + "</main>\n</body>\n</html>\n";
}

}  // namespace nalab::report
