// Where configurations are found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "experiments/config/config.h"
#include "tests/source_folder.h"
#include "tests/store/temporary_folder.h"

namespace nalab {
namespace {

using testing::ElementsAre;

TEST(FindConfigs, TakesTheFirstFolderThatHasSome) {
  const TemporaryFolder folder;
  for (const char* name : {"empty", "first", "second"}) std::filesystem::create_directory(folder.file(name));
  std::ofstream(folder.file("empty/readme.md")) << "none\n";
  for (const char* name : {"first/b.yaml", "first/a.yaml", "second/c.yaml"}) std::ofstream(folder.file(name)) << "\n";
  EXPECT_THAT(
      config::find_configs({folder.file("none"), folder.file("empty"), folder.file("first"), folder.file("second")}),
      ElementsAre(folder.file("first/a.yaml"), folder.file("first/b.yaml")));
}

TEST(FindConfigs, SaysWhereItLookedInVain) {
  EXPECT_THAT(
      [] {
        config::find_configs({"/no/such/folder", "/none"});
      },
      testing::ThrowsMessage<Error>("there are no configurations (*.yaml) in any of /no/such/folder, /none"));
}

TEST(FindConfigs, LooksBesideTheExecutable) {
  const std::vector<std::string> folders = config::config_folders();
  ASSERT_EQ(folders.size(), 3u);
  EXPECT_EQ(folders[0], "configs");
  const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  EXPECT_EQ(std::filesystem::path(folders[1]).parent_path().parent_path().parent_path(), here.parent_path())
      << "share/nalab/configs beside bin";
  EXPECT_EQ(folders[2], source_folder() + "/configs");
}

}  // namespace
}  // namespace nalab
