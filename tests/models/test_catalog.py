"""The table of the networks: complete, and its figures those of the papers and of the networks."""

import pathlib
import runpy

import pytest

from keras_seg import cli, models
from keras_seg.models import catalog

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "model_table.py"


def test_every_network_has_a_card():
    assert [card.name for card in models.cards()] == models.list_models()


def test_figures_of_the_papers():
    cards = {card.name: card for card in models.cards()}
    unet, pspnet = cards["UNet"], cards["PSPNet"]
    assert unet.paper == "U-Net: Convolutional Networks for Biomedical Image Segmentation"
    assert (unet.year, unet.smallest, unet.output_stride) == (2015, 16, 1)
    # 31,037,698 with 2 classes (milesial); a class more has 64 weights and a bias.
    assert unet.parameters == 31_037_698 + 19 * 65
    assert (pspnet.parameters, pspnet.output_stride) == (46_716_373, 8)
    # Counted by hooks on the PyTorch networks: FCN on ResNet-50 138.4, PSPNet 177.1 with a 7x7
    # stem. The three 3x3 of ours take, in units of a map of 256 x 256, 9 * (3 * 64 + 64 * 64
    # + 64 * 128) for 49 * 3 * 64, and the first block reads 64 channels more at a quarter of the
    # size, by a 1x1 to 64 and to 256.
    assert cards["FCNResNet"].gmac == pytest.approx(138.4, rel=1e-3)
    stem = 9 * (3 * 64 + 64 * 64 + 64 * 128) - 49 * 3 * 64 + 64 * (64 + 256) / 4
    assert pspnet.gmac == pytest.approx(177.1 + stem * 256**2 / 1e9, rel=1e-3)


def test_the_shell_prints_it(capsys):
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in models.list_models():
        assert sum(line.split()[:1] == [name] for line in lines) == 1
    assert "keras:MobileNetV2" in " ".join(lines)


def test_a_file_without_a_citation_is_named():
    with pytest.raises(ValueError, match="test_a_file_without"):
        catalog.citation(test_a_file_without_a_citation_is_named)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models())
def test_the_table_is_what_the_script_measures(name):
    row = runpy.run_path(str(SCRIPT))["measure"](name)
    card = next(card for card in models.cards() if card.name == name)
    found = {key: str(value) for key, value in row.items()}
    written = {
        "name": card.name,
        "classes": str(card.classes),
        "parameters": str(card.parameters),
        "output_stride": str(card.output_stride),
        "smallest": str(card.smallest),
        "size": str(card.size),
        "gmac": f"{card.gmac:.2f}",
        "dynamic": "yes" if card.dynamic else "no",
        "files": " ".join(card.files),
    }
    assert found == written
