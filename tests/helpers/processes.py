"""Python in processes of its own."""

import subprocess
import sys


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
