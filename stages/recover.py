"""Mends what a killed `dvc` left half-written: the first step of `make reproduce`.

A `dvc` that is killed while it writes its own files leaves them empty or in part, and each later
`dvc` fails. This command mends them in a fraction of a second; `make check` looks at all else.
It also removes what a killed training still shows in `data/live/`; one that runs shows it again.
And it makes the folder of the ensembles, which DVC wants since `report` depends on it: Git keeps it
where there are none, but whoever removes all of `data/` removes it too.
"""

from pathlib import Path

from stages.kept.state import mend_state
from stages.lib.command import run


def main() -> None:
    """Mends DVC's files in the current folder, with a line for each, and sees to `data/`."""
    for line in mend_state():
        print(line)
    for path in Path("data/live").glob("*/[!.]*"):
        path.unlink(missing_ok=True)
    Path("data/ensembles").mkdir(parents=True, exist_ok=True)


if __name__ == "__main__":
    run(main)
