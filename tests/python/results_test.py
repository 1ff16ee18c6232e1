"""Results files as tables."""

import pathlib

import nalab
import pytest

pytest.importorskip("h5py")
DATA = pathlib.Path(__file__).parents[2] / "data"


def test_rows_and_samples():
    table = nalab.read_results(DATA / "golden" / "small_case.h5")
    count = len(table["id"])
    assert count > 0 and {"variant", "window", "useful_flops", "samples", "median_seconds"} <= set(table)
    for i in range(count):
        samples, median = table["samples"][i], table["median_seconds"][i]
        assert len(samples) == table["sample_count"][i]
        assert (median != median) if len(samples) == 0 else min(samples) <= median <= max(samples)
    assert isinstance(table["variant"][0], str)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        nalab.read_results(tmp_path / "none.h5")
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    with pytest.raises(ValueError, match="is no HDF5 file"):
        nalab.read_results(text)
    with pytest.raises(ValueError, match="schema 'nalab.cases/1' must be nalab.results/1"):
        nalab.read_results(DATA / "cases" / "cases.h5")
