"""Classifies nothing four times, the last with the given file, and tells whether Keras was loaded.

Prints a JSON list of exit statuses, and one of the modules among Keras and TensorFlow.
"""

import json
import sys

from stages import classify

statuses = []
for arguments in (
    [],
    ["colours"],
    ["colours", "x.png", "--json", "--csv"],
    ["colours", *sys.argv[1:], "no.png"],
):
    try:
        classify.main(*arguments)
    except SystemExit as end:
        statuses.append(end.code)
print(json.dumps([statuses, sorted({"keras", "tensorflow"} & sys.modules.keys())]))
