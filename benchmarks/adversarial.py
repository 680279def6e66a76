"""Does an adversary help: a small U-Net on CamVid with and without one, same steps and seeds.

    python benchmarks/adversarial.py --data-dir camvid --folder runs/adversarial
    python benchmarks/adversarial.py --data-dir camvid --ways off basic --seeds 0

Each way takes as many steps of the segmentor, from the same weights and on the same batches for a
seed. "turns" is Luc et al.'s alternation in blocks, in which the segmentor gets half of the steps.
Scored on val, with the weights of the last epoch (and of the best, which val itself chose).
"""

import compare_runs
import keras

from keras_seg import data, models, training

CLASSES = 11
TURN = 50  # steps


def ways(light, width=48):
    """{name: the adversary}, Luc et al.'s of `width` filters; `light` for a run of seconds."""
    width, filters = (3, 4) if light else (width, 32)

    def luc(inputs, channels, **options):
        return training.Adversary(
            lambda: models.LargeFOVAdversary(channels, light=True, filters=width),
            inputs=inputs,
            weight=0.01,
            optimizer=keras.optimizers.Adam(1e-4, beta_1=0.5),
            **options,
        )

    return {
        "off": None,
        "basic": luc("basic", CLASSES),
        "product": luc("product", 3 * CLASSES),
        "scaling": luc("scaling", CLASSES),
        "turns": luc("basic", CLASSES, alternate=1 if light else TURN),
        "patchgan": training.Adversary(
            lambda: models.PatchGAN(3 + CLASSES, receptive_field=34, filters=filters),
            inputs="pair",
            weight=0.01,
        ),
    }


def main(arguments=None):
    numbers = {"--adversary-filters": (48, "of Luc et al.'s adversary")}
    options = compare_runs.parse(__doc__, "runs/adversarial", ways(True), arguments, numbers)
    train_data, val_data = compare_runs.open_data(options)
    augment = data.Augment(crop=compare_runs.crop(options), scale=(0.75, 1.5), flip=True, color=0.2)
    same = {"train_data": train_data, "augment": augment}
    arguments_of = {
        name: same | {"adversary": adversary}
        for name, adversary in ways(options.smoke, options.adversary_filters).items()
    }
    compare_runs.compare(options, lambda seed: arguments_of, val_data)


if __name__ == "__main__":
    main()
