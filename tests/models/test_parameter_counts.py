"""Parameter counts at full size equal the papers' and the references'.

The networks are built in a scope that gives no variable a value, so that 136 million parameters
cost no memory.
"""

import keras
import numpy as np
import pytest

from keras_seg import models

RESNET101 = {"backbone": "resnet101"}


def drn(variant, classifier, segmenter, statistics=None):
    """The rows of a variant: the classifier of 1000 classes and the segmenter of 19."""
    for task, classes, count in (
        ("classification", 1000, classifier),
        ("segmentation", 19, segmenter),
    ):
        options = {"variant": variant, "task": task}
        yield "DRN", classes, options, count, statistics and count + statistics


def setr(variant, crop_size, classes, naive, pup, mla):
    """The rows of a variant: each decoder without and with its auxiliary heads."""
    for decoder, counts in (("naive", naive), ("pup", pup), ("mla", mla)):
        for aux, count in zip((False, True), counts, strict=True):
            options = {
                "decoder": decoder,
                "variant": variant,
                "crop_size": crop_size,
                "aux": aux,
            }
            if decoder != "mla":
                yield "SETR", classes, options, count, None
                continue
            # The class token, which no block sees, is frozen. Statistics of 8 + 8 normalisations.
            width = {"large": 1024, "base": 768}[variant]
            yield "SETR", classes, options, count - width, count + 2 * 8 * (256 + 128)


# builder, classes, options: trainable parameters, all (with BN statistics and fixed kernels)
COUNTS = [
    *drn("A-18", 11_689_512, 11_186_259),
    *drn("A-34", 21_797_672, 21_294_419),
    *drn("A-50", 25_557_032, 23_546_963, 53_120),
    *drn("B-26", 21_126_584, 20_623_331, 13_984),
    *drn("C-26", 21_126_584, 20_623_331, 13_984),
    *drn("C-42", 31_234_744, 30_731_491, 21_408),
    # The reference's weights without those of a projection that it never adds.
    *drn("C-58", 41_591_608 - 1_049_600, 41_088_355 - 1_049_600, 58_400 - 1_024),
    *drn("D-22", 16_393_752, 15_890_499, 11_776),
    *drn("D-24", 16_393_752 + 4_720_640, 15_890_499 + 4_720_640),
    *drn("D-38", 26_501_912, 25_998_659, 19_200),
    *drn("D-54", 35_809_176, 35_305_923, 55_168),
    *drn("D-105", 54_801_304, 54_298_051, 107_392),
    ("CRFRNN", 21, {}, 134_362_751 + 1_323, 134_489_759 + 1_323),
    ("DeepLabV1", 21, {}, 20_505_429, 20_505_429),
    ("DeepLabV1", 21, {"variant": "base"}, 65_140_565, None),
    ("DeepLabV1", 21, {"variant": "4x4"}, 65_140_565, None),
    ("DeepLabV1", 21, {"variant": "7x7"}, 134_346_581, None),
    ("DeepLabV1", 21, {"multiscale": True}, 21_711_550, None),
    ("DeepLabV1", 21, {"multiscale": True, "variant": "base"}, 66_346_686, None),
    ("DeepLabV2", 21, {}, 44_048_532, None),
    ("DeepLabV2", 21, {"scales": (0.75, 0.5), "aux": True}, 44_048_532, None),
    ("DeepLabV2", 21, {"backbone": "vgg16"}, 37_877_652, None),
    ("DeepLabV2", 21, {"backbone": "vgg16", "head": "aspp-s"}, 37_877_652, None),
    ("DeepLabV2", 21, {"backbone": "vgg16", "head": "largefov"}, 20_505_429, None),
    ("DeconvNet", 21, {}, 251_805_653, None),
    ("DeconvNet", 5, {"fc_channels": 256}, 42_394_053, None),
    ("DilatedFrontEnd", 21, {}, 134_346_581, 134_346_581),
    ("Dilation7", 11, {}, 134_312_343, None),
    ("Dilation8", 21, {}, 141_149_720, None),
    ("Dilation8", 21, {"context": "basic"}, 134_374_973, None),
    ("Dilation8", 11, {"context": "basic"}, 134_313_443, None),
    ("Dilation10", 19, {}, 134_368_179, None),
    ("EncNet", 150, {"aux": True, "se_loss": True}, 36_164_578, None),
    ("EncNet", 150, {}, 33_689_270, None),
    ("EncNet", 59, {"aux": True, "se_loss": True, "lateral": True}, 43_915_217, None),
    ("EncNet", 59, {"lateral": True}, 41_509_979, None),
    ("EncNet", 21, {"aux": True, "se_loss": True, "lateral": True}, 43_866_463, None),
    ("EncNet", 21, {"lateral": True}, 41_490_485, None),
    ("EncNet", 150, {**RESNET101, "aux": True, "se_loss": True}, 55_156_706, None),
    ("EncNet", 150, RESNET101, 52_681_398, None),
    (
        "EncNet",
        59,
        {**RESNET101, "aux": True, "se_loss": True, "lateral": True},
        62_907_345,
        None,
    ),
    ("EncNet", 59, {**RESNET101, "lateral": True}, 60_502_107, None),
    (
        "EncNet",
        21,
        {**RESNET101, "aux": True, "se_loss": True, "lateral": True},
        62_858_591,
        None,
    ),
    ("EncNet", 21, {**RESNET101, "lateral": True}, 60_482_613, None),
    ("DeepLabV3", 21, RESNET101, 58_040_661, None),
    ("DeepLabV3", 21, {"backbone": "resnet101", "output_stride": 8}, 58_040_661, None),
    ("DeepLabV3", 21, {}, 39_048_533, None),
    ("DeepLabV3", 21, {"form": "torchvision", "backbone": "resnet101"}, 58_630_997, None),
    ("DeepLabV3", 21, {"form": "torchvision"}, 39_638_869, None),
    (
        "DeepLabV3",
        21,
        {"form": "torchvision", "backbone": "resnet101", "aux": True},
        60_996_202,
        None,
    ),
    ("DeepLabV3", 21, {"form": "torchvision", "aux": True}, 42_004_074, None),
    (
        "DeepLabV3",
        21,
        {"form": "torchvision", "backbone": "mobilenet-v3-large"},
        11_025_477,
        None,
    ),
    (
        "DeepLabV3",
        21,
        {"form": "torchvision", "backbone": "mobilenet-v3-large", "aux": True},
        11_029_328,
        None,
    ),
    ("DeepLabV3Plus", 21, RESNET101, 59_344_309, None),
    ("DeepLabV3Plus", 21, {}, 40_352_181, None),
    ("DeepLabV3Plus", 21, {"output_stride": 8}, 40_352_181, None),
    # 9 x C + 2 x C of a normalisation + C x 256 for each 3x3 convolution of C to 256 channels.
    ("DeepLabV3Plus", 21, {"separable": True}, 26_696_133, None),
    ("FCDenseNet56", 11, {}, 1_376_795, 1_397_963),
    ("FCDenseNet56", 12, {}, 1_376_988, 1_398_156),
    ("FCDenseNet67", 11, {}, 3_463_243, 3_502_923),
    ("FCDenseNet67", 12, {}, 3_463_532, 3_503_212),
    ("FCDenseNet103", 11, {}, 9_322_091, 9_425_163),
    ("FCDenseNet103", 12, {}, 9_322_348, 9_425_420),
    ("FCDenseNet", 11, {}, 9_322_091, 9_425_163),
    ("FCN32s", 21, {}, 134_346_581, 136_152_917),
    ("FCN16s", 21, {}, 134_357_354, 134_815_994),
    ("FCN8s", 21, {}, 134_362_751, 134_489_759),
    ("FCN8s", 21, {"upsampling": "resize"}, 134_362_751, 134_362_751),
    ("FCN8s", 21, {"at_once": True}, 134_362_751, 134_489_759),
    ("FCN32s", 21, {"backbone": "alexnet"}, 56_954_261, 58_704_590),
    ("FCN32s", 21, {"backbone": "googlenet", "upsampling": "resize"}, 5_995_077, 5_995_077),
    ("FCN32s", 21, {"backbone": "googlenet"}, 5_995_077, 5_995_077 + 63 * 63 * 21 * 21),
    # The last layer alone: 4096 * 21 + 21.
    ("FCN32s", 21, {"frozen_trunk": True}, 86_037, 136_152_917),
    ("FCNLateFusion", 21, {}, 2 * 134_346_581, 2 * 134_346_581 + 64 * 64 * 21 * 21),
    # Features and classifier.
    ("MultiscaleCNN", 8, {}, 855_680 + 795_656, None),
    ("MultiscaleCNN", 33, {}, 855_680 + 821_281, None),
    ("MultiscaleCNN", 8, {"classifier": "linear"}, 855_680 + 6_152, None),
    ("MultiscaleCNN", 33, {"classifier": "linear"}, 855_680 + 25_377, None),
    ("ParseNet", 21, {}, 20_529_002, 20_529_002 + 16 * 16 * 21 * 21),
    ("ParseNet", 21, {"fusion": "early"}, 20_528_981, None),
    ("ParseNet", 21, {"fusion": "none"}, 20_505_429, None),
    ("PatchwiseCNN", 2, {"input_shape": (None, None, 1)}, 219_290, 219_290),
    ("PatchwiseCNN", 2, {"input_shape": (95, 95, 1), "mode": "patch"}, 219_290, 219_290),
    ("PatchwiseCNN", 5, {"input_shape": (None, None, 1), "variant": "ning"}, 27_101, 27_101),
    ("Pix2PixGenerator", 3, {}, 54_413_955, None),
    ("Pix2PixGenerator", 3, {"form": "torch7"}, 54_419_459, None),
    ("Pix2PixGenerator", 19, {"form": "torch7"}, 54_452_243, None),
    ("Pix2PixGenerator", 21, {"form": "torch7"}, 54_456_341, None),
    ("Pix2PixGenerator", 3, {"form": "torch7", "depth": 7}, 41_833_475, None),
    ("FCNResNet", 21, {"aux": True}, 35_322_218, None),
    ("FCNResNet", 21, {}, 32_957_013, None),
    ("FCNResNet", 21, {"aux": True, "backbone": "resnet101"}, 54_314_346, None),
    ("FCNResNet", 21, RESNET101, 51_949_141, None),
    ("PSPNet", 5, {"aux": True, "bins": ()}, 35_433_674, None),  # semseg with use_ppm=False
    ("PSPNet", 150, {"aux": True}, 49_180_908, 49_180_908 + 59_136),
    ("PSPNet", 150, {}, 46_782_550, None),
    ("PSPNet", 21, {}, 46_716_373, None),
    ("PSPNet", 19, {}, 46_715_347, None),
    ("PSPNet", 150, {"aux": True, "backbone": "resnet101"}, 68_173_036, 68_173_036 + 111_360),
    ("PSPNet", 21, {"backbone": "resnet101"}, 65_708_501, None),
    ("PSPNet", 150, {"aux": True, "backbone": "resnet152"}, 83_816_684, 83_816_684 + 157_440),
    ("PSPNet", 19, {"backbone": "resnet152"}, 81_351_123, None),
    ("PSPNet", 150, {"aux": True, "backbone": "resnet269"}, 125_697_260, None),
    ("PSPNet", 150, {"backbone": "resnet269"}, 123_298_902, None),
    *(
        ("ResNet38", 1000, {"task": "classification", "form": f}, 109_167_912, 109_215_656)
        for f in ("A", "A1", "A2")
    ),
    ("ResNet38", 1000, {"task": "classification", "blocks": (1,) * 6}, 63_732_008, None),
    ("ResNet38", 1000, {"task": "classification", "blocks": (1, 1, 1, 3, 1, 1)}, 82_612_520, None),
    ("ResNet38", 19, {}, 124_033_363, 124_033_363 + 47_744),
    ("ResNet38", 21, {"form": "A2"}, 124_042_581, None),
    ("ResNet38", 150, {}, 124_637_142, None),
    ("SegNet", 11, {}, 29_449_355, None),
    ("SegNet", 12, {}, 29_449_932, None),
    ("SegNet", 21, {}, 29_455_125, None),
    ("SegNet", 37, {}, 29_464_357, None),
    ("SegNet", 21, {"dropout": 0.5}, 29_455_125, None),
    ("SegNet", 11, {"use_bias": False}, 29_441_419, None),
    ("SegNet", 21, {"use_bias": False}, 29_447_189, None),
    ("SegNetBasic", 11, {}, 1_416_587, None),
    ("SegNetBasic", 21, {}, 1_417_237, None),
    ("SegNetBasic", 11, {"use_bias": False}, 1_416_075, None),
    *(
        ("RecurrentCNN", classes, {"variant": variant, "instances": instances}, count, count)
        for classes, count in ((8, 98_083), (33, 139_358))
        for variant, instances in (("rcnn1", 2), ("rcnn2", 3), ("rcnn2", 1))
    ),
    ("RecurrentCNN", 8, {"variant": "plain", "instances": 1}, 33_633, 33_633),
    *setr(
        "large",
        768,
        19,
        (305_728_019, 306_537_548),
        (309_596_947, 319_064_927),
        (310_737_427, 310_756_883),
    ),
    *setr(
        "large",
        512,
        150,
        (304_450_966, 305_361_496),
        (308_319_894, 317_922_542),
        (310_030_486, 310_184_086),
    ),
    *setr(
        "large",
        480,
        60,
        (304_300_860, 305_142_000),
        (308_169_788, 317_679_916),
        (309_488_700, 309_550_140),
    ),
    *setr(
        "base",
        768,
        19,
        (87_619_859, 88_231_244),
        (90_964_499, 98_071_135),
        (92_431_123, 92_450_579),
    ),
    *setr(
        "base",
        512,
        150,
        (86_670_486, 87_382_872),
        (90_015_126, 97_256_430),
        (92_051_862, 92_205_462),
    ),
    ("SMPDeepLabV3", 21, {}, 26_012_245, None),
    ("SMPDeepLabV3", 21, {"backbone": "resnet50"}, 39_638_869, None),
    ("SMPDeepLabV3", 21, RESNET101, 58_630_997, None),
    ("SMPDeepLabV3Plus", 21, {}, 22_442_597, None),
    ("SMPDeepLabV3Plus", 21, {"backbone": "resnet50"}, 26_682_725, None),
    ("SMPDeepLabV3Plus", 21, RESNET101, 45_674_853, None),
    ("SMPPSPNet", 21, {}, 1_593_397, None),
    ("SMPPSPNet", 21, {"backbone": "resnet50"}, 2_330_069, None),
    ("SMPPSPNet", 21, RESNET101, 2_330_069, None),
    ("SMPUnet", 21, {}, 24_439_269, None),
    ("SMPUnet", 21, {"backbone": "resnet50"}, 32_524_005, None),
    ("SMPUnet", 21, RESNET101, 51_516_133, None),
]


@pytest.fixture(autouse=True)
def forget_variables():
    """Variables without a value must not wait for one in later tests."""
    yield
    keras.backend.clear_session()


@pytest.mark.parametrize(("builder", "classes", "options", "trainable", "every"), COUNTS)
def test_count(builder, classes, options, trainable, every):
    with keras.StatelessScope(initialize_variables=False):
        model = models.build(builder, classes, **options)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_weights) == trainable
    if every is not None:
        assert model.count_params() == every
