"""Which part of the package may import which: a walk over the import statements."""

import ast
import functools
import importlib
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator

import sklearn_autorec
from sklearn_autorec.utils._sklearn import CallbackSupportMixin

ROOT = Path(sklearn_autorec.__file__).parent
REPOSITORY = Path(__file__).parents[1]
MODULES = sorted(p.relative_to(ROOT) for p in ROOT.rglob("*.py"))

# Floors from the ground up: a part may import those below it, never its neighbours or those above.
SEARCHES = {"utils", "exceptions", "nn", "base", "engine"}
BELOW = {
    "_version": set(),
    "_registry": set(),
    "utils": set(),
    "exceptions": set(),
    "preprocessing": {"utils", "exceptions"},
    "datasets": {"utils", "exceptions"},
    "nn": set(),
    "base": {"utils", "exceptions", "nn", "_registry"},
    "engine": {"utils", "exceptions", "nn", "base"},
    "estimators": SEARCHES | {"datasets", "preprocessing", "_ensemble"},
    "networks": {"utils", "nn", "base"},
    "interaction": SEARCHES,
    "embedding": SEARCHES,
    "losses": SEARCHES,
    "transfer": SEARCHES,
    "feature_selection": SEARCHES | {"datasets", "preprocessing", "estimators"},
    "feature_crossing": {"utils", "exceptions", "datasets", "preprocessing"},
    "linear_model": {"utils", "exceptions", "preprocessing", "feature_crossing"},
    "_ensemble": {"utils", "exceptions", "preprocessing", "feature_crossing", "linear_model"},
    "serving": {
        "utils",
        "exceptions",
        "preprocessing",
        "nn",
        "base",
        "engine",
        "estimators",
        "feature_crossing",
        "feature_selection",
        "linear_model",
        "_ensemble",
        "_registry",
        "_version",
    },
    "metrics": {"utils", "exceptions"},
    "inspection": {"utils", "exceptions", "metrics"},
    "model_selection": {"utils", "exceptions"},
}


PACKAGE = "sklearn_autorec"


@functools.cache
def nodes_of(path):
    """All nodes of a module of the package. Two tests walk over every module."""
    return list(ast.walk(ast.parse((ROOT / path).read_text())))


ANYTHING = "<whatever the call names>"


def imports(path, source=None):
    """(package-internal parts, outside packages) that a module imports, by statements and by calls.

    A call whose argument is not written out, and a function that imports and is handed on, may
    import `ANYTHING`."""
    inside, outside, called = set(), set(), set()

    def add(name, level):
        if level:
            name = ".".join(
                [PACKAGE, *path.parent.parts[: len(path.parent.parts) - level + 1], name]
            )
        root, *parts = [part for part in name.split(".") if part]
        if root == PACKAGE:
            inside.update(parts[:1])
        else:
            outside.add(name)

    nodes = nodes_of(path) if source is None else list(ast.walk(ast.parse(source)))
    importers = {"import_module", "__import__"}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module in ("importlib", "builtins"):
            importers |= {
                alias.asname for alias in node.names if alias.asname and alias.name in importers
            }
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, 0)
        elif isinstance(node, ast.ImportFrom):
            # `from . import a` and `from sklearn_autorec import a` name parts.
            packages = (None, PACKAGE)
            for name in (
                [node.module]
                if node.module not in packages
                else [alias.name for alias in node.names]
            ):
                add(f"{PACKAGE}.{name}" if node.module == PACKAGE else name, node.level)
        elif isinstance(node, ast.Call) and _name(node.func) in importers:
            called.add(node.func)
            name = (
                node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            )
            if isinstance(name, str):
                add(name.lstrip("."), len(name) - len(name.lstrip(".")))
            else:
                inside.add(ANYTHING)
    for node in nodes:
        if _name(node) in importers and node not in called:
            inside.add(ANYTHING)
    return inside, outside


def _name(node):
    return (
        node.id
        if isinstance(node, ast.Name)
        else node.attr
        if isinstance(node, ast.Attribute)
        else None
    )


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_only_what_lies_below(path):
    part = path.parts[0].removesuffix(".py")
    if part == "__init__":
        return
    inside, outside = imports(path)
    assert inside - {part} <= BELOW[part]
    roots = {name.split(".")[0] for name in outside}
    no_torch = (
        "utils linear_model _ensemble preprocessing datasets exceptions inspection metrics "
        "model_selection"
    ).split()
    if part in no_torch:
        assert not roots & {"torch", "skorch"}
    if part == "feature_crossing" and path.name not in (
        "_nid.py",
        "_pair_strength.py",
        "_threads.py",
    ):
        assert "torch" not in roots  # tables are crossed without it
    if part == "nn":
        assert not roots & {"sklearn", "skorch"}
    assert "skorch" not in roots or part == "engine"


def storey(part):
    """The lowest floor on which a part can stand: above all that it may import."""
    return max((storey(other) + 1 for other in BELOW[part]), default=0)


def test_the_drawing_in_the_authors_guide_has_every_part_on_its_floor():
    page = (REPOSITORY / "doc" / "authors_guide.rst").read_text(encoding="utf-8")
    drawn = {
        part: int(floor)
        for floor, parts in re.findall(r"^   (\d) \|(.*)\|$", page, re.MULTILINE)
        for part in parts.split()
    }
    assert drawn == {part: storey(part) for part in BELOW}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_private_sklearn_names_have_one_door(path):
    private = []
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklearn."):
            private += [
                n
                for n in [*node.module.split("."), *(a.name for a in node.names)]
                if n.startswith("_")
            ]
    assert not private or path == Path("utils/_sklearn.py")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ..base import Network", {"base"}),
        ("from .. import base, nn", {"base", "nn"}),
        ("import sklearn_autorec.nn", {"nn"}),
        ("from sklearn_autorec import nn", {"nn"}),
        ("from sklearn_autorec.nn import MLP", {"nn"}),
        ("def f():\n    importlib.import_module('..estimators', __package__)", {"estimators"}),
        ("importlib.import_module('sklearn_autorec.estimators')", {"estimators"}),
        (
            "from importlib import import_module as load\nload('sklearn_autorec.serving')",
            {"serving"},
        ),
        ("__import__('sklearn_autorec.serving')", {"serving"}),
        ("for part in parts:\n    importlib.import_module(f'.{part}', __package__)", {ANYTHING}),
        ("load = importlib.import_module", {ANYTHING}),
        (
            "import json\nfrom importlib.metadata import version\nimportlib.import_module('math')",
            set(),
        ),
    ],
)
def test_the_walk_sees_imports_of_every_kind(source, found):
    assert imports(Path("networks/_new.py"), source)[0] == found


def test_the_ground_does_not_load_what_stands_above_it():
    """The registry of names is filled from above; see ``sklearn_autorec/__init__.py``."""
    for path in [p for p in MODULES if p.parts[0] in ("_registry.py", "base")]:
        part = path.parts[0].removesuffix(".py")
        assert imports(path)[0] <= BELOW[part] | {part}
    in_a_new_process(
        "import sys, sklearn_autorec.base\n"
        "loaded = {n.split('.')[1] for n in sys.modules if n.startswith('sklearn_autorec.')}\n"
        "assert loaded <= {'base', '_registry', '_version'}, loaded"
    )


def test_the_walk_sees_relative_imports():
    assert imports(Path("networks/_fm.py"))[0] == {"base", "nn"}


def in_a_new_process(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr


def package_bases(cls):
    """What a class takes from other classes of the package that are no estimators themselves."""
    stand_in = CallbackSupportMixin  # of scikit-learn, where it has none
    return [
        base
        for base in cls.__mro__[1:]
        if base.__module__.startswith(PACKAGE)
        and base is not stand_in
        and not issubclass(base, BaseEstimator)
    ]


def test_no_estimator_is_put_together_from_mixins_of_the_package():
    """What a fit does stands in functions, which see each other's arguments alone."""
    classes = {
        cls
        for path in MODULES
        if path.parts[0] == "estimators"
        for _, cls in inspect.getmembers(module_of(path), inspect.isclass)
        if cls.__module__.startswith(f"{PACKAGE}.estimators")
    }
    assert {sklearn_autorec.CTRClassifier, sklearn_autorec.RatingRegressor} < classes
    assert {cls: package_bases(cls) for cls in classes if package_bases(cls)} == {}

    class Mixin:
        __module__ = f"{PACKAGE}.estimators._new"

    class Composed(Mixin, sklearn_autorec.CTRClassifier):
        pass

    assert package_bases(Composed) == [Mixin]


def test_each_stage_of_training_fits_on_a_page():
    files = [ROOT / "estimators" / name for name in ("_stages.py", "_streaming.py")]
    functions = functions_of("\n".join(path.read_text() for path in files))
    assert {"fit_anew", "go_on", "stream"} < functions.keys()
    assert {name: n for name, n in functions.items() if n > 60} == {}
    assert functions_of("def f():\n" + "    1\n" * 60) == {"f": 61}


def functions_of(source):
    """Number of lines of each function, by name."""
    return {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    }


def module_of(path):
    return importlib.import_module(".".join([PACKAGE, *path.with_suffix("").parts]))


def test_searches_and_encoders_do_not_load_torch():
    in_a_new_process(
        "import sys, sklearn_autorec\n"
        "from sklearn_autorec import datasets, inspection, metrics, model_selection\n"
        "from sklearn_autorec import preprocessing\n"
        "assert 'torch' not in sys.modules\n"
        "sklearn_autorec.CTRClassifier()\n"
        "assert 'torch' in sys.modules"
    )


def test_a_pickled_estimator_finds_its_network_by_name():
    model = sklearn_autorec.CTRClassifier(network="fm", max_epochs=1)
    in_a_new_process(
        f"import pickle\npickle.loads({pickle.dumps(model)!r}).fit([['a', 'x'], ['b', 'y'], ['a', "
        f"'y']] * 4, [0, 1, 1] * 4)"
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
    internal = {"nn", "engine", "utils", "exceptions", "estimators"}
    parts = {path.parts[0].removesuffix(".py") for path in MODULES} - internal
    assert {p for p in parts if not p.startswith("_")} == sklearn_autorec._SUBPACKAGES
    for name in sklearn_autorec._SUBPACKAGES:
        assert getattr(sklearn_autorec, name).__name__ == f"sklearn_autorec.{name}"
        assert name in dir(sklearn_autorec)
    with pytest.raises(AttributeError, match="has no attribute 'estimator'"):
        sklearn_autorec.estimator  # noqa: B018


def test_the_environment_of_floors_has_the_declared_ones():
    declared = dict(
        re.findall(r'"([a-z-]+)>=([0-9.]+)"', (REPOSITORY / "pyproject.toml").read_text())
    )
    pinned = dict(
        re.findall(
            r"^([a-z-]+)==([0-9.]+)$", (REPOSITORY / "constraints-floors.txt").read_text(), re.M
        )
    )
    pinned["torch"] = re.search(
        r"FLOORS_TORCH \?= ([0-9.]+)", (REPOSITORY / "Makefile").read_text()
    )[1]
    ours = {"torch", "scikit-learn", "skorch", "numpy", "scipy", "pandas", "joblib"}
    assert ours <= pinned.keys()
    for name, version in pinned.items():
        assert f"{version}.".startswith(f"{declared[name]}."), (name, version, declared[name])
