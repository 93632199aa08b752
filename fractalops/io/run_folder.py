"""The folder of a run: its manifest, its other files by pattern, its lock. Files of anybody else are left alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Any

from fractalops.errors import InputError
from fractalops.io.files import LOCK, check_writable, claimed, locked_folder, read_json, write_json

Manifest = dict[str, Any]

OTHER_FOLDER = "take another folder, or overwrite=True to start anew"
RANK_FILE = ".fractalops-rank-{rank}-{name}"
"""What ranks say to each other, see `Ranks.meet`; `name` has 16 hexadecimal digits."""

_OURS = "fractalops."  # with which the formats of all manifests begin
_RANK_FILES = RANK_FILE.format(rank="[0-9]*", name=16 * "[0-9a-f]")
_RANDOM = 8 * "?"  # what `atomic_path` puts into the name of a file that is being written
_TENSORS = ".tmp" + 6 * "[0-9A-Za-z]"  # what safetensors calls a file before it has a name


class RunFolder:
    """A folder into which one run writes. Each of its files is whole or not there at all.

    Args:
        path: need not exist yet.
        results: glob patterns, relative to `path`, of what the run writes; overwriting removes these files, in this
            order. What tells that a run is finished comes first.
        manifest: the name of the JSON file that says what the run is, by which a later call goes on with it. None for
            a run that is done in one go: its folder must be empty, or is overwritten.
        others: patterns of what the run writes as well, and overwriting leaves.
        locks: patterns of the lock files that processes hold while they work on a part of the run.
    """

    def __init__(
        self,
        path: str | Path,
        results: Sequence[str],
        *,
        manifest: str | None = None,
        others: Sequence[str] = (),
        locks: Sequence[str] = (),
    ) -> None:
        self.path = Path(path)
        self._patterns, self._others, self._locks = tuple(results), tuple(others), tuple(locks)
        self._manifest = None if manifest is None else self.path / manifest

    def lock(self) -> AbstractContextManager[None]:
        """Make the folder and keep other runs out of it, see `locked_folder`."""
        return locked_folder(self.path)

    def check(self, manifest: Manifest | None = None, *, overwrite: bool = False) -> None:
        """Raise `InputError` unless the folder can take this run, or go on with it.

        Only the entries of `manifest` are compared. A folder with files of others alone is never overwritten.
        """
        check_writable(self.path)
        if not self.path.exists():
            return
        names = os.listdir(self.path)
        foreign = set(names) - set(self._unnamed(names))
        # Another process may be making the folder: its manifest comes first, so that it is there if anything else is.
        if foreign and self._manifest is not None and self._manifest.exists():
            self._check_ours()
            if overwrite:
                return
            form = (manifest or {}).get("format")
            if different := differences(self.read_manifest(form), manifest or {}):
                raise InputError(f"cannot go on in {self.path}: {different}; {OTHER_FOLDER}")
            return
        ours = self._manifest is None and self.results()
        if foreign and not (ours and overwrite):
            advice = OTHER_FOLDER if ours else "take another folder"
            raise InputError(f"cannot write to {self.path}: there are files already; {advice}")

    def _check_ours(self) -> None:
        """Raise `InputError` for a manifest that is a file of somebody else; one that is damaged may be ours."""
        path = self._manifest_path()
        try:
            form = str(read_json(path).get("format"))
        except InputError:
            return
        if not form.startswith(_OURS):
            raise InputError(f"cannot write to {self.path}: its {path.name} is of something else; take another folder")

    def read_manifest(self, form: str | None) -> Manifest:
        """Return what the manifest says. Raises `InputError` unless it is there and of this format."""
        path = self._manifest_path()
        try:
            content = read_json(path)
        except InputError as error:
            raise InputError(f"{error}; {OTHER_FOLDER}") from error
        if (actual := content.get("format")) != form:
            raise InputError(f"cannot read {path}: its format must be {form}, got {actual}; {OTHER_FOLDER}")
        return content

    def begin(self, manifest: Manifest | None = None, *, overwrite: bool = False) -> None:
        """Make the folder ready for this run, or for going on with it: remove what writes that were cut short left.

        Raises `InputError` as `check` does.
        """
        self.check(manifest, overwrite=overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        for lock in self._found(self._locks):
            with claimed(lock) as ours:  # which removes it
                if not ours:
                    raise InputError(f"cannot write to {self.path}: another run is writing to it")
        for path in self._found([_RANK_FILES, f"{_RANK_FILES}.new"]):
            path.unlink(missing_ok=True)
        self.remove_leftovers()
        for path in self.results() if overwrite else []:
            path.unlink()
        # The manifest comes first, and never goes: wherever this is cut short, the folder is one that a run can take.
        if self._manifest is not None and (overwrite or not self._manifest.exists()):
            write_json(self._manifest, manifest or {})

    def remove_leftovers(self) -> None:
        """Remove what writes that were cut short have left. Nobody may be writing."""
        patterns = [PurePath(pattern) for pattern in (*self._patterns, *self._others)]
        hidden = [_hidden(pattern) for pattern in patterns]
        hidden += [pattern.with_name(_TENSORS) for pattern in patterns if pattern.suffix == ".safetensors"]
        manifest = [] if self._manifest is None else [_hidden(PurePath(self._manifest.name))]
        # A folder without a manifest is not a run's yet.
        begun = self._manifest is None or self._manifest.exists()
        for path in self._found(map(str, dict.fromkeys([*manifest, *(hidden if begun else [])]))):
            path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Remove a folder again in which there is nothing but the manifest, so that another run can take it."""
        path = self._manifest_path()
        if {file.name for file in self.path.iterdir()} <= {path.name, LOCK}:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # Windows removes no file that is open
                (self.path / LOCK).unlink(missing_ok=True)
                self.path.rmdir()

    def results(self) -> list[Path]:
        """Return the files that the run has written, but for its manifest."""
        return self._found(self._patterns)

    def _found(self, patterns: Iterable[str]) -> list[Path]:
        """Return the files of these patterns, in their order."""
        found = (path for pattern in patterns for path in self.path.glob(pattern))
        return [path for path in dict.fromkeys(found) if path.is_file()]

    def _manifest_path(self) -> Path:
        assert self._manifest is not None
        return self._manifest

    def _unnamed(self, names: Sequence[str]) -> list[str]:
        """Return what counts as no file: the lock, what ranks say to each other, and a manifest that was cut short."""
        patterns = [LOCK, _RANK_FILES, f"{_RANK_FILES}.new"]
        if self._manifest is not None:
            patterns.append(str(_hidden(PurePath(self._manifest.name))))
        return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def _hidden(pattern: PurePath) -> PurePath:
    """Return the pattern of the files that `atomic_path` has left of files of a pattern."""
    return pattern.with_name(f".{pattern.stem}.{_RANDOM}{pattern.suffix}")


def as_read(manifest: Manifest) -> Manifest:
    """Return a manifest as it will be read again: tuples as lists."""
    return dict(json.loads(json.dumps(manifest)))


def run_key(manifest: Manifest) -> str:
    """Return what the files of a run know it by: a digest of its manifest. Another version of Python changes no bit."""
    versions = {name: version for name, version in manifest["versions"].items() if name != "python"}
    return hashlib.sha256(json.dumps(manifest | {"versions": versions}, sort_keys=True).encode()).hexdigest()


def differences(actual: Manifest, expected: Manifest) -> str:
    """Return in which of the entries of `expected` a run differs, for an error; "" where it is the same run."""
    kept = {name: actual.get(name) for name in expected}
    return "; ".join(
        f"{name} was {json.dumps(old)}, is {json.dumps(new)}"
        for name, old, new in _differences(kept, expected)
        if name != "versions.python"
    )


def _differences(old: Manifest, new: Manifest, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield where two manifests differ: the name, dotted, and both values."""
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{prefix}{name}.")
        elif one != other:
            yield f"{prefix}{name}", one, other
