"""README.rst: its code runs as it stands there, and its commands, extras and files exist."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from sklearn_autorec._registry import METHODS, NETWORK_CLASSES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text(encoding="utf-8")

# Fewer rows than a reader would take; everything else runs as written.
SHORTER = {"30_000": "6_000", "25_000": "5_000"}


def blocks(text, opening):
    """Indented blocks after lines that match ``opening``, without their indentation."""
    found, lines = [], text.splitlines()
    for start, line in enumerate(lines):
        if not re.search(opening, line):
            continue
        block = []
        for following in lines[start + 1 :]:
            if following and not following.startswith("    "):
                break
            block.append(following[4:])
        found.append("\n".join(block).strip("\n"))
    return found


PYTHON = blocks(README, r"^\.\. code-block:: python$")
COMMANDS = blocks(README, r"^(?!\.\.).*::$") + blocks(
    README, r"^\.\. code-block:: (shell|bash|console)$"
)


def test_blocks_are_told_apart():
    text = "Text::\n\n    make it\n\n.. code-block:: python\n\n    a = 1\n\n    b = 2\n\nMore.\n"
    assert blocks(text, r"^\.\. code-block:: python$") == ["a = 1\n\nb = 2"]
    assert blocks(text, r"^(?!\.\.).*::$") == ["make it"]
    assert len(PYTHON) == README.count("code-block:: python") >= 2 and len(COMMANDS) >= 1


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
    """What is defined after all Python blocks, run one after the other as a reader would."""
    names = {"__name__": "readme"}
    text = "\n\n".join(PYTHON)
    for long, short in SHORTER.items():
        assert long in text, f"README.rst no longer says {long}: update SHORTER"
        text = text.replace(long, short)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        exec(compile(text, "README.rst", "exec"), names)
    return names


def test_python_blocks_run(namespace):
    probabilities = namespace["model"].predict_proba(namespace["X"])[:, 1]
    assert np.isfinite(probabilities).all() and len(probabilities) == 6000


def test_the_first_example_finds_what_was_planted(namespace):
    planted = {tuple(f"f{k}" for k in pair) for pair in namespace["truth"].pairs}
    assert len(planted & set(namespace["searched"].interactions_)) >= 3


def test_the_halving_example_goes_through_its_rounds(namespace):
    search = namespace["search"]
    assert search.n_candidates_ == [8, 4, 2] and search.n_resources_ == [1, 2, 4]
    assert set(search.best_params_) == {"network", "search", "max_epochs"}


def test_commands_are_targets_of_the_makefile():
    targets = set(
        re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    named = {m for block in COMMANDS for m in re.findall(r"^make ([a-z]+)", block, re.MULTILINE)}
    named |= set(re.findall(r"``make ([a-z]+)``", README))
    assert {"quickstart", "test", "doc"} <= named <= targets
    others = [
        line
        for block in COMMANDS
        for line in block.splitlines()
        if line and not line.startswith("make ")
    ]
    assert others == []  # a new kind of command needs a check of its own


def test_extras_are_those_of_the_project():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    assert set(re.findall(r"``\[([a-z]+)\]``", README)) == extras


def test_files_exist():
    named = set(re.findall(r"``((?:doc|tests|examples)/[\w./]+)``", README))
    assert len(named) >= 5 and {name for name in named if not (ROOT / name).exists()} <= {
        "doc/_build/html"
    }


def test_what_is_not_yet_there_is_not_there():
    """What is listed as coming, in README and in the table of methods, is not in the package."""
    rows = re.findall(r"\n     - ([^\n]+)\n     - not yet\n", README)
    methods = (ROOT / "doc" / "methods.rst").read_text(encoding="utf-8")
    rows += re.findall(r"\n     - ([^\n]+)", methods[methods.index("Not yet in the package\n") :])
    missing = {name.replace("-", "") for row in rows for name in re.findall(r"[\w-]+", row)}
    there = {cls.__name__ for cls in {**METHODS.own(), **NETWORK_CLASSES.own()}.values()}
    assert "AutoIAS" in missing and "AutoFIS" in there
    assert missing & there == set()
    for name in there & {"AutoDis", "AutoFT", "BPFIS", "NIS", "SSEDS"}:
        assert f"{name}``" in README, name
