"""FCN-32s on PASCAL VOC (Long, Shelhamer, Darrell 2015), the "heavy" training of its release.

    python recipes/fcn_voc.py --data-dir VOCdevkit/VOC2012 --folder runs/fcn32s_voc

The folder holds JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/{train,val}.txt.

Whole images, one a step, no augmentation, SGD with momentum 0.99. The release sums the loss over
the pixels and uses a learning rate of 1e-10; for the mean over about 187,500 pixels that is 1.9e-5,
with a weight decay of 5e-4 / 187,500, which is none.
Published: 63.6 mIoU on seg11valid (FCN-32s), 65.0 (16s), 65.5 (8s), all from ImageNet weights and
with SBD's annotations.
Where we differ: the trunk starts from random weights, not from ImageNet's VGG16; crops of 500 x 500
(VOC's largest side), padded, in place of single images of any size; 16s and 8s, each started from
the one before, are not here yet.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

CROP = (500, 500)
BATCH = 1
MOMENTUM = 0.99
LEARNING_RATE = 1.9e-5
EPOCHS = 12  # about 100,000 steps on SBD's 8,498 images


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/fcn32s_voc",
        epochs=EPOCHS,
        data="PASCAL VOC (JPEGImages, SegmentationClass, ImageSets)",
        arguments=arguments,
    )
    crop, slim = CROP, {}
    if options.smoke:
        train_data, val_data = data.shapes(6, seed=0), data.shapes(3, seed=1)
        crop, slim = (64, 64), {"filters": 4, "fc_channels": 16}
    else:
        train_data = data.voc(options.data_dir, "train")
        val_data = data.voc(options.data_dir, "val")
    training.train(
        lambda: models.FCN32s(train_data.table.num_classes, **slim),
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=BATCH,
        augment=data.Augment(crop=crop, scale=(1.0, 1.0), flip=False),
        optimizer="sgd",
        momentum=MOMENTUM,
        learning_rate=LEARNING_RATE,
        weight_decay=0.0,
        schedule="constant",
        resume=options.resume,
    )


if __name__ == "__main__":
    main()
