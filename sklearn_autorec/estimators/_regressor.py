"""The estimator of ratings."""

from sklearn.base import RegressorMixin

from ..utils._sklearn import StrOptions, with_callbacks
from ..utils._state import reads_once
from ._base import FieldEstimator
from ._targets import RatingTarget

__all__ = ["RatingRegressor"]


class RatingRegressor(RegressorMixin, FieldEstimator):
    """Deep rating prediction on tables of categorical, numeric and list-valued columns, by squared
    error.

    The network sees ratings of mean 0 and variance 1; predictions and the loss of ``history_`` are
    converted as prediction * std + mean, and loss in units of the variance.

    Parameters
    ----------
    network : "auto", str or Network, default="auto"
        "auto" is a DeepFM of moderate size with the parts of ``wide`` and ``target_statistics``
        beside it, and the values of ``embedding_dim`` to ``averaging`` that go with it: what
        predicts best over many tables. Otherwise the network family, by name or as an object with
        its own parameters, such as ``DeepFM(hidden_units=(64, 32))``, which then predicts alone
        unless a part beside it is asked for. Names are listed by `sklearn_autorec.networks`.
    search : SearchMethod, list of them, or None, default=None
        What to choose automatically before the final training, such as ``AutoFIS()``. Methods of a
        list search one after the other, each around the architecture already found.
    joint : bool, default=False
        Search the methods of a list together, in one run. All must search by gradients.
    encoder : FieldEncoder, FrozenEstimator of one, or None, default=None
        Turns the raw table into ids and numbers; None is ``FieldEncoder()``. It is cloned and
        fitted in ``fit``; a frozen one (``sklearn.frozen.FrozenEstimator``) is used as it is.
    embedding_dim : int or None, default=None
        Length of an embedding vector. None: 8 with ``network="auto"``, 16 with another.
    lr : float or None, default=None
        Learning rate of Adam. None: 0.004 with ``network="auto"``, 0.001 with another.
    embedding_l2 : float or None, default=None
        L2 decay of embeddings and first-order weights: its gradient, embedding_l2 times the value,
        is added before Adam's scaling. Raise it against over-fitting of rare values. Tables much
        larger than a batch decay only in the rows that a batch touches. None: with
        ``network="auto"`` 0.3, in batches of more than 512 rows 0.3 x 512 / batch; 0 with another.
    weight_decay : float or None, default=None
        The same for all other weights. None: 0.00001 with ``network="auto"``, 0 with another.
    embedding_init : float or None, default=None
        Standard deviation of initial embeddings. None: 0.01.
    numeric_embedding : {"piecewise", "periodic", "linear"}, default="piecewise"
        How a number becomes a vector: by a function that is linear between as many knots as the
        encoder has ``n_bins``, through sines and cosines of so many trained frequencies, or as a
        multiple of one vector.
    batch_size : int or "auto", default="auto"
        Rows of a training step; "auto" is between 32 and 4096, for about 64 steps an epoch.
    max_epochs : int or None, default=None
        Passes over the training rows at most. None: 20, with ``network="auto"`` and fewer than
        100,000 rows 12.
    search_epochs : int or None, default=None
        Epochs of each search. None: two fifths of ``max_epochs`` with ``network="auto"``, else
        ``max_epochs``, which counts as 20 if it is None.
    early_stopping : bool or "auto", default="auto"
        Stop when held-out rows no longer improve and keep the best epoch. "auto" does so when
        ``fit`` is given ``X_val``, with a network of your own from 10,000 rows, and with
        ``network="auto"`` from 200: up to 5,000 rows four networks are trained, each without a
        quarter of the rows, and the final one sees all rows for as many epochs as were best.
    validation : {"auto", "random", "last"}, default="auto"
        Which rows are held out. "last" are those at the end of the table, for logs in the order of
        time; the final training then sees them too. "auto" takes them with ``network="auto"`` if
        they are clearly harder to predict from the others than rows drawn at random are, and the
        table is not sorted by a column or by the target.
    validation_fraction : float in (0, 1), default=0.1
        Share of the training rows held out for early stopping, when ``fit`` is given no ``X_val``.
    patience : int or None, default=None
        Epochs without improvement before stopping. None: 4 with ``network="auto"``, 2 with another.
    monitor : {"loss"}, default="loss"
        What early stopping watches on the held-out rows.
    lr_schedule : {"constant", "plateau", "cosine"} or None, default=None
        "plateau" divides the rate by 10 after an epoch without improvement; "cosine" takes it to
        zero over ``max_epochs``. None: "cosine" with ``network="auto"``, "constant" with another.
    averaging : float in [0, 1) or None, default=None
        Decay per step of an exponential average of the weights, which is what is kept; 0 keeps the
        weights themselves. At step k the decay is at most k / (k + 10), so that short trainings
        average over their last tenth or so. None: 0.99 with ``network="auto"``, 0 with another.
    id_dropout : float in [0, 1), default=0.005
        Share of ids that each training step replaces by the field's unknown id, so that values
        never seen in training meet a trained embedding.
    members : int, default=1
        Independent networks, trained side by side in one: each has tables, weights and dropout of
        its own and meets the rows in its own order. Early stopping watches the mean of their
        logits, which is what predicts. Four need the memory of four models and 0.65 of their time
        or so; searches run with one. ``return_std=True`` in prediction says how far they lie apart.
    wide : {"auto", "autocross"} or None, default="auto"
        A crossed linear model beside the network (see `CrossedLinearClassifier`): its output and
        that of the network are averaged with weights from held-out rows. "auto": with
        ``network="auto"``, two classes or ratings, and no search that drops columns.
    target_statistics : "auto" or bool, default="auto"
        Boosted trees over target statistics of columns and their crosses (see `TargetStatistics`)
        and over numbers, averaged in the same way; a part that held-out rows give less than 2 % is
        left out. "auto" as in ``wide``.
    warm_start : bool, default=False
        ``fit`` goes on from the fitted network, with its encoder, architecture and the optimiser's
        moments, until ``max_epochs`` in all. What ``set_params`` changes meanwhile takes effect for
        the parameters that ``partial_fit`` names, and for those of early stopping, schedules and
        averaging.
    device : str or torch.device, default="auto"
        "auto" is CUDA where there is one, else the CPU.
    random_state : int, RandomState or None, default=None
        Of initial weights, order, dropout and splits. An int gives the same bits on the same
        machine; global generators are never used.
    verbose : int, default=0
        Print a line an epoch.

    Attributes
    ----------
    y_mean_, y_scale_ : float
        Mean and standard deviation of the training ratings.
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the torch module.
    encoder_ : FieldEncoder
        The fitted encoder.
    part_weights_ : dict of str to float
        Weights of the "network", the "wide" part and "target_statistics" in the mean that predicts.
    architecture_ : dict
        What each search found, by slot: plain values and arrays from which the network is rebuilt.
    search_history_, history_ : list of dict
        One record per epoch of search and of training: losses, learning rate, figures of the
        method.
    n_iter_ : int
        Epochs that the kept weights have seen.
    n_parameters_ : int
        Trained numbers in the network.
    nbytes_ : dict of str to int
        Bytes of the network: "embedding", "projection" (of embeddings of several widths), "index"
        (of packed tables), "network" (all else) and "total".
    compression_ratio_ : float
        Bytes of full embedding tables over those of the network's (projections and indices
        included).
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names, where they all are strings.

    See Also
    --------
    CTRClassifier : The same for clicks.

    Examples
    --------
    >>> from sklearn_autorec import RatingRegressor
    >>> from sklearn_autorec.datasets import make_ctr
    >>> X, y, truth = make_ctr(2000, n_fields=4, task="rating", random_state=0)
    >>> RatingRegressor(network="fm", max_epochs=2, random_state=0).fit(X, y).predict(X).shape
    (2000,)
    """

    _target_kind = RatingTarget
    _parameter_constraints = {
        **FieldEstimator._parameter_constraints,
        "monitor": [StrOptions({"loss"})],
    }

    @with_callbacks
    def fit(
        self,
        X,
        y,
        sample_weight=None,
        X_val=None,
        y_val=None,
        sample_weight_val=None,
        groups=None,
    ):
        """Search and train; see `CTRClassifier.fit`. ``y`` holds numbers, (n_rows,)."""
        return self._fit(X, y, sample_weight, X_val, y_val, sample_weight_val, groups)

    def partial_fit(self, X, y, sample_weight=None):
        """Train one epoch on a chunk of rows; see `CTRClassifier.partial_fit`.

        The first chunk also fixes the mean and the scale of the ratings.
        """
        return self._partial_fit(X, y, sample_weight)

    @reads_once
    def predict(self, X, return_std=False):
        """Predicted ratings, float64 of shape (n_rows,).

        Parameters
        ----------
        X : table of shape (n_rows, n_columns)
        return_std : bool, default=False
            Also say how far the members lie apart; for models of ``members`` > 1.

        Returns
        -------
        ratings : ndarray of shape (n_rows,)
        std : ndarray of shape (n_rows,)
            Standard deviation of the members' ratings (with the number of members as divisor), if
            ``return_std``.

        Raises
        ------
        ValueError
            If ``return_std`` is asked of a model of one member.
        """
        if not return_std:
            return self._logits(X)[:, 0] * self.y_scale_ + self.y_mean_
        ratings = self._member_logits(X)[..., 0] * self.y_scale_ + self.y_mean_
        return ratings.mean(0), ratings.std(0)
