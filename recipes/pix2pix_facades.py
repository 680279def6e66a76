"""pix2pix on CMP Facades (Isola et al. 2017), from photos to label maps.

    python recipes/pix2pix_facades.py --data-dir facades --folder runs/pix2pix_facades

The folder holds base/ (378 photos, which train) and extended/ (228, which validate), 12 classes.
The U-Net generator with a softmax over the classes against the 70 x 70 PatchGAN on image and label
map: 100 L1 + the adversary's term; Adam with 2e-4 and beta_1 0.5 for both, batch 1, 200 epochs at a
fixed rate, one step of the adversary, then one of the generator; crops of 256 x 256, mirrored.
--l1 leaves the adversary out. --cross-entropy has the mean cross entropy and 0.01 of the
adversary's term in the place of 100 L1 and 1.
Test: whole images.
Hardware: any GPU; not timed.
Published: none on facades in this direction. Cityscapes, photo to labels: class IoU 0.35 with L1
alone, 0.29 with L1 and the adversary: no adversary is the better choice there.
Where we differ: the paper's facades go from labels to photos, on 400 pairs of its own cut; photos
here are at half size and not resized to 286 x 286; the running averages of batch normalisation when
testing, and no dropout then; the epoch with the best IoU on the extended set is kept.
Measured: not run at full length.
"""

import keras

from keras_seg import data, losses, models, recipe, training

BATCH = 1
CROP = (256, 256)
SCALE = 0.5
LEARNING_RATE, BETA = 2e-4, 0.5
L1_WEIGHT, CROSS_ENTROPY_PULL = 100.0, 0.01


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/pix2pix_facades",
        epochs=200,
        layout="facades",
        switches={"--l1": "no adversary", "--cross-entropy": "in the place of L1"},
        arguments=arguments,
    )
    crop, slim, patch = CROP, {}, {}
    if options.smoke:
        crop, slim = (32, 32), {"depth": 3, "filters": 4}
        patch = {"receptive_field": 16, "filters": 4}
    counts = {"train": 4, "val": 2}
    train_data, val_data = (
        recipe.open_split(options, part, counts=counts).scaled(SCALE)
        for part in ("base", "extended")
    )
    classes = train_data.table.num_classes
    loss, weight = L1_WEIGHT * losses.L1(), 1.0
    if options.cross_entropy:
        loss, weight = losses.CrossEntropy(), CROSS_ENTROPY_PULL
    adversary = training.Adversary(
        lambda: models.PatchGAN(3 + classes, **patch),
        inputs="pair",
        weight=weight,
        optimizer=keras.optimizers.Adam(LEARNING_RATE, beta_1=BETA),
    )
    result = training.train(
        lambda: models.Pix2PixGenerator(classes, **slim),
        train_data,
        val_data,
        folder=options.folder,
        epochs=options.epochs,
        batch_size=BATCH,
        augment=data.Augment(crop=crop, scale=(1.0, 1.0), flip=True),
        optimizer=keras.optimizers.Adam(LEARNING_RATE, beta_1=BETA),
        loss=loss,
        adversary=None if options.l1 else adversary,
        resume=options.resume,
    )
    recipe.score(result.model, val_data, options.folder)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, crop)


if __name__ == "__main__":
    main()
