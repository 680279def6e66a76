"""U-Net on nuclei in microscope pictures (Kaggle 2018 Data Science Bowl, CC0).

    python recipes/unet_nuclei.py --data-dir dsb2018 --folder runs/unet_nuclei --export

The folder holds images/NAME.png (grey or RGB) and instances/NAME.png (16 bit, 0 background, one id
a nucleus). Two classes, background and nucleus; a fifth of the pictures is held out.

Network: U-Net (Ronneberger et al. 2015) in its padded form with batch normalisation, a quarter of
the published widths: 1.9 million parameters, 1.9 MB as an int8 file.
Published: the challenge scored instances, so there is no published figure for this task.
Measured: see docs/results.md.
"""

from keras_seg import data, losses, models, recipe, training

FILTERS = 16
CROP = (256, 256)
BATCH = 8
LEARNING_RATE = 2e-3
EPOCHS = 12


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/unet_nuclei",
        epochs=EPOCHS,
        data="the pictures (images/ and instances/)",
        arguments=arguments,
    )
    filters, crop = FILTERS, CROP
    if options.smoke:
        train_data, val_data = data.shapes(16, seed=0), data.shapes(8, seed=1)
        filters, crop = 4, (96, 96)
    else:
        train_data, val_data = data.instances(options.data_dir).split(0.2, seed=0)
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
        learning_rate=LEARNING_RATE,
        loss=losses.CrossEntropyDice(),
        resume=options.resume,
    )
    if options.export:
        # The pictures are larger than the files' input: the same sliding window for each of them.
        recipe.export_and_score(result, train_data, val_data, crop, mode="slide", window=crop)


if __name__ == "__main__":
    main()
