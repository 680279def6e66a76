"""PSPNet on Cityscapes, by the paper's protocol (Zhao et al. 2017, section 5.4).

    python recipes/pspnet_cityscapes.py --data-dir cityscapes --folder runs/pspnet_cityscapes \\
        --layers 101 --weights resnet101_v2.pth

The folder holds leftImg8bit/ and gtFine/ (2,975 train, 500 val; 19 classes). --layers 50, 101, 152
or 269 is the depth of the trunk.

As recipes/pspnet_ade20k.py, which it shares its code with: crop 713, batch 16, 200 epochs, rotation
but no blur; test with long sides of 2048, windows of 713, mirror images, one and six scales.
Hardware: the authors' code spreads the 16 crops of a step over 8 GPUs; not timed.
Published: 78.4 mIoU on the test set (101, fine labels), 80.2 with the coarse ones; semseg on val:
77.30 one, 78.38 six scales (50), 78.63 and 79.29 (101).
Where we differ: as there (the paper: 90,000 iterations); the scores are those of val, since the
test set's labels are not public; coarse labels are not used.
Measured: not run at full length.
"""

import pspnet_ade20k as pspnet

from keras_seg import recipe


def main(arguments=None):
    options = pspnet.read_options(__doc__, "runs/pspnet_cityscapes", 200, "cityscapes", arguments)
    splits = [recipe.open_split(options, split) for split in ("train", "val")]
    pspnet.run(options, *splits, crop=713, base_size=2048, blur=0.0)


if __name__ == "__main__":
    main()
