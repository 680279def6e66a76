"""One of the processes of test_multi_worker.py.

python one_worker.py FOLDER OUT [name=value ...]    (values as JSON, arguments of `train`)

Writes OUT.npz, all variables after training, and OUT.json, what else `train` returned.
"""

import json
import sys

from small_run import SIZE, Samples, network, run

from keras_seg import data


def samples(count=9):
    """Shapes; of every second image only two rows count, so that ignored pixels lie unevenly."""
    shapes = data.shapes(count, size=SIZE)
    changed = []
    for i in range(count):
        sample = shapes[i]
        label = sample.label.copy()
        if i % 2:
            label[2:] = 255
        changed.append(sample._replace(label=label))
    return Samples(changed, shapes.table)


if __name__ == "__main__":
    import numpy as np

    folder, out, *arguments = sys.argv[1:]
    options = {
        "augment": None,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "head_multiplier": 10,
        "steps_per_epoch": 2,
        "previews": 1,
    }
    options |= {name: json.loads(v) for name, v in (text.split("=", 1) for text in arguments)}
    result = run(folder, lambda: network(aux=True, dropout=0.0), samples(), samples(), **options)
    variables = [*result.model.variables, *result.model.optimizer.variables]
    np.savez(f"{out}.npz", *[np.asarray(variable) for variable in variables])
    with open(f"{out}.json", "w", encoding="utf-8") as file:
        json.dump({"history": result.history, "scores": result.scores}, file, default=np.ndarray.tolist)
