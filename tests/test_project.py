"""What the files at the top of the project and the page on installation say is so."""

import datetime
import re
import tomllib
from pathlib import Path

import pytest

import sklearn_autorec

ROOT = Path(__file__).parents[1]
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def names_of(requirements):
    return {re.split(r"[<>=\[]", one)[0] for one in requirements}


def extras_of_the_page():
    """Extra -> packages, of the table in install.rst, whose cells run over several lines."""
    table = (
        text_of("doc/install.rst").split("Extra         Brings")[1].split("See that it works")[0]
    )
    first, second = 14, 14 + 43
    extras, name = {}, None
    for line in table.splitlines():
        if line.startswith("``"):
            name = line[:first].strip(" `")
            extras[name] = ""
        if name and not line.startswith("=="):
            extras[name] += " " + line[first:second]
    return {name: set(re.split(r"[,\s]+", cell.strip(", "))) for name, cell in extras.items()}


def test_the_page_on_installation_names_every_extra_and_what_it_brings():
    declared = {
        extra: names_of(requirements)
        for extra, requirements in METADATA["optional-dependencies"].items()
    }
    assert extras_of_the_page() == declared


def test_the_readme_names_every_extra():
    readme = text_of("README.rst")
    for extra in METADATA["optional-dependencies"]:
        assert f"[{extra}]" in readme


@pytest.mark.parametrize("page", ["README.rst", "CONTRIBUTING.rst", "doc/install.rst"])
def test_every_make_command_that_is_named_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named = re.findall(r"(?:``|^    )make ((?:[a-z-]+ ?)+)(?:``|  |$)", text_of(page), re.MULTILINE)
    wanted = {target for command in named for target in command.split()}
    assert wanted
    assert wanted <= targets


def test_the_citation_names_this_version():
    found = re.search(r"^version: (.+)$", text_of("CITATION.cff"), re.MULTILINE)
    assert found[1] == sklearn_autorec.__version__


def test_a_release_has_a_date_and_a_model_file_for_later_tests():
    found = re.search(r"^date-released: (.+)$", text_of("CITATION.cff"), re.MULTILINE)
    assert datetime.date.fromisoformat(found[1]) >= datetime.date(2026, 11, 30)
    golden = ROOT / "tests" / "serving" / "golden"
    assert (golden / f"{sklearn_autorec.__version__}.model").exists()


def test_distributions_are_tried_and_carry_the_marker_of_hints():
    assert "make dist-check" in text_of(".github/workflows/tests.yml")
    recipe = text_of("Makefile").split("\ndist-check:\n")[1].split("\n\n")[0]
    assert ".ci/dist.py" in recipe
    tools = tomllib.loads(text_of("pyproject.toml"))["tool"]
    assert tools["setuptools"]["package-data"] == {"sklearn_autorec": ["py.typed"]}
    assert "Typing :: Typed" in METADATA["classifiers"]


def test_what_only_the_sdist_brings_is_named():
    """Folders and files beside the package that are of use to whoever has the sdist."""
    named = set(text_of("MANIFEST.in").split())
    assert {"tests", "examples", "doc", ".ci", ".github", "Makefile", "CONTRIBUTING.rst"} <= named


@pytest.mark.parametrize("page", ["CONTRIBUTING.rst", "SECURITY.rst", "CODE_OF_CONDUCT.rst"])
def test_files_that_a_page_names_exist(page):
    named = re.findall(r"``((?:doc|examples|tests)/[\w./]+|[A-Z_]+\.rst)``", text_of(page))
    for name in named:
        assert (ROOT / name).exists(), name


def test_python_versions_agree():
    declared = {
        classifier.rsplit(" ", 1)[1]
        for classifier in METADATA["classifiers"]
        if re.search(r":: 3\.\d+$", classifier)
    }
    workflow = text_of(".github/workflows/tests.yml")
    tried = set(re.findall(r'"(3\.\d+)"', workflow.split("python: [")[1].split("]")[0]))
    assert declared == tried
    assert METADATA["requires-python"] == ">=" + min(declared, key=lambda v: int(v[2:]))


def test_dependencies_are_few_and_have_no_upper_bounds():
    """Beyond scikit-learn, torch and skorch only what these bring themselves."""
    wanted = METADATA["dependencies"]
    assert names_of(wanted) == {
        *("scikit-learn", "torch", "skorch"),
        *("numpy", "scipy", "pandas", "joblib"),
    }
    extras = [one for few in METADATA["optional-dependencies"].values() for one in few]
    for requirement in [*wanted, *extras]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+", requirement), requirement


def test_the_newest_releases_are_tried_every_week():
    workflow = text_of(".github/workflows/newest.yml")
    assert re.search(r'cron: "\d+ \d+ \* \* \d"', workflow) and "make newest" in workflow
    recipe = text_of("Makefile").split("\nnewest:\n")[1].split("\n\n")[0]
    for name in ("--pre --upgrade", "scikit-learn", "torch", "pandas", "numpy", "pytest"):
        assert name in recipe


def test_the_extra_of_tests_brings_what_users_extras_bring():
    extras = {
        extra: names_of(requirements)
        for extra, requirements in METADATA["optional-dependencies"].items()
    }
    for extra in ("plot", "progress", "parquet", "onnx", "bayes", "serve"):
        assert extras[extra] <= extras["dev"], extra


def test_what_the_page_on_installation_says_is_so():
    page = text_of("doc/install.rst")
    brought = re.search(r"brings ([\w, -]+) and (\w+)\.", page)
    assert {*brought[1].split(", "), brought[2]} == names_of(METADATA["dependencies"])
    assert f"Python {METADATA['requires-python'].removeprefix('>=')} or newer" in page
    for example in re.findall(r"``(examples/[\w./]+)``", page):
        assert (ROOT / example).exists(), example
    for extras in re.findall(r"\.\[([\w,]+)\]", page):
        assert {*extras.split(",")} <= {*METADATA["optional-dependencies"]}
    options = set(re.findall(r"quickstart\.py ((?:--\w+ \w+ ?)+)", page)[0].split()[::2])
    assert options == {"--data", "--target"} and all(
        f'"{option}"' in text_of("examples/quickstart.py") for option in options
    )


# What needs an extra, and how whoever lacks it is told.
NEEDS = {
    "plot": ("sklearn_autorec/inspection/_plotting.py", "[plot]"),
    "parquet": ("sklearn_autorec/datasets/_loaders.py", "[parquet]"),
    "onnx": ("sklearn_autorec/serving/_onnx.py", "[onnx]"),
    "bayes": ("sklearn_autorec/model_selection/_optuna_samplers.py", "[bayes]"),
    "serve": ("examples/serve_http.py", "[serve]"),
}


@pytest.mark.parametrize("extra", sorted(NEEDS))
def test_an_import_that_fails_names_its_extra(extra):
    file, told = NEEDS[extra]
    assert told in text_of(file)
