"""FC-DenseNet on CamVid (Jegou et al. 2017, section 4.1), from scratch, in its two stages.

    python recipes/fc_densenet_camvid.py --data-dir camvid --folder runs/fc_densenet_camvid

The folder holds train/, trainannot/, val/ and valannot/ (SegNet's version, 480 x 360, 11 classes),
and test/ and testannot/ where they are to be had; the scores at the end are those of test, else of
val. --layers 67 or 103 builds the larger networks.

Stage 1, runs/fc_densenet_camvid-crops: crops of 224 x 224, batch 3, mirrored at random, RMSprop
with learning rate 1e-3 times 0.995 an epoch. Stage 2, runs/fc_densenet_camvid: whole images, one a
step, learning rate 1e-4. Dropout 0.2, He's uniform weights, a penalty of 1e-4 times the sum of
squares of kernels and of BN's scale, void pixels left out. The epoch with the best validation IoU
is kept. Published code: at most 750 epochs, stopped after 100 (stage 2: 50) without a better one;
here --epochs and --fine-tune-epochs say how many. In a shorter run let the rate fall more quickly
(--decay), and average the weights over the steps of stage 2, each of which saw one image (--ema
0.99). On a GPU an epoch of stage 1 takes seconds: --validate-every 10 then scores, and writes the
checkpoint, after every tenth of its epochs. It needs no TensorFlow (KERAS_BACKEND=jax).
Test: whole images, one scale. The published scores normalise each test image by its own
statistics; files that are exported need fixed ones, which are measured on the training images at
the end, since the moving ones of stage 2 are those of a few images. The recipe scores both ways.
Hardware: a GPU for 3 crops of 224 x 224, then for a whole image, a step. FC-DenseNet67 on an H100
with JAX and bfloat16: 3.5 seconds an epoch, 15 one of stage 2 with its validation, 3 minutes to
compile. FC-DenseNet56 on two CPU cores: 5 to 7 minutes, and half an hour.
Published: FC-DenseNet56 58.9, FC-DenseNet67 65.8, FC-DenseNet103 66.9 mIoU on the test set.
Where we differ: stage 2's batch is not published (1 here).
Measured: FC-DenseNet56 after 83 epochs of stage 1, 73 of them with --decay 0.74 to 0.8, and four
of stage 2, the last two with --ema 0.99, on CPU cores, 101 validation pictures: 0.635 mIoU
(`weights="camvid"`, in assets/), 0.651 by each picture's own statistics; see docs/results.md.
"""

import keras

from keras_seg import data, layers, models, recipe, training

CROP = (224, 224)
BATCH = 3
LEARNING_RATE, DECAY = 1e-3, 0.995  # times so much each epoch
PENALTY = 1e-4
EPOCHS = 750
FINE_TUNE_EPOCHS, FINE_TUNE_RATE = 100, 1e-4


def optimizer(learning_rate, steps, decay, ema=0.0):
    """Lasagne's RMSprop; the derivative of the penalty is 2 * PENALTY * w."""
    averages = {"use_ema": True, "ema_momentum": ema} if ema else {}
    return training.RMSprop(
        keras.optimizers.schedules.ExponentialDecay(learning_rate, steps, decay, staircase=True),
        rho=0.9,
        epsilon=1e-6,
        l2=2 * PENALTY,
        groups=[("(bias|beta)$", 1, 0)],
        **averages,
    )


def main(arguments=None):
    options = recipe.options(
        __doc__,
        folder="runs/fc_densenet_camvid",
        epochs=EPOCHS,
        layout="camvid",
        numbers={
            "--fine-tune-epochs": (FINE_TUNE_EPOCHS, "epochs of stage 2"),
            "--layers": (56, "56, 67 or 103"),
            "--validate-every": (1, "epochs of stage 1 from one validation to the next"),
            "--decay": (DECAY, "of the learning rate, from one epoch to the next"),
            "--ema": (0.0, "momentum of moving averages of the weights in stage 2; 0: none"),
        },
        texts={"--start": (None, "a .keras file whose weights stage 1 starts from")},
        choices={
            "--precision": (
                ("float32", "mixed_bfloat16", "mixed_float16"),
                "numbers to compute with",
            )
        },
        arguments=arguments,
    )
    crop, name, slim = CROP, f"FCDenseNet{options.layers}", {}
    if options.smoke:
        crop, name = (64, 64), "FCDenseNet"
        slim = {"growth_rate": 2, "filters": 4, "layers_per_block": (1, 2), "bottleneck_layers": 2}
    train_data, val_data, held_out = recipe.open_camvid(options)
    size = train_data[0].label.shape

    def build_model():
        classes = train_data.table.num_classes
        return models.build(name, classes, weights=options.start, **slim)

    def stage(name, epochs, crop, batch, learning_rate, every, ema=0.0, **more):
        return training.Stage(
            name=name,
            epochs=epochs,
            options={
                "batch_size": batch,
                "augment": data.Augment(crop=crop, scale=(1.0, 1.0), flip=True),
                "optimizer": optimizer(learning_rate, len(train_data) // batch, options.decay, ema),
                "validate_every": every,
                "save_every": every,
                **more,
            },
        )

    whole = training.train_stages(
        [
            stage("crops", options.epochs, crop, BATCH, LEARNING_RATE, options.validate_every),
            stage(
                "whole",
                options.fine_tune_epochs,
                size,
                1,
                FINE_TUNE_RATE,
                1,
                ema=options.ema,
                measure_statistics=len(train_data),
            ),
        ],
        build_model,
        train_data,
        val_data,
        folder=options.folder,
        precision=options.precision,
        cache=True,
        resume=options.resume,
    ).last
    ways = {
        "statistics of the training set": (whole.model, {}),
        "own statistics": (layers.batch_statistics(whole.model), {}),
    }
    recipe.score_ways(ways, held_out, options.folder)
    if options.export:
        recipe.export_and_score(whole, train_data, val_data, size)


if __name__ == "__main__":
    main()
