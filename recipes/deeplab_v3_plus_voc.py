"""DeepLab v3+ on PASCAL VOC (Chen et al. 2018): ResNet-101 with the decoder.

    python recipes/deeplab_v3_plus_voc.py --data-dir VOCdevkit/VOC2012 --sbd SBD/dataset \\
        --weights resnet101.pth --folder runs/deeplab_v3_plus_voc

The weights are torchvision's ResNet-101 of ImageNet, as for recipes/deeplab_v3_voc.py.

The protocol of DeepLab v3: VOC's train with SBD ("trainaug", 10,582 images), sizes times 0.5 to 2,
crops of 513 x 513, mirrored at random, batch 16; output stride 16, batch normalisation trained;
30,000 steps of SGD, learning rate 0.007, poly 0.9, momentum 0.9, decay 1e-4 on the kernels; loss on
logits of the crop's size.
Test: output stride 16 and 8, whole images; then six scales from 0.5 to 1.75, then with mirror
images.
Hardware: GPUs for 16 crops of 513 x 513 a step; not timed.
Published: val 78.85 mIoU at output stride 16 (80.09 with scales, 80.22 with mirror images too),
79.35 at 8 (80.43, 80.57).
Where we differ: strides in the first unit of a stage, not the last; the epoch with the best IoU on
val is kept.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

CROP = 513
BATCH = 16
LEARNING_RATE, MOMENTUM, DECAY = 0.007, 0.9, 1e-4
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/deeplab_v3_plus_voc",
        epochs=30,
        layout="voc",
        weights="torchvision",
        numbers={"--steps": (1000, "steps of an epoch")},
        texts=recipe.SBD,
        arguments=arguments,
    )
    crop, batch, scales = (65, 2, (0.5, 1.0)) if options.smoke else (CROP, BATCH, SCALES)
    train_data, val_data = recipe.open_voc(options, "trainaug", "val")

    def network(output_stride):
        trunk = {"backbone": "resnet101", "stride_in": "3x3", "stem_pool": "floor"}
        if options.smoke:
            trunk = {"backbone": recipe.tiny_resnet(output_stride), "filters": 4}
        classes = train_data.table.num_classes
        return models.DeepLabV3Plus(classes, output_stride=output_stride, **trunk)

    result = training.train(
        lambda: recipe.start_weights(network(16), options),
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        steps_per_epoch=options.steps,
        batch_size=batch,
        augment=data.Augment(crop=crop, scale=(0.5, 2.0)),
        optimizer=training.SGD(
            training.Poly(LEARNING_RATE, options.epochs * options.steps),
            momentum=MOMENTUM,
            l2=DECAY,
            groups=[("(bias|gamma|beta)$", 1, 0)],
        ),
        resume=options.resume,
    )
    ways = {}
    finer = recipe.start_from(lambda: network(8), result.model)()
    for stride, model in ((16, result.model), (8, finer)):
        ways |= {
            f"stride {stride}": (model, {}),
            f"stride {stride}, scales": (model, {"scales": scales}),
            f"stride {stride}, scales, mirrored": (model, {"scales": scales, "flip": True}),
        }
    recipe.score_ways(ways, val_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (513, 513))


if __name__ == "__main__":
    main()
