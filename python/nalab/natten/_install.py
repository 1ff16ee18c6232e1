"""A package `natten` for the import system, made of a generation's contents."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import pathlib
import re
import sys
from typing import Optional

from .._core import Error

# Generations by the first version that has them.
_GENERATIONS = {(0, 14): "v014", (0, 15): "v015", (0, 17): "v017", (0, 20): "v020"}


class _Distribution(importlib.metadata.Distribution):
    """What importlib.metadata.version("natten") asks."""

    def __init__(self, version):
        self._version = version

    def read_text(self, filename):
        return f"Metadata-Version: 2.1\nName: natten\nVersion: {self._version}\n" if filename == "METADATA" else None

    def locate_file(self, path):
        return pathlib.Path(__file__).parent / path


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """contents: names by the names of the modules that have them, such as {"natten": {...}, "natten.functional": {...}}."""

    def __init__(self, version, contents):
        self.version = version
        self._contents = contents

    def find_spec(self, name, path=None, target=None):
        if name not in self._contents:
            return None
        package = any(other.startswith(name + ".") for other in self._contents)
        return importlib.machinery.ModuleSpec(name, self, is_package=package, origin="nalab.natten")

    def exec_module(self, module):
        for name in self._contents:  # natten's own __init__ imports all that it has
            if name.rpartition(".")[0] == module.__name__:
                importlib.import_module(name)
        module.__dict__.update(self._contents[module.__name__])

    def find_distributions(self, context=importlib.metadata.DistributionFinder.Context()):
        return iter([_Distribution(self.version)] if context.name in (None, "natten") else [])


_installed: Optional[_Finder] = None


def _contents(version):
    """Names by module of a version such as "0.17.5" or "0.14.4+torch1121cu116"."""
    match = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)?.*", version) if isinstance(version, str) else None
    number = tuple(int(part) for part in match.groups()[:2]) if match else (0, 0)
    patch = int(match.group(3)[1:]) if match and match.group(3) else None
    if number < min(_GENERATIONS):
        raise Error(f"natten version {version!r} must be 0.14 or later, such as '0.14.6', '0.15.1', '0.17.5', '0.21.0'")
    generation = importlib.import_module("." + _GENERATIONS[max(g for g in _GENERATIONS if g <= number)], __package__)
    return generation.contents(version, patch)


def install(version: str = "0.17.5") -> None:
    """Makes `import natten` find nalab's stand-in for a version of natten, in this process.

    Programs that ask which version is installed are told this one. Raises Error if another natten has been imported, or
    another version was installed before; see uninstall().
    """
    global _installed
    if _installed is not None:
        if _installed.version == version:
            return
        raise Error(f"natten {_installed.version} is installed already: call nalab.natten.uninstall() first")
    if "natten" in sys.modules:
        raise Error("another natten has been imported: call nalab.natten.install() before")
    names = _contents(version)
    _installed = _Finder(version, {".".join(filter(None, ("natten", name))): names[name] for name in names})
    sys.meta_path.insert(0, _installed)


def uninstall() -> None:
    """Takes back install(); does nothing without it. What programs have imported already stays as it is."""
    global _installed
    if _installed is None:
        return
    sys.meta_path.remove(_installed)
    for name in [name for name in sys.modules if name.partition(".")[0] == "natten"]:
        del sys.modules[name]
    _installed = None
