"""Who may import whom (the layout's rules), and what `import keras_seg` must not drag in."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_seg"

MAY_IMPORT = {
    "utils": set(),
    "layers": {"utils"},
    "backbones": {"layers", "utils"},
    "weights": {"layers", "utils"},
    # The last three only so that files of compiled models open: no builder uses them.
    "models": {"layers", "backbones", "weights", "crf", "utils"}
    | {"losses", "metrics", "training"},
    "crf": {"layers", "utils"},
    "losses": {"layers", "utils"},
    "metrics": {"layers", "utils"},
    "data": {"utils"},
    "inference": {"layers", "crf", "data", "metrics", "utils"},
    "training": {"layers", "losses", "metrics", "data", "inference", "weights", "utils"},
    "export": {"layers", "data", "metrics", "inference", "utils"},
}
EVERYTHING = {*MAY_IMPORT, "cli", "quickstart", "recipe"}
MAY_IMPORT |= dict.fromkeys(["cli", "quickstart", "recipe"], EVERYTHING)
MAY_IMPORT |= {"__init__": set(), "__main__": {"cli"}}

# Imported inside the function that needs them, so that nobody pays for what is not used.
LAZY = {
    "tensorflow",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "ai_edge_litert",
    "tensorflow_datasets",
    "matplotlib",
    "keras_cv",
    "keras_hub",
    "safetensors",
    "scipy",
    "pycocotools",
    "cv2",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(tree):
    """Every module name that an import statement in `tree` names, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "keras_seg":
                yield from (f"keras_seg.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_follow_the_layout(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(ast.parse(path.read_text("utf-8"))):
        if name.startswith("keras_seg.") and name != "keras_seg.__version__":
            other = name.split(".")[1]
            assert other == part or other in MAY_IMPORT[part], f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_heavy_packages_are_imported_where_they_are_used(path):
    top = ast.Module([n for n in ast.parse(path.read_text("utf-8")).body], [])
    top.body = [n for n in top.body if isinstance(n, ast.Import | ast.ImportFrom)]
    assert not {name.split(".")[0] for name in imports(top)} & LAZY, path


@pytest.mark.parametrize("folder", ["recipes", "export"])
def test_scripts_are_imported_by_nobody(folder):
    assert not (ROOT / folder / "__init__.py").exists()
    for path in FILES:
        names = {name.split(".")[0] for name in imports(ast.parse(path.read_text("utf-8")))}
        assert folder not in names, path


def test_import_is_light():
    """`import keras_seg` brings in none of Keras, TensorFlow, tf.data code or the export tools."""
    code = (
        "import sys, keras_seg; "
        "heavy = {'keras', 'tensorflow', 'PIL', 'onnxruntime', 'tf2onnx'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
