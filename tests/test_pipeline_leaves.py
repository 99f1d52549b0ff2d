"""Every value of params.yaml and every file of code changes the stages it affects, and no others.

DVC is asked about the project's own dvc.yaml and params.yaml: which stages have changed, and which
would run with those downstream. Nothing is run for that: the outputs are placeholders that
`dvc commit` has recorded. That a run stops where the bytes are the same is shown by real ones in
test_pipeline_graph.py.
"""

import ast
import contextlib
import copy
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import reduce
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

TOP = Path(__file__).parent.parent
PARAMS = YAML(typ="safe").load(TOP / "params.yaml")
# The project's own fine-tunes, exports and repeats nothing, and has no ensemble.
PARAMS["fine_tuned"] = {
    "tuned": {
        "dataset": "mnist",
        "network": {"start_from": "mnist_dense", "head": [{"Dense": {"units": 10}}]},
        "training": {"optimizer": "Adam", "batch_size": 16, "epochs": 1},
        "published": {"test_accuracy": 0.9},
    }
}
PARAMS["exports"] = {"mnist_cnn": ["onnx"], "tuned": ["litert"]}
REPEATED = ["mnist_dense", "tuned"]
PARAMS["repeated"] = {"models": REPEATED, "seeds": [0, 3], "shares": [1]}
PARAMS["ensembles"] = {"both": {"dataset": "mnist", "members": ["mnist_cnn", "mnist_dense-3-1"]}}
STAGES = YAML(typ="safe").load(TOP / "dvc.yaml")["stages"]
FILES = sorted(
    str(path.relative_to(TOP))
    for path in (TOP / "stages").rglob("*")
    if path.is_file() and path.suffix != ".pyc" and path.name != "__init__.py"
)

# What a change of one value touches; all that lies downstream follows (`downstream`). The first
# rule that fits holds. D, M, F and E stand for a dataset, a model, a fine-tuned one and an
# ensemble, * for all.
FINE_TUNE = ("fine_tune", "evaluate_fine_tuned", "plot_fine_tuned")
NEXT = dict(pairwise(["download", "prepare", "split"]))
NEXT |= dict(pairwise(["train", "evaluate", "plot"])) | dict(pairwise(FINE_TUNE))
NEXT |= {"repeat": "evaluate_repeat", "ensemble": "plot_ensemble"}
SECTIONS = dict.fromkeys(FINE_TUNE, "fine_tuned") | {"export": "exports"}
SECTIONS |= dict.fromkeys(("ensemble", "plot_ensemble"), "ensembles")
EVALUATED = ["evaluate@*", "evaluate_fine_tuned@*", "evaluate_repeat@*"]
FINE_TUNED = ["fine_tune@F", "evaluate_fine_tuned@F", "plot_fine_tuned@F"]
RULES = {
    "datasets.D.download": ["download@D", "report"],
    "datasets.D.prepare": ["prepare@D", "report"],
    "datasets.D.split": ["split@D", "report"],
    "training": ["train@*", "fine_tune@*", "repeat@*", "report"],
    "models.M.dataset": ["train@M", "evaluate@M", "plot@M", "report"],
    "models.M.network": ["train@M", "plot@M", "report"],
    "models.M.training": ["train@M", "evaluate@M", "plot@M", "report"],
    "models.M.published": ["plot@M", "report"],
    "fine_tuned.F.dataset": [*FINE_TUNED, "report"],
    "fine_tuned.F.network": ["fine_tune@F", "plot_fine_tuned@F", "report"],
    "fine_tuned.F.training": [*FINE_TUNED, "report"],
    "fine_tuned.F.published": ["plot_fine_tuned@F", "report"],
    "exports.M": ["export@M"],
    "ensembles.E": ["ensemble@E", "plot_ensemble@E", "report"],
    "evaluation.batch_size": [*EVALUATED, "export@*", "report"],
    "evaluation.seed": [*EVALUATED, "ensemble@*", "report"],
    "evaluation.threads": [*EVALUATED, "export@*", "report"],
    "evaluation": [*EVALUATED, "report"],
    "plots.feature_maps": ["plot@*", "plot_fine_tuned@*", "plot_ensemble@*"],
    "plots": ["plot@*", "plot_fine_tuned@*", "plot_ensemble@*", "report"],
    "report": ["report"],
}
# Another valid value for each word that stands in params.yaml.
WORDS = {
    "source": "web",
    "format": "idx",
    "interpolation": "linear",
    "device": "cpu",
    "precision": "mixed_float16",
    "processor": "this",
    "dataset": "mnist",
    "start_from": "mnist_cnn",
    "optimizer": "Nadam",
    "activation": "tanh",
    "mode": "vertical",
    "application": "MobileNetV2",
    "kernel_initializer": "GlorotNormal",
    "title": "Another title",
    "submission": "probability",
    "0": "savedmodel",  # the first of a list
    "1": "mnist_cnn_deep",
}
Path_ = tuple[str | int, ...]


def leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yields the path of every value, an empty mapping being one too."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from leaves(below, (*path, key))
    elif isinstance(value, list) and value:
        for index, below in enumerate(value):
            yield from leaves(below, (*path, index))
    else:
        yield path


def another(value: Any, name: str | int) -> Any:
    """Returns a valid value for the key `name` that is not `value`."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.9
    if value in ({}, None):
        return {"name": "another"}
    word = WORDS[str(name)]
    return word if value != word else {"mnist": "cats_dogs", "idx": "photos"}[word]


def with_change(params: Any, path: Path_) -> Any:
    if not path:
        return params
    key, *rest = path
    changed = params.copy()
    if rest:
        changed[key] = with_change(params[key], tuple(rest))
    else:
        changed[key] = another(params[key], key)
    return changed


def rule_of(path: Path_) -> str:
    """Returns the first rule that fits a change at `path`."""
    for rule in RULES:
        names = rule.split(".")
        if len(path) >= len(names) and all(
            name == at or name in ("D", "M", "F", "E")
            for name, at in zip(names, path, strict=False)
        ):
            return rule
    raise AssertionError(f"no rule says which stages {path} affects")


def keys_of(stage: str) -> list[str]:
    """Returns the keys of all stages of one name."""
    if stage in ("repeat", "evaluate_repeat"):
        return [f"{model}-{seed}-1" for model in REPEATED for seed in (0, 3)]
    return [*PARAMS[SECTIONS.get(stage, "models")]]


def touched(path: Path_) -> set[str]:
    """Returns the stages that the rules give for a change at `path`."""
    found = set()
    for stage in RULES[rule_of(path)]:
        name, _, key = stage.partition("@")
        keys = keys_of(name) if key == "*" else [str(path[1])] if key else []
        found |= {f"{name}@{each}" for each in keys} or {name}
    return found


def downstream(stages: set[str], params: Any) -> set[str]:
    """Returns `stages` and all that lies downstream of them, with these `params`."""
    found, waiting = set(stages), list(stages)
    while waiting:
        name, _, key = waiting.pop().partition("@")
        after = {f"{NEXT[name]}@{key}"} if name in NEXT else set()
        if name == "split":
            below = {"train": "models", "fine_tune": "fine_tuned", "ensemble": "ensembles"}
            for stage, section in below.items():
                entries = params[section].items()
                after |= {f"{stage}@{each}" for each, m in entries if m["dataset"] == key}
        repeats = [each for each in keys_of("repeat") if each.startswith(f"{key}-")]
        if name in ("train", "fine_tune"):
            after |= {f"repeat@{each}" for each in repeats}
        if name == "train":
            entries = params["fine_tuned"].items()
            after |= {f"fine_tune@{f}" for f, m in entries if m["network"]["start_from"] == key}
        if name in ("evaluate", "evaluate_fine_tuned"):
            after |= {f"export@{key}"} if key in params["exports"] else set()
            after |= {f"evaluate_repeat@{each}" for each in repeats}
        if name in ("evaluate", "evaluate_fine_tuned", "evaluate_repeat"):
            after |= {f"ensemble@{each}" for each in params["ensembles"]}
        waiting += after - found
        found |= after
    # The report shows no model's figures, and no exports: it does not lie downstream of these.
    return found | {"report" for stage in found if not stage.startswith(("plot", "export"))}


# A change of `repeated` is one of the stages that there are: a test of its own is below.
LEAVES = [leaf for leaf in leaves(PARAMS) if leaf[0] != "repeated"]
# Some seconds' work each: the first of each rule changes alone. Of the others, which no stage of
# another model or dataset can hide, one of each entry changes at once.
FIRST = {rule_of(path): path for path in reversed(LEAVES)}.values()
OTHERS = [path for path in LEAVES if path not in FIRST]


def at_once() -> list[list[Path_]]:
    """Returns the other values in groups, one of each dataset, model and so on in a group."""
    alone, entries = [], defaultdict(list)
    for path in OTHERS:
        if {"D", "M", "F", "E"} & {*rule_of(path).split(".")}:
            entries[path[:2]].append(path)
        else:  # it affects stages of all
            alone.append([path])
    return alone + [[path for path in group if path] for group in zip_longest(*entries.values())]


def dotted(path: Path_) -> str:
    return ".".join(map(str, path))


class Recorded:
    """The project with placeholders for outputs, all of them recorded as up to date."""

    def __init__(self, folder: Path):
        self.folder = folder
        shutil.copytree(
            TOP / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__")
        )
        for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(TOP / name, folder)
        YAML().dump(PARAMS, folder / "params.yaml")
        shutil.copytree(TOP / ".dvc/plots", folder / ".dvc/plots")
        (folder / ".dvc/config").touch()
        subprocess.run(["git", "init", "--quiet", "."], cwd=folder, check=True)
        repo = Repo(str(folder))
        for out in repo.index.outs:
            path = Path(out.fs_path)
            if not path.suffix:
                path = path / "file.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(path))
        for dependency in repo.index.deps:
            path = Path(dependency.fs_path)
            if not path.exists():  # one file of a folder that is an output
                path.write_text(str(path))
        subprocess.run(
            [sys.executable, "-m", "dvc", "commit", "--force", "--quiet"], cwd=folder, check=True
        )

    def changed(self) -> set[str]:
        """Returns the stages that `dvc status` says have changed."""
        with contextlib.chdir(self.folder):
            return set(Repo(".").status())

    def planned(self) -> set[str]:
        """Returns the stages that `dvc repro --dry --force-downstream` would run."""
        with contextlib.chdir(self.folder):
            stages = Repo(".").reproduce(dry=True, force_downstream=True)
        return {stage.addressing for stage in stages}


@pytest.fixture(scope="module", autouse=True)
def _parse_each_text_once() -> Iterator[None]:
    """DVC parses params.yaml anew for every stage: with that, this file would take minutes."""
    parse = YAML.load
    parsed: dict[str, Any] = {}

    def load(self: YAML, stream: Any) -> Any:
        if not isinstance(stream, str) or self.typ != ["safe"]:
            return parse(self, stream)
        if stream not in parsed:
            parsed[stream] = parse(self, stream)
        return copy.deepcopy(parsed[stream])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(YAML, "load", load)
        yield


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def params_file(recorded: Recorded) -> Iterator[Path]:
    path = recorded.folder / "params.yaml"
    text = path.read_text()
    yield path
    path.write_text(text)


def test_nothing_has_changed_when_all_is_recorded(recorded: Recorded) -> None:
    assert recorded.changed() == set()


@pytest.mark.slow
@pytest.mark.parametrize("leaf", FIRST, ids=dotted)
def test_a_changed_value_changes_the_stages_it_affects_and_no_others(
    recorded: Recorded, params_file: Path, leaf: Path_
) -> None:
    YAML().dump(with_change(PARAMS, leaf), params_file)
    assert recorded.changed() == touched(leaf)


@pytest.mark.long
@pytest.mark.parametrize("group", at_once(), ids=len)
def test_every_other_value_does_too(
    recorded: Recorded, params_file: Path, group: list[Path_]
) -> None:
    YAML().dump(reduce(with_change, group, PARAMS), params_file)
    assert recorded.changed() == set().union(*map(touched, group))


@pytest.mark.slow
@pytest.mark.parametrize("leaf", FIRST, ids=dotted)
def test_a_changed_value_runs_the_stages_it_affects_and_all_below_them(
    recorded: Recorded, params_file: Path, leaf: Path_
) -> None:
    params = with_change(PARAMS, leaf)
    YAML().dump(params, params_file)
    assert recorded.planned() == downstream(touched(leaf), params)


def test_order_and_comments_change_nothing(recorded: Recorded, params_file: Path) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    YAML().dump(turned(PARAMS), params_file)
    params_file.write_text("# A new comment\n" + params_file.read_text())
    assert recorded.changed() == set()


def test_adding_removing_and_reordering_models_touches_no_other(
    recorded: Recorded, params_file: Path
) -> None:
    models = PARAMS["models"]
    added = {"another": models["mnist_dense"], **models}
    YAML().dump(PARAMS | {"models": added}, params_file)
    assert recorded.changed() == {"train@another", "evaluate@another", "plot@another", "report"}
    removed = {name: model for name, model in models.items() if name != "mnist_dense"}
    YAML().dump(PARAMS | {"models": removed}, params_file)
    assert recorded.changed() == {"report"}
    YAML().dump(PARAMS | {"models": dict(reversed(models.items()))}, params_file)
    assert recorded.changed() == set()


def test_a_seed_more_is_a_stage_more_and_a_seed_fewer_touches_the_report_alone(
    recorded: Recorded, params_file: Path
) -> None:
    new = ("mnist_dense-7-1", "tuned-7-1")
    more = {f"{stage}@{key}" for stage in ("repeat", "evaluate_repeat") for key in new}
    for seeds, added in (([3, 0, 7], more), ([0], set())):
        YAML().dump(PARAMS | {"repeated": PARAMS["repeated"] | {"seeds": seeds}}, params_file)
        assert recorded.changed() == added | {"report"}


def imported_files(path: str) -> set[str]:
    """Returns `path` and the files under stages/ that it imports, directly or through others."""
    found, waiting = set(), [path, "stages/__init__.py"]  # which Python runs first
    while waiting:
        at = waiting.pop()
        if at in found:
            continue
        found.add(at)
        for node in ast.walk(ast.parse((TOP / at).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            files = [name.replace(".", "/") + ".py" for name in names]
            waiting += [name for name in files if name in FILES]
    return found - {"stages/__init__.py"}


@pytest.fixture(scope="module")
def listed(recorded: Recorded) -> dict[str, set[str]]:
    """The files under stages/ that each stage lists in dvc.yaml."""
    return {
        stage.name: {
            file
            for file in FILES
            for dependency in stage.deps
            if f"{file}/".startswith(f"{dependency.def_path}/")
        }
        for stage in Repo(str(recorded.folder)).index.stages
    }


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_lists_the_files_that_it_imports_and_no_others(
    listed: dict[str, set[str]], name: str
) -> None:
    command = STAGES[name].get("do", STAGES[name])["cmd"]
    module = re.sub(r".* -m stages\.(\w+).*", r"stages/\1.py", command)
    for stage in (stage for stage in listed if stage.split("@")[0] == name):
        code = {path for path in listed[stage] if path.endswith(".py")}
        assert code == imported_files(module), stage
        # What is no code is read by its name, which stands in code or in a template.
        texts = [(TOP / path).read_text() for path in listed[stage]]
        named = {
            file
            for file in FILES
            if not file.endswith(".py") and any(f'"{Path(file).name}"' in text for text in texts)
        }
        assert listed[stage] - code == named, stage


@pytest.mark.slow
def test_a_changed_file_changes_the_stages_that_list_it_and_no_others(
    recorded: Recorded, listed: dict[str, set[str]]
) -> None:
    # One file for all that the same stages list: DVC knows no difference between these.
    alike = {
        frozenset(stage for stage, files in listed.items() if file in files): file for file in FILES
    }
    assert len(alike) > 10
    for stages, file in alike.items():
        path = recorded.folder / file
        content = path.read_bytes()
        path.write_bytes(content + b"\n# A new comment\n")
        try:
            assert recorded.changed() == stages, file
        finally:
            path.write_bytes(content)
