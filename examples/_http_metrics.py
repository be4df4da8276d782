"""Counters and a histogram of latencies, in the text format that Prometheus reads."""

import threading
from bisect import bisect_left

# Upper bounds in seconds: a row takes about a millisecond, a batch some tens of them.
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
PREFIX = "autorec_"


def escaped(text):
    """The value of a label."""
    return str(text).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def line(name, value, **labels):
    """A sample: name, labels and value."""
    inner = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
    return f"{PREFIX}{name}{{{inner}}} {value}" if labels else f"{PREFIX}{name} {value}"


class Metrics:
    """What a service counts; threads may share one.

    Latency goes from the arrival of a request's body to its answer, by the number of rows: "one" or
    "many".
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._requests = {}  # status -> count
        self._errors = {}  # reason -> count
        self._rows = 0
        self._buckets = {shape: [0] * (len(BUCKETS) + 1) for shape in ("one", "many")}
        self._seconds = dict.fromkeys(self._buckets, 0.0)

    def answered(self, seconds, n_rows, status=200, reason=None):
        """Count a request; a ``reason`` says why it was refused or failed."""
        with self._lock:
            self._requests[status] = self._requests.get(status, 0) + 1
            if reason is not None:
                self._errors[reason] = self._errors.get(reason, 0) + 1
                return
            shape = "one" if n_rows == 1 else "many"
            self._rows += n_rows
            self._buckets[shape][bisect_left(BUCKETS, seconds)] += 1
            self._seconds[shape] += seconds

    def text(self, watched):
        """Everything as text.

        Parameters
        ----------
        watched : WatchedModel
        """
        with self._lock:
            lines = self._counters() + self._latencies()
        served = watched.served
        model = {"digest": served.digest, "version": served.version, "file": served.path.name}
        lines += [
            *head("model_info", "gauge", "The model that answers."),
            line("model_info", 1, **model),
            *head("model_loaded_timestamp_seconds", "gauge", "When it was loaded."),
            line("model_loaded_timestamp_seconds", f"{served.loaded_at:.3f}"),
            *head("model_reloads_total", "counter", "Replacements that serve or have served."),
            line("model_reloads_total", served.version - 1),
            *head("model_reload_failures_total", "counter", "Replacements that were refused."),
            line("model_reload_failures_total", watched.failures),
            *head("model_reload_failing", "gauge", "1 while the file is not what answers."),
            line("model_reload_failing", int(watched.error is not None)),
        ]
        return "\n".join(lines) + "\n"

    def _counters(self):
        lines = head("requests_total", "counter", "Answers to predict, by status.")
        lines += [line("requests_total", n, status=s) for s, n in sorted(self._requests.items())]
        lines += head("errors_total", "counter", "Requests that got no prediction, by reason.")
        lines += [line("errors_total", n, reason=r) for r, n in sorted(self._errors.items())]
        return lines + [
            *head("rows_total", "counter", "Rows predicted."),
            line("rows_total", self._rows),
        ]

    def _latencies(self):
        name = "request_seconds"
        lines = head(name, "histogram", "Time of requests that got a prediction.")
        for shape, counts in self._buckets.items():
            total = 0
            for bound, count in zip((*BUCKETS, "+Inf"), counts, strict=True):
                total += count
                lines.append(line(f"{name}_bucket", total, rows=shape, le=bound))
            lines.append(line(f"{name}_sum", f"{self._seconds[shape]:.6f}", rows=shape))
            lines.append(line(f"{name}_count", total, rows=shape))
        return lines


def head(name, kind, text):
    """The two lines before a metric."""
    return [f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} {kind}"]
