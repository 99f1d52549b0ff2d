"""What is made of models: the sections `repeated` and `ensembles` of `params.yaml`."""

from collections.abc import Iterable
from itertools import product
from typing import Annotated, NamedTuple

from pydantic import Field

from stages.lib import params
from stages.lib.command import UserError
from stages.lib.params import Section, TrainingSeed


class Repeat(NamedTuple):
    """A training of `model` under another `seed`, on a `share` of the training images."""

    model: str
    seed: int
    share: int | float

    @property
    def key(self) -> str:
        """What its stage and its files are called, as DVC's `matrix` makes it."""
        return f"{self.model}-{self.seed}-{self.share}"


class Repeated(Section):
    """`repeated`: each of `models` is trained under each of `seeds` on each of `shares`."""

    models: list[str]
    seeds: list[TrainingSeed]
    shares: list[Annotated[int | float, Field(gt=0, le=1)]]


class Ensemble(Section):
    """`ensembles.E`: models of a `dataset`, or repeats on all of it, which answer together."""

    dataset: str
    members: list[str]


def read_repeats() -> dict[str, Repeat]:
    """Returns the repeats that `params.yaml` asks for, by their keys.

    Raises:
        UserError: The section is wrong, or names something twice or a model that is not there.
    """
    sections = params.load()
    if "repeated" not in sections:
        return {}
    asked = params.check("repeated", sections["repeated"], Repeated)
    for name in ("models", "seeds", "shares"):
        _refuse_twice(getattr(asked, name), f"repeated.{name}")
    repeats = [Repeat(*each) for each in product(asked.models, asked.seeds, asked.shares)]
    return {repeat.key: repeat for repeat in repeats}


def find_repeat(model: str, seed: str, share: str) -> Repeat:
    """Returns the repeat of `params.yaml` that the arguments of a command name."""
    repeats = read_repeats()
    key = f"{model}-{seed}-{share}"
    if key not in repeats:
        known = ", ".join(repeats) or "none"
        raise UserError(f"params.yaml: repeated: gives no repeat '{key}' (known: {known})")
    return repeats[key]


def read_ensembles() -> dict[str, Ensemble]:
    """Returns the ensembles that `params.yaml` asks for, by their names.

    Raises:
        UserError: An entry is wrong, or names a member that is not there or is of other data.
    """
    sections = params.load()
    models = params.list_models(sections)
    ensembles = params.check("ensembles", sections.get("ensembles") or {}, dict[str, Ensemble])
    repeats = {key: each for key, each in read_repeats().items() if each.share == 1}
    for name, ensemble in ensembles.items():
        key = f"ensembles.{name}"
        if len(ensemble.members) < 2:
            raise UserError(f"params.yaml: {key}.members: expected two or more")
        _refuse_twice(ensemble.members, f"{key}.members")
        for place, member in enumerate(ensemble.members):
            where = f"{key}.members[{place}]"
            known = [*models, *repeats]
            params.check_known(member, known, f"no model and no repeat '{member}'", where)
            of = models[repeats[member].model if member in repeats else member].get("dataset")
            if of != ensemble.dataset:
                raise UserError(
                    f"params.yaml: {where}: {member} is of the dataset '{of}', expected one of "
                    f"'{ensemble.dataset}', as the ensemble is"
                )
    return ensembles


def _refuse_twice(values: Iterable[object], key: str) -> None:
    values = list(values)
    for place, value in enumerate(values):
        if value in values[:place]:
            raise UserError(f"params.yaml: {key}[{place}]: {value} stands there twice")
