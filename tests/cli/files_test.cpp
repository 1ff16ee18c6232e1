// What commands do to files: whatever happens to the process, whatever stands where they write, whoever else reads.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>
#include <thread>

#include "store/cases.h"
#include "store/hdf5.h"
#include "store/results.h"
#include "tests/cli/executable.h"
#include "tests/cli/run_nalab.h"
#include "tests/store/signals.h"

namespace nalab {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

/// A process of nalab, killed if it is still there in the end.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments, const std::string& err = "/dev/null") {
    child_ = ::fork();
    if (child_ != 0) return;
    let_signals_end_this_process();
    ::dup2(::open("/dev/null", O_WRONLY), STDOUT_FILENO);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666), STDERR_FILENO);
    std::string executable = nalab_executable();
    std::vector<char*> argv{executable.data()};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~Process() {
    if (!ended_) signal(SIGKILL);
  }

  /// Waits until condition(), for a minute at most.
  static void wait_until(const std::function<bool()>& condition) {
    for (int i = 0; i < 6000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ASSERT_TRUE(condition());
  }

  /// Whether it has a file without a name open in a folder.
  bool is_writing_in(const TemporaryFolder& folder) const {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(child_) + "/fd", ignored)) {
      if (fs::read_symlink(entry, ignored).string().starts_with(folder.file("#"))) return true;
    }
    return false;
  }

  /// Sends a signal. Returns what waitpid() says of the end.
  int signal(int number) {
    ::kill(child_, number);
    return wait();
  }
  int wait() {
    int status = 0;
    ::waitpid(child_, &status, 0);
    ended_ = true;
    return status;
  }

 private:
  pid_t child_ = -1;
  bool ended_ = false;
};

std::set<std::string> names_in(const TemporaryFolder& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder.path())) names.insert(entry.path().filename());
  return names;
}

/// A case that takes the reference a minute.
std::string write_slow_case(const TemporaryFolder& folder) {
  const std::string path = folder.file("in.h5");
  const store::hdf5::Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), path);
  store::hdf5::write_attribute(file, "schema", std::string(store::kCasesSchema));
  const store::hdf5::Handle group = store::hdf5::create_group(file, "c");
  for (const char* name : {"q", "k", "v"}) {
    store::hdf5::write_tensor(group, name, {1, 96, 96, 4, 32}, std::vector<float>(96 * 96 * 4 * 32, 0.5f));
  }
  store::hdf5::write_attribute(group, "window", int64_t{96});
  for (const char* name : {"stride", "dilation"}) store::hdf5::write_attribute(group, name, int64_t{1});
  store::hdf5::write_attribute(group, "causal", int64_t{0});
  return path;
}

TEST(Files, ASignalWhileAttendComputesLeavesNothing) {
  const TemporaryFolder folder;
  const std::string in = write_slow_case(folder), out = folder.file("out.h5");
  for (const bool exists : {false, true}) {
    std::set<std::string> before{"in.h5"};
    if (exists) {
      std::ofstream(out) << "from before";
      before.insert("out.h5");
    }
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGKILL}) {
      Process attend({"attend", in, out, "--variant", "reference", "--threads", "1"});
      Process::wait_until([&] { return attend.is_writing_in(folder); });
      const int status = attend.signal(signal);
      EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
      EXPECT_EQ(names_in(folder), before);
    }
  }
  EXPECT_EQ(bytes_of(out), "from before");
}

std::string write_config(const TemporaryFolder& folder, const std::string& layouts = "[9, 8]") {
  std::string path = folder.file("small.yaml");
  std::ofstream(path) << "name: small\nvariants: naive\n"
                         "timing: {warmups: 1, min_samples: 1, max_samples: 1, min_seconds: 0, max_seconds: 0.001}\n"
                         "grids: [{layout: "
                      << layouts << ", window: 3, head_dim: 4}]\n";
  return path;
}

std::vector<std::string> run_arguments(const std::string& config, const std::string& output) {
  return {"run", config, "-o", output, "--resume", "--isa", "baseline", "--threads", "1"};
}

/// A results file with the first of two rows.
std::string begin_results(const TemporaryFolder& folder) {
  std::string path = folder.file("r.h5");
  std::vector<std::string> arguments = run_arguments(write_config(folder), path);
  arguments.insert(arguments.end(), {"--filter", "^9_"});
  const Outcome run = run_nalab(folder, arguments);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  return path;
}

TEST(Files, DescriptorsThatAreClosedAreNotTakenByFiles) {
  const TemporaryFolder folder;
  const std::string results = begin_results(folder), config = folder.file("small.yaml");
  const auto file = [&](const char* name) { return folder.file(name); };
  const std::vector<std::vector<std::string>> commands{
      {"attend", kSmallCases, file("out.h5"), "--cases", "^1d"},
      {"verify", kSmallCases, "--cases", "^1d_one", "--variant", "naive"},
      {"merge", results, "-o", file("merged.h5")},
      {"report", results, "-o", file("report")},
      {"compare", results, results, "--csv", file("compared.csv")},
      {"sim", "--layout", "16", "--window", "4", "--q-tile", "4", "--kv-tile", "4"},
      {"list", "variants"},
      {"info", "--help"},
      run_arguments(config, file("resumed.h5")),
  };
  for (const char* streams : {"<&- >&- 2>&-", ">&- 2>/dev/null", ">/dev/null 2>&-"}) {
    fs::remove(file("merged.h5"));
    fs::remove(file("resumed.h5"));
    fs::copy_file(results, file("resumed.h5"));
    for (const auto& arguments : commands) {
      std::string command = "'" + nalab_executable() + "'";
      for (const std::string& argument : arguments) command += " '" + argument + "'";
      const int status = std::system((command + " " + streams).c_str());
      EXPECT_EQ(WEXITSTATUS(status), 0) << command << ' ' << streams;
    }
    EXPECT_EQ(store::read_schema(file("out.h5")), "nalab.outputs/1");
    EXPECT_EQ(store::read_results(file("merged.h5")).rows.size(), 1u);
    EXPECT_EQ(store::read_results(file("resumed.h5")).rows.size(), 2u);
    EXPECT_THAT(bytes_of(file("compared.csv")), StartsWith("row,"));
  }
}

TEST(Files, OutputsAreWrittenWhereLinksPoint) {
  const TemporaryFolder folder;
  fs::create_directory(folder.file("there"));
  const auto link = [&](const std::string& name) {
    fs::create_symlink("there/" + name, folder.file(name));
    return folder.file(name);
  };
  const std::string config = write_config(folder);
  const std::string results = link("r.h5");
  const std::vector<std::pair<std::string, std::vector<std::string>>> commands{
      {"r.h5", run_arguments(config, results)},
      {"out.h5", {"attend", kSmallCases, link("out.h5"), "--cases", "^1d_one"}},
      {"merged.h5", {"merge", results, "-o", link("merged.h5")}},
      {"c.csv", {"compare", results, results, "--csv", link("c.csv")}},
      {"index.html", {"report", results, "-o", folder.path()}},
  };
  link("index.html");
  for (const auto& [name, arguments] : commands) {
    const Outcome outcome = run_nalab(folder, arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_TRUE(fs::is_symlink(folder.file(name))) << name;
    EXPECT_TRUE(fs::is_regular_file(folder.file("there/" + name))) << name;
  }
}

TEST(Files, NamesMayBeAsLongAsTheFileSystemAllows) {
  const TemporaryFolder folder;
  const std::string config = write_config(folder);
  const std::string out = folder.file(std::string(252, 'o') + ".h5"),
                    results = folder.file(std::string(252, 'r') + ".h5");
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(run_nalab(folder, {"attend", kSmallCases, out, "--cases", "^1d_one"}).err, "");
    EXPECT_EQ(run_nalab(folder, run_arguments(config, results)).err, "");
  }
  EXPECT_EQ(store::read_results(results).rows.size(), 2u);
}

TEST(Files, AReaderDoesNotMatterToARun) {
  const TemporaryFolder folder;
  const std::string begun = begin_results(folder);
  for (const int kind : {LOCK_SH, LOCK_EX}) {
    const std::string results = folder.file("locked.h5");
    fs::remove(results);
    fs::copy_file(begun, results);
    const int reader = ::open(results.c_str(), O_RDWR);
    ASSERT_EQ(::flock(reader, kind), 0);  // as HDF5 locks files
    const Outcome resumed =
        run_nalab(folder, run_arguments(folder.file("small.yaml"), results), "HDF5_USE_FILE_LOCKING=TRUE");
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_EQ(store::read_results(results).rows.size(), 2u);
    ::close(reader);
  }
}

TEST(Files, AFileThatARunIsWritingIsRefusedAtOnce) {
  const TemporaryFolder folder;
  const std::string results = begin_results(folder), config = folder.file("small.yaml"), copy = folder.file("copy.h5");
  fs::copy_file(results, copy);
  const store::Results read = store::read_results(results);
  std::vector<std::string> finished;
  const auto other = store::resume_results(results, read.environment, read.configs, finished);
  const std::string line = "nalab: " + results + ": another run is writing it\n";
  const Outcome second = run_nalab(folder, run_arguments(config, results));
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_EQ(second.err, line);
  EXPECT_EQ(run_nalab(folder, {"attend", kSmallCases, results}).err, line);
  EXPECT_EQ(run_nalab(folder, {"compare", copy, copy, "--csv", results}).err, line);
  EXPECT_EQ(store::read_results(results).rows.size(), 1u);
}

/// Makes references to texts lead nowhere: the number in a heap, which follows the heap's address.
std::string with_damaged_texts(std::string bytes) {
  for (std::size_t heap = bytes.find("GCOL"); heap != std::string::npos; heap = bytes.find("GCOL", heap + 1)) {
    std::string address(8, '\0');
    std::memcpy(address.data(), &heap, address.size());
    for (std::size_t at = bytes.find(address); at != std::string::npos; at = bytes.find(address, at + 1)) {
      if (at + 12 <= bytes.size()) bytes[at + 10] = '\x7f';
    }
  }
  return bytes;
}

TEST(Files, DamagedTextsAreRefusedInOneLine) {
  const TemporaryFolder folder;
  const std::string results = begin_results(folder), damaged = folder.file("damaged.h5");
  std::ofstream(damaged, std::ios::binary) << with_damaged_texts(bytes_of(results));
  const std::vector<std::vector<std::string>> commands{{"compare", results, damaged},
                                                       {"merge", damaged, "-o", folder.file("merged.h5")},
                                                       {"report", damaged, "-o", folder.file("report")}};
  for (const auto& command : commands) {
    const Outcome outcome = run_nalab(folder, command);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.err, "nalab: " + damaged + ": is damaged: HDF5 cannot read its texts\n");
  }
  EXPECT_FALSE(fs::exists(folder.file("merged.h5")));
}

TEST(Files, ThatAreDamagedAreNamedByWhatATerminalShows) {
  const TemporaryFolder folder;
  const std::string damaged = folder.file("\x1b[1m\n.h5");
  std::ofstream(damaged, std::ios::binary) << with_damaged_texts(bytes_of(begin_results(folder)));
  const Outcome outcome = run_nalab(folder, {"merge", damaged, "-o", folder.file("merged.h5")});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "nalab: " + folder.file("\\x1b[1m .h5") + ": is damaged: HDF5 cannot read its texts\n");
}

TEST(Files, AreNotBlamedForAnotherFault) {
  const TemporaryFolder folder;
  const std::string in = write_slow_case(folder);
  Process attend({"attend", in, folder.file("out.h5"), "--variant", "reference", "--threads", "1"});
  Process::wait_until([&] { return attend.is_writing_in(folder); });
  const int status = attend.signal(SIGSEGV);
  // A sanitizer ends the process with a code of its own.
  EXPECT_TRUE(WIFSIGNALED(status) ? WTERMSIG(status) == SIGSEGV : WEXITSTATUS(status) != 2);
}

TEST(Files, AFolderThatDisappearsEndsTheRunInOneLine) {
  const TemporaryFolder folder;
  std::string layouts = "[7";
  for (int i = 8; i < 3000; ++i) layouts += ", " + std::to_string(i);
  const std::string config = write_config(folder, layouts + "]");
  const std::string results = folder.file("gone/r.h5"), err = folder.file("err");
  Process run(run_arguments(config, results), err);
  Process::wait_until([&] { return fs::exists(results); });
  Process::wait_until([&] {  // the run may write a file into the folder while it is removed
    std::error_code error;
    fs::remove_all(folder.file("gone"), error);
    return !fs::exists(folder.file("gone"));
  });
  const int status = run.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 2);
  EXPECT_THAT(bytes_of(err), testing::AnyOf("nalab: " + results + ": has been removed or replaced during the run\n",
                                            "nalab: " + results + ": cannot be written: No such file or directory\n"));
}

TEST(Files, AFolderWithoutRightsIsRefused) {
  const TemporaryFolder folder;
  const std::string config = write_config(folder);
  fs::create_directory(folder.file("locked"));
  ::chmod(folder.file("locked").c_str(), 0555);
  const std::string out = folder.file("locked/r.h5");
  const std::string nobody = ::geteuid() == 0 ? "setpriv --reuid 65534 --clear-groups" : "";
  for (const auto& arguments : {run_arguments(config, out), {"attend", kSmallCases, out}}) {
    const Outcome outcome = run_nalab(folder, arguments, nobody);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.err, "nalab: " + out + ": cannot be written: Permission denied\n");
  }
  ::chmod(folder.file("locked").c_str(), 0755);
}

}  // namespace
}  // namespace nalab
