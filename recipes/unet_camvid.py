"""U-Net on CamVid at half resolution: street scenes on two CPU cores.

    python recipes/unet_camvid.py --data-dir camvid --folder runs/unet_camvid --export

The folder holds train/, trainannot/, val/ and valannot/ (SegNet's version, 480 x 360, 11 classes).
Pictures and labels are scaled to 256 x 192; void pixels are left out of loss and scores.

Network: U-Net (Ronneberger et al. 2015) in its padded form with batch normalisation, half the
published widths, 7.8 million parameters; bfloat16 arithmetic; Adam, poly schedule, cross entropy
minus the log of the soft IoU.
Hardware: two CPU cores; time in docs/results.md.
Published: none for this network and size.
Measured: see docs/results.md.
"""

from keras_seg import data, losses, models, recipe, training

FILTERS = 32
SIZE = (192, 256)
SCALE = 8 / 15  # 360 x 480 -> 192 x 256
BATCH = 8
LEARNING_RATE = 2e-3
PRECISION = "mixed_bfloat16"
EPOCHS = 24


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/unet_camvid",
        epochs=EPOCHS,
        layout="camvid",
        arguments=arguments,
    )
    filters, size = FILTERS, SIZE
    if options.smoke:
        filters, size = 4, (96, 128)
    train_data, val_data, _ = (
        dataset.scaled(SCALE).cached() for dataset in recipe.open_camvid(options, size=(180, 240))
    )
    result = training.train(
        lambda: models.UNet(train_data.table.num_classes, filters=filters),
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=BATCH,
        augment=data.Augment(crop=size, scale=(0.75, 1.5), flip=True, color=0.2),
        learning_rate=LEARNING_RATE,
        loss=losses.CrossEntropyLogIoU(),
        precision=PRECISION,
        resume=options.resume,
    )
    if options.export:
        recipe.export_and_score(result, train_data, val_data, size)


if __name__ == "__main__":
    main()
