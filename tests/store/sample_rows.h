// Environments, rows and simulations with a different value in every field, so that two fields mixed up are seen.
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
  visit_environment(e, [&](const char* name, auto& field, const char*) {
    ++n;
    if constexpr (std::is_same_v<std::decay_t<decltype(field)>, std::string>) {
      field = std::string(name) + " µ" + std::to_string(n);
    } else {
      field = static_cast<std::decay_t<decltype(field)>>(1000 + n);
    }
  });
  return e;
}

inline Row row(const std::string& id, std::vector<double> samples = {}) {
  Row r;
  int n = 0;
  visit_row(r, [&](const char* name, auto& field, const char*) {
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

inline SimulationRow simulation(const std::string& id) {
  SimulationRow s;
  int n = 0;
  visit_simulation(s, [&](const char* name, auto& field, const char*) {
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

template <class T, class Visit>
std::string text_of(const T& value, const Visit& visit) {
  std::ostringstream text;
  visit(value, [&](const char* name, const auto& field, const char*) { text << name << '=' << field << '\n'; });
  return text.str();
}
inline std::string text_of(const Environment& e) {
  return text_of(e, [](const auto& x, auto&& visitor) { visit_environment(x, visitor); });
}
inline std::string text_of(const Row& r) {
  return text_of(r, [](const auto& x, auto&& visitor) { visit_row(x, visitor); });
}

inline std::string text_of(const SimulationRow& s) {
  return text_of(s, [](const auto& x, auto&& visitor) { visit_simulation(x, visitor); });
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
