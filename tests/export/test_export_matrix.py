"""The tables of docs/export.md are those that the script makes of what it measured."""

import pathlib
import runpy

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "benchmarks" / "export_matrix.py"))


@pytest.mark.parametrize("kind", ["slim", "full"])
def test_the_page_holds_what_was_measured(script, kind):
    page = (ROOT / "docs" / "export.md").read_text("utf-8")
    section = page.split(script["BEGIN"].format(kind))[1].split(script["END"].format(kind))[0]
    assert section.strip() == script["tables"](script["read"](kind))


def test_what_failed_is_in_the_table_with_its_reason(script):
    fine = {"bytes": 2_000_000, "difference": 2e-6, "agreement": 1.0, "verdict": "ok"}
    fine |= {"operators": {"CONV_2D": 3}, "targets": {"cpu": None, "gpu-delegate": "TILE (why)"}}
    wrong = {**fine, "difference": 0.5, "agreement": 0.999999, "verdict": "FAIL", "targets": {}}
    shape = {"size": [32, 48], "macs": 2_500_000_000}
    moved = {**fine, "difference": 0.08, "rounding": 0.3, "targets": {}}
    rows = {
        "A-filters=2": {**shape, "files": {"model.tflite": fine, "model.onnx": wrong}},
        "B": {**shape, "files": {"model.tflite": fine, "onnx": {"error": "no operator"}}},
        "D": {**shape, "files": {"model.tflite": moved, "model.onnx": moved}},
        "C": {"error": "stopped: needs more than 16 GB"},
    }
    lines = script["tables"](rows).splitlines()
    a = "A <sub>filters=2</sub>"
    assert f"| {a} | 32 x 48 | 2e-06, 100 % | **differs:** 5e-01, 99.99 % |" in lines
    assert "| B | 32 x 48 | 2e-06, 100 % | fails (1) |" in lines
    assert "| D | 32 x 48 | (2) 8e-02, 100 % | (2) 8e-02, 100 % |" in lines
    assert "| C |  | fails (3) | fails (3) |" in lines
    assert f"| {a} | 2.5 | 3 / 3 | 2 | 2 |" in lines
    assert "| `gpu-delegate` | TILE | why | A, B |" in lines
    assert lines[-3:-1] == [
        "1. no operator",
        "2. rounding the pixels to the next float32 number moves the logits of the Keras network "
        "itself by 3e-01",
    ]
    assert lines[-1] == "3. stopped: needs more than 16 GB"


def test_reasons_of_a_target_are_told_once_and_without_layers(script):
    text = (
        "model.tflite cannot run on the target 'gpu-delegate' as a whole: TILE of the layer 'up' "
        "(the GPU delegate does not have it); TILE of the layer 'up2' (the GPU delegate does not "
        "have it); the input [1, 8, 8, 3] of uint8, not one float32 image; and 3 more. Replace "
        "these layers, or choose another target (cpu, gpu-delegate, nnapi-int8) or output."
    )
    assert script["short"](text) == (
        "TILE (the GPU delegate does not have it); the input [1, 8, 8, 3] of uint8, not one "
        "float32 image"
    )


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("TILE (the GPU delegate has none)", ("TILE", "the GPU delegate has none")),
        (
            "MUL of the tensor 'a/mul': of the shapes [1, 21] and [1, 6]",
            ("MUL", "of the shapes (...) and (...)"),
        ),
        ("the input [1, 8, 8, 3] of uint8", ("", "the input (...) of uint8")),
    ],
)
def test_a_reason_is_taken_apart(script, reason, expected):
    assert script["operator_and_why"](reason) == expected
