"""What the records of the suite say: tables, mean ranks, wins and losses, seconds, a
critical-difference picture.

Ranks and wins are taken over tables, on means over seeds. A model that lacks tables is left out of
the ranks and named."""

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, rankdata, studentized_range

# Metric, whether more is better, digits
METRICS = {"clicks": {"auc": (True, 4), "log_loss": (False, 4)}, "ratings": {"rmse": (False, 4)}}
REFERENCE = "LightGBM default"  # seconds are ratios to it
COSTS = {"fit_cpu_s": "s", "bytes": "MB", "ms_p50": "ms"}


def frame_of(records, code=None):
    """Finished records as a frame; ``stale`` says that a record rests on other code of the package
    than ``code``.
    """
    rows = [dict(record) for record in records if record["status"] == "ok"]
    for row in rows:
        row["rows"] = "full" if row["rows"] is None else row["rows"]
        row["stale"] = code is not None and row["code"] not in (None, code)
        row.pop("versions", None)
    return pd.DataFrame(rows)


def means(frame, metric):
    """Mean over seeds: one row for each table, one column for each model."""
    return frame.pivot_table(index="table", columns="model", values=metric, aggfunc="mean")


def complete(scores):
    """The scores of models that have every table, and the names of the others."""
    whole = scores.notna().all()
    return scores.loc[:, whole], sorted(scores.columns[~whole])


def ranks(scores, more_is_better):
    """Rank of each model on each table, 1 the best; equal scores share a rank."""
    values = scores.to_numpy()
    values = -values if more_is_better else values
    return pd.DataFrame(rankdata(values, axis=1), index=scores.index, columns=scores.columns)


def wins(scores, more_is_better):
    """A frame of counts: on how many tables the row's model is strictly ahead of the column's."""
    values = scores.to_numpy() * (1 if more_is_better else -1)
    ahead = (values[:, :, None] > values[:, None, :]).sum(0)
    return pd.DataFrame(ahead, index=scores.columns, columns=scores.columns)


def critical_difference(n_models, n_tables, alpha=0.05):
    """Nemenyi's least difference of mean ranks that chance does not explain (Demsar, JMLR 2006)."""
    q = studentized_range.ppf(1 - alpha, n_models, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_models * (n_models + 1) / (6 * n_tables)))


def friedman(scores):
    """p-value of the hypothesis that all models are alike; NaN below three models or two tables."""
    if scores.shape[1] < 3 or len(scores) < 2:
        return np.nan
    return float(friedmanchisquare(*(scores[model] for model in scores)).pvalue)


def cliques(mean_ranks, difference):
    """Longest runs of models, in order of rank, whose ends differ by less than the critical
    difference; pairs at least.
    """
    values = np.asarray(mean_ranks)
    runs, reached = [], -1
    for first in range(len(values)):
        last = int(np.searchsorted(values, values[first] + difference, side="left")) - 1
        if last > first and last > reached:
            runs.append((first, last))
        reached = max(reached, last)
    return runs


def draw(panels, path):
    """The picture: for each (title, Series of mean ranks, critical difference) an axis of ranks
    with bars that join what is alike.
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    heights = [_height(mean_ranks, difference) for _, mean_ranks, difference in panels]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(9, 0.24 * sum(heights) + 0.4 * len(panels)),
        height_ratios=heights,
        squeeze=False,
    )
    for axis, (title, mean_ranks, difference), height in zip(
        axes[:, 0], panels, heights, strict=True
    ):
        _draw_panel(axis, title, mean_ranks.sort_values(), difference, height)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _height(mean_ranks, difference):
    """Lines that a panel needs: title, measure, axis, bars, labels on both sides."""
    return 6 + 0.7 * len(cliques(mean_ranks.sort_values(), difference)) + (len(mean_ranks) + 1) // 2


def _draw_panel(axis, title, mean_ranks, difference, height):
    """One axis of ranks: labels of the better half on the left, of the others on the right, each
    with a line to its rank.
    """
    n, names, values = len(mean_ranks), list(mean_ranks.index), mean_ranks.to_numpy()
    runs = cliques(values, difference)
    low, high, margin = 1, n, 0.45 * n
    axis.set_xlim(low - margin, high + margin)
    axis.set_ylim(height - 3.5, -3.5)
    axis.axis("off")
    axis.hlines(0, low, high, color="black", lw=1)
    for tick in range(1, n + 1):
        axis.vlines(tick, -0.25, 0, color="black", lw=1)
        axis.text(tick, -0.4, str(tick), ha="center", va="bottom", fontsize=8)
    axis.text(low - margin, -3.4, title, ha="left", va="top", fontsize=10, weight="bold")
    if np.isfinite(difference):
        end = min(low + difference, high)
        axis.plot([low, low, end, end], [-1.35, -1.55, -1.55, -1.35], color="black", lw=1)
        axis.text(
            low, -1.65, f"critical difference {difference:.2f}", ha="left", va="bottom", fontsize=8
        )
    bars = 0.6 + 0.7 * len(runs)
    for k, (first, last) in enumerate(runs):
        axis.hlines(
            0.6 + 0.7 * k, values[first] - 0.06, values[last] + 0.06, color="tab:blue", lw=3.5
        )
    left = (n + 1) // 2
    for k in range(n):
        line = k if k < left else n - 1 - k
        y = bars + 0.5 + line
        edge = low - 0.04 * n if k < left else high + 0.04 * n
        axis.plot([values[k], values[k], edge], [0, y, y], color="0.4", lw=0.8)
        label = f"{names[k]}  {values[k]:.2f}" if k < left else f"{values[k]:.2f}  {names[k]}"
        axis.text(
            edge, y, f" {label} ", ha="right" if k < left else "left", va="center", fontsize=9
        )


def rst_table(header, rows):
    """A simple table of reStructuredText, which also reads as plain text."""
    cells = [[str(c) for c in row] for row in [header, *rows]]
    widths = [max(len(row[j]) for row in cells) for j in range(len(header))]
    rule = "  ".join("=" * w for w in widths)
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def _table_of(frame, task):
    """Scores and costs of all models on one table, the best first."""
    first, (more, _) = next(iter(METRICS[task].items()))
    by_model = frame.groupby("model")
    order = by_model[first].mean().sort_values(ascending=not more).index
    rows = []
    for model in order:
        group = by_model.get_group(model)
        cells = [model + (" *" if group["stale"].any() else "")]
        for metric, (_, digits) in METRICS[task].items():
            spread = f" +- {group[metric].std():.{digits}f}" if len(group) > 1 else ""
            cells.append(f"{group[metric].mean():.{digits}f}{spread}")
        # What is missing is not true.
        gave_up = "gave_up_" in group and bool((group["gave_up_"] == True).any())  # noqa: E712
        cells.append(f"{group['fit_cpu_s'].mean():.1f}" + (" (gave up)" if gave_up else ""))
        cells += [
            f"{group['bytes'].mean() / 1e6:.2f}",
            f"{group['ms_p50'].mean():.2f}",
            str(len(group)),
        ]
        rows.append(cells)
    return rst_table(["model", *METRICS[task], *COSTS.values(), "seeds"], rows)


def _summary(frame, task):
    """Mean ranks, and the median over tables of the seconds over those of the reference."""
    columns, panels, notes = {}, [], []
    for metric, (more, _) in METRICS[task].items():
        scores, others = complete(means(frame, metric))
        if others:
            notes.append(f"Without every table, hence without a rank: {', '.join(others)}.")
        if scores.shape[1] < 2:
            continue
        mean_ranks = ranks(scores, more).mean()
        columns[f"rank {metric}"] = mean_ranks
        difference = critical_difference(scores.shape[1], len(scores))
        panels.append((metric, mean_ranks, difference, len(scores)))
        notes.append(
            f"{metric}: {len(scores)} tables, Friedman p = {friedman(scores):.2g}, critical "
            f"difference {difference:.2f}."
        )
    if not columns:
        return None, [], notes
    seconds = means(frame, "fit_cpu_s")
    table = pd.DataFrame(columns)
    if REFERENCE in seconds:
        ratio = seconds.div(seconds[REFERENCE], axis=0)
        table["seconds ratio"], table["largest"] = ratio.median(), ratio.max()
    table["ms"] = means(frame, "ms_p50").median()
    table = table.sort_values(list(columns)[0])
    rows = [[model, *(f"{v:.2f}" for v in table.loc[model])] for model in table.index]
    return rst_table(["model", *table.columns], rows), panels, list(dict.fromkeys(notes))


def _duels(frame, task):
    """Wins and losses of each model against every other, as "wins-losses"."""
    texts = []
    for metric, (more, _) in METRICS[task].items():
        scores, _ = complete(means(frame, metric))
        if scores.shape[1] < 2:
            continue
        order = ranks(scores, more).mean().sort_values().index
        ahead = wins(scores, more)
        rows = [
            [a, *("" if a == b else f"{ahead.loc[a, b]}-{ahead.loc[b, a]}" for b in order)]
            for a in order
        ]
        texts.append(
            f"{metric}, wins-losses of the row against the column\n\n"
            + rst_table(["model", *order], rows)
        )
    return "\n\n".join(texts)


def report(records, picture=None, code=None, models=None):
    """Everything as text; the picture, of the first number of rows that has ranks, goes to
    ``picture``.
    """
    frame = frame_of(records, code)
    failed = [r for r in records if r["status"] != "ok"]
    lines, drawn = [], []
    if frame.empty:
        lines.append("No finished records.")
    for task in METRICS:
        part = frame[frame["task"] == task] if len(frame) else frame
        if models:
            part = part[part["model"].isin(models)]
        sizes = (
            sorted(part["rows"].unique(), key=lambda r: (r != 20_000, isinstance(r, str), r))
            if len(part)
            else []
        )
        for size in sizes:
            here = part[part["rows"] == size]
            title = f"{task}, {'all' if size == 'full' else f'{size:,}'} training rows"
            lines += [title, "-" * len(title), ""]
            for table, group in here.groupby("table", sort=True):
                base = "base_log_loss" if task == "clicks" else "base_rmse"
                lines += [
                    f"{table} ({base.replace('_', ' ')} {group[base].mean():.4f})",
                    "",
                    _table_of(group, task),
                    "",
                ]
            summary, panels, notes = _summary(here, task)
            if summary:
                lines += ["Mean ranks", "", summary, "", *notes, "", _duels(here, task), ""]
            if not any(t == task for t, _ in drawn):
                drawn += [
                    (task, (f"{title}: mean rank by {m}, {n} tables", r, d))
                    for m, r, d, n in panels
                ]
    if failed:
        lines += ["Failed", ""] + [
            f"{r['task']} {r['table']} {r['rows'] or 'full'} {r['model']} seed {r['seed']}: "
            f"{r['error']}"
            for r in failed
        ]
    if len(frame) and frame["stale"].any():
        lines.append("* rests on another state of the package's code")
    if picture is not None and drawn:
        draw([panel for _, panel in drawn], picture)
        lines.append(f"Picture: {picture}")
    return "\n".join(lines)
