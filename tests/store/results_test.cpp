#include "store/results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <thread>

#include "core/error.h"
#include "store/cases.h"
#include "store/hdf5.h"
#include "tests/store/sample_rows.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::vector<StoredConfig> kConfigs{{"smoke", "name: smoke\n", "name: smoke\ntypes: [f32]\n", "generic", "dense"},
                                         {"a second", "", "x: 1\n"}};

void append(ResultsSink& sink, std::vector<FinishedRow> rows) { sink.append(rows); }

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Results, StartsEmptyWithEnvironmentAndConfigs) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  create_results(path, environment(), kConfigs);
  const Results read = read_results(path);
  EXPECT_EQ(read.path, path);
  EXPECT_EQ(text_of(read.environment), text_of(environment()));
  ASSERT_EQ(read.configs.size(), 2u);
  EXPECT_EQ(read.configs[0].name, "smoke");
  EXPECT_EQ(read.configs[0].text, "name: smoke\n");
  EXPECT_EQ(read.configs[0].resolved, "name: smoke\ntypes: [f32]\n");
  EXPECT_EQ(read.configs[0].table, "generic");
  EXPECT_EQ(read.configs[0].baseline, "dense");
  EXPECT_EQ(read.configs[1].name, "a second");
  EXPECT_EQ(read.configs[1].text, "");
  EXPECT_THAT(read.rows, IsEmpty());
  EXPECT_EQ(read_schema(path), kResultsSchema);
}

TEST(Results, KeepsEveryFieldOfARow) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const auto sink = create_results(path, environment(), kConfigs);
  append(*sink, {{row("first", {0.5, 0.25}), {}}, {row("no samples"), {}}});
  append(*sink, {});
  append(*sink, {{row("second", {3.0}), {}}});
  const Results read = read_results(path);
  ASSERT_EQ(read.rows.size(), 3u);
  Row first = row("first");
  first.first_sample = 0;
  first.sample_count = 2;
  EXPECT_EQ(text_of(read.rows[0]), text_of(first));
  EXPECT_THAT(read.rows[0].samples, ElementsAre(0.5, 0.25));
  EXPECT_THAT(read.rows[1].samples, IsEmpty());
  EXPECT_EQ(read.rows[2].first_sample, 2);
  EXPECT_THAT(read.rows[2].samples, ElementsAre(3.0));
}

TEST(Results, ManyRowsCrossChunks) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const auto sink = create_results(path, environment(), kConfigs);
  std::vector<FinishedRow> rows;
  for (int i = 0; i < 70; ++i) {
    rows.push_back({row(std::to_string(i), std::vector<double>(17, i + 1)), {}});
  }
  append(*sink, rows);
  append(*sink, rows);
  const Results read = read_results(path);
  ASSERT_EQ(read.rows.size(), 140u);
  for (int i = 0; i < 140; ++i) {
    EXPECT_EQ(read.rows[i].id, std::to_string(i % 70));
    EXPECT_EQ(read.rows[i].samples, std::vector<double>(17, i % 70 + 1));
  }
}

TEST(Results, KeepsTensors) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const auto sink = create_results(path, environment(), kConfigs);
  // Larger than one chunk, and with an extent that a chunk does not divide.
  std::vector<float> large(7 * 300 * 257);
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<float>(i % 1009) - 3.5f;
  append(*sink, {{row("with"), {{"q", {7, 300, 257}, large}, {"extra_k", {1, 0, 2, 8}, {}}, {"lse", {1}, {2.5f}}}},
                 {row("without"), {}}});
  const auto tensors = read_tensors(path, "with");
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[0].name, "q");
  EXPECT_THAT(tensors[0].shape, ElementsAre(7, 300, 257));
  EXPECT_EQ(tensors[0].data, large);
  EXPECT_EQ(tensors[1].name, "extra_k");
  EXPECT_THAT(tensors[1].shape, ElementsAre(1, 0, 2, 8));
  EXPECT_THAT(tensors[1].data, IsEmpty());
  EXPECT_THAT(tensors[2].data, ElementsAre(2.5f));
  EXPECT_THAT(read_tensors(path, "without"), IsEmpty());
  EXPECT_THAT(read_tensors(path, "unknown"), IsEmpty());
}

TEST(Results, KeepsEveryFieldOfASimulation) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  auto sink = create_results(path, environment(), kConfigs);
  EXPECT_THAT(read_results(path).simulations, IsEmpty());
  sink->append_simulations(std::vector{simulation("a"), simulation("b")});
  append(*sink, {{row("a row", {0.5}), {}}});
  sink->append_simulations(std::vector{simulation("c")});
  const Results read = read_results(path);
  ASSERT_EQ(read.simulations.size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(text_of(read.simulations[i]), text_of(simulation(std::string(1, "abc"[i]))));
  ASSERT_EQ(read.rows.size(), 1u);
  EXPECT_THAT(read.rows[0].samples, ElementsAre(0.5));

  sink.reset();
  std::vector<std::string> finished;
  resume_results(path, environment(), kConfigs, finished);
  EXPECT_THAT(finished, ElementsAre("a row", "a", "b", "c"));
}

TEST(Results, SimulationsOfAnotherShapeAreRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  create_results(path, environment(), kConfigs);
  {
    const hdf5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), path);
    hdf5::create_list(file, "simulations", hdf5::value_type<double>(), 4);
  }
  EXPECT_EQ(refusal([&] { read_results(path); }), path + ": dataset simulations must be a compound");
}

TEST(Results, AppendIsAllOrNothing) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const auto sink = create_results(path, environment(), kConfigs);
  append(*sink, {{row("kept", {1.0}), {}}});
  const std::string before = bytes_of(path);
  const FinishedRow bad{row("a/b", {2.0}), {{"q", {1}, {0.0f}}}};
  EXPECT_EQ(refusal([&] {
              append(*sink, {{row("lost", {3.0}), {}}, bad});
            }),
            path + ": name 'a/b' must not be empty, '.' or '..' and must not contain a slash, to name an HDF5 group");
  EXPECT_EQ(bytes_of(path), before);
  EXPECT_EQ(folder.count(), 1);
  append(*sink, {{row("next", {4.0}), {}}});
  EXPECT_THAT(read_results(path).rows[1].samples, ElementsAre(4.0));
}

TEST(Results, FullDiskLeavesTheFileAsItWas) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const auto sink = create_results(path, environment(), kConfigs);
  append(*sink, {{row("kept", {1.0}), {}}});
  const std::string before = bytes_of(path);

  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit full{before.size() / 2, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  const std::string sentence = refusal([&] { append(*sink, {{row("lost", {2.0}), {}}}); });
  setrlimit(RLIMIT_FSIZE, &old);
  signal(SIGXFSZ, old_handler);

  EXPECT_EQ(sentence, path + ": cannot be written: File too large");
  EXPECT_EQ(bytes_of(path), before);
  EXPECT_EQ(folder.count(), 1);
  append(*sink, {{row("next", {3.0}), {}}});
  EXPECT_EQ(read_results(path).rows.size(), 2u);
}

TEST(Results, FilesBesideItAreNotTouched) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  std::ofstream(path + ".tmp") << "precious";
  const auto sink = create_results(path, environment(), kConfigs);
  append(*sink, {{row("a"), {}}});
  EXPECT_EQ(read_results(path).rows.size(), 1u);
  EXPECT_EQ(bytes_of(path + ".tmp"), "precious");
  EXPECT_EQ(folder.count(), 2);
}

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

TEST(Results, ImplausibleRowsAreRefused) {
  const TemporaryFolder folder;
  const auto reading = [&](const Row& r) {
    const std::string path = folder.file("r.h5");
    std::filesystem::remove(path);
    append(*create_results(path, environment(), kConfigs), {{row("fine", {1.0}), {}}, {r, {}}});
    return refusal([&] { read_results(path); }).substr(path.size());
  };
  EXPECT_EQ(reading(row("x", {0.5, NAN})), ": row x has a sample of nan s, must be finite and greater than 0");
  EXPECT_EQ(reading(row("x", {INFINITY})), ": row x has a sample of inf s, must be finite and greater than 0");
  EXPECT_EQ(reading(row("x", {0.0})), ": row x has a sample of 0.000000 s, must be finite and greater than 0");
  EXPECT_EQ(reading(row("x", {-1.0})), ": row x has a sample of -1.000000 s, must be finite and greater than 0");
  Row odd = row("x");
  odd.status = "fine";
  EXPECT_EQ(reading(odd), ": row x has status 'fine', must be done, failed or refused");
}

TEST(Results, AMissingGroupIsNamedOnce) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  create_results(path, environment(), kConfigs);
  for (const char* group : {"tensors", "configs", "environment"}) {
    {
      const hdf5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), path);
      H5Ldelete(file, group, H5P_DEFAULT);
    }
    EXPECT_EQ(refusal([&] { read_tensors(path, "a"); }), path + ": group tensors is missing");
    if (std::string(group) == "tensors") continue;
    EXPECT_EQ(refusal([&] { read_results(path); }), path + ": group " + group + " is missing");
  }
}

TEST(Results, KilledAtAnyMomentEveryFinishedRowIsThere) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const std::string log = folder.file("log");
  std::minstd_rand random(7);
  int rows_before = 0;
  for (int round = 0; round < 20; ++round) {
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
    std::this_thread::sleep_for(std::chrono::microseconds(5000 + random() % 40000));
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

TEST(Results, CreateRefusesAFileThatExists) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  std::ofstream(path) << "precious";
  EXPECT_EQ(refusal([&] { create_results(path, environment(), kConfigs); }),
            path + ": already exists; continue it with --resume, or name another file with -o");
  EXPECT_EQ(bytes_of(path), "precious");
}

TEST(Results, CreateRefusesWhatCannotBeWritten) {
  const TemporaryFolder folder;
  const std::string path = folder.file("no such folder/r.h5");
  EXPECT_EQ(refusal([&] { create_results(path, environment(), kConfigs); }),
            path + ": cannot be written: No such file or directory");
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
                "' and is 'avx512'; threads was '1005' and is '3'; config smoke: line 2 was 'types: [f32]' and is "
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

TEST(Results, ConfigNamesHaveNoSlash) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  EXPECT_EQ(refusal([&] {
              create_results(path, environment(), {{"a/b", "", ""}});
            }),
            path + ": name 'a/b' must not be empty, '.' or '..' and must not contain a slash, to name an HDF5 group");
  EXPECT_FALSE(std::filesystem::exists(path));
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
