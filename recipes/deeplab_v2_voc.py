"""DeepLab v2 on PASCAL VOC (Chen et al. 2018): ResNet-101, ASPP-L, multi-scale inputs, CRF.

    python recipes/deeplab_v2_voc.py --data-dir VOCdevkit/VOC2012 --sbd SBD/dataset \\
        --weights deeplabv1_resnet101-coco.pth --folder runs/deeplab_v2_voc

The weights are ResNet-101's from ImageNet and MS COCO in the names of kazuto1011/deeplab-pytorch;
the authors' init.caffemodel with --weights-layout deeplab.

Trained on VOC's train with SBD ("trainaug", 10,582 images): sizes times 0.5, 0.75, 1, 1.25 or 1.5,
crops of 321 x 321, mirrored at random; the image, and 0.75 and 0.5 of it, through the same network,
their scores joined by the maximum; a loss for each and for the maximum. 20,000 updates with the
gradients of two batches of 5 each; SGD, learning rate 2.5e-4 times (1 - i / n) ** 0.9, momentum
0.9, decay 5e-4; biases without decay; the classifiers ten times, their biases twenty times as fast.
Batch normalisation is frozen.
Test: whole images, the maximum over the three scales, without and with the CRF.
Hardware: a GPU for 5 crops of 321 x 321 in three sizes; not timed.
Published: val 76.35 mIoU, with CRF 77.69 (with MS COCO; without COCO no figure for ASPP); test
79.7. kazuto1011's port: 76.65 and 77.93.
Where we differ: scores are compared at the size of the crop, not of each score map; the epoch with
the best IoU on val is kept.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

CROP = 321
BATCH, BATCHES_A_STEP = 5, 2
LEARNING_RATE, MOMENTUM, DECAY = 2.5e-4, 0.9, 5e-4
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/deeplab_v2_voc",
        epochs=20,
        layout="voc",
        weights="kazuto1011",
        numbers={"--steps": (2000, "batches of an epoch, two an update")},
        texts=recipe.SBD,
        arguments=arguments,
    )
    crop, batch, slim = CROP, BATCH, {"backbone": "resnet101"}
    if options.smoke:
        crop, batch, slim = 65, 2, {"backbone": recipe.tiny_resnet(8)}
    train_data, val_data = recipe.open_voc(options, "trainaug", "val")

    def build_model():
        classes = train_data.table.num_classes
        model = models.DeepLabV2(classes, scales=(0.75, 0.5), aux=True, **slim)
        return training.freeze_batch_norm(recipe.start_weights(model, options))

    steps = options.epochs * options.steps
    result = training.train(
        build_model,
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        steps_per_epoch=options.steps,
        batch_size=batch,
        augment=data.Augment(crop=crop, scale_steps=SCALES, pad_at="end"),
        aux_weight=1.0,
        optimizer=training.SGD(
            # Caffe's port renews the rate with each tenth update.
            training.Poly(LEARNING_RATE, steps, every=10 * BATCHES_A_STEP),
            momentum=MOMENTUM,
            l2=DECAY,
            groups=[("^aspp_", 10, 1), ("^aspp_.*bias$", 2, 0)],
            gradient_accumulation_steps=BATCHES_A_STEP,
        ),
        resume=options.resume,
    )
    recipe.score_ways(
        {"network": (result.model, {}), "CRF": (result.model, {"crf": "deeplab_v2"})},
        val_data,
        options.folder,
    )
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (513, 513))


if __name__ == "__main__":
    main()
