"""SETR on Cityscapes (Zheng et al. 2021), by the authors' released configurations.

    python recipes/setr_cityscapes.py --data-dir cityscapes --folder runs/setr_cityscapes \\
        --weights vit_large.pth

The folder holds leftImg8bit/ and gtFine/ (2,975 train, 500 val; 19 classes). The decoder is PUP, or
--naive, or --mla; --base builds on ViT-Base for ViT-Large.

Crop 768, batch 8, 80 epochs of 1000 steps. SGD with momentum 0.9 and no weight decay, learning rate
0.01 by the poly rule with power 0.9 down to 1e-4, ten times that in the heads; each auxiliary loss
counts 0.4. Images within 2049 x 1025 times 0.5 to 2, crops of which no class fills more than 75 %,
mirroring, photometric distortion. Start: ViT's weights, without which the result is 42.27.
Test: windows of 768 at strides of 512, logits averaged; six scales with mirror images, of which
probabilities are averaged.
Hardware: GPUs for 8 crops of 768 x 768 a step; not timed.
Published: val, one scale: naive 77.90, PUP 79.34, MLA 77.24 (base: PUP 78.02, MLA 76.87); PUP, six
scales: 82.15; test set 81.08.
Where we differ: ignored pixels do not count in the mean of the loss (there they do, with 0); the
rate of the heads ends at ten times 1e-4, there at 1e-4 as well; the epoch with the best IoU on the
middle of val's images is kept.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

STEPS = 1000  # of an epoch
POWER, FLOOR, HEAD_FACTOR = 0.9, 1e-4, 10
MOMENTUM, AUX_WEIGHT = 0.9, 0.4
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def read_options(description, folder, epochs, layout, arguments):
    """The options of the three recipes of SETR."""
    return recipe.options(
        description,
        folder=folder,
        epochs=epochs,
        layout=layout,
        weights="setr",
        switches={
            "--naive": "the naive decoder for PUP",
            "--mla": "the decoder MLA for PUP",
            "--base": "ViT-Base for ViT-Large",
        },
        numbers={
            "--steps": (STEPS, "steps of an epoch"),
            "--validate-every": (4, "epochs from one validation to the next"),
        },
        arguments=arguments,
    )


def run(options, *, learning_rate, crop, batch, bound, stride, **reading):
    """Train and test SETR.

    Args:
        options: what `read_options` returned.
        learning_rate: of the transformer.
        crop: side of crops and of the windows of the test.
        batch: images a step.
        bound: (long, short): images are scaled to fit into it, in training and test.
        stride: of the windows of the test.
        **reading: what the reader of the data set takes.
    """
    decoder = "naive" if options.naive else "mla" if options.mla else "pup"
    slim, scales = {"variant": "base" if options.base else "large"}, SCALES
    if options.smoke:
        crop, batch, bound, stride, scales = 64, 2, (128, 96), 48, (0.5, 1.0)
        slim = {"embed_dim": 16, "depth": 4, "num_heads": 2, "filters": 4}
    counts = {"train": 4, "val": 2}
    train_data = recipe.open_split(options, "train", counts=counts, **reading)
    val_data = recipe.open_split(options, "val", counts=counts, **reading)

    def build_model():
        model = models.SETR(
            train_data.table.num_classes, (crop, crop, 3), decoder=decoder, aux=True, **slim
        )
        return recipe.start_weights(model, options)

    result = training.train(
        build_model,
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        steps_per_epoch=options.steps,
        batch_size=batch,
        augment=data.Augment(
            crop=crop,
            bound=bound,
            scale=(0.5, 2.0),
            flip=True,
            distortion=True,
            cat_max_ratio=0.75,
            pad_at="end",
        ),
        optimizer=training.SGD(
            training.Poly(learning_rate, options.epochs * options.steps, POWER, floor=FLOOR),
            momentum=MOMENTUM,
            groups=[("^(head|logits|aux)", HEAD_FACTOR, 1)],
        ),
        aux_weight=AUX_WEIGHT,
        validate_every=options.validate_every,
        resume=options.resume,
    )
    test = {"procedure": "setr", "window": crop, "stride": stride, "base_size": bound}
    ways = {
        "one scale": (result.model, test),
        "six scales": (result.model, {**test, "scales": scales, "flip": True}),
    }
    recipe.score_ways(ways, val_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (crop, crop), **test)


def main(arguments=None):
    options = read_options(__doc__, "runs/setr_cityscapes", 80, "cityscapes", arguments)
    run(options, learning_rate=1e-2, crop=768, batch=8, bound=(2049, 1025), stride=512)


if __name__ == "__main__":
    main()
