"""FCN-32s, 16s and 8s on PASCAL VOC (Long, Shelhamer, Darrell 2015), as in its release ("heavy").

    python recipes/fcn_voc.py --data-dir VOCdevkit/VOC2012 --folder runs/fcn8s_voc

The folder holds JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/{train,val}.txt.

Three runs, each started from the one before: FCN-32s in runs/fcn8s_voc-32s, FCN-16s in
runs/fcn8s_voc-16s, FCN-8s in runs/fcn8s_voc. Whole images, one a step, no augmentation, SGD with
momentum 0.99. The release sums the loss over the pixels and uses learning rates of 1e-10, 1e-12 and
1e-14; for the mean over about 187,500 pixels that is 1.9e-5, 1.9e-7 and 1.9e-9, with a weight decay
of 5e-4 / 187,500, which is none.
Published: 63.6 mIoU on seg11valid (FCN-32s), 65.0 (16s), 65.5 (8s), all from ImageNet weights and
with SBD's annotations.
Where we differ: the trunk starts from random weights, not from ImageNet's VGG16; crops of 500 x 500
(VOC's largest side), padded, in place of single images of any size.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

CROP = (500, 500)
BATCH = 1
MOMENTUM = 0.99
EPOCHS = 12  # of each stage; about 100,000 steps on SBD's 8,498 images
# Builder, end of the folder's name, learning rate.
STAGES = (
    (models.FCN32s, "-32s", 1.9e-5),
    (models.FCN16s, "-16s", 1.9e-7),
    (models.FCN8s, "", 1.9e-9),
)


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/fcn8s_voc",
        epochs=EPOCHS,
        layout="voc",
        arguments=arguments,
    )
    crop, slim = CROP, {}
    if options.smoke:
        train_data, val_data = data.shapes(6, seed=0), data.shapes(3, seed=1)
        crop, slim = (64, 64), {"filters": 4, "fc_channels": 16}
    else:
        train_data = data.voc(options.data_dir, "train")
        val_data = data.voc(options.data_dir, "val")
    coarse = None
    for builder, ending, learning_rate in STAGES:

        def build_model(builder=builder, coarse=coarse):
            model = builder(train_data.table.num_classes, **slim)
            if coarse is not None:
                models.transfer_fcn(coarse, model)
            return model

        result = training.train(
            build_model,
            train_data,
            val_data,
            folder=f"{options.folder}{ending}",
            epochs=options.epochs,
            batch_size=BATCH,
            augment=data.Augment(crop=crop, scale=(1.0, 1.0), flip=False),
            optimizer="sgd",
            momentum=MOMENTUM,
            learning_rate=learning_rate,
            weight_decay=0.0,
            schedule="constant",
            resume=options.resume,
        )
        coarse = result.model


if __name__ == "__main__":
    main()
