// What a .tflite file says of its input and outputs, read from its flat buffer: LiteRT's Kotlin API
// tells neither how numbers are quantised nor what the outputs are called.

package kerasseg.sample

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Element types by their number in TFLite's schema. */
enum class ElementType(val number: Int) {
    FLOAT32(0),
    INT32(2),
    UINT8(3),
    INT8(9),
}

/** A number q of a quantised tensor stands for (q - [zero]) * [scale]. */
class Tensor(
    val name: String,
    val type: ElementType,
    val shape: List<Int>,
    val scale: Float,
    val zero: Int,
) {
    val quantised: Boolean
        get() = scale != 0f
}

/** @throws IllegalArgumentException for tensors of other types, or more inputs than one. */
class TfliteFile(content: ByteBuffer) {
    private val bytes = content.duplicate().order(ByteOrder.LITTLE_ENDIAN)
    val input: Tensor
    val outputs: List<Tensor>

    init {
        val model = follow(0)
        val graph = elements(field(model, SUBGRAPHS)).first()
        val tensors = elements(field(graph, TENSORS))
        // The names that the model was exported with are in its signature; those of the tensors are
        // the converter's.
        val signature = elements(field(model, SIGNATURES)).firstOrNull()
        fun read(side: Int, signatureSide: Int): List<Tensor> {
            val named = signature?.let { elements(field(it, signatureSide)) } ?: emptyList()
            if (named.isEmpty()) {
                return numbers(field(graph, side)).map { tensor(tensors[it], null) }
            }
            return named.map {
                val place = field(it, MAP_TENSOR)
                val number = if (place == 0) 0 else bytes.getInt(place)
                tensor(tensors[number], text(field(it, MAP_NAME)))
            }
        }
        val inputs = read(INPUTS, 0)
        require(inputs.size == 1) { "The model has ${inputs.size} inputs; expected an image." }
        input = inputs.single()
        outputs = read(OUTPUTS, 1)
    }

    private fun tensor(table: Int, name: String?): Tensor {
        val type = field(table, TYPE).let { if (it == 0) 0 else bytes.get(it).toInt() }
        val known = ElementType.entries.firstOrNull { it.number == type }
        val title = name ?: text(field(table, NAME))
        requireNotNull(known) { "The tensor $title is of a type that is not used here: $type." }
        val quantisation = field(table, QUANTIZATION)
        var scale = 0f
        var zero = 0
        if (quantisation != 0) {
            val scales = field(follow(quantisation), SCALE)
            val zeros = field(follow(quantisation), ZERO_POINT)
            if (length(scales) > 0) scale = bytes.getFloat(follow(scales) + 4)
            if (length(zeros) > 0) zero = bytes.getLong(follow(zeros) + 4).toInt()
        }
        return Tensor(title, known, numbers(field(table, SHAPE)), scale, zero)
    }

    /** Where the offset stored at [position] points. */
    private fun follow(position: Int) = position + bytes.getInt(position)

    /** Where field number [index] of the table at [table] is stored; 0 if it is not there. */
    private fun field(table: Int, index: Int): Int {
        val fields = table - bytes.getInt(table)
        val slot = 4 + 2 * index
        if (slot >= bytes.getShort(fields)) return 0
        val offset = bytes.getShort(fields + slot).toInt()
        return if (offset == 0) 0 else table + offset
    }

    private fun length(vector: Int) = if (vector == 0) 0 else bytes.getInt(follow(vector))

    /** Positions of the tables of a vector. */
    private fun elements(vector: Int) =
        List(length(vector)) { follow(follow(vector) + 4 + 4 * it) }

    private fun numbers(vector: Int) =
        List(length(vector)) { bytes.getInt(follow(vector) + 4 + 4 * it) }

    private fun text(string: Int): String {
        val content = ByteArray(length(string)) { bytes.get(follow(string) + 4 + it) }
        return String(content, Charsets.UTF_8)
    }

    // Numbers of the fields in TFLite's schema (schema.fbs).
    private companion object {
        const val SUBGRAPHS = 2
        const val SIGNATURES = 7
        const val TENSORS = 0
        const val INPUTS = 1
        const val OUTPUTS = 2
        const val SHAPE = 0
        const val TYPE = 1
        const val NAME = 3
        const val QUANTIZATION = 4
        const val SCALE = 2
        const val ZERO_POINT = 3
        const val MAP_NAME = 0
        const val MAP_TENSOR = 1
    }
}
