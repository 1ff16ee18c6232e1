// Runs that share a results file: one after the other, at the same time, killed, and as shards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "store/results.h"
#include "tests/store/results_file.h"
#include "tests/store/sample_rows.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Results, ASecondRunOnTheSameFileIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const std::string sentence = path + ": another run is writing it";
  std::vector<std::string> finished;
  const auto resume = [&] { return resume_results(path, environment(), kConfigs, finished); };
  auto sink = create_results(path, environment(), kConfigs);
  EXPECT_EQ(refusal(resume), sentence);
  append(*sink, {{row("a", {1.0}), {}}});
  EXPECT_EQ(refusal(resume), sentence) << "the lock outlives the replacement of the file";
  EXPECT_EQ(read_results(path).rows.size(), 1u) << "reading is free";
  sink = nullptr;
  sink = resume();
  EXPECT_EQ(refusal(resume), sentence);
  EXPECT_THAT(finished, ElementsAre("a"));
}

TEST(Results, AFileThatIsReplacedDuringTheRunIsLeftAlone) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const auto sink = create_results(path, environment(), kConfigs);
  std::filesystem::remove(path);
  const auto other = create_results(path, environment(), kConfigs);
  EXPECT_EQ(refusal([&] { append(*sink, {{row("a"), {}}}); }), path + ": has been removed or replaced during the run");
  EXPECT_THAT(read_results(path).rows, IsEmpty());
}

TEST(Results, KilledAtAnyMomentEveryFinishedRowIsThere) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const std::string log = folder.file("log");
  std::minstd_rand random(7);
  int rows_before = 0;
  // Later rounds wait longer, in case the disk is slow.
  for (int round = 0; round < 20 || (rows_before == 0 && round < 200); ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      std::vector<std::string> finished;
      const auto sink = resume_results(path, environment(), kConfigs, finished);
      for (std::size_t i = finished.size();; ++i) {
        const std::string id = std::to_string(i);
        append(*sink, {{row(id, {i + 0.5}), {{"q", {64}, std::vector<float>(64, float(i))}}}});
        std::ofstream(log, std::ios::app) << id << std::endl;
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds((5000 + random() % 40000) * (1 + round / 10)));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "the child ended by itself";
    if (!std::filesystem::exists(path)) continue;

    const Results read = read_results(path);
    std::set<std::string> ids;
    for (const Row& r : read.rows) {
      EXPECT_TRUE(ids.insert(r.id).second) << r.id << " twice";
      EXPECT_THAT(r.samples, ElementsAre(std::stod(r.id) + 0.5));
      EXPECT_EQ(read_tensors(path, r.id).at(0).data, std::vector<float>(64, std::stof(r.id)));
    }
    std::ifstream finished(log);
    for (std::string id; std::getline(finished, id);) EXPECT_TRUE(ids.contains(id)) << id << " is lost";
    EXPECT_GE(static_cast<int>(read.rows.size()), rows_before);
    rows_before = static_cast<int>(read.rows.size());
  }
  EXPECT_GT(rows_before, 0);
}

TEST(Results, ResumeGoesOn) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  std::vector<std::string> finished;
  append(*resume_results(path, environment(), kConfigs, finished), {{row("a"), {}}, {row("b"), {}}});
  EXPECT_THAT(finished, IsEmpty());

  Environment later = environment();
  later.started = "another day";
  later.copy_bandwidth *= 1.1;
  later.peaks[0].one_thread *= 0.9;
  later.peaks.pop_back();
  const auto sink = resume_results(path, later, {kConfigs[1], kConfigs[0]}, finished);
  EXPECT_THAT(finished, ElementsAre("a", "b"));
  append(*sink, {{row("c", {1.5}), {}}});
  EXPECT_EQ(read_results(path).rows.size(), 3u);
  EXPECT_EQ(text_of(read_results(path).environment), text_of(environment())) << "that of the first run";
}

TEST(Results, ResumeSaysAllThatDiffers) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  create_results(path, environment(), kConfigs);
  std::vector<std::string> finished;
  for (const char* field : {"cpu", "isa", "compiler", "flags", "revision"}) {
    Environment other = environment();
    std::string before;
    Environment::visit_fields(other, [&](const std::string& name, auto& value, const char*) {
      if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
        if (name == field) before = std::exchange(value, "other");
      }
    });
    EXPECT_EQ(refusal([&] { resume_results(path, other, kConfigs, finished); }),
              path + ": cannot be resumed: " + field + " was '" + before + "' and is 'other'");
  }
  Environment other = environment();
  other.threads = 3;
  other.isa = "avx512";
  std::vector<StoredConfig> configs{{"smoke", "", "name: smoke\ntypes: [bf16]\n"}, {"new", "", ""}};
  EXPECT_EQ(refusal([&] { resume_results(path, other, configs, finished); }),
            path + ": cannot be resumed: isa was '" + environment().isa +
                "' and is 'avx512'; threads was '1012' and is '3'; config smoke: line 2 was 'types: [f32]' and is "
                "'types: [bf16]'; config a second of the file is not requested; config new is not in the file");
  configs = kConfigs;
  configs[1].resolved += "y: 2\n";
  EXPECT_EQ(refusal([&] { resume_results(path, environment(), configs, finished); }),
            path + ": cannot be resumed: config a second: line 2 was '' and is 'y: 2'");
  EXPECT_THAT(finished, IsEmpty());
}

TEST(Results, AShardIsResumedAsItselfAlone) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5"), whole = folder.file("whole.h5");
  const Shard shard{.index = 2, .count = 3, .filter = "f32", .rows = 7};
  create_results(path, environment(), kConfigs, shard);
  create_results(whole, environment(), kConfigs);
  const std::optional<Shard> read = read_results(path).shard;
  ASSERT_TRUE(read);
  EXPECT_EQ(std::tuple(read->index, read->count, read->filter, read->rows), std::tuple(2, 3, "f32", 7));
  EXPECT_FALSE(read_results(whole).shard);

  std::vector<std::string> finished;
  EXPECT_EQ(refusal([&] { resume_results(path, environment(), kConfigs, finished, shard); }), "nothing was refused");
  const auto sentence = [&](const std::string& file, const std::optional<Shard>& other) {
    return refusal([&] { resume_results(file, environment(), kConfigs, finished, other); }).substr(file.size());
  };
  EXPECT_EQ(sentence(path, Shard{3, 3, "f32", 7}), ": cannot be resumed: shard was '2 of 3' and is '3 of 3'");
  EXPECT_EQ(sentence(path, Shard{2, 4, "bf16", 7}),
            ": cannot be resumed: shard was '2 of 3' and is '2 of 4'; filter was 'f32' and is 'bf16'");
  EXPECT_EQ(sentence(path, std::nullopt), ": cannot be resumed: shard 2 of 3 of the file is not requested");
  EXPECT_EQ(sentence(whole, shard), ": cannot be resumed: shard 2 of 3 is not in the file");
}

TEST(Results, AnImpossibleShardIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  create_results(path, environment(), kConfigs, Shard{.index = 4, .count = 3});
  EXPECT_EQ(refusal([&] { read_results(path); }), path + ": group shard: index 4 must be from 1 to 3, the count");
}

TEST(Results, FileBehindALinkIsReplacedNotTheLink) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const std::string link = folder.file("link.h5");
  create_results(path, environment(), kConfigs);
  std::filesystem::create_symlink(path, link);
  std::vector<std::string> finished;
  append(*resume_results(link, environment(), kConfigs, finished), {{row("a"), {}}});
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(read_results(path).rows.size(), 1u);
}

}  // namespace
}  // namespace nalab::store
