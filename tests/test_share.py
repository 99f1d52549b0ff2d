"""docs/share.md does what it says: its own commands run, with real servers, in a team's clones."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import TOP, Project
from pages import Block, blocks, run_here
from ruamel.yaml import YAML
from servers import SERVERS, Server, program

PAGE = blocks("docs/share.md")
# What of the page tells of a server. The quick one comes with pip.
KINDS = {
    "nanio": "S3",
    "seaweedfs": "S3",
    "google": "Google Cloud Storage",
    "azurite": "Azure Blob Storage",
    "ssh": "SSH",
    "webdav": "WebDAV",
}
# The tiny project has another model.
MODEL = {"mnist_cnn": "dense"}
TRAIN = "train@dense"
OWN = ".dvc/config.local"


def under(heading: str, needs: set[str] | None = None) -> list[Block]:
    found = [
        block
        for block in PAGE
        if block.heading == heading and (needs is None or block.needs == needs)
    ]
    assert found, heading
    return found


def bash(
    project: Project, block: Block, names: Mapping[str, str] | None = None, fails: bool = False
) -> str:
    """Runs a block of the page in a project."""
    text = run_here(block, {**MODEL, **(names or {})})
    return project.run("bash", "-euo", "pipefail", "-c", text, fails=fails)


def own_settings(block: Block) -> Block:
    """Returns the commands of a block that each teammate runs in their own clone."""
    lines = [line for line in block.text.splitlines(keepends=True) if " --local " in line]
    return Block(block.page, block.line, "bash", block.needs, "".join(lines), block.heading)


@dataclass
class Team:
    """A project that has a remote, as the page says, and what it shares."""

    project: Project
    server: Server
    settings: list[Block]
    told: str
    """What a push with a wrong key printed; empty where the server takes any."""

    def clone(self, folder: Path) -> Project:
        """Clones the project, with the settings that are each teammate's own."""
        self.project.run("git", "clone", "--quiet", self.project.environment["ORIGIN"], str(folder))
        clone = Project(folder)
        clone.environment |= self.project.environment
        shutil.copy(self.project.folder / OWN, folder / OWN)
        return clone


def change_keys(project: Project, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Puts the keys of somebody else into a project's own settings."""
    settings = project.folder / OWN
    text = settings.read_text()
    for name in sorted(before, key=lambda name: -len(before[name])):
        text = text.replace(before[name], after[name])
    settings.write_text(text)


def ready(project: Project) -> Project:
    """Gives a project what the page takes for granted: its repository, and no package index."""
    origin = project.folder.with_name("origin.git")
    project.run("git", "clone", "--quiet", "--bare", ".", str(origin))
    project.run("git", "remote", "add", "origin", origin.as_uri())
    project.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    for file in TOP.glob("requirements*.txt"):
        shutil.copy(file, project.folder)
    (project.folder / ".git/info/exclude").write_text("requirements*.txt\n")
    storage = project.folder.with_name("storage")
    project.environment |= {"ORIGIN": origin.as_uri(), "STORAGE": str(storage), "PIP_NO_INDEX": "1"}
    return project


def outputs(folder: Path) -> dict[str, Any]:
    """Returns the outputs that DVC keeps, by path, with their hashes."""
    lock = YAML(typ="safe").load(folder / "dvc.lock")
    outs = [out for stage in lock["stages"].values() for out in stage["outs"]]
    return {out["path"]: out["md5"] for out in outs}


def content(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of all outputs."""
    files: dict[str, bytes] = {}
    for path in outputs(folder):
        top = folder / path
        below = sorted(top.rglob("*")) if top.is_dir() else [top]
        files |= {str(file.relative_to(folder)): file.read_bytes() for file in below}
    return files


def stored(project: Project) -> str:
    """Returns the path of the model in a remote."""
    md5 = outputs(project.folder)["data/models/dense.keras"]
    return f"files/md5/{md5[:2]}/{md5[2:]}"


@pytest.fixture(
    scope="module",
    params=[
        "nanio",
        *(pytest.param(kind, marks=pytest.mark.long) for kind in KINDS if kind != "nanio"),
    ],
)
def team(
    request: pytest.FixtureRequest, reproduced: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Team]:
    """The tiny project with a remote of each kind, set up and pushed as the page says."""
    top = tmp_path_factory.mktemp(request.param)
    (top / "server").mkdir()
    with SERVERS[request.param](top / "server") as server:
        project = ready(reproduced.copy(top / "project"))
        set_up = under(KINDS[request.param])
        for block in set_up:
            bash(project, block, server.names)
        bash(project, under("For every kind")[0])
        told = ""
        if server.stranger:  # before the remote has anything
            change_keys(project, server.names, server.stranger)
            told = project.run("dvc", "push", "--run-cache", fails=True)
            change_keys(project, server.stranger, server.names)
        bash(project, under("Give results to others")[0])
        settings = [block for block in map(own_settings, set_up) if block.text]
        yield Team(project, server, settings, told)


def test_a_push_with_a_wrong_key_fails_and_says_why(team: Team) -> None:
    if not team.server.stranger:
        pytest.skip("this server takes any key")
    assert re.search(r"signature|Denied|denied|401", team.told), team.told


def test_a_secret_is_never_committed(team: Team) -> None:
    secrets = [value for key, value in team.server.names.items() if key in {"SECRET", "PASSWORD"}]
    committed = team.project.run("git", "grep", "-e", "remote", "HEAD", "--", ".dvc/config")
    assert "storage" in committed
    assert (team.project.folder / OWN).exists()
    for secret in [*secrets, "keyfile"]:
        team.project.run("git", "grep", secret, "HEAD", fails=True)


def test_a_teammate_gets_the_same_bytes_and_runs_nothing(team: Team, tmp_path: Path) -> None:
    block = under("Take over what others made")[0]
    assert "cd ../teammate\n" in block.text
    # After cloning, a teammate makes the settings of their own.
    own = "".join(run_here(settings, team.server.names) for settings in team.settings)
    text = run_here(block).replace("cd ../teammate\n", f"cd ../teammate\n{own}")
    here = Project(tmp_path / "elsewhere")
    here.folder.mkdir()
    here.environment |= {"ORIGIN": team.project.environment["ORIGIN"]}
    printed = here.run("bash", "-euo", "pipefail", "-c", text)
    assert "Running stage" not in printed
    assert content(tmp_path / "teammate") == content(team.project.folder)


def test_another_project_brings_a_model_with_a_file_of_keys(team: Team, tmp_path: Path) -> None:
    other = Project(tmp_path / "other")
    other.folder.mkdir()
    other.environment |= {"ORIGIN": team.project.environment["ORIGIN"]}
    without_key, *_ = under("Give a model to another project", set())
    if "127.0.0.1" in (team.project.folder / ".dvc/config").read_text():  # else it asks the cloud
        bash(other, without_key, team.server.names, fails=True)
    [with_key] = under("Give a model to another project", {"key"})
    bash(other, with_key, {"~/classifiers": str(team.project.folder)})
    model = team.project.folder / "data/models/dense.keras"
    assert (other.folder / "dense.keras").read_bytes() == model.read_bytes()


def test_an_altered_model_is_not_taken(team: Team, tmp_path: Path) -> None:
    clone = team.clone(tmp_path / "clone")
    model = team.project.folder / "data/models/dense.keras"
    team.server.replace(stored(clone), model.read_bytes()[:-1] + b"?")
    try:
        printed = clone.run("dvc", "pull", "data/models/dense.keras", fails=True)
        assert "data/models/dense.keras" in printed
        assert not (clone.folder / "data/models/dense.keras").exists()
        # What the page says DVC does not check.
        bring = under("Give a model to another project", {"key"})[0]
        bash(clone, bring, {"~/classifiers": str(clone.folder)})
        assert (clone.folder / "dense.keras").read_bytes() != model.read_bytes()
    finally:
        team.server.replace(stored(clone), model.read_bytes())


@pytest.mark.long
def test_a_folder_gives_no_altered_model_either(project: Project, tmp_path: Path) -> None:
    ready(project)
    bash(project, under("A folder", set())[0])
    bash(project, under("For every kind")[0])
    project.run("dvc", "push", "data/models/dense.keras")
    file = tmp_path / "storage" / stored(project)
    file.chmod(0o644)
    file.write_bytes(b"?" + file.read_bytes()[1:])
    model = project.folder / "data/models/dense.keras"
    model.unlink()
    shutil.rmtree(project.folder / ".dvc/cache")
    printed = project.run("dvc", "pull", "data/models/dense.keras", fails=True)
    assert "data/models/dense.keras" in printed
    assert not model.exists()


def pins(name: str) -> dict[str, str]:
    lines = re.findall(r"^([\w.-]+)==(\S+)", (TOP / name).read_text(), re.MULTILINE)
    return dict(lines)


def test_a_plugin_leaves_the_versions_of_all_other_packages_alone() -> None:
    own, remotes = pins("requirements.txt"), pins("requirements-remotes.txt")
    assert {name: remotes[name] for name in own.keys() & remotes.keys()} == {
        name: own[name] for name in own.keys() & remotes.keys()
    }
    shown = re.findall(
        r"--constraint requirements-remotes.txt (\S+)", str(PAGE).replace("\\n", " ")
    )
    assert set(shown) == {name for name in remotes if name.startswith("dvc-")} - own.keys()


@pytest.mark.long
def test_readers_without_a_key_pull_over_http_and_cannot_push(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    with SERVERS["webdav"](tmp_path / "server") as server:
        ready(project)
        for block in [*under("WebDAV"), *under("For every kind")]:
            bash(project, block, server.names)
        bash(project, under("Give results to others")[0])
        project.run("git", "clone", "--quiet", ".", str(tmp_path / "reader"))
        reader = Project(tmp_path / "reader")
        bash(reader, under("For readers without a key")[0], server.names)
        assert content(reader.folder) == content(project.folder)
        reader.run("dvc", "push", "--remote", "public")  # all is there: nothing to do
        (tmp_path / "new.txt").write_text("new")
        shutil.copy(tmp_path / "new.txt", reader.folder)
        reader.run("dvc", "add", "new.txt")
        assert "failed to" in reader.run("dvc", "push", "--remote", "public", "new.txt", fails=True)


@pytest.mark.long
def test_a_key_that_may_only_read_loses_the_record_and_dvc_says_pushed(
    reproduced: Project, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    project = ready(reproduced.copy(tmp_path / "project"))
    with SERVERS["seaweedfs"](tmp_path / "server") as server:
        for block in under("S3"):
            bash(project, block, server.names)
        project.run("dvc", "push")
        assert server.stranger
        change_keys(project, server.names, server.stranger)
        printed = project.run("dvc", "push", "--run-cache")
    assert "failed to transfer" in printed
    assert "files pushed" in printed


@pytest.mark.long
def test_ssh_checks_the_key_of_the_host_and_its_tunnel_carries_dvc(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    with SERVERS["ssh"](tmp_path / "server") as server:
        ready(project)
        for block in under("SSH"):
            bash(project, block, server.names)
        project.run("dvc", "push", "data/models/dense.keras")
        settings, tunnel = under("What DVC does not check")[0].text.splitlines()
        port = server.port + 1 if server.port < 65535 else server.port - 1
        names = {**server.names, "2222": str(port), ":22 ": f":{server.port} "}
        hosts = tmp_path / "known_hosts"
        own = f"-F none -o BatchMode=yes -o UserKnownHostsFile={hosts}"
        options = f"ssh -p {server.port} -i {tmp_path}/server/user {own} "
        command = tunnel.replace("ssh -f ", options).replace("example.com", "127.0.0.1")
        for shown, name in names.items():
            command, settings = command.replace(shown, name), settings.replace(shown, name)
        words = [program("ssh"), *shlex.split(command)[1:]]

        # Another host answers: DVC would not have noticed, `ssh` does.
        other = (tmp_path / "server/stranger.pub").read_text()
        hosts.write_text(f"[127.0.0.1]:{server.port} {other}")
        refused = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
        assert refused.returncode != 0
        assert "Host key verification failed" in refused.stderr

        known = (tmp_path / "server/host.pub").read_text()
        hosts.write_text(f"[127.0.0.1]:{server.port} {known}")
        with subprocess.Popen(words) as ssh:
            try:
                project.run("bash", "-c", settings)
                project.run("dvc", "push")
                assert "up to date" in project.run("dvc", "push")
                config = (project.folder / OWN).read_text()
                assert f"ssh://localhost:{port}" in config
            finally:
                ssh.terminate()


GROUP = 23456


def as_another(project: Project, *command: str, fails: bool = False) -> str:
    """Runs a command as a second user of the group: root without what makes it root."""
    script = f"umask 022; exec {shlex.join(command)}"
    privileges = ("--groups", str(GROUP), "--bounding-set", "-all", "--inh-caps", "-all")
    return project.run("setpriv", *privileges, "bash", "-c", script, fails=fails)


def give_away(folder: Path) -> None:
    """Makes all that lies there another user's; the group stays."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 12345, -1)


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="a second user is played, which takes root")
@pytest.mark.parametrize("told", [True, False])
def test_a_group_shares_a_folder_and_a_cache_if_dvc_is_told(
    told: bool, project: Project, tmp_path: Path
) -> None:
    ready(project)
    names = {"chgrp team": f"chgrp {GROUP}", "/mnt/cache": str(tmp_path / "shared_cache")}
    if not told:
        names |= {
            "dvc remote modify storage shared": "true",
            "dvc config --local cache.shared": "true",
        }
    bash(project, under("A folder", set())[0], names)
    for block in under("A folder", {"users"}):
        bash(project, block, names)
    bash(project, under("For every kind")[0])
    # The outputs of the first run go into the cache that is shared.
    project.run("dvc", "commit", "--force")
    bash(project, under("Give results to others")[0])
    give_away(tmp_path / "storage")
    give_away(tmp_path / "shared_cache")

    project.run("git", "clone", "--quiet", ".", str(tmp_path / "second"))
    second = Project(tmp_path / "second")
    for line in under("A folder", {"users"})[1].text.splitlines():
        if line.startswith("dvc"):
            second.run("bash", "-c", line.replace("/mnt/cache", names["/mnt/cache"]))
    as_another(second, "dvc", "checkout")  # nothing is fetched
    assert content(second.folder) == content(project.folder)
    (second.folder / "new.txt").write_text("new")
    as_another(second, "dvc", "add", "new.txt", fails=not told)
    if told:
        as_another(second, "dvc", "push", "--run-cache")
    else:
        second.run("dvc", "add", "new.txt")
        assert "denied" in as_another(second, "dvc", "push", fails=True)


@pytest.mark.long
def test_freeing_space_keeps_what_commits_and_experiments_have(project: Project) -> None:
    key = "models.dense.training.steps"
    ready(project)
    first = project.read_params()["models"]["dense"]["training"]["steps"]
    committed, experiment, tried = first + 1, first + 2, first + 3
    project.set_param(key, committed)
    project.repro(TRAIN)
    project.run("git", "commit", "--all", "--quiet", "--message=More steps")
    for steps in (experiment, tried):
        project.set_param(key, steps)
        project.repro(TRAIN)
        if steps == experiment:
            project.run("dvc", "exp", "save")
    project.run("git", "checkout", "--quiet", ".")
    project.run("dvc", "checkout")
    bash(project, under("Free space")[0])
    trained = {}
    for steps in (first, committed, experiment, tried):
        project.set_param(key, steps)
        trained[steps] = TRAIN in project.repro(TRAIN)
    assert trained == {first: False, committed: False, experiment: False, tried: True}

    # What most pages on DVC name.
    project.run("git", "checkout", "--quiet", ".")
    project.run("dvc", "checkout")
    project.run("dvc", "gc", "--workspace", "--force")
    project.set_param(key, first)
    assert TRAIN in project.repro(TRAIN)


@pytest.mark.long
def test_freeing_space_in_the_remote_keeps_what_others_have_committed(
    project: Project, tmp_path: Path
) -> None:
    ready(project)
    bash(project, under("A folder", set())[0])
    bash(project, under("Give results to others")[0])
    project.run("git", "clone", "--quiet", project.environment["ORIGIN"], str(tmp_path / "other"))
    other = Project(tmp_path / "other")
    other.run("git", "checkout", "--quiet", "-b", "longer")
    other.run("dvc", "pull")
    other.set_param("models.dense.training.steps", 12)
    other.repro(TRAIN)
    other.run("dvc", "push")
    other.run("git", "commit", "--all", "--quiet", "--message=Longer")
    other.run("git", "push", "--quiet", "--set-upstream", "origin", "longer")
    model = content(other.folder)["data/models/dense.keras"]
    (other.folder / "unused.txt").write_text("unused")
    other.run("dvc", "add", "unused.txt")
    other.run("dvc", "push", "unused.txt")

    before = len(list((tmp_path / "storage").rglob("*")))
    bash(project, under("Free space")[1])
    assert len(list((tmp_path / "storage").rglob("*"))) < before
    shutil.rmtree(other.folder / ".dvc/cache")
    (other.folder / "data/models/dense.keras").unlink()
    other.run("dvc", "pull", "data/models/dense.keras")
    assert content(other.folder)["data/models/dense.keras"] == model
    project.run("dvc", "pull")


@pytest.mark.long
def test_freeing_space_in_a_shared_cache_spares_the_clones_that_are_named(
    project: Project, tmp_path: Path
) -> None:
    shown = "dvc gc --all-commits --all-experiments --projects ../teammate"
    assert f"`{shown}`" in (TOP / "docs/share.md").read_text()
    project.run("git", "clone", "--quiet", ".", str(tmp_path / "teammate"))
    teammate = Project(tmp_path / "teammate")
    (project.folder / ".dvc/cache").rename(tmp_path / "cache")
    for one in (project, teammate):
        one.run("dvc", "cache", "dir", "--local", str(tmp_path / "cache"))
    (teammate.folder / "new.txt").write_text("new")
    teammate.run("dvc", "add", "new.txt")
    (teammate.folder / "new.txt").unlink()
    project.run(*shown.split(), "--force")
    teammate.run("dvc", "checkout", "new.txt")
    (teammate.folder / "new.txt").unlink()
    bash(project, under("Free space")[0])
    teammate.run("dvc", "checkout", "new.txt", fails=True)


@pytest.mark.long
def test_a_folder_by_a_relative_path_is_lost_on_another_project(
    project: Project, tmp_path: Path
) -> None:
    ready(project)
    project.run("dvc", "remote", "add", "--default", "storage", "../storage")
    bash(project, under("Give results to others")[0])
    (tmp_path / "far/away").mkdir(parents=True)
    other = Project(tmp_path / "far/away/other")
    other.folder.mkdir()
    other.environment |= {"ORIGIN": project.environment["ORIGIN"]}
    bring = under("Give a model to another project", set())[0]
    bash(other, bring, fails=True)
    project.run("dvc", "remote", "modify", "storage", "url", project.environment["STORAGE"])
    project.run("git", "commit", "--all", "--quiet", "--message=The whole path")
    project.run("git", "push", "--quiet")
    bash(other, bring)
