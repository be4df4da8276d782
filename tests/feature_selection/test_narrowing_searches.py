"""Searches that drop fields: names, files, order, training that goes on."""

import json
import pickle

import numpy as np
import pytest
import torch
from narrowing_cases import KEEP, context, data

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import FixedArchitecture, SearchMethod
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.engine._building import build_network
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import FM, DeepFM
from sklearn_autorec.nn import (
    BuildContext,
)
from sklearn_autorec.serving import load, save


def fitted(search, network="fm", **options):
    X, y, _ = data()
    options = {"embedding_dim": 4, "lr": 0.01, "max_epochs": 2, "random_state": 0, **options}
    return CTRClassifier(network=network, search=search, **options).fit(X, y), X


def keep(*fields, n=7):
    return FixedArchitecture(
        {"method": "AutoField", "params": {}, "fields": [*fields], "scores": [0.5] * n}
    )


def test_names_and_sizes_after_other_searches():
    model, X = fitted([keep(1, 2, 4, 5), AutoFIS(max_interactions=2), AutoDim((0, 2, 4))])
    assert model.selected_fields_ == ["f1", "f2", "f4", "x0"]
    assert model.support_.tolist() == [False, True, True, False, True, True, False]
    assert set(model.field_scores_) == set(X.columns)
    assert {f for t in model.interaction_scores_ for f in t} == {"f1", "f2", "f4", "x0"}
    assert ("f2", "f4") in model.interaction_scores_ and len(model.interactions_) == 2
    sizes = model.embedding_sizes_
    assert list(sizes) == [*X.columns] and sizes["f0"] == sizes["f3"] == sizes["s0"] == 0
    moved = X.assign(f0=X.f0[0], s0=[["i1"]] * len(X), f3=None)
    np.testing.assert_array_equal(model.predict_proba(moved), model.predict_proba(X))


def test_sizes_of_pruned_tables():
    model, X = fitted([keep(0, 4, 6), PEP(target_sparsity=0.5)], network=DeepFM((8,)))
    sizes, encoder = model.embedding_sizes_, model.encoder_
    assert list(sizes) == ["f0", "f1", "f2", "f3", "f4", "s0"]
    assert [len(v) for v in sizes.values()] == [*encoder.n_ids_, *encoder.sequence_n_ids_]
    kept = sum(int(v.sum()) for v in sizes.values())
    assert (
        kept == len(model.net_.module_.embedding.values)
        and not sizes["f1"].any()
        and sizes["f4"].any()
    )


@pytest.mark.parametrize(
    "search",
    [AutoField(n_kept=3), [keep(1, 2, 6), AutoFIS()], [keep(2, 4, 5), PEP(0.5)], keep(5)],
    ids=str,
)
def test_files_json_and_pickles(search, tmp_path):
    model, X = fitted(search)
    expected = model.predict_proba(X[:50])
    save(model, tmp_path / "m")
    for again in (load(tmp_path / "m"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.predict_proba(X[:50]), expected)
        assert again.selected_fields_ == model.selected_fields_ and again.nbytes_ == model.nbytes_
    architecture = json.loads(json.dumps(model.architecture_))
    retrained = CTRClassifier.from_architecture(architecture, max_epochs=1, random_state=0)
    retrained.fit(X, data()[1])
    assert retrained.selected_fields_ == model.selected_fields_
    assert retrained.n_parameters_ == model.n_parameters_


def test_files_with_wrong_fields_are_refused(tmp_path):
    for fields in ([0, 7], [3, 1], [1, 1], [], [True], "ab"):
        model, _ = fitted(keep(0, 1))
        model._architecture["gate"]["fields"] = fields
        # Saving reads the file back.
        with pytest.raises(ValueError, match="fields must be rising ints below 7"):
            save(model, tmp_path / "m")


def test_dropping_fields_comes_first():
    X, y, _ = data()
    with pytest.raises(ValueError, match=r"AutoField\(\) drops fields, so that it must come first"):
        CTRClassifier(network="fm", search=[AutoFIS(), AutoField()]).fit(X, y)
    with pytest.raises(
        ValueError, match=r"joint=True: AutoField\(\) drops fields and has to search first"
    ):
        CTRClassifier(network="fm", search=[AutoField(), AutoFIS()], joint=True).fit(X, y)


def test_a_network_that_does_not_select_is_refused():
    class Deaf(FM):
        def build(self, context, parts):
            return super().build(context, {k: v for k, v in parts.items() if k != "selection"})

    with pytest.raises(
        TypeError, match="cannot drop fields: its module must be a sklearn_autorec.nn.FieldNetwork"
    ):
        build_network(Deaf(), [KEEP], {"gate": KEEP.architecture}, context())


def test_without_a_gate_search_there_is_no_choice():
    model, _ = fitted(None)
    for name in ("support_", "selected_fields_", "field_scores_"):
        with pytest.raises(
            AttributeError, match="does not choose fields; use for instance search=AutoField"
        ):
            getattr(model, name)


def test_partial_fit_and_warm_start_go_on_with_the_kept_fields():
    model, X = fitted(keep(1, 4), warm_start=True)
    y, n = data()[1], model.n_parameters_
    model.partial_fit(X[:500], y[:500])
    assert model.set_params(max_epochs=4).fit(X, y).n_parameters_ == n
    assert model.selected_fields_ == ["f1", "f4"]


@pytest.mark.parametrize("retrain", ["scratch", "rewind", "keep"])
def test_final_training_starts_from_the_declared_weights(retrain, monkeypatch):
    from sklearn_autorec.engine import _search_phase
    from sklearn_autorec.estimators import _stages

    starts, problems = [], []
    real_train, real_problem, real_carry = (
        _stages.train,
        _search_phase.SearchProblem,
        _search_phase._carry_states,
    )

    def spy_train(net, *args, **kwargs):
        starts.append({k: v.clone() for k, v in net.module.state_dict().items()})
        return real_train(net, *args, **kwargs)

    def spy_carry(problem, *args):
        problems.append((dict(problem.initial_state), dict(problem.final_state)))
        real_carry(problem, *args)

    monkeypatch.setattr(_stages, "train", spy_train)
    monkeypatch.setattr(_search_phase, "_carry_states", spy_carry)
    model, _ = fitted(AutoField(n_kept=3, retrain=retrain), network=DeepFM((8,)))
    (initial, final), start = problems[0], starts[0]
    rows = model.net_.module_.selection.table_rows(
        BuildContext(
            tuple(model.encoder_.field_names_),
            tuple(model.encoder_.n_ids_),
            1,
            ((model.encoder_.sequence_n_ids_[0], 20),),
        )
    )
    assert real_problem is _search_phase.SearchProblem and len(rows) < len(
        initial["embedding.weight"]
    )
    for name in ("embedding.weight", "linear.weight"):
        if name == "embedding.weight":
            assert torch.equal(start[name], initial[name][rows]) == (retrain == "rewind")
        assert torch.equal(start[name], final[name][rows]) == (retrain == "keep")


def test_every_method_says_whether_it_narrows():
    assert not SearchMethod.narrows and AutoField.narrows and not AutoFIS.narrows
