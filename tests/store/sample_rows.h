// Environments, rows, models and simulations with a different value in every field, so that two fields mixed up are
// seen.
#pragma once

#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "store/schema.h"

namespace nalab::store {

inline Environment environment() {
  Environment e;
  int n = 0;
  Environment::visit_fields(e, [&](const char* name, auto& field, const char*) {
    ++n;
    if constexpr (std::is_same_v<std::decay_t<decltype(field)>, std::string>) {
      field = std::string(name) + " µ" + std::to_string(n);
    } else {
      field = static_cast<std::decay_t<decltype(field)>>(1000 + n);
    }
  });
  e.peaks = {{"arithmetic µ", 2001, 2002}, {"another", 2003, 2004}};
  return e;
}

template <class R>
R timed_row(const std::string& id, std::vector<double> samples) {
  R r;
  int n = 0;
  R::visit_fields(r, [&](const char* name, auto& field, const char*) {
    ++n;
    if constexpr (std::is_same_v<std::decay_t<decltype(field)>, std::string>) {
      field = std::string(name) + " of " + id;
    } else {
      field = static_cast<std::decay_t<decltype(field)>>(n) / 4;
    }
  });
  r.id = id;
  r.status = "done";
  r.samples = std::move(samples);
  return r;
}

inline Row row(const std::string& id, std::vector<double> samples = {}) {
  return timed_row<Row>(id, std::move(samples));
}

inline ModelRow model(const std::string& id, std::vector<double> samples = {}) {
  return timed_row<ModelRow>(id, std::move(samples));
}

inline SimulationRow simulation(const std::string& id) {
  SimulationRow s;
  int n = 0;
  SimulationRow::visit_fields(s, [&](const char* name, auto& field, const char*) {
    ++n;
    if constexpr (std::is_same_v<std::decay_t<decltype(field)>, std::string>) {
      field = std::string(name) + " of " + id;
    } else {
      field = static_cast<std::decay_t<decltype(field)>>(n) / 4;
    }
  });
  s.id = id;
  return s;
}

template <class T>
std::string text_of(const T& value) {
  std::ostringstream text;
  T::visit_fields(value,
                  [&](const char* name, const auto& field, const char*) { text << name << '=' << field << '\n'; });
  return text.str();
}

inline std::string text_of(const Environment& environment) {
  std::string text = text_of<Environment>(environment);
  for (const Peak& peak : environment.peaks) text += text_of(peak);
  return text;
}

template <class F>
std::string refusal(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was refused";
}

}  // namespace nalab::store
