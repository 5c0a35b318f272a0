# SPDX-License-Identifier: MIT
"""The loss curve as an SVG that reads well on light and dark pages."""
from pathlib import Path

GREY, BLUE, ORANGE = "#808890", "#3b82c4", "#e08a2e"


def draw(record: dict, path: Path) -> None:
    """Training and held-out loss (nats per token) over steps."""
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "loss"
    from matplotlib import pyplot

    fig, axes = pyplot.subplots(figsize=(7, 3.6))
    fig.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.plot(*zip(*record["loss"]), color=BLUE, linewidth=1.3, label="training")
    if record["held_out_loss"]:
        axes.plot(*zip(*record["held_out_loss"]), "o-", color=ORANGE, markersize=3.5,
                  linewidth=1.3, label="held-out stories")
    axes.set(xlabel="step", ylabel="loss (nats per token)", yscale="log")
    ticks = (0.4, 0.5, 0.7, 1, 1.5, 2, 3, 5)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.xaxis.label.set_color(GREY)
    axes.yaxis.label.set_color(GREY)
    axes.tick_params(colors=GREY)
    axes.grid(color=GREY, alpha=0.25)
    for spine in axes.spines.values():
        spine.set_color(GREY)
    axes.legend(frameon=False, labelcolor=GREY)
    fig.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(fig)
