"""The results as plots.

Enters: results. Leaves: SVG, the same bytes for the same results. Never: a curve through what was not computed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

_RC = {"svg.hashsalt": "fastscp", "svg.fonttype": "none", "font.size": 9}
_MARKERS = "osD^v"


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")


def backlog(times_s: Mapping[str, Mapping[str, Mapping[int, float]]], path: Path) -> None:
    """Time to the last import over the size of the backlog.

    Args:
        times_s: by model, mode and number of instances.
    """
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(6.4, 4.2))
        axes = figure.subplots()
        for marker, (model, modes) in zip(_MARKERS, times_s.items(), strict=False):
            for mode, style, colour in (("batch", "-", "tab:blue"), ("instance", ":", "tab:red")):
                sizes = sorted(modes[mode])
                label = f"{mode} mode, {model}"
                axes.plot(
                    sizes, [modes[mode][size] / 3600 for size in sizes], style, color=colour, marker=marker, markersize=4, label=label
                )
        axes.set(xscale="log", yscale="log", xlabel="instances waiting at t = 0 (300 for each study)", ylabel="hours to the last import")
        axes.grid(visible=True, which="major", alpha=0.4)
        axes.legend(fontsize=7)
        _save(figure, path)


def day(lags_s: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Share of the instances that are imported so long after their acknowledgement.

    Args:
        lags_s: sorted, by hospital and mode.
    """
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(6.4, 4.2))
        axes = figure.subplots()
        for style, (hospital, modes) in zip(("-", "--"), lags_s.items(), strict=False):
            for mode, colour in (("batch", "tab:blue"), ("instance", "tab:red")):
                lags = modes[mode]
                # Enough points for the eye, the last one among them.
                at = sorted({round(position * (len(lags) - 1) / 400) for position in range(401)})
                axes.plot(
                    [lags[index] for index in at],
                    [index / (len(lags) - 1) for index in at],
                    style,
                    color=colour,
                    label=f"{mode} mode, {hospital}",
                )
        axes.set(xscale="log", xlabel="seconds from acknowledgement to imported", ylabel="share of instances")
        axes.grid(visible=True, which="major", alpha=0.4)
        axes.legend(fontsize=7, loc="center")
        _save(figure, path)


def sensitivity(ratios: Mapping[float, float], instances: int, path: Path) -> None:
    """How many times faster, over the duration of a job of 300 files."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(6.4, 3.4))
        axes = figure.subplots()
        durations = sorted(ratios)
        axes.plot(durations, [ratios[one] for one in durations], "-o", markersize=4)
        axes.axhline(100, color="grey", linewidth=0.8)
        axes.set(
            xlabel="seconds that a job of 300 files takes (one of 1 file: 30)",
            ylabel=f"times faster, {instances:,} instances",
            ylim=(0, None),
        )
        axes.grid(visible=True, alpha=0.4)
        _save(figure, path)
