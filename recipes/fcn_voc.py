"""FCN-32s, 16s and 8s on PASCAL VOC (Long, Shelhamer, Darrell 2015), as in its release ("heavy").

    python recipes/fcn_voc.py --data-dir VOCdevkit/VOC2012 --sbd SBD/dataset \\
        --weights VGG_ILSVRC_16_layers.caffemodel --folder runs/fcn8s_voc

Trained on SBD's train (8,498 images), scored on "seg11valid", the 736 images of VOC 2011's val that
are not among them; VOC 2011's val.txt has to be there, see `keras_seg.data.voc`. Without --sbd: on
VOC's own train and val.

Three runs, each started from the one before: FCN-32s in runs/fcn8s_voc-32s, FCN-16s in
runs/fcn8s_voc-16s, FCN-8s in runs/fcn8s_voc; 100,000 steps each (--epochs of --steps). Whole images
of any size, one a step, no augmentation; SGD with momentum 0.99, biases twice as fast and without
decay; fixed bilinear upsampling. The release sums the loss over the pixels and uses learning rates
of 1e-10, 1e-12 and 1e-14; for the mean over about 187,500 pixels that is 1.9e-5, 1.9e-7 and 1.9e-9,
with a weight decay of 5e-4 / 187,500 = 2.7e-9, which is next to none.
--fixed trains the score layer of FCN-32s alone on the trunk of --weights, in the folder itself.
Test: whole images, one scale.
Hardware: one GPU, three days for 32s and one each for 16s and 8s (paper, Caffe); not timed here.
Published: on seg11valid 63.6 mIoU (FCN-32s), 65.0 (16s), 65.5 (8s); the paper's 59.4, 62.4, 62.7.
Where we differ: images in a new order each epoch (the release draws with replacement); the mean
over an image's own pixels instead of a fixed number; of each stage the epoch with the best IoU on
the validation images is kept.
Measured: not run at full length.
"""

import functools

from keras_seg import models, recipe

DECAY = 2.7e-9
# Builder, name of the stage, learning rate.
STAGES = (
    (models.FCN32s, "32s", 1.9e-5),
    (models.FCN16s, "16s", 1.9e-7),
    (models.FCN8s, "8s", 1.9e-9),
)


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/fcn8s_voc",
        epochs=50,
        layout="voc",
        weights="caffe",
        numbers={"--steps": (2000, "steps of an epoch")},
        switches={"--fixed": "FCN-32s-fixed: the score layer alone"},
        texts=recipe.SBD,
        arguments=arguments,
    )
    slim = {"filters": 4, "fc_channels": 16} if options.smoke else {}
    if options.sbd:
        train_data = recipe.open_split(options, "train", layout="sbd", root=options.sbd)
        (val_data,) = recipe.open_voc(options, "seg11valid")
    else:
        train_data, val_data = recipe.open_voc(options, "train", "val")
    stages = STAGES
    if options.fixed:
        stages, slim = [(models.FCN32s, "fixed", STAGES[0][2])], slim | {"frozen_trunk": True}
    classes = train_data.table.num_classes
    networks = [
        (functools.partial(builder, classes, **slim), name, rate) for builder, name, rate in stages
    ]
    result = recipe.fcn_stages(options, networks, train_data, val_data, decay=DECAY)
    recipe.score(result.model, val_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (500, 500))


if __name__ == "__main__":
    main()
