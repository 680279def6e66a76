"""EncNet on PASCAL Context (Zhang et al. 2018), by the authors' released procedure.

    python recipes/encnet_pcontext.py --data-dir VOC2010 --folder runs/encnet_pcontext \\
        --layers 50 --weights resnet50s.pth

59 classes without background: 4,998 images for training, 5,105 for validation. --layers 50 or 101.

Long side 520 times 0.5 to 2, crop 480, mirroring; batch 16, 80 epochs. SGD with momentum 0.9,
weight decay 1e-4, learning rate 0.001 by the poly rule with power 0.9, ten times that outside of
the trunk. Lateral connections; the loss of the classes that an image holds and the auxiliary loss
count 0.2 each. Start: ImageNet weights of the trunk.
Test: windows of 480 at strides of 320, at 0.5, 0.75, ..., 1.75 times 520, with mirror images; the
exponentials of the summed logits are added up (PyTorch-Encoding's rule).
Hardware: GPUs for 16 crops of 480 x 480 a step; not timed.
Published: 79.4 pixel accuracy / 49.2 mIoU (50, one scale), 80.4 / 51.7 (101); released models, six
scales: 79.2 / 51.0 (50), 80.7 / 54.1 (101).
Where we differ: the paper's rotation of 10 degrees is not in the authors' code and not here; the
epoch with the best IoU on the middle of val's images is kept.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

BATCH = 16
POWER, HEAD_FACTOR = 0.9, 10
MOMENTUM, PENALTY, FURTHER_WEIGHT = 0.9, 1e-4, 0.2
HEAD = "^(head|lateral|fusion|context|encoding|gate|logits|se|aux)"
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def read_options(description, folder, epochs, layout, arguments):
    """The options of both recipes of EncNet."""
    return recipe.options(
        description,
        folder=folder,
        epochs=epochs,
        layout=layout,
        weights="encoding",
        numbers={
            "--layers": (50, "of the trunk: 50 or 101"),
            "--validate-every": (1, "epochs from one validation to the next"),
        },
        arguments=arguments,
    )


def run(options, *, learning_rate, crop, base_size, lateral, **reading):
    """Train and test EncNet.

    Args:
        options: what `read_options` returned.
        learning_rate: of the trunk.
        crop: side of crops and of the windows of the test.
        base_size: long side of images at scale 1, in training and test.
        lateral: whether stages 3 and 4 are joined to the head.
        **reading: what the reader of the data set takes.
    """
    batch, slim, scales = BATCH, {"backbone": f"resnet{options.layers}"}, SCALES
    if options.smoke:
        crop, base_size, batch, scales = 65, 96, 2, (0.5, 1.0)  # odd, as ResNet-38's
        slim = {"backbone": recipe.tiny_resnet(8), "filters": 4, "codewords": 4}
    counts = {"train": 4, "val": 2}
    train_data = recipe.open_split(options, "train", counts=counts, **reading)
    val_data = recipe.open_split(options, "val", counts=counts, **reading)

    def build_model():
        model = models.EncNet(
            train_data.table.num_classes, lateral=lateral, se_loss=True, aux=True, **slim
        )
        return recipe.start_weights(model, options)

    result = training.train(
        build_model,
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=batch,
        augment=data.Augment(
            crop=crop, long_side=base_size, scale=(0.5, 2.0), flip=True, pad_at="end"
        ),
        val_size=(crop, crop),
        optimizer=training.SGD(
            training.Poly(
                learning_rate, options.epochs * recipe.count_steps(train_data, batch), POWER
            ),
            momentum=MOMENTUM,
            l2=PENALTY,
            groups=[(HEAD, HEAD_FACTOR, 1)],
        ),
        aux_weight=FURTHER_WEIGHT,
        validate_every=options.validate_every,
        resume=options.resume,
    )
    test = {"procedure": "encoding", "window": crop, "base_size": base_size, "flip": True}
    ways = {
        "one scale": (result.model, test),
        "six scales": (result.model, {**test, "scales": scales}),
    }
    recipe.score_ways(ways, val_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (crop, crop), **test)


def main(arguments=None):
    options = read_options(__doc__, "runs/encnet_pcontext", 80, "pascal_context", arguments)
    run(options, learning_rate=1e-3, crop=480, base_size=520, lateral=True, protocol="59")


if __name__ == "__main__":
    main()
