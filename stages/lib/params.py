"""Reading `params.yaml`: each stage reads its own section, checked and typed.

The file is parsed as DVC parses it: as YAML 1.2, in which `1e-6` is a number. A stage declares the
keys of its section as a `Section`. The keys above the sections are checked here.
"""

import difflib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.command import UserError

KEYS = (
    *("datasets", "training", "models", "fine_tuned", "repeated", "ensembles"),
    *("evaluation", "exports", "plots", "report"),
)
DATASET_KEYS = ("download", "prepare", "split")
MODEL_KEYS = ("dataset", "network", "training", "published")
MODEL_SECTIONS = ("models", "fine_tuned")
ENSEMBLE_KEYS = ("dataset", "members")
ENTRIES = {"datasets": DATASET_KEYS, "ensembles": ENSEMBLE_KEYS}
ENTRIES |= dict.fromkeys(MODEL_SECTIONS, MODEL_KEYS)

# What runs the stages looks into these, before any of them has checked its section.
SETTINGS = ("training", "evaluation")

T = TypeVar("T")
# NumPy's older generator, which Keras seeds too, takes no larger one.
TrainingSeed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """One section of `params.yaml`: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def load(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """Returns all of `params.yaml`; the keys above the sections are checked, the sections not.

    Raises:
        UserError: The file is missing or no YAML, has an unknown key above the sections, a model
            of an unknown dataset or in the wrong section, two entries with the same files, or
            exports or repeats of an unknown model.
    """
    try:
        params = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise UserError(f"there is no {path} here: run from the project's top folder") from None
    except (YAMLError, ValueError, RecursionError) as error:
        # A `ValueError` is of what looks like a date or a number and is none, such as 2024-02-30.
        raise UserError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(params, dict):
        raise UserError(f"{path} holds {type(params).__name__}, expected keys: {', '.join(KEYS)}")
    check_names(params, KEYS, "")
    for section in SETTINGS:
        if not isinstance(params.get(section, {}), dict):
            raise UserError(f"params.yaml: {section}: expected keys, found {params[section]!r}")
    for section, keys in ENTRIES.items():
        entries = params.get(section) or {}
        if not isinstance(entries, dict):
            raise UserError(f"params.yaml: {section}: expected one key for each of the {section}")
        for name, entry in entries.items():
            _check_is_text(name, section)
            if not re.fullmatch(r"\w+", name, re.ASCII):
                raise UserError(
                    f"params.yaml: {section}.{name}: a name needs letters, digits and _ only"
                )
            if not isinstance(entry, dict):
                raise UserError(f"params.yaml: {section}.{name}: expected keys: {', '.join(keys)}")
            check_names(entry, keys, f"{section}.{name}.")
    _check_names_differ(params, ("datasets",))
    _check_names_differ(params, (*MODEL_SECTIONS, "ensembles"))
    for section in MODEL_SECTIONS:
        for name, model in (params.get(section) or {}).items():
            _check_model(f"{section}.{name}", model, params)
    exports = params.get("exports") or {}
    if not isinstance(exports, dict):
        raise UserError("params.yaml: exports: expected one key for each of the models to export")
    for name in exports:
        _check_is_text(name, "exports")
        check_known(str(name), list_models(params), f"no model '{name}'", f"exports.{name}")
    _check_repeated(params)
    return params


def _check_is_text(name: Any, section: str) -> None:
    """Refuses a name that is a number, a date and the like: DVC runs no stage for it."""
    if not isinstance(name, str):
        raise UserError(
            f"params.yaml: {section}.{name}: YAML takes this name for no text: put it into quotes, "
            f"'{name}', or take another"
        )


def _check_names_differ(params: dict[str, Any], sections: tuple[str, ...]) -> None:
    """Refuses names whose files would be the same on a disk that ignores capitals."""
    keys: dict[str, str] = {}
    for section in sections:
        for name in params.get(section) or {}:
            key = f"{section}.{name}"
            other = keys.setdefault(name.lower(), key)
            if other != key:
                raise UserError(
                    f"params.yaml: {key}: its files would be those of {other} (some disks ignore "
                    "capitals): rename one"
                )


def _check_repeated(params: dict[str, Any]) -> None:
    # Before anything runs: DVC itself says only which file of an unknown model it lacks.
    section = params.get("repeated")
    names = section.get("models") if isinstance(section, dict) else None
    for place, name in enumerate(names if isinstance(names, list) else ()):
        key = f"repeated.models[{place}]"
        check_known(str(name), list_models(params), f"no model '{name}'", key)


def _check_model(key: str, model: dict[str, Any], params: dict[str, Any]) -> None:
    """Checks what the model at `key` refers to, and that it stands in the right section."""
    section, _, name = key.partition(".")
    datasets, dataset = params.get("datasets") or {}, str(model.get("dataset", ""))
    if datasets and dataset:
        check_known(dataset, datasets, f"no dataset '{dataset}'", f"{key}.dataset")
    network = model.get("network")
    start = network.get("start_from") if isinstance(network, dict) else None
    # DVC needs to know what a model depends on: it takes that from `fine_tuned` alone.
    if section == "models" and start is not None:
        raise UserError(
            f"params.yaml: {key}.network.start_from: move {name} to the section `fine_tuned`"
        )
    if section == "fine_tuned":
        if start is None:
            raise UserError(
                f"params.yaml: {key}.network.start_from is missing: name a model, or move {name} "
                "to the section `models`"
            )
        others = [each for each in list_models(params) if each != name]
        check_known(str(start), others, f"no model '{start}'", f"{key}.network.start_from")


def check_known(name: str, known: Iterable[str], what: str, key: str) -> None:
    """Raises a `UserError`, which says `what` is wrong at `key`, if `name` is not `known`."""
    if name not in known:
        hint = _did_you_mean(name, known) or f" (known: {', '.join(known)})"
        raise UserError(f"params.yaml: {key}: {what}{hint}")


def model_key(name: str) -> str:
    """Returns where the model `name` stands in `params.yaml`.

    Raises:
        UserError: There is no such model.
    """
    sections = load()
    for section in MODEL_SECTIONS:
        if name in (sections.get(section) or {}):
            return f"{section}.{name}"
    known = list_models(sections)
    hint = suggest(name, known, f"known: {', '.join(known)}")
    raise UserError(f"params.yaml has no model '{name}'; {hint}")


def list_models(sections: dict[str, Any]) -> dict[str, Any]:
    """Returns the models of `params.yaml` by name, in whichever of its `sections` they stand."""
    return {
        name: model for key in MODEL_SECTIONS for name, model in (sections.get(key) or {}).items()
    }


def read(key: str, schema: type[T], path: Path = Path("params.yaml")) -> T:
    """Returns the section `key` of `params.yaml`, checked and typed as a `schema`.

    Args:
        key: Names joined by dots, such as `datasets.mnist.split`.
        schema: A `Section`, or any type that pydantic can check.
        path: The file to read.

    Raises:
        UserError: A key is missing or wrong. The message has its full path, what is wrong with it,
            and the nearest known name.
    """
    value: Any = load(path)
    parent = ""
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            hint = _did_you_mean(name, value or (), parent)
            raise UserError(f"params.yaml: {key} is missing{hint}")
        value = value[name]
        parent += f"{name}."
    return check(key, value, schema)


def check(key: str, value: Any, schema: type[T]) -> T:
    """Returns `value`, found at `key` of `params.yaml`, checked and typed as a `schema`."""
    try:
        return TypeAdapter(schema).validate_python(value)
    except ValidationError as error:
        # A mistyped key gives two errors, unknown and missing: report the unknown one.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        place = _place(value, first["loc"], missing=first["type"] == "missing")
        if first["type"] == "extra_forbidden":
            name, known = str(first["loc"][-1]), _fields(schema, first["loc"][:-1])
            hint = f"unknown key{_did_you_mean(name, known)} (known: {', '.join(known)})"
        elif first["type"] == "missing":
            hint = "is missing"
        elif first["type"] == "union_tag_not_found":
            place.append(first["ctx"]["discriminator"].strip("'"))
            hint = "is missing"
        elif first["type"] == "union_tag_invalid":
            place.append(first["ctx"]["discriminator"].strip("'"))
            name, tags = first["ctx"]["tag"], first["ctx"]["expected_tags"].split(", ")
            known = [tag.strip("'") for tag in tags]
            hint = f"no '{name}'{_did_you_mean(name, known)} (known: {', '.join(known)})"
        else:
            message = first["msg"].replace("Input should be", "expected", 1)
            hint = f"{message.removeprefix('Value error, ')}, found {first['input']!r}"
        where = ".".join([key, *(str(part) for part in place)])
        raise UserError(f"params.yaml: {where}: {hint}") from None


def check_names(names: Iterable[str], known: Iterable[str], parent: str) -> None:
    """Raises a `UserError` for the first of `names` that is not `known`, with the nearest one.

    Args:
        names: Keys of `params.yaml`.
        known: The keys that are allowed.
        parent: The path of the keys with a dot at its end, or an empty string.
    """
    known = list(known)
    for name in names:
        if name not in known:
            hint = _did_you_mean(name, known)
            raise UserError(
                f"params.yaml: {parent}{name}: unknown key{hint} (known: {', '.join(known)})"
            )


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the `known` name that is most like `name`, or an empty string if none is."""
    by_lower = {str(candidate).lower(): str(candidate) for candidate in known}
    matches = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[matches[0]] if matches else ""


def suggest(name: str, known: Iterable[str], otherwise: str) -> str:
    """Asks whether the nearest of the `known` names was meant, or says `otherwise` if none is."""
    match = nearest(name, known)
    return f"did you mean '{match}'?" if match else otherwise


def _did_you_mean(name: str, known: Iterable[str], parent: str = "") -> str:
    match = nearest(name, known)
    return f"; did you mean '{parent}{match}'?" if match else ""


def _place(value: Any, loc: tuple[int | str, ...], missing: bool) -> list[int | str]:
    """Returns the keys in `loc`, without the names of union members, which pydantic adds."""
    keys: list[int | str] = []
    for part in loc[:-1] if missing else loc:
        with suppress(LookupError, TypeError):
            value = value[part]
            keys.append(part)
    return [*keys, *loc[-1:]] if missing else keys


def _fields(schema: Any, loc: tuple[int | str, ...]) -> list[str]:
    """Returns the names of the fields that `schema` has at `loc`, sorted."""
    for part in loc:
        fields = getattr(schema, "model_fields", {})
        if "root" in fields:  # a union of sections: `part` is the tag of one of them
            tag, members = fields["root"].discriminator, get_args(fields["root"].annotation)
            names = [get_args(member.model_fields[tag].annotation)[0] for member in members]
            schema = members[names.index(part)]
        elif part in fields:
            schema = fields[part].annotation
        elif get_origin(schema) is dict:  # `part` is a name in it
            schema = get_args(schema)[1]
    return sorted(getattr(schema, "model_fields", {}))
