"""The whole path in about two minutes, on pictures made here: train, look, export, prove."""

import pathlib

from keras_seg import data, inference, losses, models, training, utils
from keras_seg.export import Bounds, export

SIZE = (64, 64)
TRAIN_IMAGES, VAL_IMAGES = 384, 48
FILTERS, EPOCHS, BATCH = 12, 20, 8

NEXT = """
Now with your own images:

  1. Put them in a folder: photos/images/NAME.jpg and photos/masks/NAME.png (a mask holds class ids,
     0, 1, 2 ...; 255 is left out), and one class name a line in photos/classes.txt.
  2. keras-seg check-data photos/
  3. keras-seg train --model UNet --data photos/ --folder runs/photos --epochs 50
  4. keras-seg predict runs/photos some_image.jpg --output predictions/
  5. keras-seg export runs/photos --data photos/ --size 256 256 --output files/
"""


def quickstart(folder="quickstart", epochs=None):
    """Train a slim U-Net on synthetic shapes, write overlays, export every format, print the proof.

    Raises:
        ExportError: when an exported file does not compute what Keras computes.
        ValueError: if `folder` cannot be written.
    """
    folder = utils.writable_folder(pathlib.Path(folder))
    print(f"1/4  Drawing {TRAIN_IMAGES + VAL_IMAGES} pictures of circles, squares and triangles.")
    data.write_shapes(folder / "shapes" / "train", TRAIN_IMAGES, size=SIZE, seed=0)
    data.write_shapes(folder / "shapes" / "val", VAL_IMAGES, size=SIZE, seed=1)
    train_data = data.open_dataset(folder / "shapes", "train")
    val_data = data.open_dataset(folder / "shapes", "val")

    print("2/4  Training a slim U-Net on them.")
    table = train_data.table
    result = training.train(
        lambda: models.UNet(table.num_classes, filters=FILTERS),
        train_data,
        val_data,
        folder=folder / "run",
        epochs=EPOCHS if epochs is None else epochs,
        batch_size=BATCH,
        learning_rate=3e-3,
        loss=losses.CrossEntropyDice(),
        augment=data.Augment(scale=(1.0, 1.0), vertical_flip=True),
    )

    print("3/4  Labelling the pictures that it has not seen.")
    predictor = inference.Predictor(result.folder)
    print(inference.format_scores(result.scores))
    pictures = folder / "predictions"
    inference.predict_folder(predictor, folder / "shapes" / "val" / "images", pictures)

    print("4/4  Exporting, and running each file on the same pictures.")
    samples = [val_data[i] for i in range(VAL_IMAGES)]
    # On few small pictures, after two minutes of training, half a point of mean IoU is noise.
    bounds = Bounds(mean_iou_loss=0.02)
    report = export(
        result.folder,
        folder / "files",
        size=SIZE,
        calibration=[train_data[i].image for i in range(64)],
        images=[sample.image for sample in samples],
        labels=[sample.label for sample in samples],
        bounds=bounds,
        data_name="pictures of shapes, drawn by keras_seg",
        licence="Apache-2.0, as keras_seg",
    )
    print(report)
    print(f"\nLook at {pictures}, and at the training in {folder / 'run' / 'previews'}.")
    print(NEXT)
