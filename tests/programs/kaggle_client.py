"""Stands in for Kaggle's client, which needs the network.

Prints `KAGGLE_SAYS`, brings the file `KAGGLE_BRINGS` if it names one, and ends with
`KAGGLE_STATUS`.
"""

import os
import shutil
import sys
from pathlib import Path

*command, folder = sys.argv[1:]
assert command == ["competitions", "download", "-c", "dogs-vs-cats", "-p"], sys.argv
print(os.environ["KAGGLE_SAYS"])
if os.environ["KAGGLE_BRINGS"]:
    shutil.copyfile(os.environ["KAGGLE_BRINGS"], Path(folder, "dogs-vs-cats.zip"))
sys.exit(int(os.environ["KAGGLE_STATUS"]))
