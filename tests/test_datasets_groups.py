"""Groups of rows that come in blocks: none is on both sides, whatever the order of the rows."""

import numpy as np
import pandas as pd
import pytest
import torch
from parquet_cases import write_parts

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import ParquetDataset
from sklearn_autorec.embedding import AutoDim
from sklearn_autorec.engine import FieldNet
from sklearn_autorec.engine._group_parts import group_threshold
from sklearn_autorec.engine._streams import joined
from sklearn_autorec.estimators._datasets import streamed
from sklearn_autorec.utils._row_draws import uniform_by_label

QUICK = {"network": "fm", "max_epochs": 2, "random_state": 0, "device": "cpu"}
STOPPED = QUICK | {"early_stopping": True, "validation_fraction": 0.2}
NONE = (None, None, None)


def visits(n_users=60, rows_of_each=20, seed=0):
    """Rows of users, in no order: a column names the user, another one the session."""
    rng = np.random.default_rng(seed)
    user = rng.permutation(np.repeat(np.arange(n_users), rows_of_each))
    frame = pd.DataFrame(
        {"user": [f"u{u}" for u in user], "page": rng.choice(list("abc"), len(user))}
    )
    return frame.assign(session=user * 10 - 50, click=(user + rng.integers(0, 2, len(user))) % 2)


@pytest.fixture
def parts(tmp_path):
    frame = visits()
    write_parts(tmp_path, frame, 500, 100)
    return frame, tmp_path


def data_of(folder, **options):
    return ParquetDataset(folder, **{"buffer_rows": 300, "sample_rows": 600} | options)


def sides(dataset, groups, **params):
    """Users of the rows that train, of those that judge and of the sample, as the fit sees them."""
    model = CTRClassifier(**STOPPED | params)
    with streamed(model, dataset, ("click", None, groups), NONE, None) as given:
        at = given.rows.encoder.get_feature_names_out().tolist().index("user")
        values = given.rows.encoder._fields[at].values
        trained = joined(list(given.stream.blocks()))
        held_out, kept = given.split.held_out, given.split.kept
        tables = trained.ids.numpy(), held_out.table.ids, kept.table.ids
        return *({*values(ids[:, at].astype(int))} for ids in tables), given, trained


def test_no_group_is_on_both_sides(parts):
    frame, folder = parts
    trained, judged, sampled, given, rows = sides(data_of(folder), "session")
    assert not trained & judged and len(trained | judged) == 60 and sampled <= trained
    assert 0.1 < len(given.split.held_out) / len(frame) < 0.3
    assert given.report["n_training_rows"] == len(rows) == len(frame) - len(given.split.held_out)
    assert given.report["n_sampled"] == len(given.split.kept) < 600
    # The control: single rows are held out where there are no groups.
    trained, judged, *_ = sides(data_of(folder, columns=["user", "page"]), None)
    assert len(trained & judged) > 30


def test_which_groups_judge_depends_on_no_order_and_no_blocks(parts, tmp_path_factory):
    frame, folder = parts
    held_out = {frozenset(sides(data_of(folder), "session")[1])}
    for seed in (1, 2):
        other = tmp_path_factory.mktemp("other")
        write_parts(other, frame.sample(frac=1.0, random_state=seed), 700, 90 * seed)
        held_out.add(frozenset(sides(data_of(other, buffer_rows=200), "session")[1]))
    assert len(held_out) == 1
    assert sides(data_of(folder), "session", random_state=1)[1] not in held_out


def test_sample_and_blocks_know_the_same_groups(parts):
    frame, folder = parts
    *_, given, rows = sides(data_of(folder), "session")
    of_users = {}
    for ids, groups in (
        (rows.ids[:, 0].tolist(), rows.groups.tolist()),
        (given.split.kept.table.ids[:, 0].tolist(), given.split.kept.groups.tolist()),
    ):
        for user, group in zip(ids, groups, strict=True):
            assert of_users.setdefault(user, group) == group >= 0
    assert (
        len(set(of_users.values()))
        == len(of_users)
        == frame["user"].nunique() - len(np.unique(given.split.held_out.table.ids[:, 0]))
    )


def test_of_a_small_data_set_the_fit_is_that_of_the_table(parts):
    frame, folder = parts
    X = frame[["user", "page"]]
    model = CTRClassifier(**STOPPED).fit(ParquetDataset(folder), "click", groups="session")
    expected = CTRClassifier(**STOPPED).fit(X, frame["click"], groups=frame["session"])
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    other = CTRClassifier(**STOPPED).fit(X, frame["click"])
    assert (other.predict_proba(X) != expected.predict_proba(X)).any()  # the control


@pytest.mark.parametrize("buffer_rows", [300, 10_000])
def test_groups_are_no_column_of_the_table_unless_the_data_set_names_them(parts, buffer_rows):
    frame, folder = parts
    data = data_of(folder, buffer_rows=buffer_rows)
    model = CTRClassifier(**STOPPED).fit(data, "click", groups="session")
    assert model.feature_names_in_.tolist() == ["user", "page"]
    named = data_of(folder, buffer_rows=buffer_rows, columns=["page", "user"])
    model = RatingRegressor(**STOPPED).fit(named, "click", groups="user")
    assert model.feature_names_in_.tolist() == ["page", "user"]
    # Rows to validate on have the same columns.
    model = CTRClassifier(**STOPPED).fit(
        data, "click", groups="session", X_val=ParquetDataset(folder), y_val="click"
    )
    assert model.history_[-1]["valid_loss"] > 0


def test_the_last_rows_judge_where_the_user_says_so(parts):
    frame, folder = parts
    trained, judged, _, given, _ = sides(data_of(folder), "session", validation="last")
    assert len(given.split.held_out) == 240 and len(trained & judged) > 30


@pytest.mark.parametrize("cache", [False, True])
def test_weights_of_zero_take_their_groups_with_them(parts, cache, tmp_path_factory):
    frame, _ = parts
    folder = tmp_path_factory.mktemp("weighted")
    frame = frame.assign(
        w=np.where(frame["session"] % 3 == 0, 0.0, 2.0), vector=[[0.5, 1.5]] * 1200
    )
    write_parts(folder, frame, 500, 100)
    model = CTRClassifier(**STOPPED)
    data = data_of(folder, cache=cache)
    with streamed(model, data, ("click", "w", "session"), NONE, None) as given:
        assert len({*given.rows.groups}) <= 40
        for _ in range(2):  # the second time from the cache
            blocks = list(given.stream.blocks())
            labels = np.concatenate([given.stream.groups(i) for i in range(len(data.blocks))])
            assert torch.equal(joined(blocks).groups, torch.from_numpy(labels))
        assert not {*labels} & {*given.split.held_out.groups}


def test_what_is_encoded_once_is_what_is_encoded_again(tmp_path):
    frame = visits(20)
    rng = np.random.default_rng(0)
    frame = frame.assign(vector=rng.normal(size=(400, 3)).tolist(), price=rng.normal(size=400))
    write_parts(tmp_path, frame, 200, 50)
    found = [
        CTRClassifier(**STOPPED).fit(data_of(tmp_path, cache=cache), "click", groups="session")
        for cache in (False, True)
    ]
    plain, kept = (model.predict_proba(frame.drop(columns=["click", "session"])) for model in found)
    np.testing.assert_array_equal(plain, kept)


# Refusals
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer_rows", [300, 10_000])
@pytest.mark.parametrize(
    "groups, error, words",
    [
        ("visit", ValueError, "groups='visit' is no column of the data set; its columns are"),
        (np.arange(1200), TypeError, "groups must be the name of a column where X is a data set"),
    ],
)
def test_what_is_no_column_is_refused(parts, groups, error, words, buffer_rows):
    with pytest.raises(error, match=words):
        CTRClassifier(**QUICK).fit(
            data_of(parts[1], buffer_rows=buffer_rows), "click", groups=groups
        )


@pytest.mark.parametrize("buffer_rows", [300, 10_000])
def test_a_missing_label_is_named_with_its_row_group(parts, buffer_rows):
    frame, folder = parts
    frame = frame.assign(session=frame["session"].astype(float).where(frame.index != 777))
    write_parts(folder, frame, 500, 100)
    told = r"part-1.parquet, row group 2: groups='session' must have .*, 1 of 100 are missing"
    with pytest.raises(ValueError, match=told):
        data = data_of(folder, buffer_rows=buffer_rows)
        CTRClassifier(**QUICK).fit(data, "click", groups="session")


def test_a_single_group_cannot_be_held_out(parts):
    frame, folder = parts
    write_parts(folder, frame.assign(session="all"), 500, 100)
    with pytest.raises(ValueError, match="groups='session' leaves no group to validate on"):
        CTRClassifier(**STOPPED).fit(data_of(folder), "click", groups="session")
    model = CTRClassifier(**STOPPED | {"early_stopping": "auto"})
    model.fit(data_of(folder), "click", groups="session")
    assert model.dataset_["n_held_out"] == 0


# Searches
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", ["session", None])
def test_rows_of_the_architecture_are_of_groups_of_their_own(parts, groups, monkeypatch):
    seen, own = set(), set()
    real_step, real_arch = FieldNet.train_step, FieldNet._arch_step

    def train_step(self, batch, **params):
        if self.arch_batches is not None:
            seen.update(batch.ids[:, 0].tolist())
        return real_step(self, batch, **params)

    def arch_step(self, schedule, optimizer, module, batch):
        wrapped = self.arch_batches

        def noted():
            for rows in wrapped:
                own.update(rows.ids[:, 0].tolist())
                yield rows

        self.arch_batches = noted()
        real_arch(self, schedule, optimizer, module, batch)
        self.arch_batches = wrapped

    monkeypatch.setattr(FieldNet, "train_step", train_step)
    monkeypatch.setattr(FieldNet, "_arch_step", arch_step)
    search = AutoDim(candidates=(2, 4), arch_every=1, warmup=0.0, search_fraction=0.4)
    params = QUICK | {"search_epochs": 1, "max_epochs": 1, "batch_size": 50, "id_dropout": 0.0}
    data = data_of(parts[1], columns=["user", "page"])
    CTRClassifier(search=search, **params).fit(data, "click", groups=groups)
    assert len(seen | own) == 60 and min(len(seen), len(own)) > 15
    assert bool(seen & own) is (groups is None)  # None is the control


# The threshold
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_groups_below_the_threshold_have_about_the_share(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2**62, 200)[rng.choice(200, 5000, p=rng.dirichlet(np.ones(200)))]
    for share in (0.05, 0.5, 0.9):
        threshold = group_threshold(np.array_split(labels, 17), share, seed)
        assert threshold == group_threshold([labels[::-1]], share, seed)
        assert abs((uniform_by_label(labels, seed) < threshold).mean() - share) < 0.03


def test_one_group_at_least_is_on_each_side():
    for counts in ([900, 1], [1, 900], [5, 1000, 5]):
        labels = np.repeat(np.arange(len(counts)), counts)
        for share in (1e-6, 0.5, 1 - 1e-6):
            drawn = uniform_by_label(labels, 3) < group_threshold([labels], share, 3)
            assert 0 < drawn.sum() < len(labels)
    assert group_threshold([np.zeros(9, int), np.zeros(0, int)], 0.5, 0) is None
