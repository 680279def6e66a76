"""The recurrent network on SIFT Flow (Pinheiro, Collobert 2014).

    python recipes/recurrent_cnn_sift_flow.py --data-dir SiftFlowDataset \\
        --folder runs/recurrent_cnn_sift_flow

The folder holds Images/, SemanticLabels/ and GeoLabels/ (2,488 images of 256 x 256 for training,
200 for test; 33 classes). Two instances of rCNN1, or with --rcnn2 three of rCNN2.

The network is applied to the image and its own prediction, and the losses of all instances are
added up, each at every pixel. SGD with momentum 0.9, learning rate 0.01, one image a step, mirrored
at random.
Test: whole images, the last instance.
Hardware: any GPU, or a processor with patience; not timed.
Published: 77.7 pixel accuracy / 29.8 mean accuracy.
Where we differ: whole images with a label for each pixel, where the authors draw patches; rates and
length of training are not published, nor is it clear whether they add the losses; images are not
turned to YUV and normalised locally; the epoch with the best IoU on the test images is kept.
Measured: not run at full length.
"""

from keras_seg import data, models, recipe, training

BATCH = 1
LEARNING_RATE, MOMENTUM = 1e-2, 0.9
CROP = (256, 256)
EPOCHS = 40


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/recurrent_cnn_sift_flow",
        epochs=EPOCHS,
        layout="sift_flow",
        switches={"--rcnn2": "three instances of rCNN2 for two of rCNN1"},
        numbers={"--validate-every": (1, "epochs from one validation to the next")},
        arguments=arguments,
    )
    crop, slim = ((48, 48), {"filters": 2}) if options.smoke else (CROP, {})
    variant, instances = ("rcnn2", 3) if options.rcnn2 else ("rcnn1", 2)
    train_data, test_data = recipe.open_sift_flow(options)
    result = training.train(
        lambda: models.RecurrentCNN(
            train_data.table.num_classes, variant=variant, instances=instances, aux=True, **slim
        ),
        train_data,
        test_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=BATCH,
        augment=data.Augment(crop=crop, scale=(1.0, 1.0), flip=True),
        optimizer=training.SGD(LEARNING_RATE, momentum=MOMENTUM),
        aux_weight=1.0,
        validate_every=options.validate_every,
        resume=options.resume,
    )
    recipe.score(result.model, test_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, test_data, crop)


if __name__ == "__main__":
    main()
