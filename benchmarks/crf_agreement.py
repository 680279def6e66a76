"""The dense CRF on the lattice beside the exact one: equal labels, and the time for a photograph.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/crf_agreement.py [--images FOLDER]

Equal labels: pictures of smooth colours, and with --images also real ones made smaller, labelled by
noisy probabilities of 3 classes, with 5 iterations of each setting. The time: processor seconds for
500 x 375 pixels, 21 classes, 10 iterations, of a picture with grain or of the first of the
folder's; the number of corners in the lattice says how hard it is. At the end the layer of CRF-RNN
on the lattice: 500 x 500 pixels, 21 classes, 10 iterations, in eager mode.
"""

import argparse
import time

import numpy as np

from keras_seg.crf import DenseCRF, MeanField, PermutohedralLattice, find_crf
from keras_seg.crf.dense import bilateral_features
from keras_seg.data import list_images, read_image
from keras_seg.inference.resize import resize

# theta_alpha, theta_beta, w2, w1
SETTINGS = [(80, 13, 3, 10), (30, 5, 3, 4), (160, 3, 3, 5), (67, 3, 3, 4), (121, 5, 3, 4)]
SIZES = [(32, 40), (64, 64)]


def smooth(size, seed):
    """Waves of colour."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((*size, 1))[:2] / 12
    a, b, phase = rng.uniform(-1, 1, (4, 3)), rng.uniform(-1, 1, (4, 3)), rng.uniform(0, 6, (4, 3))
    waves = sum(np.sin(y * a[i] + x * b[i] + phase[i]) for i in range(4))
    return (127.5 + 40 * waves).clip(0, 255).round().astype("uint8")


def noisy(image, classes, seed):
    """Probabilities of classes that are regions of colour, with much noise."""
    rng = np.random.default_rng(seed)
    pixels = image.reshape(-1, 3)
    centres = pixels[rng.choice(len(pixels), classes)].astype("float64")
    truth = ((image[..., None, :] - centres) ** 2).sum(-1).argmin(-1)
    logits = 0.8 * np.eye(classes)[truth] + rng.standard_normal((*image.shape[:2], classes))
    powers = np.exp(logits)
    return (powers / powers.sum(-1, keepdims=True)).astype("float32")


def agreement(pictures):
    """One line a setting: mean and least share of equal labels, and before the CRF."""
    for alpha, beta, w2, w1 in SETTINGS:
        crf = DenseCRF(w1, alpha, beta, w2, theta_gamma=3, iterations=5)
        shares, before = [], []
        for seed, image in enumerate(pictures):
            p = noisy(image, 3, seed)
            exact = crf(p, image, exact=True).argmax(-1)
            shares.append((crf(p, image).argmax(-1) == exact).mean())
            before.append((p.argmax(-1) == exact).mean())
        print(
            f"  {alpha:>4}/{beta:<3} mean {np.mean(shares):.4f}  least {np.min(shares):.4f}  "
            f"(network alone {np.mean(before):.4f})",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", metavar="FOLDER", help="photographs")
    parser.add_argument("--count", type=int, default=10, help="pictures of each kind (10)")
    options = parser.parse_args()
    photos = []
    if options.images:
        paths = list_images(options.images)
        chosen = paths[:: max(len(paths) // options.count, 1)][: options.count]
        photos = [read_image(path) for path in chosen]
    for size in SIZES:
        print(f"{size[0]} x {size[1]}, smooth colours, {options.count} pictures")
        agreement([smooth(size, seed) for seed in range(options.count)])
        if photos:
            print(f"{size[0]} x {size[1]}, photographs, {len(photos)} pictures")
            agreement([resize(photo, size).round().astype("uint8") for photo in photos])

    if photos:
        image = resize(photos[0], (375, 500)).round().astype("uint8")
    else:
        grain = np.random.default_rng(0).normal(0, 4, (375, 500, 3))
        image = (smooth((375, 500), 0) + grain).clip(0, 255).astype("uint8")
    p = noisy(image, 21, 0)
    print("500 x 375 pixels, 21 classes, 10 iterations")
    for name in ("pydensecrf", "deeplab_v1_largefov", "deeplab_v2", "crf_rnn"):
        crf = find_crf(name, iterations=10)
        features = bilateral_features(image, crf.theta_alpha, crf.theta_beta)
        points = PermutohedralLattice(features).points
        start = time.process_time()
        crf(p, image)
        print(f"  {name:<20} {time.process_time() - start:5.1f} s  {points} corners", flush=True)

    layer = MeanField(bilateral="lattice")
    image = resize(image, (500, 500))[None]
    logits = np.log(noisy(image[0], 21, 0))[None]
    start = time.process_time()
    layer(logits, image)
    print(f"CRF-RNN's layer, 500 x 500 pixels: {time.process_time() - start:.1f} s")


if __name__ == "__main__":
    main()
