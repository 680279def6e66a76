"""DeepLab v3 on PASCAL VOC (Chen et al. 2017): ResNet-101, in its two stages.

    python recipes/deeplab_v3_voc.py --data-dir VOCdevkit/VOC2012 --sbd SBD/dataset \\
        --weights resnet101.pth --folder runs/deeplab_v3_voc

The weights are torchvision's ResNet-101 of ImageNet: as in the authors' code, strides lie on the
3 x 3 convolutions.

Stage 1, runs/deeplab_v3_voc-os16: VOC's train with SBD ("trainaug", 10,582 images), output stride
16, 30,000 steps with learning rate 0.007. Stage 2, runs/deeplab_v3_voc: VOC's own fine annotations,
output stride 8, batch normalisation frozen, 30,000 steps with 0.001. Both: sizes times 0.5 to 2,
crops of 513 x 513, mirrored at random, batch 16; SGD, poly 0.9, momentum 0.9, decay 1e-4 on the
kernels; loss on logits of the crop's size.
The paper's stage 2 is for the test server and takes trainval: --final-split trainval. Its default
here is train, so that val can still be scored; the paper's val figures are those of stage 1.
Test: output stride 8, whole images; then six scales from 0.5 to 1.75, then with mirror images.
Hardware: GPUs for 16 crops of 513 x 513 a step; not timed.
Published: val, stage 1: 77.21 mIoU at output stride 16, 78.51 at 8, 79.45 with scales, 79.77 with
mirror images too; 82.70 from MS COCO. Test, stage 2 from MS COCO: 85.7.
Where we differ: stage 2 as said above; images with hard classes are not repeated; of each stage the
epoch with the best IoU on val is kept. The authors' code draws scales in steps of 0.25, and strides
in the last unit of a stage, not the first.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

CROP = 513
BATCH = 16
RATES = (0.007, 0.001)
MOMENTUM, DECAY = 0.9, 1e-4
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/deeplab_v3_voc",
        epochs=30,
        layout="voc",
        weights="torchvision",
        numbers={
            "--final-epochs": (30, "epochs of stage 2"),
            "--steps": (1000, "steps of an epoch"),
        },
        texts=recipe.SBD,
        choices={"--final-split": (("train", "trainval"), "split of stage 2")},
        arguments=arguments,
    )
    crop, batch, scales = (65, 2, (0.5, 1.0)) if options.smoke else (CROP, BATCH, SCALES)
    train_data, val_data, final_data = recipe.open_voc(
        options, "trainaug", "val", options.final_split
    )

    def network(output_stride):
        trunk = {"backbone": "resnet101", "stride_in": "3x3", "stem_pool": "floor"}
        if options.smoke:
            trunk = {"backbone": recipe.tiny_resnet(output_stride), "filters": 4}
        classes = train_data.table.num_classes
        return models.DeepLabV3(classes, form="paper", output_stride=output_stride, **trunk)

    def stage(name, epochs, rate, **more):
        optimizer = training.SGD(
            training.Poly(rate, epochs * options.steps),
            momentum=MOMENTUM,
            l2=DECAY,
            groups=[("(bias|gamma|beta)$", 1, 0)],
        )
        return training.Stage(name=name, epochs=epochs, options={"optimizer": optimizer}, **more)

    def score(model, folder):
        several = {"scales": scales}
        ways = {
            "output stride 8": (model, {}),
            "scales": (model, several),
            "scales, mirrored": (model, {**several, "flip": True}),
        }
        recipe.score_ways(ways, val_data, folder)

    def score_finer(result):
        score(recipe.start_from(lambda: network(8), result.model)(), result.folder)

    result = training.train_stages(
        [
            stage(
                "os16",
                options.epochs,
                RATES[0],
                build_model=lambda: recipe.start_weights(network(16), options),
                on_end=score_finer,
            ),
            stage(
                "os8",
                options.final_epochs,
                RATES[1],
                build_model=lambda: network(8),
                train_data=final_data,
                freeze_batch_norm="all",
            ),
        ],
        train_data=train_data,
        val_data=val_data,
        folder=options.folder,
        steps_per_epoch=options.steps,
        batch_size=batch,
        augment=data.Augment(crop=crop, scale=(0.5, 2.0)),
        resume=options.resume,
    ).last
    score(result.model, result.folder)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (513, 513))


if __name__ == "__main__":
    main()
