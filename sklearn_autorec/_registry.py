"""Classes by name, for what is written down and read again: architectures, files, networks by name.

Nothing here knows a class. A class enters itself when it is defined; those of this package that are
not imported yet are loaded by sources, which the package hands in from above (see its
``__init__``)."""

__all__ = ["HOME", "METHODS", "NETWORKS", "NETWORK_CLASSES", "Registry", "public_name"]

HOME = __name__.partition(".")[0]  # the package, whose own classes go by their bare names too


def public_name(cls):
    """Where users import a class from: its module without private parts in between, and its name.

    Parameters
    ----------
    cls : type

    Returns
    -------
    str
        Such as "sklearn_autorec.interaction.AutoFIS" or "__main__.OwnMethod".
    """
    parts = cls.__module__.split(".")
    public = [part for part in parts if part.startswith("__") or not part.startswith("_")]
    return ".".join([*(public or parts), cls.__qualname__])


def _is_own(name):
    return name.startswith(f"{HOME}.")


class Registry:
    """Classes of one kind by their names.

    A name belongs to one class. The same definition run again (a cell of a notebook, a reloaded
    module, a class that came to another process by value) takes the place of the former; a class
    that is defined elsewhere is refused. The package's own classes are found by their bare names as
    well, which no class from outside can take from them.

    Parameters
    ----------
    kind : str
        What the classes are, for messages.
    """

    def __init__(self, kind):
        self.kind = kind
        self._classes: dict[str, type] = {}
        self._own_names: dict[str, str] = {}  # by bare name
        self._sources: list = []

    def add_source(self, load):
        """Have ``load()`` called before names are looked up; it imports modules that define
        classes.
        """
        self._sources.append(load)

    def add(self, cls, name=None):
        """Enter a class under its public name, or under the given one.

        Raises
        ------
        ValueError
            If the name belongs to another class.
        """
        own = name is None and _is_own(public_name(cls))
        name = public_name(cls) if name is None else name
        for taken in (name, self._own_names.get(cls.__name__) if own else None):
            other = self._classes.get(taken)
            if other is not None and _definition(other) != _definition(cls):
                both = " and ".join(".".join(_definition(c)) for c in (other, cls))
                raise ValueError(
                    f"Two classes have the name {name if taken == name else cls.__name__!r} as "
                    f"{self.kind}: {both}. Give one of them another name."
                )
        self._classes[name] = cls
        if own:
            self._own_names[cls.__name__] = name

    def all(self):
        """All classes by their names, dict of str to type, those of the sources among them."""
        for load in self._sources:
            load()  # costs nothing where the modules are imported already
        return dict(self._classes)

    def own(self):
        """The package's own classes by their public names, dict of str to type."""
        return {name: cls for name, cls in self.all().items() if _is_own(name)}

    def find(self, name):
        """The class of a name.

        Parameters
        ----------
        name : str
            A public name; or a bare name, which means the package's own class. What was written
            when all went by bare names is read too: where the package has no such class, it means
            the only one from outside that is so called.

        Returns
        -------
        type or None
            None if no class has that name, or several from outside have that bare name.
        """
        classes = self.all()
        if not isinstance(name, str):
            return None
        name = self._own_names.get(name, name)
        if name in classes:
            return classes[name]
        alike = [cls for cls in classes.values() if cls.__name__ == name]
        return alike[0] if len(alike) == 1 else None


def _definition(cls):
    return cls.__module__, cls.__qualname__


NETWORKS = Registry("short name of a network")
NETWORK_CLASSES = Registry("network")
METHODS = Registry("search method")
