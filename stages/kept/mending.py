"""Mending files of outputs that are altered or missing, from a copy that is whole."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from dvc.repo import Repo
from dvc_data.hashfile.hash import file_md5
from dvc_objects.fs.local import localfs

from stages.kept.outputs import File, Place, State, build_list

States = Mapping[str, State]


def mend_files(repo: Repo, places: list[Place], damaged: Mapping[File, States]) -> list[File]:
    """Restores damaged files from the first place that has them whole, and deletes altered ones.

    What the remote lacks is left to `dvc push`, but for files of a folder whose list it has: DVC
    takes the whole folder for pushed.

    Args:
        repo: The repository in the current folder, which is locked.
        places: Cache, workspace and remote.
        damaged: How each file is at each place where it belongs.

    Returns:
        The files of which no whole copy is left: `dvc repro` runs their stages again.
    """
    cache, workspace, *remotes = places
    lost, stale = [], []
    for file, states in damaged.items():
        copies = [place for place in places if place.expects(file) or place is cache]
        whole = [place for place in copies if place.state(file) is State.WHOLE]
        for place in (cache, workspace):
            if states.get(place.name) is State.ALTERED:
                localfs.remove(place.locate(file))
        if not _put_into_cache(file, cache, whole):
            lost.append(file)
            continue
        if states.get(workspace.name, State.WHOLE) is not State.WHOLE:
            stale.append(file)
        for remote in remotes:
            if remote.name in states:
                _put_into_remote(file, cache, remote)
    _check_out(repo, cache, stale, {file.output for file in lost})
    return lost


def _put_into_cache(file: File, cache: Place, whole: list[Place]) -> bool:
    """Returns whether the object is in the cache, into which it brings it where it can."""
    if cache in whole:
        return True
    if file.is_list and not whole:
        tree = build_list(Path(file.output))
        if tree.oid != file.oid:
            return False
        cache.odb.add(tree.path, tree.fs, tree.oid)
        return True
    for place in whole:
        cache.odb.add(place.locate(file), place.fs, file.oid)
        if file_md5(cache.locate(file), localfs) == file.oid.removesuffix(".dir"):
            return True
        localfs.remove(cache.locate(file))  # the remote's copy was not read, and is altered
    return False


def _put_into_remote(file: File, cache: Place, remote: Place) -> None:
    state = remote.state(file)
    if state is State.ALTERED:
        remote.odb.delete(file.oid)
    elif state is State.WHOLE or not (file.folder and remote.odb.exists(file.folder)):
        return
    remote.odb.add(cache.locate(file), localfs, file.oid)


def _check_out(repo: Repo, cache: Place, files: list[File], lost: set[str]) -> None:
    """Restores files in the workspace from the cache; of a folder, all or none."""
    outputs = sorted({file.output for file in files if file.kept} - lost)
    if outputs:
        repo.checkout(outputs, force=True)
    for file in files:
        if not file.kept:  # Git keeps it, so `dvc checkout` leaves it alone
            Path(file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cache.locate(file), file.path)
