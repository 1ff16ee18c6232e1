// nalab sim: what it answers, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/cli/run_nalab.h"
#include "tests/report/has_gnuplot.h"

namespace nalab {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;
using Json = nlohmann::json;

const std::string kHunyuan = "--layout 30x48x80 --window 18x24x24";

/// Options separated by blanks.
Outcome sim(const TemporaryFolder& folder, const std::string& options, const std::string& before = "") {
  std::vector<std::string> arguments{"sim"};
  std::istringstream words(options);
  for (std::string word; words >> word;) arguments.push_back(word);
  return run_nalab(folder, arguments, before);
}

Outcome sim(const std::string& options) { return sim(TemporaryFolder(), options); }

Json sim_json(const std::string& options) {
  const Outcome run = sim(options + " --json");
  EXPECT_EQ(run.exit_code, 0) << run.err;
  return Json::parse(run.out);
}

TEST(Sim, AnswersInJson) {
  const Json json = sim_json(kHunyuan + " --stride 16x8x8 --q-tile 4x8x8 --kv-tile 2x8x8 --attention-share 0.607" +
                             " --steps 50 --dense-steps 15");
  EXPECT_NEAR(json.at("speedup_worst"), 11.1111, 1e-4);
  EXPECT_NEAR(json.at("speedup_mean"), 11.1111, 1e-4);
  EXPECT_NEAR(json.at("speedup_flops"), 11.1111, 1e-4);
  EXPECT_EQ(json.at("perfectly_block_sparse"), true);
  EXPECT_EQ(json.at("tiles_total"), 900);
  EXPECT_EQ(json.at("tiles_visited_worst"), 81);
  EXPECT_EQ(json.at("tiles_visited_mean"), 81.0);
  EXPECT_EQ(json.at("partial_tiles_share"), 0.0);
  EXPECT_EQ(json.at("wasted_share"), 0.0);
  EXPECT_NEAR(json.at("speedup_end_to_end"), 1.6304, 1e-4);
}

TEST(Sim, RoundsAsPublishedWhenAskedTo) {
  const std::string options =
      "--layout 30x48x80 --window 30x40x40 --q-tile 2x16x8 --kv-tile 2x8x8 " + std::string("--attention-share 0.607");
  EXPECT_NEAR(sim_json(options).at("speedup_end_to_end"), 1.2226, 1e-4);
  EXPECT_NEAR(sim_json(options + " --round-speedup").at("speedup_end_to_end"), 1.2098, 1e-4);
}

TEST(Sim, AnswersPeople) {
  const Outcome run = sim(kHunyuan + " --heads 24 --bandwidth 4000");
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("                   worst tile  mean tile  FLOP-wise\n"
                                 "visits, of 900            275      171.6\n"
                                 "speedup                 3.27x      5.24x     11.11x\n"));
  EXPECT_THAT(run.out, HasSubstr("block-sparse       not perfectly\n"));
  EXPECT_THAT(run.out, HasSubstr("token permutation  5.662 GB, 1.416 ms (batch 1, heads 24, head_dim 128, bf16)\n"));
}

TEST(Sim, OneValueStandsForAllAxes) {
  const Json one = sim_json("--layout 20x30 --window 6 --stride 2 --dilation 3 --causal --q-tile 4 --kv-tile 3");
  EXPECT_EQ(one.at("window"), (Json{6, 6}));
  EXPECT_EQ(one.at("causal"), (Json{1, 1}));
  EXPECT_EQ(one, sim_json("--layout 20x30 --window 6x6 --stride 2,2 --dilation 3x3 --causal 1x1 --q-tile 4x4 "
                          "--kv-tile 3x3"));
}

TEST(Sim, OptionsReachTheSimulator) {
  const std::string base = "--layout 64x64 --window 9 --q-tile 8 --kv-tile 8";
  const auto visited = [&base](const std::string& options) {
    return sim_json(base + options).at("tiles_visited_worst").get<int64_t>();
  };
  EXPECT_EQ(visited(""), 9);
  EXPECT_EQ(visited(" --kv-tiling dynamic"), 4);
  EXPECT_EQ(visited(" --dilation 2"), 9);
  EXPECT_EQ(visited(" --causal 0x1"), 6);
  EXPECT_EQ(visited(" --extra-kv 65"), 11);
  const Json flattened = sim_json("--layout 64x64 --window 17 --q-tile 8 --kv-tile 8 --tiling single");
  EXPECT_EQ(flattened.at("tiles_visited_worst"), 17);  // whole rows, where boxes of the layout need 9
}

TEST(Sim, ABiasChangesNothing) {
  const std::string base = "--layout 64x64 --window 9 --q-tile 8 --kv-tile 8";
  Json with = sim_json(base + " --relative-bias"), without = sim_json(base);
  EXPECT_EQ(with.at("relative_bias"), true);
  EXPECT_EQ(without.at("relative_bias"), false);
  with.erase("relative_bias");
  without.erase("relative_bias");
  EXPECT_EQ(with, without);
  EXPECT_THAT(sim(base + " --relative-bias").out,
              HasSubstr("\nrelative bias      yes, which changes no tile and no cost\n"));
  EXPECT_THAT(sim(base).out, testing::Not(HasSubstr("bias")));
  const Outcome sweep = sim("--layout 64x64 --sweep window --relative-bias");
  EXPECT_EQ(sweep.exit_code, 0) << sweep.err;
}

TEST(Sim, SweepsStrides) {
  const Json json = sim_json(kHunyuan + " --sweep stride");
  EXPECT_FALSE(json.contains("stride"));
  ASSERT_EQ(json.at("rows").size(), 12u);
  EXPECT_EQ(json.at("rows").front().at("stride"), (Json{1, 1, 1}));
  EXPECT_EQ(json.at("rows").back().at("stride"), (Json{16, 8, 8}));
  EXPECT_EQ(json.at("rows").back().at("perfectly_block_sparse"), true);

  const std::string text = sim(kHunyuan + " --sweep stride --rows 11").out;
  EXPECT_THAT(text, HasSubstr("\nstride  speedup    mean  FLOP-wise  end to end  partial  wasted  block-sparse\n"));
  EXPECT_THAT(text, HasSubstr("\n1x8x8     9.09x  10.26x     11.11x       9.09x    15.4%    8.2%             -\n"));
  EXPECT_THAT(text, HasSubstr("\nand 1 more: --rows 0 shows all\n"));
}

TEST(Sim, SweepsTilesAndWindows) {
  for (const std::string varied : {"q-tile", "kv-tile", "window"}) {
    const Outcome run = sim(kHunyuan + " --sweep " + varied);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    EXPECT_THAT(run.out, HasSubstr("\n" + varied + " "));
  }
}

TEST(Sim, SweepsTheWindowsOfALongLayout) {
  const Json json = sim_json("--layout 1000000 --sweep window --rows 3");
  const auto& rows = json.at("rows");
  // Windows that visit one KV tile more each, from those of two or three tiles to the whole layout.
  EXPECT_EQ(rows.size(), 7812u);
  EXPECT_EQ(rows.front().at("window"), (Json{1000000}));
  EXPECT_EQ(rows.back().at("tiles_visited_worst"), 2);
  EXPECT_EQ(rows.back().at("window"), (Json{1}));
}

TEST(Sim, Recommends) {
  const Json json = sim_json("--layout 256x256 --recommend 0.9");
  EXPECT_EQ(json.at("rows").front().at("window"), (Json{80, 80}));
  EXPECT_EQ(json.at("rows").front().at("stride"), (Json{16, 16}));
  EXPECT_THAT(sim("--layout 64 --causal --recommend 0.9").out,
              HasSubstr("No window of sparsity 0.9 wastes nothing with these tiles."));
}

TEST(Sim, RefusesBadRequestsInOneLine) {
  const std::vector<std::pair<std::string, std::string>> table{
      {"--window 3", "--layout is required"},
      {"--layout 8", "--window is required"},
      {"--layout 8x8x8x8 --window 3", "rank 4 must be 1, 2 or 3"},
      {"--layout 8x0 --window 3", "axis 2: layout 0 must be at least 1"},
      {"--layout 8y8 --window 3", "--layout '8y8' must be whole numbers joined by x, such as 30x48x80"},
      {"--layout 8x --window 3", "--layout '8x' must be whole numbers joined by x, such as 30x48x80"},
      {"--layout 99999999999999999999 --window 3",
       "--layout '99999999999999999999' must be whole numbers joined by x, such as 30x48x80"},
      {kHunyuan + " --q-tile 4x8", "--q-tile 4x8 has 2 extents, but the layout 30x48x80 has 3 axes"},
      {kHunyuan + " --kv-tile 2x0x8", "axis 2: kv_tile 0 must be from 1 to 1048576"},
      {kHunyuan + " --stride 19x1x1", "axis 1: stride 19 must be at most 18, the window"},
      {kHunyuan + " --stride 1.5", "--stride '1.5' must be whole numbers joined by x, such as 30x48x80"},
      {kHunyuan + " --causal 2", "--causal 2 must hold 0 or 1"},
      {kHunyuan + " --extra-kv -1", "extra_tokens -1 must be at least 0"},
      {kHunyuan + " --attention-share 1.5", "attention_share 1.500000 must be from 0 to 1"},
      {kHunyuan + " --attention-share nan", "attention_share nan must be from 0 to 1"},
      {kHunyuan + " --steps 4 --dense-steps 5", "dense_steps 5 must be from 0 to the steps, 4"},
      {kHunyuan + " --bandwidth 0", "--bandwidth 0 must be greater than 0 and finite"},
      {kHunyuan + " --rows -1", "--rows -1 must be at least 0"},
      {kHunyuan + " --recommend 90", "sparsity 90.000000 must be from 0 to 1"},
      {kHunyuan + " --sweep stride --tiling single", "sweeps and recommendations need multi-dimensional tiling"},
      {kHunyuan + " --plot a.svg", "--plot requires --sweep"},
      {kHunyuan + " --sweep stride --plot a.jpg", "--plot a.jpg must end in .svg or .png"},
      {kHunyuan + " --sweep stride --plot png", "--plot png must end in .svg or .png"},
      {"--layout 1000000000 --window 5 --q-tile 1",
       "there are more than 134217728 query tiles to look at; larger tiles or a smaller layout have fewer"},
      {"--layout 1000000 --window 1000000 --sweep stride",
       "there are more than 134217728 query tiles to look at; larger tiles or a smaller layout have fewer"},
      {"--layout 500x500x500 --window 500 --head-dim 1 --tiling single",
       "there are more than 134217728 query tiles to look at; larger tiles or a smaller layout have fewer"},
      {kHunyuan + " --sweep stride --plot /no/such/folder/a.svg",
       "/no/such/folder/a.svg: cannot be written: No such file or directory"},
  };
  for (const auto& [options, sentence] : table) {
    const Outcome run = sim(options);
    EXPECT_EQ(run.exit_code, 2) << options;
    EXPECT_EQ(run.err, "nalab: " + sentence + "\n");
    EXPECT_EQ(run.out, "");
  }
  for (const char* options : {" --steps many", " --kv-tiling fixed", " --sweep colour", " --sparse"}) {
    const Outcome run = sim(kHunyuan + options);
    EXPECT_EQ(run.exit_code, 2) << options;
    EXPECT_THAT(run.err, StartsWith("nalab: "));
    EXPECT_EQ(run.err.find('\n'), run.err.size() - 1);
  }
}

/// A folder with a gnuplot that is this shell script.
void install_gnuplot(const TemporaryFolder& folder, const std::string& script) {
  std::ofstream(folder.file("gnuplot")) << "#!/bin/sh\n" << script;
  std::filesystem::permissions(folder.file("gnuplot"), std::filesystem::perms::owner_all);
}

TEST(SimPlot, KeepsWhatGnuplotDraws) {
  const TemporaryFolder folder;
  install_gnuplot(folder, "while read -r line; do echo \"$line\"; done");
  const std::string plot = folder.file("plot.svg");
  const Outcome run = sim(folder, kHunyuan + " --sweep stride --plot " + plot, "PATH=" + folder.path().string());
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(bytes_of(plot), HasSubstr("\n11 11.1111 NaN 11.1111 16x8x8\n"));
  EXPECT_THAT(bytes_of(plot), HasSubstr("set terminal svg"));
}

TEST(SimPlot, TheEndingOfItsNameIsItsFormat) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  const TemporaryFolder folder;
  for (const auto& [name, begin] : {std::pair("plot.svg", "<?xml"), std::pair("plot.png", "\x89PNG\r\n")}) {
    const Outcome run = sim(folder, kHunyuan + " --sweep stride --plot " + folder.file(name));
    EXPECT_EQ(run.exit_code, 0) << run.err;
    EXPECT_THAT(bytes_of(folder.file(name)), StartsWith(begin));
  }
}

TEST(SimPlot, LeavesNothingWhereGnuplotIsMissingOrFails) {
  const TemporaryFolder folder;
  const std::string plot = folder.file("plot.svg");
  const std::string options = kHunyuan + " --sweep stride --plot " + plot;
  const std::string here = "PATH=" + folder.path().string();
  EXPECT_EQ(sim(folder, options, here).err, "nalab: gnuplot is not installed\n");
  install_gnuplot(folder, "echo half; echo no font >&2; exit 1\n");
  EXPECT_EQ(sim(folder, options, here).err, "nalab: gnuplot cannot make the plot " + plot + ": no font\n");
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    if (entry.path().filename().string().starts_with("plot")) left.push_back(entry.path().filename());
  }
  EXPECT_THAT(left, IsEmpty());
}

}  // namespace
}  // namespace nalab
