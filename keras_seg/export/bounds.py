"""How far a file may be from the Keras model before its export fails."""

import dataclasses
import numbers

from keras_seg.utils import unknown_name

# Which windows are near a tie differs between two runs: SegNet-Basic on CamVid, 40 steps old, moved
# by 0.3 deviations when pixels were rounded once, and by 0.08 in its files.
TIMES_ROUNDING = 4


class _Default(float):
    """A bound that nobody gave, which gives way to what rounding does to the network."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What the files of an export must reach; None leaves a figure unjudged.

    Attributes:
        difference: float32 files: largest difference of a logit from the Keras model's, in standard
            deviations of the Keras model's logits; also of the confidence, as it is.
        mean_difference: float32 files: the mean difference of the logits, likewise.
        agreement: float32 and float16 files: the least share of pixels with the Keras model's
            label, among those away from ties (of all pixels where each is a tie).
        mean_iou_loss: every file, where labels are given: how much less mean IoU than the Keras
            model's. The default, half a point, is what int8 costs at most on a trained network.
        tie: a pixel is away from ties if the Keras model's two largest logits differ by more than
            this many standard deviations of the picture's logits.

    Rounding the pixels alone can move the Keras network's logits that far, as unpooling does, and
    no file could hold the first three: `judge_all` widens their defaults.

    Raises:
        ValueError: for a value that is no such number.
    """

    difference: float | None = _Default(1e-3)
    mean_difference: float | None = _Default(1e-4)
    agreement: float | None = _Default(0.999)
    mean_iou_loss: float | None = 0.005
    tie: float = 0.01

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.name != "tie":
                continue
            number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            most = 1 if field.name == "agreement" else float("inf")
            if not number or not 0 <= value <= most:
                raise ValueError(
                    f"The bound {field.name} must be a number of at least 0"
                    f"{', at most 1' if most == 1 else ''}, got {value!r}."
                )

    @classmethod
    def parse(cls, texts):
        """`Bounds` of ["NAME=VALUE", ...], where VALUE may be "none"; None of ["none"].

        Raises:
            ValueError: for another name or value.
        """
        if [text.lower() for text in texts] == ["none"]:
            return None
        values, known = {}, [field.name for field in dataclasses.fields(cls)]
        for text in texts:
            name, _, value = text.partition("=")
            if name not in known:
                raise unknown_name("bound", name, known)
            try:
                values[name] = None if value.lower() == "none" else float(value)
            except ValueError as error:
                raise ValueError(
                    f"Bounds are given as NAME=VALUE with a number or none, got {text!r}."
                ) from error
        return cls(**values)

    def judge(self, row):
        """A row of `parity.compare` against the bounds.

        Returns:
            (verdict, sentences): "ok", "FAIL", or None where no bound says anything of the row (a
            quantised file without labels); and what is broken, and by how much.
        """
        checks = list(self._checks(row))
        broken = tuple(f"{row['file']}: {text}." for good, text in checks if not good)
        if broken:
            return "FAIL", broken
        return "ok" if checks else None, ()

    def _checks(self, row):
        """(whether it holds, how it is broken) for every bound that concerns the row."""
        exact = row["precision"] == "float32"
        for name, text, bound in (
            ("difference", "largest difference of a logit", "difference"),
            ("mean_difference", "mean difference of the logits", "mean_difference"),
            ("confidence_difference", "largest difference of the confidence", "difference"),
        ):
            value, most = row[name], getattr(self, bound)
            if exact and None not in (value, most):
                yield (  # a NaN holds no bound
                    value <= most,
                    f"the {text} is {value:.1e}, at most {most:g} is allowed ({bound})",
                )
        value = row["agreement"] if row["clear_agreement"] is None else row["clear_agreement"]
        if (exact or row["precision"] == "float16") and self.agreement is not None:
            yield (
                value >= self.agreement,
                f"{value:.3%} of the labels away from ties are equal, at least {self.agreement:.3%}"
                " are wanted (agreement)",
            )
        change = row["mean_iou_change"]
        if None not in (change, self.mean_iou_loss):
            yield (
                -change <= self.mean_iou_loss,
                f"the mean IoU is lower by {-change:.4f}, at most {self.mean_iou_loss:g} is "
                "allowed (mean_iou_loss)",
            )

    def widened(self, own):
        """These bounds, but four times what rounding does to the network where that is more.

        A bound that was given stays, be it the default's value. own: what `parity.own_rounding`
        returned.
        """
        found = {}
        for name in ("difference", "mean_difference"):
            if own[name] is not None:
                found[name] = max(getattr(DEFAULT_BOUNDS, name), TIMES_ROUNDING * own[name])
        if own["clear_agreement"] is not None:
            least = max(0, 1 - TIMES_ROUNDING * (1 - own["clear_agreement"]))
            found["agreement"] = min(DEFAULT_BOUNDS.agreement, least)
        default = {n: v for n, v in found.items() if isinstance(getattr(self, n), _Default)}
        return dataclasses.replace(self, **default)


DEFAULT_BOUNDS = Bounds()


def judge_all(rows, bounds, measure_rounding):
    """Give rows of `parity.compare` of files their verdict.

    Args:
        rows: changed in place.
        bounds: `Bounds`; None gives no verdict.
        measure_rounding: function without arguments that returns `parity.own_rounding` of the
            network; called if a float32 file breaks a bound. Such files are then held to
            `bounds.widened` by it.

    Returns:
        (sentences of what is broken, what `measure_rounding` returned if it widened a bound).
    """
    if bounds is None:
        return (), None
    own, wider = None, bounds
    if any(row["precision"] == "float32" and bounds.judge(row)[1] for row in rows):
        own = measure_rounding()
        wider = bounds.widened(own)
    broken = ()
    for row in rows:
        of = wider if row["precision"] == "float32" else bounds
        row["verdict"], sentences = of.judge(row)
        broken += sentences
    return broken, None if wider == bounds else own


def advice(precision):
    """What to do about a file of this precision that breaks a bound."""
    if precision == "float32":
        return (
            "Rounding alone does not explain it, unless a bound that you gave is narrower than "
            "rounding: the file computes something else than the Keras network. Compare on images "
            "that it was trained for, and report it if they show the same."
        )
    if precision == "float16":
        return "Leave 'float16' out of the quantised files, or give wider bounds."
    return (
        "Calibrate with more images like those to come, compare on more labelled images, leave "
        f"{precision!r} out of the quantised files, or allow a greater loss with mean_iou_loss."
    )
