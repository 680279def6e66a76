"""PSPNet on ADE20K (SceneParse150), by the paper's protocol (Zhao et al. 2017, section 5.2).

    python recipes/pspnet_ade20k.py --data-dir ADEChallengeData2016 --folder runs/pspnet_ade20k \\
        --weights resnet50_v2.pth

The folder holds images/ and annotations/, each with training/ (20,210) and validation/ (2,000).
--layers 50, 101, 152 or 269 is the depth of the trunk; --bins 1 (or none), --aux-weight 0.3
and --plain are the paper's ablations of pyramid, auxiliary loss and augmentation.

Crop 473, batch 16, 100 epochs. SGD with momentum 0.9, weight decay 1e-4 on everything, learning
rate 0.01 by the poly rule with power 0.9, ten times that in pyramid and heads, auxiliary loss 0.4.
Scale 0.5 to 2, rotation of 10 degrees, blur, mirroring. Start: ImageNet weights of the trunk.
Test: long side 512 times the scale, windows of 473, each with its mirror image, probabilities
averaged, over one scale and over 0.5, 0.75, ..., 1.75.
Hardware: the authors' code spreads the 16 crops of a step over 8 GPUs; not timed.
Published: 41.68 mIoU / 80.04 pixel accuracy (50), 43.81 / 80.88 (269), one scale; 42.78 / 80.76 and
44.94 / 81.69, six scales.
Where we differ: epochs, batches and the heads' rate are those of the authors' later code (hszhao/
semseg: 41.89 mIoU with 50 layers), for the paper's 150,000 iterations; the epoch with the best IoU
on the middle of val's images is kept.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

BATCH = 16
LEARNING_RATE, POWER, HEAD_FACTOR = 1e-2, 0.9, 10
MOMENTUM, PENALTY, AUX_WEIGHT = 0.9, 1e-4, 0.4
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def read_options(description, folder, epochs, layout, arguments, texts=None):
    """The options of the three recipes of PSPNet."""
    return recipe.options(
        description,
        folder=folder,
        epochs=epochs,
        layout=layout,
        weights="semseg",
        switches={"--plain": "crops without augmentation"},
        numbers={
            "--layers": (50, "of the trunk: 50, 101, 152 or 269"),
            "--validate-every": (1, "epochs from one validation to the next"),
        },
        texts={
            "--bins": ("1,2,3,6", "sides of the pyramid's grids, or none"),
            "--aux-weight": (str(AUX_WEIGHT), "of the auxiliary loss"),
            **(texts or {}),
        },
        arguments=arguments,
    )


def run(options, train_data, val_data, *, crop, base_size, blur):
    """Train and test PSPNet.

    Args:
        options: what `read_options` returned.
        train_data, val_data: data sets.
        crop: side of crops and of the windows of the test.
        base_size: long side of test images at scale 1.
        blur: probability of the blur.
    """
    batch, slim, scales = BATCH, {"backbone": f"resnet{options.layers}"}, SCALES
    if options.smoke:
        crop, base_size, batch, scales = 89, 96, 2, (0.5, 1.0)
        slim = {"backbone": recipe.tiny_resnet(8), "filters": 4}

    changes = {"scale": (0.5, 2.0), "flip": True, "rotation": 10.0, "blur": blur}
    if options.plain:
        changes = {"scale": (1.0, 1.0), "flip": False}
    bins = () if options.bins == "none" else tuple(map(int, options.bins.split(",")))

    def build_model():
        model = models.PSPNet(train_data.table.num_classes, bins=bins, aux=True, **slim)
        return recipe.start_weights(model, options)

    result = training.train(
        build_model,
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=batch,
        augment=data.Augment(crop=crop, **changes),
        val_size=(crop, crop),
        optimizer=training.SGD(
            training.Poly(
                LEARNING_RATE, options.epochs * recipe.count_steps(train_data, batch), POWER
            ),
            momentum=MOMENTUM,
            l2=PENALTY,
            groups=[("^(ppm|head|logits|aux)", HEAD_FACTOR, 1)],
        ),
        aux_weight=float(options.aux_weight),
        validate_every=options.validate_every,
        resume=options.resume,
    )
    test = {"procedure": "semseg", "window": crop, "base_size": base_size, "flip": True}
    ways = {
        "one scale": (result.model, test),
        "six scales": (result.model, {**test, "scales": scales}),
    }
    recipe.score_ways(ways, val_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (crop, crop), **test)


def main(arguments=None):
    options = read_options(__doc__, "runs/pspnet_ade20k", 100, "ade20k", arguments)
    splits = [recipe.open_split(options, split) for split in ("train", "val")]
    run(options, *splits, crop=473, base_size=512, blur=0.5)


if __name__ == "__main__":
    main()
