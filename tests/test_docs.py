"""What README.md and docs/ show is true: their commands run, their entries are valid.

The commands of a page run in its order, in a tiny project whose datasets and models have the names
that the pages use. DVC and the stages are the real ones.
"""

import ast
import csv
import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count, pairwise
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from conftest import TOP, Project, reproduce
from dvc.cli import parse_args
from markdown_it.token import Token
from pages import PYTEST, RUN_ELSEWHERE, Block, blocks, parse, run_here
from photograph_files import write_tree, zip_of
from ruamel.yaml import YAML

from stages import download, prepare, split
from stages.lib import params
from stages.lib.images import Images
from stages.lib.splits import Part
from stages.results.sentences import caveat
from stages.results.tables import Model, interval, to_markdown
from stages.sources.formats import Format

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in TOP.glob("docs/*.md"))]
LANGUAGES = {"bash", "yaml", "text"}
# What a block may need: what no test machine has, or the tree in the block before it.
NEEDS = {"gpu", "cloud", "network", "graphviz", "layout", "minutes"}
# Or a server, or several users: test_share.py has them.
# Or several machines: test_cluster.py has processes for them.
NEEDS |= {"cluster"}
NEEDS |= {"s3", "gs", "azure", "ssh", "webdav", "http", "users", "key"}


def inline(page: str) -> Iterator[Token]:
    """Yields the spans of a page: texts, code, links, pictures."""
    for token in parse(page):
        yield from token.children or ()


ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN_PAGES = [
    page for page in PAGES if any(b.language == "bash" and not b.needs for b in blocks(page))
]
# Their commands take a minute each.
MINUTES = {"docs/compare.md", "docs/models.md", "docs/share.md"}


def commands(block: Block) -> list[str]:
    """Returns the commands of a block: its lines without comments, but for the texts it writes."""
    text = re.sub(r" <<'(\w+)'\n.*?\n\1$", "", block.text, flags=re.DOTALL | re.MULTILINE)
    lines = (re.sub(r"(^|\s+)#.*", "", line) for line in text.splitlines())
    return [line for line in lines if line]


def anchors(page: str) -> set[str]:
    """Returns the names that GitHub gives to the headings of a page."""
    headings = [
        token.content for before, token in pairwise(parse(page)) if before.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_has_fewer_than_900_words() -> None:
    assert len((TOP / "README.md").read_text(encoding="utf-8").split()) < 900


def test_every_block_says_its_language_and_only_known_needs() -> None:
    for block in ALL_BLOCKS:
        assert block.language in LANGUAGES, block
        assert block.needs <= NEEDS, block


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for token in inline(page):
        target = str(token.attrs.get("href") or token.attrs.get("src") or "")
        if not target or "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (TOP / page).parent / path if path else TOP / page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(str(found.resolve().relative_to(TOP))), target
        if token.type == "image":
            assert token.content, f"{target} has no text for those who do not see it"


def test_what_runs_elsewhere_does_run_there() -> None:
    recipes = (TOP / "Makefile").read_text()
    for command, file in RUN_ELSEWHERE.items():
        # A test may run what `make` would, and has a command as a list of texts.
        text = re.sub(r'[",\s]+', " ", (TOP / file).read_text())
        recipe = re.search(rf"^{command.removeprefix('make ')}:.*\n\t(.*)", recipes, re.MULTILINE)
        if recipe and file != ".ci/run":
            module = recipe[1].rpartition(".")[2]
            assert re.search(rf"\b{module}\b", text), command
        else:
            assert command in text


def test_every_command_is_one_that_its_program_knows() -> None:
    """Those in the text too, where they are no block that runs."""
    targets = re.findall(r"^([\w-]+):", (TOP / "Makefile").read_text(), re.MULTILINE)
    explained = {span for found in leading_spans().values() for span in found}
    shown = [
        (page, token.content)
        for page in PAGES
        for token in inline(page)
        if token.type == "code_inline" and token.content not in explained
    ]
    shown += [
        (f"{block.page}:{block.line}", command)
        for block in ALL_BLOCKS
        if block.language == "bash"
        for command in commands(block)
    ]
    for where, text in shown:
        program, *arguments = text.split()
        if program == "make":
            names = [argument for argument in arguments if "=" not in argument]
            assert set(names) <= set(targets), (where, text)
        elif program == "dvc" and arguments and not text.endswith(":"):
            try:
                parse_args(shlex.split(text)[1:])
            except Exception as error:  # DVC raises an error of its own, and argparse another
                raise AssertionError(f"{where}: {text}") from error
        elif program == PYTEST:
            files = [argument for argument in arguments if argument.endswith(".py")]
            assert all((TOP / file).exists() for file in files), (where, text)
            names = re.findall(r" -k (\w+)", text)
            assert all(name in (TOP / files[0]).read_text() for name in names), (where, text)
        for module in re.findall(r"python -m (stages\.\w+)", text):
            assert (TOP / module.replace(".", "/")).with_suffix(".py").exists(), (where, text)


def sections(block: Block) -> dict[str, Any]:
    """Returns what a block of YAML holds: sections of params.yaml, or `artifacts` of dvc.yaml."""
    entries = YAML(typ="safe").load(block.text)
    assert entries.keys() <= {*params.KEYS, "artifacts"}, block
    return dict(entries)


def merge(into: Any, entries: Mapping[str, Any]) -> None:
    """Puts `entries` into a mapping, as somebody would who types them into the file."""
    for key, value in entries.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


ENTRIES = [
    pytest.param(block, id=f"{block.page}:{block.line}")
    for block in ALL_BLOCKS
    if block.language == "yaml" and "layout" not in block.needs
]


@pytest.mark.parametrize("block", ENTRIES)
def test_an_entry_for_params_yaml_is_valid_in_the_projects_own(
    block: Block, tmp_path: Path
) -> None:
    own = YAML(typ="safe").load(TOP / "params.yaml")
    entries = sections(block)
    merge(own, {key: value for key, value in entries.items() if key in params.KEYS})
    # An entry may show a model that another block of its page adds.
    own["models"].setdefault("cats_dogs_small", own["models"]["mnist_cnn"])
    path = tmp_path / "params.yaml"
    YAML().dump(own, path)
    params.load(path)
    for name in entries.get("datasets", {}):
        key = f"datasets.{name}"
        params.read(f"{key}.download", download.Options, path)
        if "prepare" in own["datasets"][name]:
            params.read(f"{key}.prepare", Format, path)
            params.read(f"{key}.split", split.Options, path)
    for name in entries.get("models", {}):
        params.read(f"models.{name}", Model, path)


LAYOUTS = [
    pytest.param(tree, block, id=f"{block.page}:{block.line}")
    for tree, block in pairwise(ALL_BLOCKS)
    if "layout" in block.needs
]


def read_tree(lines: list[str], indent: str = "") -> dict[str, Any]:
    """Reads a tree of files from its drawing: `..` continues a row of numbered names to twenty."""
    tree: dict[str, Any] = {}
    while lines and lines[0].startswith(indent) and lines[0].strip():
        line = lines.pop(0).strip()
        if lines and lines[0].startswith(f"{indent}  "):
            tree[line.rstrip("/")] = read_tree(lines, f"{indent}  ")
            continue
        text, _, comment = line.partition(" # ")
        first, *others = re.split(r"\s{2,}", text)
        if others[-1:] == [".."]:
            (number,) = re.findall(r"\d+", first)
            others = [first.replace(number, str(int(number) + more)) for more in range(1, 20)]
        tree |= dict.fromkeys([first, *others], comment)
    return tree


def write_drawn(folder: Path, tree: Mapping[str, Any]) -> None:
    """Writes a tree; a table has the columns that its comment names, for all photographs."""
    numbers = count()
    files = {name: draw_files(inside, numbers) for name, inside in tree.items()}
    for name, columns in tree.items():
        if isinstance(columns, str):
            stems = [Path(path).stem for inside in files.values() for path in inside]
            rows = [f"{stem},{('cat', 'dog')[at % 2]}" for at, stem in enumerate(stems)]
            (folder / name).write_text("\n".join([columns, *rows, ""]))
        else:
            write_tree(folder / name, files[name])


def draw_files(tree: Mapping[str, Any] | str, numbers: Iterator[int]) -> dict[str, bytes]:
    """Returns the files in a tree by their paths; each photograph is another."""
    files: dict[str, bytes] = {}
    for path, inside in [] if isinstance(tree, str) else tree.items():
        if isinstance(inside, str):
            noise = np.random.default_rng(next(numbers)).integers(0, 256, (16, 16, 3), np.uint8)
            files[path] = cv2.imencode(".png", noise)[1].tobytes()
        elif path.endswith(".zip"):
            files[path] = zip_of(draw_files(inside, numbers))
        else:
            inner = draw_files(inside, numbers)
            files |= {f"{path}/{below}": content for below, content in inner.items()}
    return files


@pytest.mark.parametrize(("drawing", "block"), LAYOUTS)
def test_a_layout_is_read_as_its_page_says(drawing: Block, block: Block, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    write_drawn(tmp_path, read_tree(drawing.text.splitlines()))
    lines = YAML(typ="safe").load(block.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "project")
        YAML().dump({"datasets": {"pets": lines}}, Path("params.yaml"))
        for stage in (download, prepare, split):
            stage.main("pets")
        summary = json.loads(Path("data/splits/pets/summary.json").read_text())
        given = json.loads(Path("data/arrays/pets/summary.json").read_text())["images"]
    said = re.search("# gives (.*)", block.text)
    assert said is not None
    *facts, last = re.split(r", | and ", said[1])
    parts = [f"a {part} part" for part in ("valid", "test") if given.get(part)]
    parts += ["unlabelled ones"] * bool(given["unlabelled"])
    assert [*facts, last] == [*summary["classes"], *parts]
    assert all(min(counts.values()) > 0 for counts in summary["images"].values())


def train_a_step(name: str, model: dict[str, Any], folder: Path) -> None:
    """Trains the first steps of each phase of a model that an entry of params.yaml describes."""
    from stages.networks import keras_file
    from stages.networks.checkpoint import Checkpoint
    from stages.networks.network import Network, build_network
    from stages.networks.recipe import check_recipes
    from stages.networks.runtime import keras
    from stages.networks.training import Training, train

    shape, entry = (50, 50, 3), dict(model["network"])
    if entry.get("weights") == "imagenet":  # there may be no network to fetch them by
        make = getattr(keras.applications, entry["application"])
        path = folder / "own.weights.h5"
        make(weights=None, include_top=False, input_shape=shape).save_weights(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        entry |= {"weights": str(path), "weights_sha256": sha256}
    if "start_from" in entry:
        own = YAML(typ="safe").load(TOP / "params.yaml")["models"]
        start = params.check(
            "network", own.get(entry["start_from"], own["mnist_cnn"])["network"], Network
        )
        Path("data/models").mkdir(parents=True)
        keras_file.save_model(
            build_network(start, shape, 2, "start"),
            Path(f"data/models/{entry['start_from']}.keras"),
        )
    # A warm-up takes more than the one step of this test.
    text = re.sub(r'"warmup_steps": \d+', '"warmup_steps": 0', json.dumps(model["training"]))
    phases = check_recipes("training", json.loads(text))
    batch = phases[0].batch_size
    images = Images(np.random.default_rng(0).integers(0, 256, (2 * batch, *shape), np.uint8))
    part = Part(images, (np.arange(2 * batch) % 2).astype(np.uint8))
    network = build_network(params.check("network", entry, Network), shape, 2, name, images)
    one = {"epochs": None, "steps": 1, "every": 1}
    phases = [phase.model_copy(update=one) for phase in phases]
    checkpoint = Checkpoint(folder / "checkpoint", {})
    training = Training(part, part, phases, 0, ["cat", "dog"], name)
    with checkpoint.locked():
        assert len(train(network, training, checkpoint).history) == len(phases)


@pytest.mark.slow
@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("block", ENTRIES)
def test_the_recipes_of_an_entry_train(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.networks.runtime import Device, Precision

    entries = sections(block)
    monkeypatch.chdir(tmp_path)
    for name, model in params.list_models(entries).items():
        if "network" in model:
            train_a_step(name, model, tmp_path)
    training = entries.get("training", {})
    assert training.get("device", "auto") in get_args(Device)
    assert training.get("precision", "float32") in get_args(Precision)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project of `docs_params.yaml` after its first run, in its second commit."""
    project = Project(tmp_path_factory.mktemp("docs") / "project")
    reproduce(project, YAML().load(TOP / "tests/docs_params.yaml"))
    # One cache for the copies: what a page has trained is restored for the next.
    cache = (project.folder / ".dvc/cache").rename(project.folder.with_name("cache"))
    project.run("dvc", "cache", "dir", "--local", str(cache))
    return project


@pytest.fixture
def reader(tiny: Project, tmp_path: Path) -> Project:
    """A copy of the tiny project, with all that the pages take for granted."""
    project = tiny.copy(tmp_path / "project")
    source = project.folder / "source"
    # A reader's own pictures.
    shutil.copy(source / "pictures.zip", tmp_path / "flowers.zip")
    shutil.copy(source / "more.zip", project.folder)
    (project.folder / "photographs").mkdir()
    for path in ("digit.png", "photographs/7.png"):
        cv2.imwrite(str(project.folder / path), np.zeros((40, 40, 3), np.uint8))
    # What `make` installs.
    python = Path(project.run("python", "-c", "import sys; print(sys.prefix)").strip())
    (project.folder / ".venv").symlink_to(python)
    exclude = "\n".join((".venv", "/more.zip", "/photographs", "/digit.png", "/*.keras"))
    (project.folder / ".git/info/exclude").write_text(exclude)
    # The repository that a reader cloned, and pushes to.
    origin = tmp_path / "origin.git"
    project.run("git", "clone", "--quiet", "--bare", ".", str(origin))
    project.run("git", "remote", "add", "origin", origin.as_uri())
    project.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    project.environment |= {"ORIGIN": origin.as_uri(), "STORAGE": str(tmp_path / "storage")}
    return project


def type_in(project: Project, block: Block) -> None:
    """Types a block's entries into params.yaml or dvc.yaml."""
    for key, value in sections(block).items():
        path = project.folder / ("params.yaml" if key in params.KEYS else "dvc.yaml")
        content = YAML().load(path)
        merge(content, {key: value})
        YAML().dump(content, path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.long] if page in MINUTES else []) for page in RUN_PAGES],
)
def test_the_commands_of_a_page_run_in_their_order(page: str, reader: Project) -> None:
    for block in blocks(page):
        if block.needs:
            continue
        if block.language == "yaml":
            type_in(reader, block)
        elif block.language == "bash":
            # In a list with &&, bash goes on after a command that failed.
            assert "&&" not in block.text, f"{page}:{block.line}: a line for each command, please"
            print(f"{page}:{block.line}")
            print(reader.run("bash", "-euo", "pipefail", "-c", run_here(block)))


def texts(node: ast.AST) -> Iterator[str]:
    """Yields the texts below `node`; `X` stands for what is put into them."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(
            str(getattr(part, "value", "")) if isinstance(part, ast.Constant) else "X"
            for part in node.values
        )
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        yield node.value if isinstance(node.value, str) else node.value.decode(errors="replace")
    for child in ast.iter_child_nodes(node):
        yield from texts(child)


def messages() -> Iterator[tuple[str, str]]:
    """Yields the place and the text of each error that the stages raise for users."""
    for path in sorted((TOP / "stages").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "id", None)
            if isinstance(node, ast.Call) and name == "UserError":
                yield from ((f"{path.name}:{node.lineno}", text) for text in texts(node))


def leading_spans() -> dict[str, list[str]]:
    """Returns the messages that docs/troubleshooting.md explains, by section."""
    found: dict[str, list[str]] = {}
    section = ""
    tokens = parse("docs/troubleshooting.md")
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            section = token.content
        elif token.type == "inline" and before.type == "paragraph_open" and before.level > 0:
            for span in token.children or ():
                if span.type == "code_inline":
                    found.setdefault(section, []).append(span.content)
                elif span.content.strip(", "):
                    break
    return found


def pattern(span: str) -> str:
    return ".*".join(map(re.escape, span.split("…")))


def test_every_error_for_users_is_explained() -> None:
    spans = [span for found in leading_spans().values() for span in found]
    for place, message in messages():
        own_words = re.sub(r"params\.yaml|error|datasets|X", " ", message)
        if len(re.findall(r"[a-z]{2,}", own_words)) < 2:
            continue  # what another error says, or a part of a name
        assert any(re.search(pattern(span), message) for span in spans), f"{place}: {message}"


def test_no_error_is_explained_that_the_stages_do_not_know() -> None:
    known = [(TOP / "Makefile").read_text()]
    for path in (TOP / "stages").rglob("*.py"):
        known += texts(ast.parse(path.read_text(encoding="utf-8")))
    for section, spans in leading_spans().items():
        if section == "DVC":
            continue
        for span in spans:
            if span not in ("dvc: command not found", "404 Not Found"):
                assert any(re.search(pattern(span), text) for text in known), (section, span)


def rows_of_models(page: str, heading: str) -> dict[str, list[str]]:
    """Returns the rows of the tables below a heading, by the models in their first cells."""
    text = (TOP / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    lines = re.findall(r"^\| (`\w+` .*) \|$", text.partition("\n## ")[0], re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    return {first: rest for first, *rest in rows}


def number(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def test_the_results_of_the_sample_are_those_in_git() -> None:
    with (TOP / "reports/accuracy.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            {name: number(value) if value else None for name, value in row.items()}
            for row in csv.DictReader(file)
        ]
    text = (TOP / "docs/results.md").read_text(encoding="utf-8")
    shown = text.partition("accuracy.csv -->\n\n")[2].partition("\n<!--")[0]
    assert shown == to_markdown(rows, caveat(rows)), "copy reports/accuracy.md there"


@pytest.mark.parametrize(
    "path", sorted((TOP / "docs/results").glob("*.json")), ids=lambda p: p.stem
)
def test_a_recorded_table_is_that_of_its_metrics(path: Path) -> None:
    rows = json.loads(path.read_text(encoding="utf-8"))
    text = (TOP / "docs/results.md").read_text(encoding="utf-8")
    shown = text.partition(f"<!-- {path.name} -->\n\n")[2].partition("\n<!--")[0]
    assert shown == to_markdown(rows, caveat(rows))


def test_the_readmes_results_are_those_of_the_recorded_metrics() -> None:
    recorded = (TOP / "docs/results").glob("*.json")
    rows = [row for path in recorded for row in json.loads(path.read_text(encoding="utf-8"))]
    trained = {f"`{row['model']}`": row for row in rows if row["parameters"] is not None}
    readme = rows_of_models("README.md", "## Results on real data")
    assert readme.keys() == trained.keys()
    for model, (accuracy, published, parameters) in readme.items():
        row = trained[model]
        between = interval(row).replace(" to ", "\N{EN DASH}")
        assert accuracy == f"{row['test_accuracy']:.2%} ({between})", model
        figure = row["published_test_accuracy"] or row["published_valid_accuracy"]
        assert published.partition(" ")[0] == (f"{figure:.2%}" if figure else ""), model
        assert parameters == f"{row['parameters']:,}", model
