"""The dense CRF: recorded marginals, a plain loop over pairs, the lattice beside the exact sums."""

import dataclasses

import numpy as np
import pytest
from golden import cases

from keras_seg.crf import PRESETS, DenseCRF, MeanField, PermutohedralLattice, dense_crf, find_crf


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def scene(height, width, classes=3, seed=0, noise=1.0):
    """Soft blobs of colour, and noisy probabilities of classes that follow them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 12
    waves = rng.uniform(-1, 1, (2, 3, 3))
    phase = rng.uniform(0, 6, (3, 3))
    image = sum(
        np.sin(y[..., None] * a + x[..., None] * b + c)
        for a, b, c in zip(*waves, phase, strict=True)
    )
    image = 127.5 + 42 * image
    centres = rng.uniform(0, 255, (classes, 3))
    truth = ((image[..., None, :] - centres) ** 2).sum(-1).argmin(-1)
    logits = 0.8 * np.eye(classes)[truth] + noise * rng.standard_normal((height, width, classes))
    return softmax(logits).astype("float32"), image.round().clip(0, 255).astype("uint8")


FORMS = {
    "marginals_symmetric": {},
    "marginals_symmetric_iter1": {"iterations": 1},
    "marginals_symmetric_noself": {"self_term": False},
    "marginals_paper": {"normalization": "none", "self_term": False},
    "marginals_paper_iter1": {"normalization": "none", "self_term": False, "iterations": 1},
    "marginals_paper_weak": {"normalization": "none", "self_term": False, "w1": 0.05, "w2": 0.06},
    "marginals_after": {"normalization": "after"},
}


@pytest.fixture(scope="module")
def recorded():
    return cases.load("dense_crf_24x32")[1]


@pytest.mark.parametrize("form", FORMS)
def test_recorded_marginals(recorded, form):
    options = {"w1": 5, "theta_alpha": 50, "theta_beta": 10, "w2": 3, "theta_gamma": 3}
    crf = DenseCRF(**{**options, "iterations": 5, **FORMS[form]})
    got = crf(softmax(recorded["logits"]), recorded["image"], exact=True)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, recorded[form], atol=1e-5)


@pytest.mark.parametrize("form", [f for f in FORMS if not f.endswith("iter1")])
def test_recorded_labels_from_the_lattice(recorded, form):
    options = {"w1": 5, "theta_alpha": 50, "theta_beta": 10, "w2": 3, "theta_gamma": 3}
    crf = DenseCRF(**{**options, "iterations": 5, **FORMS[form]})
    labels = crf(softmax(recorded["logits"]), recorded["image"]).argmax(axis=-1)
    assert (labels == recorded[form].argmax(axis=-1)).mean() > 0.98
    if form == "marginals_symmetric":
        assert (labels == recorded["labels_pydensecrf"]).mean() > 0.98


@pytest.mark.parametrize("iterations", [1, 5, 10])
def test_recorded_probabilities(iterations):
    case, reference = cases.load("dense_crf_exact")
    inputs = {name: value[0].transpose(1, 2, 0) for name, value in cases.inputs(case).items()}
    assert inputs["rgb"].min() > 0 and inputs["rgb"].max() < 255
    crf = DenseCRF(w1=4, theta_alpha=30, theta_beta=13, w2=3, theta_gamma=3, iterations=iterations)
    got = crf(softmax(inputs["logits"]), inputs["rgb"], exact=True)
    name = f"probability_{iterations}"
    assert cases.relative_error(case, name, got[None], reference[name]) < 1e-5


def test_pydensecrf_fixture():
    """specs/crf.md A5: 4 x 5 pixels, which pydensecrf agrees with to 1.8e-5."""
    rng = np.random.RandomState(0)
    image = rng.randint(0, 256, (4, 5, 3)).astype("uint8")
    q = dense_crf(softmax(rng.randn(4, 5, 3)), image, "pydensecrf", exact=True)
    labels = [[2, 1, 0, 0, 2], [0, 0, 0, 1, 2], [2, 0, 1, 0, 0], [0, 2, 1, 2, 2]]
    np.testing.assert_array_equal(q.argmax(-1), labels)
    np.testing.assert_allclose(q[0, 0], [1.9e-5, 2e-6, 0.999979], atol=1e-6)
    np.testing.assert_allclose(q[-1, -1], [2.3e-5, 4e-6, 0.999974], atol=1e-6)
    assert q[..., 0].sum() == pytest.approx(9.00015, abs=1e-5)


def by_pairs(p, image, crf):
    """As the class's docstring writes it, one pair of pixels after the other."""
    height, width, classes = p.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    kernels = np.zeros((2, len(places), len(places)))
    for i, a in enumerate(places):
        for j, b in enumerate(places):
            far = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
            unlike = ((image[a] - image[b]) ** 2).sum()
            kernels[0, i, j] = np.exp(
                -far / (2 * crf.theta_alpha**2) - unlike / (2 * crf.theta_beta**2)
            )
            kernels[1, i, j] = np.exp(-far / (2 * crf.theta_gamma**2))
            if i == j and not crf.self_term:
                kernels[:, i, j] = 0
    sums = kernels.sum(axis=2)
    if crf.normalization == "before":
        kernels /= sums[:, None, :]
    if crf.normalization == "symmetric":
        kernels /= np.sqrt(sums[:, :, None] * sums[:, None, :])
    if crf.normalization == "mean":
        kernels /= sums.mean(axis=1)[:, None, None]
    weights = [np.eye(classes) * w if np.ndim(w) < 2 else np.array(w) for w in (crf.w1, crf.w2)]
    start = np.log(p.reshape(-1, classes))
    q = softmax(start)
    for _ in range(crf.iterations):
        message = sum(kernel @ q @ w.T for kernel, w in zip(kernels, weights, strict=True))
        q = softmax(start + message)
    return q.reshape(p.shape)


@pytest.mark.parametrize(
    "options",
    [
        {"normalization": "before"},
        {"normalization": "mean", "self_term": False},
        {"w1": (1.0, 0.5, 2.0), "w2": np.array([[1, -1, 0], [0, 2, 0.5], [-0.3, 0, 1]])},
    ],
)
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_equals_a_loop_over_pairs(options, channels):
    p, image = scene(6, 7)
    image = np.concatenate([image, image[::-1]], axis=-1)[..., :channels].astype("float64")
    crf = DenseCRF(theta_alpha=4, theta_beta=40, theta_gamma=1.5, iterations=3, **options)
    got = crf(p, image, exact=True)
    np.testing.assert_allclose(got, by_pairs(p.astype("float64"), image, crf), atol=2e-5)


def test_one_channel_is_a_grey_picture():
    p, image = scene(12, 14)
    grey = image[..., :1]
    expected = dense_crf(p, np.repeat(grey, 3, axis=-1), "pydensecrf", exact=True)
    got = dense_crf(p, grey, "pydensecrf", exact=True)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_crf_rnn_is_the_layer_at_its_start():
    p, image = scene(9, 11)
    got = dense_crf(p, image, "crf_rnn", exact=True)
    layer = softmax(np.asarray(MeanField()(np.log(p)[None], image[None].astype("float32"))[0]))
    np.testing.assert_allclose(got, layer, atol=1e-5)


@pytest.mark.parametrize(
    ("crf", "equal"),
    [
        (find_crf("pydensecrf"), 0.985),
        (DenseCRF(w1=4, theta_alpha=30, theta_beta=5, theta_gamma=3, iterations=5), 0.985),
        (DenseCRF(w1=5, theta_alpha=160, theta_beta=3, theta_gamma=3, iterations=5), 0.98),
    ],
    ids=["80/13", "30/5", "160/3"],
)
@pytest.mark.parametrize("size", [(32, 40), (64, 64)])
def test_labels_of_the_lattice_are_those_of_the_exact_kernel(crf, equal, size):
    """specs/crf.md A5: pydensecrf's lattice reaches 98.7, 97.2 and 88.3 % on such pictures."""
    shares = []
    for seed in range(3):
        p, image = scene(*size, seed=seed)
        exact = crf(p, image, exact=True).argmax(-1)
        shares.append((crf(p, image).argmax(-1) == exact).mean())
        assert (p.argmax(-1) == exact).mean() < 0.9
    print(f"{size} {crf.theta_alpha}/{crf.theta_beta}: {np.round(shares, 4)}")
    assert np.mean(shares) >= equal


def test_the_noise_goes_and_the_edges_stay():
    truth = np.zeros((60, 80), int)
    truth[20:45, 30:61] = 1
    rng = np.random.default_rng(3)
    image = np.where(truth == 1, 200, 60)[..., None] + rng.normal(0, 2, (60, 80, 3))
    p = softmax(np.eye(2)[truth] + rng.normal(0, 1.2, (60, 80, 2)))
    assert (p.argmax(-1) == truth).mean() < 0.8
    assert (dense_crf(p, image, "pydensecrf").argmax(-1) == truth).all()


def test_lattice_sums_are_those_of_the_gaussian():
    """Many positions close together: there only the constant factor could be wrong."""
    rng = np.random.default_rng(0)
    for d in (2, 5):
        features = rng.uniform(0, 4, (3000, d))
        squares = ((features[:, None] - features) ** 2).sum(-1)
        values = rng.uniform(0, 1, (2, 3000)).astype("float32")
        exact = values @ np.exp(-0.5 * squares)
        lattice = PermutohedralLattice(features)
        got = lattice.filter(values)
        assert got.mean() == pytest.approx(exact.mean(), rel=0.03), d
        assert np.abs(got / exact - 1).mean() < 0.1, d
        # What the position in the middle gets back of itself, from its value alone.
        middle = ((features - 2) ** 2).sum(axis=1).argmin()
        one = np.zeros((1, 3000), "float32")
        one[0, middle] = 1
        assert lattice.filter(one)[0, middle] == pytest.approx(lattice.diagonal[middle], rel=1e-3)


def test_lattice_transposed():
    rng = np.random.default_rng(1)
    lattice = PermutohedralLattice(rng.normal(0, 2, (400, 5)))
    x, y = rng.standard_normal((2, 1, 400)).astype("float32")
    there, back = (lattice.filter(x) * y).sum(), (x * lattice.filter(y, transposed=True)).sum()
    assert there == pytest.approx(back, rel=1e-4)
    assert there != pytest.approx((x * lattice.filter(y)).sum(), rel=1e-4)


def test_presets():
    """Parameters as specs/crf.md A4 lists them."""
    v1 = {
        "deeplab_v1": (5, 50, 10),
        "deeplab_v1_msc": (3, 95, 3),
        "deeplab_v1_largefov": (4, 121, 5),
        "deeplab_v1_msc_largefov": (4, 83, 5),
        "deeplab_v1_coco": (5, 67, 3),
        "deeplab_v1_coco_largefov": (5, 69, 5),
        "deeplab_v1_msc_coco_largefov": (4, 59, 5),
    }
    expected = {name: (*values, 3, 3, 10) for name, values in v1.items()}
    expected["pydensecrf"] = (10, 80, 13, 3, 3, 5)
    expected["krahenbuhl_koltun_msrc"] = (10, 61, 11, 1, 1, 10)
    expected["deeplab"] = expected["deeplab_v2"] = (4, 67, 3, 3, 1, 10)
    expected["deconvnet"] = (5, 20, 3, 3, 3, 10)  # specs/deconvnet.md, test, item 4
    expected["crf_rnn"] = (5, 160, 3, 3, 3, 10)
    assert {name: dataclasses.astuple(crf)[:6] for name, crf in PRESETS.items()} == expected
    assert find_crf("deeplab", w1=5).w1 == 5


P, IMAGE = scene(5, 6)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((P, IMAGE[:4]), {}, "probabilities are 5 x 6 pixels, the image 4 x 6"),
        ((P[..., 0], IMAGE), {}, r"probabilities \(H, W, K\).*got the shape \(5, 6\)"),
        ((P, IMAGE[..., 0]), {}, r"image \(H, W, C\), got the shape \(5, 6\)"),
        ((np.log(P), IMAGE), {}, "Logits need a softmax"),
        ((P * np.nan, IMAGE), {}, "values from nan to nan"),
        ((P, IMAGE / 255), {}, "compares colours 0..255, got float64"),
        ((P, IMAGE - 120.0), {}, "compares colours 0..255, got float64"),
        ((P, np.full((5, 6, 3), np.inf)), {}, "not finite"),
        ((P, IMAGE, "deeplab_v3"), {}, "Unknown CRF 'deeplab_v3'. Did you mean 'deeplab"),
        ((P, IMAGE), {"theta": 3}, "Unknown parameter of the CRF 'theta'"),
        ((P, IMAGE), {"theta_beta": 0}, "theta_beta must be a number above 0, got 0"),
        ((P, IMAGE), {"theta_beta": "3"}, "theta_beta must be a number above 0, got '3'"),
        ((P, IMAGE), {"iterations": 0}, "iterations must be a whole number of at least 1, got 0"),
        ((P, IMAGE), {"normalization": "symetric"}, "Did you mean 'symmetric'"),
        ((P, IMAGE), {"w1": [1, 2]}, "w1 is for 2 classes, there are 3"),
        ((P, IMAGE), {"w2": [[1, 2, 3]]}, "w2 must be a number, one for each class, or a square"),
        ((P, IMAGE), {"theta_alpha": 1e-4, "theta_beta": 1e-4}, "make the widths"),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        dense_crf(*arguments, **options)


def test_exact_says_how_much_memory_it_would_take():
    p, image = np.full((375, 500, 2), 0.5), np.zeros((375, 500, 3), "uint8")
    with pytest.raises(ValueError, match="exact kernel of 187500 pixels takes 131.0 GiB"):
        dense_crf(p, image, exact=True)
