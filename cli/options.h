// Options that commands share, and how numbers are read from the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nalab::cli {

/// Adds an option whose value is a number in decimal digits: "010" is ten. Everything else is refused with a CLI::Error
/// that names the option, the text and the rule: "0x10", "+4", " 4", digits with a unit, and numbers out of range.
CLI::Option* add_number(CLI::App& command, const std::string& name, int& value, const std::string& description);
CLI::Option* add_number(CLI::App& command, const std::string& name, int64_t& value, const std::string& description);
/// With a point and an exponent if need be: "0.5", "1e3"; also "inf" and "nan", which the commands refuse.
CLI::Option* add_number(CLI::App& command, const std::string& name, double& value, const std::string& description);
CLI::Option* add_number(CLI::App& command, const std::string& name, std::optional<double>& value,
                        const std::string& description);

CLI::Option* add_number(CLI::App& command, const std::string& name, std::optional<uint64_t>& value,
                        const std::string& description);

/// --threads, from 1 to 1024. It is 0 if it is not given: choose_threads() then asks NALAB_THREADS and the hardware.
CLI::Option* add_threads(CLI::App& command, int& threads);

/// --threads as a list, joined by commas: each from 1 to 1024.
CLI::Option* add_threads(CLI::App& command, std::vector<int>& threads, const std::string& description);

/// --filter, a regular expression.
CLI::Option* add_filter(CLI::App& command, std::string& filter);

/// Throws Error if `output` is one of the files that are read. Names that lead to no file are no matter.
void require_another_file(const std::string& output, const std::vector<std::string>& inputs);

/// For numbers: refuses zero, what is below, and what is not finite.
CLI::Validator positive();
/// For numbers: refuses what is below zero or not finite.
CLI::Validator not_negative();

/// For names of files: an empty one is refused, since it would count as none.
CLI::Validator not_empty();

}  // namespace nalab::cli
