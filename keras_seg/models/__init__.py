"""One builder a paper. Each returns a `keras.Model` from pixels 0..255 to float32 logits.

`list_models()` names them, `build("UNet", num_classes=21)` is the call by name. With this module
imported, `keras.saving.load_model` opens every file of such a model, also a compiled one.
"""

import inspect

# Losses, metrics and optimizers are not used here. Keras finds what a file was compiled with by its
# registered name, and registered is what has been imported.
import keras_seg.losses
import keras_seg.metrics
import keras_seg.training  # noqa: F401
from keras_seg.layers import inference_model
from keras_seg.models import catalog
from keras_seg.models.crf_rnn import CRFRNN
from keras_seg.models.deconvnet import DeconvNet
from keras_seg.models.deeplab_v1 import DeepLabV1
from keras_seg.models.deeplab_v2 import DeepLabV2
from keras_seg.models.deeplab_v3 import DeepLabV3
from keras_seg.models.deeplab_v3_plus import DeepLabV3Plus
from keras_seg.models.dilated import DilatedFrontEnd, Dilation7, Dilation8, Dilation10
from keras_seg.models.drn import DRN
from keras_seg.models.encnet import EncNet
from keras_seg.models.fc_densenet import (
    FCDenseNet,
    FCDenseNet56,
    FCDenseNet67,
    FCDenseNet103,
)
from keras_seg.models.fcn import FCN8s, FCN16s, FCN32s, FCNLateFusion, transfer_fcn
from keras_seg.models.fcn_resnet import FCNResNet
from keras_seg.models.luc_adversarial import LargeFOVAdversary, SmallFOVAdversary
from keras_seg.models.multiscale import MultiscaleCNN
from keras_seg.models.parsenet import ParseNet
from keras_seg.models.patchwise import PatchwiseCNN
from keras_seg.models.pix2pix import PatchGAN, Pix2PixGenerator, PixelGAN
from keras_seg.models.pspnet import PSPNet
from keras_seg.models.recurrent_cnn import RecurrentCNN
from keras_seg.models.resnet38 import ResNet38
from keras_seg.models.segnet import SegNet, SegNetBasic
from keras_seg.models.setr import SETR
from keras_seg.models.smp import SMPDeepLabV3, SMPDeepLabV3Plus, SMPPSPNet, SMPUnet
from keras_seg.models.unet import UNet
from keras_seg.utils import unknown_name
from keras_seg.weights import find_published

_BUILDERS = (
    CRFRNN,
    DRN,
    DeepLabV1,
    DeepLabV2,
    DeepLabV3,
    DeepLabV3Plus,
    DeconvNet,
    DilatedFrontEnd,
    Dilation7,
    Dilation8,
    Dilation10,
    EncNet,
    FCDenseNet,
    FCDenseNet56,
    FCDenseNet67,
    FCDenseNet103,
    FCN8s,
    FCN16s,
    FCN32s,
    FCNLateFusion,
    FCNResNet,
    MultiscaleCNN,
    ParseNet,
    PatchwiseCNN,
    Pix2PixGenerator,
    PSPNet,
    RecurrentCNN,
    ResNet38,
    SegNet,
    SegNetBasic,
    SETR,
    SMPDeepLabV3,
    SMPDeepLabV3Plus,
    SMPPSPNet,
    SMPUnet,
    UNet,
)
# They judge label maps and make none, so they are in no list of segmentation networks.
_ADVERSARIES = (LargeFOVAdversary, PatchGAN, PixelGAN, SmallFOVAdversary)

__all__ = ["build", "cards", "inference_model", "list_models", "pretrained", "transfer_fcn"]
__all__ += [builder.__name__ for builder in (*_BUILDERS, *_ADVERSARIES)]


def list_models():
    """Names of all builders, sorted, without the adversaries, which judge label maps."""
    return sorted(builder.__name__ for builder in _BUILDERS)


def cards():
    """Paper, parameters, smallest image, GMAC of each network: a list of `catalog.Card`."""
    return catalog.read_table(_BUILDERS)


def build(model, num_classes, input_shape=None, **options):
    """Call the builder named `model`; `options` are its own arguments.

    Without an `input_shape` it is the builder's own default: any size, RGB; one channel for
    `PatchwiseCNN`, RGB and three of depth for `FCNLateFusion`.

    Raises:
        ValueError: for an unknown name, an option that this builder does not have, with the
            nearest ones that exist, or a value of a type that it cannot work with.
    """
    builders = {builder.__name__: builder for builder in _BUILDERS}
    if model not in builders:
        raise unknown_name("model", model, builders)
    builder = builders[model]
    known = inspect.signature(builder).parameters
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {model}", option, known)
    if input_shape is not None:
        options["input_shape"] = input_shape
    try:
        return builder(num_classes, **options)
    except TypeError as error:  # Keras' own, deep in some layer: a width "abc", a list for a number
        raise ValueError(f"{model} cannot be built with the options {options}: {error}") from error


def pretrained(name):
    """The network of the published weights `name`, such as "nuclei", built as their card says.

    Raises:
        ValueError: as `keras_seg.weights.find_published`.
    """
    card = find_published(name)
    return build(card.model, card.num_classes, **card.options, weights=name)
