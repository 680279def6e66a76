"""What total variation adds to ten labelled pixels an image: a small U-Net on CamVid.

    python benchmarks/semi_supervised.py --data-dir camvid --folder runs/semi_supervised
    python benchmarks/semi_supervised.py --data-dir camvid --ways supervised "TV 0.05" --seeds 0

"supervised" has the cross entropy of the labelled pixels alone, "TV w" w times the total variation
of all pixels beside it, rising from 0 over the first 20 % of the steps, "full" all labels. The same
pixels, weights at the start and batches for a seed; another seed labels other pixels. Flips only:
resizing would lose single pixels. Scored on val with all of its labels, with the weights of the
last epoch (and of the best, which val itself chose).
"""

import compare_runs

from keras_seg import data, losses, training

PIXELS = 10
WEIGHTS = (0.01, 0.02, 0.05, 0.1, 0.2)


def main(arguments=None):
    names = ["supervised", *(f"TV {weight}" for weight in WEIGHTS), "full"]
    options = compare_runs.parse(__doc__, "runs/semi_supervised", names, arguments)
    train_data, val_data = compare_runs.open_data(options)
    augment = data.Augment(crop=compare_runs.crop(options), scale=(1.0, 1.0), flip=True)
    full = {"train_data": train_data, "augment": augment}

    def ways(seed):
        few = full | {"train_data": data.sparse_labels(train_data, PIXELS, seed).cached()}
        with_term = {
            f"TV {weight}": few
            | {"loss": losses.CrossEntropy() + training.WarmUp(weight * losses.TotalVariation())}
            for weight in WEIGHTS
        }
        return {"supervised": few, **with_term, "full": full}

    compare_runs.compare(options, ways, val_data)


if __name__ == "__main__":
    main()
