"""ResNet-38 on Cityscapes (Wu et al. 2016), by the authors' released procedure.

    python recipes/resnet38_cityscapes.py --data-dir cityscapes \\
        --folder runs/resnet38_cityscapes --weights resnet38.keras --weights-layout ""

The folder holds leftImg8bit/ and gtFine/ (2,975 train, 500 val; 19 classes).

Model A1 with the head of two convolutions. Crop 504, batch 16, scale 0.7 to 1.3, mirroring; SGD
with momentum 0.9, weight decay 5e-4, biases and beta at twice the rate without decay; statistics of
batch normalisation stay as ImageNet left them. Stage 1: learning rate 0.0016, 140 epochs. Stage 2:
0.0008, falling in a straight line to 0, 64 epochs. Loss: cross entropy of pixels whose class has a
probability of at most 0.6, at least 256 an image. Start: ImageNet weights of the trunk: without
them its statistics are those of no training, and nothing good comes of freezing them.
Test: whole images padded to multiples of 8, with their mirror images.
Hardware: GPUs for 16 crops of 504 x 504 a step; not timed.
Published: 78.08 mIoU on val (A1, one scale); test set 78.4, six scales 79.4 (A2).
Where we differ: the loss sees every pixel, there every eighth in rows and columns; scores are
enlarged bilinearly, there probabilities bicubically. The epoch with the best IoU on val is kept. No
weights of the authors in a layout that is read are known: mapillary's (`inplace_abn`) have another
activation.
Measured: not run at full length.
"""

from keras_seg import data, losses, models, recipe, training

CROP, BATCH = 504, 16
SCALE = (0.7, 1.3)
MOMENTUM, PENALTY = 0.9, 5e-4
EPOCHS, LEARNING_RATE = 140, 1.6e-3
DECAY_EPOCHS, DECAY_RATE = 64, 8e-4
THRESHOLD, MIN_KEPT = 0.6, 256


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/resnet38_cityscapes",
        epochs=EPOCHS,
        layout="cityscapes",
        weights="inplace_abn",
        numbers={
            "--decay-epochs": (DECAY_EPOCHS, "epochs of stage 2"),
            "--validate-every": (4, "epochs from one validation to the next"),
        },
        arguments=arguments,
    )
    crop, batch, slim = CROP, BATCH, {}
    if options.smoke:
        crop, batch = 65, 2
        # Odd maps: on even ones oneDNN corrupts memory in the gradient of thin 1x1 shortcuts.
        slim = {"filters": 4, "blocks": (1, 1, 1, 1, 1, 1)}
    counts = {"train": 4, "val": 2}
    train_data = recipe.open_split(options, "train", counts=counts)
    val_data = recipe.open_split(options, "val", counts=counts)

    def build_model():
        model = models.ResNet38(train_data.table.num_classes, **slim)
        recipe.start_weights(model, options)
        return training.freeze_batch_norm(model, statistics_only=True)

    def stage(name, epochs, rate):
        optimizer = training.SGD(
            rate, momentum=MOMENTUM, l2=PENALTY, groups=[("(bias|beta)$", 2, 0)]
        )
        return training.Stage(name=name, epochs=epochs, options={"optimizer": optimizer})

    steps = options.decay_epochs * recipe.count_steps(train_data, batch)
    falling = training.Poly(DECAY_RATE, steps, power=1.0)
    result = training.train_stages(
        [
            stage("constant", options.epochs, LEARNING_RATE),
            stage("decay", options.decay_epochs, falling),
        ],
        build_model,
        train_data,
        val_data,
        folder=options.folder,
        batch_size=batch,
        augment=data.Augment(crop=crop, scale=SCALE, flip=True),
        loss=losses.OHEM(THRESHOLD, MIN_KEPT),
        validate_every=options.validate_every,
        resume=options.resume,
    ).last
    test = {"flip": True, "size_divisor": 8}
    recipe.score(result.model, val_data, options.folder, **test)
    if options.export:
        recipe.export_and_score(result, train_data, val_data, val_data[0].label.shape, flip=True)


if __name__ == "__main__":
    main()
