"""Which part of the package may import which: a walk over the import statements."""

import ast
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_autorec

ROOT = Path(sklearn_autorec.__file__).parent
REPOSITORY = Path(__file__).parents[1]
MODULES = sorted(p.relative_to(ROOT) for p in ROOT.rglob("*.py"))

# Floors from the ground up: a part may import those below it, never its neighbours or those above.
BELOW = {
    "_version": set(),
    "utils": set(),
    "exceptions": set(),
    "preprocessing": {"utils", "exceptions"},
    "datasets": {"utils", "exceptions"},
    "nn": set(),
    "search": {"utils", "exceptions", "nn"},
    "base": {"utils", "exceptions", "nn", "search"},
    "_fit_parts": {"nn", "search"},
    "_narrowing": {"nn", "base"},
    "_searching": {"utils", "nn", "search", "base", "_narrowing"},
    "_results": {"utils", "nn", "base"},
    "_targets": {"nn"},
    "_fitted": {"nn", "preprocessing", "_fit_parts"},
    "_settings": set(),
    "_blending": {"search", "_ensemble", "_settings"},
    "_preparing": {
        "utils",
        "nn",
        "search",
        "preprocessing",
        "_blending",
        "_settings",
        "_ensemble",
        "_fit_parts",
        "_searching",
    },
    "_streaming": {
        "utils",
        "exceptions",
        "nn",
        "search",
        "base",
        "_fit_parts",
        "_fitted",
        "_narrowing",
        "_searching",
        "_settings",
    },
    "_fitting": {
        "utils",
        "exceptions",
        "nn",
        "search",
        "base",
        "preprocessing",
        "_blending",
        "_settings",
        "_fit_parts",
        "_fitted",
        "_narrowing",
        "_preparing",
        "_searching",
        "_results",
        "_streaming",
    },
    "estimators": {"utils", "exceptions", "nn", "search", "base", "preprocessing", "_fitting", "_targets"},
    "networks": {"utils", "nn", "base"},
    "serving": {
        "utils",
        "exceptions",
        "nn",
        "base",
        "preprocessing",
        "feature_crossing",
        "linear_model",
        "_ensemble",
        "_fit_parts",
        "_fitted",
        "_narrowing",
        "_searching",
        "_targets",
        "estimators",
        "_settings",
    },
    "interaction": {"utils", "exceptions", "nn", "search", "base"},
    "embedding": {"utils", "exceptions", "nn", "search", "base"},
    "feature_selection": {"utils", "exceptions", "preprocessing", "nn", "search", "base", "estimators"},
    "feature_crossing": {"utils", "exceptions", "preprocessing"},
    "linear_model": {"utils", "exceptions", "preprocessing", "feature_crossing"},
    "_ensemble": {"utils", "exceptions", "preprocessing", "feature_crossing", "linear_model"},
    "inspection": {"utils", "exceptions"},
    "model_selection": {"utils", "exceptions"},
}


def imports(path):
    """(package-internal parts, outside packages) that a module imports."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                outside.add(node.module)
            else:
                base = list(path.parent.parts)[: len(path.parent.parts) - node.level + 1]
                inside.add([*base, *(node.module or "").split(".")][0])
    return inside - {""}, outside


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_only_what_lies_below(path):
    part = path.parts[0].removesuffix(".py")
    if part == "__init__":
        return
    inside, outside = imports(path)
    assert inside - {part} <= BELOW[part]
    roots = {name.split(".")[0] for name in outside}
    no_torch = "utils linear_model _ensemble preprocessing datasets exceptions inspection model_selection".split()
    if part in no_torch:
        assert not roots & {"torch", "skorch"}
    if part == "feature_crossing" and path.name not in ("_nid.py", "_pair_strength.py", "_threads.py"):
        assert "torch" not in roots  # tables are crossed without it
    if part == "nn":
        assert not roots & {"sklearn", "skorch"}
    assert "skorch" not in roots or part in ("search", "base")


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_private_sklearn_names_have_one_door(path):
    private = []
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklearn."):
            private += [n for n in [*node.module.split("."), *(a.name for a in node.names)] if n.startswith("_")]
    assert not private or path == Path("utils/_sklearn.py")


def test_the_walk_sees_relative_imports():
    assert imports(Path("networks/_fm.py"))[0] == {"base", "nn"}


def in_a_new_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr


def test_searches_and_encoders_do_not_load_torch():
    in_a_new_process(
        "import sys, sklearn_autorec\n"
        "from sklearn_autorec import datasets, inspection, model_selection, preprocessing\n"
        "assert 'torch' not in sys.modules\n"
        "sklearn_autorec.CTRClassifier()\n"
        "assert 'torch' in sys.modules"
    )


def test_a_pickled_estimator_finds_its_network_by_name():
    model = sklearn_autorec.CTRClassifier(network="fm", max_epochs=1)
    in_a_new_process(
        f"import pickle\npickle.loads({pickle.dumps(model)!r}).fit([['a', 'x'], ['b', 'y'], ['a', 'y']] * 4, [0, 1, 1] * 4)"
    )


def test_an_architecture_finds_its_method_by_name():
    found = {"interactions": [[0, 1]], "candidates": [[0, 1]], "scores": [1.0], "orders": [2]}
    architecture = {
        "network": {"network": "FM", "params": {}},
        "embedding_dim": 4,
        "interaction": {"method": "RandomInteractions", "params": {}, **found},
    }
    in_a_new_process(
        "from sklearn_autorec import CTRClassifier\n"
        f"model = CTRClassifier.from_architecture({architecture!r}, max_epochs=1)\n"
        "model.fit([['a', 'x'], ['b', 'y'], ['a', 'y']] * 4, [0, 1, 1] * 4)"
    )


def test_every_part_is_an_attribute_of_the_package():
    internal = {"nn", "search", "utils", "exceptions", "estimators"}
    parts = {path.parts[0].removesuffix(".py") for path in MODULES} - internal
    assert {p for p in parts if not p.startswith("_")} == sklearn_autorec._SUBPACKAGES
    for name in sklearn_autorec._SUBPACKAGES:
        assert getattr(sklearn_autorec, name).__name__ == f"sklearn_autorec.{name}"
        assert name in dir(sklearn_autorec)
    with pytest.raises(AttributeError, match="has no attribute 'estimator'"):
        sklearn_autorec.estimator  # noqa: B018


def test_the_environment_of_floors_has_the_declared_ones():
    declared = dict(re.findall(r'"([a-z-]+)>=([0-9.]+)"', (REPOSITORY / "pyproject.toml").read_text()))
    pinned = dict(re.findall(r"^([a-z-]+)==([0-9.]+)$", (REPOSITORY / "constraints-floors.txt").read_text(), re.M))
    pinned["torch"] = re.search(r"FLOORS_TORCH \?= ([0-9.]+)", (REPOSITORY / "Makefile").read_text())[1]
    assert {"torch", "scikit-learn", "skorch", "numpy", "scipy", "pandas", "joblib"} <= pinned.keys()
    for name, version in pinned.items():
        assert f"{version}.".startswith(f"{declared[name]}."), (name, version, declared[name])
