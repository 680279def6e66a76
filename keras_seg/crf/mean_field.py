"""Mean-field inference in a fully connected CRF, unrolled into a layer (CRF-RNN).

Zheng et al. "Conditional Random Fields as Recurrent Neural Networks", ICCV 2015,
https://arxiv.org/abs/1502.03240, section 4; the model is that of Krähenbühl and Koltun, "Efficient
Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011. Conventions as in
sadeepj/crfasrnn_keras; start values as in torrvision/crfasrnn.
"""

import functools
import numbers

import keras
import numpy as np
from keras import ops

from keras_seg.crf.dense import bilateral_features
from keras_seg.crf.lattice import PermutohedralLattice
from keras_seg.utils import check_counts, unknown_name

# Up to this many numbers the bilateral kernel of an image is held whole: 64 x 64 pixels, 64 MiB.
MAX_KERNEL = 4096**2
# Otherwise this many are computed at a time, for all images of a batch: 8 MiB, which a processor's
# caches take twice as fast as 64 MiB.
BLOCK = 2**21


@keras.saving.register_keras_serializable("keras_seg")
class MeanField(keras.layers.Layer):
    """Refine logits (N, H, W, K) by an image (N, H, W, C) of the same size: `layer(logits, image)`.

    From q = logits, each iteration computes, with s = softmax(q) over the classes,

        a = G_spatial s / G_spatial 1,    G_spatial = exp(-|p - p'|^2 / (2 theta_gamma^2))
        b = G_bilateral s / G_bilateral 1,
            G_bilateral = exp(-|p - p'|^2 / (2 theta_alpha^2) - |I - I'|^2 / (2 theta_beta^2))
        q = logits - compatibility (W_spatial a + W_bilateral b)

    over all pairs of pixels, each with itself too; p in pixels, I the channels of `image`. Trained
    are the three K x K matrices `spatial_ker_weights`, `bilateral_ker_weights` and
    `compatibility_matrix`. The result is q, without a softmax.

    The spatial filter is exact, one dimension after the other. The bilateral one is exact or, with
    `bilateral="lattice"`, approximated as in the published code; weights trained with one can be
    used with the other. Gradients reach the logits and the matrices, not the image.

    - "exact" takes time that grows with the square of the number of pixels, in every iteration. The
      kernel is held whole up to 64 x 64 pixels (64 MiB an image). For larger images, and such whose
      size is not known before the graph runs, it is computed again in each iteration, forward and
      backward, in blocks of 8 MiB, of which TensorFlow works on ten at a time (measured: 300 MB).
      Ten iterations on 100 x 100 pixels take 5 s on two processor cores, a third of that with XLA,
      and the paper's 500 x 500 pixels 600 times as long.
    - "lattice" is computed by NumPy on the processor, also within a graph of TensorFlow or JAX (see
      `PermutohedralLattice`): seconds for 500 x 500 pixels. No exported file can hold it, nor can
      XLA on TensorFlow compile it. The lattices of the last two batches stay in memory, about
      60 MB for an image of that size.

    It computes in float32 under every precision policy.

    Args:
        iterations: of inference, at least 1.
        training_iterations: with `training=True`, at least 1.
        theta_alpha, theta_beta: widths of the bilateral kernel, in pixels and in units of `image`
            (0..255: a constant offset, such as a subtracted mean, changes nothing).
        theta_gamma: width of the spatial kernel in pixels.
        spatial_weight, bilateral_weight, compatibility: the matrices start as these times the
            identity.
        bilateral: "exact" or "lattice".

    Raises:
        ValueError: for an argument out of range, or an image of another size than the logits.
    """

    def __init__(
        self,
        iterations=10,
        training_iterations=5,
        theta_alpha=160.0,
        theta_beta=3.0,
        theta_gamma=3.0,
        spatial_weight=3.0,
        bilateral_weight=5.0,
        compatibility=-1.0,
        bilateral="exact",
        **kwargs,
    ):
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        check_counts(iterations=iterations, training_iterations=training_iterations)
        for name, value in (
            ("theta_alpha", theta_alpha),
            ("theta_beta", theta_beta),
            ("theta_gamma", theta_gamma),
        ):
            if not (isinstance(value, numbers.Real) and value > 0):
                raise ValueError(f"{name} must be a number above 0, got {value!r}.")
        self.iterations, self.training_iterations = iterations, training_iterations
        self.theta_alpha, self.theta_beta, self.theta_gamma = theta_alpha, theta_beta, theta_gamma
        self.spatial_weight, self.bilateral_weight = spatial_weight, bilateral_weight
        self.compatibility = compatibility
        if bilateral not in ("exact", "lattice"):
            raise unknown_name("bilateral filter", bilateral, ("exact", "lattice"))
        self.bilateral = bilateral
        if bilateral == "lattice" and keras.backend.backend() == "tensorflow":
            self.supports_jit = False

    def build(self, logits_shape, image_shape):
        for ours, theirs in zip(logits_shape[1:3], image_shape[1:3], strict=True):
            if ours is not None and theirs is not None and ours != theirs:
                raise ValueError(
                    f"The logits are {logits_shape[1]} x {logits_shape[2]} pixels, the image "
                    f"{image_shape[1]} x {image_shape[2]}; the CRF needs one size for both."
                )
        classes = logits_shape[-1]

        def matrix(name, diagonal):
            return self.add_weight(
                shape=(classes, classes),
                initializer=keras.initializers.Identity(diagonal),
                name=name,
            )

        self.spatial_ker_weights = matrix("spatial_ker_weights", self.spatial_weight)
        self.bilateral_ker_weights = matrix("bilateral_ker_weights", self.bilateral_weight)
        self.compatibility_matrix = matrix("compatibility_matrix", self.compatibility)

    def call(self, logits, image, training=None):
        spatial = self._spatial_filter(logits)
        bilateral = self._bilateral_filter(ops.stop_gradient(image))
        q = logits
        for _ in range(self.training_iterations if training else self.iterations):
            s = ops.softmax(q, axis=-1)
            message = _mix(spatial(s), self.spatial_ker_weights)
            message = message + _mix(bilateral(s), self.bilateral_ker_weights)
            q = logits - _mix(message, self.compatibility_matrix)
        return q

    def _spatial_filter(self, logits):
        """Function of (N, H, W, K); its kernel is a product, of one over rows, one over columns."""

        def matrix(size):
            position = ops.cast(ops.arange(size), self.compute_dtype)[:, None] / self.theta_gamma
            kernel = _gaussian(position, position)
            return kernel / ops.sum(kernel, axis=-1, keepdims=True)

        size = ops.shape(logits)
        rows, columns = matrix(size[1]), matrix(size[2])

        def apply(s):
            s = ops.matmul(columns, s)  # (W, W) (N, H, W, K)
            height, width, classes = size[1], size[2], s.shape[-1]
            s = ops.matmul(rows, ops.reshape(s, (-1, height, width * classes)))
            return ops.reshape(s, (-1, height, width, classes))

        return apply

    def _bilateral_filter(self, image):
        """Function of (N, H, W, K)."""
        if self.bilateral == "lattice":
            widths = float(self.theta_alpha), float(self.theta_beta)
            return lambda s: _filter_on_lattice(image, s, widths)
        size = ops.shape(image)
        batch, height, width = size[:3]
        pixels = height * width
        zeros = ops.zeros_like(image[..., :1])
        y = ops.cast(ops.arange(height), self.compute_dtype)[:, None, None]
        x = ops.cast(ops.arange(width), self.compute_dtype)[:, None]
        features = ops.concatenate(
            [zeros + y / self.theta_alpha, zeros + x / self.theta_alpha, image / self.theta_beta],
            axis=-1,
        )
        features = ops.reshape(features, (-1, pixels, features.shape[-1]))
        if isinstance(pixels, int) and pixels**2 <= MAX_KERNEL:
            kernel = _gaussian(features, features)
            total = ops.sum(kernel, axis=-1, keepdims=True)

            def filtered(s):
                return ops.matmul(kernel, s)
        else:
            rows = _rows_of_a_block(batch, pixels)

            def filtered(s):
                return _filter_in_blocks(features, s, rows)

            total = filtered(ops.ones_like(features[..., :1]))

        def apply(s):
            classes = s.shape[-1]
            s = filtered(ops.reshape(s, (-1, pixels, classes))) / total
            return ops.reshape(s, (-1, height, width, classes))

        return apply

    def compute_output_shape(self, logits_shape, image_shape):
        return tuple(logits_shape)

    def get_config(self):
        names = (
            "iterations",
            "training_iterations",
            "theta_alpha",
            "theta_beta",
            "theta_gamma",
            "spatial_weight",
            "bilateral_weight",
            "compatibility",
            "bilateral",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _mix(s, matrix):
    """The matrix times the classes of each pixel: (N, H, W, K)."""
    return ops.matmul(s, ops.transpose(matrix))


def _gaussian(a, b):
    """exp(-|a_i - b_j|^2 / 2): (..., n, D), (..., m, D) -> (..., n, m).

    By differences: expanded into products, squares of colours would eat the digits of float32.
    """
    square = 0
    b = ops.swapaxes(b, -1, -2)
    # Slices keep their axis: a phone's GPU has none that drop or add one.
    for d in range(a.shape[-1]):
        square = square + ops.square(a[..., d : d + 1] - b[..., d : d + 1, :])
    return ops.exp(-0.5 * square)


def _rows_of_a_block(batch, pixels):
    """How many rows of the kernels of a batch `BLOCK` numbers hold, at least one."""
    if isinstance(pixels, int) and isinstance(batch, int):
        return min(max(BLOCK // (batch * pixels), 1), pixels)
    return ops.minimum(ops.maximum(BLOCK // (batch * pixels), 1), pixels)


def _filter_in_blocks(features, s, rows):
    """Gaussian kernel of the features (N, P, D) times s (N, P, K), never held whole."""

    def product(features, s):
        pixels, dimensions = ops.shape(features)[1], features.shape[-1]
        blocks = -(-pixels // rows)
        padded = ops.pad(features, ((0, 0), (0, blocks * rows - pixels), (0, 0)))
        padded = ops.reshape(padded, (-1, blocks, rows, dimensions))
        result = ops.map(
            lambda block: ops.matmul(_gaussian(block, features), s),
            ops.transpose(padded, (1, 0, 2, 3)),
        )
        result = ops.transpose(result, (1, 0, 2, 3))
        return ops.reshape(result, (-1, blocks * rows, s.shape[-1]))[:, :pixels]

    @ops.custom_gradient
    def filtered(features, s):
        def gradient(*args, upstream=None):
            """The kernel is symmetric, and constant for the gradient."""
            (upstream,) = args if upstream is None else (upstream,)
            return ops.zeros_like(features), product(features, upstream)

        return product(features, s), gradient

    return filtered(features, s)


def _filter_on_lattice(image, s, widths):
    """Normalised bilateral filter of s (N, H, W, K) by images (N, H, W, C), in NumPy."""
    forward = functools.partial(_host_filter, widths, False)
    backward = functools.partial(_host_filter, widths, True)

    @ops.custom_gradient
    def filtered(image, s):
        def gradient(*args, upstream=None):
            (upstream,) = args if upstream is None else (upstream,)
            return ops.zeros_like(image), _on_host(backward, image, upstream)

        return _on_host(forward, image, s), gradient

    return filtered(image, s)


def _on_host(function, image, s):
    """`function` of two NumPy arrays as an operation of the backend, with the shape of s."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        result = tf.numpy_function(function, [image, s], s.dtype)
        result.set_shape(s.shape)
        return result
    if backend == "jax":
        import jax

        return jax.pure_callback(function, jax.ShapeDtypeStruct(s.shape, s.dtype), image, s)
    return ops.convert_to_tensor(function(ops.convert_to_numpy(image), ops.convert_to_numpy(s)))


def _host_filter(widths, transposed, image, s):
    image, s = np.asarray(image, "float32"), np.asarray(s)
    result = np.empty_like(s)
    for n, (lattice, total) in enumerate(_lattices(image.tobytes(), image.shape, widths)):
        values = s[n].reshape(-1, s.shape[-1]).T
        if transposed:
            values = lattice.filter(values / total, transposed=True)
        else:
            values = lattice.filter(values) / total
        result[n] = values.T.reshape(s.shape[1:])
    return result


@functools.lru_cache(maxsize=2)
def _lattices(pixels, shape, widths):
    """[(lattice, its row sums)] of the images of a batch: once for all iterations, and backward."""
    found = []
    for image in np.frombuffer(pixels, "float32").reshape(shape):
        lattice = PermutohedralLattice(bilateral_features(image, *widths))
        ones = np.ones((1, image.shape[0] * image.shape[1]), "float32")
        found.append((lattice, np.maximum(lattice.filter(ones)[0], np.float32(1e-20))))
    return found
