#include "store/new_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/store/faults.h"
#include "tests/store/results_file.h"
#include "tests/store/sample_rows.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

std::string refused(const std::string& path) {
  return refusal([&] { NewFile file(path); });
}

mode_t mode_of(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status.st_mode & 07777;
}

/// On file systems with and without files that have no name.
class EveryFileSystem : public testing::TestWithParam<bool> {
 protected:
  EveryFileSystem() {
    if (!GetParam()) without_unnamed_files();
  }
  ReplacedCalls calls_;
  TemporaryFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(NewFile, EveryFileSystem, testing::Bool(),
                         [](const auto& test) { return test.param ? "unnamed" : "named"; });

TEST_P(EveryFileSystem, NothingIsThereBeforeCommit) {
  const std::string path = folder_.file("new");
  {
    NewFile file(path);
    EXPECT_EQ(write_all(file.descriptor(), "text", 0), 0);
    EXPECT_EQ(folder_.count(), 0);
  }
  EXPECT_EQ(folder_.count(), 0);
}

TEST_P(EveryFileSystem, HasTheRightsOfAnyNewFile) {
  const mode_t mask = ::umask(027);
  NewFile(folder_.file("new")).commit("text");
  ::umask(mask);
  EXPECT_EQ(mode_of(folder_.file("new")), 0640u);
  EXPECT_EQ(bytes_of(folder_.file("new")), "text");
  EXPECT_EQ(folder_.count(), 1);
}

TEST_P(EveryFileSystem, AFileThatIsRewrittenKeepsItsMode) {
  const std::string path = folder_.file("old"), link = folder_.file("link");
  std::ofstream(path) << "a longer text than the new one";
  fs::create_symlink("old", link);
  ::chmod(path.c_str(), 0604);
  const bool is_root = ::geteuid() == 0;
  const auto [owner, group] = is_root ? std::pair<uid_t, gid_t>(12, 34) : std::pair(::getuid(), ::getgid());
  ASSERT_EQ(::chown(path.c_str(), owner, group), 0);
  NewFile(link).commit("text");
  EXPECT_EQ(mode_of(path), 0604u);
  EXPECT_EQ(bytes_of(path), "text");
  EXPECT_EQ(fs::read_symlink(link), "old");
  struct stat status {};
  ::stat(path.c_str(), &status);
  EXPECT_EQ(std::pair(status.st_uid, status.st_gid), std::pair(owner, group));
  EXPECT_EQ(folder_.count(), 2);
}

TEST_P(EveryFileSystem, WritesWhereALinkPointsThoughNothingIsThereYet) {
  fs::create_directory(folder_.file("folder"));
  fs::create_symlink("folder/second", folder_.file("first"));
  fs::create_symlink("../target", folder_.file("folder/second"));
  NewFile(folder_.file("first")).commit("text");
  EXPECT_EQ(bytes_of(folder_.file("target")), "text");
  EXPECT_TRUE(fs::is_symlink(folder_.file("first")));
  EXPECT_TRUE(fs::is_symlink(folder_.file("folder/second")));
  fs::create_symlink("no folder/target", folder_.file("astray"));
  EXPECT_EQ(refused(folder_.file("astray")), folder_.file("astray") + ": cannot be written: No such file or directory");
}

TEST_P(EveryFileSystem, TakesTheLongestNames) {
  std::string two_bytes_each;
  while (two_bytes_each.size() < 254) two_bytes_each += "µ";
  for (const std::string& name : {std::string(255, 'x'), "x" + two_bytes_each}) {
    const std::string path = folder_.file(name);
    NewFile(path).commit("first");
    NewFile(path).commit("second");
    EXPECT_EQ(bytes_of(path), "second");
    EXPECT_LE(fs::path(name_beside(path, ".tensors")).filename().string().size(), 255u);
  }
  EXPECT_EQ(folder_.count(), 2);
}

TEST_P(EveryFileSystem, RefusesToReplaceWhatAppearedMeanwhile) {
  NewFile file(folder_.file("new"));
  std::ofstream(folder_.file("new")) << "another's";
  EXPECT_NE(refusal([&] { file.commit("text", Existing::refuse); }), "nothing was refused");
  EXPECT_EQ(bytes_of(folder_.file("new")), "another's");
  EXPECT_EQ(folder_.count(), 1);
}

constexpr int kSignals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};

TEST_P(EveryFileSystem, ASignalBeforeCommitLeavesNothing) {
  const std::string path = folder_.file("old");
  std::ofstream(path) << "from before";
  for (const int signal : kSignals) {
    const int status = in_child([&] {
      NewFile file(path);
      write_all(file.descriptor(), "half a te", 0);
      ::raise(signal);
    });
    EXPECT_TRUE(ended_by(status, signal));
    EXPECT_EQ(folder_.count(), 1);
    EXPECT_EQ(bytes_of(path), "from before");
  }
}

/// The signal that the next rename() is to be interrupted by.
int signal_at_rename;

TEST_P(EveryFileSystem, ASignalDuringCommitWaitsUntilTheFileIsWhole) {
  const std::string path = folder_.file("old");
  system_calls.rename = [](const char* from, const char* to) {
    ::raise(signal_at_rename);
    return std::rename(from, to);
  };
  for (const int signal : kSignals) {
    std::ofstream(path) << "from before";
    signal_at_rename = signal;
    const int status = in_child([&] { NewFile(path).commit("text"); });
    EXPECT_TRUE(ended_by(status, signal));
    EXPECT_EQ(folder_.count(), 1);
    EXPECT_EQ(bytes_of(path), "text");
  }
}

TEST_P(EveryFileSystem, WhatIsIgnoredStaysIgnored) {
  std::ofstream(folder_.file("old")) << "from before";
  signal_at_rename = SIGHUP;
  system_calls.rename = [](const char* from, const char* to) {
    ::raise(signal_at_rename);
    return std::rename(from, to);
  };
  const int status = in_child([&] {
    ::signal(SIGHUP, SIG_IGN);
    NewFile(folder_.file("old")).commit("text");
    ::raise(SIGHUP);
  });
  EXPECT_TRUE(WIFEXITED(status));
}

TEST_P(EveryFileSystem, AFullDiskLeavesTheFileAsItWas) {
  const std::string path = folder_.file("old");
  std::ofstream(path) << "from before";
  full_after(3);
  EXPECT_EQ(refusal([&] { NewFile(path).commit("text"); }), path + ": cannot be written: No space left on device");
  EXPECT_EQ(bytes_of(path), "from before");
  EXPECT_EQ(folder_.count(), 1);
}

TEST_P(EveryFileSystem, AFolderThatDisappearsIsTold) {
  const std::string path = folder_.file("folder/new");
  fs::create_directory(folder_.file("folder"));
  NewFile file(path);
  fs::remove_all(folder_.file("folder"));
  EXPECT_EQ(refusal([&] { file.commit("text"); }), path + ": cannot be written: No such file or directory");
  EXPECT_EQ(folder_.count(), 0);
}

TEST_P(EveryFileSystem, AFolderWithoutRightsIsToldBeforeAnyWork) {
  fs::create_directory(folder_.file("folder"));
  std::ofstream(folder_.file("folder/old")) << "from before";
  ::chmod(folder_.file("folder").c_str(), 0555);
  const int status = in_child([&] {
    become_nobody();
    for (const std::string& path : {folder_.file("folder/new"), folder_.file("folder/old")}) {
      if (refused(path) != path + ": cannot be written: Permission denied") ::_exit(1);
    }
  });
  EXPECT_EQ(status, 0);
  ::chmod(folder_.file("folder").c_str(), 0755);
}

TEST_P(EveryFileSystem, AFileWithoutRightsIsNotReplaced) {
  const std::string path = folder_.file("old");
  std::ofstream(path) << "from before";
  ::chmod(path.c_str(), 0444);
  ::chmod(folder_.path().c_str(), 0777);
  const int status = in_child([&] {
    become_nobody();
    if (refused(path) != path + ": cannot be written: Permission denied") ::_exit(1);
  });
  EXPECT_EQ(status, 0);
}

/// What fsync() was called for.
std::vector<std::string> synced;
std::string renamed_path;
int fsync_error = 0;

int note_sync(int descriptor) {
  struct stat status {};
  ::fstat(descriptor, &status);
  std::error_code ignored;
  const bool has_new_text = fs::exists(renamed_path, ignored) && bytes_of(renamed_path) == "text";
  synced.push_back(std::string(S_ISDIR(status.st_mode) ? "folder" : "file") + (has_new_text ? " after" : " before"));
  if (fsync_error == 0) return 0;
  errno = fsync_error;
  return -1;
}

TEST(NewFile, IsOnTheDiskBeforeItHasItsNameAndItsFolderAfterwards) {
  const TemporaryFolder folder;
  const ReplacedCalls calls;
  renamed_path = folder.file("file");
  system_calls.fsync = note_sync;
  for (const char* before : {"nothing", "from before"}) {
    synced.clear();
    fs::remove(renamed_path);
    if (std::string(before) != "nothing") std::ofstream(renamed_path) << before;
    NewFile(renamed_path).commit("text");
    EXPECT_THAT(synced, ElementsAre("file before", "folder after"));
  }
}

TEST(NewFile, WhatCannotBeBroughtToTheDiskIsTold) {
  const TemporaryFolder folder;
  const ReplacedCalls calls;
  renamed_path = folder.file("file");
  system_calls.fsync = note_sync;
  std::ofstream(renamed_path) << "from before";
  fsync_error = EIO;
  EXPECT_EQ(refusal([&] { NewFile(renamed_path).commit("text"); }),
            renamed_path + ": cannot be written: Input/output error");
  EXPECT_EQ(bytes_of(renamed_path), "from before");
  EXPECT_EQ(folder.count(), 1);
  fsync_error = EINVAL;  // a file system without it
  NewFile(renamed_path).commit("text");
  EXPECT_EQ(bytes_of(renamed_path), "text");
  fsync_error = 0;
}

TEST(NewFile, TwoOfOneNameDoNotMeet) {
  const TemporaryFolder folder;
  {
    NewFile first(folder.file("new")), second(folder.file("new"));
    first.commit("first");
  }
  EXPECT_EQ(bytes_of(folder.file("new")), "first");
  EXPECT_EQ(folder.count(), 1);
}

TEST(NewFile, RefusesWhatCannotBeReplaced) {
  const TemporaryFolder folder;
  const std::string pipe = folder.file("pipe"), loop = folder.file("loop"), device = folder.file("device");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0666), 0);
  fs::create_symlink(loop, loop);
  fs::create_symlink("/dev/null", device);
  EXPECT_EQ(refused(pipe), pipe + ": is not a regular file; refusing to replace it");
  EXPECT_EQ(refused(device), device + ": is not a regular file; refusing to replace it");
  EXPECT_EQ(refused(loop), loop + ": cannot be written: Too many levels of symbolic links");
  EXPECT_EQ(refused(folder.path()), folder.path().string() + ": cannot be written: Is a directory");
  const std::string too_long = folder.file(std::string(300, 'x'));
  EXPECT_EQ(refused(too_long), too_long + ": cannot be written: File name too long");
  EXPECT_EQ(refused(""), "the name of the file to write is empty");
  EXPECT_EQ(folder.count(), 3) << "nothing is left behind";
}

TEST(NewFile, IsLockedFromItsFirstMomentAndAgainstOtherWriters) {
  const TemporaryFolder folder;
  const std::string path = folder.file("new"), sentence = path + ": another run is writing it";
  {
    const Descriptor lock = NewFile(path).commit("text");
    EXPECT_EQ(refusal([&] { lock_file(path); }), sentence);
    EXPECT_EQ(refused(path), sentence) << "nor does any other command replace it";
    EXPECT_EQ(refusal([&] { NewFile(path, &lock); }), "nothing was refused") << "but its writer may";
  }
  EXPECT_EQ(refused(path), "nothing was refused");
  lock_file(path);
}

std::string replaced_path;

TEST(NewFile, AFileThatIsReplacedWhileItIsLockedIsAnothers) {
  const TemporaryFolder folder;
  const ReplacedCalls calls;
  replaced_path = folder.file("file");
  std::ofstream(replaced_path) << "first";
  lock_file(replaced_path);
  // Another run replaces the file after it was opened and before it is locked.
  system_calls.open = [](const char* path, int flags, mode_t mode) {
    const int descriptor = ::open(path, flags, mode);
    std::ofstream(replaced_path + ".next") << "second";
    fs::rename(replaced_path + ".next", replaced_path);
    return descriptor;
  };
  EXPECT_EQ(refusal([&] { lock_file(replaced_path); }), replaced_path + ": another run is writing it");
}

}  // namespace
}  // namespace nalab::store
