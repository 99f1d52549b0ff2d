"""`submission.csv`: a row for each photograph without a label, whatever Kaggle asks for."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib import params
from stages.lib.command import UserError
from stages.lib.images import Images
from stages.lib.splits import Unlabelled
from stages.results.submission import Content, submit

PRIOR = np.array([0.4, 0.6])


def submitted(
    names: list[str],
    probabilities: Any,
    classes: list[str],
    content: Content = "class",
    left_out: tuple[str, ...] = (),
    prior: np.ndarray = PRIOR,
) -> list[list[str]]:
    images = np.zeros((len(names), 2, 2, 3), np.uint8)
    unlabelled = Unlabelled(Images(images), np.array(names, np.str_), np.array(left_out, np.str_))
    said = np.array(probabilities, np.float32).reshape(len(names), len(classes))
    text = submit(unlabelled, said, prior, classes, content).to_csv(
        index=False, float_format="%.4f"
    )
    return list(csv.reader(text.splitlines()))


def test_two_classes_are_0_and_1_as_dogs_vs_cats_asks_for() -> None:
    rows = submitted(["2", "1"], [[0.9, 0.1], [0.2, 0.8]], ["cat", "dog"])
    assert rows == [["id", "label"], ["1", "1"], ["2", "0"]]


def test_more_classes_are_called_by_their_names() -> None:
    rows = submitted(["a", "b"], np.eye(3)[[2, 0]], ["NA", "eel", "001"], prior=np.ones(3) / 3)
    assert rows == [["id", "label"], ["a", "001"], ["b", "NA"]]


def test_the_probability_is_that_of_the_second_class_in_all_its_digits() -> None:
    said = [[0.9, 0.1], [1, 2e-6], [1e-7, 0.9999999]]
    rows = submitted(["1", "2", "3"], said, ["cat", "dog"], "probability")
    assert rows[0] == ["id", "label"]
    assert [float(row[1]) for row in rows[1:]] == pytest.approx([0.1, 2e-6, 0.9999999], rel=1e-6)


def test_of_more_classes_each_has_a_column_of_probabilities() -> None:
    rows = submitted(
        ["1"], [[0.25, 0.5, 0.25]], ["id", "b", "c"], "probability", prior=np.ones(3) / 3
    )
    assert rows == [["id", "id", "b", "c"], ["1", "0.25", "0.5", "0.25"]]


def test_a_photograph_without_an_image_is_given_what_is_most_frequent() -> None:
    rows = submitted(["3", "1"], [[0.9, 0.1]] * 2, ["cat", "dog"], left_out=("2", "10"))
    assert rows[1:] == [["1", "0"], ["2", "1"], ["3", "0"], ["10", "1"]]
    rows = submitted([], [], ["cat", "dog"], "probability", left_out=("7",))
    assert rows == [["id", "label"], ["7", "0.6"]]


def test_numbers_come_first_then_names_in_natural_order() -> None:
    names = ["b10", "10", "b2", "NA", "9", "1e3", "²", "001", "nan"]
    rows = submitted(names, [[1, 0]] * len(names), ["cat", "dog"])
    numbers = ["001", "9", "10"]
    assert [row[0] for row in rows[1:]] == [*numbers, "1e3", "NA", "b2", "b10", "nan", "²"]


@pytest.mark.parametrize(("names", "left_out"), [(["1", "1"], ()), (["1", "2"], ("1",))])
def test_two_photographs_of_one_name_are_an_error(
    names: list[str], left_out: tuple[str, ...]
) -> None:
    with pytest.raises(UserError, match="two photographs without labels are called '1'"):
        submitted(names, [[1, 0]] * 2, ["cat", "dog"], left_out=left_out)


def test_another_content_is_an_error_that_names_the_two(tmp_path: Path) -> None:
    from stages.networks.evaluation import Options

    (tmp_path / "params.yaml").write_text(
        "evaluation: {device: cpu, threads: 1, batch_size: 2, seed: 0, submission: classes}\n"
    )
    with pytest.raises(
        UserError, match=r"evaluation\.submission: expected 'class' or 'probability'"
    ):
        params.read("evaluation", Options, tmp_path / "params.yaml")
