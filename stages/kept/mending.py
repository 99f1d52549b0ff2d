"""Mending files of outputs that are altered or missing, from a copy that is whole."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from dvc.repo import Repo
from dvc_data.hashfile.hash import file_md5
from dvc_objects.fs.local import localfs

from stages.kept.outputs import File, Place, State, build_list, recorded

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
    for file, states in damaged.items():
        for place in (cache, workspace):
            if states.get(place.name) is State.ALTERED:
                localfs.remove(place.locate(file))
    kept = _fill_cache(damaged, cache, [workspace, *remotes])
    for remote in remotes:
        _mend_remote([file for file in kept if remote.name in damaged[file]], cache, remote)
    stale = [f for f in kept if damaged[f].get(workspace.name, State.WHOLE) is not State.WHOLE]
    lost = [file for file in damaged if file not in kept]
    _check_out(repo, cache, stale, {file.output for file in lost})
    return lost


def _fill_cache(files: Collection[File], cache: Place, others: list[Place]) -> list[File]:
    """Brings what it can into the cache, and returns the files that the cache then has whole."""
    whole = {file.oid for file in files if cache.state(file) is State.WHOLE}
    for place in others:
        wanted = {
            file.oid: file
            for file in files
            if file.oid not in whole and place.expects(file) and place.state(file) is State.WHOLE
        }
        if wanted:
            cache.odb.add([place.locate(file) for file in wanted.values()], place.fs, [*wanted])
        for oid, file in wanted.items():
            path = cache.locate(file)
            if file_md5(path, localfs) == oid.removesuffix(".dir"):
                whole.add(oid)
            else:
                localfs.remove(path)  # the remote was not read, and its copy is altered
    for file in files:
        if file.is_list and file.oid not in whole:
            tree = build_list(Path(file.output))
            if tree.oid == file.oid:
                cache.odb.add(tree.path, tree.fs, tree.oid)
                whole.add(file.oid)
    return [file for file in files if file.oid in whole]


def _mend_remote(files: list[File], cache: Place, remote: Place) -> None:
    wanted = {}
    for file in files:
        state = remote.state(file)
        if state is State.ALTERED:
            remote.odb.delete(file.oid)
        elif state is State.WHOLE or not (file.folder and remote.odb.exists(file.folder)):
            continue
        wanted[file.oid] = cache.locate(file)
    if wanted:
        remote.odb.add([*wanted.values()], localfs, [*wanted])


def _check_out(repo: Repo, cache: Place, files: list[File], lost: set[str]) -> None:
    """Restores files in the workspace from the cache; of a folder, all or none."""
    stale = {file.output for file in files if file.kept} - lost
    # `dvc checkout` reads dvc.lock anew for each of its arguments.
    for _, path, out in recorded(repo):
        if path in stale:
            out.checkout(force=True)
    for file in files:
        if not file.kept:  # Git keeps it, so `dvc checkout` leaves it alone
            Path(file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cache.locate(file), file.path)
