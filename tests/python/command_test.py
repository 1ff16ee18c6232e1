"""python -m nalab."""

import subprocess
import sys

import pytest


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "nalab", *arguments], capture_output=True, text=True, timeout=60)


def test_info():
    result = run("info")
    assert result.returncode == 0 and "threads" in result.stdout and "\nfused" in result.stdout


def test_sim():
    result = run("sim", "--layout", "30x48x80", "--window", "18x24x24", "--stride", "16x8x8")
    assert result.returncode == 0
    assert ["perfectly", "block", "sparse", "True"] in [line.split() for line in result.stdout.splitlines()]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_profile(dtype):
    result = run("profile", "--layout", "9x8", "--window", "3", "--heads", "2", "--heads-kv", "1", "--extra-tokens", "2",
                 "--dtype", dtype, "--variant", "naive", "--backward", "--seconds", "0.01")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("forward: naive ") and "backward: naive " in result.stdout
    assert result.stdout.count("GFLOP/s") == 2


def test_a_bad_request_is_one_line():
    for arguments in (["sim", "--layout", "9", "--window", "10"], ["profile", "--layout", "9x9", "--window", "3x3x3"]):
        result = run(*arguments)
        assert result.returncode == 2 and result.stdout == ""
        assert result.stderr.startswith("nalab: ") and result.stderr.count("\n") == 1
