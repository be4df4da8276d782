"""What a fit tells scikit-learn's callbacks, such as ``ProgressBar``: its tasks, and their ends."""

from contextlib import contextmanager, nullcontext

__all__ = ["FitProgress", "NoProgress"]


class FitProgress:
    """The tasks of one fit, as callbacks are told of them.

    Whatever has begun is ended, by ``within`` also where an error is raised. The ``fit`` that it
    serves is decorated with ``with_callbacks``.

    Parameters
    ----------
    estimator : estimator with scikit-learn's ``CallbackSupportMixin``
    X, y
        As the user gave them, for callbacks that look at them.

    Attributes
    ----------
    stopped : bool
        Whether a callback has asked to stop at the end of a step.
    """

    def __init__(self, estimator, X=None, y=None):
        self.told = {"estimator": estimator, "X": X, "y": y}
        self.tasks: list = []
        self.stopped = False

    @contextmanager
    def within(self, n_tasks=None):
        """A fit of so many tasks (None: not known)."""
        self.open(n_tasks)
        try:
            yield self
        finally:
            self.close()

    def open(self, n_tasks=None):
        """Tell that the fit begins."""
        root = self.told["estimator"]._init_callback_context(max_subtasks=n_tasks)
        self.tasks = [root.call_on_fit_task_begin(**self.told)]

    def begin(self, name, n_steps=None):
        """Tell that a task of so many steps begins, within that begun last."""
        task = self.tasks[-1].subcontext(task_name=name, max_subtasks=n_steps)
        self.tasks.append(task)
        task.call_on_fit_task_begin(**self.told)

    def step(self, name, attributes=None):
        """Tell that a step of the task begun last is done; whether a callback asks to stop.

        Parameters
        ----------
        name : str
        attributes : callable () -> dict, or None
            The fitted attributes of the moment, for callbacks that score.
        """
        context = self.tasks[-1].subcontext(task_name=name)
        context.call_on_fit_task_begin(**self.told)
        stop = context.call_on_fit_task_end(**self.told, reconstruction_attributes=attributes)
        self.stopped |= bool(stop)
        return stop

    def each(self, name, results):
        """Hand on results, each the end of a step, until a callback asks to stop."""
        for result in results:
            yield result
            if self.step(name):
                return

    def end(self):
        """Tell that the task begun last is over."""
        self.tasks.pop().call_on_fit_task_end(**self.told)

    def close(self):
        """Tell that all that has begun is over."""
        while self.tasks:
            self.end()

    @contextmanager
    def task(self, name, n_steps=None):
        """A task of so many steps (None: not known)."""
        self.begin(name, n_steps)
        depth = len(self.tasks)
        try:
            yield
        finally:
            while len(self.tasks) >= depth:
                self.end()

    @contextmanager
    def fit_of(self, name, estimator):
        """A task that is the fit of another estimator, which tells of its own tasks if it can."""
        context = self.tasks[-1].subcontext(task_name=name)
        tells = hasattr(estimator, "set_callbacks")
        with context.propagate_callback_context(estimator) if tells else nullcontext():
            context.call_on_fit_task_begin(**self.told)
            try:
                yield
            finally:
                context.call_on_fit_task_end(**self.told)


class NoProgress:
    """Stands in for a `FitProgress` where nobody listens."""

    stopped = False

    def step(self, name):
        return False

    def task(self, name, n_steps=None):
        return nullcontext()
