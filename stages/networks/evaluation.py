"""How saved networks are evaluated: the section `evaluation` of `params.yaml`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from stages.lib import params
from stages.lib.params import Section
from stages.networks.keras_file import load_model
from stages.networks.runtime import Device, Processor, keras, set_up
from stages.networks.views import Views


class Options(Section):
    """`evaluation`: how all models are evaluated.

    `seed` chooses the images and the hidden units that the pictures show; `submission` says what
    `submission.csv` holds; `test_time` has the views of an image whose mean counts, by model.
    """

    device: Device
    processor: Processor = "any"
    threads: PositiveInt
    batch_size: PositiveInt
    seed: int = Field(ge=0)
    submission: Literal["class", "probability"] = "class"
    test_time: dict[str, Views] = Field(default_factory=dict)


def read_options() -> Options:
    """Returns the section; raises a `UserError` if it is wrong, or names an unknown model."""
    options = params.read("evaluation", Options)
    models = params.list_models(params.load())
    params.check_names(options.test_time, models, "evaluation.test_time.")
    return options


def open_model(path: Path, options: Options) -> keras.Model:
    """Sets TensorFlow up as `options` say, and returns the network in the file `path`.

    Raises:
        UserError: There is no such file, it is damaged, or `options` cannot run it.
    """
    runtime = set_up(options.device, options.threads, options.processor)
    model = load_model(path)
    runtime.check(model)
    return model
