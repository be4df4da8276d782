"""Deliberate faults, one at a time, and whether the tests of the method notice.

    python tests/mutation_probe.py [--only NAME ...] [--seconds 150] [--total 3600] [--json \\
        FILE] [--again FILE ...]

Not part of the test suite. The package and the tests are copied to a temporary folder; each fault
is a line of text replaced there, after which the method's own test files run (without the slow
tests), stopping at the first failure. A fault is "killed" if a test fails, "survived" if all pass,
"late" if the tests were not done in time, which counts as neither. Before the faults each set of
test files runs without one; where it does not pass, its faults are "not tried". Faults are listed
in ``mutants.txt`` beside this file, as blocks ``# method | source file | test files`` followed by
pairs of lines ``- old`` and ``+ new``; the old text must stand in the file exactly once. The
recorded table is in ``doc/mutation.rst``.

Every run of tests is a fork of this process, which has imported what the package needs: that saves
some seconds each. It needs a system with ``os.fork``.
"""

import argparse
import compileall
import importlib
import json
import os
import py_compile
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Imported once, before the forks; the package itself is not among them.
NEEDED = (
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "scipy.stats",
    "sklearn.ensemble",
    "torch",
    "skorch",
    "pytest",
)


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
            mutants.append(
                {
                    "method": method,
                    "source": source,
                    "tests": tests.split(),
                    "old": old,
                    "new": line[2:],
                }
            )
    return mutants


def identity(mutant):
    """What tells a fault from all others."""
    return mutant["source"], mutant["old"], mutant["new"]


def read_results(path):
    """Results of a run, a list of dict."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def method_of(mutant):
    """The method that a fault belongs to, without the part of it that stands in brackets."""
    return mutant["method"].split(" (")[0]


def places(old, source):
    """Where a line stands in a file, matches of a pattern. How it is broken into lines does not
    count, so that a formatter with another length of line changes nothing.
    """
    parts = re.findall(r"\w+|[^\w\s]", old)
    starts = re.findall(r"(\s*)(?:\w+|[^\w\s])", old)[1:]
    pattern = re.escape(parts[0])
    for before, space, part in zip(parts[:-1], starts, parts[1:], strict=True):
        gap = r"\s+" if space and before[-1].isalnum() and part[0].isalnum() else r"\s*"
        pattern += (r"(?:\s*,)?" + gap if part in ")]}" else gap) + re.escape(part)
    edges = [r"\b" if c.isalnum() else "" for c in (parts[0][0], parts[-1][-1])]
    return list(re.finditer(edges[0] + pattern + edges[1], source))


def replaced(source, mutant):
    """The file with the fault in it."""
    (place,) = places(mutant["old"], source)
    return source[: place.start()] + mutant["new"].strip() + source[place.end() :]


def check(mutants):
    """Faults whose old text does not stand in its file exactly once, or whose new text is
    no other.
    """
    wrong = []
    for m in mutants:
        source = (ROOT / "sklearn_autorec" / m["source"]).read_text(encoding="utf-8")
        n = len(places(m["old"], source))
        if n != 1:
            wrong.append(f"{m['method']}: {m['old']!r} stands {n} times in {m['source']}")
        if m["old"] == m["new"]:
            wrong.append(f"{m['method']}: {m['old']!r} is replaced by itself")
    return wrong


def run_tests(tests, scratch, seconds):
    """Exit status of pytest (None: not done in time), seconds, and what it said."""
    log = scratch / "log.txt"
    start = time.monotonic()
    child = os.fork()
    if not child:
        os.setsid()
        with log.open("w", encoding="utf-8") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        os.chdir(scratch)
        sys.path[0] = str(scratch)
        os.environ["PYTHONPATH"] = str(scratch)  # of processes that the tests start
        status = 1
        try:
            pytest = sys.modules["pytest"]
            options = [
                "-q",
                "-x",
                "-m",
                "not slow",
                "-p",
                "no:cacheprovider",
                "--durations=8",
                "--tb=line",
            ]
            status = int(pytest.main([*options, *tests]))
            sys.stdout.flush()
        finally:
            os._exit(status)
    status = None
    while time.monotonic() - start < seconds:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
            break
        time.sleep(0.05)
    try:
        os.killpg(child, signal.SIGKILL)  # also what the tests may have left
    except ProcessLookupError:
        pass
    if status is None:
        os.waitpid(child, 0)
    return status, time.monotonic() - start, log.read_text(encoding="utf-8", errors="replace")


def try_mutant(mutant, scratch, seconds):
    """What became of a fault, seconds, and the first test that failed."""
    path = scratch / "sklearn_autorec" / mutant["source"]
    kept = path.read_text(encoding="utf-8")
    path.write_text(replaced(kept, mutant), encoding="utf-8")
    try:
        code, used, said = run_tests(mutant["tests"], scratch, seconds)
    finally:
        path.write_text(kept, encoding="utf-8")
    status = {None: "late", 0: "survived", 1: "killed"}.get(code, "killed (not importable)")
    failed = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return status, used, failed[:1]


def copy_to(scratch):
    """The package and its tests, compiled: compiled files are checked by what their source says,
    not by its time.
    """
    ignore = shutil.ignore_patterns("__pycache__")
    for part in ("sklearn_autorec", "tests", "doc", "examples"):
        shutil.copytree(ROOT / part, scratch / part, ignore=ignore)
    for name in ("pyproject.toml", "README.rst"):
        shutil.copy(ROOT / name, scratch)
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(scratch / "sklearn_autorec", quiet=1, invalidation_mode=mode)


def write_table(paths):
    """Print the rows of the recorded table, from the results of several runs, of which the last
    says what is so.
    """
    found = {}
    for path in paths:
        for m in read_results(path):
            found.setdefault(identity(m), []).append(m)
    rows = {}
    for m in read_mutants(HERE / "mutants.txt"):
        runs = found.get(identity(m), [])
        row = rows.setdefault(method_of(m), {"faults": 0, "killed": 0, "mended": 0, "left": []})
        row["faults"] += 1
        last = runs[-1]["status"] if runs else "not tried"
        if last.startswith("killed"):
            row["mended" if any(r["status"] == "survived" for r in runs) else "killed"] += 1
        else:
            row["left"].append(f"{last}: {m['old'].strip()} -> {m['new'].strip()}")
    for method, row in rows.items():
        print(
            f"   * - {method}\n     - {row['faults']}\n     - {row['killed']}\n     - "
            f"{row['mended']}"
        )
        for line in row["left"]:
            print(f"       {line}")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--only", nargs="*", help="methods (default: all)")
    p.add_argument("--seconds", type=float, default=150, help="time limit of one fault")
    p.add_argument(
        "--trust", action="store_true", help="do not try first that the tests pass without a fault"
    )
    p.add_argument(
        "--total", type=float, default=3600, help="no new fault is tried after so many seconds"
    )
    p.add_argument(
        "--json", help="file for the results; faults whose results it has are not tried again"
    )
    p.add_argument(
        "--again", nargs="*", help="only the faults that were not killed by these files of results"
    )
    p.add_argument(
        "--table", nargs="*", help="only print the rows of the table, from these files of results"
    )
    args = p.parse_args()
    if args.table:
        return write_table(args.table)
    mutants = [
        m for m in read_mutants(HERE / "mutants.txt") if not args.only or m["method"] in args.only
    ]
    if wrong := check(mutants):
        sys.exit("\n".join(wrong))
    sys.dont_write_bytecode = True
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "SCIPY_ARRAY_API": "1"}
    for name in NEEDED:
        importlib.import_module(name)
    results = read_results(args.json) if args.json and Path(args.json).exists() else []
    known = {identity(r) for r in results}
    if args.again:
        stood = {
            identity(r)
            for file in args.again
            for r in read_results(file)
            if not r["status"].startswith("killed")
        }
        mutants = [m for m in mutants if identity(m) in stood]
    start, sound = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        copy_to(scratch)
        for m in mutants:
            if identity(m) in known:
                continue
            tests, seconds, failed = tuple(m["tests"]), 0.0, []
            if time.monotonic() - start > args.total:
                status = "not run"
            else:
                if args.trust:
                    sound[tests] = True
                if tests not in sound:
                    code, used, said = run_tests(m["tests"], scratch, args.seconds)
                    sound[tests] = code == 0
                    print(
                        f"{'sound' if code == 0 else 'NOT SOUND'} {used:.0f} s  {' '.join(tests)}",
                        flush=True,
                    )
                    print(said[-2500:] if code != 0 or used > 30 else "", flush=True)
                if sound[tests]:
                    status, seconds, failed = try_mutant(m, scratch, args.seconds)
                else:
                    status = "not tried"
            if status not in ("not run", "not tried"):
                results.append(
                    {**m, "status": status, "seconds": round(seconds, 1), "failed": failed}
                )
            print(
                f"{status:10s} {seconds:5.0f} s  {m['method']:20s} {m['old'].strip()}  ->  "
                f"{m['new'].strip()}",
                flush=True,
            )
            if args.json:
                Path(args.json).write_text(json.dumps(results, indent=1), encoding="utf-8")
    for method in dict.fromkeys(m["method"] for m in results):
        own = [m["status"] for m in results if m["method"] == method]
        print(f"{method:20s} " + ", ".join(f"{own.count(s)} {s}" for s in dict.fromkeys(own)))


if __name__ == "__main__":
    main()
