package kerasseg.sample

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.RectF
import android.view.View
import kotlin.math.min

/** A picture with the colours of its labels over it, as large as fits. */
class MaskView(context: Context) : View(context) {
    private var picture: Bitmap? = null
    private var mask: Bitmap? = null
    private val smooth = Paint(Paint.FILTER_BITMAP_FLAG)
    private val over = Paint().apply { alpha = 128 } // labels keep their edges: no filter

    fun show(picture: Bitmap, mask: Bitmap?) {
        this.picture = picture
        this.mask = mask
        invalidate()
    }

    /** @param opacity of the colours, 0..1. */
    fun setOpacity(opacity: Float) {
        over.alpha = (255 * opacity + 0.5f).toInt()
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        val picture = picture ?: return
        val scale = min(width / picture.width.toFloat(), height / picture.height.toFloat())
        val place = RectF(0f, 0f, picture.width * scale, picture.height * scale)
        place.offset((width - place.width()) / 2, (height - place.height()) / 2)
        canvas.drawBitmap(picture, null, place, smooth)
        mask?.let { canvas.drawBitmap(it, null, place, over) }
    }
}
