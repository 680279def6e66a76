package kerasseg.sample

import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.text.SpannableStringBuilder
import android.text.style.ForegroundColorSpan
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.LinearLayout
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.Switch
import android.widget.TextView
import com.google.ai.edge.litert.Accelerator
import java.util.Locale
import java.util.concurrent.Executors
import kotlin.math.max

/** Choose a picture and a file of the export, see the labels, the classes and the milliseconds. */
class MainActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private var segmenter: Segmenter? = null // of the worker's thread alone
    private var picture: Bitmap? = null
    private val times = ArrayDeque<Result>()

    private lateinit var manifest: Manifest
    private lateinit var view: MaskView
    private lateinit var files: Spinner
    private lateinit var gpu: Switch
    private lateinit var legend: TextView
    private lateinit var status: TextView

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(layout())
        try {
            val text = assets.open("model/manifest.json").bufferedReader().use { it.readText() }
            manifest = Manifest(text)
        } catch (error: Exception) {
            status.text = "Put an export into app/src/main/assets/model: ${error.message}"
            return
        }
        val row = android.R.layout.simple_spinner_dropdown_item
        files.adapter = ArrayAdapter(this, row, manifest.files)
        files.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>?, row: View?, at: Int, id: Long) =
                load()

            override fun onNothingSelected(parent: AdapterView<*>?) = Unit
        }
        gpu.setOnCheckedChangeListener { _, _ -> load() }
    }

    private fun layout(): LinearLayout {
        view = MaskView(this)
        files = Spinner(this)
        gpu = Switch(this).apply { text = "GPU" }
        legend = TextView(this)
        status = TextView(this)
        val open = Button(this).apply {
            text = "Open picture"
            setOnClickListener { choosePicture() }
        }
        val opacity = SeekBar(this).apply {
            max = 100
            progress = 50
            contentDescription = "Opacity of the colours"
            setOnSeekBarChangeListener(object : SeekBar.OnSeekBarChangeListener {
                override fun onProgressChanged(bar: SeekBar, value: Int, byUser: Boolean) =
                    view.setOpacity(value / 100f)

                override fun onStartTrackingTouch(bar: SeekBar) = Unit

                override fun onStopTrackingTouch(bar: SeekBar) = Unit
            })
        }
        val full = LinearLayout.LayoutParams.MATCH_PARENT
        return LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            fitsSystemWindows = true
            setPadding(24, 24, 24, 24)
            addView(files)
            addView(gpu)
            addView(open)
            addView(view, LinearLayout.LayoutParams(full, 0, 1f))
            addView(opacity)
            addView(legend)
            addView(status)
        }
    }

    /** Compile the chosen file for the chosen device, and label the picture again. */
    private fun load() {
        val name = files.selectedItem as String
        val wanted = if (gpu.isChecked) Accelerator.GPU else Accelerator.CPU
        inBackground {
            segmenter?.close()
            segmenter = null
            times.clear()
            segmenter = Segmenter(this, name, manifest, wanted)
            picture?.let(::label)
        }
    }

    private fun choosePicture() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT)
            .addCategory(Intent.CATEGORY_OPENABLE)
            .setType("image/*")
        startActivityForResult(intent, PICTURE)
    }

    @Deprecated("The replacement needs AndroidX.")
    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val uri = data?.data
        if (request == PICTURE && result == RESULT_OK && uri != null) {
            inBackground {
                val read = read(uri)
                picture = read
                label(read)
            }
        }
    }

    /** Upright where the system turns it (from Android 9 on), at most LONGEST pixels a side. */
    private fun read(uri: Uri): Bitmap {
        val whole = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.P) {
            val source = ImageDecoder.createSource(contentResolver, uri)
            ImageDecoder.decodeBitmap(source) { decoder, info, _ ->
                decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE
                val scale = LONGEST.toFloat() / max(info.size.width, info.size.height)
                if (scale < 1) {
                    val (width, height) = listOf(info.size.width, info.size.height).map {
                        max(1, (it * scale).toInt())
                    }
                    decoder.setTargetSize(width, height)
                }
            }
        } else {
            contentResolver.openInputStream(uri).use { BitmapFactory.decodeStream(it) }
        }
        requireNotNull(whole) { "This file is not a picture." }
        return if (whole.config == Bitmap.Config.ARGB_8888) whole
        else whole.copy(Bitmap.Config.ARGB_8888, false)
    }

    private fun label(bitmap: Bitmap) {
        val network = segmenter ?: return
        val result = network.label(bitmap)
        times.addLast(result)
        if (times.size > RUNS_KEPT) times.removeFirst()
        val mask = Bitmap.createBitmap(
            toColors(result.labels, manifest.colors, 1f),
            result.size.width,
            result.size.height,
            Bitmap.Config.ARGB_8888,
        )
        val classes = legend(result.labels)
        val line = String.format(
            Locale.ROOT,
            "%.1f ms for the network on the %s, %.1f ms in all (median of %d)",
            median { it.network },
            network.accelerator,
            median { it.all },
            times.size,
        )
        runOnUiThread {
            view.show(bitmap, mask)
            legend.text = classes
            status.text = line
        }
    }

    private fun median(of: (Result) -> Double) = times.map(of).sorted()[times.size / 2]

    /** A coloured square, the name and the share of each class in the picture, largest first. */
    private fun legend(labels: ByteArray): CharSequence {
        val shares = shares(labels, manifest.names.size)
        val text = SpannableStringBuilder()
        for (id in shares.indices.filter { shares[it] > 0 }.sortedByDescending { shares[it] }) {
            val start = text.length
            text.append("\u25a0 ")
            text.setSpan(ForegroundColorSpan(manifest.colors[id]), start, start + 1, 0)
            val share = 100 * shares[id]
            text.append(String.format(Locale.ROOT, "%s %.1f %%   ", manifest.names[id], share))
        }
        return text
    }

    /** Work in its turn, off the thread that draws; what goes wrong is shown. */
    private fun inBackground(work: () -> Unit) {
        worker.execute {
            try {
                work()
            } catch (error: Exception) {
                runOnUiThread { status.text = error.message ?: error.toString() }
            }
        }
    }

    override fun onDestroy() {
        inBackground {
            segmenter?.close()
            segmenter = null
        }
        worker.shutdown()
        super.onDestroy()
    }

    private companion object {
        const val PICTURE = 1
        const val LONGEST = 1024
        const val RUNS_KEPT = 9
    }
}
