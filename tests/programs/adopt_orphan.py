"""Adopts orphans, as systemd's user session does, and prints how long a stage outlives its `dvc`.

The argument is after how many seconds what stands for `dvc` is killed: the stage imports then.
"""

import ctypes
import os
import subprocess
import sys
import time

import psutil

PR_SET_CHILD_SUBREAPER = 36
DVC = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-m", "stages.train", "m"]).pid, flush=True)
time.sleep(60)
"""

ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
dvc = subprocess.Popen(
    [sys.executable, "-c", DVC],
    env=os.environ | {"DVC_STAGE": "train@m"},
    stdout=subprocess.PIPE,
    start_new_session=True,
)
assert dvc.stdout
stage = psutil.Process(int(dvc.stdout.readline()))
time.sleep(float(sys.argv[1]))
assert stage.is_running(), "the stage ended before its dvc"
dvc.kill()
killed = time.monotonic()
stage.wait(30)
print(time.monotonic() - killed)
