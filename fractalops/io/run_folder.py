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
from fractalops.io.files import (
    HELD,
    LOCK,
    TEMPORARY,
    another_run,
    atomic_path,
    check_writable,
    claimed,
    locked_folder,
    read_json,
    write_json,
)

Manifest = dict[str, Any]

_TAKE_ANOTHER = "take another folder"
OTHER_FOLDER = "take another folder, or overwrite=True to start anew"
RANK_FILE = ".fractalops-rank-{rank}-{name}"
"""The file by which ranks find each other, see `Ranks.meet`; `name` has 16 hexadecimal digits."""

_RANK_FILES = RANK_FILE.format(rank="[0-9]*", name=16 * "[0-9a-f]")


class RunFolder:
    """A folder into which one run writes. Each of its files is whole or not there at all.

    Ours is what its manifest proves to be: without one, or with one that can't be read, nothing is ever removed.

    Args:
        path: need not exist yet.
        results: glob patterns, relative to `path`, of what the run writes; overwriting removes these files, in this
            order. What tells that a run is finished comes first.
        listed: patterns of what it writes, too; overwriting then removes those that the manifest names under "files",
            or whose folder it names there.
        manifest: the name of the JSON file that says what the run is, "format" first of all.
        others: patterns of what the run writes as well, and overwriting leaves.
        locks: patterns of the lock files that processes hold while they work on a part of the run.
        resumes: whether a later call goes on with the run; one that is done in one go is overwritten or left alone.
    """

    def __init__(
        self,
        path: str | Path,
        results: Sequence[str],
        *,
        manifest: str,
        listed: Sequence[str] = (),
        others: Sequence[str] = (),
        locks: Sequence[str] = (),
        resumes: bool = True,
    ) -> None:
        self.path = Path(path)
        self._patterns, self._listed, self._others, self._locks = map(tuple, (results, listed, others, locks))
        self._manifest, self._resumes = self.path / manifest, resumes

    def lock(self) -> AbstractContextManager[None]:
        """Make the folder and keep other runs out of it, see `locked_folder`."""
        return locked_folder(self.path)

    def check(self, manifest: Manifest, *, overwrite: bool = False) -> None:
        """Raise `InputError` unless the folder can take this run, or go on with it.

        Only the entries of `manifest` are compared. A folder with files of others alone is never overwritten.
        """
        check_writable(self.path)
        if not self.path.exists():
            return
        names = os.listdir(self.path)
        # Another process may be making the folder: its manifest comes first, so that it is there if anything else is.
        if not set(names) - set(self._unnamed(names)):
            return
        if not self._manifest.exists():
            raise InputError(f"cannot write to {self.path}: there are files already; {_TAKE_ANOTHER}")
        self._check_ours(manifest["format"])
        if not self._resumes:
            results = self.results()
            # One that was cut short before there was any, or its files told more of it, is begun anew.
            told = read_json(self._manifest).keys() - {"files", *manifest}
            if (results or told) and not overwrite:
                raise InputError(f"cannot write to {self.path}: there are files already; {OTHER_FOLDER}")
            if foreign := set(self._found(self._listed)) - set(results):
                raise self._foreign(min(foreign))
        elif not overwrite and (different := differences(self.read_manifest(manifest["format"]), manifest)):
            raise InputError(f"cannot go on in {self.path}: {different}; {OTHER_FOLDER}")

    def _check_ours(self, form: str) -> None:
        """Raise `InputError` unless the manifest is of this format, in any version."""
        try:
            found = str(read_json(self._manifest).get("format"))
        except InputError as error:
            raise InputError(f"{error}; {_TAKE_ANOTHER}") from error
        if found.rpartition(".")[0] != form.rpartition(".")[0]:
            name = self._manifest.name
            raise InputError(f"cannot write to {self.path}: its {name} is of something else; {_TAKE_ANOTHER}")

    def read_manifest(self, form: str) -> Manifest:
        """Return what the manifest says. Raises `InputError` unless it is there and of this format."""
        content = read_json(self._manifest)
        if (actual := content.get("format")) != form:
            raise InputError(f"cannot read {self._manifest}: its format must be {form}, got {actual}; {OTHER_FOLDER}")
        return content

    def begin(self, manifest: Manifest, *, overwrite: bool = False) -> None:
        """Make the folder ready for this run, or for going on with it: remove what writes that were cut short left.

        Raises `InputError` as `check` does.
        """
        self.check(manifest, overwrite=overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        for lock in self._found(self._locks):
            with claimed(lock) as ours:  # which removes it
                if not ours:
                    raise another_run(self.path, lock)
        for path in self._found([_RANK_FILES, f"{_RANK_FILES}.new"]):
            path.unlink(missing_ok=True)
        self.remove_leftovers()
        if overwrite or not self._manifest.exists():
            self.renew(manifest)

    def renew(self, manifest: Manifest) -> None:
        """Remove the results of an earlier run, and write the manifest.

        It comes before any result, and never goes: wherever this is cut short, the folder is one that a run can take.
        """
        with atomic_path(self._manifest, durable=True) as temporary:
            write_json(temporary, manifest)  # first: on a full disk nothing is removed
            for path in self.results():
                path.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove what writes that were cut short have left. Nobody may be writing."""
        for path in self._found(self._temporary()):
            path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Remove a folder again in which there is nothing but the manifest, so that another run can take it."""
        if {file.name for file in self.path.iterdir()} <= {self._manifest.name, LOCK, f"{LOCK}{HELD}"}:
            self._manifest.unlink(missing_ok=True)
            with suppress(OSError):  # Windows removes no file that is open
                (self.path / LOCK).unlink(missing_ok=True)
                self.path.rmdir()

    def results(self) -> list[Path]:
        """Return the files that the run has written, but for its manifest; none where there is no manifest."""
        return self._found(self._patterns) + self.named(self._listed) if self._manifest.exists() else []

    def named(self, patterns: Iterable[str]) -> list[Path]:
        """Return the files of these patterns that the manifest names, or whose folder it names."""
        named = self._named(read_json(self._manifest)) if self._manifest.exists() else set()
        return [path for path in self._found(patterns) if named & {self.relative(path), self.relative(path.parent)}]

    def add_files(self, paths: Iterable[Path]) -> None:
        """Name files, or folders of them, in the manifest; those to be written are named before."""
        content = read_json(self._manifest)
        write_json(self._manifest, content | {"files": sorted(self._named(content).union(map(self.relative, paths)))})

    def claim_files(self, paths: Iterable[Path]) -> None:
        """Name files, or folders of them, that are to be written.

        Raises `InputError` where one of the patterns is there already that isn't named: it is somebody's.
        """
        named = self._named(read_json(self._manifest))
        new = {path for path in paths if self.relative(path) not in named}
        if not new:
            return
        if foreign := [path for path in self._found(self._listed) if new & {path, path.parent}]:
            raise self._foreign(min(foreign))
        self.add_files(new)

    def _foreign(self, path: Path) -> InputError:
        return InputError(f"cannot write to {self.path}: its {self.relative(path)} is not of a run; {_TAKE_ANOTHER}")

    def relative(self, path: Path) -> str:
        """Return the name of a file within the folder, as manifests and tables have it."""
        return path.relative_to(self.path).as_posix()

    @staticmethod
    def _named(manifest: Manifest) -> set[str]:
        files = manifest.get("files")
        return {name for name in files if isinstance(name, str)} if isinstance(files, list) else set()

    def _found(self, patterns: Iterable[str]) -> list[Path]:
        """Return the files of these patterns, in their order."""
        found = (path for pattern in patterns for path in self.path.glob(pattern))
        return [path for path in dict.fromkeys(found) if path.is_file()]

    def _temporary(self) -> list[str]:
        """Return patterns of what `atomic_path` has left of the run's files."""
        patterns = [
            PurePath(pattern) for pattern in (self._manifest.name, *self._patterns, *self._listed, *self._others)
        ]
        return [pattern.with_name(TEMPORARY + pattern.name).as_posix() for pattern in patterns]

    def _unnamed(self, names: Sequence[str]) -> list[str]:
        """Return what counts as no file: the lock, what ranks say to each other, and files that were cut short."""
        patterns = [LOCK, f"{LOCK}{HELD}", _RANK_FILES, f"{_RANK_FILES}.new", *self._temporary()]
        return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def as_read(manifest: Manifest) -> Manifest:
    """Return a manifest as it will be read again: tuples as lists."""
    return dict(json.loads(json.dumps(manifest)))


def run_key(manifest: Manifest) -> str:
    """Return what the files of a run know it by: a digest of its manifest. Another version of Python changes no bit."""
    versions = {name: version for name, version in manifest["versions"].items() if name != "python"}
    known = {name: entry for name, entry in manifest.items() if name != "files"} | {"versions": versions}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


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
