"""The estimator of clicks, or of any classes."""

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin

from ..utils._sklearn import StrOptions, with_callbacks
from ..utils._state import reads_once
from ._base import FieldEstimator
from ._targets import ClassTarget

__all__ = ["CTRClassifier"]


class CTRClassifier(ClassifierMixin, FieldEstimator):
    """Deep click (or class) prediction on tables of categorical, numeric and list-valued columns.

    ``fit`` encodes the raw table, searches what ``search`` asks for, derives the architecture,
    trains the concrete network, and keeps nothing else.

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
    monitor : {"loss", "auc"}, default="loss"
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
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with ``sample_weight``.
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
    classes_ : ndarray of shape (n_classes,)
        The labels.
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
    RatingRegressor : The same for ratings.

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> from sklearn_autorec.interaction import AutoFIS
    >>> X, y, truth = make_ctr(2000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> model = CTRClassifier(network="fm", search=AutoFIS(), max_epochs=2, random_state=0).fit(
    ...     X, y
    ... )
    >>> model.predict_proba(X).shape
    (2000, 2)
    """

    _target_kind = ClassTarget
    _parameter_constraints = {
        **FieldEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        *,
        network="auto",
        search=None,
        joint=False,
        encoder=None,
        embedding_dim=None,
        lr=None,
        embedding_l2=None,
        weight_decay=None,
        embedding_init=None,
        numeric_embedding="piecewise",
        batch_size="auto",
        max_epochs=None,
        search_epochs=None,
        early_stopping="auto",
        validation="auto",
        validation_fraction=0.1,
        patience=None,
        monitor="loss",
        lr_schedule=None,
        averaging=None,
        id_dropout=0.005,
        members=1,
        wide="auto",
        target_statistics="auto",
        class_weight=None,
        warm_start=False,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            network=network,
            search=search,
            joint=joint,
            encoder=encoder,
            embedding_dim=embedding_dim,
            lr=lr,
            embedding_l2=embedding_l2,
            weight_decay=weight_decay,
            embedding_init=embedding_init,
            numeric_embedding=numeric_embedding,
            batch_size=batch_size,
            max_epochs=max_epochs,
            search_epochs=search_epochs,
            early_stopping=early_stopping,
            validation=validation,
            validation_fraction=validation_fraction,
            patience=patience,
            monitor=monitor,
            lr_schedule=lr_schedule,
            averaging=averaging,
            id_dropout=id_dropout,
            members=members,
            wide=wide,
            target_statistics=target_statistics,
            warm_start=warm_start,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

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
        """Search and train.

        Parameters
        ----------
        X : DataFrame (pandas, polars), pyarrow Table or array of shape (n_rows, n_columns)
            Raw columns; see `FieldEncoder` for what becomes of them.
        y : array-like of shape (n_rows,)
            Labels.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows, in the loss and in the counts of the encoder. Zero is the same as
            leaving the row out, of labels and vocabularies too; whole weights are repetitions to
            the encoder, to scales and to ``class_weight="balanced"``, and up to rounding to the
            training where it has one batch without batch statistics and dropout. The unit does not
            matter, but for ``min_frequency`` of the encoder.
        X_val, y_val : like X and y, default=None
            Rows for early stopping, instead of a split of X.
        sample_weight_val : array-like of shape (n_validation_rows,), default=None
            Weights of the rows of X_val.
        groups : array-like of shape (n_rows,), default=None
            A label for each row, such as its user, its session or its day: anything with a hash.
            Rows of one group are held out together, of early stopping, of the weights of the parts
            beside the network and of searches, so that these are judged by groups that they have
            not seen. ``validation="last"`` takes the last rows all the same; with "auto" groups are
            drawn at random. Searches that learn by group read it as ``problem.groups``. What the
            parts beside the network hold out by themselves goes row by row.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For bad parameters or data, naming the parameter or column.
        TypeError
            For ``groups`` that are no labels.
        NonFiniteLossError
            If training diverges before one epoch is finished.
        KeyboardInterrupt
            If it is stopped before one epoch is finished. Later on, the model keeps the best epoch
            so far and a `UserWarning` says so; in the first epoch behind a search it keeps the
            weights of the search.

        Notes
        -----
        Whatever is raised, the estimator is as it was before: fitted as then, or not fitted.

        With metadata routing, ``set_fit_request(groups=True)`` has ``GridSearchCV`` and pipelines
        hand the groups on: those of the splitter (``GroupKFold``) are then those of ``fit``.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, sample_weight_val, groups)

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train one epoch on a chunk of rows.

        The first chunk fixes the vocabulary, unless ``encoder`` is frozen or ``fit`` came before;
        later values that it does not hold count as unknown. The optimiser's state lives on between
        calls, in copies and in pickles (not in model files).

        What ``set_params`` changes between two calls takes effect in the next for ``lr``,
        ``embedding_l2``, ``weight_decay``, ``batch_size``, ``id_dropout``, ``class_weight``,
        ``random_state`` and, with a network object that has it, ``network__dropout``. The network
        itself, the encoder and ``embedding_dim`` stay.

        Parameters
        ----------
        X, y, sample_weight
            As in ``fit``. Chunks weigh against each other: the learning rate of a chunk is ``lr``
            times its mean weight over that of all rows seen (its own included), at most 3. A chunk
            of weight zero is skipped.
        classes : array-like of shape (n_classes,), default=None
            All labels; required in the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As ``fit``; for other ``classes`` than before; and for ``class_weight="balanced"``,
            which chunks cannot know.
        NonFiniteLossError
            If training diverges.
        KeyboardInterrupt
            If it is stopped.

        Notes
        -----
        Whatever is raised, the model is the one before this chunk.

        There are no groups here: nothing is held out of a chunk for early stopping, and what a
        search that goes on from chunk to chunk holds out, it draws row by row.
        """
        if not hasattr(self, "encoder_") and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._partial_fit(X, y, sample_weight, classes)

    @reads_once
    def decision_function(self, X):
        """Logits; (n_rows,) for two classes, else (n_rows, n_classes)."""
        logits = self._logits(X)
        return logits[:, 0] if len(self.classes_) <= 2 else logits

    @reads_once
    def predict_proba(self, X, return_std=False):
        """Class probabilities, float64 of shape (n_rows, n_classes), columns as in ``classes_``.

        Parameters
        ----------
        X : table of shape (n_rows, n_columns)
        return_std : bool, default=False
            Also say how far the members lie apart; for models of ``members`` > 1.

        Returns
        -------
        probabilities : ndarray of shape (n_rows, n_classes)
        std : ndarray of shape (n_rows, n_classes)
            Standard deviation of the members' probabilities (with the number of members as
            divisor), if ``return_std``. It measures what the members could not learn from the rows,
            not the chance in a single outcome.

        Raises
        ------
        ValueError
            If ``return_std`` is asked of a model of one member.
        """
        if not return_std:
            return self._probabilities(self._logits(X))
        return self._probabilities(self._logits(X)), self._probabilities(
            self._member_logits(X)
        ).std(0)

    def _probabilities(self, logits):
        """(..., n_classes) of logits (..., C)."""
        if len(self.classes_) == 1:
            return np.ones_like(logits)
        if len(self.classes_) == 2:
            positive = expit(logits[..., 0])
            return np.stack([1 - positive, positive], -1)
        return softmax(logits, axis=-1)

    @reads_once
    def predict(self, X):
        """The most probable label of each row, (n_rows,)."""
        logits = self._logits(X)
        return self.classes_[
            logits.argmax(1) if len(self.classes_) > 2 else (logits[:, 0] > 0).astype(int)
        ]

    def score(self, X, y, sample_weight=None):
        """Share of rows whose label is predicted right; labels may be of the types that ``fit``
        takes.
        """
        return super().score(X, ClassTarget.check(y, self), sample_weight)
