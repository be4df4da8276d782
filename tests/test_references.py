"""Docstrings lead to the papers: numbered references with links, the same ones in the table of
methods.
"""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import sklearn_autorec
from sklearn_autorec._registry import METHODS, NETWORK_CLASSES

DOC = Path(__file__).parents[1] / "doc"
OWN = {cls.__name__: cls for cls in [*METHODS.own().values(), *NETWORK_CLASSES.own().values()]}
# No paper: architectures that are given, baselines, networks older than any paper on them, bases.
WITHOUT_PAPER = {
    *("FixedArchitecture", "EqualSize", "MagnitudePruning", "RandomSizes", "RandomInteractions"),
    *("DefaultNetwork", "LR", "MLPNetwork", "DeepNetwork", "HistoryNetwork"),
}
# Papers that have neither a DOI nor a place on arXiv.
ELSEWHERE = {"PROFIT": "https://papers.neurips.cc/paper/2021/"}
# Second references whose identifier is not known for certain.
WITHOUT_LINK = {"AutoSrh: An Embedding Dimensionality Search", "AutoGFS: automated group-based"}
LINK = re.compile(r"https://(?:doi\.org/10\.\d{4,}/\S+\w|arxiv\.org/abs/\d{4}\.\d{4,5})(?=\s|$)")


def references_of(thing):
    """The numbered references of a docstring, each as one line."""
    text = (inspect.getdoc(thing) or "").partition("References\n----------\n")[2]
    text = re.split(r"\n\n(?=\w[\w ]*\n-{3,}\n)", text)[0]
    return [" ".join(one.split()) for one in re.split(r"^\.\. \[\d+\] ", text, flags=re.M) if one]


def public():
    found = {}
    for package in sklearn_autorec._SUBPACKAGES:
        module = importlib.import_module(f"sklearn_autorec.{package}")
        found |= {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    return {name: thing for name, thing in found.items() if references_of(thing)}


@pytest.mark.parametrize("name", sorted(OWN.keys() - WITHOUT_PAPER))
def test_every_method_and_network_leads_to_its_paper(name):
    text = " ".join(references_of(OWN[name]))
    assert ELSEWHERE[name] in text if name in ELSEWHERE else LINK.search(text)


def test_those_without_a_paper_are_there_and_name_none():
    assert WITHOUT_PAPER | ELSEWHERE.keys() <= OWN.keys()
    assert [name for name in WITHOUT_PAPER if references_of(OWN[name])] == []


def test_references_are_numbered_and_linked():
    things = public()
    assert len(things) > 60
    wrong = []
    for name, thing in things.items():
        text = inspect.getdoc(thing)
        numbers = [int(n) for n in re.findall(r"^\.\. \[(\d+)\] ", text, re.M)]
        if numbers != list(range(1, len(references_of(thing)) + 1)):
            wrong.append((name, "numbers", numbers))
        for one in references_of(thing):
            if "https://" not in one and not any(known in one for known in WITHOUT_LINK):
                wrong.append((name, "no link", one))
            for link in re.findall(r"https://(?:doi|arxiv)\.org/\S+", one):
                if not LINK.fullmatch(link):
                    wrong.append((name, "no identifier", link))
    assert wrong == []


def test_one_paper_has_one_link():
    """The same title leads to the same place, two titles to two."""
    titles = {}
    for thing in public().values():
        for one in references_of(thing):
            if title := re.search(r'"(.+?)",? ', one):
                titles.setdefault(title[1], set()).update(re.findall(r"https://\S+", one))
    links = [link for found in titles.values() for link in found]
    assert len(titles) > 55 and len(links) == len(set(links))
    assert {title: found for title, found in titles.items() if len(found) > 1} == {}


def test_the_table_of_methods_has_the_links_of_the_docstrings():
    things = public()
    page = (DOC / "methods.rst").read_text(encoding="utf-8")
    rows = re.findall(
        r"^   \* - (``.+?)\n     - .+?\n     - (.+?(?:\n       .+)*)\n     - ", page, re.M
    )
    assert len(rows) > 45
    for names, paper in rows:
        classes = [things[n] for n in re.findall(r"(\w+)``", names) if n in things]
        linked = set(re.findall(r"<(https://\S+)>`__", paper))
        told = {
            link
            for cls in classes
            for one in references_of(cls)
            for link in re.findall(r"https://\S+", one)
        }
        assert bool(linked) == bool(classes), names
        assert linked <= told, names
