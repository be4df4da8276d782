"""Deliberate faults, one at a time, and whether the tests of the method notice.

    python tests/mutation_probe.py [--only NAME ...] [--seconds 150] [--total 3600] [--json FILE]

Not part of the test suite. The package and the tests are copied to a temporary folder; each fault is a line of text
replaced there, after which the method's own test files run, stopping at the first failure. A fault is "killed" if a test fails, "survived"
if all pass, "late" if the tests were not done in time, which counts as neither. Faults are listed in ``mutants.txt`` beside this
file, as blocks ``# method | source file | test files`` followed by pairs of lines ``- old`` and ``+ new``; the
old text must stand in the file exactly once. The recorded table is in ``doc/mutation.rst``.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def read_mutants(path):
    """Faults of the list, as dicts of method, source, tests, old and new."""
    mutants, head, old = [], None, None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            head = [part.strip() for part in line[2:].split("|")]
        elif line.startswith("- "):
            old = line[2:]
        elif line.startswith("+ "):
            method, source, tests = head
            mutants.append({"method": method, "source": source, "tests": tests.split(), "old": old, "new": line[2:]})
    return mutants


def check(mutants):
    """Faults whose old text does not stand in its file exactly once."""
    wrong = []
    for m in mutants:
        n = (ROOT / "sklearn_autorec" / m["source"]).read_text(encoding="utf-8").count(m["old"])
        if n != 1:
            wrong.append(f"{m['method']}: {m['old']!r} stands {n} times in {m['source']}")
    return wrong


def try_mutant(mutant, scratch, seconds):
    """What became of a fault, and seconds."""
    path = scratch / "sklearn_autorec" / mutant["source"]
    kept = path.read_text(encoding="utf-8")
    path.write_text(kept.replace(mutant["old"], mutant["new"]), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant["tests"]]
    environment = {**os.environ, "PYTHONPATH": str(scratch), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    start = time.monotonic()
    try:
        done = subprocess.run(command, cwd=scratch, env=environment, timeout=seconds, capture_output=True, text=True)
        status = {0: "survived", 1: "killed"}.get(done.returncode, "killed (not importable)")
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    except subprocess.TimeoutExpired:
        status, failed = "late", []
    finally:
        path.write_text(kept, encoding="utf-8")
    return status, time.monotonic() - start, failed[:1]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--only", nargs="*", help="methods (default: all)")
    p.add_argument("--seconds", type=float, default=150, help="time limit of one fault")
    p.add_argument("--total", type=float, default=3600, help="no new fault is tried after so many seconds")
    p.add_argument("--json", help="file for the results")
    args = p.parse_args()
    mutants = [m for m in read_mutants(HERE / "mutants.txt") if not args.only or m["method"] in args.only]
    if wrong := check(mutants):
        sys.exit("\n".join(wrong))
    start, results = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        ignore = shutil.ignore_patterns("__pycache__")
        for part in ("sklearn_autorec", "tests"):
            shutil.copytree(ROOT / part, scratch / part, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", scratch)
        for m in mutants:
            if time.monotonic() - start > args.total:
                status, seconds, failed = "not run", 0.0, []
            else:
                status, seconds, failed = try_mutant(m, scratch, args.seconds)
            results.append({**m, "status": status, "seconds": round(seconds, 1), "failed": failed})
            print(
                f"{status:10s} {seconds:5.0f} s  {m['method']:20s} {m['old'].strip()}  ->  {m['new'].strip()}",
                flush=True,
            )
            if args.json:
                Path(args.json).write_text(json.dumps(results, indent=1), encoding="utf-8")
    for method in dict.fromkeys(m["method"] for m in results):
        own = [m["status"] for m in results if m["method"] == method]
        print(f"{method:20s} " + ", ".join(f"{own.count(s)} {s}" for s in dict.fromkeys(own)))


if __name__ == "__main__":
    main()
