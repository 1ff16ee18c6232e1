"""Results files of `nalab run` (HDF5, schema nalab.results/1) as tables."""

from __future__ import annotations

import os
from typing import Any, Union

from ._core import Error

_SCHEMA = "nalab.results/1"


def read_results(path: Union[str, "os.PathLike[str]"]) -> Any:
    """The rows of a results file: a pandas DataFrame, or a dict of NumPy arrays by column where pandas is missing.

    Columns are the fields that data/README.md lists, times in seconds, and two more: `samples`, the raw times of each
    row, and `median_seconds`, NaN where there are none. Of a DataFrame, `attrs["environment"]` says where and with what
    the run was made. Needs h5py.
    """
    import h5py
    import numpy

    with _open(h5py, path) as file:
        schema = file.attrs.get("schema", b"")
        schema = schema.decode() if isinstance(schema, bytes) else schema
        if schema != _SCHEMA:
            raise Error(f"{os.fspath(path)}: schema '{schema}' must be {_SCHEMA}, as nalab run writes it")
        rows, times = file["rows"][()], file["samples"][()]
        environment = {name: _plain(value) for name, value in file["environment"].attrs.items()}
    columns = {name: _texts(numpy, rows[name]) for name in rows.dtype.names}
    samples = numpy.empty(len(rows), dtype=object)
    for i, (first, count) in enumerate(zip(rows["first_sample"], rows["sample_count"])):
        samples[i] = times[first : first + count]
    columns["samples"] = samples
    columns["median_seconds"] = numpy.array([numpy.median(own) if len(own) else numpy.nan for own in samples])
    try:
        import pandas
    except ImportError:
        return columns
    table = pandas.DataFrame(columns)
    table.attrs["environment"] = environment
    return table


def _open(h5py, path):
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if not os.path.exists(path):
            raise FileNotFoundError(f"{os.fspath(path)}: does not exist") from error
        raise Error(f"{os.fspath(path)}: is no HDF5 file") from error


def _plain(value):
    return value.decode() if isinstance(value, bytes) else value.item() if hasattr(value, "item") else value


def _texts(numpy, column):
    if column.dtype.kind != "O":
        return column
    return numpy.array([text.decode() if isinstance(text, bytes) else text for text in column], dtype=object)
