"""tools/mutants.sh [OPTIONS]: puts each mistake of tools/mutants.txt, alone, into a scratch copy, builds it and runs the
tests. Those nearest to the file are built and run first; the first that fails twice ends a run. Prints a verdict for
each mistake:

  caught          a test fails, hangs, or cannot be started; or a static_assert of a test fails
  survived        all tests pass
  does not build  counts neither way

The tree is built once, in build/mutants/, where another run builds only what has changed. Each mistake gets a copy of
it, which is mounted at the same path, so that nothing else is built again: hence Linux, as root or where users may have
namespaces of their own. Needs what the tests need (tools/install_dependencies.sh) and Python 3, but no network.

An entry of the list is three lines: "FILE: what is wrong", "- TEXT" and "+ TEXT that takes its place". The text is part
of one line of the file and stands there only once. Empty lines and lines that begin with # are ignored.
"""

import argparse
import filecmp
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRATCH = ROOT / "build" / "mutants"
BUILT = SCRATCH / "built"
VERDICTS = SCRATCH / "verdicts.txt"
NOT_COPIED = {ROOT / name for name in (".git", "build", "results", "report_out")}
BUILD_SECONDS = 3600
ALL_TESTS_SECONDS = 3600


@dataclass(frozen=True)
class Mutant:
    file: str
    about: str
    old: str
    new: str

    @property
    def name(self):
        return f"{self.file}: {self.about}"

    def apply(self, root):
        """The text of the file with the mistake. Throws ValueError unless the text to replace stands there once."""
        path = root / self.file
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: is there {text.count(self.old)} times, must be once: {self.old}")
        return text.replace(self.old, self.new)


def read_list(path):
    lines = [line.rstrip("\n") for line in open(path, encoding="utf-8")]
    lines = [line for line in lines if line and not line.startswith("#")]
    mutants = []
    for i in range(0, len(lines), 3):
        entry = lines[i : i + 3]
        head = re.fullmatch(r"(\S+): (.+)", entry[0])
        if len(entry) < 3 or not head or entry[1][:2] != "- " or entry[2][:1] != "+":
            sys.exit(f"{path}: must be 'FILE: what is wrong', '- TEXT', '+ TEXT': {entry}")
        mutants.append(Mutant(head[1], head[2], entry[1][2:], entry[2][2:]))
    names = [m.name for m in mutants]
    if repeated := {n for n in names if names.count(n) > 1}:
        sys.exit(f"{path}: more than once: {', '.join(sorted(repeated))}")
    return mutants


def require_that_all_apply(mutants):
    errors = []
    for mutant in mutants:
        try:
            mutant.apply(ROOT)
        except ValueError as error:
            errors.append(str(error))
    if errors:
        sys.exit("\n".join(errors))


@dataclass(frozen=True)
class Test:
    """A test's source: the folders that it mirrors, and its suites."""

    path: pathlib.Path  # from tests/
    suites: frozenset

    @staticmethod
    def all():
        for path in sorted((ROOT / "tests").rglob("*_test.cpp")):
            suites = re.findall(r"^(?:TYPED_)?TEST(?:_[FP])?\((\w+),", path.read_text(encoding="utf-8"), re.M)
            yield Test(path.relative_to(ROOT / "tests"), frozenset(suites))


def suites_by_distance(file, tests):
    """Sets of test suites, nearest first: those of the tests that share most of the file's path. A test whose name
    has the file's name in it counts as sharing that too."""
    path = pathlib.PurePath(file)
    stem = path.name.split(".")[0].removesuffix("-inl")
    groups = {}
    for test in tests:
        shared = len(os.path.commonprefix([path.parent.parts, test.path.parent.parts]))
        if shared > 0:
            groups.setdefault((shared, stem in test.path.name), set()).update(test.suites)
    return [groups[key] for key in sorted(groups, reverse=True)]


def named(suites):
    """A pattern for the names that ctest gives to the tests of some suites."""
    return rf"(^|/)({'|'.join(sorted(suites))})(/\w+)?\."


class Tree:
    """The tree with a build of its own, in `folder`; its commands see it at BUILT."""

    def __init__(self, folder, cores, options):
        self.folder = folder
        self.build = BUILT / "build" / "tests"
        self.cores = str(cores)
        self.options = options

    def run(self, command, seconds):
        """Exit code and output; the code is None if it took too long."""
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        mount = 'mount --bind "$0" "$1" && cd "$1" && shift && exec "$@"'
        command = ["unshare", "--mount", *user, "sh", "-c", mount, self.folder, BUILT, *command]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   errors="replace", start_new_session=True)
        try:
            output, _ = process.communicate(timeout=seconds)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]

    def refresh(self):
        """Makes the sources those of the tree; files that are the same keep their time."""
        for folder, folders, files in os.walk(ROOT):
            folder = pathlib.Path(folder)
            folders[:] = [f for f in folders if folder / f not in NOT_COPIED]
            files = [f for f in files if folder / f not in NOT_COPIED]
            target = self.folder / folder.relative_to(ROOT)
            target.mkdir(parents=True, exist_ok=True)
            for gone in {p.name for p in target.iterdir()} - {*folders, *files}:
                if folder / gone in NOT_COPIED:
                    continue
                shutil.rmtree(target / gone) if (target / gone).is_dir() else (target / gone).unlink()
            for file in files:
                source = folder / file
                if not (target / file).exists() or not filecmp.cmp(source, target / file, shallow=False):
                    shutil.copyfile(source, target / file)
                    shutil.copymode(source, target / file)

    def configure(self):
        code, output = self.run(["cmake", "-G", "Ninja", "-S", ".", "-B", self.build, "-DNALAB_BUILD_BENCH=OFF",
                                 "-DCMAKE_BUILD_TYPE=None", f"-DNALAB_TEST_SECONDS={self.options.timeout}",
                                 *self.options.cmake], BUILD_SECONDS)
        if code != 0:
            sys.exit(f"cannot be configured:\n{output}")

    def programs(self):
        """The program that each test belongs to, by its path."""
        _, output = self.run(["ninja", "-C", self.build, "-t", "targets", "all"], BUILD_SECONDS)
        objects = re.findall(r"^tests/(\w+)/CMakeFiles/(\w+)\.dir/(\S+_test\.cpp)\.o:", output, re.M)
        return {pathlib.Path(folder, source): program for folder, program, source in objects}

    def make(self, targets=("all",)):
        """Whether it builds, and the output."""
        code, output = self.run(["ninja", "-C", self.build, "-j", self.cores, *targets], BUILD_SECONDS)
        return code == 0, output

    def failure(self, suites=frozenset(), besides=frozenset()):
        """The first failure among the tests of some suites, or of all but some; empty if all pass, each at the second
        try if not at the first."""
        choice = ["-R", named(suites)] if suites else []
        left_out = [pattern for pattern in (self.options.without, named(besides) if besides else "") if pattern]
        if left_out:
            choice += ["-E", "|".join(left_out)]
        code, output = self.run(["ctest", "--test-dir", self.build, "-j", self.cores, "--stop-on-failure",
                                 "--schedule-random", "--repeat", "until-pass:2", *choice], ALL_TESTS_SECONDS)
        failures = re.findall(r"^\s*\d+ - (\S+) \((?!Skipped|Disabled)(.+)\)", output, re.M)
        if failures:
            return " ".join(failures[0])
        return "" if code == 0 else "ctest: " + (output.strip().splitlines() or ["no output"])[-1]

    def judge(self, mutant, tests, programs):
        (self.folder / mutant.file).write_text(mutant.apply(ROOT), encoding="utf-8")
        passed = set()
        for suites in suites_by_distance(mutant.file, tests):
            suites = suites - passed
            needed = {programs[test.path] for test in tests if test.suites & suites and test.path in programs}
            if not needed:
                continue
            if verdict := self.verdict(needed, suites):
                return verdict
            passed |= suites
        return self.verdict(["all"], besides=passed) or ("survived", "")

    def verdict(self, targets, suites=frozenset(), besides=frozenset()):
        """A verdict, unless the targets are built and all chosen tests pass."""
        builds, output = self.make(sorted(targets))
        if not builds:
            if at := re.search(r"(tests/\S+):\d+: error: (static assertion failed|non-constant condition)", output):
                return "caught", f"a static_assert in {at[1]}"
            # The build starts each test program for the names of its tests.
            starts = "Error running test executable" not in output
            return ("does not build", "") if starts else ("caught", "a test program does not start")
        failure = self.failure(suites, besides)
        return ("caught", failure) if failure else None


class Verdicts:
    """What is known so far; kept in a file, a line for each mistake."""

    def __init__(self, mutants, options):
        self.lock = threading.Lock()
        self.known = {}
        SCRATCH.mkdir(parents=True, exist_ok=True)
        if options.go_on and VERDICTS.exists():
            lines = [line.rstrip("\n").split("\t") for line in open(VERDICTS, encoding="utf-8")]
            names = {m.name for m in mutants}
            self.known = {name: verdict for name, verdict, _ in lines if name in names}
        self.total = len(mutants)
        self.file = open(VERDICTS, "a" if options.go_on else "w", encoding="utf-8")

    def add(self, mutant, verdict, by, seconds):
        with self.lock:
            self.known[mutant.name] = verdict
            print(f"{mutant.name}\t{verdict}\t{by}", file=self.file, flush=True)
            by = f" by {by}" if by else ""
            print(f"[{len(self.known)}/{self.total}] {verdict}: {mutant.name}{by}, {seconds:.0f} s", flush=True)

    def summary(self):
        count = {v: list(self.known.values()).count(v) for v in ("caught", "survived", "does not build")}
        lines = [f"{v}: {name}" for name, v in sorted(self.known.items()) if v != "caught"]
        judged = count["caught"] + count["survived"]
        lines.append(", ".join(f"{n} {v}" for v, n in count.items()))
        lines.append(f"score: {100 * count['caught'] / max(judged, 1):.1f} % of {judged}")
        return "\n".join(lines)


def build(options):
    """The tree without a mistake, built; its tests pass."""
    tree = Tree(BUILT, options.cores, options)
    tree.refresh()
    tree.configure()
    builds, output = tree.make()
    if not builds:
        sys.exit(f"does not build without a mistake:\n{output}")
    if not options.go_on and (failure := tree.failure()):
        sys.exit(f"without a mistake, a test fails: {failure}")
    return tree


def work(number, options, waiting, judge, verdicts, errors):
    """Judges mistake after mistake, as long as there are any, each in a copy that nothing was done to before."""
    tree = Tree(SCRATCH / f"copy-{number}", max(1, options.cores // options.jobs), options)
    try:
        while True:
            mutant = waiting.get_nowait()
            start = time.monotonic()
            shutil.rmtree(tree.folder, ignore_errors=True)
            subprocess.run(["cp", "-a", BUILT, tree.folder], check=True)
            verdicts.add(mutant, *judge(tree, mutant), time.monotonic() - start)
    except queue.Empty:
        shutil.rmtree(tree.folder, ignore_errors=True)
    except Exception as error:
        errors.append(f"copy {number}: {error}")


def main():
    parser = argparse.ArgumentParser(prog="tools/mutants.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", default=ROOT / "tools" / "mutants.txt", help="the list (default: tools/mutants.txt)")
    parser.add_argument("--check", action="store_true", help="only check that every mistake can be put in its place")
    parser.add_argument("--only", metavar="PATTERN", default="", help="mistakes whose file or text matches")
    parser.add_argument("--jobs", type=int, default=1, help="mistakes judged side by side (default: 1)")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="cores that they share (default: all)")
    parser.add_argument("--timeout", type=int, default=200, help="seconds that a test may take (default: 200)")
    parser.add_argument("--without", metavar="PATTERN", default="",
                        help="leave out the tests whose names match: those that fail on this machine in any case")
    parser.add_argument("--continue", dest="go_on", action="store_true",
                        help="keep the verdicts of an earlier run, and do not test the tree without mistakes first")
    parser.add_argument("cmake", nargs="*", help="options for CMake (default: -DCMAKE_CXX_FLAGS=-O1)")
    options = parser.parse_args()
    options.cmake = options.cmake or ["-DCMAKE_CXX_FLAGS=-O1"]

    everything = read_list(options.list)
    require_that_all_apply(everything)
    chosen = [m for m in everything if re.search(options.only, m.name)]
    print(f"{len(chosen)} of {len(everything)} mistakes, all in their places", flush=True)
    if options.check:
        return 0

    BUILT.mkdir(parents=True, exist_ok=True)
    verdicts = Verdicts(chosen, options)
    built = build(options)
    tests, programs = list(Test.all()), built.programs()
    waiting = queue.SimpleQueue()
    # Kernels take longest to build.
    slow = ("core/kernels/", "core/simd/")
    for mutant in sorted(chosen, key=lambda m: (not m.file.startswith(slow), not m.file.startswith("core/"))):
        if mutant.name not in verdicts.known:
            waiting.put(mutant)
    errors = []
    workers = [threading.Thread(target=work, args=(n, options, waiting, lambda tree, m: tree.judge(m, tests, programs),
                                                   verdicts, errors)) for n in range(options.jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(verdicts.summary())
    if errors:
        sys.exit("\n".join(errors))
    return 0


if __name__ == "__main__":
    sys.exit(main())
