"""Dilated convolutions on PASCAL VOC (Yu and Koltun 2016): front end, then context module.

    python recipes/dilated_voc.py --data-dir VOCdevkit/VOC2012 --sbd SBD/dataset \\
        --weights VGG_ILSVRC_16_layers.caffemodel --folder runs/dilation8_voc

Stage 1, runs/dilation8_voc-front-end: VOC's train with SBD ("trainaug", 10,582 images), mirrored by
186 pixels at each border; crops of 500 x 500 of that, whose middle 128 x 128 are learnt, mirrored
at random; batch 14, learning rate 0.001, 60,000 steps. Stage 2, runs/dilation8_voc: the large
context module, which starts as the identity, on the front end as it is, without its dropout; crops
of 900 x 900, whose middle is 66 x 66 scores; batch 60 (4 times 15), learning rate 0.001. Both:
scores of stride 8 against every eighth label, SGD, momentum 0.9, decay 5e-4.
--context basic is the small module, to which the same front end belongs.
The networks of the runs take tiles and lose the margin; `whole.keras` beside them is the same
network for whole images.
--joint trains both together afterwards, runs/dilation8_voc-joint, batch 14, learning rate 1e-5; it
brought no significant gain on VOC.
Test: whole images, mirrored at the borders; without and with a dense CRF.
Hardware: a GPU for 14 crops of 500 x 500, then 15 of 900 x 900; not timed.
Published: with MS COCO, val 69.8 mIoU (front end), 71.3 (with the basic context module), 72.1
(large), 73.3 (large and CRF); test 71.3, 73.5 (large), 74.7 (with CRF). Without MS COCO: test 67.6
(front end).
Where we differ: without MS COCO's images; the length of stages 2 and 3, which is not published for
VOC (20,000 and 10,000 steps here); logits are enlarged, not probabilities; CRF with the settings of
DeepLab v2, theirs were searched; of each stage the epoch with the best IoU on val is kept.
Measured: not run at full length.
"""

import functools

from keras_seg import data, losses, models, recipe, training
from keras_seg.models.dilated import MARGIN

FRONT_CROP, CONTEXT_CROP = 500, 900
BATCH, CONTEXT_BATCH, CONTEXT_BATCHES = 14, 15, 4
LEARNING_RATE, JOINT_RATE = 1e-3, 1e-5
MOMENTUM, DECAY = 0.9, 5e-4


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/dilation8_voc",
        epochs=60,
        layout="voc",
        weights="dilation",
        switches={"--joint": "train front end and context together at the end"},
        numbers={
            "--context-epochs": (80, "epochs of stage 2, of 1,000 batches, four a step"),
            "--joint-epochs": (10, "epochs of stage 3"),
            "--steps": (1000, "batches of an epoch"),
        },
        texts=recipe.SBD,
        choices={"--context": (("large", "basic"), "form of the context module")},
        arguments=arguments,
    )
    crop, context_crop, batch, context_batch = FRONT_CROP, CONTEXT_CROP, BATCH, CONTEXT_BATCH
    slim = {}
    if options.smoke:
        crop, context_crop, batch, context_batch = 404, 404, 2, 2
        slim = {"filters": 2, "fc_channels": 4}
    train_data, val_data = recipe.open_voc(options, "trainaug", "val")
    classes = train_data.table.num_classes

    def front_end(**more):
        return models.DilatedFrontEnd(classes, **slim, **more)

    def with_context(**more):
        return models.Dilation8(classes, context=options.context, **slim, **more)

    def stage(name, network, rate, *, epochs, crop, batch, batches=None, start=None, **more):
        """A stage on tiles; its end scores and keeps the same network for whole images."""

        def build_model():
            model = network(padding="valid")
            return training.with_outputs(start(model) if start else model)

        def score(result):
            whole = recipe.start_from(network, result.model)()
            whole.save(result.folder / "whole.keras")
            ways = {"network": (whole, {}), "CRF": (whole, {"crf": "deeplab_v2"})}
            recipe.score_ways(ways, val_data, result.folder)

        return training.Stage(
            name=name,
            epochs=epochs,
            build_model=build_model,
            on_end=score,
            options={
                "batch_size": batch,
                "augment": data.Augment(crop=crop, scale=(1.0, 1.0), margin=MARGIN, pad="mirror"),
                "optimizer": training.SGD(
                    rate,
                    momentum=MOMENTUM,
                    l2=DECAY,
                    groups=[("bias$", 2, 0)],
                    gradient_accumulation_steps=batches,
                ),
            },
            **more,
        )

    stages = [
        stage(
            "front-end",
            front_end,
            LEARNING_RATE,
            epochs=options.epochs,
            crop=crop,
            batch=batch,
            start=lambda model: recipe.start_weights(model, options),
        ),
        stage(
            "context",
            functools.partial(with_context, dropout=0.0),
            LEARNING_RATE,
            epochs=options.context_epochs,
            crop=context_crop,
            batch=context_batch,
            batches=CONTEXT_BATCHES,
            trainable={"large": "ct_", "basic": "ctx_"}[options.context],
        ),
    ]
    if options.joint:
        stages.append(
            stage(
                "joint",
                with_context,
                JOINT_RATE,
                epochs=options.joint_epochs,
                crop=context_crop,
                batch=batch,
            )
        )
    result = training.train_stages(
        stages,
        train_data=train_data,
        val_data=val_data,
        folder=options.folder,
        main="context",
        steps_per_epoch=options.steps,
        val_size=(context_crop, context_crop),  # 528 of the 900 are the image
        loss={"logits_low": losses.CrossEntropy(label_stride=8)},
        resume=options.resume,
    ).stages["context"]
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (900, 900), mode="tile")


if __name__ == "__main__":
    main()
