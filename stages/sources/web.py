"""The original datasets on the web: where their files lie, and what these must hash to."""

from collections.abc import Mapping
from dataclasses import dataclass

from stages.sources.idx import IDX_NAMES


@dataclass(frozen=True)
class WebFile:
    """A file on the web.

    Attributes:
        mirrors: Its URLs, best first.
        sha256: The checksum of its content.
    """

    mirrors: tuple[str, ...]
    sha256: str


MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
# The files that `source: web` brings, by dataset and name.
WEB_FILES: Mapping[str, Mapping[str, WebFile]] = {
    "mnist": {
        name: WebFile(tuple(mirror + name for mirror in MNIST_MIRRORS), sha256)
        for name, sha256 in zip(IDX_NAMES, MNIST_SHA256, strict=True)
    },
    "cats_dogs": {
        "kagglecatsanddogs_5340.zip": WebFile(
            (
                "https://download.microsoft.com/download/3/E/1/"
                "3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip",
            ),
            "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
        )
    },
}
