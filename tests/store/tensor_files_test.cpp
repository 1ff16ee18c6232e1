// Tensors that make a results file large: where they are meanwhile, what they cost, and that none is lost.
#include "store/tensor_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "store/merge.h"
#include "store/results.h"
#include "tests/store/faults.h"
#include "tests/store/memory_use.h"
#include "tests/store/results_file.h"
#include "tests/store/sample_rows.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

namespace fs = std::filesystem;
using testing::IsEmpty;
using testing::SizeIs;

/// 5 MiB that cannot be compressed: three of them are more than a results file takes in during a run.
StoredTensor large(int seed) {
  std::minstd_rand random(seed + 1);
  std::vector<float> data(5 << 18);
  for (float& x : data) x = static_cast<float>(random()) + 1 / static_cast<float>(random());
  return {"q", {1, 5, 1 << 18}, std::move(data)};
}

FinishedRow large_row(int i) { return {row("row" + std::to_string(i), {0.5 + i}), {}}; }

/// Appends rows first to last with a large tensor each.
void append_large(ResultsSink& sink, int first, int last) {
  for (int i = first; i <= last; ++i) {
    sink.keep("row" + std::to_string(i), large(i));
    append(sink, {large_row(i)});
  }
}

void expect_rows(const std::string& path, int count) {
  const Results read = read_results(path);
  ASSERT_THAT(read.rows, SizeIs(count));
  for (int i = 0; i < count; ++i) {
    EXPECT_EQ(read.rows[i].id, "row" + std::to_string(i));
    const std::vector<StoredTensor> tensors = read_tensors(path, read.rows[i].id);
    ASSERT_THAT(tensors, SizeIs(1)) << i;
    EXPECT_EQ(tensors[0].shape, large(i).shape);
    EXPECT_TRUE(tensors[0].data == large(i).data) << i;
  }
}

TEST(TensorFiles, LargeTensorsStandBesideTheFileUntilTheRunEnds) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  auto sink = create_results(path, environment(), kConfigs);
  append_large(*sink, 0, 2);
  append(*sink, {{row("without"), {}}});
  EXPECT_EQ(folder.count(), 1) << "these go into the file";
  append_large(*sink, 3, 4);
  EXPECT_EQ(folder.count(), 3);
  sink->append_simulations(std::vector{simulation("a")});
  EXPECT_THAT(read_tensors(path, "row3"), SizeIs(1)) << "wherever it is";
  sink->finish();
  EXPECT_EQ(folder.count(), 1);
  sink.reset();

  // The file is large now: its own tensors have to make way.
  std::vector<std::string> finished;
  sink = resume_results(path, environment(), kConfigs, finished);
  EXPECT_THAT(finished, SizeIs(7));
  append(*sink, {{row("last", {0.25}), {{"q", {1}, {0.75f}}}}});
  EXPECT_EQ(folder.count(), 2);
  EXPECT_LT(fs::file_size(path), 1 << 20);
  sink->finish();
  sink->finish();
  EXPECT_EQ(folder.count(), 1);
  const Results read = read_results(path);
  EXPECT_EQ(text_of(read.environment), text_of(environment()));
  EXPECT_EQ(read.configs[0].resolved, kConfigs[0].resolved);
  EXPECT_THAT(read.simulations, SizeIs(1));
  EXPECT_THAT(read.rows, SizeIs(7));
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(read_tensors(path, "row" + std::to_string(i)).at(0).data == large(i).data);
  EXPECT_EQ(read_tensors(path, "last").at(0).data, std::vector<float>{0.75f});
  EXPECT_THAT(read_tensors(path, "without"), IsEmpty());
}

TEST(TensorFiles, NeitherMemoryNorTrafficGrowWithTheFile) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const auto sink = create_results(path, environment(), kConfigs);
  const auto written_bytes = [] {
    std::ifstream file("/proc/self/io");
    int64_t bytes = 0;
    for (std::string word; file >> word;) {
      if (word == "wchar:") file >> bytes;
    }
    return bytes;
  };
  std::vector<int64_t> traffic, memory;
  for (int i = 0; i < 7; ++i) {
    const StoredTensor tensor = large(i);
    const int64_t before = written_bytes();
    memory.push_back(peak_growth([&] {
      sink->keep("row" + std::to_string(i), tensor);
      append(*sink, {large_row(i)});
    }));
    traffic.push_back(written_bytes() - before);
  }
  EXPECT_LT(traffic[6], 1.1 * traffic[3]);
  EXPECT_LT(memory[6], memory[3] + (4 << 20));
  EXPECT_LT(memory[6], 8 << 20) << "what HDF5 holds of one tensor";
  EXPECT_LT(peak_growth([&] { sink->finish(); }), 8 << 20);
  EXPECT_GT(fs::file_size(path), 28 << 20);
}

TEST(TensorFiles, KilledAtAnyMomentNoTensorOfAStoredRowIsLost) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  std::minstd_rand random(11);
  constexpr int kRows = 5;
  int killed = 0;
  for (int round = 0; round < 14; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      std::vector<std::string> finished;
      const auto sink = resume_results(path, environment(), kConfigs, finished);
      append_large(*sink, static_cast<int>(finished.size()), kRows - 1);
      sink->finish();
      ::_exit(0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + random() % 300));
    // SIGTERM as well: what has been asked for is whole or absent, and nothing else is there.
    const int signal = round % 2 == 0 ? SIGKILL : SIGTERM;
    ::kill(child, signal);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (ended_by(status, signal)) ++killed;
    if (!fs::exists(path)) continue;
    const int rows = static_cast<int>(read_results(path).rows.size());
    for (int i = 0; i < rows; ++i) EXPECT_THAT(read_tensors(path, "row" + std::to_string(i)), SizeIs(1)) << round;
    if (WIFEXITED(status)) break;
  }
  EXPECT_GT(killed, 0);
  std::vector<std::string> finished;
  const auto sink = resume_results(path, environment(), kConfigs, finished);
  append_large(*sink, static_cast<int>(finished.size()), kRows - 1);
  sink->finish();
  expect_rows(path, kRows);
}

TEST(TensorFiles, ADiskThatIsFullAtAnyMomentLeavesTheRowsBeforeAndNothingElse) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const auto sink = create_results(path, environment(), kConfigs);
  append_large(*sink, 0, 3);
  const auto files = folder.count();
  EXPECT_EQ(files, 2);
  const ReplacedCalls calls;
  int64_t refusals = 0;
  for (int64_t bytes = 1000; bytes < 100'000'000; bytes *= 4) {
    full_after(bytes);
    const std::string sentence = refusal([&] { append_large(*sink, 4, 4); });
    system_calls = SystemCalls{};
    if (sentence == "nothing was refused") break;
    ++refusals;
    EXPECT_TRUE(sentence.ends_with(": cannot be written: No space left on device")) << sentence;
    EXPECT_EQ(folder.count(), files);
    EXPECT_THAT(read_results(path).rows, SizeIs(4));
  }
  EXPECT_GT(refusals, 5);
  full_after(1000);
  EXPECT_EQ(refusal([&] { sink->finish(); }), path + ": cannot be written: No space left on device");
  system_calls = SystemCalls{};
  expect_rows(path, 5);
  sink->finish();
  expect_rows(path, 5);
}

TEST(TensorFiles, AnUnfinishedFileIsMergedWithWhatStandsBesideIt) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5"), other = folder.file("other.h5"), merged = folder.file("merged.h5");
  append_large(*create_results(path, environment(), kConfigs), 0, 3);
  append(*create_results(other, environment(), kConfigs), {{row("more", {1.0}), {{"k", {1}, {2.0f}}}}});
  EXPECT_LT(peak_growth([&] { merge_results({path, other}, merged, {}); }), 8 << 20);
  EXPECT_TRUE(read_tensors(merged, "row3").at(0).data == large(3).data);
  EXPECT_EQ(read_tensors(merged, "more").at(0).data, std::vector<float>{2.0f});
  EXPECT_EQ(folder.count(), 4);
}

TEST(TensorFiles, OneThatIsGoneIsNamed) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  append_large(*create_results(path, environment(), kConfigs), 0, 3);
  std::string gone;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    if (entry.path() != path) gone = entry.path();
  }
  EXPECT_TRUE(gone.starts_with(path + ".") && gone.ends_with(".tensors")) << gone;
  fs::remove(gone);
  EXPECT_EQ(refusal([&] { read_tensors(path, "row3"); }),
            path + ": group tensors/row3: " + gone + ": cannot be read: No such file or directory");
  EXPECT_THAT(read_tensors(path, "row0"), SizeIs(1));
}

}  // namespace
}  // namespace nalab::store
