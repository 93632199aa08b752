"""The folder of a run: its manifest, its other files by pattern, and its lock. Other files are never changed."""

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

_TAKE_ANOTHER = "use another folder"
OTHER_FOLDER = "use another folder, or overwrite=True to start over"
RANK_FILE = ".fractalops-rank-{rank}-{name}"
"""The name of the files with which ranks synchronize at the start of a run. `name` is 16 hexadecimal digits."""

_RANK_FILES = RANK_FILE.format(rank="[0-9]*", name=16 * "[0-9a-f]")


class RunFolder:
    """A folder that one run writes to. Each of its files is either complete or absent.

    The manifest proves that files belong to a run. If it is missing or can't be read, nothing is ever removed.

    Args:
        path: the folder. It need not exist yet.
        results: glob patterns, relative to `path`, of files that the run writes. Overwriting removes these files in
            this order: the file that marks a run as finished must come first.
        listed: patterns of further files that the run writes. Overwriting removes only those that the manifest lists
            under "files", or whose folder it lists there.
        manifest: the name of the JSON file that describes the run. Its "format" identifies the kind of run.
        others: patterns of files that the run writes and that overwriting keeps.
        locks: patterns of the lock files that processes hold while they work on a part of the run.
        resumes: whether a later call can resume the run. Otherwise a later call can only overwrite it.
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
        """Create the folder and lock it, see `locked_folder`."""
        return locked_folder(self.path)

    def check(self, manifest: Manifest, *, overwrite: bool = False) -> None:
        """Raise `InputError` unless this run can be started or resumed in the folder.

        Only the entries of `manifest` are compared. A folder that contains only other files is never overwritten.
        """
        check_writable(self.path)
        if not self.path.exists():
            return
        names = os.listdir(self.path)
        # Another process may be creating the folder. It writes its manifest before any other file, so if there is
        # another file, the manifest exists, too.
        if not set(names) - set(self._unnamed(names)):
            return
        if not self._manifest.exists():
            raise InputError(f"cannot write to {self.path}: it already contains files; {_TAKE_ANOTHER}")
        self._check_ours(manifest["format"])
        if not self._resumes:
            results = self.results()
            # A run that was interrupted before it wrote a result, or more entries to its manifest, is started again.
            added = read_json(self._manifest).keys() - {"files", *manifest}
            if (results or added) and not overwrite:
                raise InputError(f"cannot write to {self.path}: it already contains files; {OTHER_FOLDER}")
            if foreign := set(self._found(self._listed)) - set(results):
                raise self._foreign(min(foreign))
        elif not overwrite and (different := differences(self.read_manifest(manifest["format"]), manifest)):
            raise InputError(f"cannot resume in {self.path}: {different}; {OTHER_FOLDER}")

    def _check_ours(self, form: str) -> None:
        """Raise `InputError` unless the manifest has the format `form`, in any version."""
        try:
            found = str(read_json(self._manifest).get("format"))
        except InputError as error:
            raise InputError(f"{error}; {_TAKE_ANOTHER}") from error
        if found.rpartition(".")[0] != form.rpartition(".")[0]:
            name = self._manifest.name
            raise InputError(f"cannot write to {self.path}: its {name} does not describe such a run; {_TAKE_ANOTHER}")

    def read_manifest(self, form: str) -> Manifest:
        """Return the content of the manifest. Raises `InputError` unless it exists and has the format `form`."""
        content = read_json(self._manifest)
        if (actual := content.get("format")) != form:
            raise InputError(f"cannot read {self._manifest}: its format must be {form}, got {actual}; {OTHER_FOLDER}")
        return content

    def begin(self, manifest: Manifest, *, overwrite: bool = False) -> None:
        """Prepare the folder to start or resume this run.

        This removes the temporary files of interrupted writes, and with `overwrite` the results of an earlier run.

        Raises `InputError` as `check` does, and if another run is writing to the folder.
        """
        self.check(manifest, overwrite=overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        for lock in self._found(self._locks):
            with claimed(lock) as ours:  # this removes the lock file
                if not ours:
                    raise another_run(self.path, lock)
        for path in self._found([_RANK_FILES, f"{_RANK_FILES}.new"]):
            path.unlink(missing_ok=True)
        self.remove_leftovers()
        if overwrite or not self._manifest.exists():
            self.renew(manifest)

    def renew(self, manifest: Manifest) -> None:
        """Remove the results of an earlier run, and write the manifest.

        The manifest is written before any result, and is never removed. So a run can use the folder even if this
        method is interrupted at any point.
        """
        with atomic_path(self._manifest, durable=True) as temporary:
            write_json(temporary, manifest)  # first, so that nothing is removed if the disk is full
            for path in self.results():
                path.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove the temporary files of interrupted writes. No process may be writing to the folder."""
        for path in self._found(self._temporary()):
            path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Remove the folder if it contains only the manifest, so that another run can use it."""
        if {file.name for file in self.path.iterdir()} <= {self._manifest.name, LOCK, f"{LOCK}{HELD}"}:
            self._manifest.unlink(missing_ok=True)
            with suppress(OSError):  # Windows can't remove an open file
                (self.path / LOCK).unlink(missing_ok=True)
                self.path.rmdir()

    def results(self) -> list[Path]:
        """Return the files that the run has written, except the manifest; none if there is no manifest."""
        return self._found(self._patterns) + self.named(self._listed) if self._manifest.exists() else []

    def named(self, patterns: Iterable[str]) -> list[Path]:
        """Return the files that match `patterns` and that the manifest lists, or whose folder it lists."""
        named = self._named(read_json(self._manifest)) if self._manifest.exists() else set()
        return [path for path in self._found(patterns) if named & {self.relative(path), self.relative(path.parent)}]

    def add_files(self, paths: Iterable[Path]) -> None:
        """Add files, or folders of files, to the list in the manifest. Call it before they are written."""
        content = read_json(self._manifest)
        write_json(self._manifest, content | {"files": sorted(self._named(content).union(map(self.relative, paths)))})

    def claim_files(self, paths: Iterable[Path]) -> None:
        """Add files, or folders of files, to the list in the manifest before they are written.

        Raises `InputError` if such a file exists already but is not in the list, as it was not written by a run.
        """
        named = self._named(read_json(self._manifest))
        new = {path for path in paths if self.relative(path) not in named}
        if not new:
            return
        if foreign := [path for path in self._found(self._listed) if new & {path, path.parent}]:
            raise self._foreign(min(foreign))
        self.add_files(new)

    def _foreign(self, path: Path) -> InputError:
        name = self.relative(path)
        return InputError(f"cannot write to {self.path}: its {name} was not written by a run; {_TAKE_ANOTHER}")

    def relative(self, path: Path) -> str:
        """Return the path of a file relative to the folder, as in manifests and tables."""
        return path.relative_to(self.path).as_posix()

    @staticmethod
    def _named(manifest: Manifest) -> set[str]:
        files = manifest.get("files")
        return {name for name in files if isinstance(name, str)} if isinstance(files, list) else set()

    def _found(self, patterns: Iterable[str]) -> list[Path]:
        """Return the files that match `patterns`, in the order of the patterns."""
        found = (path for pattern in patterns for path in self.path.glob(pattern))
        return [path for path in dict.fromkeys(found) if path.is_file()]

    def _temporary(self) -> list[str]:
        """Return the patterns of the temporary files that `atomic_path` uses for the run's files."""
        patterns = [
            PurePath(pattern) for pattern in (self._manifest.name, *self._patterns, *self._listed, *self._others)
        ]
        return [pattern.with_name(TEMPORARY + pattern.name).as_posix() for pattern in patterns]

    def _unnamed(self, names: Sequence[str]) -> list[str]:
        """Return the names that do not count as content: locks, files of ranks, and temporary files."""
        patterns = [LOCK, f"{LOCK}{HELD}", _RANK_FILES, f"{_RANK_FILES}.new", *self._temporary()]
        return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def as_read(manifest: Manifest) -> Manifest:
    """Return a manifest as it will be read from the file: tuples become lists."""
    return dict(json.loads(json.dumps(manifest)))


def run_key(manifest: Manifest) -> str:
    """Return the digest of a manifest, by which the files of a run identify it.

    The version of Python is left out, as it does not change the results.
    """
    versions = {name: version for name, version in manifest["versions"].items() if name != "python"}
    known = {name: entry for name, entry in manifest.items() if name != "files"} | {"versions": versions}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def differences(actual: Manifest, expected: Manifest) -> str:
    """Return a text that lists the entries of `expected` in which a run differs; "" if it is the same run."""
    kept = {name: actual.get(name) for name in expected}
    return "; ".join(
        f"{name} was {json.dumps(old)}, is {json.dumps(new)}"
        for name, old, new in _differences(kept, expected)
        if name != "versions.python"
    )


def _differences(old: Manifest, new: Manifest, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield each difference of two manifests: the dotted name and both values."""
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{prefix}{name}.")
        elif one != other:
            yield f"{prefix}{name}", one, other
