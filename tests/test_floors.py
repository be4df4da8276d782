"""Which part of the package may import which: a walk over the import statements."""

import ast
from pathlib import Path

import pytest

import sklearn_autorec

ROOT = Path(sklearn_autorec.__file__).parent
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
    "_fit_parts": {"search"},
    "_searching": {"utils", "search", "base"},
    "_fitting": {"utils", "exceptions", "nn", "search", "base", "preprocessing", "_fit_parts", "_searching"},
    "estimators": {"utils", "exceptions", "nn", "search", "base", "preprocessing", "_fitting"},
    "networks": {"utils", "nn", "base"},
    "serving": {
        "utils",
        "exceptions",
        "nn",
        "base",
        "preprocessing",
        "feature_crossing",
        "_fit_parts",
        "_searching",
        "estimators",
    },
    "interaction": {"utils", "exceptions", "nn", "search", "base"},
    "embedding": {"utils", "exceptions", "nn", "search", "base"},
    "feature_crossing": {"utils", "exceptions", "preprocessing"},
    "inspection": {"utils", "exceptions"},
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
    if part in ("utils", "preprocessing", "datasets", "exceptions", "inspection"):
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
