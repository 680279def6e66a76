// manifest.json as keras_seg.export writes it beside its files.

package kerasseg.sample

import org.json.JSONException
import org.json.JSONObject

/**
 * Names and colours (ARGB, opaque) of the classes, the files, and how logits of low resolution are
 * enlarged.
 */
class Manifest(text: String) {
    val names: List<String>
    val colors: List<Int>

    /** The .tflite files of the export. */
    val files: List<String>

    /** Null where the network does more than a plain resize. */
    val enlargement: Sampling?

    init {
        try {
            val content = JSONObject(text)
            require(content.has("keras_seg_manifest")) { "manifest.json is not one of keras_seg." }
            val classes = content.getJSONObject("classes")
            val given = classes.getJSONArray("names")
            names = List(given.length()) { given.getString(it) }
            val rgb = classes.getJSONArray("colors")
            colors = List(names.size) {
                val color = rgb.getJSONArray(it)
                val (red, green, blue) = List(3) { c -> color.getInt(c) }
                (255 shl 24) or (red shl 16) or (green shl 8) or blue
            }
            files = content.getJSONObject("files").keys().asSequence()
                .filter { it.endsWith(".tflite") }.toList()
            val output = content.getJSONObject("output")
            enlargement = when {
                !output.has("resize") -> Sampling.HALF_PIXEL
                output.isNull("resize") -> null
                else -> Sampling.valueOf(output.getString("resize").uppercase())
            }
        } catch (error: JSONException) {
            throw IllegalArgumentException("manifest.json cannot be read: ${error.message}", error)
        }
    }
}
