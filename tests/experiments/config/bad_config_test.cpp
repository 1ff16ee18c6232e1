// Everything that can be wrong with a configuration, with the exact line that it gets.
#include <gtest/gtest.h>

#include <string>

#include "tests/experiments/support.h"
#include "tests/source_folder.h"

namespace nalab {
namespace {

using experiments_test::complaint_of;

constexpr const char* kHead = "name: x\nvariants: [naive]\n";
constexpr const char* kTail = "problems: [{layout: 8, window: 3}]\n";

struct Bad {
  const char* what;
  std::string text;
  std::string line;
};

std::string top(const std::string& line) { return kHead + line + "\n" + kTail; }
std::string problem(const std::string& keys) { return std::string(kHead) + "problems:\n  - {" + keys + "}\n"; }
std::string grid(const std::string& keys) { return std::string(kHead) + "grids:\n  - {" + keys + "}\n"; }

const std::string kTopKeys =
    "name, table, about, timing, verify, store, seed, variants, types, passes, runs, baseline, tiling, "
    "backward_tiling, quick, problems, grids, models, simulations";
const std::string kProblemKeys =
    "label, layout, window, stride, dilation, causal, batch, heads, heads_kv, head_dim, head_dim_v, extra_tokens, "
    "relative_bias, scale";
const std::string kSimulationKeys =
    "table, label, layout, window, stride, dilation, causal, extra_tokens, q_tile, kv_tile, kv_tiling, tiles_note, "
    "attention_share, steps, dense_steps, round_speedup, published, exception";
const std::string kNames =
    "layout, window, stride, dilation, causal, batch, heads, heads_kv, head_dim, head_dim_v, extra_tokens, "
    "relative_bias, rank, tokens, keys";

/// A simulation of its own, and the second row of one: line 3 begins with what is given.
std::string simulation(const std::string& keys) {
  return "name: x\nsimulations:\n- {" + keys + ", layout: [8, 8], kv_tile: [4, 2], q_tile: 4}\n";
}
std::string second_row(const std::string& keys) {
  return "name: x\nsimulations:\n- layout: [8, 8]\n  kv_tile: [4, 2]\n  q_tile: 4\n  rows:\n  - {window: 3}\n  - {" +
         keys + "}\n";
}

std::string variants_text(const std::string& before) {
  std::string text = before;
  for (const std::string& name : config::variant_names()) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const Bad kBad[] = {
    // The file.
    {"empty file", "", "x.yaml: expected a mapping of keys to values, got nothing"},
    {"only a comment", "# nothing\n", "x.yaml: expected a mapping of keys to values, got nothing"},
    {"a list", "[1, 2]\n", "x.yaml:1:1: expected a mapping of keys to values, got a list of 2"},
    {"a text", "hello\n", "x.yaml:1:1: expected a mapping of keys to values, got 'hello'"},
    {"unclosed list", "name: [a\n", "x.yaml:2:1: expected YAML, got: end of sequence flow not found"},
    {"unclosed quote", "name: \"a\n",
     "x.yaml:1:7: name: expected a name of letters, digits, '_', '-' and '.', got 'a '"},
    {"a tab for indentation", "timing:\n\tmin_samples: 1\n", "x.yaml:2:13: expected YAML, got: illegal map value"},
    {"two documents", "name: x\n---\nname: y\n", "x.yaml:2:1: expected one YAML document, got a second one"},
    {"a document that does not end", "--- a\n--- ,\n", "x.yaml:2:1: expected one YAML document, got a second one"},
    {"a stray comma", ",\n", "x.yaml:1:1: expected one YAML document, got a second one"},
    {"unknown alias", "name: *a\n", "x.yaml:1:7: expected YAML, got: the referenced anchor is not defined"},
    {"Latin-1", "name: x\nabout: d\xc3\xa9j\xc3\xa0 caf\xe9\n", "x.yaml:2:16: expected UTF-8, got the byte 0xe9"},
    {"a character that is cut short", "name: x # \xe2\x82", "x.yaml:1:11: expected UTF-8, got the byte 0xe2"},
    {"UTF-16", std::string("\xff\xfen\0a\0", 6), "x.yaml:1:1: expected UTF-8, got the byte 0xff"},
    {"half of a pair of UTF-16", "\nname: \xed\xa0\x80\n", "x.yaml:2:7: expected UTF-8, got the byte 0xed"},
    {"the control character that ends YAML", "name: x\n\x04problems: 3\n",
     "x.yaml:2:1: expected text, got the control character 0x04"},
    {"a byte of zeros", std::string("name: x\0\n", 9), "x.yaml:1:8: expected text, got the control character 0x00"},
    {"delete", "name: x\x7f\n", "x.yaml:1:8: expected text, got the control character 0x7f"},
    {"deep nesting", "name: x\nabout: " + std::string(100'000, '[') + "\n",
     "x.yaml:3:1: expected lists and mappings that nest less deeply"},
    // The top level.
    {"unknown key", top("varients: [naive]"),
     "x.yaml:3:11: varients: expected one of the keys " + kTopKeys + ", got an unknown key"},
    {"key given twice", top("seed: 1\nseed: 2"), "x.yaml:4:1: seed: expected each key once, got it a second time"},
    {"key that is a list", top("[a, b]: 2"), "x.yaml:3:1: expected a key, got a list of 2"},
    {"no name", "variants: [naive]\nproblems: [{layout: 8, window: 3}]\n",
     "x.yaml:1:1: expected the key name, got none"},
    {"no variants", std::string("name: x\n") + kTail, "x.yaml:1:1: expected the key variants, got none"},
    {"no problems", kHead, "x.yaml:1:1: expected the key problems, grids, models or simulations, got none"},
    {"empty problems", std::string(kHead) + "problems: []\n",
     "x.yaml:3:11: problems: expected at least one value, got an empty list"},
    {"problems without value", std::string(kHead) + "problems:\n",
     "x.yaml:3:1: problems: expected a mapping of keys to values, got nothing"},
    {"name with a slash", "name: a/b\n",
     "x.yaml:1:7: name: expected a name of letters, digits, '_', '-' and '.', got 'a/b'"},
    {"name that is a mapping", "name: {a: b}\n",
     "x.yaml:1:7: name: expected a name of letters, digits, '_', '-' and '.', got a mapping"},
    {"about that is a list", top("about: [a, b]"), "x.yaml:3:8: about: expected text, got a list of 2"},
    {"unknown variant", "name: x\nvariants: [naive, swift]\n",
     "x.yaml:2:19: variants: expected one of " + variants_text("all") + ", got 'swift'"},
    {"no variant in the list", "name: x\nvariants: []\n",
     "x.yaml:2:11: variants: expected at least one value, got an empty list"},
    {"unknown baseline", top("baseline: all"),
     "x.yaml:3:11: baseline: expected one of " + variants_text("") + ", got 'all'"},
    {"unknown tiling", top("tiling: fast"),
     "x.yaml:3:9: tiling: expected best, static or a tiling such as q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256, got 'fast'"},
    {"tiling of a run that lacks a part", top("runs: [{backward_tiling: q1x4x8}]"),
     "x.yaml:3:26: backward_tiling: expected best, static or a tiling such as q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256, got "
     "'q1x4x8'"},
    {"unknown type", top("types: [f32, f64]"), "x.yaml:3:14: types: expected one of f32, bf16, f16, got 'f64'"},
    {"unknown pass", top("passes: backward"),
     "x.yaml:3:9: passes: expected one of forward, forward_backward, weights, weights_backward, values, "
     "values_backward, got 'backward'"},
    {"label of a run that no problem has", top("runs: [{}, {labels: [a]}]"),
     "x.yaml:3:22: labels: expected the label of a problem or model, got 'a'"},
    {"labels of a run that are none", top("runs: {labels: []}"),
     "x.yaml:3:16: labels: expected at least one value, got an empty list"},
    {"labels of a run that are mappings", top("runs: {labels: [{a: b}]}"),
     "x.yaml:3:17: labels: expected text, got a mapping"},
    {"unknown variant of a run", top("runs: {variants: swift}"),
     "x.yaml:3:18: variants: expected one of " + variants_text("all") + ", got 'swift'"},
    {"unknown device of a run", top("runs: {device: tpu}"),
     "x.yaml:3:16: device: expected one of cpu, cuda, got 'tpu'"},
    {"device of a run that none of its variants has", top("runs: [{}, {device: cuda}]"),
     "x.yaml:3:21: device: expected the device of one of the run's variants, got 'cuda'"},
    {"unknown storage", top("store: {tensors: some}"),
     "x.yaml:3:18: tensors: expected one of none, sample, all, got 'some'"},
    {"seed with a fraction", top("seed: 1.5"), "x.yaml:3:7: seed: expected an integer of at least 0, got '1.5'"},
    {"negative seed", top("seed: -1"), "x.yaml:3:7: seed: expected an integer of at least 0, got '-1'"},
    {"seed in quotes", top("seed: '1'"), "x.yaml:3:7: seed: expected an integer of at least 0, got '1'"},
    {"seed beyond 64 bits", top("seed: 99999999999999999999"),
     "x.yaml:3:7: seed: expected an integer of at least 0, got '99999999999999999999'"},
    {"timing that is a number", top("timing: 3"), "x.yaml:3:9: timing: expected a mapping of keys to values, got '3'"},
    {"unknown key of timing", top("timing: {samples: 3}"),
     "x.yaml:3:19: samples: expected one of the keys warmups, min_samples, max_samples, min_seconds, max_noise, "
     "max_seconds, budget_seconds, got an unknown key"},
    {"no samples", top("timing: {min_samples: 0}"),
     "x.yaml:3:23: min_samples: expected an integer of at least 1, got '0'"},
    {"seconds that are no number", top("timing: {min_seconds: .nan}"),
     "x.yaml:3:23: min_seconds: expected a number of at least 0, got '.nan'"},
    {"seconds with a unit", top("timing: {max_seconds: 3s}"),
     "x.yaml:3:23: max_seconds: expected a number of at least 0, got '3s'"},
    {"more samples at least than at most", top("timing: {min_samples: 9, max_samples: 8}"),
     "x.yaml:3:9: timing: max_samples 8 must be at least 9, min_samples"},
    {"more seconds at least than at most", top("timing: {min_seconds: 3, max_seconds: 0.5}"),
     "x.yaml:3:9: timing: max_seconds 0.5 must be at least 3, min_seconds"},
    {"more samples at least than the quick form allows",
     top("timing: {min_samples: 9}\nquick: {timing: {max_samples: 3}}"),
     "x.yaml:4:17: timing: max_samples 3 must be at least 9, min_samples"},
    {"problems under quick", top("quick: {problems: []}"),
     "x.yaml:3:19: problems: expected one of the keys timing, verify, store, seed, variants, types, passes, runs, "
     "baseline, tiling, backward_tiling, got an unknown key"},
    {"mistake in the form not asked for", top("quick: {types: f64}"),
     "x.yaml:3:16: types: expected one of f32, bf16, f16, got 'f64'"},
    // Runs.
    {"unknown key of a run", top("runs: [{type: f32}]"),
     "x.yaml:3:15: type: expected one of the keys types, passes, variants, device, labels, sample, tiling, "
     "backward_tiling, "
     "got "
     "an unknown key"},
    {"runs that are no mappings", top("runs: [f32]"),
     "x.yaml:3:8: runs: expected a mapping of keys to values, got 'f32'"},
    {"no runs", top("runs: []"), "x.yaml:3:7: runs: expected at least one value, got an empty list"},
    {"unknown type of a run", top("runs: [{types: f64}]"),
     "x.yaml:3:16: types: expected one of f32, bf16, f16, got 'f64'"},
    {"sample without a count", top("runs: [{sample: {seed: 2}}]"),
     "x.yaml:3:17: sample: expected the key count, got none"},
    {"sample that is a number", top("runs: [{sample: 3}]"),
     "x.yaml:3:17: sample: expected a mapping of keys to values, got '3'"},
    {"unknown key of a sample", top("runs: [{sample: {count: 2, size: 3}}]"),
     "x.yaml:3:34: size: expected one of the keys count, seed, strata, got an unknown key"},
    {"sample of nothing", top("runs: [{sample: {count: 0}}]"),
     "x.yaml:3:25: count: expected an integer of at least 1, got '0'"},
    {"strata of an unknown key", top("runs: [{sample: {count: 2, strata: [window, width]}}]"),
     "x.yaml:3:45: strata: expected one of " + kProblemKeys + ", got 'width'"},
    // Problems.
    {"unknown key of a problem", problem("layout: 8, window: 3, windows: 3"),
     "x.yaml:4:37: windows: expected one of the keys " + kProblemKeys + ", quick, got an unknown key"},
    {"no layout", problem("window: 3"), "x.yaml:4:5: problems: expected the key layout, got none"},
    {"no window", problem("layout: 8"), "x.yaml:4:5: problems: expected the key window, got none"},
    {"four axes", problem("layout: [2, 2, 2, 2], window: 1"),
     "x.yaml:4:14: layout: expected one to three values, got a list of 4"},
    {"window of another length", problem("layout: [8, 8], window: [3, 3, 3]"),
     "x.yaml:4:30: window: expected one value, or one for each axis of the layout of 2 axes, got a list of 3"},
    {"stride of another length", problem("layout: 8, window: 3, stride: [1, 1]"),
     "x.yaml:4:36: stride: expected one value, or one for each axis of the layout of 1 axis, got a list of 2"},
    {"causal of another length", problem("layout: [8, 8, 8], window: 3, causal: [true, false]"),
     "x.yaml:4:44: causal: expected one value, or one for each axis of the layout of 3 axes, got a list of 2"},
    {"window that is text", problem("layout: 8, window: seven"),
     "x.yaml:4:25: window: expected an integer, got 'seven'"},
    {"window that is nested", problem("layout: [8, 8], window: [[3, 3]]"),
     "x.yaml:4:31: window: expected an integer, got a list of 2"},
    {"window with nothing", problem("layout: 8, window: "), "x.yaml:4:17: window: expected an integer, got nothing"},
    {"causal 2", problem("layout: 8, window: 3, causal: 2"), "x.yaml:4:36: causal: expected true or false, got '2'"},
    {"bias that is a number", problem("layout: 8, window: 3, relative_bias: 2"),
     "x.yaml:4:43: relative_bias: expected true or false, got '2'"},
    {"bias that is text", problem("layout: 8, window: 3, relative_bias: yes"),
     "x.yaml:4:43: relative_bias: expected true or false, got 'yes'"},
    {"bias in quotes", problem("layout: 8, window: 3, relative_bias: 'true'"),
     "x.yaml:4:43: relative_bias: expected true or false, got 'true'"},
    {"bias that is a list", problem("layout: 8, window: 3, relative_bias: [true]"),
     "x.yaml:4:43: relative_bias: expected true or false, got a list of 1"},
    {"bias without a value", problem("layout: 8, window: 3, relative_bias: "),
     "x.yaml:4:28: relative_bias: expected true or false, got nothing"},
    {"bias by another name", problem("layout: 8, window: 3, rpb: true"),
     "x.yaml:4:33: rpb: expected one of the keys " + kProblemKeys + ", quick, got an unknown key"},
    {"label with an escaped control character", problem(R"(layout: 8, window: 3, label: "a\eb")"),
     "x.yaml:4:35: label: expected text, got the control character 0x1b"},
    {"label with an escaped zero", problem(R"(layout: 8, window: 3, label: "a\0b")"),
     "x.yaml:4:35: label: expected text, got the control character 0x00"},
    {"label that is a list", problem("layout: 8, window: 3, label: [a]"),
     "x.yaml:4:35: label: expected text, got a list of 1"},
    {"scale that is text", problem("layout: 8, window: 3, scale: big"),
     "x.yaml:4:35: scale: expected a number, got 'big'"},
    {"scale NaN", problem("layout: 8, window: 3, scale: .nan"), "x.yaml:4:5: problems: scale nan must be finite"},
    {"window 0", problem("layout: 8, window: 0"), "x.yaml:4:5: problems: axis 1: window 0 must be at least 1"},
    {"window larger than the axis", problem("layout: [8, 5], window: 6"),
     "x.yaml:4:5: problems: axis 2: window 6 must be at most 5, the layout 5 div the dilation 1"},
    {"window larger than the dilated axis", problem("layout: 9, window: 5, dilation: 2"),
     "x.yaml:4:5: problems: axis 1: window 5 must be at most 4, the layout 9 div the dilation 2"},
    {"stride above window", problem("layout: [8, 8], window: 3, stride: [1, 4]"),
     "x.yaml:4:5: problems: axis 2: stride 4 must be at most 3, the window"},
    {"negative layout", problem("layout: -8, window: 3"), "x.yaml:4:5: problems: axis 1: layout -8 must be at least 1"},
    {"heads that do not divide", problem("layout: 8, window: 3, heads: 4, heads_kv: 3"),
     "x.yaml:4:5: problems: heads_kv 3 must divide heads 4"},
    {"several rules at once", problem("layout: [8, 8], window: [9, 3], stride: [1, 4], batch: 0, head_dim: 0"),
     "x.yaml:4:5: problems: axis 1: window 9 must be at most 8, the layout 8 div the dilation 1; axis 2: stride 4 must "
     "be "
     "at most 3, the window; batch 0 must be at least 1; head_dim 0 must be at least 1; head_dim_v 0 must be at least "
     "1"},
    {"invalid in the quick form alone", problem("layout: 8, window: 7, quick: {layout: 4}"),
     "x.yaml:4:5: problems: axis 1: window 7 must be at most 4, the layout 4 div the dilation 1"},
    {"quick inside quick", problem("layout: 8, window: 7, quick: {quick: {window: 3}}"),
     "x.yaml:4:43: quick: expected one of the keys " + kProblemKeys + ", got an unknown key"},
    // Grids.
    {"where in a problem", problem("layout: 8, window: 3, where: [window < layout]"),
     "x.yaml:4:35: where: expected one of the keys " + kProblemKeys + ", quick, got an unknown key"},
    {"empty list in a grid", grid("layout: [], window: 3"),
     "x.yaml:4:14: layout: expected at least one value, got an empty list"},
    {"invalid combination", grid("layout: [[8, 8], [4, 4]], window: [3, 5]"),
     "x.yaml:4:5: grids: combination 4x4_w5x5_s1x1_d1x1_c0x0_b1_h1_kv1_dk64_dv64_e0_f32: axis 1: window 5 must be at "
     "most "
     "4, the layout 4 div the dilation 1; axis 2: window 5 must be at most 4, the layout 4 div the dilation 1"},
    {"ranks that do not agree", grid("layout: [[8, 8], [8, 8, 8]], window: [[3, 3]]"),
     "x.yaml:4:44: window: expected one value, or one for each axis of the layout of 3 axes, got a list of 2"},
    {"no combination left", grid("layout: [8, 9], window: [3, 5], where: [window > layout]"),
     "x.yaml:4:5: grids: expected at least one combination that meets `where`, got none of 4"},
    {"labels in a grid", grid("layout: 8, window: 3, label: [a, b]"),
     "x.yaml:4:35: label: expected one text for the whole grid, got a list of 2"},
    {"condition without comparison", grid("layout: 8, window: 3, where: [window * 2]"),
     "x.yaml:4:36: where: expected a comparison (<=, <, >=, >, ==, !=), got the end in 'window * 2'"},
    {"condition of an unknown name", grid("layout: 8, window: 3, where: [window <= width]"),
     "x.yaml:4:36: where: expected an integer, '(' or one of " + kNames + ", got 'width' in 'window <= width'"},
    {"condition that is cut short", grid("layout: 8, window: 3, where: [window <=]"),
     "x.yaml:4:36: where: expected an integer, '(' or one of " + kNames + ", got the end in 'window <='"},
    {"condition with more behind it", grid("layout: 8, window: 3, where: [1 < window < layout]"),
     "x.yaml:4:36: where: expected the end, got '< layout' in '1 < window < layout'"},
    {"unclosed bracket", grid("layout: 8, window: 3, where: ['(window + 1 < layout']"),
     "x.yaml:4:36: where: expected ')', got '< layout' in '(window + 1 < layout'"},
    {"division by zero", grid("layout: 8, window: 3, where: [layout / extra_tokens > 1]"),
     "x.yaml:4:36: where: expected a divisor of at least 1, got 0"},
    {"overflow", grid("layout: 8, window: 3, where: [layout * 9223372036854775807 > 1]"),
     "x.yaml:4:36: where: expected values that fit in 64 bits, got greater ones"},
    {"tokens beyond counting", grid("layout: [[4000000000, 4000000000]], window: 3, where: [tokens > 1]"),
     "x.yaml:4:61: where: expected values that fit in 64 bits, got greater ones"},
    // Simulations.
    {"unknown key of a simulation", simulation("window: 3, heads: 2"),
     "x.yaml:3:22: heads: expected one of the keys " + kSimulationKeys + ", rows, got an unknown key"},
    {"bias of a simulation", simulation("window: 3, relative_bias: true"),
     "x.yaml:3:30: relative_bias: expected one of the keys " + kSimulationKeys + ", rows, got an unknown key"},
    {"unknown key of a row", second_row("window: 3, heads: 2"),
     "x.yaml:8:24: heads: expected one of the keys " + kSimulationKeys + ", got an unknown key"},
    {"row without window", second_row("stride: 2"), "x.yaml:8:5: rows: expected the key window, got none"},
    {"no tile", "name: x\nsimulations:\n- {layout: 8, window: 3, q_tile: 4}\n",
     "x.yaml:3:3: simulations: expected the key kv_tile, got none"},
    {"no rows", "name: x\nsimulations:\n- {layout: 8, rows: []}\n",
     "x.yaml:3:21: rows: expected at least one value, got an empty list"},
    {"rows that are no mappings", "name: x\nsimulations:\n- {layout: 8, rows: [3]}\n",
     "x.yaml:3:22: rows: expected a mapping of keys to values, got '3'"},
    {"tile of another length", second_row("window: 3, q_tile: [4, 4, 4]"),
     "x.yaml:8:25: q_tile: expected one value, or one for each axis of the layout of 2 axes, got a list of 3"},
    {"tile of no extent", second_row("window: 3, kv_tile: [4, 0]"),
     "x.yaml:8:5: rows: axis 2: kv_tile 0 must be from 1 to 1048576"},
    {"unknown KV tiling", simulation("window: 3, kv_tiling: both"),
     "x.yaml:3:26: kv_tiling: expected one of static, dynamic, got 'both'"},
    {"simulation of an invalid problem", second_row("window: 3, stride: 4"),
     "x.yaml:8:5: rows: axis 1: stride 4 must be at most 3, the window; axis 2: stride 4 must be at most 3, the "
     "window"},
    {"simulation beyond counting",
     "name: x\nsimulations:\n- {layout: [1000000, 1000000], window: 3, q_tile: 4, kv_tile: 4}\n",
     "x.yaml:3:3: simulations: layout 1000000x1000000 with 0 extra tokens must be small enough for the pairs of self "
     "attention to be counted in 64 bits"},
    {"share above 1", simulation("window: 3, attention_share: 1.5"),
     "x.yaml:3:3: simulations: attention_share 1.500000 must be from 0 to 1"},
    {"more dense steps than steps", second_row("window: 3, dense_steps: 2"),
     "x.yaml:8:5: rows: dense_steps 2 must be from 0 to the steps, 1"},
    {"unknown published figure", simulation("window: 3, published: {flop: 2}"),
     "x.yaml:3:33: flop: expected one of the keys flops, simulated, actual, got an unknown key"},
    {"published figure that is none", simulation("window: 3, published: {flops: 0}"),
     "x.yaml:3:34: flops: expected a number of at least 1, got '0'"},
    {"table with a blank", simulation("window: 3, table: table 2"),
     "x.yaml:3:22: table: expected a name of letters, digits, '_', '-' and '.', got 'table 2'"},
};

TEST(BadConfig, GetsItsLine) {
  for (const Bad& bad : kBad) EXPECT_EQ(complaint_of(bad.text), bad.line) << bad.what;
}

TEST(BadConfig, IsOneLine) {
  for (const Bad& bad : kBad) EXPECT_EQ(complaint_of(bad.text).find('\n'), std::string::npos) << bad.what;
}

TEST(BadConfig, DeepNestingIsRefused) {
  EXPECT_NE(complaint_of("name: " + std::string(100'000, '[')), "");
  EXPECT_NE(complaint_of(grid("layout: 8, window: 3, where: ['" + std::string(100'000, '(') + "']")), "");
}

TEST(BadConfig, MoreCombinationsThanAnyoneRuns) {
  std::string many = "[1";
  for (int i = 2; i <= 400; ++i) many += ", " + std::to_string(i);
  many += "]";
  EXPECT_EQ(complaint_of(grid("layout: " + many + ", window: " + many)),
            "x.yaml:4:5: grids: expected at most 100000 combinations, got more");
}

TEST(BadConfig, PathIsNamed) {
  const auto line_for = [](const std::string& path) -> std::string {
    try {
      config::load(path, config::Form::full);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(line_for("no/such.yaml"), "no/such.yaml: expected a YAML file, got one that cannot be read");
  EXPECT_EQ(line_for(source_folder()), source_folder() + ": expected a YAML file, got a directory");
  EXPECT_EQ(line_for("/dev/zero"), "/dev/zero: expected a YAML file of at most 16 MiB, got a longer one");
  EXPECT_EQ(line_for("/proc/self/mem"), "/proc/self/mem: expected a YAML file, got one that cannot be read");
}

}  // namespace
}  // namespace nalab
