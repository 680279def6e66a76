"""FC-DenseNet on CamVid (Jegou et al. 2017, section 4.1), the first of its two phases.

    python recipes/fc_densenet_camvid.py --data-dir camvid --folder runs/fc_densenet_camvid

The folder holds train/, trainannot/, val/ and valannot/ (SegNet's version, 480 x 360, 11 classes).

Recipe of the paper and its release: crops of 224 x 224, batch 3, mirrored at random, RMSprop with
learning rate 1e-3 times 0.995 an epoch, dropout 0.2, no pre-training, void pixels left out.
Published: FC-DenseNet56 58.9, FC-DenseNet67 65.8, FC-DenseNet103 66.9 mIoU on the test set, in a
mode where each test image is normalised by its own statistics.
Where we differ: moving statistics at test time; decoupled weight decay in place of a penalty; the
second phase (whole images, learning rate 1e-4) is not here yet.
Measured: not run at full length.
"""

import keras

from keras_seg import data, models, recipe, training

MODEL = "FCDenseNet56"
CROP = (224, 224)
BATCH = 3
LEARNING_RATE, DECAY = 1e-3, 0.995
WEIGHT_DECAY = 1e-4
EPOCHS = 750


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/fc_densenet_camvid",
        epochs=EPOCHS,
        data="CamVid in SegNet's layout",
        arguments=arguments,
    )
    crop, model, slim = CROP, MODEL, {}
    if options.smoke:
        train_data, val_data = data.shapes(6, seed=0), data.shapes(3, seed=1)
        crop, model = (64, 64), "FCDenseNet"
        slim = {"growth_rate": 2, "filters": 4, "layers_per_block": (1, 2), "bottleneck_layers": 2}
    else:
        train_data = data.camvid(options.data_dir, "train")
        val_data = data.camvid(options.data_dir, "val")
    steps = len(train_data) // BATCH
    optimizer = keras.optimizers.RMSprop(
        keras.optimizers.schedules.ExponentialDecay(LEARNING_RATE, steps, DECAY, staircase=True),
        rho=0.9,
        epsilon=1e-6,
        weight_decay=WEIGHT_DECAY,
    )
    training.train(
        lambda: models.build(model, train_data.table.num_classes, **slim),
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=BATCH,
        augment=data.Augment(crop=crop, scale=(1.0, 1.0), flip=True),
        optimizer=optimizer,
        resume=options.resume,
    )


if __name__ == "__main__":
    main()
