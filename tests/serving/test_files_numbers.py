"""Model files: numbers are finite, and what is written."""

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.exceptions import NonFinitePredictionError
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

POSIX = pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX")

ROWS = pd.DataFrame({"item": np.arange(40) % 7, "shop": list("abcd") * 10})


@pytest.fixture(scope="module")
def encoder():
    return FieldEncoder().fit(ROWS)


@pytest.fixture(scope="module")
def model():
    X, y, _ = make_ctr(200, n_fields=3, cardinality=8, pairs=1, random_state=0)
    return CTRClassifier(network="fm", max_epochs=1, embedding_dim=2, random_state=0).fit(X, y), X


def with_weights(model, X, change, tmp_path, **options):
    """The model in a file whose weights of ids in the middle are changed, and read again."""
    table = model.net_.module_.state_dict()
    before = {name: t.clone() for name, t in table.items()}
    try:
        for t in table.values():
            if t.is_floating_point() and len(t) == sum(model.encoder_.n_ids_):
                # The first and last ids are tried when it is loaded.
                for last in np.cumsum(model.encoder_.n_ids_):
                    t[last - 6 : last - 1] = change
        save(model, tmp_path / "m")
    finally:
        for name, t in table.items():
            t.copy_(before[name])
    return load(tmp_path / "m", **options)


# finite
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regressor", [False, True])
def test_finite_weights_that_overflow_are_told(model, tmp_path, regressor):
    classifier, X = model
    fitted = classifier
    if regressor:
        fitted = RatingRegressor(network="fm", max_epochs=1, embedding_dim=2, random_state=0)
        fitted.fit(X, np.arange(len(X)) % 5)
    loaded = with_weights(fitted, X, 1e30, tmp_path)
    with pytest.raises(NonFinitePredictionError, match="predictions of some rows are not finite"):
        loaded.predict(X)
    unknown = X[:2].map(lambda value: "never")
    assert np.isfinite(loaded.predict(unknown)).all()  # those that it can
    silent = with_weights(fitted, X, 1e30, tmp_path, allow_nonfinite=True)
    silent.predict(X)
    good = with_weights(fitted, X, 0.5, tmp_path)
    assert np.isfinite(good.predict(X)).all()


def test_training_goes_on_without_the_check(model, tmp_path):
    classifier, X = model
    save(classifier, tmp_path / "m")
    y = np.arange(len(X)) % 2
    loaded, direct = (
        load(tmp_path / "m").partial_fit(X, y),
        load(tmp_path / "m", allow_nonfinite=True).partial_fit(X, y),
    )
    np.testing.assert_array_equal(loaded.predict_proba(X), direct.predict_proba(X))
    assert not loaded.net_.module_._forward_hooks


def test_coefficients_whose_sums_overflow_are_refused(tmp_path):
    X = np.eye(6)
    fitted = Pipeline([("l", LogisticRegression().fit(X, [0, 1] * 3))])
    fitted[0].coef_[0, :2] = 1e308
    with pytest.raises(ValueError, match="coef_"):
        save(fitted, tmp_path / "m")


# what is written
# ---------------------------------------------------------------------------------------------


@POSIX
def test_a_link_is_followed(tmp_path, encoder):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "model").write_bytes(b"old")
    link = tmp_path / "current"
    link.symlink_to(folder / "model")
    save(encoder, link)
    assert link.is_symlink() and load(folder / "model").field_names_ == ["item", "shop"]
    (tmp_path / "dangling").symlink_to(folder / "new")
    save(encoder, tmp_path / "dangling")
    assert (tmp_path / "dangling").is_symlink() and load(folder / "new") is not None
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="loop"):
        save(encoder, tmp_path / "loop")
    assert sorted(p.name for p in folder.iterdir()) == ["model", "new"]


@POSIX
def test_another_name_of_the_old_file_keeps_it(tmp_path, encoder):
    (tmp_path / "m").write_bytes(b"old")
    os.link(tmp_path / "m", tmp_path / "backup")
    save(encoder, tmp_path / "m")
    assert (tmp_path / "backup").read_bytes() == b"old"


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_permissions_stay(tmp_path, encoder, mode):
    save(encoder, tmp_path / "m")
    (tmp_path / "m").chmod(mode)
    save(encoder, tmp_path / "m")
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == mode


@POSIX
def test_what_is_no_file_is_not_replaced(tmp_path, encoder):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match=f"{name}' is not a regular file"):
            save(encoder, tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(OSError, match="none"):
        save(encoder, tmp_path / "none" / "m")


def test_the_longest_names_work(tmp_path, encoder):
    save(encoder, tmp_path / ("m" * 255))
    assert load(tmp_path / ("m" * 255)) is not None


@POSIX
def test_a_full_disk_keeps_the_old_file(tmp_path, encoder):
    """A limit of the system on the size of files, in a process of its own."""
    path = tmp_path / "m"
    path.write_bytes(b"old")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
            save(encoder, path)
        except OSError:
            code = 5
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@POSIX
def test_a_killed_writer_keeps_the_old_file(tmp_path):
    """SIGKILL at twenty moments of saves that follow each other: the file is always whole, old or
    new.
    """
    rng, path, sizes = np.random.RandomState(0), tmp_path / "m", set()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    starter = subprocess.Popen(
        [sys.executable, "-c", ZYGOTE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    for _ in range(20):
        starter.stdin.write("go\n")
        starter.stdin.flush()
        child = int(starter.stdout.readline().removeprefix("saved "))
        time.sleep(rng.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        assert starter.stdout.readline() == "ended\n"
        sizes.add(int(load(path).n_ids_[0]))
    starter.communicate()
    assert sizes <= {52, 20_002}


ZYGOTE = """
import os, sys
import numpy as np
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import save
columns = [np.arange(n).reshape(-1, 1).astype(str).astype(object) for n in (50, 20_000)]
encoders = [FieldEncoder().fit(column) for column in columns]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        save(encoders[0], sys.argv[1])
        print("saved", os.getpid(), flush=True)
        while True:
            for encoder in encoders:
                save(encoder, sys.argv[1])
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_readers_see_one_file_or_the_other(tmp_path):
    """While two threads replace a file, each load gives one of their models, whole."""
    encoders = [
        FieldEncoder().fit(np.arange(n).reshape(-1, 1).astype(str).astype(object))
        for n in (5, 4000)
    ]
    path = tmp_path / "m"
    save(encoders[0], path)
    stop, faults = threading.Event(), []

    def write(encoder):
        while not stop.is_set():
            try:
                save(encoder, path)
            except Exception as error:
                faults.append(error)

    writers = [threading.Thread(target=write, args=(encoder,)) for encoder in encoders]
    for thread in writers:
        thread.start()
    try:
        seen = {int(load(path).n_ids_[0]) for _ in range(60)}
    finally:
        stop.set()
        for thread in writers:
            thread.join()
    assert not faults and seen <= {7, 4002}
    assert list(tmp_path.iterdir()) == [path]
