"""The competition Dogs vs. Cats, downloaded by Kaggle's own client."""

import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.lib.command import UserError
from stages.sources.archives import UNLABELLED, check_archive
from stages.sources.transfer import CHUNK

COMPETITION = "dogs-vs-cats"
# What the client prints, in its several versions, when it cannot sign in.
NOT_SIGNED_IN = (
    r"must authenticate|kaggle\.json|missing (username|key)|credentials|unauthorized|\b401\b"
)


def download_competition(folder: Path) -> None:
    """Writes the competition's `train.zip` and `test1.zip` into `folder`.

    Raises:
        UserError: There is no client, no token, no consent to the rules, or the download failed.
    """
    with TemporaryDirectory(dir=folder, prefix="kaggle-") as temporary:
        _run_client("competitions", "download", "-c", COMPETITION, "-p", temporary)
        bundle = Path(temporary) / f"{COMPETITION}.zip"
        if not bundle.is_file():
            raise UserError(f"Kaggle's client brought no {bundle.name}: update it and rerun")
        try:
            with zipfile.ZipFile(bundle) as archive:
                for name in ("train.zip", UNLABELLED):
                    with archive.open(name) as member, (folder / name).open("wb") as file:
                        shutil.copyfileobj(member, file, CHUNK)
                    check_archive(folder / name, f"{bundle.name}/{name}")
        except (KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(
                f"{bundle.name} as Kaggle's client brought it is damaged or incomplete "
                f"({error.args[0]}): rerun"
            ) from None


def _run_client(*arguments: str) -> None:
    program = shutil.which("kaggle")
    if program is None:
        raise UserError("there is no Kaggle client here: `pip install kaggle`, then rerun")
    output = ""
    with subprocess.Popen(
        [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as client:
        assert client.stdout is not None  # noqa: S101
        try:
            # Pass the output on as it comes: the client shows its progress for minutes.
            while chunk := client.stdout.read(1 << 16):
                text = chunk.decode(errors="replace")
                print(text, end="", file=sys.stderr, flush=True)
                output = (output + text)[-10_000:]
        except BaseException:
            client.kill()
            raise
    if client.returncode:
        raise UserError(_explain(output, client.returncode))


def _explain(output: str, status: int) -> str:
    """Returns why the client failed and what to do, from the end of its output."""
    last = re.split(r"[\r\n]", output.strip())[-1][:300] or f"exit status {status}"
    if re.search(NOT_SIGNED_IN, output, re.IGNORECASE):
        return (
            "Kaggle's client has no valid token: make one at https://www.kaggle.com/settings "
            "(API) and save it as ~/.kaggle/kaggle.json, or set KAGGLE_API_TOKEN, or "
            f"KAGGLE_USERNAME and KAGGLE_KEY; then rerun (it says: {last})"
        )
    if re.search(r"\b403\b", output):
        return (
            "Kaggle refuses the download until the competition's rules are accepted: sign in, "
            f"accept them at https://www.kaggle.com/competitions/{COMPETITION}/rules, then rerun "
            f"(its client says: {last})"
        )
    return f"Kaggle's client failed: {last}; check the network, then rerun"
