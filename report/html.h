// A report as one page that needs nothing else: no network, no scripts, light and dark.
#pragma once

#include <map>
#include <string>

#include "report/report.h"

namespace nalab::report {

/// The <svg> elements of plots by the names of the plots; draw_svg() makes them.
using Images = std::map<std::string, std::string>;

/// The page. Plots without an image are left out; the page says why, if there is a reason.
std::string to_html(const Report& report, const Images& images, const std::string& why_no_plots = "");

/// A text as HTML shows it, also within quotes.
std::string escape_html(const std::string& text);

}  // namespace nalab::report
