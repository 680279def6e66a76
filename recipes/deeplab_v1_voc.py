"""DeepLab v1 on PASCAL VOC (Chen et al. 2015): LargeFOV by default, MSc and the CRF.

    python recipes/deeplab_v1_voc.py --data-dir VOCdevkit/VOC2012 --sbd SBD/dataset \\
        --weights vgg16_20M.caffemodel --folder runs/deeplab_v1_voc

--variant base, 7x7 or 4x4 are the other networks of the paper; --msc adds multi-scale features in a
second run, runs/deeplab_v1_voc-msc, whose base stays as it is. vgg16_20M.caffemodel is the authors'
VGG16 with fc6 and fc7 thinned out to 1,024 channels (128M for "base").

Trained on VOC's train with SBD ("trainaug", 10,582 images), crops of 321 x 321 (base, 7x7, 4x4:
306) at random, smaller images padded at the bottom and the right, mirrored; scores of stride 8
against every eighth label; batch 30 (20); SGD, learning rate 0.001 and a tenth of it after each
2,000 of 6,000 steps, momentum 0.9, decay 5e-4; biases twice as fast without decay, the last layer
ten times as fast (of MSc, only the new layers learn, none of them faster).
Test: images padded to 513 x 513 (base, 7x7, 4x4: 514), without and with the dense CRF in the
authors' settings of that network; --tune-crf searches settings on 100 validation images instead, as
they did.
Hardware: a GPU for 30 crops of 321 x 321 a step; not timed.
Published: val 62.25 mIoU, with CRF 67.64 (LargeFOV); 64.21, 68.70 (MSc-LargeFOV); 59.80, 63.74
(base); 64.38, 67.64 (7x7); 63.41, 67.14 (4x4); 61.30, 65.21 (MSc). Test: 70.3 (CRF-LargeFOV), 71.6
(MSc-CRF-LargeFOV), 66.4 (CRF), 67.1 (MSc-CRF), 70.3 (CRF-7x7), each after training on trainval.
Where we differ: the epoch with the best IoU on val is kept.
Measured: not run at full length.
"""

from keras_seg import data, inference, losses, models, recipe, training
from keras_seg.crf import find_crf

LEARNING_RATE, DROP_EVERY = 1e-3, 2000
MOMENTUM, DECAY = 0.9, 5e-4
# Crop, size of the test, batch, first label that is compared, the CRF without and with MSc.
LARGE_FOV = (321, 513, 30, 0, "deeplab_v1_largefov", "deeplab_v1_msc_largefov")
OTHERS = (306, 514, 20, 1, "deeplab_v1", "deeplab_v1_msc")
MSC_CROP, MSC_TEST = 321, 513
# From coarse to fine within the paper's ranges.
CRF_GRID = {
    "w1": (5, 7.5, 10),
    "theta_alpha": (50, 75, 100),
    "theta_beta": (3, 6.5, 10),
    "rounds": 3,
}


def optimizer(*faster):
    """Caffe's solver; `faster` are the groups of variables that learn faster, besides biases."""
    return training.SGD(
        training.Step(LEARNING_RATE, DROP_EVERY),
        momentum=MOMENTUM,
        l2=DECAY,
        groups=[("bias$", 2, 0), *faster],
    )


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/deeplab_v1_voc",
        epochs=12,
        layout="voc",
        weights="deeplab",
        switches={
            "--msc": "multi-scale features in a second run",
            "--tune-crf": "search the settings of the CRF on 100 validation images",
        },
        numbers={"--steps": (500, "steps of an epoch")},
        texts=recipe.SBD,
        choices={"--variant": (("largefov", "base", "7x7", "4x4"), "network of the paper")},
        arguments=arguments,
    )
    large = options.variant == "largefov"
    crop, test, batch, offset, crf, msc_crf = LARGE_FOV if large else OTHERS
    slim = {}
    if options.smoke:
        crop, test, batch, slim = 65, 97, 2, {"filters": 4, "fc_channels": 16}
    train_data, val_data = recipe.open_voc(options, "trainaug", "val")

    def network(**more):
        classes = train_data.table.num_classes
        return models.DeepLabV1(classes, variant=options.variant, **slim, **more)

    def stage(name, network, crop, offset, *faster, **more):
        return training.Stage(
            name=name,
            epochs=options.epochs,
            build_model=lambda: training.with_outputs(network()),
            options={
                "augment": data.Augment(crop=crop, scale=(1.0, 1.0), pad_at="end"),
                "loss": {"logits_low": losses.CrossEntropy(label_stride=8, label_offset=offset)},
                "optimizer": optimizer(*faster),
            },
            **more,
        )

    def score(model, folder, crf, size):
        padded = {"size_divisor": size}
        if options.tune_crf:
            predictor = inference.Predictor(model, table=val_data.table)
            file = f"{folder}/crf_search.json"
            found = inference.tune_crf(
                predictor, val_data, crf=crf, file=file, **CRF_GRID, **padded
            )
            crf = find_crf(crf, **found["best"])
        ways = {"network": (model, padded), "CRF": (model, {**padded, "crf": crf})}
        recipe.score_ways(ways, val_data, folder)

    def score_fine(result):
        """The same weights, with each classifier at every position of its map."""
        fine = recipe.start_from(lambda: network(multiscale=True), result.model)()
        score(fine, result.folder, msc_crf, test if options.smoke else MSC_TEST)

    stages = [
        stage(
            "single",
            lambda: recipe.start_weights(network(), options),
            crop,
            offset,
            ("^fc8/", 10, 1),
            on_end=lambda result: score(result.model, result.folder, crf, test),
        )
    ]
    if options.msc:
        stages.append(
            stage(
                "msc",
                lambda: network(multiscale=True, fusion_stride=8),
                crop if options.smoke else MSC_CROP,
                0,
                trainable=("data_", "pool"),
                on_end=score_fine,
            )
        )
    result = training.train_stages(
        stages,
        train_data=train_data,
        val_data=val_data,
        folder=options.folder,
        main="single",
        steps_per_epoch=options.steps,
        batch_size=batch,
        resume=options.resume,
    ).last
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (513, 513))


if __name__ == "__main__":
    main()
