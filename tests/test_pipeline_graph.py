"""What reruns when something changes, by the real DVC on the tiny project."""

import json
import re
import shutil

import pytest
from conftest import Project


def stages(text: str) -> set[str]:
    return set(text.split())


def test_the_stages_are_those_of_the_design(project: Project) -> None:
    listed = project.run("dvc", "stage", "list", "--name-only")
    assert stages(listed) == stages(
        "download@digits download@pictures prepare@digits prepare@pictures split@digits "
        "split@pictures train@dense train@cnn evaluate@dense evaluate@cnn plot@dense plot@cnn "
        "report"
    )


def test_a_second_run_runs_nothing(project: Project) -> None:
    assert project.repro() == set()
    assert project.run("git", "status", "--porcelain") == ""


def test_every_output_is_there_and_nothing_is_half_written(reproduced: Project) -> None:
    files = [path for path in reproduced.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if ".part" in path.name]
    for name in ("data/models/dense.keras", "data/history/cnn.csv", "reports/index.html"):
        assert reproduced.folder / name in files
    assert not (reproduced.folder / "data/checkpoints/dense").exists()


def test_changing_one_models_epochs_retrains_that_model_only(project: Project) -> None:
    project.set_param("models.cnn.training.epochs", 1)
    assert project.repro() == stages("train@cnn evaluate@cnn plot@cnn report")
    project.set_param("models.cnn.training.epochs", 2)
    assert project.repro() == set(), "going back runs nothing: the run cache restores all"


def test_adding_a_model_trains_that_model_only_and_removing_it_only_rewrites_the_report(
    project: Project,
) -> None:
    params = project.read_params()
    before = project.read_params()
    params["models"] = {"another": params["models"]["dense"], **params["models"]}
    project.write_params(params)
    assert project.repro() == stages("train@another evaluate@another plot@another report")
    table = project.folder / "reports/accuracy.csv"
    assert [line.split(",")[0] for line in table.read_text().splitlines()] == [
        "model",
        "another",
        "dense",
        "digits: always the commonest class",
        "cnn",
        "pictures: always the commonest class",
    ]
    project.write_params(before)
    printed = project.run("dvc", "repro")
    assert "so moved to data/leftovers: data/history/another.csv" in printed
    assert "another" not in table.read_text()
    assert project.repro() == set(), "what is left of it lies where it changes nothing"
    # As the line that it printed says.
    project.run("sh", "-c", re.findall("rm -r .*", printed)[0])
    assert not list(project.folder.glob("*/*/another*"))
    assert project.repro() == set(), "without its files, all is as it was before"


@pytest.mark.long
def test_changing_the_image_size_runs_all_stages_below_that_dataset(project: Project) -> None:
    project.set_param("datasets.pictures.prepare.image_size", 12)
    assert project.repro() == stages(
        "prepare@pictures split@pictures train@cnn evaluate@cnn plot@cnn report"
    )


@pytest.mark.long
def test_changing_a_splits_seed_runs_from_that_split_on(project: Project) -> None:
    project.set_param("datasets.digits.split.seed", 1)
    assert project.repro() == stages("split@digits train@dense evaluate@dense plot@dense report")


def test_changing_a_plot_style_redraws_and_trains_nothing(project: Project) -> None:
    project.set_param("plots.dpi", 70)
    assert project.repro() == stages("plot@dense plot@cnn report")


def test_changing_the_layers_to_show_redraws_and_leaves_the_report(project: Project) -> None:
    project.set_param("plots.feature_maps", {"cnn": ["conv2d"]})
    assert project.repro() == stages("plot@dense plot@cnn")


def test_changing_a_published_figure_rewrites_the_models_page_and_the_report(
    project: Project,
) -> None:
    project.set_param("models.dense.published.test_accuracy", 0.95)
    assert project.repro() == stages("plot@dense report")
    assert "95.00%" in (project.folder / "reports/models/dense.html").read_text()
    assert "95.00%" in (project.folder / "reports/accuracy.md").read_text()


def test_a_dataset_downloaded_again_unchanged_prepares_nothing(project: Project) -> None:
    assert project.repro("--force", "--single-item", "download@digits") == {"download@digits"}
    assert project.repro() == set()


def test_a_retrained_model_that_comes_out_identical_is_not_evaluated_again(
    project: Project,
) -> None:
    timing = project.folder / "data/timing/cnn.json"
    before = timing.stat().st_mtime_ns
    assert project.repro("--force", "--single-item", "train@cnn") == {"train@cnn"}
    assert timing.stat().st_mtime_ns != before, "it was trained, not restored"
    assert project.repro() == set()


@pytest.mark.long
def test_after_a_run_from_nothing_the_commits_own_lock_is_up_to_date(project: Project) -> None:
    shutil.rmtree(project.folder / ".dvc/cache")
    for name in ("data/history", "data/models", "data/snapshots"):
        shutil.rmtree(project.folder / name)
    assert {"train@dense", "train@cnn"} <= project.repro()
    assert project.run("git", "status", "--porcelain", "--", ":!data/timing") == ""
    project.run("git", "checkout", "--quiet", ".")
    assert project.repro() == set()


def test_a_stage_that_fails_says_why_and_leaves_the_earlier_ones_recorded(
    project: Project,
) -> None:
    project.set_param("datasets.digits.split.seed", 2)
    project.set_param("models.dense.network.layers", ["Flaten"])
    printed = project.run("dvc", "repro", "train@dense", fails=True)
    assert (
        "error: params.yaml: models.dense.network.layers[0]: keras.layers has no 'Flaten'; "
        "did you mean 'Flatten'?"
    ) in printed
    assert "Traceback" not in printed
    status = json.loads(project.run("dvc", "status", "--json", "split@digits"))
    assert status == {}
    assert not (project.folder / "data/models/dense.keras").exists()


@pytest.mark.parametrize(
    ("key", "value", "stage", "expected"),
    [
        ("datasets.digits.split.sede", 1, "split@digits", "did you mean 'seed'?"),
        ("datasets.digits.prepare.format", "idxx", "prepare@digits", "did you mean 'idx'?"),
        ("datasets.digits.download.source", "sorce", "download@digits", "sorce"),
        ("datasets.pictures.split.test", 39, "split@pictures", "datasets.pictures.split"),
        ("report.titel", "x", "report", "params.yaml: report.titel: unknown key"),
    ],
)
def test_a_wrong_value_is_named_by_its_full_path_before_anything_is_lost(
    project: Project, key: str, value: object, stage: str, expected: str
) -> None:
    project.set_param(key, value)
    printed = project.run("dvc", "repro", "--single-item", stage, fails=True)
    assert expected in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("section", ["fine_tuned", "ensembles", "repeated"])
def test_a_section_that_is_missing_is_named_before_anything_runs(
    project: Project, section: str
) -> None:
    params = project.read_params()
    del params[section], params["datasets"]["digits"]["split"]["seed"]
    project.write_params(params)
    printed = project.run("dvc", "repro", fails=True)
    assert f"Could not find '{section}" in printed
    assert "Running stage" not in printed
