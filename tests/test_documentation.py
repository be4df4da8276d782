"""The pages under doc/: their examples run, and the reference lists every public module."""

import ast
import doctest
import importlib
import inspect
import itertools
import pkgutil
import re
from pathlib import Path

import pytest

import sklearn_autorec

DOC = Path(__file__).parents[1] / "doc"
SOURCES = sorted(
    p
    for p in [*DOC.glob("*.rst"), *DOC.glob("user_guide/*.rst")]
    if p.name != "sg_execution_times.rst"  # written by each build
)
PAGES = sorted(
    p.relative_to(DOC)
    for p in SOURCES
    if re.search(r"^\s*>>> ", p.read_text(encoding="utf-8"), re.MULTILINE)
)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the pages write files
    monkeypatch.syspath_prepend(str(DOC.parent / "examples"))  # scripts that the pages show
    failures, run = doctest.testfile(
        str(DOC / page), module_relative=False, optionflags=doctest.ELLIPSIS, encoding="utf-8"
    )
    assert run and not failures


def test_the_tutorial_is_among_them():
    assert Path("tutorial.rst") in PAGES


def test_the_reference_lists_every_public_module():
    public = {
        m.name for m in pkgutil.iter_modules(sklearn_autorec.__path__) if not m.name.startswith("_")
    }
    listed = {
        line.strip().removeprefix("sklearn_autorec.")
        for line in (DOC / "api.rst").read_text(encoding="utf-8").splitlines()
    }
    # Estimators, linear ones too, are listed under the package itself; utils is for the package's
    # own use.
    assert public - {"estimators", "linear_model", "utils"} <= listed


def public_estimators():
    """All public classes with parameters in scikit-learn's sense, and their names."""
    names = [
        m.name for m in pkgutil.iter_modules(sklearn_autorec.__path__) if not m.name.startswith("_")
    ]
    found = {}
    for module in [
        sklearn_autorec,
        *(importlib.import_module(f"sklearn_autorec.{name}") for name in names),
    ]:
        for name in getattr(module, "__all__", []):
            if inspect.isclass(thing := getattr(module, name)) and hasattr(thing, "get_params"):
                found[name] = thing
    return found


def test_defaults_are_those_that_the_docstrings_tell():
    wrong, n_told = [], 0
    for name, thing in public_estimators().items():
        parameters = inspect.signature(thing).parameters
        for told, text in re.findall(
            r"^(\w+(?:, \w+)*) : .*?default=(.+)$", inspect.getdoc(thing) or "", re.MULTILINE
        ):
            names = [p for p in told.split(", ") if p in parameters]
            text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.strip())
            value = float("nan") if text == "nan" else ast.literal_eval(text)
            # Parameters that stand together may have a default each, or one for all.
            each = value if len(names) > 1 and isinstance(value, tuple) else [value] * len(names)
            for parameter, expected in zip(names, each, strict=True):
                n_told += 1
                if repr(parameters[parameter].default) != repr(expected):
                    wrong.append((name, parameter, parameters[parameter].default, expected))
    assert wrong == [] and n_told > 400


@pytest.mark.parametrize("page", SOURCES, ids=lambda page: str(page.relative_to(DOC)))
def test_rows_of_tables_are_whole(page):
    """In a simple table text in the first column begins a new row: what was meant as a second line
    stands alone.
    """
    lines = page.read_text(encoding="utf-8").splitlines()
    rules = [k for k, line in enumerate(lines) if re.fullmatch(r"\s*=+(\s+=+)+", line)]
    for start, end in itertools.pairwise(rules):
        second = re.search(r"=\s+(=)", lines[start]).start(1)
        rows = lines[start + 1 : end]
        if all(rows):  # else the lines between two tables
            assert [row for row in rows if row[:second].strip() and not row[second:].strip()] == []


def test_tests_named_in_the_page_of_faults_exist():
    """The page is evidence only as long as its tests are there."""
    text = (DOC / "reliability.rst").read_text(encoding="utf-8")
    named = re.findall(r"``(?:tests/)?([\w/]*test_\w+(?:\.py)?)``", text)
    tests = Path(__file__).parent
    sources = {
        path.relative_to(tests).as_posix(): path.read_text(encoding="utf-8")
        for path in tests.rglob("test_*.py")
    }
    functions = set(re.findall(r"^ *def (test_\w+)\(", "\n".join(sources.values()), re.MULTILINE))
    files = {*sources, *(name.rsplit("/", 1)[-1] for name in sources)}
    assert len(named) > 60
    assert [
        name for name in named if name not in (files if name.endswith(".py") else functions)
    ] == []


GALLERY = sorted((DOC.parent / "examples" / "gallery").glob("plot_*.py"))


def test_the_gallery_has_examples():
    assert len(GALLERY) >= 12


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_an_example_of_the_gallery_can_be_a_page(path):
    """A title, cells, a picture, a seed; and the page of the guide that it names exists."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    title, rule, *rest = ast.get_docstring(tree).splitlines()
    assert rule == "=" * len(title) and rest
    assert text.count("# %%") >= 2 and "matplotlib" in text
    assert "random_state=0" in text or "default_rng(" in text
    named = re.findall(r":doc:`/([\w/]+)`", text)
    assert named and all((DOC / f"{name}.rst").exists() for name in named)
    modules = {
        node.module.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert "sklearn_autorec" in modules


def test_most_pages_of_the_guide_have_an_example():
    """Pages of the guide that have an example."""
    named = {
        name
        for path in GALLERY
        for name in re.findall(r":doc:`/user_guide/(\w+)`", path.read_text(encoding="utf-8"))
    }
    assert len(named) >= 12
