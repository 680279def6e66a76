"""`python -m keras_seg` is `keras-seg`."""

import sys

from keras_seg.cli import main

sys.exit(main())
