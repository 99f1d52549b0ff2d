"""The files that `dvc.lock` names, and whether they are whole wherever DVC keeps them.

DVC trusts what it has seen once: an object of the cache that is read-only, a file whose size and
time have not changed, a folder whose list is in the remote. So here each file is hashed.
"""

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc_data.hashfile.hash import file_md5
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree
from dvc_objects.fs.local import localfs

from stages.kept.state import UNFINISHED

# How `write_atomically` calls what is not yet written to its end.
PART = re.compile(r"\.part(\.[^.]+)?$")


class State(StrEnum):
    """How a file is at a place."""

    WHOLE = "whole"
    ALTERED = "altered"
    MISSING = "missing"


@dataclass(frozen=True)
class File:
    """A file of an output. The list of a folder's files is one too, in cache and remote alone.

    Attributes:
        stage: The stage that writes it.
        output: The path of the output.
        path: Its own path; a folder's list has that of the folder, with `/` at its end.
        oid: The hash of its content, which names its object.
        kept: Whether DVC keeps it; if not, Git does.
        folder: If it is in a folder that is an output, the hash of the list.
    """

    stage: str
    output: str
    path: str
    oid: str
    kept: bool
    folder: str = ""

    @property
    def is_list(self) -> bool:
        """Whether this is the list of a folder's files."""
        return self.path.endswith("/")


@dataclass
class Place:
    """Where files are: the workspace, the cache or a remote.

    Attributes:
        name: For messages.
        fs: DVC's file system.
        odb: DVC's store of objects; none for the workspace.
        reads: Whether to hash what is there; if not, only its size is looked at.
        seen: The state and the size of what was looked at since `examine` began, by path.
    """

    name: str
    fs: Any
    odb: Any = None
    reads: bool = True
    seen: dict[str, tuple[State, int]] = field(default_factory=dict)

    def locate(self, file: File) -> str:
        """Returns the path of `file` at this place."""
        return str(self.odb.oid_to_path(file.oid)) if self.odb else file.path

    def expects(self, file: File) -> bool:
        """Returns whether `file` belongs here."""
        return file.kept if self.odb else not file.is_list

    def state(self, file: File, size: int | None = None) -> State:
        """Returns how `file` is here; `size` is what it has where it is whole."""
        path = self.locate(file)
        if path not in self.seen:
            self.seen[path] = self._look(path, file.oid, size)
        return self.seen[path][0]

    def _look(self, path: str, oid: str, size: int | None) -> tuple[State, int]:
        try:
            found = self.fs.info(path)
            if found["type"] != "file":
                return State.MISSING, 0
            if self.reads or oid.endswith(".dir"):  # lists are small
                whole = file_md5(path, self.fs) == oid.removesuffix(".dir")
            else:
                whole = size is None or size == found["size"]
        except (FileNotFoundError, NotADirectoryError):
            return State.MISSING, 0
        return State.WHOLE if whole else State.ALTERED, found["size"]


def open_places(repo: Repo, fetch: bool) -> tuple[list[Place], str]:
    """Returns cache, workspace and, if one is set up and answers, the remote.

    Args:
        repo: The repository in the current folder.
        fetch: Whether to read a remote that is no folder.

    Returns:
        The places, and why the remote is not among them if it should be.
    """
    cache = repo.cache.local
    places = [Place("the cache", cache.fs, cache), Place("the workspace", localfs)]
    name = repo.config["core"].get("remote")
    if not name:
        return places, ""
    try:
        odb = repo.cloud.get_remote_odb(name)
        odb.exists("0" * 32)
    except Exception as error:  # each kind of remote has its own
        return places, f"the remote '{name}' cannot be asked, so it is not checked: {error}"
    reads = fetch or odb.fs.protocol == "local"
    return [*places, Place(f"the remote '{name}'", odb.fs, odb, reads)], ""


def list_files(repo: Repo, places: list[Place]) -> Iterator[File]:
    """Yields the files of all outputs that `dvc.lock` names, sorted by stage and path.

    Of a folder of which no whole list is left, and which is no longer whole itself, it yields the
    list alone.
    """
    for stage, path, out in recorded(repo):
        oid, kept = out.hash_info.value, out.use_cache
        if not out.hash_info.isdir:
            yield File(stage, path, path, oid, kept)
            continue
        whole_list = File(stage, path, f"{path}/", oid, kept)
        yield whole_list
        for parts, _, info in _read_list(whole_list, places) or ():
            yield File(stage, path, "/".join((path, *parts)), info.value, kept, oid)


def recorded(repo: Repo) -> list[tuple[str, str, Any]]:
    """Returns stage, path and DVC's object of each output that `dvc.lock` names, sorted."""
    outs = [(str(stage.addressing), out) for stage in repo.index.stages for out in stage.outs]
    found = [(name, Path(os.path.relpath(out.fs_path)).as_posix(), out) for name, out in outs]
    # A stage that has not run yet has no hashes.
    return sorted((entry for entry in found if entry[2].hash_info), key=lambda entry: entry[:2])


def _read_list(file: File, places: list[Place]) -> Any:
    """Returns the list of a folder from where it is whole, or from the folder itself."""
    for place in places:
        if place.odb and place.state(file) is State.WHOLE:
            return Tree.load(place.odb, HashInfo("md5", file.oid))
    tree = build_list(Path(file.output))
    return tree if tree.oid == file.oid else None


def build_list(folder: Path) -> Any:
    """Returns the list of the files in `folder`, as DVC makes it."""
    tree: Any = Tree()  # type: ignore[no-untyped-call]
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not is_unfinished(p)):
        info = HashInfo("md5", file_md5(str(path), localfs))
        tree.add(path.relative_to(folder).parts, Meta(), info)
    tree.digest()
    return tree


def is_unfinished(path: Path) -> bool:
    """Returns whether a file or folder is named as one that is not written to its end."""
    return bool(UNFINISHED.search(path.name) or PART.search(path.name))


def examine(files: Iterable[File], places: list[Place]) -> dict[File, dict[str, State]]:
    """Returns how each file is at each place where it belongs, by the names of the places."""
    files = list(files)
    for place in places:
        place.seen.clear()
    found: dict[File, dict[str, State]] = {file: {} for file in files}
    with ThreadPoolExecutor() as pool:
        for place in places:
            here = [file for file in files if place.expects(file)]
            sizes = [_size(file, places) for file in here]
            states = pool.map(place.state, here, sizes)
            for file, state in zip(here, states, strict=True):
                found[file][place.name] = state
    return found


def _size(file: File, places: list[Place]) -> int | None:
    for place in places:
        state, size = place.seen.get(place.locate(file), (State.MISSING, 0))
        if state is State.WHOLE and place.reads:
            return size
    return None


def find_strays(repo: Repo, files: Iterable[File]) -> list[Path]:
    """Returns what lies beside outputs and objects and belongs to none, sorted.

    Within a folder that is an output, this is each other file; elsewhere, only what is named as a
    file that was not written to its end.
    """
    files = list(files)
    known = {file.path for file in files}
    strays = set()
    for folder in {Path(file.output).parent for file in files}:
        strays |= {path for path in folder.glob("*") if is_unfinished(path)}
    for folder in {Path(file.output) for file in files if file.is_list}:
        if any(file.folder and Path(file.output) == folder for file in files):  # its list is whole
            found = (path for path in folder.rglob("*") if path.is_file())
            strays |= {path for path in found if path.as_posix() not in known}
    # In a cache that other projects share, one of them may be writing.
    cache = Path(os.path.relpath(repo.cache.local.path))
    if ".." not in cache.parts:
        strays |= {path for path in cache.glob("*/*") if UNFINISHED.search(path.name)}
    return sorted(strays)
