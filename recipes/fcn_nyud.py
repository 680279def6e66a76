"""FCN on NYU Depth v2, late fusion of RGB and HHA (Long, Shelhamer, Darrell 2015, section 5).

    python recipes/fcn_nyud.py --data-dir nyud --weights VGG_ILSVRC_16_layers.caffemodel \\
        --folder runs/fcn16s_nyud

The folder has the form of FCN's authors: data/images/, data/hha/, segmentation/ and the lists
trainval.txt (795 images of 480 x 640) and test.txt (654); 40 classes.

Two networks on VGG16, one of the colours and one of HHA (disparity, height, angle), and the mean of
their scores. Two runs, FCN-32s in runs/fcn16s_nyud-32s and from it FCN-16s, 300,000 steps each
(--epochs of --steps). Whole images, one a step, no augmentation; SGD with momentum 0.99, biases
twice as fast and without decay. The release sums the loss over the 307,200 pixels and uses rates of
1e-10 and 1e-12: of the mean 3.1e-5 and 3.1e-7, with a weight decay of 5e-4 / 307,200 = 1.6e-9.
Start: VGG16 on ImageNet, for both.
--inputs rgb or hha trains FCN-32s of one network alone, in the folder itself.
Test: whole images, one scale.
Hardware: one GPU, an image through two networks a step; not timed.
Published: mIoU of RGB-HHA 32.8 (FCN-32s), 34.0 (FCN-16s); RGB alone 29.2, HHA alone 24.2.
Where we differ: the epoch with the best IoU on the test images is kept, as training takes train and
val; images in a new order each epoch (the release draws with replacement).
Measured: not run at full length.
"""

import functools

from keras_seg import models, recipe

DECAY = 1.6e-9
# Stride of the scores, name of the stage, learning rate.
STAGES = ((32, "32s", 3.1e-5), (16, "16s", 3.1e-7))
PREPROCESSING = {"rgb": "nyud", "hha": "hha"}


def start_both(model, options, **slim):
    """Give both networks the trunk of `--weights`, whose layers have no prefix."""
    if options.weights:
        single = recipe.start_weights(models.FCN32s(model.output.shape[-1], **slim), options)
        layers = {layer.name: layer for layer in model.layers}
        for layer in single.layers:
            for name in (f"rgb_{layer.name}", f"depth_{layer.name}"):
                if layer.weights and name in layers:
                    layers[name].set_weights(layer.get_weights())
    return model


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/fcn16s_nyud",
        epochs=100,
        layout="nyud",
        weights="caffe",
        numbers={"--steps": (3000, "steps of an epoch")},
        choices={"--inputs": (("rgb+hha", "rgb", "hha"), "what the network sees")},
        arguments=arguments,
    )
    slim = {"filters": 4, "fc_channels": 16} if options.smoke else {}
    counts = {"trainval": 4, "test": 2}
    train_data, test_data = (
        recipe.open_split(options, split, counts=counts, inputs=options.inputs) for split in counts
    )
    classes = train_data.table.num_classes
    if options.inputs == "rgb+hha":
        fused = functools.partial(models.FCNLateFusion, classes, **slim)
        networks = [(functools.partial(fused, stride=s), name, rate) for s, name, rate in STAGES]
        # Pictures of six channels cannot be shown.
        more = {"start": functools.partial(start_both, **slim), "previews": 0}
    else:
        preprocessing = PREPROCESSING[options.inputs]
        alone = functools.partial(models.FCN32s, classes, preprocessing=preprocessing, **slim)
        networks, more = [(alone, options.inputs, STAGES[0][2])], {}
    result = recipe.fcn_stages(options, networks, train_data, test_data, decay=DECAY, **more)
    recipe.score(result.model, test_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, test_data, test_data[0].label.shape)


if __name__ == "__main__":
    main()
