"""Adversarial training on PASCAL VOC (Luc et al. 2016): Dilation8 against LargeFOV.

    python recipes/luc_adversarial_voc.py --data-dir VOCdevkit/VOC2012 --sbd SBD/dataset \\
        --weights dilation8_pascal_voc.caffemodel --folder runs/luc_adversarial_voc

The segmentor is one that is trained already: the release of Yu and Koltun as above, or the result
of recipes/dilated_voc.py (--weights runs/dilation8_voc/best.keras --weights-layout ''). VOC's train
with SBD ("trainaug"), crops of 900 x 900 of the mirrored images as there; scores of stride 8
against every eighth label, which is what the adversary sees too, each class times each colour
(--inputs product; basic, scaling). --adversary small is SmallFOV. The two networks take turns of
500 steps.
--plain trains on without an adversary, as long: the row to compare with.
Test: whole images, mirrored at the borders.
Hardware: a GPU for 4 crops of 900 x 900; not timed.
Published: val 71.8 mIoU without, 72.0 with the adversary; test 73.1 and 73.3.
Where we differ: no paper or code of the authors gives weight, learning rates and length: the mean
of the cross entropy plus 0.01 times the adversary's, SGD with 1e-5 (the joint training of Yu and
Koltun) and 0.1 (the public re-implementation), 20,000 steps, batch 4. The epoch with the best IoU
on val is kept.
Measured: not run at full length.
"""

import keras

from keras_seg import data, losses, models, recipe, training
from keras_seg.models.dilated import MARGIN

CROP = 900
BATCH = 4
LEARNING_RATE, MOMENTUM, DECAY = 1e-5, 0.9, 5e-4
ADVERSARY_RATE, WEIGHT = 0.1, 0.01
STRIDE = 8
ADVERSARIES = {"large": models.LargeFOVAdversary, "small": models.SmallFOVAdversary}


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/luc_adversarial_voc",
        epochs=20,
        layout="voc",
        weights="dilation",
        switches={"--plain": "no adversary"},
        numbers={"--steps": (1000, "steps of an epoch"), "--alternate": (500, "steps of a turn")},
        texts=recipe.SBD,
        choices={
            "--inputs": (("product", "basic", "scaling"), "what the adversary sees"),
            "--adversary": (tuple(ADVERSARIES), "its field of view"),
        },
        arguments=arguments,
    )
    crop, batch, slim, width = CROP, BATCH, {}, 96
    if options.smoke:
        crop, batch, slim, width = 404, 2, {"filters": 2, "fc_channels": 4}, 3
        options.steps = 2  # one of each network
    train_data, val_data = recipe.open_voc(options, "trainaug", "val")
    classes = train_data.table.num_classes

    def network(**more):
        return models.Dilation8(classes, **slim, **more)

    def rival():
        channels = 3 * classes if options.inputs == "product" else classes
        return ADVERSARIES[options.adversary](channels, filters=width)

    adversary = training.Adversary(
        rival,
        inputs=options.inputs,
        weight=WEIGHT,
        alternate=options.alternate,
        optimizer=keras.optimizers.SGD(ADVERSARY_RATE),
        output="logits_low",
        label_stride=STRIDE,
    )
    result = training.train(
        lambda: training.with_outputs(recipe.start_weights(network(padding="valid"), options)),
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        steps_per_epoch=options.steps,
        batch_size=batch,
        augment=data.Augment(crop=crop, scale=(1.0, 1.0), margin=MARGIN, pad="mirror"),
        val_size=(crop, crop),
        loss={"logits_low": losses.CrossEntropy(label_stride=STRIDE)},
        optimizer=training.SGD(
            LEARNING_RATE, momentum=MOMENTUM, l2=DECAY, groups=[("bias$", 2, 0)]
        ),
        adversary=None if options.plain else adversary,
        resume=options.resume,
    )
    whole = recipe.start_from(network, result.model)()
    whole.save(result.folder / "whole.keras")
    recipe.score(whole, val_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (crop, crop), mode="tile")


if __name__ == "__main__":
    main()
