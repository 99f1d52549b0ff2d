"""`make verify` tells which outputs are the same as those of the last commit."""

import subprocess
from pathlib import Path

import pytest
from conftest import Project
from ruamel.yaml import YAML

from stages import verify
from stages.lib.command import UserError
from stages.verify import compare, devices, first_difference

PROGRAMS = Path(__file__).with_name("programs")


@pytest.mark.long
def test_a_fresh_run_elsewhere_gives_every_output_the_same_bytes_and_names_another(
    project: Project,
) -> None:
    lock = project.folder / "dvc.lock"
    recorded = YAML().load(lock)
    [model] = [
        output
        for output in recorded["stages"]["train@dense"]["outs"]
        if output["path"] == "data/models/dense.keras"
    ]
    model["md5"] = "0" * 32
    # DVC leaves the stages of a model there that was removed from params.yaml.
    removed = {"path": "data/models/removed.keras", "hash": "md5", "md5": "1" * 32}
    recorded["stages"]["train@removed"] = {"cmd": "x", "outs": [removed]}
    YAML().dump(recorded, lock)
    (project.folder / "source").rename(project.folder.with_name("source"))
    project.set_param("datasets.digits.download.source", "../source/digits")
    project.set_param("datasets.pictures.download.source", "../source/pictures.zip")
    project.set_param("datasets.pictures.download.unlabelled", "../source/more.zip")
    project.run("git", "commit", "--all", "--quiet", "--message=A model of other bytes")
    # The first run had all cores.
    program = str(PROGRAMS / "verify_on_one_core.py")
    lines = project.run("python", program, fails=True).splitlines()
    verdicts = [line.split(maxsplit=1) for line in lines if line.startswith(("same ", "different"))]
    assert [path for verdict, path in verdicts if verdict == "different"] == [
        "data/models/dense.keras"
    ]
    assert {"data/models/cnn.keras", "reports/index.html"} < {path for _, path in verdicts}
    assert "removed" not in "\n".join(lines)
    assert f"{len(verdicts)} outputs compared, {len(verdicts) - 1} identical" in lines
    assert [line for line in lines if line.startswith("The commit's models were trained on ")]
    assert "versions and devices are the same: this is a fault" in "\n".join(lines)
    [kept] = project.folder.parent.glob("verify-*")
    assert f"what differs is kept in {kept};" in "\n".join(lines)
    assert (kept / "data/models/dense.keras").is_file()


def test_outputs_are_told_apart() -> None:
    verdicts = compare({"a": "1", "b": "1", "c": "1"}, {"b": "1", "c": "2", "d": "1"})
    assert verdicts == [
        ("a", "only here"),
        ("b", "same"),
        ("c", "different"),
        ("d", "only there"),
    ]


def test_the_first_version_that_differs_is_named() -> None:
    then = {"python": "3.11.7", "keras": "3.15.1", "numpy": "2.4.0"}
    now = {"python": "3.11.7", "keras": "3.16.0", "numpy": "2.5.0"}
    difference = first_difference({"a": now, "b": then}, {"a": now, "b": now})
    assert difference == "keras: 3.15.1 then, 3.16.0 now"


@pytest.mark.parametrize(
    ("processor", "difference"),
    [
        ("any", "versions and devices are the same: this is a fault, please report it"),
        ("this", "device: an AMD EPYC then, an Intel Xeon now"),
    ],
)
def test_another_processor_is_a_difference_for_those_who_compute_with_all_it_has(
    processor: str, difference: str
) -> None:
    then, now = (
        {"m": {"device": name, "processor": processor}} for name in ("an AMD EPYC", "an Intel Xeon")
    )
    assert first_difference(then, now) == difference
    assert devices(then | {"n": now["m"]}) == "an AMD EPYC and an Intel Xeon"


def test_versions_that_were_not_committed_are_said_to_be_unknown() -> None:
    assert "data/timing/b.json was not committed" in first_difference(
        {"a": {"python": "3.11.7"}}, {"a": {"python": "3.11.7"}, "b": {"python": "3.11.7"}}
    )


def test_a_folder_without_a_repository_of_its_own_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    part = tmp_path / "part"
    part.mkdir()
    monkeypatch.chdir(part)
    with pytest.raises(UserError, match="this folder is in no Git repository"):
        verify.main()
    (part / "dvc.lock").touch()
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=All"]):
        author = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        subprocess.run(["git", *author, *command], cwd=tmp_path, check=True)
    with pytest.raises(UserError, match="this folder is a part of a larger Git repository"):
        verify.main()


def test_the_folder_of_another_user_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # Git's own tests use it
    with pytest.raises(UserError, match="this folder is another user's, so Git does not read it"):
        verify.main()
