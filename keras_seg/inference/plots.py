"""Plots of an evaluation: confusion matrix, IoU of the classes, precision over recall."""

import math
import pathlib

import numpy as np

from keras_seg.utils import atomic_path

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart; the order
# keeps neighbours far apart, and the dashes help in print.
_COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#000000", "#8c6d00")
_DASHES = ("-", "--", "-.", ":")


def save_plots(folder, result, curves=None):
    """Write `confusion_matrix.png`, `iou.png` and, with curves, `precision_recall.png`.

    Args:
        folder: exists; files of these names are replaced.
        result: what `evaluate` returned, or read back from its JSON.
        curves: what `keras_seg.metrics.precision_recall` returned, or None.

    Returns:
        list of the files' paths.

    Raises:
        ValueError: without matplotlib.
    """
    require_matplotlib()
    names = [_short(name) for name in result["classes"]]
    figures = {
        "confusion_matrix": _confusion_figure(np.array(result["confusion_matrix"]), names),
        "iou": _iou_figure(result["iou"], result["mean_iou"], names),
    }
    if curves is not None:
        figures["precision_recall"] = _curves_figure(curves, names)
    paths = []
    for name, figure in figures.items():
        paths.append(pathlib.Path(folder) / f"{name}.png")
        with atomic_path(paths[-1]) as temporary:
            figure.savefig(temporary, bbox_inches="tight", pad_inches=0.15)
    return paths


def require_matplotlib():
    """Raise ValueError, naming the extra, where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "Plots need the package matplotlib: pip install 'keras-seg[viz]'."
        ) from error


def _short(name, length=28):
    return name if len(name) <= length else name[: length - 1] + "…"


def _figure(width, height, layout="constrained"):
    # Not pyplot: it keeps figures alive and wants to know about screens.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout=layout)


def _confusion_figure(matrix, names):
    """Shares of each true class in %; the numbers of pixels too where there is room for them."""
    from matplotlib.colors import PowerNorm

    count = len(names)
    cell = 0.72 if count <= 12 else 0.4 if count <= 30 else 0.14  # inches
    font = 10 if count <= 30 else 7
    margin = 1 + max(map(len, names)) * font * 0.6 / 72
    figure = _figure(max(count * cell + margin + 1, 5), max(count * cell + margin, 4))
    axes = figure.add_subplot()
    truth = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, truth, out=np.full(matrix.shape, np.nan), where=truth > 0)
    axes.set_facecolor("#dddddd")  # classes without a pixel
    # The square root of the scale shows the confusions, which are small beside the diagonal.
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    axes.set_xticks(range(count), names, rotation=90, fontsize=font)
    axes.set_yticks(range(count), names, fontsize=font)
    axes.set_xlabel("predicted class", fontsize=12)
    axes.set_ylabel("true class", fontsize=12)
    title = "Confusion matrix, % of each true class"
    axes.set_title(title + "\n(grey: no true pixels)" * bool((truth == 0).any()), fontsize=13)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white" if count <= 30 else "#eeeeee", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    if count <= 30:
        for (row, column), share in np.ndenumerate(shares):
            text = _cell_text(share, matrix[row, column], brief=count > 12)
            color = "white" if share > 0.4 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    bar = figure.colorbar(picture, ax=axes, shrink=min(1, 5 / (count * cell)), pad=0.02)
    bar.set_ticks([0, 0.01, 0.05, 0.2, 0.5, 1], labels=["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
    return figure


def _cell_text(share, pixels, brief):
    if not pixels:
        return ""
    if brief:
        return f"{share:.0%}"[:-1] if share >= 0.005 else "<1"
    units = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
    shown = next(f"{pixels / unit:.3g}{name}" for unit, name in units if pixels >= unit)
    return (f"{share:.1%}" if share >= 0.001 else "<0.1%") + f"\n{shown}"


def _iou_figure(iou, mean, names):
    """Bars, the best class first, with their mean; classes without a score at the end."""
    values = np.array([math.nan if v is None else v for v in iou], float)
    order = np.argsort(-values, kind="stable")  # NaN comes last
    values, names = values[order], [names[i] for i in order]
    count = len(names)
    size = 0.26 if count <= 40 else 0.18
    font = 10 if count <= 40 else 8
    figure = _figure(8, count * size + 1.4)
    axes = figure.add_subplot()
    places = np.arange(count)
    axes.barh(places, np.nan_to_num(values), color=_COLORS[0], height=0.75)
    for place, value in zip(places, values, strict=True):
        text = "no pixels, true or predicted" if np.isnan(value) else f"{value:.3f}"
        axes.text(
            np.nan_to_num(value) + 0.008,
            place,
            text,
            va="center",
            fontsize=font - 1,
            color="#666666" if np.isnan(value) else "black",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
    title = "IoU of each class"
    if mean is not None and not math.isnan(mean):
        axes.axvline(mean, color=_COLORS[3], linestyle="--", linewidth=1.5, zorder=0.5)
        title += f", mean {mean:.3f} (dashed)"
    axes.set_yticks(places, names, fontsize=font)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_xlim(0, 1.09)
    axes.set_xticks(np.arange(0, 1.01, 0.2))
    axes.set_xlabel("IoU")
    axes.set_title(title, fontsize=13)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _curves_figure(curves, names):
    """One picture of all classes, or where they cannot be told apart a small one each."""
    shown = np.flatnonzero(~np.isnan(curves["average_precision"]))
    title = f"Precision over recall of pixels, mean AP {curves['mean_average_precision']:.3f}"
    if len(shown) < len(names):
        title += f", {len(shown)} of {len(names)} classes (those with true pixels)"
    # Recall 0 first; where nothing is predicted there is no precision.
    lines = []
    for i in shown:
        known = ~np.isnan(curves["precision"][i])
        recall, precision = curves["recall"][i][known], curves["precision"][i][known]
        text = names[i], f"{curves['average_precision'][i]:.3f}"
        lines.append((text, np.append(0, recall), np.append(precision[:1], precision)))
    together = len(names) <= len(_COLORS)
    return (_curves_together if together else _curves_apart)(lines, title)


def _curves_together(lines, title):
    figure = _figure(8.5, 5.5)
    axes = figure.add_subplot()
    for i, (text, recall, precision) in enumerate(lines):
        axes.plot(
            recall,
            precision,
            drawstyle="steps-pre",
            color=_COLORS[i],
            linestyle=_DASHES[i % len(_DASHES)],
            linewidth=1.8,
            label="  ".join(text),
        )
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_title(title, fontsize=13)
    if lines:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="class and its AP")
    return figure


def _curves_apart(lines, title):
    columns = 5 if len(lines) <= 40 else 10
    rows = max(math.ceil(len(lines) / columns), 1)
    width, height = 1.75 * columns + 0.6, 1.9 * rows + 1.6
    # Fitting a layout to 150 axes, or axes that share their scales, would take half a minute.
    figure = _figure(width, height, layout=None)
    figure.subplots_adjust(
        left=0.7 / width,
        right=1 - 0.1 / width,
        bottom=0.6 / height,
        top=1 - 1.2 / height,
        hspace=0.35,
        wspace=0.15,
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for i, axes in enumerate(grid.flat):
        if i >= len(lines):
            axes.set_visible(False)
            continue
        (name, ap), recall, precision = lines[i]
        axes.fill_between(recall, precision, step="pre", color=_COLORS[4], alpha=0.35, linewidth=0)
        axes.plot(recall, precision, drawstyle="steps-pre", color=_COLORS[0], linewidth=1.4)
        axes.set_title(f"{_short(name, 20)}\n{ap}", fontsize=8, pad=3)
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.03)
        ticks, texts = [0, 0.5, 1], ["0", ".5", "1"]
        axes.set_xticks(ticks, texts if i + columns >= len(lines) else [], fontsize=8)
        axes.set_yticks(ticks, texts if i % columns == 0 else [], fontsize=8)
        axes.grid(color="#dddddd", linewidth=0.6)
    figure.suptitle(
        title + "\n(number below each class: its AP)", fontsize=13, y=1 - 0.1 / height, va="top"
    )
    figure.supxlabel("recall", y=0.1 / height, va="bottom")
    figure.supylabel("precision", x=0.02 / width, ha="left")
    return figure
