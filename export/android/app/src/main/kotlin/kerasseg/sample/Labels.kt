// From a picture to what a network takes, and from what it returns to a label for each pixel: the
// steps of keras_seg.inference.Predictor for a whole picture. No Android in here: it is tested on a
// plain JVM.

package kerasseg.sample

import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.round
import kotlin.math.roundToInt

/** Pixels for the network, (height, width, channels) of 0..255, from a bitmap's ARGB integers. */
fun toPixels(argb: IntArray, from: Size, to: Size, channels: Int): FloatArray {
    val values = FloatArray(argb.size * channels)
    for ((i, color) in argb.withIndex()) {
        val red = color shr 16 and 255
        val green = color shr 8 and 255
        val blue = color and 255
        if (channels == 3) {
            values[3 * i] = red.toFloat()
            values[3 * i + 1] = green.toFloat()
            values[3 * i + 2] = blue.toFloat()
        } else {
            // ITU-R 601 luma in 16 bits, as Pillow makes colours grey.
            values[i] = (19595 * red + 38470 * green + 7471 * blue + 0x8000 shr 16).toFloat()
        }
    }
    return resize(values, from, channels, to, Sampling.ANTIALIAS)
}

/** Pixels as the bytes of a quantised input: a byte q stands for (q - zero) * scale. */
fun toBytes(pixels: FloatArray, input: Tensor): ByteArray {
    val (low, high) = if (input.type == ElementType.UINT8) 0.0 to 255.0 else -128.0 to 127.0
    return ByteArray(pixels.size) {
        // A half is rounded to the even number, as NumPy does.
        val code = round((pixels[it] / input.scale).toDouble()) + input.zero
        code.coerceIn(low, high).toInt().toByte()
    }
}

/** What the bytes of a quantised output stand for. */
fun toFloats(bytes: ByteArray, output: Tensor): FloatArray {
    val unsigned = output.type == ElementType.UINT8
    return FloatArray(bytes.size) {
        val code = if (unsigned) bytes[it].toInt() and 255 else bytes[it].toInt()
        (code - output.zero) * output.scale
    }
}

/** What the scores of a network are. */
enum class Kind {
    LOGITS,
    LOGITS_LOWRES,
    PROBABILITIES,
}

/** The output that the labels come from. */
fun mainOutput(outputs: List<Tensor>): Tensor {
    for (kind in listOf("logits", "logits_lowres", "probabilities", "labels")) {
        outputs.find { it.name == kind }?.let { return it }
    }
    return outputs.single()
}

/**
 * The label of each pixel of a [picture].
 *
 * @param found what the network returned as [output]: a FloatArray, an IntArray or a ByteArray.
 * @param seen the size that the picture was stretched to.
 */
fun toLabels(
    found: Any,
    output: Tensor,
    manifest: Manifest,
    seen: Size,
    picture: Size,
): ByteArray {
    val map = Size(output.shape[1], output.shape[2])
    val classes = manifest.names.size
    require(classes <= 256) { "The manifest names $classes classes; this app shows up to 256." }
    // A label map is of int32, of uint8, or, so that a GPU can return it, of float32.
    val ids = when {
        found is IntArray -> found
        found is ByteArray && !output.quantised ->
            IntArray(found.size) { found[it].toInt() and 255 }
        found is FloatArray && output.name == "labels" ->
            IntArray(found.size) { found[it].roundToInt() }
        else -> null
    }
    if (ids != null) return toLabels(ids, classes, map, picture)
    val scores = if (found is ByteArray) toFloats(found, output) else found as FloatArray
    require(scores.size == map.area * classes) {
        "The network returns ${scores.size / map.area} classes, the manifest names $classes."
    }
    val kind = when (output.name) {
        "probabilities" -> Kind.PROBABILITIES
        "logits_lowres" -> Kind.LOGITS_LOWRES
        else -> Kind.LOGITS
    }
    if (kind != Kind.LOGITS_LOWRES) return toLabels(scores, kind, map, seen, picture)
    val sampling = requireNotNull(manifest.enlargement) {
        "The network enlarges its logits by more than a plain resize; export them whole."
    }
    return toLabels(scores, kind, map, seen, picture, sampling)
}

/**
 * The label of each pixel of a [picture] from the scores (height, width, classes) that the network
 * returned, a map of size [map], for the picture stretched to [seen].
 *
 * @param sampling how scores smaller than what the network saw are enlarged.
 */
fun toLabels(
    scores: FloatArray,
    kind: Kind,
    map: Size,
    seen: Size,
    picture: Size,
    sampling: Sampling = Sampling.HALF_PIXEL,
): ByteArray {
    val classes = scores.size / map.area
    val labels = ByteArray(picture.area)
    if (map == seen && seen == picture) {
        argmax(scores, classes, labels, 0)
        return labels
    }
    if (kind != Kind.LOGITS_LOWRES && map != seen) checkSubsampled(map, seen)
    val shares = if (map == seen) scores.copyOf() else resize(scores, map, classes, seen, sampling)
    if (kind != Kind.PROBABILITIES) softmax(shares, classes)
    forEachResizedRow(shares, seen, classes, picture, Sampling.ANTIALIAS) { y, row ->
        argmax(row, classes, labels, y * picture.width)
    }
    return labels
}

/** A label map at another size: each of its pixels votes with its weight, the most votes win. */
fun toLabels(map: IntArray, classes: Int, from: Size, picture: Size): ByteArray {
    val wrong = map.firstOrNull { it !in 0 until classes }
    require(wrong == null) { "The network returned the label $wrong of $classes classes." }
    if (from == picture) return ByteArray(map.size) { map[it].toByte() }
    val vertical = taps(from.height, picture.height, Sampling.ANTIALIAS)
    val horizontal = taps(from.width, picture.width, Sampling.ANTIALIAS)
    val labels = ByteArray(picture.area)
    val votes = FloatArray(classes)
    for (y in 0 until picture.height) {
        for (x in 0 until picture.width) {
            votes.fill(0f)
            for (t in 0 until vertical.count) {
                val start = vertical.index[y * vertical.count + t] * from.width
                val weight = vertical.weight[y * vertical.count + t]
                for (u in 0 until horizontal.count) {
                    val column = horizontal.index[x * horizontal.count + u]
                    val share = horizontal.weight[x * horizontal.count + u]
                    votes[map[start + column]] += weight * share
                }
            }
            argmax(votes, classes, labels, y * picture.width + x)
        }
    }
    return labels
}

/** Of several equal scores the first class wins. */
private fun argmax(scores: FloatArray, classes: Int, labels: ByteArray, first: Int) {
    for (pixel in 0 until scores.size / classes) {
        val start = pixel * classes
        var best = 0
        for (k in 1 until classes) if (scores[start + k] > scores[start + best]) best = k
        labels[first + pixel] = best.toByte()
    }
}

private fun softmax(scores: FloatArray, classes: Int) {
    for (start in scores.indices step classes) {
        var largest = scores[start]
        for (k in 1 until classes) largest = maxOf(largest, scores[start + k])
        var sum = 0f
        for (k in 0 until classes) {
            scores[start + k] = exp(scores[start + k] - largest)
            sum += scores[start + k]
        }
        for (k in 0 until classes) scores[start + k] /= sum
    }
}

/** A map that is 2, 4, ... times smaller is enlarged; one with a lost border must not be. */
private fun checkSubsampled(map: Size, seen: Size) {
    val fits = listOf(2f, 4f, 8f, 16f, 32f).any { stride ->
        abs(map.height - seen.height / stride) <= 1 && abs(map.width - seen.width / stride) <= 1
    }
    require(fits) { "The network returns $map for a picture of $seen: its border is lost." }
}

/** The ARGB colours of the labels, for a bitmap over the picture; [colors] as in the manifest. */
fun toColors(labels: ByteArray, colors: List<Int>, opacity: Float): IntArray {
    val alpha = round(255.0 * opacity).toInt() shl 24
    val shades = IntArray(256) { if (it < colors.size) alpha or (colors[it] and 0xffffff) else 0 }
    return IntArray(labels.size) { shades[labels[it].toInt() and 255] }
}

/** The share of the pixels that each class has. */
fun shares(labels: ByteArray, classes: Int): FloatArray {
    val counts = IntArray(256)
    for (label in labels) counts[label.toInt() and 255]++
    return FloatArray(classes) { counts[it].toFloat() / labels.size }
}
