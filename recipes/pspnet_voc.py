"""PSPNet on PASCAL VOC 2012 with SBD, by the paper's protocol (Zhao et al. 2017, section 5.3).

    python recipes/pspnet_voc.py --data-dir VOCdevkit --folder runs/pspnet_voc \\
        --sbd SBD --layers 101 --weights resnet101_v2.pth

Training is on trainaug (10,582 images of VOC 2012 and SBD), scored is val (1,449). --layers 50,
101, 152 or 269 is the depth of the trunk.

As recipes/pspnet_ade20k.py, which it shares its code with: crop 473, batch 16, 50 epochs, rotation
and blur; test with long sides of 512, windows of 473, mirror images, one and six scales.
Hardware: the authors' code spreads the 16 crops of a step over 8 GPUs; not timed.
Published: 82.6 mIoU on the test set (101, six scales), 85.4 with MS COCO; semseg on val: 77.05 one,
78.02 six scales (50), 79.07 and 79.63 (101).
Where we differ: as there; the scores are those of val, since the test set's labels are not public;
the paper's start from MS COCO is a run of its own (--weights takes its best.keras with
--weights-layout "").
Measured: not run at full length.
"""

import pspnet_ade20k as pspnet

from keras_seg import recipe


def main(arguments=None):
    options = pspnet.read_options(
        __doc__, "runs/pspnet_voc", 50, "voc", arguments, texts=recipe.SBD
    )
    splits = recipe.open_voc(options, "trainaug", "val")
    pspnet.run(options, *splits, crop=473, base_size=512, blur=0.5)


if __name__ == "__main__":
    main()
