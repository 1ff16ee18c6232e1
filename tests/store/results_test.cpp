// Results files: what they keep, and what is refused.
#include "store/results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "store/cases.h"
#include "store/hdf5.h"
#include "tests/store/results_file.h"
#include "tests/store/sample_rows.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

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

TEST(Results, ModelsShareTheSamplesWithRows) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  const auto sink = create_results(path, environment(), kConfigs);
  append(*sink, {{row("row", {0.5}), {}}});
  EXPECT_THAT(read_results(path).models, IsEmpty());
  sink->append_models(std::vector{model("a", {1.0, 2.0}), model("no samples")});
  append(*sink, {{row("another row", {0.25}), {}}});
  sink->append_models(std::vector{model("b", {3.0})});
  const Results read = read_results(path);
  ASSERT_EQ(read.models.size(), 3u);
  ModelRow expected = model("a");
  expected.first_sample = 1;
  expected.sample_count = 2;
  EXPECT_EQ(text_of(read.models[0]), text_of(expected));
  EXPECT_THAT(read.models[0].samples, ElementsAre(1.0, 2.0));
  EXPECT_THAT(read.models[1].samples, IsEmpty());
  EXPECT_THAT(read.models[2].samples, ElementsAre(3.0));
  EXPECT_THAT(read.rows[1].samples, ElementsAre(0.25));
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

TEST(Results, ConfigNamesHaveNoSlash) {
  const TemporaryFolder folder;
  const std::string path = folder.file("r.h5");
  EXPECT_EQ(refusal([&] {
              create_results(path, environment(), {{"a/b", "", ""}});
            }),
            path + ": name 'a/b' must not be empty, '.' or '..' and must not contain a slash, to name an HDF5 group");
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace nalab::store
