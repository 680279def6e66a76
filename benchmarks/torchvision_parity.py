"""Outputs of torchvision's segmentation networks against ours, with the same random weights.

    pip install torch torchvision
    KERAS_BACKEND=torch python benchmarks/torchvision_parity.py

Each network is made with random weights and statistics, its `state_dict` goes through
`keras_seg.weights.load(..., layout="torchvision")` into ours, and both see the same two images.
Printed is the relative maximum error, max |a - b| / max |b|, of the logits and the auxiliary ones.
Any backend of Keras that is installed will do.
"""

import keras
import numpy as np
import torch
from torchvision.models import segmentation

from keras_seg import models, weights

# network of torchvision, our builder and its options, rows and columns of the images
CASES = [
    ("fcn_resnet50", "FCNResNet", {"backbone": "resnet50"}, (65, 97)),
    ("fcn_resnet101", "FCNResNet", {"backbone": "resnet101"}, (64, 80)),
    ("deeplabv3_resnet50", "DeepLabV3", {"backbone": "resnet50"}, (97, 64)),
    ("deeplabv3_resnet101", "DeepLabV3", {"backbone": "resnet101"}, (75, 101)),
    ("deeplabv3_mobilenet_v3_large", "DeepLabV3", {"backbone": "mobilenet-v3-large"}, (96, 128)),
    ("deeplabv3_mobilenet_v3_large", "DeepLabV3", {"backbone": "mobilenet-v3-large"}, (75, 101)),
]
CLASSES = 5


def main():
    for seed, (network, builder, options, size) in enumerate(CASES):
        torch.manual_seed(seed)
        theirs = getattr(segmentation, network)(
            weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
        ).eval()
        for module in theirs.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for tensor, low, high in (
                    (module.running_mean, -0.2, 0.2),
                    (module.running_var, 0.5, 1.5),
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.2, 0.2),
                ):
                    torch.nn.init.uniform_(tensor, low, high)
        if builder == "DeepLabV3":
            options = {"form": "torchvision", **options}
        ours = getattr(models, builder)(CLASSES, aux=True, preprocessing="none", **options)
        state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
        weights.load(ours, state, layout="torchvision")

        image = np.random.default_rng(seed).normal(size=(2, *size, 3)).astype("float32")
        with torch.inference_mode():
            expected = theirs(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
        found = ours(image, training=False)
        errors = []
        for key, name in (("out", "logits"), ("aux", "aux")):
            want = expected[key].numpy().transpose(0, 2, 3, 1)
            got = keras.ops.convert_to_numpy(found[name])
            errors.append(f"{name} {np.abs(got - want).max() / np.abs(want).max():.1e}")
        print(f"{network:30} {size[0]:4} x {size[1]:3}  {'  '.join(errors)}", flush=True)
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
