// Bilinear resizing as keras_seg.inference.Predictor does it, so that the labels are the same.
// Android's own createScaledBitmap samples a few pixels only when a picture shrinks.

package kerasseg.sample

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

data class Size(val height: Int, val width: Int) {
    val area: Int
        get() = height * width

    override fun toString() = "$height x $width"
}

/** Where output pixel i of n looks in a source of N pixels along an axis. */
enum class Sampling {
    /** (i + 0.5) N / n - 0.5 */
    HALF_PIXEL,

    /** The same, but where a side shrinks the filter widens with it. */
    ANTIALIAS,

    /** i (N - 1) / (n - 1) */
    ALIGN_CORNERS,
}

/** Which [count] source pixels make up each output pixel along an axis, and with what weights. */
class Taps(val count: Int, val index: IntArray, val weight: FloatArray)

/** The [Taps] from [length] pixels to [size] ones. */
fun taps(length: Int, size: Int, sampling: Sampling): Taps {
    val scale = length.toDouble() / size
    if (sampling == Sampling.ANTIALIAS && scale > 1) return widenedTaps(length, size, scale)
    val corners = sampling == Sampling.ALIGN_CORNERS
    val step = if (corners) (length - 1).toDouble() / max(1, size - 1) else scale
    val index = IntArray(2 * size)
    val weight = FloatArray(2 * size)
    for (i in 0 until size) {
        val wanted = if (corners) i * step else (i + 0.5) * step - 0.5
        val position = wanted.coerceIn(0.0, (length - 1).toDouble())
        val low = min(position.toInt(), max(0, length - 2))
        index[2 * i] = low
        index[2 * i + 1] = min(low + 1, length - 1)
        weight[2 * i] = (1 - (position - low)).toFloat()
        weight[2 * i + 1] = (position - low).toFloat()
    }
    return Taps(2, index, weight)
}

private fun widenedTaps(length: Int, size: Int, scale: Double): Taps {
    val count = 2 * ceil(scale).toInt() + 1
    val index = IntArray(count * size)
    val weight = FloatArray(count * size)
    val found = DoubleArray(count)
    for (i in 0 until size) {
        val center = (i + 0.5) * scale
        val first = floor(center - scale + 0.5).toInt()
        for (t in 0 until count) {
            val inside = first + t in 0 until length
            found[t] = if (inside) max(0.0, 1 - abs((first + t + 0.5 - center) / scale)) else 0.0
        }
        val sum = found.sum()
        for (t in 0 until count) {
            index[i * count + t] = (first + t).coerceIn(0, length - 1)
            weight[i * count + t] = (found[t] / sum).toFloat()
        }
    }
    return Taps(count, index, weight)
}

/**
 * The rows of [values] (height, width, channels) at another size, from the top: calls [use] with
 * the number of the row and its width * channels values, which the next row overwrites. Columns
 * first, as NumPy does it, so that the numbers are the same.
 */
fun forEachResizedRow(
    values: FloatArray,
    from: Size,
    channels: Int,
    to: Size,
    sampling: Sampling,
    use: (Int, FloatArray) -> Unit,
) {
    val vertical = taps(from.height, to.height, sampling)
    val horizontal = taps(from.width, to.width, sampling)
    val row = FloatArray(to.width * channels)
    // Source rows at their new width, as long as they are needed.
    val held = HashMap<Int, FloatArray>()
    for (y in 0 until to.height) {
        val first = y * vertical.count
        held.keys.removeAll { it < vertical.index[first] }
        row.fill(0f)
        for (t in first until first + vertical.count) {
            val weight = vertical.weight[t]
            if (weight == 0f) continue
            val index = vertical.index[t]
            val source = held.getOrPut(index) {
                resizedColumns(values, index * from.width * channels, channels, horizontal)
            }
            for (i in row.indices) row[i] += weight * source[i]
        }
        use(y, row)
    }
}

/** The row of [values] that begins at [start], at another width. */
private fun resizedColumns(
    values: FloatArray,
    start: Int,
    channels: Int,
    taps: Taps,
): FloatArray {
    val size = taps.index.size / taps.count
    val row = FloatArray(size * channels)
    for (x in 0 until size) {
        for (t in x * taps.count until (x + 1) * taps.count) {
            val weight = taps.weight[t]
            if (weight == 0f) continue
            val from = start + taps.index[t] * channels
            for (c in 0 until channels) row[x * channels + c] += weight * values[from + c]
        }
    }
    return row
}

/** [values] (height, width, channels) at another size. */
fun resize(
    values: FloatArray,
    from: Size,
    channels: Int,
    to: Size,
    sampling: Sampling,
): FloatArray {
    if (from == to) return values
    val result = FloatArray(to.area * channels)
    forEachResizedRow(values, from, channels, to, sampling) { y, row ->
        row.copyInto(result, y * row.size)
    }
    return result
}
