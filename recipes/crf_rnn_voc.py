"""CRF-RNN on PASCAL VOC (Zheng et al. 2015), in its two stages.

    python recipes/crf_rnn_voc.py --data-dir VOCdevkit/VOC2012 --sbd SBD/dataset \\
        --fcn runs/fcn8s_voc/best.keras --folder runs/crf_rnn_voc

Stage 1 is FCN-8s alone: the result of recipes/fcn_voc.py, given by --fcn; without, it is trained
here in one go from --weights (ILSVRC's VGG16), in runs/crf_rnn_voc-fcn, 100,000 steps. Stage 2,
runs/crf_rnn_voc: FCN-8s and the mean-field layer together, 5 iterations, 100,000 steps.

VOC's train with SBD ("trainaug", 10,582 images); whole images, one a step; SGD with momentum 0.99,
decay 5e-4. The authors sum the loss over the pixels, with learning rate 1e-13, times 10,000 for the
two kernel matrices and 1,000 for the compatibilities; for the mean over about 187,500 pixels that
is 1.9e-8, and a decay of 2.7e-9.
Test: whole images, 10 iterations; FCN-8s alone beside it. Users of the release report that joint
training may lower the score: compare the two rows.
Hardware: a GPU for one image a step; in stage 2 the processor takes seconds a step, days in all.
Not timed.
Published: test 72.0 mIoU, 74.7 with MS COCO; first version 65.2. The FCN-8s part of the release:
69.85 on the reduced val.
Where we differ: stage 1 without --fcn; without MS COCO; of each stage the epoch with the best IoU
on val is kept. The bilateral filter is the release's approximation on a lattice, computed on the
processor: a step takes seconds.
Measured: not run at full length.
"""

from keras_seg import models, recipe, training

FCN_RATE, JOINT_RATE = 1.9e-5, 1.9e-8
MOMENTUM, DECAY = 0.99, 2.7e-9
BIASES = ("bias$", 2, 0)
MATRICES = [("ker_weights$", 1e4, 1), ("compatibility_matrix$", 1e3, 1)]


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/crf_rnn_voc",
        epochs=50,
        layout="voc",
        weights="caffe",
        numbers={
            "--joint-epochs": (50, "epochs of stage 2"),
            "--steps": (2000, "steps of an epoch"),
        },
        texts={**recipe.SBD, "--fcn": (None, "best.keras of recipes/fcn_voc.py")},
        arguments=arguments,
    )
    train_data, val_data = recipe.open_voc(options, "trainaug", "val", size=(32, 32))
    classes = train_data.table.num_classes
    slim = {"filters": 4, "fc_channels": 16} if options.smoke else {}

    def fcn():
        return models.FCN8s(classes, **slim)

    def started():
        return recipe.start_weights(fcn(), options)

    def crf_rnn():
        return models.CRFRNN(classes, bilateral="lattice", **slim)

    def stage(name, build_model, epochs, rate, groups):
        optimizer = training.SGD(rate, momentum=MOMENTUM, l2=DECAY, groups=groups)
        return training.Stage(
            name=name, epochs=epochs, build_model=build_model, options={"optimizer": optimizer}
        )

    first, joint = [], crf_rnn
    if options.fcn:
        coarse = recipe.start_from(fcn, options.fcn)()
        joint = recipe.start_from(crf_rnn, coarse)
    else:
        first = [stage("fcn", started, options.epochs, FCN_RATE, [BIASES])]
    trained = training.train_stages(
        [*first, stage("joint", joint, options.joint_epochs, JOINT_RATE, [BIASES, *MATRICES])],
        train_data=train_data,
        val_data=val_data,
        folder=options.folder,
        steps_per_epoch=options.steps,
        batch_size=1,
        augment=None,
        resume=options.resume,
    )
    result = trained.last
    if first:
        coarse = trained.stages["fcn"].model
    ways = {"FCN-8s": (coarse, {}), "CRF-RNN": (result.model, {})}
    recipe.score_ways(ways, val_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (500, 500))


if __name__ == "__main__":
    main()
