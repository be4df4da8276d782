"""Networks: the class that an author subclasses, and the names under which they are known."""

from sklearn.base import BaseEstimator

from .._registry import NETWORK_CLASSES, NETWORKS, public_name


class Network(BaseEstimator):
    """A network family with its sizes; the constructor stores parameters, ``build`` makes the
    module.

    Attributes
    ----------
    slots : tuple of str
        The slots whose parts ``build`` accepts. "loss" needs no code of the network, "embedding",
        "numeric", "sequence" and "gate" none of a `sklearn_autorec.nn.FieldNetwork`. Nor does
        "body": its part stands for all that such a network has behind the embeddings, and ``build``
        is not asked. "interaction" and "head" are wired by its module, which asks for a head by
        `sklearn_autorec.nn.head_part` and so tells it its widths. A slot that is named and not used
        is an error when a method searches it.
    supports_members : bool
        Whether the module of ``build`` holds ``context.members`` independent members in one: it
        then takes and gives rows of all, one member's after another's, and its layers with weights
        have a set for each; see `sklearn_autorec.nn.Members`. Otherwise the members are separate
        modules. It speaks for the ``build`` of its own class: a subclass that builds otherwise
        declares it anew.

    Notes
    -----
    Where a search drops fields, the network that is left takes over the elements of its weights
    that belong to the kept fields. For this the modules that ``build`` makes declare which axes of
    their weights have something for every field. Layers of ``sklearn_autorec.nn`` do so by
    themselves if their numbers of inputs and outputs come from ``context.axis``:

    - ``context.axis("F")``: a number per field;
    - ``context.axis("F", d)``: d numbers per field, as flattened embeddings are;
    - ``context.axis("F", "F")``: a number for every two fields, in both orders and with themselves;
    - ``context.axis("P")`` and ``context.axis("P", d)``: per pair i < j; "P3" for triples, and so
      on;
    - ``context.axis("V")`` and ``context.axis("N")``: per row of the tables, and per numeric field;
    - ``context.axis("L")``: per list field;
    - sums of these and of ints, for what stands side by side.

    A module with parameters or buffers of its own has an attribute ``field_axes``: a dict of their
    names to dicts of dimensions to such lengths, ``{"weight": {-1: context.axis("P", d)}}``.
    Dimensions count from the end where members have one in front. A weight whose shape changes with
    the number of fields without a declaration is refused before a search that may drop fields.
    """

    slots: tuple[str, ...] = ("gate", "embedding", "numeric", "sequence", "loss")
    supports_members: bool = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        NETWORK_CLASSES.add(cls)

    def build(self, context, parts):
        """Make the module.

        Parameters
        ----------
        context : sklearn_autorec.nn.BuildContext
        parts : dict of str to torch.nn.Module
            Modules that stand in some of ``slots``, but for the loss; the network makes the others
            itself.

        Returns
        -------
        torch.nn.Module
            ids, numeric, sequences -> logits (B, C).
        """
        raise NotImplementedError

    def table_width(self, embedding_dim, n_fields):
        """Numbers that a value has in the embedding tables, by which the memory is estimated before
        anything is built.

        Parameters
        ----------
        embedding_dim : int
        n_fields : int

        Returns
        -------
        int
            ``embedding_dim``, unless the network has tables of its own.
        """
        return embedding_dim

    def adjust(self, module):
        """Set on a module whose training goes on those of the parameters that need no new weights.

        Parameters
        ----------
        module : torch.nn.Module
            Of ``build``; it may hold parts of search methods.

        Returns
        -------
        dict
            What was set, by name of the parameter.
        """
        return {}


def known_networks():
    """Networks by the short names under which they are registered, dict of str to type."""
    return NETWORKS.all()


def known_network_classes():
    """Classes of all networks by their public names, such as "sklearn_autorec.networks.FM"."""
    return NETWORK_CLASSES.all()


def register_network(name):
    """Class decorator: make a network available under ``network=name``.

    Raises
    ------
    ValueError
        If another class has that name.
    """

    def register(cls):
        NETWORKS.add(cls, name)
        return cls

    return register


def resolve_network(network):
    """A name or a `Network` object to a `Network` object.

    Raises
    ------
    ValueError
        If a name is not registered.
    TypeError
        If it is neither a name nor a `Network`.
    """
    if isinstance(network, str):
        known = known_networks()
        if network not in known:
            raise ValueError(
                f"network={network!r} is not known; choose one of {sorted(known)} or a Network "
                f"object."
            )
        return known[network]()
    if not isinstance(network, Network):
        raise TypeError(
            f"network must be a str or a Network object such as DeepFM(), got {network!r}."
        )
    return network


def networks_with_slot(*slots):
    """Names of the registered networks that have a slot, or each of several."""
    return sorted(name for name, cls in known_networks().items() if {*slots} <= {*cls.slots})


def is_described(network, description):
    """Whether a network is of the class that `describe` wrote down."""
    cls = NETWORK_CLASSES.find(description["network"])
    return cls is not None and public_name(cls) == public_name(type(network))


def network_of(description):
    """The network that `describe` wrote down.

    Raises
    ------
    ValueError
        If its class is not known or does not take its parameters.
    """
    name = description.get("network") if isinstance(description, dict) else None
    cls = NETWORK_CLASSES.find(name)
    if cls is None:
        raise ValueError(
            f"network class {name!r} is not known; choose one of "
            f"{sorted(known_network_classes())}. "
            "A class of your own is known once its module is imported."
        )
    try:
        return cls(**description.get("params", {}))
    except TypeError as error:
        raise ValueError(
            f"network {name!r} cannot be made of {description.get('params')!r}: {error}"
        ) from error
