"""Build the two distributions and see that they are whole and work where nothing else is.

Builds sdist and wheel, compares their files with those of the repository, has their metadata
checked, installs the wheel into an empty environment, and there runs the main example and some
tests of the unpacked sdist, which thus read the installed package. ``make dist-check`` runs it.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "dist-check"
# In the repository, but of no use in a distribution.
LEFT_OUT = {".gitignore"}
EXAMPLE = ["examples/quickstart.py", "--rows", "2000", "--epochs", "2", "--no-picture"]
TESTS = [
    "tests/test_project.py",
    "tests/test_registry.py",
    "tests/test_references.py",
    "tests/serving/test_golden.py",
    "tests/metrics",
]


def run(*command, **options):
    print("+", *command, flush=True)
    return subprocess.run([str(part) for part in command], check=True, **options)


def environment(name, *requirements):
    """The folder of programs of a new environment."""
    venv.create(PLACE / name, with_pip=True)
    programs = PLACE / name / ("Scripts" if os.name == "nt" else "bin")
    run(programs / "python", "-m", "pip", "install", "--quiet", *requirements)
    return programs


def tracked():
    listed = run("git", "ls-files", "-z", cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


def build(tools):
    """The paths of sdist and wheel, which is made of the sdist."""
    out = PLACE / "files"
    run(tools / "python", "-m", "build", "--outdir", out, ROOT)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    run(tools / "python", "-m", "twine", "check", "--strict", sdist, wheel)
    return sdist, wheel


def check_files(sdist, wheel):
    """Every file of the repository is in the sdist, every file of the package in the wheel, and
    nothing else but metadata.
    """
    files = tracked()
    with tarfile.open(sdist) as archive:
        packed = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    added = {name for name in packed if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg"}
    compare("sdist", packed - added, files - LEFT_OUT)
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    compare("wheel", packed, {name for name in files if name.startswith("sklearn_autorec/")})
    print(f"{sdist.name} and {wheel.name} have all files.")


def compare(kind, packed, wanted):
    if packed != wanted:
        sys.exit(
            f"The {kind} lacks {sorted(wanted - packed)} and has {sorted(packed - wanted)} of "
            f"nowhere."
        )


def main():
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    sdist, wheel = build(environment("tools", "build", "twine"))
    check_files(sdist, wheel)
    constraints = ("-c", ROOT / "constraints.txt")
    programs = environment("empty", *constraints, wheel)
    with tarfile.open(sdist) as archive:
        archive.extractall(PLACE, filter="data")
    source = PLACE / sdist.name.removesuffix(".tar.gz")
    # A safe path leaves the folder out: what is imported is what was installed.
    safe = {**os.environ, "PYTHONSAFEPATH": "1"}
    safe.pop("PYTHONPATH", None)
    run(programs / "python", *EXAMPLE, cwd=source, env=safe)
    run(programs / "python", "-m", "pip", "install", "--quiet", *constraints, f"{wheel}[dev]")
    where = "import sklearn_autorec; print(sklearn_autorec.__file__)"
    found = run(
        programs / "python", "-c", where, cwd=source, env=safe, stdout=subprocess.PIPE, text=True
    )
    if not Path(found.stdout.strip()).is_relative_to(PLACE / "empty"):
        sys.exit(f"The tests would read {found.stdout.strip()}, not what was installed.")
    run(programs / "python", "-m", "pytest", "-q", *TESTS, cwd=source, env=safe)
    print("The distributions hold.")


if __name__ == "__main__":
    main()
