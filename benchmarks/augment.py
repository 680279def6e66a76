"""How fast samples are augmented: images per second of one CPU core, by step and by paper.

    python benchmarks/augment.py
    python benchmarks/augment.py --size 1024 2048 --crop 713 --repeats 20
    python benchmarks/augment.py --device --markdown table.md

A smooth picture with noise and a label map of blocks go through `keras_seg.data.Augment`, each call
with its own random numbers, in one thread. Timed is the processor time of the thread, so that other
work on the machine disturbs little; the table holds the mean over the repeats, since what is drawn
decides what a call costs. Single steps run without any other; the pipelines are the papers'. The
last rows, with --device, are `DeviceAugment`, compiled by TensorFlow on what it finds: wall time.
"""

import argparse
import pathlib
import platform
import time

import numpy as np

from keras_seg import data
from keras_seg.utils import versions


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), help="of images (512 512)")
    parser.add_argument("--crop", type=int, default=512, help="of the pipelines (512)")
    parser.add_argument("--repeats", type=int, default=40, help="calls of each (40)")
    parser.add_argument("--device", action="store_true", help="DeviceAugment as well")
    parser.add_argument("--batch-size", type=int, default=4, help="of DeviceAugment (4)")
    parser.add_argument("--markdown", metavar="FILE", help="write the table there")
    options = parser.parse_args()

    color, label = picture(options.size, 3)
    grey, _ = picture(options.size, 1)
    lines = ["| step or pipeline | images a second |", "|---|---|"]
    for name, augment in {**steps(options.crop), **pipelines(options.crop)}.items():
        image = grey if "U-Net" in name else color
        seconds = measure(lambda rng, a=augment, i=image: a(i, label, rng), options.repeats)
        lines.append(f"| {name} | {1 / seconds:.0f} |")
    if options.device:
        for name, augment in device_pipelines(options.crop).items():
            seconds = measure_device(augment, color, label, options)
            lines.append(f"| {name} | {1 / seconds:.0f} |")
    found = ", ".join(f"{package} {version}" for package, version in versions().items())
    size = "x".join(map(str, options.size))
    lines.append(
        f"\nImages {size}, crop {options.crop}, {options.repeats} calls, {found}, "
        f"{platform.machine()}."
    )
    text = "\n".join(lines)
    print(text)
    if options.markdown:
        pathlib.Path(options.markdown).write_text(text + "\n", "utf-8")


def steps(crop):
    """Each step of `Augment` alone."""
    still = {"scale": (1.0, 1.0), "flip": False}
    return {
        "nothing": data.Augment(**still),
        "flip": data.Augment(scale=(1.0, 1.0)),
        "scale 0.5..2, crop": data.Augment(crop=crop, flip=False),
        "scale 0.5..2, whole": data.Augment(flip=False),
        "rotation": data.Augment(rotation=10.0, rotation_probability=1.0, **still),
        "blur": data.Augment(blur=1.0, **still),
        "elastic": data.Augment(elastic=10.0, **still),
        "color": data.Augment(color=(0.4, 0.4, 0.4, 0.1), **still),
        "distortion": data.Augment(distortion=True, **still),
    }


def pipelines(crop):
    """Whole recipes."""
    return {
        "PSPNet": data.Augment(crop=crop, rotation=10.0, blur=0.5),
        "DeepLab v3": data.Augment(crop=crop, scale_steps=(0.5, 0.75, 1, 1.25, 1.5, 1.75, 2)),
        "SETR (mmseg)": data.Augment(
            crop=crop, bound=(2048, 512), cat_max_ratio=0.75, distortion=True
        ),
        "U-Net, grey": data.Augment(
            crop=crop,
            scale=(1.0, 1.0),
            rotation=180.0,
            elastic=10.0,
            distortion=True,
            pad="mirror",
        ),
    }


def device_pipelines(crop):
    """The same on the device, as far as it has their steps."""
    return {
        "PSPNet, device": data.DeviceAugment(crop, rotation=10.0, blur=0.5),
        "DeepLab v3, device": data.DeviceAugment(
            crop, scale_steps=(0.5, 0.75, 1, 1.25, 1.5, 1.75, 2)
        ),
        "U-Net, device": data.DeviceAugment(
            crop, scale=(1.0, 1.0), rotation=180.0, elastic=10.0, distortion=True, pad="mirror"
        ),
    }


def picture(size, channels):
    """uint8 (H, W, C) and uint8 (H, W) of 20 classes."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 230, (size[0] // 16, size[1] // 16, channels), dtype=np.uint8)
    noise = rng.integers(0, 25, (*size, channels), dtype=np.uint8)
    blocks = rng.integers(0, 20, (size[0] // 64, size[1] // 64), dtype=np.uint8)
    return data.augment.resize_image(coarse, size) + noise, data.augment.resize_label(blocks, size)


def measure(call, repeats):
    """Mean seconds of processor time of a call."""
    for seed in range(3):
        call(np.random.default_rng(1000 + seed))
    start = time.thread_time()
    for seed in range(repeats):
        call(np.random.default_rng(seed))
    return (time.thread_time() - start) / repeats


def measure_device(augment, image, label, options):
    """Mean seconds of an image in a compiled batch."""
    import tensorflow as tf

    images = tf.constant(np.stack([image] * options.batch_size))
    labels = tf.constant(np.stack([label] * options.batch_size).astype("int32"))
    compiled = tf.function(lambda step: augment(images, labels, step))
    np.asarray(compiled(tf.constant(0))[0])
    rounds = max(options.repeats // options.batch_size, 1)
    start = time.perf_counter()
    for step in range(1, rounds + 1):
        np.asarray(compiled(tf.constant(step))[0])
    return (time.perf_counter() - start) / (rounds * options.batch_size)


if __name__ == "__main__":
    main()
