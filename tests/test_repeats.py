"""Models trained again under several seeds and on shares of their images, and ensembles."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TOP, Project
from ruamel.yaml import YAML

from stages import ensemble
from stages.lib.command import UserError
from stages.lib.files import read_json
from stages.lib.images import Images
from stages.lib.repeats import read_ensembles, read_repeats
from stages.lib.splits import Part
from stages.networks.entry import take_share
from stages.pictures.amount import describe_band, list_lines
from stages.results.tables import over_seeds

REPEATED = {"models": ["dense"], "seeds": [0, 1], "shares": [1]}


def part(*counts: int) -> Part:
    """Images of one pixel, each with a number of its own, in mixed order."""
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    labels = np.random.default_rng(5).permutation(labels)
    return Part(Images(np.arange(len(labels)).reshape(-1, 1, 1, 1)), labels)


def test_a_share_has_its_part_of_each_class_and_at_least_one_image() -> None:
    chosen = take_share(part(100, 40, 2), 0.1, seed=0)
    assert np.bincount(chosen.labels).tolist() == [10, 4, 1]


def test_a_share_keeps_the_order_and_the_labels_of_its_images() -> None:
    whole = part(50, 30)
    chosen = take_share(whole, 0.3, seed=0)
    rows = chosen.images[:].ravel()
    assert (np.diff(rows) > 0).all()
    assert (whole.labels[rows] == chosen.labels).all()


def test_a_larger_share_has_the_images_of_a_smaller_one_and_another_seed_has_others() -> None:
    def rows(share: float, seed: int = 0) -> set[int]:
        return set(take_share(part(50, 30), share, seed).images[:].ravel().tolist())

    assert rows(0.1) < rows(0.3) < rows(0.99)
    assert rows(0.3) == rows(0.3)
    assert rows(0.3) != rows(0.3, seed=1)


def test_a_share_of_one_is_all_images_as_they_are() -> None:
    whole = part(5, 3)
    assert take_share(whole, 1, seed=0) is whole
    assert take_share(whole, 1.0, seed=7) is whole


def test_the_mean_is_that_of_float64_in_the_type_of_the_predictions() -> None:
    members = np.array([[[0.1, 0.9]], [[0.7, 0.3]], [[0.25, 0.75]]], np.float32)
    found = ensemble.average(members)
    assert found.dtype == np.float32
    exact = members.astype(np.float64).sum(0) / 3
    assert (found == exact.astype(np.float32)).all()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"models": ["dens"]}, "repeated.models[0]: no model 'dens'; did you mean 'dense'?"),
        ({"models": "dense"}, "repeated.models: expected a valid list, found 'dense'"),
        ({"seeds": [0, 0]}, "repeated.seeds[1]: 0 stands there twice"),
        ({"seeds": [-1]}, "repeated.seeds.0: expected greater than or equal to 0, found -1"),
        ({"shares": [1, 1.0]}, "repeated.shares[1]: 1.0 stands there twice"),
        ({"shares": [30]}, "repeated.shares.0"),
        ({"share": [1]}, "repeated.share: unknown key; did you mean 'shares'?"),
    ],
)
def test_a_wrong_repeat_is_said_in_one_line(
    section: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(tmp_path, monkeypatch, repeated=REPEATED | section)
    with pytest.raises(UserError, match=rf"^params\.yaml: {re.escape(message)}.*$"):
        read_repeats()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"members": ["dense", "dense-1-0.5"]}, "members[1]: no model and no repeat 'dense-1-0.5'"),
        ({"members": ["dense", "dense-2-1"]}, "no repeat 'dense-2-1'; did you mean 'dense-1-1'?"),
        ({"members": ["dense", "cnn"]}, "members[1]: cnn is of the dataset 'pictures', expected"),
        ({"members": ["dense"]}, "members: expected two or more"),
        ({"members": ["dense", "dense"]}, "members[1]: dense stands there twice"),
        ({"membres": []}, "membres: unknown key; did you mean 'members'?"),
    ],
)
def test_a_wrong_ensemble_is_said_in_one_line(
    entry: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"dataset": "digits", "members": ["dense", "dense-1-1"]}
    repeated = REPEATED | {"shares": [1, 0.5]}
    write_params(tmp_path, monkeypatch, repeated=repeated, ensembles={"both": both | entry})
    with pytest.raises(UserError, match=rf"^params\.yaml: ensembles\.both.*{re.escape(message)}"):
        read_ensembles()


def write_params(folder: Path, patch: pytest.MonkeyPatch, **sections: Any) -> None:
    YAML().dump(YAML().load(TOP / "tests/params.yaml") | sections, folder / "params.yaml")
    patch.chdir(folder)


def test_a_member_that_answered_other_images_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("data/predictions/dense")
    folder.mkdir(parents=True)
    np.save(folder / "test_probabilities.npy", np.full((4, 2), 0.5, np.float32))
    np.save(folder / "test_labels.npy", np.array([0, 1, 0, 1], np.uint8))
    same, turned, fewer = (
        np.array([0, 1, 0, 1], np.uint8),
        np.array([1, 0, 1, 0], np.uint8),
        np.array([0, 1], np.uint8),
    )
    assert len(ensemble.read_members(["dense"], "test", same, "key")) == 1
    for labels in (turned, fewer):
        with pytest.raises(UserError, match=r"key\[0\]: dense answered 4 test images, expected"):
            ensemble.read_members(["dense"], "test", labels, "key")


def test_one_seed_has_no_standard_deviation() -> None:
    row = {"seeds": 1, "test_accuracy_mean": 0.9, "test_accuracy_sd": None}
    row |= {"test_accuracy_min": 0.9, "test_accuracy_max": 0.9}
    assert over_seeds(row) == ["1 seed: 90.00%"]


def test_shares_that_give_as_many_images_are_not_taken_for_more_seeds() -> None:
    columns = ["model", "seed", "share", "training_images", "test_accuracy"]
    shares = {0.01: 3, 0.02: 3, 1: 60}  # one image of each class is the least
    rows = [("m", seed, share, shares[share], 0.5) for seed in (0, 1) for share in shares]
    lines = list_lines({"d": [{"model": "m"}]}, pd.DataFrame(rows, columns=columns))
    assert describe_band(lines).startswith("A line is the mean over 2 seeds.")
    assert lines["d"][0].images.tolist() == [3, 3, 60]


def stages_of(*keys: str) -> set[str]:
    """The two stages of each repeat."""
    return {f"{stage}@{key}" for stage in ("repeat", "evaluate_repeat") for key in keys}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def repeated(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project with a model under two seeds, and an ensemble of it and the other seed."""
    project = reproduced.copy(tmp_path_factory.mktemp("repeated") / "project")
    project.set_param("repeated", REPEATED)
    project.set_param(
        "ensembles", {"both": {"dataset": "digits", "members": ["dense", "dense-1-1"]}}
    )
    after = {"ensemble@both", "plot_ensemble@both", "report"}
    assert project.repro() == stages_of("dense-0-1", "dense-1-1") | after
    return project


def test_under_its_own_seed_a_model_comes_out_as_it_is(repeated: Project) -> None:
    data = repeated.folder / "data"
    own, other = (
        files(data / "repeats" / key) | files(data / "predictions" / key)
        for key in ("dense-0-1", "dense-1-1")
    )
    for name, path in (
        ("history.csv", "history/dense.csv"),
        ("model.keras", "models/dense.keras"),
        ("valid_probabilities.npy", "predictions/dense/valid_probabilities.npy"),
        ("test_probabilities.npy", "predictions/dense/test_probabilities.npy"),
    ):
        assert own[name] == (data / path).read_bytes()
        assert own[name] != other[name]
    assert own["metrics.json"] == (repeated.folder / "reports/repeats/dense-0-1.json").read_bytes()
    assert not list(repeated.folder.glob("data/checkpoints/*"))


def test_an_ensemble_is_the_mean_of_its_members_and_is_evaluated_like_a_model(
    repeated: Project,
) -> None:
    data = repeated.folder / "data"
    members = (data / "predictions/dense", data / "predictions/dense-1-1")
    for name in ("valid_probabilities.npy", "test_probabilities.npy"):
        mean = np.mean([np.load(folder / name) for folder in members], 0, np.float64)
        assert (np.load(data / "ensembles/both" / name) == mean.astype(np.float32)).all()
    metrics = read_json(repeated.folder / "reports/ensembles/both.json")
    right = mean.argmax(1) == np.load(data / "ensembles/both/test_labels.npy")
    assert metrics["test_accuracy"] == round(right.mean(), 4)
    of_one = read_json(repeated.folder / "reports/metrics/dense.json")
    assert metrics["parameters"] == 2 * of_one["parameters"]
    page = (repeated.folder / "reports/models/both.html").read_text()
    assert "dense-1-1" in page
    assert "mean of 2 members" in page
    assert {"confusion_matrix.png", "reliability.png", "predictions.png"} <= {
        path.name for path in (repeated.folder / "reports/figures/both").iterdir()
    }
    assert 'href="models/both.html"' in (repeated.folder / "reports/index.html").read_text()


def test_the_tables_have_the_spread_over_the_seeds(repeated: Project) -> None:
    rows = read_csv(repeated.folder / "reports/repeats.csv")
    assert [(row["model"], row["seed"], row["share"]) for row in rows] == [
        *(("dense", "0", "1"), ("dense", "1", "1"))
    ]
    accuracies = [float(row["test_accuracy"]) for row in rows]
    table = {row["model"]: row for row in read_csv(repeated.folder / "reports/accuracy.csv")}
    assert table["dense"]["seeds"] == "2"
    assert float(table["dense"]["test_accuracy_mean"]) == pytest.approx(np.mean(accuracies))
    sd = float(table["dense"]["test_accuracy_sd"])
    assert sd == pytest.approx(np.std(accuracies, ddof=1), abs=1e-4)
    assert table["cnn"]["seeds"] == table["both"]["seeds"] == ""
    assert "2 seeds" in (repeated.folder / "reports/accuracy.md").read_text()
    assert "over seeds: mean" in (repeated.folder / "reports/index.html").read_text()
    assert not (repeated.folder / "reports/overview/amount.png").exists()
    shown = repeated.run("dvc", "metrics", "show")
    assert "reports/repeats/dense-1-1.json" in shown
    assert "reports/ensembles/both.json" in shown
    assert repeated.repro() == set()


@pytest.fixture
def own(repeated: Project, tmp_path: Path) -> Project:
    """A copy of the repeated project, to be changed."""
    return repeated.copy(tmp_path / "project")


def test_another_share_trains_that_alone_and_draws_accuracy_against_data(own: Project) -> None:
    own.set_param("repeated.shares", [1, 0.3])
    assert own.repro() == stages_of("dense-0-0.3", "dense-1-0.3") | {"ensemble@both", "report"}
    assert (own.folder / "reports/overview/amount.png").exists()
    assert "2 seeds" in (own.folder / "reports/index.html").read_text()
    images = [int(row["training_images"]) for row in read_csv(own.folder / "reports/repeats.csv")]
    whole = read_json(own.folder / "data/splits/digits/summary.json")["images"]["train"]
    assert (
        images
        == [sum(round(0.3 * count) for count in whole.values())] * 2 + [sum(whole.values())] * 2
    )


@pytest.mark.long
def test_another_way_to_ask_evaluates_repeats_as_it_does_their_model_and_trains_none(
    own: Project,
) -> None:
    asked = {"evaluate@dense", "evaluate_repeat@dense-0-1", "evaluate_repeat@dense-1-1"}
    shown = {"plot@dense", "ensemble@both", "plot_ensemble@both", "report"}
    predictions = own.folder / "data/predictions"
    before = files(predictions / "dense-0-1")
    own.set_param("evaluation.test_time", {"dense": {"shift": 1}})
    assert own.repro() == {"evaluate@cnn"} | asked | shown
    after = files(predictions / "dense-0-1")
    for name in ("valid_probabilities.npy", "test_probabilities.npy"):
        assert after[name] == (predictions / "dense" / name).read_bytes() != before[name]
    own.set_param("evaluation.batch_size", 7)
    assert own.repro("evaluate_repeat@dense-0-1", "evaluate_repeat@dense-1-1") == asked


@pytest.mark.long
def test_a_seed_fewer_trains_nothing_and_what_it_leaves_is_moved_away(own: Project) -> None:
    trained, answered = (own.folder / f"data/{of}/dense-0-1" for of in ("repeats", "predictions"))
    first = files(trained) | files(answered)
    own.set_param("repeated.seeds", [0])
    own.set_param("ensembles.both.members", ["dense", "dense-0-1"])
    printed = own.run("dvc", "repro")
    assert "so moved to data/leftovers: data/predictions/dense-1-1" in printed
    removal = re.findall("rm -r .*", printed)[0]
    assert {"data/repeats/dense-1-1", "reports/repeats/dense-1-1.json"} <= {*removal.split()}
    assert own.repro() == set()
    own.run("python", "-m", "stages.check")
    # A run anew gives the same bytes, and nothing follows from it.
    for stage in ("repeat@dense-0-1", "evaluate_repeat@dense-0-1"):
        assert own.repro("--force", "--single-item", stage) == {stage}
    assert files(trained) | files(answered) == first
    assert own.repro() == set()


@pytest.mark.long
def test_fine_tuned_models_are_repeated_and_repeats_follow_their_model(own: Project) -> None:
    recipe = {"optimizer": "Adam", "batch_size": 20, "epochs": 1}
    network = {"start_from": "cnn", "head": [{"Dense": {"units": 4}}]}
    tuned = {"dataset": "pictures", "network": network, "training": recipe}
    own.set_param("fine_tuned", {"tuned": tuned})
    own.set_param("repeated.models", ["dense", "tuned"])
    assert stages_of("tuned-0-1", "tuned-1-1") | {"report"} <= own.repro()
    data = own.folder / "data"
    same = (data / "predictions/tuned/test_probabilities.npy").read_bytes()
    assert (data / "predictions/tuned-0-1/test_probabilities.npy").read_bytes() == same
    same = (data / "models/tuned.keras").read_bytes()
    assert (data / "repeats/tuned-0-1/model.keras").read_bytes() == same
    # A model whose own training changes is trained again under all seeds.
    own.set_param("models.dense.training.steps", 4)
    assert stages_of("dense-0-1", "dense-1-1") <= own.repro()


@pytest.mark.long
def test_pushed_repeats_are_pulled_and_not_trained_again(own: Project, tmp_path: Path) -> None:
    own.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    own.run("dvc", "push", "--quiet", "--run-cache")
    own.run("git", "add", "--all")
    own.run("git", "commit", "--quiet", "--message=Repeats")
    colleague = Project(tmp_path / "colleague/project")
    own.run("git", "clone", "--quiet", ".", str(colleague.folder))
    assert colleague.repro("--pull") == set()
    for name in ("data/repeats/dense-1-1", "data/predictions/dense-1-1", "data/ensembles/both"):
        assert files(colleague.folder / name) == files(own.folder / name)
    assert colleague.run("git", "status", "--porcelain") == ""
