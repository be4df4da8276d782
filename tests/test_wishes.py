"""doc/wishes.rst: every wish says how it is met and names tests, and these exist.

A new row of the page needs no line here."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(
    r"^   \* - (.+(?:\n       .+)*)\n     - (.+(?:\n       .+)*)\n     - (.+(?:\n       .+)*)", re.M
)
NAMED = re.compile(r"``(tests/[\w/]+\.py)::(\w+)``")


def rows_of(text):
    """(wish, how it is met, tests) of each row of the tables but their heads."""
    return [row for row in ROW.findall(text) if row[0] != "Wish"]


def functions_of(path):
    """Names of the tests in a file, which is parsed and not run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


PAGE = (ROOT / "doc" / "wishes.rst").read_text(encoding="utf-8")
ROWS = rows_of(PAGE)


def test_no_row_is_overlooked():
    assert len(ROWS) == PAGE.count("\n   * - ") - PAGE.count("\n   * - Wish\n") >= 25
    wishes = [wish for wish, _, _ in ROWS]
    assert len(set(wishes)) == len(wishes)


@pytest.mark.parametrize(("wish", "answer", "tests"), ROWS, ids=[row[0][:40] for row in ROWS])
def test_the_tests_of_a_wish_exist(wish, answer, tests):
    named = NAMED.findall(tests)
    assert named and NAMED.sub("", tests).strip(" ,\n") == ""
    for file, name in named:
        assert (ROOT / file).exists(), file
        assert name in functions_of(ROOT / file), f"{file}::{name}"


def test_rows_and_tests_are_told_apart():
    text = "   * - A wish\n       of two lines\n     - Met\n"
    text += "     - ``tests/a.py::test_b``,\n       ``tests/c.py::test_d``\n"
    ((wish, answer, tests),) = rows_of(text)
    assert wish == "A wish\n       of two lines" and answer == "Met"
    assert NAMED.findall(tests) == [("tests/a.py", "test_b"), ("tests/c.py", "test_d")]
    assert "test_rows_and_tests_are_told_apart" in functions_of(Path(__file__))
    assert "rows_of" not in functions_of(Path(__file__))
