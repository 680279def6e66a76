"""ParseNet on PASCAL VOC (Liu, Rabinovich, Berg 2015).

    python recipes/parsenet_voc.py --data-dir VOCdevkit/VOC2012 --sbd SBD/dataset \\
        --weights VGG_ILSVRC_16_layers_fc_reduced.caffemodel --folder runs/parsenet_voc

--fusion none is the baseline without the global context, early the other form.

The author's solver is lost. Of it is known: VOC with SBD ("trainaug", 10,582 images), the reduced
VGG16, SGD with momentum 0.9, decay 5e-4, the poly policy with power 0.9, mirror images only, scales
of the normalisation from 10. Ours: whole images padded to 500 x 500, batch 8, 20,000 steps,
learning rate 0.001 of the mean over the pixels, the classifiers ten times as fast, biases twice as
fast without decay, no decay on the scales.
Test: whole images padded to 500 x 500, one scale, no CRF.
Hardware: a GPU for 8 images of 500 x 500 a step; not timed.
Published: test 69.8 mIoU; the released model has 69.55 on val.
Where we differ: all that is said under "Ours"; the epoch with the best IoU on val is kept.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

SIZE = 500
BATCH = 8
LEARNING_RATE, MOMENTUM, DECAY = 1e-3, 0.9, 5e-4


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/parsenet_voc",
        epochs=20,
        layout="voc",
        weights="caffe",
        numbers={"--steps": (1000, "steps of an epoch")},
        texts=recipe.SBD,
        choices={"--fusion": (("late", "early", "none"), "form of the global context")},
        arguments=arguments,
    )
    size, batch, slim = SIZE, BATCH, {}
    if options.smoke:
        size, batch, slim = 96, 2, {"filters": 4, "fc_channels": 16}
    train_data, val_data = recipe.open_voc(options, "trainaug", "val")
    groups = [("bias$", 2, 0), ("^score", 10, 1)]
    if options.fusion != "none":
        groups.append(("_norm/", 1, 0))

    def build_model():
        classes = train_data.table.num_classes
        model = models.ParseNet(classes, fusion=options.fusion, **slim)
        return recipe.start_weights(model, options)

    result = training.train(
        build_model,
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        steps_per_epoch=options.steps,
        batch_size=batch,
        augment=data.Augment(crop=size, scale=(1.0, 1.0), pad_at="end"),
        optimizer=training.SGD(
            training.Poly(LEARNING_RATE, options.epochs * options.steps),
            momentum=MOMENTUM,
            l2=DECAY,
            groups=groups,
        ),
        resume=options.resume,
    )
    recipe.score(result.model, val_data, options.folder, size_divisor=size)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (size, size))


if __name__ == "__main__":
    main()
