"""Figures that other pages repeat are those of benchmarks.rst, and named parameters exist."""

import inspect
import re
from pathlib import Path

import pytest

import sklearn_autorec
from sklearn_autorec import (
    embedding,
    feature_crossing,
    feature_selection,
    interaction,
    losses,
    transfer,
)

ROOT = Path(__file__).parents[1]
DOC = ROOT / "doc"


def page(name):
    """Text of a page of the documentation."""
    return (DOC / name).read_text(encoding="utf-8")


def section(text, title):
    """What stands between a title and the next one of the same kind."""
    _, _, rest = text.partition(f"\n{title}\n")
    rule = rest.splitlines()[0]
    assert set(rule) == {rule[0]} and len(rule) == len(title)
    return re.split(rf"\n[^\n]+\n{re.escape(rule[0])}{{3,}}\n", rest[len(rule) :])[0]


def simple_rows(text):
    """Cells of the rows of all simple tables, by the columns that their rules mark."""
    lines, rows = text.splitlines(), []
    rules = [k for k, line in enumerate(lines) if re.fullmatch(r"=+(  +=+)+", line)]
    for start, end in zip(rules[1::3], rules[2::3], strict=True):
        spans = [match.span() for match in re.finditer("=+", lines[start])]
        ends = [begin for begin, _ in spans[1:]] + [None]
        for line in lines[start + 1 : end]:
            cells = zip(spans, ends, strict=True)
            rows.append([line[begin:stop].strip() for (begin, _), stop in cells])
    return rows


def list_rows(text):
    """Cells of the rows of list tables, without their headers."""
    rows = [row.split("\n\n")[0] for row in re.split(r"^   \* - ", text, flags=re.MULTILINE)[2:]]
    return [[cell.strip() for cell in re.split(r"\n     - ", row)] for row in rows]


def plain(cell):
    """A cell without its quotes."""
    return cell.replace("``", "")


def times_of_fits():
    """Processor times of fits by name of the method, over that of no search on Frappe, as they are
    written.
    """
    benchmarks = page("benchmarks.rst")
    rows = simple_rows(section(benchmarks, "Every search method on two tables"))
    times = {row[0]: row[-1] for row in rows if row[0] not in ("\\", "all bytes")}
    counted = section(benchmarks, "What searches do, counted")
    _, _, late = " ".join(counted.split()).partition("over that of no search")
    return times | dict(re.findall(r"(\w+) (\d+\.\d)\b", late))


def test_sections_and_tables_are_read():
    text = "\nA\n-\n\n==  ==\na   b\n==  ==\n1   2\n\\   3 4\n==  ==\n\nB\n---\n\n5\n"
    assert simple_rows(section(text, "A")) == [["1", "2"], ["\\", "3 4"]]
    table = "   * - a\n     - b\n   * - c\n     - d e\n\nText.\n"
    assert list_rows(table) == [["c", "d e"]]


def test_costs_of_searches_are_those_of_the_benchmarks():
    counted = {
        row[0]: row[1:]
        for row in simple_rows(section(page("benchmarks.rst"), "What searches do, counted"))
    }
    times = times_of_fits()
    told = simple_rows(section(page("costs.rst"), "Searches inside a network"))
    for name, fit, passes, judging, weights, served in told:
        forward, backward, judged, bytes_, _, of_model = counted[plain(name)]
        assert fit == times.get(plain(name), ""), name
        assert float(passes or 0) == float(forward) >= float(backward), name
        assert float(judging or 0) == float(judged) and float(weights or 0) == float(bytes_), name
        assert served == of_model, name
    assert {plain(row[0]) for row in told} == set(counted) and len(told) > 30


def test_every_search_method_has_its_costs():
    public = {
        name
        for module in (embedding, interaction, feature_selection, losses, transfer)
        for name in module.__all__
        if hasattr(getattr(module, name), "slots") and hasattr(getattr(module, name), "search")
    }
    told = {
        plain(row[0])
        for row in simple_rows(section(page("costs.rst"), "Searches inside a network"))
    }
    assert public - told == {"AutoDis"}  # which is trained with the network and searches nothing


def test_parameters_that_bound_costs_exist():
    modules = (embedding, interaction, feature_selection, losses, transfer, feature_crossing)
    text = page("costs.rst")
    rows = list_rows(section(text, "Searches inside a network").partition("list-table::")[2])
    others = list_rows(section(text, "Transformers, and searches over any estimator"))
    rows += [[row[0], row[3]] for row in others if "estimator's" not in row[3]]
    n_told = 0
    for names, told, *_ in rows:
        for name in re.findall(r"``(\w+)``", names):
            found = next(getattr(m, name) for m in modules if hasattr(m, name))
            parameters = inspect.signature(found).parameters
            for parameter in re.findall(r"``(\w+)``", told):
                assert parameter in parameters, (name, parameter)
                n_told += 1
    assert n_told > 30
    for estimator in (sklearn_autorec.CTRClassifier, sklearn_autorec.RatingRegressor):
        named = {
            "max_time",
            "search_epochs",
            "max_epochs",
            "early_stopping",
            "checkpoint",
            "storage",
        }
        assert named <= set(inspect.signature(estimator).parameters)


def figures(text):
    """Numbers of a text that are measured: with a point, or with commas; .5 for 0.5."""
    found = re.findall(r"(?<![\w.])(?:\d{1,3}(?:,\d{3})+|\d*\.\d+)(?![\w.]*\d)", text)
    return [number.removeprefix("0") for number in found]


@pytest.mark.parametrize("name", ["costs.rst", "user_guide/scaling.rst"])
def test_measured_figures_stand_in_the_benchmarks(name):
    text = page(name)
    part = section(text, "Figures") if "scaling" in name else text
    known = set(figures(page("benchmarks.rst")))
    told = [number for number in figures(re.sub(r"``[^`]*``", "", part)) if number not in known]
    assert told == [] and len(figures(part)) > 10


def test_what_searches_brought_is_that_of_the_benchmarks():
    """The table of which.rst has the same times, rounded to a digit."""
    times = times_of_fits()
    rows = list_rows(section(page("which.rst"), "What the searches brought"))
    assert len(rows) > 25
    for row in rows:
        name = re.search(r"``(\w+)``", row[0])
        if name is not None:
            told = float(row[3].removesuffix(" x"))
            assert told == pytest.approx(float(times[name[1]]), abs=0.5 if told >= 2 else 0.05), row


def test_chapters_about_what_costs_lead_to_the_page_of_costs():
    free = {"index.rst", "judging.rst", "inspection.rst"}  # nothing is fitted there
    chapters = [path for path in DOC.glob("user_guide/*.rst") if path.name not in free]
    assert [path.name for path in chapters if ":doc:`../costs`" not in page(path)] == []
    for name in ("index.rst", "which.rst"):
        assert re.search(r":doc:`costs`|:link: costs", page(name))


def test_the_readme_has_the_ranks_of_the_benchmarks():
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")
    suite = " ".join(section(page("benchmarks.rst"), "The suite").split())
    ranks = re.findall(r"^(\S.*?)  +(\d\.\d) +(\d\.\d) ", readme, re.MULTILINE)
    names = {
        "CTRClassifier()": "``CTRClassifier()``",
        "CatBoost": "CatBoost",
        "LightGBM, tuned": "tuned LightGBM",
        "one-hot LR": "one-hot LR",
        "LightGBM": "LightGBM's default",
    }
    assert {name for name, *_ in ranks} == set(names)
    for name, auc, loss in ranks:
        assert f"{names[name]} {auc} / {loss}" in suite
