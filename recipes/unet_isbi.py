"""U-Net on the ISBI 2012 stack of electron-microscope slices (Ronneberger et al. 2015).

    python recipes/unet_isbi.py --data-dir isbi_membrane --folder runs/unet_isbi

The folder holds train/image/N.png and train/label/N.png, 512 x 512, 0 membrane and 255 cell.
Every fifth slice is held out.

Network: the published graph (valid convolutions, no normalisation) at `FILTERS` channels, trained
on tiles of 572 that give maps of 388. SGD with momentum 0.99, one tile a step, as in section 3.
Published: warping error 0.000353, Rand error 0.0382 on the test stack, whose labels are secret.
Where we differ: the paper does not give its learning rate; the border weights w0 and the elastic
deformation are not in this recipe yet; the loss is the mean cross entropy.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

FILTERS = 64
TILE = (572, 572)
BATCH = 1
MOMENTUM = 0.99
LEARNING_RATE = 1e-4  # effective 1e-2 at this momentum
EPOCHS = 300


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/unet_isbi",
        epochs=EPOCHS,
        layout="isbi",
        arguments=arguments,
    )
    filters, tile = FILTERS, TILE
    if options.smoke:
        train_data = data.shapes(4, size=(188, 188), seed=0, channels=1)
        val_data = data.shapes(2, size=(188, 188), seed=1, channels=1)
        filters, tile = 2, (204, 204)
    else:
        slices = data.isbi(options.data_dir, channels=1)
        held_out = range(4, len(slices), 5)
        train_data = slices.subset([i for i in range(len(slices)) if i not in held_out])
        val_data = slices.subset(held_out)
    training.train(
        lambda: models.UNet(
            train_data.table.num_classes, (None, None, 1), form="paper", filters=filters
        ),
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=BATCH,
        crop_size=tile,
        val_size=tile,
        augment=data.Augment(
            crop=tile, scale=(0.8, 1.25), flip=True, vertical_flip=True, rotation=180.0, color=0.1
        ),
        optimizer="sgd",
        momentum=MOMENTUM,
        learning_rate=LEARNING_RATE,
        weight_decay=0.0,
        schedule="constant",
        resume=options.resume,
    )


if __name__ == "__main__":
    main()
