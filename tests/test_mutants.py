"""The list of deliberate faults: what it would replace is there, and every method has some."""

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def probe():
    spec = importlib.util.spec_from_file_location("mutation_probe", HERE / "mutation_probe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def mutants(probe):
    return probe.read_mutants(HERE / "mutants.txt")


def test_every_old_line_stands_once_in_its_file(probe, mutants):
    assert probe.check(mutants) == []


def test_a_line_that_is_gone_or_stands_twice_is_named(probe):
    fault = {"method": "m", "source": "_version.py", "new": "x"}
    assert len(probe.check([{**fault, "old": "no such line"}])) == 1
    assert len(probe.check([{**fault, "old": '"'}])) == 1
    assert len(probe.check([{**fault, "old": "x"}])) == 2  # nowhere, and replaced by itself


def test_each_fault_is_listed_once_with_tests_that_exist(mutants):
    assert len({(m["source"], m["old"], m["new"]) for m in mutants}) == len(mutants)
    for path in {
        argument.removeprefix("--deselect=").split("::")[0]
        for m in mutants
        for argument in m["tests"]
        if "tests/" in argument
    }:
        assert (HERE.parent / path).is_file(), path


def test_methods_have_five_faults_each(probe, mutants):
    by_method = {}
    for m in mutants:
        by_method.setdefault(probe.method_of(m), []).append(m)
    assert {name: len(own) for name, own in by_method.items() if len(own) < 5} == {}


def test_the_recorded_table_has_every_method(probe, mutants):
    page = (HERE.parent / "doc" / "mutation.rst").read_text(encoding="utf-8")
    assert [m for m in {probe.method_of(m) for m in mutants} if f"   * - {m}\n" not in page] == []
