"""Hypergradient mutation (HPM) on Branin and Hartmann6D against random search, PBT and gradients
alone.

    python examples/benchmarks/bench_hpm.py [--seeds 100]

Thirty evaluations each: a population of five, six steps (five of them followed by a mutation), on
the unit cube. Regret is the best value seen less the minimum. numpy only, some seconds."""

import argparse

import numpy as np

from sklearn_autorec.model_selection import population_minimize

POPULATION, STEPS = 5, 6

LOW, HIGH = np.array([-5.0, 0.0]), np.array([10.0, 15.0])
A, B, C, R, S, T = 1.0, 5.1 / (4 * np.pi**2), 5 / np.pi, 6.0, 10.0, 1 / (8 * np.pi)
BRANIN_MINIMUM = 0.39788735772973816

ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
MATRIX = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
CENTRES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
HARTMANN_MINIMUM = -3.322368011415515


def branin(u):
    """Branin's function of a point of the unit square."""
    x, y = LOW + (HIGH - LOW) * u
    return A * (y - B * x**2 + C * x - R) ** 2 + S * (1 - T) * np.cos(x) + S


def branin_gradient(u):
    x, y = LOW + (HIGH - LOW) * u
    inner = 2 * A * (y - B * x**2 + C * x - R)
    return (HIGH - LOW) * np.array([inner * (C - 2 * B * x) - S * (1 - T) * np.sin(x), inner])


def hartmann(u):
    """Hartmann's function of six variables."""
    return -ALPHA @ np.exp(-(MATRIX * (u - CENTRES) ** 2).sum(1))


def hartmann_gradient(u):
    bumps = ALPHA * np.exp(-(MATRIX * (u - CENTRES) ** 2).sum(1))
    return (bumps[:, None] * 2 * MATRIX * (u - CENTRES)).sum(0)


def random_search(function, n, seed):
    points = np.random.RandomState(seed).uniform(size=(POPULATION * STEPS, n))
    return min(function(u) for u in points)


def regrets(function, gradient, n, minimum, seeds, **options):
    """Simple regret of each seed."""
    if not options:
        return np.array([random_search(function, n, seed) for seed in range(seeds)]) - minimum
    options = dict(options)
    slope = gradient if options.pop("slopes") else None
    found = [
        population_minimize(
            function, n, slope, population=POPULATION, n_steps=STEPS, random_state=seed, **options
        ).fun
        for seed in range(seeds)
    ]
    return np.array(found) - minimum


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100)
    seeds = parser.parse_args().seeds
    problems = [
        ("Branin", branin, branin_gradient, 2, BRANIN_MINIMUM, (0.02, 0.05, 0.1)),
        ("Hartmann6D", hartmann, hartmann_gradient, 6, HARTMANN_MINIMUM, (0.02, 0.05, 0.1)),
    ]
    print(
        f"simple regret after {POPULATION * STEPS} evaluations, mean / median [standard error of "
        f"the mean], {seeds} seeds"
    )
    for name, function, gradient, n, minimum, lengths in problems:
        methods = [
            ("random search", {}),
            ("PBT (mutation only)", {"slopes": False, "explore": "random"}),
        ]
        for length in lengths:
            step = {"slopes": True, "hyper_step": length}
            methods += [
                (f"gradient alone, step {length}", {**step, "quantile": 0.0, "explore": "random"}),
                (f"HPM without teacher, step {length}", {**step, "explore": "random"}),
                (f"HPM, step {length}", {**step, "explore": "learned"}),
            ]
        print(name)
        for label, options in methods:
            r = regrets(function, gradient, n, minimum, seeds, **options)
            error = r.std(ddof=1) / np.sqrt(len(r))
            print(f"  {label:32s} {r.mean():6.3f} / {np.median(r):6.3f} [{error:.3f}]")


if __name__ == "__main__":
    main()
