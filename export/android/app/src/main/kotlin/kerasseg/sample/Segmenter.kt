package kerasseg.sample

import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import java.io.FileInputStream
import java.nio.MappedByteBuffer
import java.nio.channels.FileChannel

/** The labels of a picture's pixels, and the milliseconds of the network alone and of all. */
class Result(val labels: ByteArray, val size: Size, val network: Double, val all: Double)

/**
 * A network of the app's assets, `model/NAME.tflite`, behind [label]. Not for several threads at
 * once.
 *
 * @param wanted where to run; without a GPU that takes the network, the CPU does.
 * @property accelerator where it runs.
 */
class Segmenter(
    context: Context,
    name: String,
    private val manifest: Manifest,
    wanted: Accelerator,
) : AutoCloseable {
    val accelerator: Accelerator
    private val file = TfliteFile(map(context, "model/$name"))
    private val output: Tensor
    private val environment = Environment.create(context)
    private val model: CompiledModel
    private val inputs: Map<String, TensorBuffer>
    private val outputs: Map<String, TensorBuffer>

    init {
        val (batch, height, width, channels) = file.input.shape
        require(batch == 1 && height > 0 && width > 0 && (channels == 1 || channels == 3)) {
            "$name takes an input of shape ${file.input.shape}; expected one picture of fixed size."
        }
        output = mainOutput(file.outputs)
        var found = wanted
        model = try {
            create(context, name, wanted)
        } catch (error: LiteRtException) {
            if (wanted == Accelerator.CPU) throw error
            found = Accelerator.CPU
            create(context, name, Accelerator.CPU)
        }
        accelerator = found
        inputs = mapOf(file.input.name to model.createInputBuffer(file.input.name))
        outputs = file.outputs.associate { it.name to model.createOutputBuffer(it.name) }
    }

    private fun create(context: Context, name: String, accelerator: Accelerator) =
        CompiledModel.create(
            context.assets,
            "model/$name",
            CompiledModel.Options(accelerator),
            environment,
        )

    /** The label of each pixel of a bitmap (ARGB_8888). */
    fun label(bitmap: Bitmap): Result {
        val picture = Size(bitmap.height, bitmap.width)
        val argb = IntArray(picture.area)
        bitmap.getPixels(argb, 0, picture.width, 0, 0, picture.width, picture.height)
        val (_, height, width, channels) = file.input.shape
        val seen = Size(height, width)

        val start = System.nanoTime()
        val pixels = toPixels(argb, picture, seen, channels)
        val image = inputs.getValue(file.input.name)
        if (file.input.quantised) image.writeInt8(toBytes(pixels, file.input))
        else image.writeFloat(pixels)
        val ready = System.nanoTime()
        model.run(inputs, outputs)
        val buffer = outputs.getValue(output.name)
        // Reading waits for a GPU that is still at work.
        val found: Any = when (output.type) {
            ElementType.FLOAT32 -> buffer.readFloat()
            ElementType.INT32 -> buffer.readInt()
            else -> buffer.readInt8()
        }
        val done = System.nanoTime()
        val labels = toLabels(found, output, manifest, seen, picture)
        val end = System.nanoTime()
        return Result(labels, picture, (done - ready) / 1e6, (end - start) / 1e6)
    }

    override fun close() {
        for (buffer in inputs.values + outputs.values) buffer.close()
        model.close()
        environment.close()
    }
}

/** An asset that is stored uncompressed, mapped into memory. */
private fun map(context: Context, path: String): MappedByteBuffer =
    context.assets.openFd(path).use { asset ->
        FileInputStream(asset.fileDescriptor).use { stream ->
            val (start, length) = asset.startOffset to asset.declaredLength
            stream.channel.map(FileChannel.MapMode.READ_ONLY, start, length)
        }
    }
