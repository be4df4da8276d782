"""Python in processes of its own."""

import contextlib
import io
import os
import subprocess
import sys


def printed_here_and_afresh(code):
    """What some code prints in this process, and in a fresh one whose hashes of strings differ from
    those here.
    """
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(code, {})
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    return here.getvalue(), printed(code, seed)


def printed(code, hash_seed):
    """What a fresh process prints whose hashes of strings are seeded so."""
    environment = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "PYTHONHASHSEED": hash_seed},
    ).stdout
