#include "store/new_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>

#include "core/error.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

std::string refusal(const std::string& path) {
  try {
    NewFile file(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST(NewFile, HasTheRightsOfAnyNewFile) {
  const TemporaryFolder folder;
  const mode_t mask = ::umask(027);
  NewFile(folder.file("new")).commit("text");
  ::umask(mask);
  struct stat status;
  ASSERT_EQ(::stat(folder.file("new").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
  std::ifstream file(folder.file("new"));
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "text");
  EXPECT_EQ(folder.count(), 1);
}

TEST(NewFile, TwoOfOneNameDoNotMeet) {
  const TemporaryFolder folder;
  {
    NewFile first(folder.file("new")), second(folder.file("new"));
    first.commit("first");
    EXPECT_EQ(folder.count(), 2);
  }
  EXPECT_EQ(folder.count(), 1);
}

TEST(NewFile, RefusesWhatCannotBeReplaced) {
  const TemporaryFolder folder;
  const std::string pipe = folder.file("pipe"), loop = folder.file("loop"), device = folder.file("device");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0666), 0);
  std::filesystem::create_symlink(loop, loop);
  std::filesystem::create_symlink("/dev/null", device);
  EXPECT_EQ(refusal(pipe), pipe + ": is not a regular file; refusing to replace it");
  EXPECT_EQ(refusal(device), device + ": is not a regular file; refusing to replace it");
  EXPECT_EQ(refusal(loop), loop + ": cannot be written: Too many levels of symbolic links");
  EXPECT_EQ(refusal(folder.path()), folder.path().string() + ": cannot be written: Is a directory");
  const std::string too_long = folder.file(std::string(300, 'x'));
  EXPECT_EQ(refusal(too_long), too_long + ": cannot be written: File name too long");
  EXPECT_EQ(refusal(""), "the name of the file to write is empty");
  EXPECT_EQ(folder.count(), 3) << "nothing is left behind";
}

}  // namespace
}  // namespace nalab::store
