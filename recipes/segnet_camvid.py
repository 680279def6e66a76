"""SegNet on CamVid (Badrinarayanan, Kendall, Cipolla 2017), as in the authors' tutorial.

    python recipes/segnet_camvid.py --data-dir camvid --weights VGG_ILSVRC_16_layers.caffemodel \\
        --folder runs/segnet_camvid
    python recipes/segnet_camvid.py --basic --epochs 20 --data-dir camvid --folder runs/segnet_basic

The folder holds SegNet's version of CamVid, 480 x 360, 11 classes: train/, trainannot/, val/,
valannot/, and test/ and testannot/ where they are to be had; the scores at the end are those of
test, else of val. --basic is SegNet-Basic, which starts from random weights.

Whole images, batch 4, no augmentation; classes weighted by median frequency, void left out; SGD
with momentum 0.9, decay 5e-4, biases twice as fast without decay; learning rate 0.001 for 40,000
steps (80 epochs of 500), or 0.1 for 10,000 (20 epochs; --basic).
Test: whole images; global accuracy, mean accuracy, mIoU, and BF with 0.75 % of the diagonal.
Hardware: a GPU for 4 images of 480 x 360 a step; not timed.
Published: SegNet from 367 images 50.2 mIoU (first version of the paper); from 3,433 road scenes
60.10. SegNet-Basic 47.7, global accuracy 82.7, BF 35.78 (batch 12, local contrast normalisation).
Where we differ: statistics of the normalisation for the test are moving averages, not those of a
pass over the training set; the epoch with the best IoU on val is kept, not the best accuracy.
Measured: not run at full length.
"""

from keras_seg import losses, models, recipe, training

BATCH = 4
MOMENTUM, DECAY = 0.9, 5e-4
BF_TOLERANCE = 0.0075
LEARNING_RATES = {"SegNet": 1e-3, "SegNetBasic": 0.1}


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/segnet_camvid",
        epochs=80,
        layout="camvid",
        weights="segnet",
        switches={"--basic": "SegNet-Basic"},
        numbers={"--steps": (500, "steps of an epoch")},
        arguments=arguments,
    )
    name = "SegNetBasic" if options.basic else "SegNet"
    train_data, val_data, held_out = recipe.open_camvid(options)
    slim = {"filters": 4} if options.smoke else {}

    def build_model():
        model = models.build(name, train_data.table.num_classes, **slim)
        return recipe.start_weights(model, options)

    result = training.train(
        build_model,
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        steps_per_epoch=options.steps,
        batch_size=BATCH,
        augment=None,
        loss=losses.CrossEntropy(divide_by="pixels"),
        class_weights="median_frequency",
        optimizer=training.SGD(
            LEARNING_RATES[name], momentum=MOMENTUM, l2=DECAY, groups=[("bias$", 2, 0)]
        ),
        resume=options.resume,
    )
    recipe.score(result.model, held_out, options.folder, boundary=BF_TOLERANCE)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, train_data[0].label.shape)


if __name__ == "__main__":
    main()
