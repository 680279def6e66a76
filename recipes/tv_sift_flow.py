"""Total variation from few labelled pixels on SIFT Flow (Javanmardi et al. 2016).

    python recipes/tv_sift_flow.py --data-dir SiftFlowDataset --folder runs/tv_sift_flow

The folder holds Images/, SemanticLabels/ and GeoLabels/ (2,488 images of 256 x 256 for training,
200 for test; 33 classes). 10 pixels of each training image keep their label (--pixels), one of each
class that it holds first, drawn once; the others count for the total variation of the predicted
probabilities alone, whose weight rises from 0 to 0.05 over the first 20 % of the steps.
--supervised is without that term, --full with all labels and without it: the rows to compare with.
Network: that of Farabet et al., from scratch; Adam, 1e-3, poly schedule, batch 8, 200 epochs,
mirrored at random.
Test: whole images.
Hardware: any GPU; not timed.
Published: better than the labelled pixels alone, and than a Markov random field behind them; the
figures were not found in a public text.
Where we differ: network, weight, warm-up, rates and length are ours, the authors' not being public;
the two other data sets of the paper, Stanford Background and Weizmann Horses, have no reader here
(layout "folder" takes them); the epoch with the best IoU on the test images is kept.
Measured: not run at full length.
"""

from keras_seg import data, losses, models, recipe, training

BATCH = 8
LEARNING_RATE = 1e-3
WEIGHT, WARM_UP = 0.05, 0.2
CROP = (256, 256)


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/tv_sift_flow",
        epochs=200,
        layout="sift_flow",
        switches={
            "--supervised": "the labelled pixels alone",
            "--full": "all labels, no total variation",
        },
        numbers={"--pixels": (10, "labelled pixels of an image")},
        arguments=arguments,
    )
    crop, batch, slim = CROP, BATCH, {}
    if options.smoke:
        crop, batch, slim = (64, 64), 2, {"filters": 2}
    train_data, test_data = recipe.open_sift_flow(options)
    labelled = train_data if options.full else data.sparse_labels(train_data, options.pixels)
    loss = losses.CrossEntropy()
    if not (options.supervised or options.full):
        loss = loss + training.WarmUp(WEIGHT * losses.TotalVariation(), WARM_UP)
    result = training.train(
        lambda: models.MultiscaleCNN(train_data.table.num_classes, **slim),
        labelled,
        test_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=batch,
        augment=data.Augment(crop=crop, scale=(1.0, 1.0), flip=True),
        learning_rate=LEARNING_RATE,
        weight_decay=0.0,
        loss=loss,
        resume=options.resume,
    )
    recipe.score(result.model, test_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, test_data, crop)


if __name__ == "__main__":
    main()
