import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_autorec import CTRClassifier
from sklearn_autorec.inspection import (
    EmbeddingSizeDisplay,
    InteractionDisplay,
    SearchHistoryDisplay,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

plt = pytest.importorskip("matplotlib.pyplot")


from sklearn_autorec.inspection._plotting import shorten  # noqa: E402

DISPLAYS = (InteractionDisplay, EmbeddingSizeDisplay, SearchHistoryDisplay)

# What all displays share
# --------------------------------------------------------------------------------


@pytest.mark.parametrize("display", DISPLAYS)
def test_from_estimator_takes_estimators_and_pipelines(display, searched):
    pipeline = make_pipeline(FunctionTransformer(), make_pipeline(searched))
    for estimator in (searched, pipeline, FrozenEstimator(searched)):
        drawn = display.from_estimator(estimator)
        assert isinstance(drawn, display)
        assert drawn.figure_ is drawn.ax_.figure
        drawn.figure_.draw_without_rendering()


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("layout", [None, "constrained"])
def test_given_axes_are_used_and_no_others(display, layout, searched):
    figure, axes = plt.subplots(2, 2, layout=layout)
    size = figure.get_size_inches().tolist()
    drawn = display.from_estimator(searched, ax=axes[0, 1])
    assert drawn.ax_ is axes[0, 1] and drawn.figure_ is figure
    assert drawn.plot(ax=axes[1, 0]) is drawn and drawn.ax_ is axes[1, 0]
    assert axes[0, 1].has_data() and axes[1, 0].has_data()
    assert not axes[0, 0].has_data() and not axes[1, 1].has_data()
    assert figure.axes == list(axes.flat)
    assert figure.get_size_inches().tolist() == size and plt.get_fignums() == [figure.number]


@pytest.mark.parametrize("display", DISPLAYS)
def test_axes_in_a_subfigure(display, searched):
    part = plt.figure(layout="constrained").subfigures(1, 2)[0]
    drawn = display.from_estimator(searched, ax=part.subplots())
    assert drawn.figure_ is part


@pytest.mark.parametrize("display", DISPLAYS)
def test_unfitted(display):
    for estimator in (CTRClassifier(), make_pipeline(FunctionTransformer(), CTRClassifier())):
        with pytest.raises(NotFittedError, match="CTRClassifier instance is not fitted yet"):
            display.from_estimator(estimator)


@pytest.mark.parametrize("display", DISPLAYS)
def test_without_matplotlib_the_extra_is_named(display, searched, no_matplotlib):
    drawn = display.from_estimator(searched)
    no_matplotlib()
    for method, call in (
        ("from_estimator", lambda: display.from_estimator(searched)),
        ("plot", drawn.plot),
    ):
        with pytest.raises(
            ImportError, match=rf"{display.__name__}\.{method} requires matplotlib.*autorec\[plot\]"
        ):
            call()


def test_names_lose_their_middle():
    assert shorten("short", 5) == "short"
    assert shorten(17) == "17"
    for width in range(4, 20):
        cut = shorten("a_very_long_name_of_a_field_1", width)
        assert len(cut) == width and cut[0] == "a" and cut[-1] == "1" and cut.count("…") == 1
