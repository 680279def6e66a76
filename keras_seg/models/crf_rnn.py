"""CRF-RNN: FCN-8s with mean-field inference as its last layer.

Zheng, Jayasumana, Romera-Paredes, Vineet, Su, Du, Huang, Torr. "Conditional Random Fields as
Recurrent Neural Networks", ICCV 2015. https://arxiv.org/abs/1502.03240; details as in the authors'
torrvision/crfasrnn and in sadeepj/crfasrnn_keras.

    part       operations                                                     channels   stride
    FCN-8s     see `keras_seg.models.FCN8s`; its logits are the unaries              K   1
    logits     10 mean-field iterations (5 in training) over unaries and             K   1
               image, see `keras_seg.crf.MeanField`

    parameters, 21 classes      134,491,082, of which 1,323 = 3 * 21 * 21 are of the CRF
                                134,364,074 without the fixed kernels

Faithful: FCN-8s without scaling of the pooled maps; the three learned matrices and their start;
widths of the kernels 160, 3, 3 in pixels 0..255; normalisation by the filtered ones; iterations in
training and test; training in two steps (section 6: first the FCN alone, then all of it jointly):
give the file of the first as `fcn_weights`.

Where we differ: the filters are exact, the release's an approximation on a lattice. They cost the
square of the number of pixels: on two processor cores 0.6 s for 64 x 64, 5 s for 100 x 100 and
about an hour for the paper's 500 x 500 (memory stays small, see `MeanField`);
`bilateral="lattice"` is the release's approximation, in seconds, but not for files. The release has
a bias in the first up-sampling, 21 more parameters; our FCN-8s has none, since its up-sampling is
fixed. ONNX files are for images of up to 64 x 64 pixels; TFLite files hold a loop (WHILE) beyond.
For larger images export FCN-8s.
"""

import keras

from keras_seg.crf import MeanField
from keras_seg.models.fcn import FCN8s
from keras_seg.weights import load_own


def CRFRNN(
    num_classes,
    input_shape=(None, None, 3),
    *,
    filters=64,
    fc_channels=4096,
    legacy_padding=True,
    upsampling="deconv",
    dropout=0.5,
    iterations=10,
    training_iterations=5,
    theta_alpha=160.0,
    theta_beta=3.0,
    theta_gamma=3.0,
    bilateral="exact",
    preprocessing="caffe",
    fcn_weights=None,
    weights=None,
    name="crf_rnn",
):
    """Build CRF-RNN as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W may be None. Any size works; with `bilateral="exact"` time
            grows with the square of the number of pixels.
        filters, fc_channels, legacy_padding, upsampling, dropout: of `FCN8s`.
        iterations, training_iterations, theta_alpha, theta_beta, theta_gamma, bilateral: of
            `keras_seg.crf.MeanField`, which sees the image in pixels 0..255.
        preprocessing: what is done to pixels 0..255 before FCN-8s, see
            `keras_seg.layers.Preprocess`.
        fcn_weights: None, or a file of an `FCN8s` of the same options, for its part.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes). The layer `unaries` has those of FCN-8s.

    Raises:
        ValueError: as `FCN8s` and `MeanField`.
    """
    fcn = FCN8s(
        num_classes,
        input_shape,
        filters=filters,
        fc_channels=fc_channels,
        legacy_padding=legacy_padding,
        upsampling=upsampling,
        dropout=dropout,
        preprocessing=preprocessing,
        weights=fcn_weights,
    )
    fcn.get_layer("logits").name = "unaries"
    logits = MeanField(
        iterations=iterations,
        training_iterations=training_iterations,
        theta_alpha=theta_alpha,
        theta_beta=theta_beta,
        theta_gamma=theta_gamma,
        bilateral=bilateral,
        name="logits",
    )(fcn.output, fcn.input)
    model = keras.Model(fcn.input, logits, name=name)
    if weights is not None:
        load_own(model, weights)
    return model
