"""DRN on Cityscapes (Yu et al. 2017), by the authors' released procedure.

    python recipes/drn_cityscapes.py --data-dir cityscapes --folder runs/drn_c_26 \\
        --layers 26 --weights drn_c_26.pth
    python recipes/drn_cityscapes.py --data-dir cityscapes --folder runs/drn_d_105 \\
        --layers 105 --epochs 500 --weights drn_d_105.pth

The folder holds leftImg8bit/ and gtFine/ (2,975 train, 500 val; 19 classes). --layers 50 is DRN-A,
26, 42 and 58 are DRN-C, 22, 38, 54 and 105 DRN-D.

SGD with momentum 0.9, weight decay 1e-4, learning rate 0.01, one rate for all layers. Crop 896,
batch 32, 250 epochs, the rate a tenth every 100 epochs, mirroring alone. D-105: crop 840, batch 16,
500 epochs, the rate by the poly rule with power 0.9 once an epoch; scale 0.5 to 2 (bicubic) and
rotation of 10 degrees as well. What lies outside of the image is its mirror image, not labelled.
Start: ImageNet weights of the trunk.
Test: whole images; with six scales 0.5, 0.75, ..., 1.75 the sum of log-probabilities, no mirroring.
Hardware: GPUs for 32 crops of 896 x 896 a step (D-105: 16 of 840 x 840); not timed.
Published: val: A-50 67.3, C-26 68.0, C-42 70.9, D-22 68.0, D-38 71.4, D-105 75.6; test set, D-105,
six scales: 76.3.
Where we differ: images are scaled bilinearly in the test, bicubically there; logits are averaged,
which chooses the same classes as the sum of log-probabilities; the epoch with the best IoU on val
is kept.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training, weights

VARIANTS = {
    50: "A-50",
    26: "C-26",
    42: "C-42",
    58: "C-58",
    22: "D-22",
    38: "D-38",
    54: "D-54",
    105: "D-105",
}
LEARNING_RATE, MOMENTUM, PENALTY = 1e-2, 0.9, 1e-4
CROP, BATCH, EPOCHS, DROP_EPOCHS = 896, 32, 250, 100
LARGE_CROP, LARGE_BATCH, POWER = 840, 16, 0.9  # of D-105
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/drn_cityscapes",
        epochs=EPOCHS,
        layout="cityscapes",
        weights="drn",
        numbers={
            "--layers": (26, ", ".join(f"{n}: {name}" for n, name in VARIANTS.items())),
            "--validate-every": (5, "epochs from one validation to the next"),
        },
        arguments=arguments,
    )
    large, scales, slim = options.layers == 105, SCALES, {}
    crop, batch = (LARGE_CROP, LARGE_BATCH) if large else (CROP, BATCH)
    if options.smoke:
        # Odd maps, see recipes/resnet38_cityscapes.py.
        options.layers, crop, batch, scales, slim = 22, 97, 2, (0.5, 1.0), {"filters": 4}
    elif options.layers not in VARIANTS:
        raise ValueError(f"--layers must be one of {list(VARIANTS)}, got {options.layers}.")
    counts = {"train": 4, "val": 2}
    train_data = recipe.open_split(options, "train", counts=counts)
    val_data = recipe.open_split(options, "val", counts=counts)
    steps = recipe.count_steps(train_data, batch)
    if large:
        rate = training.Poly(LEARNING_RATE, options.epochs * steps, POWER, every=steps)
        change = {"scale": (0.5, 2.0), "rotation": 10.0, "rotation_probability": 1.0}
    else:
        rate = training.Step(LEARNING_RATE, DROP_EPOCHS * steps)
        change = {"scale": (1.0, 1.0)}

    def build_model():
        variant = VARIANTS[options.layers]
        model = models.DRN(train_data.table.num_classes, variant=variant, **slim)
        if options.weights:  # of a classifier, whose layers have other names in the release
            classifier = models.DRN(1000, variant=variant, task="classification", **slim)
            weights.transfer(model, recipe.start_weights(classifier, options))
        return model

    result = training.train(
        build_model,
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=batch,
        augment=data.Augment(
            crop=crop, flip=True, pad="mirror_image", interpolation="bicubic", **change
        ),
        optimizer=training.SGD(rate, momentum=MOMENTUM, l2=PENALTY),
        validate_every=options.validate_every,
        resume=options.resume,
    )
    ways = {
        "one scale": (result.model, {}),
        "six scales": (result.model, {"scales": scales, "average": "logits"}),
    }
    recipe.score_ways(ways, val_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, val_data[0].label.shape)


if __name__ == "__main__":
    main()
