"""The example runs, and attention does what it says there."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_attend_image():
    command = [sys.executable, str(ROOT / "examples/python/attend_image.py"), "--size", "20", "--window", "5"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    noisy, denoised = map(float, re.search(r"noisy image ([\d.]+), after attention ([\d.]+)", result.stdout).groups())
    assert denoised < 0.7 * noisy


def test_the_readme_works_when_pasted(tmp_path):
    section = (ROOT / "README.md").read_text().partition("## Python")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert blocks
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr


def test_the_documentation_works_when_pasted(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
