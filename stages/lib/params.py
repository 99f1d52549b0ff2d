"""Reading `params.yaml`: each stage asks for its own section and gets it checked and typed.

The file is parsed as DVC parses it (YAML 1.2, so that `1e-6` is a number). A stage declares the
keys of its section as a `Section`; what stands around the sections is checked here.
"""

import difflib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.command import UserError

KEYS = ("datasets", "training", "models", "evaluation", "plots", "report")
DATASET_KEYS = ("download", "prepare", "split")
MODEL_KEYS = ("dataset", "network", "training", "published")

T = TypeVar("T")


class Section(BaseModel):
    """One section of `params.yaml`: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def load(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """Returns the whole of `params.yaml`, its outline checked but not its sections.

    Raises:
        UserError: The file is missing, is no YAML, has an unknown key around the sections, or a
            model of a dataset that it does not have.
    """
    try:
        params = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise UserError(f"there is no {path} here: run from the project's top folder") from None
    except YAMLError as error:
        raise UserError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(params, dict):
        raise UserError(f"{path} holds {type(params).__name__}, expected keys: {', '.join(KEYS)}")
    check_names(params, KEYS, "")
    for section, keys in (("datasets", DATASET_KEYS), ("models", MODEL_KEYS)):
        entries = params.get(section) or {}
        if not isinstance(entries, dict):
            raise UserError(f"params.yaml: {section}: expected one key for each of the {section}")
        for name, entry in entries.items():
            if not re.fullmatch(r"\w+", str(name), re.ASCII):
                raise UserError(
                    f"params.yaml: {section}.{name}: a name needs letters, digits and _ only"
                )
            if not isinstance(entry, dict):
                raise UserError(f"params.yaml: {section}.{name}: expected keys: {', '.join(keys)}")
            check_names(entry, keys, f"{section}.{name}.")
    datasets = params.get("datasets") or {}
    for name, model in (params.get("models") or {}).items():
        dataset = str(model.get("dataset", ""))
        if datasets and dataset and dataset not in datasets:
            hint = _did_you_mean(dataset, datasets, "") or f" (known: {', '.join(datasets)})"
            raise UserError(f"params.yaml: models.{name}.dataset: no dataset '{dataset}'{hint}")
    return params


def read(key: str, schema: type[T], path: Path = Path("params.yaml")) -> T:
    """Returns the section `key` (such as `datasets.mnist.split`) of `params.yaml` as a `schema`.

    Args:
        key: Names joined by dots.
        schema: A `Section`, or any type that pydantic can check.
        path: The file to read.

    Raises:
        UserError: With the full path of the first wrong key, what is wrong, and the nearest name.
    """
    value: Any = load(path)
    at = ""
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            raise UserError(f"params.yaml: {key} is missing{_did_you_mean(name, value or (), at)}")
        value = value[name]
        at += f"{name}."
    return check(key, value, schema)


def check(key: str, value: Any, schema: type[T]) -> T:
    """Returns `value`, which stands at `key` of `params.yaml`, checked and typed as a `schema`."""
    try:
        return TypeAdapter(schema).validate_python(value)
    except ValidationError as error:
        # A mistyped key is both unknown and missing: the unknown one says more.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        place = _place(value, first["loc"], missing=first["type"] == "missing")
        if first["type"] == "extra_forbidden":
            name, known = str(first["loc"][-1]), _fields(schema, first["loc"][:-1])
            hint = f"unknown key{_did_you_mean(name, known, '')} (known: {', '.join(known)})"
        elif first["type"] == "missing":
            hint = "is missing"
        elif first["type"] == "union_tag_not_found":
            place.append(first["ctx"]["discriminator"].strip("'"))
            hint = "is missing"
        elif first["type"] == "union_tag_invalid":
            place.append(first["ctx"]["discriminator"].strip("'"))
            name, tags = first["ctx"]["tag"], first["ctx"]["expected_tags"].split(", ")
            known = [tag.strip("'") for tag in tags]
            hint = f"no '{name}'{_did_you_mean(name, known, '')} (known: {', '.join(known)})"
        else:
            message = first["msg"].replace("Input should be", "expected", 1)
            hint = f"{message.removeprefix('Value error, ')}, found {first['input']!r}"
        where = ".".join([key, *(str(part) for part in place)])
        raise UserError(f"params.yaml: {where}: {hint}") from None


def check_names(names: Iterable[str], known: Iterable[str], at: str) -> None:
    """Raises a `UserError` for the first of `names` that is not `known`, with the nearest one."""
    known = list(known)
    for name in names:
        if name not in known:
            nearest = _did_you_mean(name, known, "")
            raise UserError(
                f"params.yaml: {at}{name}: unknown key{nearest} (known: {', '.join(known)})"
            )


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the member of `known` that `name` most likely stands for, or an empty string."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[matches[0]] if matches else ""


def _did_you_mean(name: str, known: Iterable[str], at: str) -> str:
    match = nearest(name, known)
    return f"; did you mean '{at}{match}'?" if match else ""


def _place(value: Any, loc: tuple[int | str, ...], missing: bool) -> list[int | str]:
    """Returns the keys in `loc`; pydantic puts the names of a union's members among them."""
    keys: list[int | str] = []
    for part in loc[:-1] if missing else loc:
        with suppress(LookupError, TypeError):
            value = value[part]
            keys.append(part)
    return [*keys, *loc[-1:]] if missing else keys


def _fields(schema: Any, loc: tuple[int | str, ...]) -> list[str]:
    for part in loc:
        fields = getattr(schema, "model_fields", {})
        if "root" in fields:  # a union of sections: `part` is the tag of one of them
            tag, members = fields["root"].discriminator, get_args(fields["root"].annotation)
            names = [get_args(member.model_fields[tag].annotation)[0] for member in members]
            schema = members[names.index(part)]
        elif part in fields:
            schema = fields[part].annotation
    return sorted(getattr(schema, "model_fields", {}))
