"""Runs the stages that need no network, for the project in the current folder, in one process.

Of `evaluate`, it runs what follows from the predictions, which the project has. It draws a few
photographs as well, as the sample's are.
"""

from pathlib import Path

from stages import download, plot, prepare, report, split
from stages.lib import params
from stages.lib.files import write_json
from stages.results import measures
from stages.results.reading import read_results
from stages.sources.sample import write_drawn_photographs


def measure(model: str, folder: Path) -> None:
    """Writes a model's measures, tables and curves, unrounded."""
    results = read_results(model)
    labels, probabilities = (results.files[f"test_{name}"] for name in ("labels", "probabilities"))
    calibration, error = measures.calibrate(labels, probabilities)
    tables = {
        "calibration": calibration,
        "classes": measures.measure_classes(labels, probabilities, results.classes),
        **measures.trace_curves(labels, probabilities),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{model}_{name}.csv")
    numbers = measures.measure(labels, probabilities) | {"calibration_error": error}
    write_json(folder / f"{model}.json", numbers)


own = params.load()
for dataset in own["datasets"]:
    download.main(dataset)
    prepare.main(dataset)
    split.main(dataset)
measured, drawn = Path("data/measured"), Path("data/drawn")
measured.mkdir()
for model in own["models"]:
    measure(model, measured)
    plot.main(model)
report.main()
drawn.mkdir()
write_drawn_photographs(drawn, seed=0, labelled_per_kind=4, unlabelled=2)
