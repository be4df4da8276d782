"""Fragments become a section of the changelog when a release is made."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("fold_changelog", ROOT / "doc" / "fold_changelog.py")
changelog = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(changelog)


@pytest.fixture
def project(tmp_path):
    """The files that a release reads, with three fragments."""
    folder = tmp_path / "doc" / "changelog.d"
    folder.mkdir(parents=True)
    (tmp_path / "sklearn_autorec").mkdir()
    (tmp_path / "sklearn_autorec" / "_version.py").write_text('__version__ = "9.1.0"\n')
    (tmp_path / "CITATION.cff").write_text("version: 9.1.0\ndate-released: 2031-02-03\n")
    shutil.copy(ROOT / "doc" / "changelog.rst", tmp_path / "doc")
    (folder / "README.rst").write_text("About.\n")
    (folder / "a-new-thing.feature.rst").write_text("A new thing::\n\n    code\n\nin two parts.\n")
    (folder / "old.change.rst").write_text("The old goes.\n")
    (folder / "zeros.fix.rst").write_text("Zeros are\nzeros.\n")
    return tmp_path


def test_a_release_has_all_fragments_and_leaves_none(project):
    before = (project / "doc" / "changelog.rst").read_text(encoding="utf-8").rstrip()
    assert changelog.fold(project) == "9.1.0 (2031-02-03)"
    text = (project / "doc" / "changelog.rst").read_text(encoding="utf-8")
    intro, releases = before.split(changelog.MARK)
    assert text == (
        f"{intro}{changelog.MARK}\n\n9.1.0 (2031-02-03)\n------------------\n\n"
        "New\n~~~\n\n- A new thing::\n\n      code\n\n  in two parts.\n\n"
        "Changed\n~~~~~~~\n\n- The old goes.\n\nFixed\n~~~~~\n\n- Zeros are\n  zeros.\n"
        + ("\n" + releases.strip() + "\n" if releases.strip() else "")
    )
    assert [p.name for p in (project / "doc" / "changelog.d").iterdir()] == ["README.rst"]


def test_the_newest_release_stands_first(project):
    changelog.fold(project)
    (project / "doc" / "changelog.d" / "more.fix.rst").write_text("More.\n")
    (project / "sklearn_autorec" / "_version.py").write_text('__version__ = "9.2.0"\n')
    (project / "CITATION.cff").write_text("version: 9.2.0\ndate-released: 2031-03-04\n")
    changelog.fold(project)
    text = (project / "doc" / "changelog.rst").read_text(encoding="utf-8")
    assert re.findall(r"^(9\S+) \(", text, re.MULTILINE) == ["9.2.0", "9.1.0"]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("CITATION.cff", "version: 9.0.0\ndate-released: 2031-02-03\n", "9.0.0, the package 9.1.0"),
        ("doc/changelog.d/odd.news.rst", "News.\n", "odd.news.rst must be called"),
        ("doc/changelog.d/none.fix.rst", "\n", "none.fix.rst is empty"),
        ("doc/changelog.rst", "Changelog\n", "lacks the line"),
        ("doc/changelog.rst", f"{changelog.MARK}\n\n9.1.0 (2030-01-01)\n", "has version 9.1.0"),
    ],
)
def test_what_is_wrong_changes_nothing(project, file, content, told):
    (project / file).write_text(content)
    before = {p: p.read_bytes() for p in project.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=told):
        changelog.fold(project)
    assert {p: p.read_bytes() for p in project.rglob("*") if p.is_file()} == before


def test_a_release_without_changes_is_refused(project):
    for path in (project / "doc" / "changelog.d").glob("*.*.rst"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no fragments"):
        changelog.fold(project)


def test_the_fragments_of_the_project_can_be_folded():
    page = (ROOT / "doc" / "changelog.rst").read_text(encoding="utf-8")
    folder = ROOT / "doc" / "changelog.d"
    text = changelog.with_section(page, changelog.section("Next", folder))
    n = sum(map(len, changelog.fragments_of(folder).values()))
    assert text.count("\n- ") >= n and changelog.MARK in text
