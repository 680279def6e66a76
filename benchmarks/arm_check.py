"""Whether `.tflite` files give the same labels on ARM (aarch64) as here, without an ARM machine.

    python benchmarks/arm_check.py ARM                                  # slim networks, made now
    python benchmarks/arm_check.py ARM files/phone/*.tflite --images photos/held_out

ARM is a folder with an emulator (QEMU's user mode), an ARM Python and LiteRT's ARM package. On
Debian, in an empty folder, for the Python that the Debian release has (12: 3.11):

    APT="-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State=$PWD/apt \\
         -o Dir::State::status=/dev/null -o Dir::Cache=$PWD/apt -o APT::Sandbox::User=root"
    mkdir -p apt/lists/partial apt/archives/partial
    apt-get $APT update
    apt-get $APT install --download-only --yes --no-install-recommends python3 libstdc++6
    (cd apt/archives && apt-get download qemu-user-static)
    for package in apt/archives/*.deb; do dpkg -x $package .; done
    pip download --no-deps --dest wheels --only-binary :all: --python-version 3.11 \\
        --platform manylinux_2_27_aarch64 numpy $(pip freeze | grep ai-edge-litert==)
    for wheel in wheels/*.whl; do python -m zipfile -e $wheel site; done

Nothing of it is installed: `apt` keeps to the folder, and the packages are only unpacked.

Each file runs in LiteRT here and on each emulated processor, on the same pictures, in one thread.
The processors stand for those without dot products of bytes (Cortex-A53, A72), with them (Neoverse
N1, as Cortex-A76), and with all that QEMU knows (SVE, products of byte matrices): LiteRT has other
kernels for each. SME is off: with it int8 files come out wrong in Debian 12's QEMU 7.2 (and right
in QEMU 10). LiteRT looks its processor up in `/proc/cpuinfo` and crashes on this machine's;
QEMU prefers files of its folder, so the script writes `ARM/proc/cpuinfo`.

The table has the largest difference of scores, in parts of their standard deviation, and the share
of equal labels, over all pixels and without ties: pixels whose two best scores are within 1e-4
standard deviations. The exit status is 1 if a label that is no tie differs: never seen for float32,
float16 and integers, but for files of dynamic range, whose activations are rounded at run time,
otherwise on a Cortex-A76 than on an A72 or here. QEMU computes as the processor does but says
nothing about speed.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

# Options of each slim network, and the size of its image.
NETWORKS = {
    "UNet": ({"filters": 8}, (64, 96)),
    "SegNet": ({"filters": 8}, (64, 96)),
    "FCN8s": ({"filters": 8, "fc_channels": 16}, (64, 96)),
    "PSPNet": ({"backbone": "resnet18", "filters": 8}, (65, 97)),
    "DeepLabV3Plus": (
        {"backbone": "resnet18", "filters": 8, "multi_grid": (1, 2), "separable": True},
        (65, 97),
    ),
    "EncNet": ({"backbone": "resnet18", "filters": 8, "codewords": 4}, (65, 97)),
    "FCDenseNet": (
        {"growth_rate": 4, "layers_per_block": (2, 2), "bottleneck_layers": 2, "filters": 8},
        (64, 96),
    ),
    "SETR": (
        {"embed_dim": 16, "num_heads": 2, "filters": 8, "depth": 4, "crop_size": 64},
        (64, 64),
    ),
}
CLASSES = 5
QUANTIZE = ("float16", "int8")

# What QEMU can be, and the part number by which the processor is known.
CPUS = {"cortex-a53": 0xD03, "cortex-a72": 0xD08, "neoverse-n1": 0xD0C, "max,sme=off": 0xD0C}
TIE = 1e-4
CPUINFO = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: {part:#x}
CPU revision\t: 0
"""

# Runs on both sides, where keras_seg need not be: files, then the inputs and the results.
RUN = """
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

*files, source, target = sys.argv[1:]
pictures, results = np.load(source), {}
for number, path in enumerate(files):
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for picture in pictures[str(number)]:
        if given["dtype"] != np.float32:
            scale, zero = given["quantization"]
            limits = np.iinfo(given["dtype"])
            picture = np.clip(np.rint(picture / scale) + zero, limits.min, limits.max)
        interpreter.set_tensor(given["index"], picture[None].astype(given["dtype"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(result["index"])[0])
    results[str(number)] = np.stack(found)
np.savez(target, **results)
"""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arm", metavar="ARM", type=pathlib.Path, help="the folder described above")
    parser.add_argument("files", nargs="*", metavar="FILE.tflite", help="default: slim networks")
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--quantize", nargs="*", default=QUANTIZE, help="besides float32")
    parser.add_argument("--cpus", nargs="+", choices=CPUS, default=list(CPUS))
    parser.add_argument("--images", metavar="FOLDER", help="pictures; default: made-up ones")
    parser.add_argument("--count", type=int, default=2, help="how many pictures (2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.files
        if not files:
            files = slim_files(pathlib.Path(folder), options.models, options.quantize)
        rows = compare(options.arm, files, options.cpus, options.images, options.count)
    print(f"{'file':40}{'processor':13}{'difference':>11}{'equal labels':>14}{'no ties':>11}")
    for row in rows:
        print(
            f"{row['file']:40}{row['cpu']:13}{row['difference']:>11.1e}"
            f"{row['equal']:>14.3%}{row['no_ties']:>11.3%}"
        )
    return 0 if all(row["no_ties"] == 1 for row in rows) else 1


def slim_files(folder, names, quantize=QUANTIZE):
    """Exports of networks with random weights, as float32 and as `quantize` says.

    Their batch normalisation knows the statistics of some pictures, as in a trained network: where
    values reach 255, LiteRT's comparison of bytes, which unpooling needs, is wrong on x86. Kernels
    that start at 0 (FCN's scores) get random values too.
    """
    import keras

    from keras_seg import models
    from keras_seg.export import Bounds, export
    from keras_seg.export.pictures import made_up

    keras.utils.set_random_seed(0)
    files = []
    for name in names:
        network, size = NETWORKS[name]
        model = models.build(name, CLASSES, (*size, 3), **network)
        pictures = made_up(16, size, 3)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
        model(np.stack(pictures).astype("float32"), training=True)
        for weight in model.trainable_weights:
            if len(weight.shape) == 4 and not np.any(weight):
                weight.assign(keras.random.normal(weight.shape, stddev=0.1))
        report = export(
            model,
            folder / name,
            formats="tflite",
            quantize=quantize,
            calibration=pictures,
            progress=False,
            bounds=Bounds(agreement=None),  # float16 may cost random weights what it likes
        )
        files += report.files
    return files


def compare(arm, files, cpus=tuple(CPUS), images=None, count=2):
    """One dict for each file and processor: "file", "cpu", "difference", "equal", "no_ties".

    Raises ValueError for an ARM folder that is not complete, and RuntimeError where a side fails.
    """
    arm, files = pathlib.Path(arm).absolute(), [pathlib.Path(file) for file in files]
    emulator, python, site = (
        arm / name for name in ("usr/bin/qemu-aarch64-static", "usr/bin/python3", "site")
    )
    for needed in (emulator, python, site / "ai_edge_litert"):
        if not needed.exists():
            raise ValueError(f"There is no {needed}. The head of {__file__} says how to get it.")
    (arm / "proc").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "pictures.npz")
        np.savez(source, **{str(n): pictures(f, images, count) for n, f in enumerate(files)})
        here = results([sys.executable], files, source)
        found = {}
        for cpu in cpus:
            (arm / "proc" / "cpuinfo").write_text(CPUINFO.format(part=CPUS[cpu]))
            command = [emulator, "-cpu", cpu, "-L", arm, "-E", f"PYTHONPATH={site}", python]
            found[cpu] = results(command, files, source)
    return [
        {
            "file": f"{file.parent.name}/{file.name}",
            "cpu": cpu,
            **difference(here[number], found[cpu][number]),
        }
        for number, file in enumerate(files)
        for cpu in cpus
    ]


def results(python, files, source):
    """What the files give for their pictures, run by a Python given as the start of a command."""
    target = source.with_name("results.npz")
    command = [*python, "-c", RUN, *files, source, target]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{python[0]} failed ({done.returncode}):\n{done.stderr}")
    with np.load(target) as found:
        return [found[str(number)] for number in range(len(files))]


def pictures(file, images, count):
    """float32 (count, H, W, C) of a file's size."""
    from keras_seg.export.pictures import Pictures, made_up
    from keras_seg.inference import load_runner

    runner = load_runner(file)
    if images is None:
        images = made_up(count, runner.input_size, runner.channels)
    found = Pictures(images, runner.input_size, runner.channels, "images")
    return np.concatenate([found[i][0] for i in range(min(count, len(found)))])


def difference(here, arm):
    """How far two outputs (N, h, w, K) of scores, or (N, h, w) of labels, are apart."""
    if here.ndim == 3:
        same = (here == arm).mean()
        return {"difference": float(same < 1), "equal": same, "no_ties": same}
    here, arm = here.astype("float64"), arm.astype("float64")
    equal = here.argmax(-1) == arm.argmax(-1)
    second, first = np.moveaxis(np.sort(here, axis=-1)[..., -2:], -1, 0)
    clear = first - second > TIE * here.std()
    return {
        "difference": np.abs(here - arm).max() / here.std(),
        "equal": equal.mean(),
        "no_ties": equal[clear].mean(),
    }


if __name__ == "__main__":
    sys.exit(main())
