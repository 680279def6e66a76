"""U-Net on nuclei in microscope pictures (Kaggle 2018 Data Science Bowl, CC0).

    python recipes/unet_nuclei.py --data-dir dsb2018 --folder runs/unet_nuclei --export

The folder holds images/NAME.png (grey or RGB) and instances/NAME.png (16 bit, 0 background, one id
a nucleus). Two classes, background and nucleus; a fifth of the pictures is held out.

With --edge-weights it learns as the paper says instead: cross entropy with a weight for each pixel
that is large between nuclei which nearly touch, and a line of background between those that do.
The maps of the weights are made once, in the run's folder.

Network: U-Net (Ronneberger et al. 2015) in its padded form with batch normalisation, an eighth of
the published widths: 0.49 million parameters, 0.5 MB as an int8 file.
Hardware: two CPU cores, 7 minutes.
Published: the challenge scored instances, so there is no published figure for this task.
Measured: 3 seeds, 112 held-out pictures: nucleus IoU 0.828 +- 0.006, DSB score 0.379 +- 0.005; with
--edge-weights 0.803 +- 0.006 and 0.342 +- 0.009, with more nuclei found and twice as many false
objects; see docs/results.md. The weights that come along (`weights="nuclei"`) are of --epochs 40.
"""

from keras_seg import data, losses, models, recipe, training

FILTERS = 8
CROP = (192, 192)
SIZE = (256, 256)  # of the exported files; larger pictures go through a sliding window
BATCH = 8
LEARNING_RATE = 2e-3
EPOCHS = 8


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/unet_nuclei",
        epochs=EPOCHS,
        layout="instances",
        switches={"--edge-weights": "cross entropy weighted as in the paper"},
        numbers={"--seed": (0, "of the weights, the order and the augmentation")},
        arguments=arguments,
    )
    filters, crop, size = FILTERS, CROP, SIZE
    if options.smoke:
        filters, crop, size = 4, (96, 96), (96, 96)

    def open_nuclei(**reading):
        return recipe.open_split(options, None, counts={"train": 20}, **reading).split(0.2)

    train_data, _ = open_nuclei(separate=options.edge_weights)
    _, val_data = open_nuclei()  # scored as published
    loss = losses.CrossEntropyDice()
    if options.edge_weights:
        train_data = train_data.weighted(data.EdgeWeights(cache=f"{options.folder}/weights"))
        loss = losses.CrossEntropy()
    result = training.train(
        lambda: models.UNet(train_data.table.num_classes, filters=filters),
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=BATCH,
        augment=data.Augment(
            crop=crop, scale=(0.7, 1.4), flip=True, vertical_flip=True, rotation=15.0, color=0.2
        ),
        val_size=size,
        learning_rate=LEARNING_RATE,
        loss=loss,
        seed=options.seed,
        resume=options.resume,
    )
    recipe.score_objects(result.model, val_data, options.folder)
    if options.export:
        # The same sliding window for the Keras model and for each file.
        recipe.export_and_score(result, train_data, val_data, size, mode="slide", window=size)


if __name__ == "__main__":
    main()
