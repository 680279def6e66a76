"""DeconvNet on PASCAL VOC (Noh, Hong, Han 2015): two-stage curriculum, test by object proposals.

    python recipes/deconvnet_voc.py --data-dir VOCdevkit/VOC2012 --sbd SBD/dataset \\
        --weights VGG_ILSVRC_16_layers.caffemodel --proposals model.yml.gz \\
        --folder runs/deconvnet_voc

--sbd is needed: it says which pixels belong to one object. --proposals is OpenCV's edge model (its
repository opencv_extra, testdata/cv/ximgproc), for edge boxes as the authors had them; or
selective_search; or, if left out, sliding: a fixed grid of boxes, without OpenCV, which is not the
paper's method. Proposals of all pictures take hours; those to train on are kept in
runs/deconvnet_voc-boxes-KIND/, a file for each picture.

Stage 1, runs/deconvnet_voc-objects: each object in its box times 1.2, labels of other classes
turned to background; 20,000 steps. Stage 2, runs/deconvnet_voc: proposals times 1.2 that have an
IoU of at least 0.5 with the tight box of an object, all labels kept; 40,000 steps. Both: resized to
250 x 250, crops of 224 x 224 at random, mirrored at random, batch 64; SGD, learning rate 0.01, a
tenth of it after each 9,000 (stage 2: 10,000) steps, momentum 0.9, decay 5e-4, biases twice as fast
without decay.
Test: the 50 best proposals of at least 112 pixels, times 1.2, at 224 x 224, the maximum of their
scores; without and with the authors' CRF; with --fcn (best.keras of recipes/fcn_voc.py) also
together with FCN-8s, as the paper says (mean of the probabilities) and as the released code does
(product of the scores).
Hardware: six days on a Titan X (paper); not timed here.
Published: test 69.6 mIoU, with CRF 70.5, with FCN-8s 71.7, with both 72.5.
Where we differ: trainaug in place of trainval with SBD (--split trainval_aug with a list of that
name), so that val can be scored; statistics of the normalisation over 64 images, and moving
averages for the test; the threshold of 0.5 is not certain; --per-image proposals an image at most;
rare classes are not repeated; of each stage the epoch with the best IoU on boxes of val is kept.
Measured: not run at full length.
"""

import pathlib

import numpy as np

from keras_seg import data, inference, models, recipe, training
from keras_seg.data.progress import Progress
from keras_seg.utils import atomic_path, writable_folder

RESIZED, CROP = (250, 250), 224
BATCH = 64
LEARNING_RATE, MOMENTUM, DECAY = 0.01, 0.9, 5e-4
DROPS = (9000, 10_000)
OVERLAP, ENLARGE = 0.5, 1.2
TEST = {"count": 50, "least": 112, "enlarge": ENLARGE, "size": (CROP, CROP)}


def sliding_boxes(image):
    """Boxes of all, two thirds and half of the height and width, at steps of half a box."""
    size = np.array(image.shape[:2])
    boxes = []
    for shares in ((1, 1), (2 / 3, 2 / 3), (1, 1 / 2), (1 / 2, 1), (1 / 2, 1 / 2)):
        height, width = (int(n) for n in np.ceil(size * shares))
        for top in sorted({*range(0, size[0] - height, height // 2 or 1), size[0] - height}):
            for left in sorted({*range(0, size[1] - width, width // 2 or 1), size[1] - width}):
                boxes.append((top, left, top + height, left + width))
    return np.array(boxes)


def check_file(option, path):
    """Before a stage of days, and not after it: is there a file?"""
    if not pathlib.Path(path).is_file():
        raise ValueError(f"{option}: there is no file {path}.")


def find_proposals(kind):
    """Function from an image to boxes, the best first."""
    if kind == "sliding":
        return sliding_boxes
    if kind == "selective_search":
        return inference.selective_search
    check_file("--proposals", kind)
    return lambda image: inference.edge_boxes(image, kind)


def cut_objects(dataset):
    """Every object by itself."""
    found = [data.object_boxes(dataset, index) for index in range(len(dataset))]
    return data.cut_boxes(
        dataset,
        np.repeat(np.arange(len(found)), [len(classes) for _, classes in found]),
        inference.enlarge_boxes(np.concatenate([boxes for boxes, _ in found]), ENLARGE),
        RESIZED,
        np.concatenate([classes for _, classes in found]),
    )


def cut_proposals(dataset, propose, per_image, folder):
    """Proposals that overlap with an object enough; `folder` keeps those of each picture."""
    folder = writable_folder(folder)
    bar = Progress(len(dataset), "proposals")
    indices, kept = [], []
    for index, name in enumerate(dataset.names):
        file = folder / f"{name}.npy"
        if not file.exists():
            boxes = propose(dataset.read_image(index))
            objects, _ = data.object_boxes(dataset, index)
            with atomic_path(file) as temporary:
                np.save(temporary, boxes[(data.box_iou(boxes, objects) >= OVERLAP).any(axis=1)])
        kept.append(np.load(file)[:per_image])
        indices += [index] * len(kept[-1])
        bar.step(name)
    boxes = inference.enlarge_boxes(np.concatenate(kept), ENLARGE)
    return data.cut_boxes(dataset, indices, boxes, RESIZED)


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/deconvnet_voc",
        epochs=20,
        layout="voc",
        weights="deconvnet",
        numbers={
            "--proposal-epochs": (40, "epochs of stage 2"),
            "--steps": (1000, "steps of an epoch"),
            "--per-image": (225, "proposals of an image to train on, at most"),
        },
        texts={
            **recipe.SBD,
            "--split": ("trainaug", "split to train on"),
            "--proposals": ("sliding", "an edge model's path, selective_search or sliding"),
            "--fcn": (None, "best.keras of recipes/fcn_voc.py"),
        },
        arguments=arguments,
    )
    batch, test, slim = BATCH, TEST, {}
    if options.smoke:
        batch, slim = 2, {"filters": 2, "fc_channels": 8}
        test = TEST | {"count": 3, "least": 16}
    train_data, val_data = recipe.open_voc(options, options.split, "val")
    propose = find_proposals(options.proposals)
    if options.fcn:
        check_file("--fcn", options.fcn)

    def build_model():
        model = models.DeconvNet(train_data.table.num_classes, **slim)
        return recipe.start_weights(model, options)

    held_out = cut_objects(val_data)
    if options.smoke:
        held_out = held_out.subset(range(2))

    boxes = f"{options.folder}-boxes-{pathlib.Path(options.proposals).stem}"

    def stage(name, epochs, examples, drop_every):
        optimizer = training.SGD(
            training.Step(LEARNING_RATE, drop_every),
            momentum=MOMENTUM,
            l2=DECAY,
            groups=[("bias$", 2, 0)],
        )
        return training.Stage(
            name=name, epochs=epochs, train_data=examples, options={"optimizer": optimizer}
        )

    result = training.train_stages(
        [
            stage("objects", options.epochs, lambda: cut_objects(train_data), DROPS[0]),
            stage(
                "proposals",
                options.proposal_epochs,
                lambda: cut_proposals(train_data, propose, options.per_image, boxes),
                DROPS[1],
            ),
        ],
        build_model,
        val_data=held_out,
        folder=options.folder,
        steps_per_epoch=options.steps,
        batch_size=batch,
        augment=data.Augment(crop=CROP, scale=(1.0, 1.0)),
        resume=options.resume,
    ).last

    def predictor(**more):
        return inference.ProposalPredictor(
            result.model, propose, table=val_data.table, **test, **more
        )

    alone = predictor()
    ways = {"proposals": (alone, {}), "proposals, CRF": (alone, {"crf": "deconvnet"})}
    if options.fcn:
        fcn = inference.Predictor(options.fcn)
        for combine in ("mean", "product"):
            both = predictor(ensemble=fcn, combine=combine)
            ways[f"FCN-8s, {combine}"] = (both, {})
            ways[f"FCN-8s, {combine}, CRF"] = (both, {"crf": "deconvnet"})
    recipe.score_ways(ways, val_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, (CROP, CROP))


if __name__ == "__main__":
    main()
