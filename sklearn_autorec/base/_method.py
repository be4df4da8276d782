"""Search methods: the class that an author subclasses."""

from collections.abc import Mapping

from sklearn.base import BaseEstimator, clone

from .._registry import METHODS


def known_methods():
    """Search methods by public names, such as "sklearn_autorec.interaction.AutoFIS"."""
    return METHODS.all()


class SearchMethod(BaseEstimator):
    """One paper: how a part of a network is made searchable, searched and turned into a concrete
    part.

    The constructor only stores the paper's parameters. Everything that the engine needs is here or
    a hook of the searchable module; the engine never asks which method it runs.

    Attributes
    ----------
    slot : str
        The slot it searches: "gate", "embedding", "numeric", "sequence", "interaction", "body",
        "head" or "loss".
    slots : tuple of str
        All slots that it searches; ``(slot,)`` unless a subclass says otherwise. One that does
        hands over and gets dicts by slot: ``build`` and ``realise`` give a module for every slot,
        ``derive`` (or ``search``) an architecture for every slot, and the ``architecture`` of
        ``realise``, ``check`` and ``selection`` is such a dict. Where a model file holds a packed
        embedding table, its entry is missing in that of ``realise`` and ``check``, and no module is
        made for it. Modules of several slots may share submodules; the loss does so in the search
        only, since ``realise`` is called once more for it.
    retrain : {"scratch", "rewind", "keep", "none"}
        Weights with which the found part starts: new ones, those with which the search started, or
        those with which it ended; "none" are the latter without any further training, so that the
        searched network serves as it is. Of several methods each has its own rule for its part;
        that of the last holds for the rest of the network. What is not trained again rests in the
        searches that come later as well, and in the final training of the other parts: its weights
        stay, its batch statistics too.
    narrows : bool
        Whether its architectures drop fields or values: all that is found later, and the network
        itself, is then built for what ``selection`` keeps, in the numbering of that.
    streams : bool
        Whether ``partial_fit`` may begin with it: its searchable module then stays in the network
        from chunk to chunk, and what it has found so far serves, as with ``retrain="none"``. It
        needs the default ``search``, and a ``transfer`` that leaves nothing out.
    distributes : bool
        Whether several processes may run its search together. All of them run it, with the same
        random numbers; ``problem.train`` sums gradients, those of architecture parameters too,
        and ``problem.score`` gives all the same. Of a batch the modules take nothing but means
        over its rows, batch norms of the package among them; random numbers are not drawn by row.
    fit_only : tuple of str
        Parameters that only the search reads, such as another fitted model. They are None in copies
        and pickles of a fitted estimator, and in no architecture or model file; ``clone`` hands
        them on as they are.
    pickle_supernet : bool
        Whether pickles and copies of a fitted estimator hold what the search has left in
        ``problem.kept`` for ``specialize``.
    supports_members : bool
        Whether the module of ``realise`` holds ``context.members`` independent members in one. It
        speaks for the ``realise`` of its own class; see `Network`. Searches always run with one
        member.

    packed_entries : dict of str to callable, or None
        Whether its concrete part is served as a `sklearn_autorec.nn.PackedPart`, and which entries
        of the architecture that tells: by key the function of the part that reads them. They are
        not stored beside it, neither in an estimator nor in a model file. {} if it tells none; None
        if the part is never packed: files that say otherwise are refused. With ``slots``, by slot.
    stores_numbers : bool
        Whether its concrete tables are stored as single numbers rather than as vectors, so that
        ``storage="pq"``, which puts vectors in parts, is refused.

    Notes
    -----
    The module returned by ``build`` may have these hooks:

    - ``arch_parameters()``: the architecture parameters; all others are ordinary weights.
    - ``arch_optimizer(n_steps)``: an optimiser for them, n_steps being its planned steps (default:
      Adam).
    - ``arch_schedule``: an `ArchSchedule`: by the backward pass of the weights (default), or in
      steps of its own: on which rows, by which gradient, how often, after which warm-up.
    - ``sample()`` and ``policy_loss(reward)``, on the module with the schedule, for its
      ``gradient="policy"``. The first draws an action, which the forward pass uses until the next
      draw; the second is given the reward (B,) of the rows, minus their losses, and returns what
      the gradient of the architecture parameters is taken of: a scalar, or losses (B,), which are
      averaged by the weights of the rows. Penalties are not added. A pass of such a step leaves
      the buffers as they were. On which action the weights train is up to the module
      (``set_progress`` may draw one).
    - ``set_progress(t)``: called before each training step with t in [0, 1].
    - ``penalty()``: a scalar tensor added to the task loss, in architecture steps as well.
    - ``after_step()``: called after each training step, when all optimisers have moved (proximal
      steps, clamps).
    - ``observe(batch, per_row_loss)``: called in each training step between forward and backward
      pass with the `EncodedTensors` and their losses (B,), detached and not yet weighted (counters,
      histories).
    - ``judged_share``, ``judge(network, loss, data)``: after the training, rows (that share of the
      training rows) that nothing was trained on, to compare what was found with chance.
    - ``after_epoch(unseen_loss)``, beside ``judged_share``: called after each epoch with the mean
      loss of these rows.
    - ``begin_chunk(data)``, also of concrete modules: called before the training on each chunk of
      ``partial_fit`` with all its rows, as they were given (counts of values). In a stream that
      begins with a search the context's ``counts`` are zero.
    - ``summary()``: dict of JSON-able numbers for ``search_history_``, asked once an epoch.
    - ``set_widths(n_in, n_out, generator)``: in the head slot only, of concrete modules as well:
      makes the weights, once the network knows what it will give the head; see
      `sklearn_autorec.nn.head_part`.

    A module in the numeric slot maps scaled values and missing indicators, (B, 2 F_num), to (B,
    F_num, d). Beside a method of this slot the part of the embedding slot has the categorical and
    the list fields alone: that is the context which its methods get.

    A module in the sequence slot stands in place of the mean of a list: it is called with (vectors,
    present, targets), see `sklearn_autorec.nn.FieldNetwork`, and gives (B, F_seq, d).

    A module in the loss slot maps logits (B, C) and y (B,) to losses (B,). It trains the weights of
    the network, and its own parameters with them, in the search and in the final training.
    Validation rows, early stopping, histories, scores and architecture steps of their own
    (`ArchSchedule` can say otherwise) go by the estimator's own loss, ``context.reference_loss``.

    The concrete module of ``realise`` may have ``compact()``, which returns the module that serves,
    and answers for itself by ``sizes()``, ``nbytes()`` and ``interactions()``: see
    `sklearn_autorec.nn.PackedPart`.

    Subclasses register themselves by their public name (module and class, without private modules
    in between), so that a stored architecture finds its method. The bare name of a class means one
    of this package.
    """

    slot: str = "interaction"
    retrain: str = "scratch"
    narrows: bool = False
    streams: bool = False
    distributes: bool = False
    fit_only: tuple[str, ...] = ()
    pickle_supernet: bool = False
    supports_members: bool = False
    packed_entries: Mapping | None = None
    stores_numbers: bool = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        METHODS.add(cls)

    def __sklearn_clone__(self):
        if not self.fit_only:
            return super().__sklearn_clone__()
        params = {
            name: value if name in self.fit_only else clone(value, safe=False)
            for name, value in self.get_params(deep=False).items()
        }
        return type(self)(**params)

    @property
    def slots(self):
        return (self.slot,)

    @property
    def joint(self):
        """Whether it can search together with others: its search is the default one."""
        return type(self).search is SearchMethod.search

    def build(self, context):
        """The searchable module that stands in the slot during the search."""
        raise NotImplementedError

    def derive(self, module, context):
        """Read the architecture, a plain dict, off the searched module."""
        raise NotImplementedError

    def realise(self, architecture, context):
        """The concrete module of an architecture: physically small, no gates left over. None if
        nothing is left to stand there.

        The context is that of the inputs which ``selection`` keeps.
        """
        raise NotImplementedError

    def selection(self, architecture, context):
        """What an architecture keeps of the inputs, an `InputSelection`, or None for everything;
        asked if ``narrows``.
        """
        return None

    def transfer(self, state, architecture, context):
        """The weights of the searched network as those of the network that is built from the
        architecture.

        Asked after each search, for the weights with which it started and for those with which it
        ended. The final network takes over what ``retrain`` says, where name and shape agree (all
        of it if the user stops the search: the searched network is then all there is). With
        ``retrain="none"`` nothing of what is not trained again may be missing.

        Parameters
        ----------
        state : dict of str to Tensor
            All tensors of the searched network, the part of this method under the name of its slot
            ("embedding.weight"). They are those of the network itself: what changes is made anew.
        architecture : dict
        context : BuildContext
            Of the search.

        Returns
        -------
        dict of str to Tensor
            By default ``state``: the concrete part has the names of the searchable one.
        """
        return state

    def check(self, architecture, context):
        """Refuse an architecture that does not fit the table, before ``realise`` sees it: files may
        hold anything.

        Raises
        ------
        ValueError
            Naming what is wrong. The default accepts every dict.
        """

    def specialize(self, kept, budget, context):
        """What another budget gives of a search that is over, without rows and training; asked by
        ``specialize`` of a fitted estimator.

        Only of methods with ``retrain="none"`` and a single slot, whose ``search`` has left
        something in ``problem.kept``.

        Parameters
        ----------
        kept : object
            What ``problem.kept`` was. Several models are made of it: it does not change.
        budget : float or int
            The value of the parameter ``budget`` that is wanted.
        context : BuildContext
            As ``realise`` gets it.

        Returns
        -------
        architecture : dict
        state : dict of str to Tensor
            All weights of the part that ``realise`` makes of it, by their names in the part.
        """
        raise NotImplementedError

    def interaction_scores(self, architecture, context):
        """How strong the search found each candidate interaction; ``interaction_scores_`` and its
        display.

        Those that were kept are told by the concrete part (``interactions()``), which knows no
        others.

        Parameters
        ----------
        architecture : dict
            Its entry; of a method over several slots the dict of these by slot.
        context : BuildContext
            Of the fields that the network has.

        Returns
        -------
        dict of tuple of int to float, or None
            By positions of the fields, rising; larger is stronger. None (the default) if the
            architecture says nothing about interactions.
        """
        return None

    def field_scores(self, architecture, context):
        """How useful the search found each field; ``field_scores_``.

        Parameters
        ----------
        architecture : dict
            As above.
        context : BuildContext
            Of the fields that were searched: of the whole table, if the method ``narrows``.

        Returns
        -------
        list of float, length F, or None
            Larger is more useful. None (the default) if the architecture says nothing about fields.
        """
        return None

    def graph(self, architecture, context):
        """The found part as a graph to look at; ``architecture_graph_`` and
        `sklearn_autorec.inspection.ArchitectureDisplay`.

        Parameters
        ----------
        architecture : dict
            As above.
        context : BuildContext
            Of the fields that the network has.

        Returns
        -------
        (nodes, edges) or None
            Nodes are tuples (name, label, kind), kind being "input", "operation", "sum" or
            "output"; edges are pairs of names, from where the numbers come to where they go. None
            (the default) if there is no graph to see.
        """
        return None

    def policy(self, problem):
        """Candidates of a search that only asks how good each is; for ``problem.evaluate``.

        A generator that yields lists of candidate architectures, dicts of what JSON knows, and is
        sent the list of their scores, higher being better and NaN meaning that one failed. It
        depends on these and on ``problem.context.generator`` alone, so that a search finds the
        same with any number of workers.

        Parameters
        ----------
        problem : sklearn_autorec.engine.SearchProblem
        """
        raise NotImplementedError

    def search(self, problem):
        """Find the architecture; returns a dict. The default is one gradient search over all
        epochs.

        Parameters
        ----------
        problem : sklearn_autorec.engine.SearchProblem
            Builds and trains searchable networks on the training rows.
        """
        module = self.build(problem.context)
        problem.train(module)
        return self.derive(module, problem.context)
