"""PSPNet on CamVid, by the paper's protocol (Zhao et al. 2017, section 5.1).

    python recipes/pspnet_camvid.py --data-dir camvid --folder runs/pspnet_camvid

The folder holds train/, trainannot/, val/ and valannot/ (SegNet's version, 480 x 360, 11 classes).

SGD with momentum 0.9, batch 16, learning rate 0.01 by the poly rule with power 0.9, ten times that
in the new layers, weight decay 1e-4, auxiliary loss 0.4; scale 0.5 to 2, rotation of 10 degrees,
blur, mirroring.
Hardware: GPUs for 16 crops of 329 x 473 a step; not timed.
Published: none for this data set in the paper.
Where we differ: the trunk starts from random weights, not from ImageNet's; the crop of 329 x 473 is
of the form 48 m - 7 that the pyramid divides evenly; the epoch with the best IoU on val is kept,
and scored in one scale, whole images.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

BACKBONE = "resnet50"
CROP = (329, 473)
BATCH = 16
LEARNING_RATE, POWER, HEAD_MULTIPLIER = 1e-2, 0.9, 10.0
MOMENTUM, PENALTY, AUX_WEIGHT = 0.9, 1e-4, 0.4
EPOCHS = 200


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/pspnet_camvid",
        epochs=EPOCHS,
        layout="camvid",
        arguments=arguments,
    )
    crop, batch, slim = CROP, BATCH, {"backbone": BACKBONE}
    if options.smoke:
        crop, batch, slim = (89, 89), 4, {"backbone": "resnet18", "filters": 8}
    train_data, val_data, _ = recipe.open_camvid(options)
    training.train(
        lambda: models.PSPNet(train_data.table.num_classes, aux=True, **slim),
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=batch,
        augment=data.Augment(crop=crop, scale=(0.5, 2.0), flip=True, rotation=10.0, blur=0.5),
        optimizer="sgd",
        learning_rate=LEARNING_RATE,
        momentum=MOMENTUM,
        weight_decay=PENALTY / (1 - MOMENTUM),  # the same shrinkage, decoupled
        schedule="poly",
        power=POWER,
        head_multiplier=HEAD_MULTIPLIER,
        aux_weight=AUX_WEIGHT,
        resume=options.resume,
    )


if __name__ == "__main__":
    main()
