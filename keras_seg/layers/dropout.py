"""Dropout that goes on when a network predicts."""

import keras


@keras.saving.register_keras_serializable("keras_seg")
class MonteCarloDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that is active outside training too, while normalisations are not.

    Each call of the network is then one sample of its predictions (Gal, Ghahramani, "Dropout as a
    Bayesian approximation", ICML 2016).
    """

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)
