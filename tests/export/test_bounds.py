"""An export that breaks a bound fails, says by how much, and leaves nothing."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_seg import utils
from keras_seg.cli import main
from keras_seg.export import Bounds, ExportError, check, export
from keras_seg.export import tflite as tflite_file

SIZE = (16, 24)


def linear(weights, bias=(0.0, 0.0)):
    """Two classes from one channel: logits = weights * pixel + bias."""
    image = keras.Input((*SIZE, 1), name="image")
    net = keras.Model(image, layers.Conv2D(2, 1, name="logits_low")(image), name="linear")
    net.set_weights([np.reshape(weights, (1, 1, 1, 2)), np.array(bias)])
    return net


@pytest.fixture(scope="module")
def ramp():
    """Pixels 0..255 in equal numbers, and the labels of `linear((-1, 1), (100, -100))`."""
    pixels = np.arange(SIZE[0] * SIZE[1]).reshape(1, *SIZE, 1) % 256
    return pixels.astype("uint8"), (pixels[..., 0] > 100).astype("uint8")


def write_instead(monkeypatch, other, precision="float32"):
    """Let TFLite files of one precision hold the network `other`: a conversion that went wrong."""
    write = tflite_file.write

    def wrong(graph, path, found="float32", calibration=None):
        if found == precision:
            graph = type(graph)(other, SIZE, 1, "logits")
        write(graph, path, found, calibration)

    monkeypatch.setattr(tflite_file, "write", wrong)


def run(model, folder, ramp, **options):
    images, labels = ramp
    defaults = dict(formats="tflite", quantize=(), images=images, labels=labels, progress=False)
    return export(model, folder, **{**defaults, **options})


def test_figures_of_a_wrong_file(ramp, tmp_path, monkeypatch):
    """Worked by hand: every logit is off by 1, and the border moves from 100 to 101."""
    net = linear((-1, 1), (100, -100))
    write_instead(monkeypatch, linear((-1, 1), (101, -101)))
    images, labels = ramp
    expected = images * np.array([-1.0, 1.0]) + [100, -100]
    spread = expected.std()
    # At pixel 100 the logits are equal; 101 is 2 apart. The file says class 0 up to pixel 101.
    changed = (images == 101).mean()
    assert 0.002 < changed < 0.01

    report = run(net, tmp_path / "stated", ramp, bounds=None)
    assert report.ok is None and "FAIL" not in str(report)
    row = report.rows[1]
    assert row["verdict"] is None
    assert row["difference"] == pytest.approx(1 / spread, rel=1e-5)
    assert row["mean_difference"] == pytest.approx(1 / spread, rel=1e-5)
    assert row["agreement"] == pytest.approx(1 - changed)
    ious = [
        ((images <= 100).mean()) / ((images <= 101).mean()),
        ((images > 101).mean()) / ((images > 100).mean()),
    ]
    assert report.rows[0]["mean_iou"] == 1
    assert row["mean_iou_change"] == pytest.approx(np.mean(ious) - 1)

    # The default margin of a tie is 0.01 deviations, 1.5: 101 is 2 from one, so it counts.
    with pytest.raises(ExportError) as caught:
        run(net, tmp_path / "default", ramp)
    text = str(caught.value)
    assert f"the largest difference of a logit is {1 / spread:.1e}, at most 0.001" in text
    assert "labels away from ties are equal, at least 99.900% are wanted (agreement)" in text
    assert text.count("FAIL: model.tflite") == 4  # the mean difference and the mean IoU too
    assert "to do: Rounding alone does not explain it" in text and "Nothing was written to" in text
    assert not caught.value.report.ok and caught.value.report.rows[1]["verdict"] == "FAIL"
    assert not (tmp_path / "default").exists()

    # With a margin of 3 it is a tie, and wider bounds for the rest let the file pass.
    wide = Bounds(difference=0.1, mean_difference=0.1, mean_iou_loss=0.02, tie=3 / spread)
    report = run(net, tmp_path / "wide", ramp, bounds=wide)
    assert report.ok is True and report.rows[1]["clear_agreement"] == 1
    assert report.rows[1]["clear"] == pytest.approx(1 - ((images >= 99) & (images <= 101)).mean())
    written = json.loads((tmp_path / "wide" / "manifest.json").read_text())["parity"]
    assert written["ok"] and written["bounds"]["mean_iou_loss"] == 0.02


@pytest.mark.parametrize("name", ["difference", "mean_difference", "agreement", "mean_iou_loss"])
def test_each_bound_bites_alone(ramp, tmp_path, monkeypatch, name):
    write_instead(monkeypatch, linear((-1, 1), (101, -101)))
    others = dict.fromkeys(("difference", "mean_difference", "agreement", "mean_iou_loss"))
    del others[name]
    with pytest.raises(ExportError, match=rf"\({name}\)"):
        run(linear((-1, 1), (100, -100)), tmp_path / "files", ramp, bounds=Bounds(**others))


def waves(weight):
    """Logits sin(weight * pixel) and 0: for a great weight, one rounding of a pixel moves them."""
    net = linear((weight, 0))
    return keras.Model(net.input, keras.ops.sin(net.output), name="waves")


def test_default_bounds_give_way_to_what_rounding_does_to_the_network(ramp, tmp_path, monkeypatch):
    """One float32 step at pixel 255 is 1.5e-5, 0.015 in the sine; so much of the file is no fault,
    and 0.26 is."""
    folder, images = tmp_path / "files", ramp[0].astype("float32")
    net = waves(1000.0)
    net.save(tmp_path / "waves.keras")
    write_instead(monkeypatch, waves(1000.00006))
    report = run(net, folder, ramp, labels=None)
    own = report.manifest["parity"]["rounding"]
    assert own["difference"] == pytest.approx(np.spacing(np.float32(255)) * 1000 / 0.5, rel=0.2)
    assert 1e-3 < report.rows[1]["difference"] < 4 * own["difference"]
    assert report.ok and report.rows[1]["verdict"] == "ok"
    assert "note: rounding the pixels to the next float32 number moves its logits" in str(report)
    found = check(folder / "model.tflite", against=tmp_path / "waves.keras", images=images)
    assert found.ok and "note: rounding the pixels" in str(found)

    with pytest.raises(ExportError, match="at most 0.002 is allowed"):  # what is given holds
        run(net, tmp_path / "given", ramp, labels=None, bounds=Bounds(difference=2e-3))
    monkeypatch.undo()
    write_instead(monkeypatch, waves(1000.001))
    with pytest.raises(ExportError, match=r"the largest difference of a logit is [45]\.\de-01"):
        run(net, tmp_path / "wrong", ramp, labels=None)


def test_bounds_widen_without_a_step():
    """Four times what rounding does, from a quarter of a default bound on."""
    own = {"difference": 3e-4, "mean_difference": 1e-6, "agreement": 1, "clear_agreement": 0.9995}
    found = Bounds(mean_iou_loss=0.01).widened(own)
    assert found.difference == pytest.approx(1.2e-3) and found.mean_difference == 1e-4
    assert found.agreement == pytest.approx(0.998) and found.mean_iou_loss == 0.01
    same = Bounds(difference=1e-3)  # what is given stays, be it the default's value
    assert same.widened(own).difference == 1e-3 and same == Bounds()
    assert Bounds.parse(["difference=0.001"]).widened(own).difference == 1e-3
    given = Bounds(difference=1e-5, agreement=None)
    assert given.widened(own) == given
    assert Bounds().widened({**own, "difference": float("nan")}).difference == 1e-3


def test_bounds_do_not_give_way_for_other_networks(ramp, tmp_path, monkeypatch):
    write_instead(monkeypatch, linear((-1, 1), (101, -101)))
    with pytest.raises(ExportError, match="at most 0.001 is allowed") as caught:
        run(linear((-1, 1), (100, -100)), tmp_path / "files", ramp)
    assert caught.value.report.manifest["parity"]["rounding"] is None


def test_not_a_number_passes_no_bound(ramp, tmp_path, monkeypatch):
    write_instead(monkeypatch, linear((np.nan, 1)))
    with pytest.raises(ExportError, match="the largest difference of a logit is nan"):
        run(linear((-1, 1)), tmp_path / "files", ramp, labels=None)


def test_an_earlier_export_stays(ramp, tmp_path, monkeypatch):
    net, folder = linear((-1, 1), (100, -100)), tmp_path / "files"
    old = run(net, folder, ramp)
    before = utils.sha256(folder)
    write_instead(monkeypatch, linear((1, -1)))
    with pytest.raises(ExportError, match="away from ties"):
        run(net, folder, ramp, formats=("saved_model", "tflite"))
    assert utils.sha256(folder) == before and old.ok
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_int8_is_judged_by_its_mean_iou(ramp, tmp_path, monkeypatch):
    """And only where there are labels."""
    net = linear((-1, 1), (100, -100))
    write_instead(monkeypatch, linear((-1, 1), (110, -110)), "int8")
    options = dict(quantize="int8", calibration=ramp[0], fallback=False)
    report = run(net, tmp_path / "unjudged", ramp, labels=None, **options)
    assert report.ok and report.rows[2]["verdict"] is None
    assert report.rows[2]["clear_agreement"] < 0.98
    with pytest.raises(ExportError, match="model_int8.tflite: the mean IoU is lower by") as caught:
        run(net, tmp_path / "files", ramp, **options)
    assert "to do: Calibrate with more images" in str(caught.value)
    assert [row["verdict"] for row in caught.value.report.rows] == [None, "ok", "FAIL"]


@pytest.mark.parametrize(
    "values",
    [{"difference": -1}, {"agreement": 1.5}, {"tie": None}, {"tie": "no"}, {"difference": True}],
)
def test_bounds_that_are_none(values):
    with pytest.raises(ValueError, match=f"The bound {[*values][0]} must be a number"):
        Bounds(**values)


def test_bounds_from_text():
    assert Bounds.parse([]) == Bounds() and Bounds.parse(["none"]) is None
    assert Bounds.parse(["tie=0.1", "agreement=none"]) == Bounds(tie=0.1, agreement=None)
    with pytest.raises(ValueError, match="Unknown bound 'agrement'. Did you mean 'agreement'"):
        Bounds.parse(["agrement=1"])
    with pytest.raises(ValueError, match="NAME=VALUE with a number or none, got 'tie'"):
        Bounds.parse(["tie"])


def test_status_of_the_command(ramp, tmp_path, monkeypatch, capsys):
    linear((-1, 1), (100, -100)).save(tmp_path / "model.keras")
    command = ["export", str(tmp_path / "model.keras"), "--formats", "tflite", "--quantize"]
    output = ["--output", str(tmp_path / "files")]
    write_instead(monkeypatch, linear((1, -1)))
    assert main([*command, *output]) == 1
    assert "FAIL: model.tflite" in capsys.readouterr().out
    assert not (tmp_path / "files").exists()
    assert main([*command, *output, "--bounds", "agrement=1"]) == 2
    assert "Did you mean 'agreement'" in capsys.readouterr().err
    assert main([*command, *output, "--bounds", "none"]) == 0
    assert (tmp_path / "files" / "model.tflite").exists()
